"""The event engine: traces by hand, order, buffers, shared rates, errors, streaming, interruption, repetition."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator

import pytest

from sim import kernel
from sim.kernel import run, stream
from sim.tasks import Flow, Resource, Task, TaskGraph

CORE, PAIR = Resource("core", "engine", 1), Resource("pair", "engine", 2)
HBM, LINK = Resource("hbm", "shared", 1e12), Resource("link", "shared", 4e11)      # 1 B/ps and 0.4 B/ps
SLOTS, STORE = Resource("slots", "buffer", 2), Resource("store", "buffer", 10)
RESOURCES = (CORE, PAIR, HBM, LINK, SLOTS, STORE)


def trace(*tasks: Task) -> list[tuple[str, int, int]]:
    """(name, start, end) in the order of the tasks."""
    done = run(TaskGraph(RESOURCES, tasks))
    assert done.done
    assert done.makespan_ps == max(done.end, default=0)
    return [(t.name, int(s), int(e)) for t, s, e in zip(tasks, done.start, done.end, strict=True)]


# -- tasks and engines ------------------------------------------------------------------------------------------------

def test_a_task_begins_when_all_before_it_have_ended() -> None:
    assert trace(Task("load", time_ps=500), Task("other", time_ps=700), Task("matmul", ("core",), time_ps=400, after=(0, 1)),
                 Task("join", after=(2,)), Task("store", time_ps=1, after=(3, 0))) == [
        ("load", 0, 500), ("other", 0, 700), ("matmul", 700, 1100), ("join", 1100, 1100), ("store", 1100, 1101)]


def test_no_tasks() -> None:
    assert trace() == []


def test_one_server_first_come_first_served_ties_by_index() -> None:
    assert trace(Task("a", ("core",), time_ps=5), Task("b", ("core",), time_ps=5), Task("late", time_ps=4),
                 Task("c", ("core",), time_ps=5, after=(2,)), Task("d", ("core",), time_ps=5)) == [
        ("a", 0, 5), ("b", 5, 10), ("late", 0, 4), ("c", 15, 20), ("d", 10, 15)]


def test_several_servers() -> None:
    assert trace(*[Task(n, ("pair",), time_ps=t) for n, t in (("a", 5), ("b", 3), ("c", 4), ("d", 1))]) == [
        ("a", 0, 5), ("b", 0, 3), ("c", 3, 7), ("d", 5, 6)]
    assert trace(Task("a", ("pair", "pair"), time_ps=5), Task("b", ("pair",), time_ps=3)) == [("a", 0, 5), ("b", 5, 8)]


def test_a_smaller_priority_goes_first_and_stops_nobody() -> None:
    assert trace(Task("runs", ("core",), time_ps=5, priority=1), Task("plain", ("core",), time_ps=5, priority=1),
                 Task("wait", time_ps=2), Task("urgent", ("core",), time_ps=5, after=(2,))) == [
        ("runs", 0, 5), ("plain", 10, 15), ("wait", 0, 2), ("urgent", 5, 10)]


def test_a_task_cut_at_its_preemption_points_lets_the_urgent_go_between() -> None:
    assert trace(Task("part1", ("core",), time_ps=5, priority=1), Task("part2", ("core",), time_ps=5, priority=1, after=(0,)),
                 Task("wait", time_ps=2), Task("urgent", ("core",), time_ps=3, after=(2,))) == [
        ("part1", 0, 5), ("part2", 8, 13), ("wait", 0, 2), ("urgent", 5, 8)]


def test_all_that_are_ready_at_one_instant_are_weighed_together_also_behind_joins() -> None:
    assert trace(Task("plain", ("core",), time_ps=5, priority=1), Task("join"), Task("join2", after=(1,)),
                 Task("urgent", ("core",), time_ps=5, after=(2,))) == [
        ("plain", 5, 10), ("join", 0, 0), ("join2", 0, 0), ("urgent", 0, 5)]


def test_several_engines_are_taken_at_once_and_nobody_overtakes() -> None:
    assert trace(Task("a", ("core",), time_ps=10), Task("both", ("core", "pair"), time_ps=5), Task("b", ("pair",), time_ps=3),
                 Task("c", ("core",), time_ps=1)) == [
        ("a", 0, 10), ("both", 10, 15), ("b", 10, 13), ("c", 15, 16)]


def test_engines_are_held_during_the_delay_and_until_the_longest_part_ends() -> None:
    assert trace(Task("a", ("core",), time_ps=5, delay_ps=7, flows=(Flow(100, ("hbm",)), Flow(100, ("link",)))),
                 Task("b", ("core",), time_ps=300, flows=(Flow(100, ("hbm",)),))) == [("a", 0, 257), ("b", 257, 557)]


def test_a_task_without_duration_may_hold_an_engine() -> None:
    assert trace(Task("a", ("core",)), Task("b", ("core",), after=(0,)), Task("c", ("core",), time_ps=1)) == [
        ("a", 0, 0), ("b", 0, 0), ("c", 0, 1)]


# -- buffers ----------------------------------------------------------------------------------------------------------

def test_double_buffering() -> None:
    # two slots: the third load waits until the first multiplication has given its slot back
    loads = [Task(f"load{i}", time_ps=10, takes=(("slots", 1),), after=(2 * i - 2,) * (i > 0)) for i in range(4)]
    tasks = [t for i, load in enumerate(loads)
             for t in (load, Task(f"mul{i}", ("core",), time_ps=25, after=(2 * i,), gives=(("slots", 1),)))]
    assert trace(*tasks) == [
        ("load0", 0, 10), ("mul0", 10, 35), ("load1", 10, 20), ("mul1", 35, 60),
        ("load2", 35, 45), ("mul2", 60, 85), ("load3", 60, 70), ("mul3", 85, 110)]


def test_buffers_are_first_come_first_served_whatever_the_priority() -> None:
    use = [Task(n, time_ps=5, takes=(("store", x),), gives=(("store", x),), priority=p) for n, x, p in
           (("a", 6, 3), ("large", 8, 2), ("small", 4, 1))]
    assert trace(*use) == [("a", 0, 5), ("large", 5, 10), ("small", 10, 15)]


def test_several_buffers_are_taken_at_once() -> None:
    both = (("store", 6.0), ("slots", 2.0))
    assert trace(Task("a", time_ps=5, takes=(("slots", 1),), gives=(("slots", 1),)),
                 Task("both", time_ps=5, takes=both, gives=both),
                 Task("b", time_ps=5, takes=(("store", 5),), gives=(("store", 5),))) == [
        ("a", 0, 5), ("both", 5, 10), ("b", 10, 15)]


def test_space_comes_before_engines_but_the_line_keeps_the_time_of_being_ready() -> None:
    take, give = (("slots", 2.0),), (("slots", 2.0),)
    assert trace(Task("holds", time_ps=5, takes=take, gives=give), Task("runs", ("core",), time_ps=6),
                 Task("first", ("core",), time_ps=1, takes=take, gives=give), Task("wait", time_ps=4),
                 Task("second", ("core",), time_ps=1, after=(3,))) == [
        ("holds", 0, 5), ("runs", 0, 6), ("first", 6, 7), ("wait", 0, 4), ("second", 7, 8)]


def test_a_buffer_that_is_never_given_back_is_named() -> None:
    with pytest.raises(ValueError, match=r"^task 1 \('b'\): waits for ever for 2 of 'slots', of which 1 of 2 is free"):
        trace(Task("a", time_ps=5, takes=(("slots", 1),)), Task("b", takes=(("slots", 2),)), Task("c", after=(1,)))
    with pytest.raises(ValueError, match=r"^task 0 \('a'\): waits for ever for 2 of 'core', of which 1 of 1 is free"):
        trace(Task("a", ("core", "core"), time_ps=5))


def test_more_cannot_be_given_back_than_is_taken() -> None:
    with pytest.raises(ValueError, match=r"^task 1 \('b'\): gives back 2 of 'slots', of which only 1 is taken$"):
        trace(Task("a", takes=(("slots", 1),)), Task("b", time_ps=1, after=(0,), gives=(("slots", 2),)))


# -- shared memories and links ----------------------------------------------------------------------------------------

def test_flows_share_and_speed_up_when_others_end() -> None:
    # both at 0.5 B/ps until 200, then 200 B more at 1 B/ps
    assert trace(Task("short", flows=(Flow(100, ("hbm",)),)), Task("long", flows=(Flow(300, ("hbm",)),))) == [
        ("short", 0, 200), ("long", 0, 400)]


def test_a_newcomer_slows_those_under_way() -> None:
    # 100 B alone; then 0.5 B/ps each
    assert trace(Task("first", flows=(Flow(200, ("hbm",)),)), Task("second", delay_ps=100, flows=(Flow(100, ("hbm",)),))) == [
        ("first", 0, 300), ("second", 0, 300)]


def test_caps_and_routes() -> None:
    # the route over both goes at 0.4, the capped one at 0.1, the rest gets 0.5 and all of it later
    assert trace(Task("route", flows=(Flow(200, ("hbm", "link")),)), Task("capped", flows=(Flow(100, ("hbm",), 1e11),)),
                 Task("rest", flows=(Flow(310, ("hbm",)),))) == [
        ("route", 0, 500), ("capped", 0, 1000), ("rest", 0, 567)]


def test_a_flow_without_bytes_ends_at_once_and_a_tiny_one_too() -> None:
    assert trace(Task("none", flows=(Flow(0, ("hbm",)),)), Task("tiny", flows=(Flow(1e-3, ("hbm",)),), after=(0,)),
                 Task("next", time_ps=3, after=(1,))) == [("none", 0, 0), ("tiny", 0, 0), ("next", 0, 3)]


def test_counters_are_step_functions_from_zero() -> None:
    done = run(TaskGraph(RESOURCES, (
        Task("a", flows=(Flow(100, ("hbm",)),)), Task("b", delay_ps=150, time_ps=50, flows=(Flow(60, ("hbm", "link")),)),
        Task("c", time_ps=30, takes=(("store", 4),), gives=(("store", 4),), after=(0,)))), record=True)
    found = {name: list(zip(*(column.tolist() for column in steps), strict=True)) for name, steps in done.counters.items()}
    assert found == {"hbm": [(0, 1e12), (100, 0.0), (150, 4e11), (300, 0.0)], "link": [(0, 0.0), (150, 4e11), (300, 0.0)],
                     "slots": [(0, 0.0)], "store": [(0, 0.0), (100, 4.0), (130, 0.0)]}
    assert run(TaskGraph(RESOURCES, (Task("a"),))).counters == {}


# -- streaming --------------------------------------------------------------------------------------------------------

def chain(n: int) -> Iterator[Task]:
    return (Task("t", ("pair",), time_ps=1 + i % 3, flows=(Flow(i % 5, ("hbm",)),), after=(i - 2,) * (i > 1)) for i in range(n))


def test_stream_and_run_are_one_engine() -> None:
    got: dict[int, tuple[int, int]] = {}
    tasks = tuple(chain(300))

    def sink(index: int, task: Task, start: int, end: int) -> None:
        assert task is tasks[index]
        got[index] = start, end

    makespan = stream(RESOURCES, iter(tasks), sink=sink)
    want = run(TaskGraph(RESOURCES, tasks))
    assert makespan == want.makespan_ps
    assert [got[i] for i in range(300)] == list(zip(want.start.tolist(), want.end.tolist(), strict=True))


def test_no_more_tasks_are_drawn_than_the_window_holds() -> None:
    drawn, ended, most = 0, 0, 0

    def tasks() -> Iterator[Task]:
        nonlocal drawn, most
        for task in chain(500):
            drawn += 1
            most = max(most, drawn - ended)
            yield task

    def sink(index: int, task: Task, start: int, end: int) -> None:
        nonlocal ended
        ended += 1

    stream(RESOURCES, tasks(), sink=sink, window=7)
    assert (drawn, ended, most) == (500, 500, 7)


def test_a_window_that_is_too_small_is_said() -> None:
    tasks = [Task("fill", takes=(("slots", 2),)), *[Task("wait", takes=(("slots", 1),))] * 3,
             Task("free", gives=(("slots", 2),))]
    with pytest.raises(ValueError, match=r"^task 1 \('wait'\): waits .*; tasks beyond the window of 3 might$"):
        stream(RESOURCES, tasks, sink=lambda *_: None, window=3)


def test_memory_does_not_grow_with_the_number_of_tasks() -> None:
    def peak(n: int) -> int:
        gc.collect()
        tracemalloc.start()
        stream(RESOURCES, chain(n), sink=lambda *_: None, window=100)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(200)                                        # what Python keeps once
    assert peak(5000) < 2 * peak(500)


def test_a_stream_is_checked_as_it_comes() -> None:
    with pytest.raises(ValueError, match=r"task 1 \('t'\): engines: no engine resource 'cor'; nearest: core"):
        stream(RESOURCES, [Task("t"), Task("t", ("cor",))], sink=lambda *_: None)
    with pytest.raises(ValueError, match=r"task 0 \('t'\): after: task 0 does not come before it"):
        stream(RESOURCES, [Task("t", after=(0,))], sink=lambda *_: None)


def test_a_graph_is_checked() -> None:
    with pytest.raises(ValueError, match="nearest: core"):
        trace(Task("t", ("cor",)))


# -- progress, interruption, repetition -------------------------------------------------------------------------------

def test_progress_is_reported_and_the_last_report_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "REPORT", 100)
    seen: list[tuple[int, int]] = []
    run(TaskGraph(RESOURCES, tuple(chain(450))), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (450, 450)
    assert [total for _, total in seen] == [450] * 5
    assert all(100 * (k + 1) <= done < 100 * (k + 1) + 3 for k, (done, _) in enumerate(seen[:-1]))


def test_an_interrupted_run_keeps_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kernel, "REPORT", 100)
    graph = TaskGraph(RESOURCES, tuple(chain(450)))
    part, whole = run(graph, progress=interrupt), run(graph)
    assert not part.done
    ended = part.end >= 0
    assert 100 <= ended.sum() < 103
    assert (part.end[ended] == whole.end[ended]).all()
    assert (part.start[~ended] == -1).all()
    assert part.makespan_ps == part.end.max() < whole.makespan_ps


REPEAT = """
from random import Random
from sim.kernel import run
from sim.tasks import Flow, Resource, Task, TaskGraph
draw = Random(5)
resources = tuple(Resource(n, "shared", 1e11 * (i + 1)) for i, n in enumerate("abcde")) + (Resource("x", "engine", 3),)
tasks = tuple(Task("t", ("x",) * draw.randrange(2), draw.randrange(99), 0,
                   (Flow(draw.random() * 1e4, tuple(draw.sample("abcde", draw.randint(1, 4)))),),
                   tuple(range(max(0, i - i % 10 - 10), i - i % 10)))   # ten ready at once
              for i in range(300))
done = run(TaskGraph(resources, tasks), record=True)
print(done.start.tolist(), done.end.tolist(), {n: (s.times_ps.tolist(), s.values.tolist()) for n, s in done.counters.items()})
"""


def test_every_process_gives_the_same_trace() -> None:
    # the seeds of string hashing and the places of objects differ from process to process
    first, second = (subprocess.run([sys.executable, "-c", REPEAT], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."}, check=True,
                                    capture_output=True, text=True).stdout for seed in ("1", "2"))
    assert first == second
    assert len(first) > 3000
