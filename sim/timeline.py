"""The timeline of a run: tracks with slices, counters, arrows and step ends, ready to be written or drawn.

One track per engine, copy queue, memory and link; where tasks on one overlap, further tracks take what the first ones
cannot, so that slices never cross. Times are the run's picoseconds rounded down to whole nanoseconds, starts and ends
alike: what followed one another still does, and what lay inside still lies inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from sim.blame import Span, spans
from sim.kernel import Run, Steps
from sim.tasks import Labels, Resource, Task, TaskGraph

NS = 1000                             # ps
#: Device of what belongs to none, and of the steps.
OTHER, WHOLE = "tasks", "run"


class Slice(NamedTuple):
    """A task on a track. ``sends`` and ``gets``: arrows (by number) that begin and end at it."""

    name: str
    start: int                        # [ns]
    end: int                          # [ns]
    kind: str                         # "compute", "copy" ...
    args: Labels
    sends: Sequence[int] = ()
    gets: Sequence[int] = ()


class Track(NamedTuple):
    """Slices one after another. ``resource`` is the same for all tracks of one resource."""

    process: str
    name: str
    resource: str
    slices: list[Slice]


class Counter(NamedTuple):
    """A value over time: it holds until the next. ``top``: the most it can be."""

    process: str
    name: str
    unit: str
    points: list[tuple[int, float]]   # (ns, value)
    resource: str
    top: float


@dataclass(frozen=True)
class Timeline:
    """``order``: tracks and counters as they should stand below one another. ``marks``: (ns, name) of step ends."""

    order: tuple[Track | Counter, ...]
    marks: tuple[tuple[int, str], ...]

    @property
    def tracks(self) -> list[Track]:
        return [x for x in self.order if isinstance(x, Track)]

    @property
    def counters(self) -> list[Counter]:
        return [x for x in self.order if isinstance(x, Counter)]


def timeline(graph: TaskGraph, done: Run, ends: Sequence[int] = ()) -> Timeline:
    """All tasks that ended. ``ends``: the last task of each step. Counters need a run with ``record=True``.

    A task stands on each engine that it held and on each memory and link that its bytes crossed (``sim.blame.spans``);
    without either, on a track of waits. Resources that nobody used are left out.
    """
    used, finishes = spans(graph, done), done.end.tolist()
    sends, gets = _arrows(graph, done, {name for name, found in used.items() if found})
    waited = (done.start - done.ready).tolist()
    order: list[Track | Counter] = list(_steps(done, ends))
    for r in (*graph.resources, Resource("", "engine", 1)):
        mine = {"sends": sends, "gets": gets}
        for n, lane in enumerate(_lanes(used.get(r.name, []))):
            slices = [_slice(graph.tasks[i], a, b, nbytes, waited[i], *(
                mine[k].get(i, ()) if main_resource(graph.tasks[i]) == r.name else () for k in ("sends", "gets")))
                for a, b, i, nbytes in lane]
            name = r.name or "waits"
            order.append(Track(r.group or OTHER, name if n == 0 else f"{name} ({n + 1})", name, slices))
        if r.name in done.counters and done.counters[r.name].values.any():
            order.append(_counter(r, done.counters[r.name]))
    return Timeline(tuple(order), tuple((finishes[i] // NS, f"step {s} ends") for s, i in enumerate(ends) if finishes[i] >= 0))


def main_resource(task: Task) -> str:
    """Where a task is at home: its first engine, else the first resource that its bytes cross, else ""."""
    return task.engines[0] if task.engines else task.flows[0].over[0] if task.flows else ""


def _slice(task: Task, start: int, end: int, nbytes: float, waited: int, sends: Sequence[int], gets: Sequence[int]) -> Slice:
    args = {("bytes" if k == "nbytes" else k): v for k, v in task.labels.items() if v != "" and k != "kind"}
    if nbytes:
        args["bytes"] = nbytes
    if waited >= NS:
        args["waited_ns"] = waited // NS
    return Slice(task.name, start // NS, end // NS, str(task.labels.get("kind", "task")), args, sends, gets)


def _lanes(spans: list[Span]) -> list[list[Span]]:
    """Spans in as few rows as it takes for none to overlap, each in the first that is free."""
    lanes: list[list[Span]] = []
    for span in sorted(spans):
        for lane in lanes:
            if lane[-1].end_ps <= span.start_ps:
                lane.append(span)
                break
        else:
            lanes.append([span])
    return lanes


def _arrows(graph: TaskGraph, done: Run, shown: set[str]) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """An arrow for each dependency between tasks at home on different resources: a copy and the compute that needed it."""
    sends: dict[int, list[int]] = {}
    gets: dict[int, list[int]] = {}
    homes = [main_resource(task) for task in graph.tasks]
    ended = (done.end >= 0).tolist()
    number = 0
    for i, task in enumerate(graph.tasks):
        for j in task.after if ended[i] and homes[i] in shown else ():
            if homes[j] != homes[i] and homes[j] in shown and (homes[j] or done.end[j] > done.start[j]):
                number += 1
                sends.setdefault(j, []).append(number)
                gets.setdefault(i, []).append(number)
    return sends, gets


def _steps(done: Run, ends: Sequence[int]) -> list[Track]:
    """Each step from the end of the one before to its own."""
    at = [0, *(int(done.end[i]) // NS for i in ends if done.end[i] >= 0)]
    slices = [Slice(f"step {s}", a, b, "step", {}) for s, (a, b) in enumerate(pairwise(at))]
    return [Track(WHOLE, "steps", "steps", slices)] if slices else []


def _counter(resource: Resource, steps: Steps) -> Counter:
    """Bandwidth of a memory or link, space taken of a buffer; of several values in a nanosecond the last."""
    points = dict(zip((steps.times_ps // NS).tolist(), steps.values.tolist(), strict=True))
    what, unit = ("bandwidth", "B/s") if resource.kind == "shared" else ("taken", "")
    return Counter(resource.group or OTHER, f"{resource.name} {what}", unit, list(points.items()), resource.name,
                   resource.amount)


def until(data: Timeline) -> tuple[int, int]:
    """From the end of the last step but one to that of the last (the whole where there are none): a step that runs
    steadily. [ns]"""
    at = [time for time, _ in data.marks]
    end = at[-1] if at else max((t.slices[-1].end for t in data.tracks), default=0)
    return (at[-2] if len(at) > 1 else 0), end
