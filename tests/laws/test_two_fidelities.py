"""What holds between the closed form and the event engine, over random task graphs; and what queues are known to do."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.closed_form import bounds, durations, earliest
from sim.kernel import Run, run
from sim.tasks import PS, Flow, Resource, Task, TaskGraph

ENGINES, LINKS, BUFFERS = ("e1", "e2", "e3"), ("hbm", "link", "flash"), ("slots", "bytes")


@st.composite
def task_graphs(draw) -> TaskGraph:  # type: ignore[no-untyped-def]
    """Up to 30 tasks. Space is given back by the task that took it, or by one that waits for that task alone and takes
    nothing: so no buffer can stay full for ever."""
    resources = tuple(
        [Resource(name, "engine", draw(st.integers(1, 3))) for name in ENGINES]
        + [Resource(name, "shared", draw(st.sampled_from((1e9, 3e11, 1e12, 7.77e12)))) for name in LINKS]
        + [Resource(name, "buffer", 4) for name in BUFFERS])
    tasks: list[Task] = []
    while len(tasks) < draw(st.integers(1, 30)):
        routes = draw(st.permutations(LINKS))
        cut = draw(st.integers(0, 2))
        flows = tuple(Flow(draw(st.floats(0, 1e5)), tuple(route), draw(st.sampled_from((inf, inf, 2e11, 1e10))))
                      for route in (routes[:cut], routes[cut:cut + draw(st.integers(0, 1))]) if route)
        takes = tuple((name, float(draw(st.integers(1, 4)))) for name in draw(st.sets(st.sampled_from(BUFFERS), max_size=2)))
        takes = tuple(sorted(takes)) if draw(st.booleans()) else ()
        later = bool(takes) and draw(st.booleans())
        tasks.append(Task(
            "t", tuple(sorted(draw(st.sets(st.sampled_from(ENGINES), max_size=2)))), draw(st.integers(0, 10**6)),
            draw(st.sampled_from((0, 0, 1, 10**5))), flows, tuple(sorted(draw(st.sets(st.integers(0, max(0, len(tasks) - 1)),
                                                                                     max_size=3)))) if tasks else (),
            draw(st.integers(0, 2)), takes, () if later else takes))
        if later:
            tasks.append(Task("use", ("e1",), draw(st.integers(0, 10**5)), after=(len(tasks) - 1,), gives=takes))
    graph = TaskGraph(resources, tuple(tasks))
    graph.check()
    return graph


def roundings(graph: TaskGraph) -> int:
    """Ends of flows are whole picoseconds, half a picosecond off in each fidelity; rates set anew add nothing else,
    because bytes left are kept unrounded. [ps]"""
    return 1 + sum(len(task.flows) for task in graph.tasks)


def key(graph: TaskGraph, done: Run, i: int) -> tuple[int, int, int]:
    return graph.tasks[i].priority, int(done.ready[i]), i


@settings(max_examples=150, deadline=None)
@given(task_graphs())
def test_laws_of_every_schedule(graph: TaskGraph) -> None:
    done = run(graph, record=True)
    slack = roundings(graph)
    lower, upper = bounds(graph)
    assert lower - slack <= done.makespan_ps <= upper + slack
    lasts = durations(graph)
    assert (done.end - done.start >= lasts - np.array([1 + len(t.flows) for t in graph.tasks])).all()
    for i, task in enumerate(graph.tasks):
        assert done.ready[i] == max((done.end[j] for j in task.after), default=0)
        if not task.flows:
            assert done.end[i] - done.start[i] == lasts[i]
    servers_are_not_shared(graph, done)
    nobody_is_passed(graph, done)
    bytes_are_conserved(graph, done)
    space_is_conserved(graph, done)
    again = run(graph, record=True)
    assert [x.tolist() for x in done[:3]] == [x.tolist() for x in again[:3]]


def servers_are_not_shared(graph: TaskGraph, done: Run) -> None:
    for resource in graph.resources:
        users = [i for i, t in enumerate(graph.tasks) if resource.name in t.engines]
        changes = sorted((int(at), step) for i in users if done.end[i] > done.start[i]
                         for at, step in ((done.start[i], 1), (done.end[i], -1)))        # at one instant ends come first
        if changes:
            assert np.cumsum([step for _, step in changes]).max() <= resource.amount


def nobody_is_passed(graph: TaskGraph, done: Run) -> None:
    """On one engine no task starts before one of better priority, or of the same and ready earlier, that waits; and who
    waits is let in by someone who leaves or goes in."""
    for i, task in enumerate(graph.tasks):
        if task.takes or not task.engines:
            continue
        rivals = [j for j, t in enumerate(graph.tasks) if j != i and set(t.engines) & set(task.engines)]
        for j in rivals:
            if done.ready[i] < done.start[j] and key(graph, done, i) < key(graph, done, j):
                assert done.start[i] <= done.start[j]
        if done.start[i] > done.ready[i]:
            assert any(done.start[i] in (done.end[j], done.start[j]) for j in rivals)


def bytes_are_conserved(graph: TaskGraph, done: Run) -> None:
    for resource in graph.resources:
        if resource.kind == "shared":
            flows = [f for t in graph.tasks for f in t.flows if resource.name in f.over]
            times, rate = done.counters[resource.name]
            moved = float((np.diff(times) * rate[:-1]).sum()) / PS
            assert moved == pytest.approx(sum(f.nbytes for f in flows), rel=1e-9, abs=len(flows) * resource.amount / PS)
            assert rate[-1] == 0
            assert rate.max() <= resource.amount * (1 + 1e-9)


def space_is_conserved(graph: TaskGraph, done: Run) -> None:
    for resource in graph.resources:
        if resource.kind == "buffer":
            level = done.counters[resource.name].values
            assert level[-1] == 0
            assert 0 <= level.min() <= level.max() <= resource.amount


# -- equal where nothing contends -------------------------------------------------------------------------------------

@settings(max_examples=60, deadline=None)
@given(task_graphs())
def test_one_task_after_another_equals_the_closed_form(graph: TaskGraph) -> None:
    tasks = tuple(t._replace(after=(i - 1,) if i else (), gives=t.takes if t.name == "t" else ())
                  for i, t in enumerate(graph.tasks))
    graph = TaskGraph(graph.resources, tasks)
    equal_to_the_picosecond(graph)
    assert run(graph).makespan_ps == bounds(graph)[0] == bounds(graph)[1]


@settings(max_examples=60, deadline=None)
@given(task_graphs())
def test_resources_for_all_equal_the_closed_form(graph: TaskGraph) -> None:
    """As many servers and as much space as there are tasks, and memories as fast as the sum of all caps."""
    n = len(graph.tasks)
    tasks = tuple(t._replace(flows=tuple(f._replace(cap=min(f.cap, 3e11 + i)) for f in t.flows))
                  for i, t in enumerate(graph.tasks))
    wide = tuple(r._replace(amount=n if r.kind == "engine" else 4.0 * n if r.kind == "buffer" else max(1.0, sum(
        f.cap for t in tasks for f in t.flows if r.name in f.over))) for r in graph.resources)
    equal_to_the_picosecond(TaskGraph(wide, tasks))


def equal_to_the_picosecond(graph: TaskGraph) -> None:
    done = run(graph)
    start, end = earliest(graph)
    assert done.start.tolist() == start.tolist()
    assert done.end.tolist() == end.tolist()
    assert done.ready.tolist() == start.tolist()


# -- near capacity at saturation --------------------------------------------------------------------------------------

@pytest.mark.parametrize("cap", [inf, 3e11])
def test_a_saturated_memory_runs_at_capacity(cap: float) -> None:
    draw = np.random.default_rng(1)
    resources = (Resource("readers", "engine", 8), Resource("hbm", "shared", 1e12))
    tasks = tuple(Task("read", ("readers",), flows=(Flow(float(n), ("hbm",), cap),)) for n in draw.integers(1, 10**5, 2000))
    done = run(TaskGraph(resources, tasks), record=True)
    assert sum(t.flows[0].nbytes for t in tasks) / 1e12 / (done.makespan_ps / PS) >= 0.99
    rate = done.counters["hbm"].values
    assert (rate[:-8] == pytest.approx(1e12)) if cap == inf else (rate[:-8] >= 0.99e12).all()


def test_saturated_servers_are_always_busy() -> None:
    draw = np.random.default_rng(2)
    tasks = tuple(Task("work", ("pool",), int(t)) for t in draw.integers(1, 10**4, 3000))
    done = run(TaskGraph((Resource("pool", "engine", 16),), tasks))
    assert sum(t.time_ps for t in tasks) / 16 / done.makespan_ps >= 0.99


# -- queues with known waits ------------------------------------------------------------------------------------------

def wait_at_one_server(service: np.ndarray, between: np.ndarray) -> tuple[float, float]:
    """Mean wait and the half width of its 99 % interval, from the means of 20 batches. [ps] Arrivals are a chain of delays."""
    tasks: list[Task] = []
    for i, (gap, time) in enumerate(zip(between.tolist(), service.tolist(), strict=True)):
        tasks.append(Task("arrival", delay_ps=gap, after=(2 * i - 2,) if i else ()))
        tasks.append(Task("served", ("server",), time, after=(2 * i,)))
    done = run(TaskGraph((Resource("server", "engine", 1),), tuple(tasks)))
    means = (done.start - done.ready)[1::2].reshape(20, -1).mean(axis=1)
    return float(means.mean()), 2.861 * float(means.std(ddof=1)) / sqrt(20)             # Student's t, 19 degrees of freedom


@pytest.mark.parametrize("kind", ["M/D/1", "M/M/1"])
@pytest.mark.parametrize("load", [0.3, 0.6])
def test_waits_are_those_of_the_textbook(kind: str, load: float) -> None:
    """Pollaczek-Khinchine: wait = load / (1 - load) * time * (1 + c2) / 2; c2 = 0 for equal services, 1 for exponential."""
    draw, n, time = np.random.default_rng(4), 20_000, 10**6
    between = np.rint(draw.exponential(time / load, n)).astype(np.int64)
    service = np.full(n, time) if kind == "M/D/1" else np.rint(draw.exponential(time, n)).astype(np.int64)
    mean, half = wait_at_one_server(service, between)
    theory = load / (1 - load) * time * (0.5 if kind == "M/D/1" else 1.0)
    assert half < 0.12 * theory                                                          # else the next line says nothing
    assert abs(mean - theory) <= half
