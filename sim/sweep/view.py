"""What is shown of a sweep: its front whole, of all other feasible points at most a few thousand, and how to name things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel_models.chip import assumptions
from accel_models.quantity import BASE
from sim.sweep import silicon
from sim.sweep.figures import FIGURES, WITH_INTERVAL
from sim.sweep.front import Columns, distinctions, front
from sim.sweep.parameters import kind
from sim.sweep.space import Space
from sim.sweep.store import Store

#: Points of a page or a plot; more of them neither load nor read well.
MOST = 3000


@dataclass(frozen=True)
class View:
    """``columns``: objectives with their intervals, varied parameters and kept figures of the points shown, members of the
    front first and in its order; ``apart``: what distinguishes each of those. ``front_of`` members and ``of`` feasible
    points in all."""

    title: str
    file: str
    objectives: dict[str, str]
    parameters: list[str]
    units: dict[str, str]
    columns: Columns
    apart: list[str]
    front_of: int
    of: int
    infeasible: int
    rests_on: list[str]

    @property
    def n(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def n_front(self) -> int:
        return len(self.apart)

    def said(self) -> str:
        """How many points are shown of how many."""
        shown = ("all are shown" if self.n == self.of else
                 f"{self.n:,} are shown: the front, and others drawn evenly by rank" if self.n_front == self.front_of else
                 f"{self.n:,} members of the front are shown, drawn evenly along it")
        return (f"{self.of:,} feasible points, {self.front_of:,} of them on the front; {shown}."
                + (f" {self.infeasible:,} more are infeasible or errors." if self.infeasible else ""))


def short(name: str) -> str:
    """A column's name as people read it."""
    for prefix in ("hardware.", "deployment.", "workload.", "var.", "technique."):
        name = name.removeprefix(prefix)
    return name


def units(made: Space) -> dict[str, str]:
    """Base units of parameters and figures that have one."""
    found = {n: BASE[d][0] for n in made.parameters if (d := kind(n, made.devices, made.file).dimension)}
    return found | {n: unit for n, (unit, _) in FIGURES.items()}


def view(made: Space, store: Store, stamps: Sequence[int] | None, most: int = MOST) -> View:
    """Raises ``ValueError`` where no point is feasible."""
    objectives = store.objectives
    rows = store.load(["id", *objectives], stamps=stamps, status="ok")
    ids = rows["id"]
    if not len(ids):
        raise ValueError(f"{store.path}: no point is feasible   (perfboard sweep status {store.path.parent}/ says why)")
    places = front(rows, objectives)
    if not len(places):
        raise ValueError(f"{store.path}: every point lacks one of the objectives {', '.join(objectives)}")
    front_of = len(places)
    places = places if front_of <= most else places[np.linspace(0, front_of - 1, most).astype(np.intp)]
    chosen = ids[np.concatenate([places, _others(rows, objectives, places, max(most - len(places), 0))])]
    found = store.load(["id", *store.parameters, *store.figures], ids=chosen.tolist())
    order = np.argsort(np.argsort(chosen, kind="stable"), kind="stable")     # rows come by id
    columns = {k: v[order] for k, v in found.items() if k != "id"}
    varied = [p for p in store.parameters if len(np.unique(columns[p].astype(str))) > 1]
    shown = [*objectives, *(n for n in store.figures if n not in objectives), *varied]
    members = {k: v[:len(places)] for k, v in columns.items()}
    counts = sum(n for (stamp, status), n in store.counts().items()
                 if status != "ok" and (stamps is None or stamp in stamps))
    silicon_in = [n for n in (*store.figures, *made.experiment.sweep.derived) if n in (*silicon.CHIP, *silicon.SCALED)]
    return View(f"{', '.join(made.models)} on {', '.join(made.devices)}", made.file, objectives, varied, units(made),
                {k: columns[k] for k in shown}, distinctions(members, objectives), front_of, len(ids), counts,
                [silicon.SAID, *assumptions()] if silicon_in else [])


def _others(rows: Columns, objectives: dict[str, str], taken: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Some of the other points, evenly by the first objective, so that the whole cloud is seen."""
    left = np.setdiff1d(np.arange(len(rows["id"])), taken)
    left = left[np.argsort(rows[next(iter(objectives))][left], kind="stable")]
    return left if len(left) <= n else left[np.linspace(0, len(left) - 1, n).astype(np.intp)]


def interval(columns: Columns, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    lo, hi = columns.get(f"{name}_lo"), columns.get(f"{name}_hi")
    return (lo, hi) if name in WITH_INTERVAL and lo is not None and hi is not None else None
