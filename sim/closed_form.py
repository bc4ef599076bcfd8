"""The closed form of a task graph: durations alone, the longest path, and what bounds every schedule.

It reads the same tasks as the event engine and equals it to the picosecond where nothing contends. Where tasks contend,
the engine's makespan lies between ``bounds``; a rate that is set anew while a flow is under way may move an end by one
picosecond, because ends are whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sim.fair_share import alone, drain_ps
from sim.tasks import PS, Task, TaskGraph

Ints = npt.NDArray[np.int64]


def durations(graph: TaskGraph) -> Ints:
    """Time of each task with all resources to itself, from its start to its end. [ps]"""
    rates = {r.name: r.amount for r in graph.resources if r.kind == "shared"}

    def lasts(task: Task) -> int:
        flows = [drain_ps(flow.nbytes, alone(flow, rates)) for flow in task.flows]
        return task.delay_ps + max(task.time_ps, *flows)

    return np.fromiter((lasts(t) if t.flows else t.delay_ps + t.time_ps for t in graph.tasks), np.int64, len(graph.tasks))


def earliest(graph: TaskGraph) -> tuple[Ints, Ints]:
    """Start and end of each task if every resource were unlimited in number. [ps]"""
    start, end = _walk(graph, durations(graph))
    return np.array(start, np.int64), np.array(end, np.int64)


def critical_path(graph: TaskGraph) -> tuple[int, tuple[int, ...]]:
    """Length of the longest path [ps] and its tasks in order; among equals the one through the first tasks."""
    start, end = _walk(graph, durations(graph))
    if not end:
        return 0, ()
    length = max(end)
    path = [end.index(length)]
    while before := [j for j in graph.tasks[path[-1]].after if end[j] == start[path[-1]]]:
        path.append(min(before))
    return length, tuple(reversed(path))


def busy(graph: TaskGraph) -> dict[str, float]:
    """Time for which each engine and shared resource is needed, if it never waits: held time by server, bytes by rate. [s]"""
    held, moved = _needed(graph, durations(graph))
    amounts = {r.name: r.amount for r in graph.resources}
    return ({name: ps / PS / amounts[name] for name, ps in held.items()}
            | {name: nbytes / amounts[name] for name, nbytes in moved.items()})


def bounds(graph: TaskGraph) -> tuple[int, int]:
    """No schedule is shorter than the longest path or the busiest resource, and none that never idles is longer than all
    tasks one after another. [ps]

    The second holds under max-min sharing because a task has no two flows over one resource: with m tasks under way each
    flow has at least 1/m of the rate that it has alone, and so together they do at least one task's time a time.
    """
    lasts = durations(graph)
    held, moved = _needed(graph, lasts)
    amounts = {r.name: r.amount for r in graph.resources}
    longest = max(_walk(graph, lasts)[1], default=0)
    engines = max((-(-ps // int(amounts[name])) for name, ps in held.items()), default=0)
    shared = max((int(nbytes / amounts[name] * PS) for name, nbytes in moved.items()), default=0)
    return max(longest, engines, shared), sum(lasts.tolist())


def _walk(graph: TaskGraph, lasts: Ints) -> tuple[list[int], list[int]]:
    """Start and end of each task, in the order of the graph. Lists, because one task at a time is too little for arrays."""
    start: list[int] = []
    end: list[int] = []
    for task, time in zip(graph.tasks, lasts.tolist(), strict=True):
        begin = _latest(end, task.after) if task.after else 0
        start.append(begin)
        end.append(begin + time)
    return start, end


def _latest(end: Sequence[int], after: Sequence[int]) -> int:
    return end[after[0]] if len(after) == 1 else max([end[j] for j in after])


def _needed(graph: TaskGraph, lasts: Ints) -> tuple[dict[str, int], dict[str, float]]:
    """Picoseconds for which servers of each engine are held, and bytes over each shared resource."""
    held = {r.name: 0 for r in graph.resources if r.kind == "engine"}
    moved = {r.name: 0.0 for r in graph.resources if r.kind == "shared"}
    for task, time in zip(graph.tasks, lasts.tolist(), strict=True):
        for name in task.engines:
            held[name] += time
        for flow in task.flows:
            for name in flow.over:
                moved[name] += flow.nbytes
    return held, moved
