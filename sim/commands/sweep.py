"""``perfboard sweep``: design spaces of millions of points, explored, stored, resumed, and reduced to their front."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np

from accel_models.quantity import format_quantity
from sim.cli import MissingExtra
from sim.commands.sweep_explain import explain
from sim.commands.sweep_output import page, plot
from sim.commands.sweep_place import Place, current, dimensions, place_of, store_argument
from sim.commands.sweep_study import study
from sim.output import FIGURES, format_option, note, print_rows
from sim.sweep import identity, silicon
from sim.sweep.evaluate import STATUS
from sim.sweep.executors import Executor, cores, executor
from sim.sweep.export import export as write
from sim.sweep.front import Columns, distinctions, front
from sim.sweep.run import Progress, Run, Shard, read, trial
from sim.sweep.search import search
from sim.sweep.space import Space
from sim.sweep.store import Store

F = TypeVar("F", bound=Callable[..., Any])

#: Bytes of a stored row: fixed part, and each column (measured on a million rows).
ROW_BYTES, COLUMN_BYTES = 56, 9
#: How often progress is said: on a terminal, and in a log. [s]
OFTEN, SELDOM = 0.2, 10.0


@click.group()
def sweep() -> None:
    """Explore a design space: grids, ranges and samples over any parameter, several objectives, one file that survives.

    \b
    perfboard sweep run chips.toml --dry-run       # how many points, how long, how large
    perfboard sweep run chips.toml -j 2            # into run/sweep.sqlite; Ctrl-C and go on later
    perfboard sweep pareto run/                    # the front, and what sets its members apart
    perfboard sweep explain run/                   # which parameters move what, and where the knees are
    perfboard sweep page run/                      # one page to explore it, offline
    perfboard sweep study                          # bundled studies
    """


def _working(function: F) -> F:
    """Options of commands that evaluate."""
    for option in (
        click.option("--executor", "place", default="", metavar="dask://HOST:PORT", help="A Dask cluster instead of -j."),
        click.option("--shard", default="", metavar="I/N", help="Only every N-th chunk, from the I-th on (1/2, 2/2)."),
        click.option("-j", "--jobs", type=int, default=None, metavar="N", help="Processes; by default one a core."),
    ):
        function = option(function)
    return store_argument(function)


@sweep.command()
@_working
@click.option("--dry-run", is_flag=True, help="Only say how many points, how long, how large.")
def run(sweep: Path, out: str, jobs: int | None, shard: str, place: str, dry_run: bool) -> int:
    """Evaluate all points of SWEEP.toml that are not in its store yet."""
    if sweep.suffix != ".toml":
        raise ValueError(f"{sweep}: expected an experiment file (.toml); to go on with a store: perfboard sweep resume {sweep}")
    found = place_of(sweep, out)
    return _dry(found, jobs) if dry_run else _go(found, jobs, shard, place)


@sweep.command()
@_working
def resume(sweep: Path, out: str, jobs: int | None, shard: str, place: str) -> int:
    """Go on with a sweep that was stopped or killed."""
    found = place_of(sweep, out)
    if not found.store.is_file():
        raise ValueError(f"{found.store}: no such store; start one with: perfboard sweep run {sweep}")
    return _go(found, jobs, shard, place)


def _dry(found: Place, jobs: int | None) -> int:
    made = read(found.text, found.file)
    each, points = trial(made)
    _without_effect(made)
    columns = identity.identity(made)
    size = points * (ROW_BYTES + COLUMN_BYTES * (len(columns.parameters) + len(columns.figures)))
    n = jobs or cores()
    click.echo(f"{found.file}: {points:,.0f} points" + (f" of {made.size:,}" if points != made.size else "")
               + f" on {len(made.axes)} axes")
    rate = 1 / each if each else 0.0
    click.echo(f" time    about {_clock(each * points / n)} with -j {n} ({rate:,.0f} points/s a process here)")
    click.echo(f" store   about {size / 1e6:,.0f} MB in {found.store}")
    if points < 0.5:
        raise ValueError(f"{found.file}: sweep.constraints: no point meets them: the space is empty")
    return 0


def _go(found: Place, jobs: int | None, shard: str, place: str) -> int:
    began = time.monotonic()
    made = read(found.text, found.file)
    _without_effect(made)
    if made.experiment.sweep.search and shard:
        raise ValueError(f"--shard {shard}: a search has none: each point follows from those before it")
    part, workers = _shard(shard), _executor(place, cores() if jobs is None else jobs)
    with Run(made, found.text, found.store) as work:
        if stale := work.stale():
            note(f"note: {stale:,} rows in {found.store} are stale ({_changes(work)}); they are kept and not used")
        said = _Said(made, began)
        try:
            progress = (_search(work, workers, said, cores() if jobs is None else jobs) if made.experiment.sweep.search else
                        work.go(workers, shard=part, told=said))
        except KeyboardInterrupt:
            said.end()
            safe = len(work.store.done(list(work.stamps.values())))
            note(f" stopped; {safe:,} points are safe in {found.store}. Continue with: {_again(found, part)}")
            return 130
        said.end()
        if progress.total == 0:
            raise ValueError(f"{found.file}: sweep.constraints: no point meets them: the space is empty")
        note(f" {progress.before + progress.done:,} of {progress.total:,} points are in {found.store}"
             + (f" ({progress.done:,} new, {progress.rate:,.0f} pts/s)" if progress.done else " (none was left to do)"))
        counts = _counts(work.store, list(work.stamps.values()))
        note(" " + ", ".join(f"{n:,} {s}" for s, n in counts.items() if n)
             + f".   The front: perfboard sweep pareto {found.store.parent}/")
    return 0 if counts["ok"] else 1


def _search(work: Run, workers: Executor, said: _Said, jobs: int) -> Progress:
    try:
        return search(work, workers, said, jobs=jobs)
    except ImportError as error:
        gp = (error.name or "").startswith("torch")
        raise MissingExtra("gp" if gp else "sweep", "a search by Gaussian process" if gp else "a search") from None


def _without_effect(made: Space) -> None:
    if names := made.experiment.without_effect:
        note(f"note: {', '.join(names)}: no effect here; limits of a scheduler count where requests are served")


def _executor(place: str, jobs: int) -> Executor:
    try:
        return executor(place, jobs)
    except ImportError:
        raise MissingExtra("dask", "a Dask cluster") from None


def _shard(text: str) -> Shard:
    first, slash, of = text.partition("/")
    if not text:
        return Shard()
    if not (slash and first.isdigit() and of.isdigit() and 1 <= int(first) <= int(of)):
        raise ValueError(f"--shard {text!r}: expected I/N with 1 <= I <= N, e.g. 1/2")
    return Shard(int(first) - 1, int(of))


def _again(found: Place, part: Shard) -> str:
    return f"perfboard sweep resume {found.store.parent}/" + (f" --shard {part.first + 1}/{part.of}" if part.of > 1 else "")


def _changes(work: Run) -> str:
    """In what the state of stale rows differs from now."""
    now = {what: {s[what] for s in identity.contents(work.space).values()} for what in ("model", "device", "code")}
    held = {stamp for stamp, _ in work.store.counts()}
    old = [s for i, s in work.store.stamps().items() if i in held and i not in work.stamps.values()]
    parts = [f"the {what} {s[what].split()[0]} has changed" if what != "code" else "the code has changed"
             for s in old for what in now if s[what] not in now[what]]
    return ", ".join(dict.fromkeys(parts)) or "other models or devices"


def _counts(store: Store, stamps: Sequence[int]) -> dict[str, int]:
    found = store.counts()
    return {s: sum(n for (stamp, status), n in found.items() if status == s and stamp in stamps) for s in STATUS}


class _Said:
    """Progress on stderr: one line that is written over on a terminal, a line now and then in a log."""

    def __init__(self, made: Space, began: float) -> None:
        self.objective, self.direction = next(iter(made.experiment.sweep.objectives.items()))
        self.terminal, self.last, self.open = sys.stderr.isatty(), began, False

    def __call__(self, p: Progress) -> None:
        now = time.monotonic()
        if now - self.last < (OFTEN if self.terminal else SELDOM) and p.before + p.done < p.total:
            return
        self.last, self.open = now, self.terminal
        click.echo(("\r\x1b[2K" if self.terminal else "") + self.line(p), err=True, nl=not self.terminal)

    def line(self, p: Progress) -> str:
        there = p.before + p.done
        left = max(p.total - there, 0) / max(p.rate, 1e-9)
        best = p.best.get(self.objective, np.array([]))
        label = FIGURES.get(self.objective, (self.objective, ""))[0]
        top = _number(best.min() if self.direction == "min" else best.max()) if len(best) else "-"
        return (f" {there:,}/{p.total:,}  {100 * there / max(p.total, 1):.0f} %  {p.rate:,.0f} pts/s  eta {_clock(left)}   "
                f"best {label} {top}   front {len(best):,}")

    def end(self) -> None:
        if self.open:
            click.echo(err=True)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(min(seconds, 1e9))))


def _number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


# -- reading --------------------------------------------------------------------------------------------------------------

@sweep.command()
@store_argument
@format_option
def status(sweep: Path, out: str, fmt: str) -> int:
    """How far a sweep is, what is stale, and what its errors are."""
    found = place_of(sweep, out)
    made = read(found.text, found.file)
    with Store.open(found.store):
        pass
    with Run(made, found.text, found.store) as work:
        stamps = list(work.stamps.values())
        todo: dict[int, int] = {}
        if made.experiment.sweep.search:
            total = len(work.store.done(stamps))
            note("a search: how many of its trials are done is found by playing it again: perfboard sweep resume")
        else:
            todo, total = work.left()
        counts = _counts(work.store, stamps)
        rows: list[list[Any]] = [["points", total], ["finished", total - sum(todo.values())], ["left", sum(todo.values())]]
        rows += [[s, n] for s, n in counts.items()]
        rows += [["stale", work.stale()], ["store_bytes", found.store.stat().st_size]]
        print_rows(("what", "value"), rows, fmt, right=("value",))
        if stale := work.stale():
            note(f"{stale:,} rows are stale: {_changes(work)}")
        for text, n in _reasons(work.store, stamps):
            note(f"{n:,} points: {text}")
        if todo:
            note(f"continue with: {_again(found, Shard())}")
    return 0


def _reasons(store: Store, stamps: Sequence[int]) -> list[tuple[str, int]]:
    """The five commonest reasons why points are errors or infeasible."""
    texts = store.load(["error"], stamps=stamps)["error"]
    distinct, counts = np.unique(texts[texts != ""].astype(str), return_counts=True)
    order = np.argsort(-counts)[:5]
    return [(str(distinct[i]), int(counts[i])) for i in order]


@sweep.command()
@store_argument
@format_option
@click.option("--top-n", type=int, default=30, show_default=True, help="Members shown at most; evenly thinned beyond.")
@click.option("--stale", is_flag=True, help="Rows of an earlier model, device or code count too.")
def pareto(sweep: Path, out: str, fmt: str, top_n: int, stale: bool) -> int:
    """The feasible points that no other beats in all objectives, and what sets each apart."""
    found = place_of(sweep, out)
    made = read(found.text, found.file)
    with Store.open(found.store) as store:
        stamps = None if stale else current(made, store)
        objectives = store.objectives
        rows = store.load(["id", *objectives], stamps=stamps, status="ok")
        n = len(rows["id"])
        if not n:
            raise ValueError(f"{found.store}: {_why_none(store, stamps)}")
        ids = rows["id"][front(rows, objectives)]
        members = store.load(["id", *store.parameters, *store.figures], ids=ids.tolist())
        place = np.argsort(np.argsort(ids))              # rows come by id; the front has an order of its own
        members = {k: v[place] for k, v in members.items() if k != "id"}
        _print_front(members, objectives, dimensions(made), fmt, top_n)
        note(f"front of {len(ids):,} among {n:,} feasible points")
        if any(f in (*silicon.CHIP, *silicon.SCALED) for f in store.figures):
            note(f"note: {silicon.SAID}")
    return 0


def _why_none(store: Store, stamps: Sequence[int] | None) -> str:
    counts = store.counts()
    if stamps is not None and not any(stamp in stamps for stamp, _ in counts):
        return ("all rows are stale (model, device or code changed): run the sweep again, or take them with --stale" if counts
                else "no point is finished yet")
    reasons = _reasons(store, list(store.stamps()) if stamps is None else stamps)
    return f"no point is feasible; most often: {reasons[0][0]}" if reasons else "no point is feasible"


def _print_front(members: Columns, objectives: dict[str, str], parameters: dict[str, str], fmt: str, top_n: int) -> None:
    """Objectives first, then the parameters in which the members differ. A machine gets all members and all columns."""
    n = len(next(iter(members.values())))
    shown = list(range(n))
    if fmt == "table":
        said = distinctions(members, objectives)
        if n > max(top_n, 1):
            named = [i for i in range(n) if "best" in said[i] or "knee" in said[i]]
            even = np.unique(np.linspace(0, n - 1, max(top_n, 1)).astype(int)).tolist()
            shown = sorted({*named, *even})
        parameters = {p: d for p, d in parameters.items() if len(np.unique(members[p].astype(str))) > 1}
        chosen = {k: v[shown] for k, v in members.items()}
        columns: list[tuple[str, Sequence[Any]]] = [(k, _with_interval(k, chosen)) for k in objectives]
        columns += [(p, [_cell(x, d) for x in chosen[p].tolist()]) for p, d in parameters.items()]
        columns.append(("what sets it apart", distinctions(chosen, objectives)))
    else:
        columns = [(k, v.tolist()) for k, v in members.items()]
    names = [k for k, _ in columns]
    short = [k if fmt != "table" else k.removeprefix("hardware.").removeprefix("deployment.").removeprefix("workload.")
             for k in names]
    print_rows(short, [list(r) for r in zip(*(v for _, v in columns), strict=True)], fmt,
               right=tuple(s for s, k in zip(short, names, strict=True) if k in objectives or k in parameters))


def _with_interval(name: str, columns: Columns) -> list[str]:
    """Values with half the width of their 80 % interval, where there is one."""
    lo, hi = columns.get(f"{name}_lo"), columns.get(f"{name}_hi")
    if lo is None or hi is None:
        return [f"{v:.4g}" for v in columns[name].tolist()]
    return [f"{v:.4g} ±{50 * (b - a) / v:.0f} %" for v, a, b in zip(columns[name].tolist(), lo, hi, strict=True)]


def _cell(value: Any, dimension: str) -> Any:
    """A parameter's value with its unit; empty where the axis does not count."""
    if isinstance(value, float) and np.isnan(value):
        return ""
    return format_quantity(float(f"{value:.6g}"), dimension) if dimension else value


@sweep.command()
@click.argument("sweep", metavar="SWEEP", type=click.Path(path_type=Path))
@click.argument("file", metavar="FILE.parquet|FILE.csv", type=click.Path(path_type=Path))
@click.option("-o", "--out", default="run", show_default=True, metavar="DIR",
              help="Folder of the store, where SWEEP is an experiment file.")
@click.option("--stale", is_flag=True, help="Rows of an earlier model, device or code too.")
def export(sweep: Path, file: Path, out: str, stale: bool) -> int:
    """All finished points as one table: pandas.read_parquet("points.parquet"), polars.read_csv("points.csv")."""
    found = place_of(sweep, out)
    with Store.open(found.store) as store:
        columns = store.load(stamps=None if stale else current(read(found.text, found.file), store))
    try:
        write(columns, file)
    except ImportError:
        raise MissingExtra("sweep", "Parquet") from None
    note(f"{len(columns['status']):,} rows written to {file}")
    return 0


for command in (explain, plot, page, study):
    sweep.add_command(command)
