"""A sweep run: which points are left, chunk by chunk through an executor into the store.

A chunk is a fixed range of point numbers. It is claimed, its unfinished points are evaluated, and they are written in
one transaction; so a run may be killed at any moment, and several may work on one store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.sweep import experiment, identity
from sim.sweep.evaluate import EVALUATORS, OK, Evaluator, Results, stored
from sim.sweep.executors import Executor
from sim.sweep.front import Columns, front
from sim.sweep.space import Space, space
from sim.sweep.store import Store

#: Points of a chunk: large enough that a transaction costs little, small enough that little is lost.
CHUNK, LEAST, PARTS = 16384, 64, 32


class Shard(NamedTuple):
    """Every ``of``-th chunk, from ``first`` (0-based) on."""

    first: int = 0
    of: int = 1


ALL = Shard()


class Task(NamedTuple):
    """One chunk for a worker: the experiment's text and the unfinished points' parameters."""

    text: str
    file: str
    chunk: int
    keys: NDArray[np.int64]
    stamps: NDArray[np.int64]
    columns: Columns


@dataclass
class Progress:
    """How far a run is; given to a callback after every chunk."""

    total: int
    before: int                            # of them finished when the run began
    done: int = 0                          # by this run
    started: float = field(default_factory=time.monotonic)
    best: Columns = field(default_factory=dict)    # objectives of the front of all feasible points

    @property
    def rate(self) -> float:
        """Points per second of this run."""
        return self.done / max(time.monotonic() - self.started, 1e-9)


def read(text: str, file: str) -> Space:
    """A sweep's space from the text of its experiment, checked whole. Raises ``ValueError``."""
    made = space(experiment.read(text, file), file)
    stored(made)
    if made.experiment.sweep.evaluator not in EVALUATORS:
        raise ValueError(f"{file}: sweep.evaluator: {made.experiment.sweep.evaluator!r} is not known; "
                         f"there is {', '.join(EVALUATORS)}")
    return made


