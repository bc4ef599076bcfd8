"""Where the time of a schedule went: the chain of tasks that the end waited for, and what each resource did meanwhile."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.kernel import Run
from sim.tasks import PS, Task, TaskGraph


class Span(NamedTuple):
    """A stretch of time in which a task used a resource, and the bytes that it moved there."""

    start_ps: int
    end_ps: int
    task: int
    nbytes: float


class Gaps(NamedTuple):
    """Bubbles: times in which nobody used a resource at all."""

    number: int
    total_ps: int
    longest_ps: int


class Link(NamedTuple):
    """A stretch of the chain: a task from ``start_ps`` to ``end_ps``, until the next one could begin."""

    task: int
    start_ps: int
    end_ps: int


def chain(graph: TaskGraph, done: Run, since_ps: int = 0) -> list[Link]:
    """The tasks that the end of the run waited for, in order of time, back to ``since_ps``.

    From the last task backwards: what ended last of all that a task waited for, whether it needed its result or its
    engine or its room.
    """
    holders = _by_holder(graph, done)
    here = int(np.argmax(done.end))
    until = int(done.end[here])
    found: list[Link] = []
    seen: set[int] = set()
    while until > since_ps:
        seen.add(here)
        start = int(done.start[here])
        found.append(Link(here, max(start, since_ps), until))
        before = [j for j in graph.tasks[here].after if done.end[j] <= start]
        if start > done.ready[here] or not before:
            before += _held_until(holders, graph.tasks[here], done, start, seen)
        if not before or start <= since_ps:
            break
        here = max(before, key=lambda j: (int(done.end[j]), j))
        until = min(start, int(done.end[here]))
    return found[::-1]


def blame(graph: TaskGraph, done: Run, since_ps: int = 0) -> dict[tuple[str, str], float]:
    """Seconds of the chain by (resource, why): an engine and what limits its ops there, or the way of a copy and what
    it copies. Adds up to the time from ``since_ps`` to the end, but for waits that no task fills."""
    out: dict[tuple[str, str], float] = {}
    for link in chain(graph, done, since_ps):
        key = place(graph.tasks[link.task])
        out[key] = out.get(key, 0.0) + (link.end_ps - link.start_ps) / PS
    return out


def place(task: Task) -> tuple[str, str]:
    """The resource a task is on, and what limits or moves it; its name where no label says so."""
    over = task.flows[0].over if task.flows else ()
    if task.labels.get("kind") == "copy" or (over and not task.engines):
        way = "copy" if not over else over[0] if len(over) == 1 else f"copy {over[0]}>{over[-1]}"
        return way, str(task.labels.get("what", "") or task.name)
    why = str(task.labels.get("bound", "") or task.labels.get("part", "") or task.name)
    return (task.engines[0] if task.engines else "wait"), why


def spans(graph: TaskGraph, done: Run) -> dict[str, list[Span]]:
    """When each resource was used, by all tasks that ended: an engine from a task's start to its end, a memory or link
    without the task's delay. Under "": tasks that use neither and take time."""
    found: dict[str, list[Span]] = {name: [] for name in (*(r.name for r in graph.resources if r.kind != "buffer"), "")}
    for i, (task, start, end) in enumerate(zip(graph.tasks, done.start.tolist(), done.end.tolist(), strict=True)):
        if end < 0:
            continue
        for name in task.engines:
            found[name].append(Span(start, end, i, 0.0))
        for flow in task.flows:
            for name in flow.over:
                found[name].append(Span(min(start + task.delay_ps, end), end, i, flow.nbytes))
        if not task.engines and not task.flows and end > start:
            found[""].append(Span(start, end, i, 0.0))
    return found


def gaps(used: list[Span], since_ps: int, until_ps: int) -> Gaps:
    """Bubbles of a resource between two times, those at both ends counted."""
    number, total, longest, here = 0, 0, 0, since_ps
    for start, end in [*sorted((s.start_ps, s.end_ps) for s in used), (until_ps, until_ps)]:
        if here < (start := min(start, until_ps)):
            number, total, longest = number + 1, total + start - here, max(longest, start - here)
        here = max(here, end)
    return Gaps(number, total, longest)


def utilisation(graph: TaskGraph, done: Run, since_ps: int = 0) -> dict[str, float]:
    """Share of the time from ``since_ps`` to the end that each engine was held, and that each shared resource was used
    (bytes over what it could give)."""
    span = max(int(done.end.max()) - since_ps, 1)
    used: dict[str, float] = {}
    for task, start, end in zip(graph.tasks, done.start.tolist(), done.end.tolist(), strict=True):
        part = max(end - max(start, since_ps), 0)
        for name in task.engines:
            used[name] = used.get(name, 0.0) + part / span
        share = part / max(end - start, 1)
        for flow in task.flows:
            for name in flow.over:
                used[name] = used.get(name, 0.0) + flow.nbytes * share / (span / PS)
    amounts = {r.name: r.amount for r in graph.resources if r.kind != "buffer"}
    return {name: used.get(name, 0.0) / amount for name, amount in amounts.items()}


def _by_holder(graph: TaskGraph, done: Run) -> dict[str, NDArray[np.int64]]:
    """Tasks by each engine they held and each buffer they gave back to, in order of their end."""
    lists: dict[str, list[int]] = {}
    for i, task in enumerate(graph.tasks):
        for name in (*task.engines, *(n for n, _ in task.gives)):
            lists.setdefault(name, []).append(i)
    return {name: np.array(sorted(members, key=lambda i: (int(done.end[i]), i))) for name, members in lists.items()}


def _held_until(holders: dict[str, NDArray[np.int64]], task: Task, done: Run, start: int, seen: set[int]) -> list[int]:
    """The last tasks that ended on its engines or gave room back before it began; not those ``seen``, of which one without
    duration may be the task itself."""
    found: list[int] = []
    for name in (*task.engines, *(n for n, _ in task.takes)):
        members = holders.get(name, np.empty(0, np.int64))
        k = int(np.searchsorted(done.end[members], start, side="right")) - 1
        while k >= 0 and int(members[k]) in seen:
            k -= 1
        if k >= 0:
            found.append(int(members[k]))
    return found
