"""Flash pages: the array path against the event path, both against arithmetic, and the closed form beside them."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.cost.storage import read
from accel_models.registry import load_device
from sim.nand import Geometry, Reads, drain, geometry, replay, simulate_reads

geometries = st.builds(Geometry, channels=st.integers(1, 3), dies=st.integers(1, 4), t_read_ps=st.integers(1, 60),
                       t_transfer_ps=st.integers(1, 40), t_ecc_ps=st.integers(0, 9), group=st.integers(1, 3),
                       cache_read=st.booleans())
US = 10**6
ONE = Geometry(1, 1, 60 * US, 15 * US, 4 * US)


def same(a: Reads, b: Reads) -> bool:
    return (a.n_pages, int(a.makespan_ps), a.busy_ps, a.sum_ps) == (b.n_pages, int(b.makespan_ps), b.busy_ps, b.sum_ps)


@settings(max_examples=300, deadline=None)
@given(geometries, st.lists(st.integers(0, 11), max_size=60))
def test_both_ways_give_the_same_picosecond(g: Geometry, addresses: list[int]) -> None:
    addresses = [a % (g.channels * g.dies) for a in addresses]
    assert same(replay(g, addresses, len(addresses) + 1), simulate_reads(g, np.array(addresses, dtype=int)))


@settings(max_examples=60, deadline=None)
@given(geometries, st.integers(40, 90), st.lists(st.integers(0, 5), min_size=12, max_size=12))
def test_rounds_that_repeat_may_be_added_up(g: Geometry, deep: int, more: list[int]) -> None:
    counts = deep + np.array(more[:g.channels * g.dies]).reshape(g.channels, g.dies)
    addresses = np.repeat(np.arange(g.channels * g.dies), counts.ravel()).tolist()
    assert same(replay(g, addresses, len(addresses)), drain(g, counts))


@given(geometries, st.lists(st.lists(st.integers(0, 4), min_size=12, max_size=12), min_size=1, max_size=5))
def test_batches_are_what_each_is_alone(g: Geometry, many: list[list[int]]) -> None:
    counts = np.array([m[:g.channels * g.dies] for m in many]).reshape(-1, g.channels, g.dies)
    whole, each = drain(g, counts), [drain(g, c) for c in counts]
    assert whole.makespan_ps.tolist() == [int(e.makespan_ps) for e in each]
    assert (whole.busy_ps, whole.sum_ps) == (sum(e.busy_ps for e in each), sum(e.sum_ps for e in each))


@given(geometries, st.lists(st.integers(0, 11), min_size=1, max_size=60), st.integers(1, 70))
def test_between_the_busiest_part_and_one_after_another(g: Geometry, addresses: list[int], depth: int) -> None:
    addresses = [a % (g.channels * g.dies) for a in addresses]
    r = simulate_reads(g, np.array(addresses), queue_depth=depth)
    per_channel = np.bincount(np.array(addresses) // g.dies)
    groups = -(-np.bincount(addresses) // g.group)
    assert int(r.makespan_ps) >= per_channel.max() * g.t_transfer_ps + g.t_read_ps + g.t_ecc_ps
    assert int(r.makespan_ps) >= groups.max() * g.t_read_ps
    assert int(r.makespan_ps) <= len(addresses) * (g.t_read_ps + g.t_transfer_ps + g.t_ecc_ps)
    assert r.busy_ps == len(addresses) * g.t_transfer_ps


def test_one_page_and_one_die_by_hand() -> None:
    assert int(simulate_reads(ONE, [0]).makespan_ps) == 79 * US
    assert int(simulate_reads(ONE, [0] * 10).makespan_ps) == (10 * 75 + 4) * US                    # tR and bus in turn
    cached = Geometry(1, 1, 60 * US, 15 * US, 4 * US, cache_read=True)
    assert int(simulate_reads(cached, [0] * 10).makespan_ps) == (10 * 60 + 15 + 4) * US            # the bus hides
    slow = Geometry(1, 1, 10 * US, 15 * US, 4 * US, cache_read=True)
    assert int(simulate_reads(slow, [0] * 10).makespan_ps) == (10 + 10 * 15 + 4) * US              # the cells hide
    planes = Geometry(1, 1, 60 * US, 15 * US, 4 * US, group=4)
    assert int(simulate_reads(planes, [0] * 8).makespan_ps) == (2 * (60 + 4 * 15) + 4) * US        # four pages at once


def test_dies_of_a_channel_share_it_and_channels_do_not() -> None:
    shared = Geometry(1, 4, 60 * US, 15 * US)
    apart = Geometry(4, 1, 60 * US, 15 * US)
    assert int(simulate_reads(shared, [0, 1, 2, 3]).makespan_ps) == (60 + 4 * 15) * US
    assert int(simulate_reads(apart, [0, 1, 2, 3]).makespan_ps) == 75 * US


def test_one_page_in_flight_is_one_after_another() -> None:
    g = Geometry(2, 2, 60 * US, 15 * US, 4 * US)
    assert int(simulate_reads(g, [0, 1, 2, 3], queue_depth=1).makespan_ps) == 4 * 79 * US
    assert int(simulate_reads(g, [], queue_depth=1).makespan_ps) == 0
    assert int(simulate_reads(g, np.zeros((2, 2), int)).makespan_ps) == 0


def test_the_same_run_twice() -> None:
    g = Geometry(4, 4, 61 * US, 14 * US, 4 * US, cache_read=True)
    addresses = np.random.default_rng(5).integers(0, 16, 2000)
    assert same(simulate_reads(g, addresses, queue_depth=32), simulate_reads(g, addresses, queue_depth=32))


# -- beside the closed form ------------------------------------------------------------------------------------------

PAGE = 16384


def closed(g: Geometry, n: float, *, depth: float, sequential: float, **more: float) -> float:
    """Time of ``n`` page reads by the formula with the same parts and no host. [s]"""
    return float(read(n, PAGE, n_channels=g.channels, dies_per_channel=g.dies, page=PAGE, t_read=g.t_read_ps / 1e12,
                      channel_rate=PAGE / (g.t_transfer_ps / 1e12), t_ecc=g.t_ecc_ps / 1e12, link_rate=1e30,
                      queue_depth=depth, sequential=sequential, cache_read=float(g.cache_read), planes=g.group,
                      multi_plane=float(g.group > 1), **more).total)


@pytest.mark.parametrize("dies", [1, 2, 4, 8])
@pytest.mark.parametrize("cached", [False, True])
def test_steady_streams_agree_within_two_percent(dies: int, cached: bool) -> None:
    """All dies busy with the same number of pages: the slowest stage decides, for events as in the formula."""
    g = Geometry(8, dies, 61 * US, 14 * US, 4 * US, cache_read=cached)
    events = int(simulate_reads(g, np.full((8, dies), 500)).makespan_ps) / 1e12
    assert closed(g, 500 * 8 * dies, depth=1e6, sequential=1.0) == pytest.approx(events, rel=0.02)


def test_one_request_in_flight_agrees() -> None:
    g = Geometry(8, 4, 61 * US, 14 * US, 4 * US)
    events = int(simulate_reads(g, np.random.default_rng(1).integers(0, 32, 200), queue_depth=1).makespan_ps) / 1e12
    assert closed(g, 200, depth=1, sequential=0.0) == pytest.approx(events, rel=2e-5)


@pytest.mark.parametrize("g", [Geometry(8, 4, 61 * US, 14 * US, 4 * US), Geometry(8, 4, 61 * US, US, 4 * US),
                               Geometry(4, 1, 61 * US, US)])
@pytest.mark.parametrize("depth", [2, 4, 8, 16, 32, 64, 256])
def test_random_pages_agree_within_six_percent_at_any_depth(g: Geometry, depth: int) -> None:
    """The corner of the formula is one curve for all; events also know channel waits and who stands behind whom."""
    addresses = np.random.default_rng(3).integers(0, g.channels * g.dies, 30_000)
    events = int(simulate_reads(g, addresses, queue_depth=depth).makespan_ps) / 1e12
    assert closed(g, len(addresses), depth=depth, sequential=0.0) == pytest.approx(events, rel=0.06)


@pytest.mark.parametrize(("g", "n", "within"), [
    (Geometry(8, 4, 61 * US, 14 * US, 4 * US), 8, 0.15), (Geometry(8, 4, 61 * US, 14 * US, 4 * US), 32, 0.08),
    (Geometry(8, 4, 61 * US, 14 * US, 4 * US), 128, 0.05), (Geometry(4, 1, 61 * US, US), 2, 0.25),
    (Geometry(8, 16, 61 * US, 5 * US, 4 * US), 16, 0.32), (Geometry(8, 16, 61 * US, 5 * US, 4 * US), 512, 0.10)])
def test_bursts_end_with_the_fullest_die(g: Geometry, n: int, within: float) -> None:
    """Pages on random dies at once. The formula takes a normal tail: poorest where most dies have no page."""
    dies = g.channels * g.dies
    counts = np.random.default_rng(3).multinomial(n, np.full(dies, 1 / dies), size=1000).reshape(-1, g.channels, g.dies)
    events = float(drain(g, counts).makespan_ps.mean()) / 1e12
    assert closed(g, n, depth=n, sequential=0.0) == pytest.approx(events, rel=within)


# -- speed, devices and bad input --------------------------------------------------------------------------------------

def test_ten_million_pages_take_seconds() -> None:
    g = geometry(load_device("nvme_pcie4"), "flash")
    addresses = np.random.default_rng(0).integers(0, g.channels * g.dies, 10_000_000)
    begin = time.process_time()
    r = simulate_reads(g, addresses)
    assert r.n_pages == 10_000_000
    assert time.process_time() - begin < 20


def test_a_device_gives_its_geometry() -> None:
    g = geometry(load_device("cambricon_llm_s"), "flash")
    assert (g.channels, g.dies, g.t_read_ps, g.group) == (8, 4, 30 * US, 1)
    assert g.t_transfer_ps == pytest.approx(16384e-9 * 1e12 + 0.3 * US)


@pytest.mark.parametrize(("reads", "depth", "message"), [
    ([0, 4], 0, r"die address 4 is not in 0\.\.3"), ([-1], 0, r"die address -1 is not in 0\.\.3"),
    ([[1, -1], [0, 0]], 0, "must not be negative, got -1"), ([[1, 1, 1]], 0, r"shape \(\.\.\., 2, 2\), got \(1, 3\)"),
    ([0.5], 0, "must be integers, got float64"), ([[1, 1], [1, 1]], 4, "give die addresses"),
    ([0], -1, "queue_depth must not be negative, got -1"),
])
def test_bad_reads_are_named(reads: list[float], depth: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_reads(Geometry(2, 2, 5, 5), reads, queue_depth=depth)


@pytest.mark.parametrize("name", ["channels", "dies", "t_read_ps", "t_transfer_ps", "group"])
def test_a_geometry_needs_positive_figures(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        Geometry(**{"channels": 1, "dies": 1, "t_read_ps": 5, "t_transfer_ps": 5, "group": 1} | {name: 0})
