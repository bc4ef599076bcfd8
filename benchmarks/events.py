"""Task graphs for the speed of the event engine, and how many tasks it does per CPU second."""

from __future__ import annotations

import time
from collections.abc import Iterator

from sim.kernel import run, stream
from sim.tasks import Flow, Resource, Task, TaskGraph

RESOURCES = (Resource("core", "engine", 1), Resource("pool", "engine", 4), Resource("memory", "shared", 1e12))


def chain(n: int) -> Iterator[Task]:
    """One after another on one engine: an instant of its own for each task."""
    return (Task("t", ("core",), 1000 + i % 7, after=(i - 1,) if i else ()) for i in range(n))


def fan_out(n: int) -> Iterator[Task]:
    """A thousand at a time become ready at once and queue for two engines."""
    return (Task("t", ("core" if i % 5 == 0 else "pool",), 1000 + i % 7, after=(i - i % 1000,) if i % 1000 else ())
            for i in range(n))


def sharing(n: int) -> Iterator[Task]:
    """Four at a time, on engines and over one memory: each start and each end sets all rates anew."""
    return (Task("t", ("pool",), 1000, flows=(Flow(1000.0 + i % 13, ("memory",)),), after=(i - 8,) if i >= 8 else ())
            for i in range(n))


MIXES = {"chain": chain, "fan_out": fan_out, "sharing": sharing}


def tasks_per_second(mix: str, n: int) -> dict[str, float]:
    """Of a graph that is at hand, checks included."""
    graph = TaskGraph(RESOURCES, tuple(MIXES[mix](n)))
    start = time.process_time()
    run(graph)
    return {"tasks": n, "tasks_per_s": n / (time.process_time() - start)}


def streamed_per_second(mix: str, n: int, window: int) -> dict[str, float]:
    """Of tasks that are made as they are drawn; that is counted too."""
    start = time.process_time()
    stream(RESOURCES, MIXES[mix](n), sink=lambda index, task, begin, end: None, window=window)
    return {"tasks": n, "tasks_per_s": n / (time.process_time() - start)}
