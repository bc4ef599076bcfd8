"""Max-min fair sharing: small cases by hand, and what makes a sharing max-min fair, over random routes and caps."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.fair_share import Link, Stream, alone, connected, drain_ps, fair_rates
from sim.tasks import Flow


def network(amounts: dict[str, float], flows: list[Flow]) -> tuple[list[Link], list[Stream]]:
    links = {name: Link(name, rate) for name, rate in amounts.items()}
    streams = [Stream(flow, tuple(links[name] for name in flow.over)) for flow in flows]
    for s in streams:
        s.join()
    return list(links.values()), streams


def rates(amounts: dict[str, float], *flows: Flow) -> list[float]:
    return fair_rates(*network(amounts, list(flows)))


def test_equal_flows_have_equal_shares() -> None:
    assert rates({"m": 12.0}, *[Flow(1, ("m",))] * 3) == [4.0, 4.0, 4.0]


def test_what_a_cap_leaves_goes_to_the_others() -> None:
    assert rates({"m": 12.0}, Flow(1, ("m",), 2.0), Flow(1, ("m",)), Flow(1, ("m",))) == [2.0, 5.0, 5.0]
    assert rates({"m": 12.0}, Flow(1, ("m",)), Flow(1, ("m",), 3.0), Flow(1, ("m",), 1.0)) == [8.0, 3.0, 1.0]
    assert rates({"m": 12.0}, Flow(1, ("m",), 2.0), Flow(1, ("m",), 3.0)) == [2.0, 3.0]


def test_a_long_route_goes_at_its_narrowest_place() -> None:
    # the classic: one flow over both links, one on each; the narrow link splits in two, the wide one gives the rest
    assert rates({"a": 10.0, "b": 4.0}, Flow(1, ("a", "b")), Flow(1, ("a",)), Flow(1, ("b",))) == [2.0, 8.0, 2.0]
    assert rates({"a": 10.0, "b": 4.0}, Flow(1, ("a", "b"))) == [4.0]


def test_caps_that_add_up_to_the_rate_are_all_reached_exactly() -> None:
    caps = [0.1 * k for k in range(1, 12)]
    assert rates({"m": sum(caps)}, *[Flow(1, ("m",), c) for c in caps]) == caps


NAMES = ("a", "b", "c", "d")
AMOUNTS = st.fixed_dictionaries({name: st.floats(1.0, 1e12) for name in NAMES})
FLOWS = st.lists(st.builds(Flow, st.just(1.0), st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True).map(tuple),
                           st.just(inf) | st.floats(0.1, 1e12)), min_size=1, max_size=12)


@given(AMOUNTS, FLOWS)
def test_each_flow_is_at_its_cap_or_among_the_fastest_on_a_full_resource(amounts: dict[str, float], flows: list[Flow]) -> None:
    given_ = rates(amounts, *flows)
    load = {name: sum(r for r, f in zip(given_, flows, strict=True) if name in f.over) for name in NAMES}
    assert all(load[name] <= amounts[name] * (1 + 1e-9) for name in NAMES)
    best = {name: max((r for r, f in zip(given_, flows, strict=True) if name in f.over), default=0.0) for name in NAMES}
    for rate, flow in zip(given_, flows, strict=True):
        full = [name for name in flow.over if load[name] >= amounts[name] * (1 - 1e-9)]
        assert rate == flow.cap or any(rate >= best[name] * (1 - 1e-9) for name in full)
        crowd = max(sum(name in f.over for f in flows) for name in flow.over)
        assert rate >= alone(flow, amounts) / crowd * (1 - 1e-9)


@given(st.floats(1.0, 1e12), st.lists(st.just(inf) | st.floats(0.1, 1e12), min_size=2, max_size=12))
def test_one_link_in_one_pass_gives_what_filling_gives(rate: float, caps: list[float]) -> None:
    flows = [Flow(1, ("a",), c) for c in caps]
    assert rates({"a": rate}, *flows) == pytest.approx(rates({"a": rate, "b": 1.0}, *flows), rel=1e-11)


def test_groups_are_the_links_that_share_flows_and_nothing_else() -> None:
    links, flows = network(dict.fromkeys("abcd", 1.0), [Flow(1, ("a", "b")), Flow(1, ("b",)), Flow(1, ("c",))])
    a, b, c, d = links
    assert list(connected([b, a, d, c])) == [([b, a], flows[:2]), ([d], []), ([c], flows[2:])]


def test_a_rate_that_stays_leaves_the_end_as_it_was() -> None:
    _, (s,) = network({"m": 3.0}, [Flow(1.0, ("m",))])
    s.move_at(3.0, 0)
    assert s.end == drain_ps(1.0, 3.0) == 333333333333
    s.move_at(3.0 * (1 + 1e-15), 111)
    assert (s.end, s.since) == (333333333333, 0)
    s.move_at(1.0, 111111111111)
    assert s.end == 111111111111 + round((1 - 3 * 0.111111111111) * 1e12)
