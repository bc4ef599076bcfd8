"""The closed form: durations, longest path, load and bounds by hand; paths and bounds over random graphs."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.closed_form import bounds, busy, critical_path, durations, earliest
from sim.tasks import Flow, Resource, Task, TaskGraph

RESOURCES = (Resource("core", "engine", 1), Resource("pair", "engine", 2), Resource("hbm", "shared", 1e12),
             Resource("link", "shared", 4e11), Resource("slots", "buffer", 2))


def graph(*tasks: Task) -> TaskGraph:
    g = TaskGraph(RESOURCES, tasks)
    g.check()
    return g


BY_HAND = graph(
    Task("load", flows=(Flow(1000, ("hbm", "link")),), delay_ps=10),                         # 10 + 1000 B at 0.4 B/ps
    Task("multiply", ("core",), time_ps=300, flows=(Flow(500, ("hbm",)),), after=(0,)),      # the longer of 300 and 500
    Task("capped", ("pair",), flows=(Flow(500, ("hbm",), cap=1e11),)),                       # 500 B at 0.1 B/ps
    Task("both", ("core", "pair"), time_ps=7, flows=(Flow(0, ("hbm",)),), after=(1, 2)),
    Task("join", after=(3,)))


def test_by_hand() -> None:
    assert durations(BY_HAND).tolist() == [2510, 500, 5000, 7, 0]
    start, end = earliest(BY_HAND)
    assert start.tolist() == [0, 2510, 0, 5000, 5007]
    assert end.tolist() == [2510, 3010, 5000, 5007, 5007]
    assert start.dtype == np.int64
    assert critical_path(BY_HAND) == (5007, (2, 3))
    assert busy(BY_HAND) == pytest.approx({"core": 507e-12, "pair": 2503.5e-12, "hbm": 2e-9, "link": 2.5e-9})
    assert bounds(BY_HAND) == (5007, 8017)


def test_the_busiest_resource_bounds_what_has_no_order() -> None:
    assert bounds(graph(*[Task("t", ("pair",), time_ps=5)] * 3)) == (8, 15)                  # 15 ps on two servers
    assert bounds(graph(*[Task("t", flows=(Flow(100, ("link",)),))] * 3)) == (750, 750)


def test_no_task_takes_no_time() -> None:
    assert bounds(graph()) == (0, 0)
    assert critical_path(graph()) == (0, ())
    assert durations(graph()).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 9), st.sets(st.integers(0, 30), max_size=3)), min_size=1, max_size=30))
def test_the_critical_path_is_a_path_and_none_is_longer(drawn: list[tuple[int, set[int]]]) -> None:
    g = graph(*(Task("t", time_ps=time, after=tuple(sorted(j for j in after if j < i)))
                for i, (time, after) in enumerate(drawn)))
    length, path = critical_path(g)
    assert sum(g.tasks[i].time_ps for i in path) == length
    assert not g.tasks[path[0]].after or earliest(g)[0][path[0]] == 0
    assert all(i in g.tasks[j].after for i, j in pairwise(path))

    def longest(i: int, known: dict[int, int]) -> int:
        if i not in known:
            known[i] = g.tasks[i].time_ps + max((longest(j, known) for j in g.tasks[i].after), default=0)
        return known[i]

    known: dict[int, int] = {}
    assert length == max(longest(i, known) for i in range(len(drawn)))


def test_many_tasks_in_little_time() -> None:
    n = 50_000                                       # a million must take a few seconds at most
    g = graph(*(Task("t", ("core",), time_ps=i % 7, flows=(Flow(i, ("hbm",)),) * (i % 2), after=(i - 1,) * (i > 0))
                for i in range(n)))
    began = time.process_time()
    bounds(g)
    critical_path(g)
    assert time.process_time() - began < 10 * n / 1e6