def chunk_size(made: Space) -> int:
    """A point by event simulation takes as long as ten thousand others: a few make a chunk."""
    least = LEAST if made.experiment.sweep.evaluator == "closed" else 2
    return int(min(max(made.size // PARTS, least), CHUNK))


_space = lru_cache(maxsize=4)(read)


def evaluate(task: Task) -> Results:
    """What a worker does with a chunk."""
    made = _space(task.text, task.file)
    return evaluator(made)(made, task.columns)


def evaluator(made: Space) -> Evaluator:
    return EVALUATORS[made.experiment.sweep.evaluator]


class Run:
    """A sweep on its store: ``Run(space, text, path)``, then ``go(executor)``. A context manager."""

    def __init__(self, made: Space, text: str, path: Path) -> None:
        self.space, self.text = made, text
        self.identity = identity.identity(made)
        self.store = Store.at(path, self.identity, text, made.file)
        self.stamps = {pair: self.store.stamp(c) for pair, c in identity.contents(made).items()}
        self.size = chunk_size(made)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def points(self, chunk: int) -> Task:
        """All points of a chunk."""
        index = np.arange(chunk * self.size, min((chunk + 1) * self.size, self.space.size))
        columns, good = self.space.columns(index)
        columns = {k: v[good] for k, v in columns.items()}
        stamps = identity.stamps_of(columns, self.space.base, self.stamps, int(good.sum()))
        return Task(self.text, self.space.file, chunk, identity.keys(columns, self.space.parameters, stamps), stamps, columns)

    def left(self, shard: Shard = ALL) -> tuple[dict[int, int], int]:
        """Chunks with unfinished points and how many they have; and how many points of this shard there are in all."""
        # Read before the rows: a chunk that another process writes from now on must not be opened again.
        finished = self.store.finished(self.identity.space)
        done = self.store.done(list(self.stamps.values()))
        todo: dict[int, int] = {}
        total = 0
        for chunk in range(shard.first, -(-self.space.size // self.size), shard.of):
            keys = self.points(chunk).keys
            total += len(np.unique(keys)) if self.space.experiment.sweep.drawn else len(keys)
            if unfinished := int(np.sum(~_among(keys, done))):
                todo[chunk] = unfinished
        self._done = done
        self.store.reopen(self.identity.space, [c for c in todo if c in finished])
        return todo, total

    def go(self, executor: Executor, *, shard: Shard = ALL, told: Callable[[Progress], None] | None = None) -> Progress:
        """Evaluate all that is left. On any error or interrupt what is finished is safe and claims are given back."""
        todo, total = self.left(shard)
        progress = Progress(total, total - sum(todo.values()))
        try:
            for task, results in executor.run(evaluate, self._tasks(todo)):
                self.store.add(task.keys, task.stamps, task.columns, results, (self.identity.space, task.chunk))
                progress.done += len(task.keys)
                self._improve(progress, results)
                if told:
                    told(progress)
        finally:
            self.store.release()
        return progress

    def ask(self, columns: Columns) -> Results:
        """Evaluate points of a searcher's own choice (all of ``Space.parameters`` as columns) and store them."""
        results = evaluator(self.space)(self.space, columns)
        self.tell(columns, results)
        return results

    def tell(self, columns: Columns, results: Results) -> int:
        """Store points that were evaluated elsewhere; how many were new."""
        stamps = identity.stamps_of(columns, self.space.base, self.stamps, len(results.status))
        return self.store.add(identity.keys(columns, self.space.parameters, stamps), stamps, columns, results)

    def _tasks(self, todo: Mapping[int, int]) -> Iterator[Task]:
        for chunk in todo:
            if self.store.claim(self.identity.space, chunk):
                whole = self.points(chunk)
                new = np.flatnonzero(~_among(whole.keys, self._done))
                yield whole._replace(keys=whole.keys[new], stamps=whole.stamps[new],
                                     columns={k: v[new] for k, v in whole.columns.items()})

    def improve(self, progress: Progress) -> None:
        """The front of all feasible points that are stored, read anew."""
        objectives = self.space.experiment.sweep.objectives
        rows = self.store.load(list(objectives), stamps=list(self.stamps.values()), status="ok")
        places = front(rows, objectives)
        progress.best = {k: v[places] for k, v in rows.items()}

    def _improve(self, progress: Progress, results: Results) -> None:
        if not progress.best:               # these results are stored by now, with what other processes and runs found
            return self.improve(progress)
        objectives = self.space.experiment.sweep.objectives
        fine = results.status == OK
        both = {k: np.concatenate([progress.best[k], results.figures[k][fine]]) for k in objectives}
        places = front(both, objectives)
        progress.best = {k: v[places] for k, v in both.items()}

    def stale(self) -> int:
        """Rows of other states of model, device or code: kept, not used."""
        now = set(self.stamps.values())
        return sum(n for (stamp, _), n in self.store.counts().items() if stamp not in now)


def _among(keys: NDArray[np.int64], done: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which keys are in the sorted ``done``."""
    if not len(done):
        return np.zeros(len(keys), dtype=bool)
    place = np.minimum(np.searchsorted(done, keys), len(done) - 1)
    return np.asarray(done[place] == keys)


def trial(made: Space, points: int = 2048) -> tuple[float, float]:
    """Seconds that a chunk of some points takes here once everything is read, and points of the whole space that meet its
    constraints (counted up to ten millions, else estimated)."""
    blocks = [b for i, b in enumerate(made.blocks()) if i < 80]
    share = float(np.mean(np.concatenate([made.columns(b)[1] for b in blocks])))
    index = np.unique(np.linspace(0, made.size - 1, points).astype(np.int64))
    columns, good = made.columns(index)
    columns = {k: v[good] for k, v in columns.items()}
    if not good.any():
        return 0.0, share * made.size
    evaluator(made)(made, columns)
    start = time.perf_counter()
    evaluator(made)(made, columns)
    return (time.perf_counter() - start) / int(good.sum()), share * made.size


def load(path: str | Path) -> Columns:
    """All rows of a store as columns: ``pandas.DataFrame(load("run/"))``, ``polars.DataFrame(load("run/"))``."""
    with Store.open(where(path)) as store:
        return store.load()


def where(path: str | Path) -> Path:
    """The store's file for a folder or a file."""
    found = Path(path)
    return found if found.suffix == ".sqlite" else found / "sweep.sqlite"

