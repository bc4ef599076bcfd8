"""Where the time of a schedule went: the chain that the end waited for, use of resources, bubbles."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.blame import Gaps, Span, blame, chain, gaps, place, spans, utilisation
from sim.kernel import run
from sim.tasks import PS, Flow, Resource, Task, TaskGraph
from tests.laws.test_two_fidelities import task_graphs

CORE, BUS, ROOM = Resource("core", "engine", 1), Resource("bus", "shared", 1e12), Resource("room", "buffer", 1)
RESOURCES = (CORE, Resource("pair", "engine", 2), BUS, ROOM)


def links(*tasks: Task, since: int = 0) -> list[tuple[str, int, int]]:
    graph = TaskGraph(RESOURCES, tasks)
    return [(tasks[k.task].name, k.start_ps, k.end_ps) for k in chain(graph, run(graph), since)]


# -- by hand ----------------------------------------------------------------------------------------------------------

def test_through_what_a_task_needed() -> None:
    assert links(Task("short", time_ps=3), Task("long", time_ps=7), Task("last", time_ps=2, after=(0, 1))) == [
        ("long", 0, 7), ("last", 7, 9)]


def test_through_who_held_the_engine() -> None:
    assert links(Task("first", ("core",), 5), Task("early", time_ps=1), Task("last", ("core",), 4, after=(1,))) == [
        ("first", 0, 5), ("last", 5, 9)]


def test_through_who_gave_room_back() -> None:
    room = (("room", 1.0),)
    assert links(Task("holds", time_ps=6, takes=room, gives=room), Task("last", time_ps=1, takes=room, gives=room)) == [
        ("holds", 0, 6), ("last", 6, 7)]


def test_back_to_a_time() -> None:
    assert links(Task("a", time_ps=5), Task("b", time_ps=5, after=(0,)), Task("c", time_ps=5, after=(1,)), since=7) == [
        ("b", 7, 10), ("c", 10, 15)]


def test_tasks_without_duration_that_waited_are_passed_once() -> None:
    assert links(Task("a", ("core",), 10), Task("b", ("core",)), Task("b2", ("core",)),
                 Task("c", ("pair",), 5, after=(1, 2))) == [("a", 0, 10), ("b", 10, 10), ("b2", 10, 10), ("c", 10, 15)]


@pytest.mark.parametrize(("task", "found"), [
    (Task("t", ("core",), labels={"bound": "memory", "part": "ffn"}), ("core", "memory")),
    (Task("t", ("core",), labels={"part": "ffn"}), ("core", "ffn")), (Task("t", ("core",)), ("core", "t")),
    (Task("t", ("queue",), flows=(Flow(1, ("dram", "pcie", "vram")),), labels={"kind": "copy", "what": "weights"}),
     ("copy dram>vram", "weights")),
    (Task("t", flows=(Flow(1, ("bus",)),)), ("bus", "t")), (Task("t", time_ps=5), ("wait", "t"))])
def test_places(task: Task, found: tuple[str, str]) -> None:
    assert place(task) == found


def test_use_of_engines_and_of_bandwidth() -> None:
    graph = TaskGraph(RESOURCES, (Task("a", ("core",), 6), Task("b", ("pair",), 10),
                                  Task("c", delay_ps=2, flows=(Flow(5, ("bus",), 1e12),))))
    done = run(graph)
    assert utilisation(graph, done) == pytest.approx({"core": 0.6, "pair": 0.5, "bus": 0.5})
    assert utilisation(graph, done, 5)["core"] == pytest.approx(0.2)
    found = spans(graph, done)
    assert found["bus"] == [Span(2, 7, 2, 5)]
    assert found["core"] == [Span(0, 6, 0, 0)]
    assert gaps(found["bus"], 0, 10) == Gaps(2, 5, 3)
    assert gaps(found["core"], 0, 10) == Gaps(1, 4, 4)
    assert gaps(found["core"], 7, 10) == Gaps(1, 3, 3)
    assert gaps([], 2, 10) == Gaps(1, 8, 8)
    assert gaps(found["pair"], 0, 10) == Gaps(0, 0, 0)


def test_gaps_between_overlapping_spans() -> None:
    busy = [Span(2, 6, 0, 0), Span(3, 4, 0, 0), Span(8, 9, 0, 0)]
    assert gaps(busy, 0, 10) == Gaps(3, 5, 2)
    assert gaps(busy, 3, 8) == Gaps(1, 2, 2)


# -- always -----------------------------------------------------------------------------------------------------------

@settings(max_examples=100, deadline=None)
@given(task_graphs())
def test_laws_of_every_schedule(graph: TaskGraph) -> None:
    done = run(graph)
    found = chain(graph, done)
    if done.makespan_ps:
        assert found[-1].end_ps == done.makespan_ps
    assert all(a.end_ps <= b.start_ps for a, b in pairwise(found))
    assert all(done.start[k.task] <= k.start_ps <= k.end_ps <= done.end[k.task] for k in found)
    assert len({k.task for k in found}) == len(found)
    assert sum(blame(graph, done).values()) * PS <= done.makespan_ps * (1 + 1e-9)
    for name, used in utilisation(graph, done).items():
        assert 0 <= used <= 1 + 1e-9 + len(graph.tasks) / max(done.makespan_ps, 1), name
    for name, busy in spans(graph, done).items():
        g = gaps(busy, 0, done.makespan_ps)
        assert 0 <= g.longest_ps <= g.total_ps <= done.makespan_ps
        covered = {t for s in busy for t in (s.start_ps, s.end_ps)}
        assert g.number <= len(covered) + 1, name


@st.composite
def queued(draw) -> TaskGraph:  # type: ignore[no-untyped-def]
    """Tasks that need at most one engine of one server: nobody waits for anybody but who holds it."""
    tasks: list[Task] = []
    for i in range(draw(st.integers(1, 20))):
        after = tuple(sorted(draw(st.sets(st.integers(0, i - 1), max_size=2)))) if i else ()
        engines = draw(st.sampled_from(((), ("core",), ("other",))))
        tasks.append(Task(f"t{i}", engines, draw(st.integers(0, 1000)), after=after, priority=draw(st.integers(0, 1))))
    return TaskGraph((CORE, Resource("other", "engine", 1)), tuple(tasks))


@settings(max_examples=100, deadline=None)
@given(queued())
def test_where_tasks_queue_for_one_server_the_chain_adds_up_to_the_time(graph: TaskGraph) -> None:
    done = run(graph)
    assert sum(k.end_ps - k.start_ps for k in chain(graph, done)) == done.makespan_ps
    assert sum(blame(graph, done).values()) == pytest.approx(done.makespan_ps / PS)
