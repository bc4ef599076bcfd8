"""Caches of neurons or experts: each policy on a trace made by hand, and the laws of all."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sim.plan.caches import Misses, Policy, simulate_cache
from sim.plan.traces import Active

traces = arrays(bool, array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7))
POLICIES: tuple[Policy, ...] = get_args(Policy)


def used(*steps: str, items: int = 4) -> Active:
    """A trace of one layer: the items used at each step, as digits."""
    found = np.zeros((len(steps), 1, items), bool)
    for s, digits in enumerate(steps):
        found[s, 0, [int(d) for d in digits]] = True
    return found


def missed(m: Misses) -> list[int]:
    return [int(x) for x in m.missed[:, 0]]


def kept(m: Misses) -> list[str]:
    return ["".join(str(i) for i in np.flatnonzero(row[0])) for row in m.kept]


def test_window_keeps_what_the_last_steps_used() -> None:
    m = simulate_cache(used("01", "2", "0", "3", "1"), "window", window=2)
    assert kept(m) == ["", "01", "012", "02", "03"]
    assert missed(m) == [2, 1, 0, 1, 1]
    assert [int(x) for x in m.resident[:, 0]] == [2, 3, 2, 2, 2]


def test_lru_drops_what_was_used_longest_ago() -> None:
    m = simulate_cache(used("0", "1", "0", "2", "1"), "lru", capacity=2)
    assert kept(m) == ["", "0", "01", "01", "02"]
    assert missed(m) == [1, 1, 0, 1, 1]


def test_frequency_keeps_what_was_used_most() -> None:
    m = simulate_cache(used("0", "0", "1", "2", "0"), "frequency", capacity=1)
    assert kept(m) == ["", "0", "0", "0", "0"]
    assert missed(m) == [1, 0, 1, 1, 0]


def test_score_forgets() -> None:
    m = simulate_cache(used("0", "0", "1", "1", "0"), "score", capacity=1, decay=0.6)
    assert kept(m) == ["", "0", "0", "1", "1"]
    assert missed(m) == [1, 0, 1, 0, 1]


def test_pinned_and_chance_never_change() -> None:
    trace = used("0123", "3", "012")
    assert kept(simulate_cache(trace, "pinned", capacity=2)) == ["01", "01", "01"]
    assert kept(simulate_cache(trace, "chance", capacity=2)) == ["13", "13", "13"]
    assert missed(simulate_cache(trace, "pinned", capacity=2)) == [2, 1, 1]


def test_chance_holds_its_share_of_every_degree_of_activity() -> None:
    m = simulate_cache(np.ones((1, 1, 1000), bool), "chance", capacity=400)
    assert [int(x) for x in m.kept[0, 0].reshape(10, 100).sum(axis=1)] == [40] * 10


@settings(max_examples=60, deadline=None)
@given(trace=traces, window=st.integers(1, 5))
def test_window_is_the_union_of_the_last_steps(trace: Active, window: int) -> None:
    m = simulate_cache(trace, "window", window=window)
    for s in range(len(trace)):
        before = trace[max(s - window, 0):s]
        assert np.array_equal(m.kept[s], before.any(axis=0) if len(before) else np.zeros_like(trace[0]))


@settings(max_examples=60, deadline=None)
@given(trace=traces, policy=st.sampled_from(POLICIES), data=st.data())
def test_hits_and_misses_are_what_is_used_and_room_is_kept(trace: Active, policy: Policy, data: st.DataObject) -> None:
    capacity = data.draw(st.integers(0, trace.shape[2]))
    m = simulate_cache(trace, policy, capacity=capacity, window=3)
    hits = (trace & m.kept).sum(axis=2)
    assert np.array_equal(hits + m.missed, m.used)
    assert np.array_equal(m.used, trace.sum(axis=2))
    if policy != "window":
        assert m.kept.sum(axis=2).max(initial=0) <= capacity
        assert m.resident.max(initial=0) <= capacity


@settings(max_examples=80, deadline=None)
@given(trace=traces, policy=st.sampled_from(("lru", "pinned")), data=st.data())
def test_more_room_never_misses_more(trace: Active, policy: Policy, data: st.DataObject) -> None:
    small = data.draw(st.integers(0, trace.shape[2]))
    large = data.draw(st.integers(small, trace.shape[2]))
    a, b = (simulate_cache(trace, policy, capacity=c) for c in (small, large))
    assert not (a.kept & ~b.kept).any()                      # inclusion: what the small one keeps, the large one keeps
    assert np.all(b.missed <= a.missed)


@pytest.mark.parametrize("policy", ["lru", "frequency", "score"])
def test_the_ends_of_the_range(policy: Policy) -> None:
    trace = np.random.default_rng(0).random((20, 3, 50)) < 0.2
    nothing, everything = (simulate_cache(trace, policy, capacity=c) for c in (0, 50))
    assert np.array_equal(nothing.missed, nothing.used)
    assert np.array_equal(everything.missed.sum(axis=0), trace.any(axis=0).sum(axis=1))      # each item once


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="cache: capacity: must be between 0 and the 4 items of a layer, found 5"):
        simulate_cache(used("0"), "lru", capacity=5)
    with pytest.raises(ValueError, match="cache: window: must be at least 1 step, found 0"):
        simulate_cache(used("0"), "window", window=0)


def test_a_cache_changes_no_value() -> None:
    rng = np.random.default_rng(1)
    up, down = rng.normal(size=(8, 32)), rng.normal(size=(32, 8))
    xs = rng.normal(size=(12, 8))
    trace = (xs @ up > 0)[:, None, :]
    m = simulate_cache(trace, "lru", capacity=10)
    held: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for s, x in enumerate(xs):
        held = {i: held[i] for i in np.flatnonzero(m.kept[s, 0])}
        fetched = {int(i): (up[:, i], down[i]) for i in np.flatnonzero(trace[s, 0] & ~m.kept[s, 0])}
        assert len(fetched) == m.missed[s, 0]
        held |= fetched
        y = sum(max(x @ held[i][0], 0.0) * held[i][1] for i in np.flatnonzero(trace[s, 0]))
        assert np.allclose(y, np.maximum(x @ up, 0) @ down)
