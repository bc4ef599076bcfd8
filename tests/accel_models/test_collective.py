"""Laws of the collective formula that hold for all inputs, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.cost.collective import BORROWS, FAST_TO_PEER, collective, link_class
from accel_models.cost.terms import Cost, attribute
from accel_models.fitted_store import load, lookup
from accel_models.links import link_rate
from workloads.ops import COLLECTIVE_KINDS

KEYWORDS = {"bandwidth": 300e9, "devices_per_node": 8.0, "internode_bandwidth": 25e9, "latency": 1e-7,
            "internode_latency": 1e-6, "launch": 1e-6, "efficiency": 0.7, "congestion": 0.2, "step_time": 2e-6,
            "ramp": 0.6, "fast_efficiency": 0.2, "fast_step_time": 8e-7, "tree_hop": 2.5, "gather_share": 0.9,
            "exchange_share": 0.8, "p2p_share": 1.1, "direct_efficiency": 0.5,
            "direct_time": 4e-6, "direct_step": 1e-6, "direct_limit": 8e6, "internode_efficiency": 0.8,
            "internode_step_time": 5e-6, "overhead": 6e-6}
kinds = st.sampled_from(COLLECTIVE_KINDS)
sizes = st.floats(1.0, 1e10)
counts = st.sampled_from([1, 2, 4, 8, 16, 64])


def cost(kind: str, nbytes: object, n: object, **kw: object) -> Cost:
    return collective(nbytes, n, kind=kind, **{**KEYWORDS, **kw})  # type: ignore[arg-type]


@given(kinds, st.lists(st.tuples(sizes, counts), min_size=2, max_size=6))
def test_an_array_holds_what_each_scalar_gives(kind: str, many: list[tuple[float, int]]) -> None:
    nbytes, n = (np.array(x, dtype=float) for x in zip(*many, strict=True))
    whole = cost(kind, nbytes, n)
    for i, (b, d) in enumerate(many):
        for a, e in zip(whole, cost(kind, b, d), strict=True):
            np.testing.assert_allclose(np.broadcast_to(a, nbytes.shape)[i], e, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(KEYWORDS))
def test_every_keyword_may_be_an_array(name: str) -> None:
    values = KEYWORDS[name] * np.array([0.5, 1.0, 2.0])
    for kind in COLLECTIVE_KINDS:
        got = np.broadcast_to(cost(kind, 1e6, 16, **{name: values}).time, (3,))
        np.testing.assert_allclose(got, [float(cost(kind, 1e6, 16, **{name: v}).time) for v in values], rtol=1e-12)


@settings(max_examples=200)
@given(kinds, sizes, counts, st.sampled_from(["bandwidth", "internode_bandwidth", "efficiency", "direct_efficiency"]),
       st.floats(1.0, 100.0))
def test_more_bandwidth_never_costs_more(kind: str, nbytes: float, n: int, name: str, factor: float) -> None:
    assert cost(kind, nbytes, n, **{name: KEYWORDS[name] * factor}).time <= cost(kind, nbytes, n).time * (1 + 1e-12)


@settings(max_examples=200)
@given(kinds, sizes, counts, st.floats(1.0, 100.0))
def test_more_bytes_never_cost_less(kind: str, nbytes: float, n: int, factor: float) -> None:
    assert cost(kind, nbytes * factor, n).time >= cost(kind, nbytes, n).time * (1 - 1e-12)


@given(kinds, sizes, st.sampled_from([1, 2, 3, 4, 6]), st.integers(1, 2))
def test_more_devices_of_a_node_never_cost_less(kind: str, nbytes: float, n: int, more: int) -> None:
    assert cost(kind, nbytes, n + more).time >= cost(kind, nbytes, n).time * (1 - 1e-12)


@given(kinds, sizes, counts)
def test_terms_add_up(kind: str, nbytes: float, n: int) -> None:
    c = cost(kind, nbytes, n)
    np.testing.assert_allclose(sum(attribute(c).values()), c.time, rtol=1e-9)


@pytest.mark.parametrize("kind", COLLECTIVE_KINDS)
def test_nothing_to_send_is_finite_and_one_device_waits_for_nobody(kind: str) -> None:
    assert np.isfinite(cost(kind, 0.0, 8).time)
    alone = cost(kind, 1e9, 1)
    assert alone.time == pytest.approx(alone.launch)
    assert alone.link == 0.0


@pytest.mark.parametrize("n", [2, 4, 8])
def test_all_reduce_is_reduce_scatter_and_all_gather_when_bytes_decide(n: int) -> None:
    even = {"gather_share": 1.0, "direct_efficiency": 0.0}
    whole = cost("all_reduce", 1e11, n, **even).time
    parts = cost("reduce_scatter", 1e11, n, **even).time + cost("all_gather", 1e11, n, **even).time
    assert whole == pytest.approx(float(parts), rel=0.01)


def test_ring_traffic_over_the_link() -> None:
    c = cost("all_reduce", 1e11, 4, congestion=0.0)
    assert c.link == pytest.approx(2 * 3 / 4 * 1e11 / (300e9 * 0.7))


def test_the_network_limits_beyond_a_node() -> None:
    inside, across = cost("all_reduce", 1e9, 8), cost("all_reduce", 1e9, 16)
    assert across.time > 1.2 * inside.time
    assert cost("all_reduce", 1e9, 16, internode_bandwidth=1e9).time > 3 * across.time


def test_direct_kernels_serve_small_messages_up_to_their_limit() -> None:
    none = {"direct_efficiency": 0.0}
    assert cost("all_reduce", 1e5, 8).time < 0.7 * cost("all_reduce", 1e5, 8, **none).time
    assert cost("all_reduce", 9e6, 8).time == cost("all_reduce", 9e6, 8, **none).time


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r"kind must be one of all_reduce.*'broadcast'"):
        cost("broadcast", 1.0, 2)


def test_every_link_class_has_fitted_parameters_and_network_terms() -> None:
    for link in sorted(set(BORROWS.values())):
        found = lookup("collective", link, "never_measured", "")
        for kind in COLLECTIVE_KINDS:
            c = collective(1e6, 8, kind=kind, bandwidth=100e9, **found.params.values)
            assert 5e-6 < c.time < 5e-3, (link, kind)
    assert all("internode_efficiency" in s.values for s in load("collective").set)


def test_a_bridge_joins_two_and_more_go_through_pcie() -> None:
    assert link_class("pairwise-nvlink+pcie", 2) == "nvlink-pair"
    assert link_class("pairwise-nvlink+pcie", 4) == "pcie"
    own = {"pcie": 31e9}
    assert link_rate("a40", own, "pairwise-nvlink+pcie", 2) == 56.25e9
    assert link_rate("a40", own, "pairwise-nvlink+pcie", 4) == 31e9
    assert link_rate("a40", own, "pairwise-nvlink+pcie+internode", 1) == 56.25e9
    with pytest.raises(ValueError, match="link 'nvswitch': a40 has no such link; known: pcie"):
        link_rate("a40", own, "nvswitch", 8)


def test_only_send_recv_does_not_wait_for_the_others() -> None:
    later = {k: collective(1e4, 4, kind=k, bandwidth=1e11, arrival=3e-5).time - collective(1e4, 4, kind=k, bandwidth=1e11).time
             for k in COLLECTIVE_KINDS}
    assert later.pop("send_recv") == 0.0
    assert all(x == pytest.approx(3e-5) for x in later.values())


def test_the_low_latency_protocol_ends_at_its_threshold_to_one_peer() -> None:
    def time(nbytes: float, kind: str) -> float:
        return float(collective(nbytes, 4, kind=kind, bandwidth=1e11, fast_step_time=1e-7, step_time=2e-5).time)

    for kind, limit in (("send_recv", FAST_TO_PEER), ("alltoall", 4 * FAST_TO_PEER)):
        assert time(limit + 1, kind) > time(limit, kind) + 1e-5
    assert time(4 * FAST_TO_PEER + 1, "all_gather") == pytest.approx(time(4 * FAST_TO_PEER, "all_gather"), rel=1e-3)


def test_more_ranks_of_a_node_open_more_of_its_network() -> None:
    def time(rails: float) -> float:
        return float(collective(1e9, 16, kind="all_reduce", bandwidth=1e12, devices_per_node=8, internode_bandwidth=1e9,
                                rails=rails).time)

    assert time(1.0) < time(0.4) < time(0.0)
