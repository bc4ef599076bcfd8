"""Weights read when they are needed."""

from __future__ import annotations

import pytest

from sim.kernel import run
from sim.plan.block import Plan
from sim.plan.lower import lower
from sim.plan.storage import READ_HIGH, READ_LOW
from sim.query import Query, resolve
from sim.simulate import plan_of, simulate, step_seconds
from sim.techniques import TECHNIQUES
from sim.techniques.technique import parse

QUERY = Query(model="opt-1.3b", hw="apple_m1_max", batch=1, isl=32, osl=8)


def plan(*techniques: str) -> Plan:
    return plan_of(resolve(QUERY), [parse(t, TECHNIQUES) for t in techniques], phase="decode")


def seconds(*techniques: str) -> float:
    return simulate(QUERY, [parse(t, TECHNIQUES) for t in techniques], steps=2).step_s


def test_what_is_not_resident_is_read_and_every_weight_stays_once() -> None:
    before, after = plan(), plan("page_in:resident=0.25")
    for a, b in zip(before.blocks, after.blocks, strict=True):
        assert a.ops == b.ops
        assert a.weight_bytes == pytest.approx(b.weight_bytes)
        if b.moves:
            assert b.moves[0].nbytes == pytest.approx(0.75 * a.weight_bytes)
            assert b.moves[0].after is None
            assert dict(b.weights)["dram"] == pytest.approx(0.25 * a.weight_bytes)
    assert {b.part for b in after.blocks if b.moves} == {"mixer", "ffn", "head"}


def test_nothing_is_read_ahead() -> None:
    whole, none = seconds("page_in:resident=0"), seconds()
    stored = sum(b.weight_bytes for b in plan().blocks if b.part != "embed")
    assert whole == pytest.approx(none + stored / 6.1e9, rel=0.05)       # compute and reading take turns
    assert seconds("page_in:resident=1") == pytest.approx(none)


def test_one_window_at_a_time_is_slower_than_all_at_once() -> None:
    assert seconds("page_in:resident=0,chunk=128 KiB,depth=1") > 3 * seconds("page_in:resident=0")


def test_the_limit_knows_no_requests_but_the_interval_does() -> None:
    small = [parse("page_in:resident=0,chunk=128 KiB,depth=1", TECHNIQUES)]
    run_ = simulate(QUERY, small, steps=2)
    best = lower(run_.plans, ideal=True)
    stored = sum(b.weight_bytes for b in plan().blocks if b.part != "embed")
    assert step_seconds(best, run(best.graph)) == pytest.approx(stored / 6.1e9, rel=0.15)
    assert run_.hi_s / run_.lo_s == pytest.approx(READ_HIGH / READ_LOW, rel=0.05)        # nearly all of it is reading


def test_errors_are_said() -> None:
    with pytest.raises(ValueError, match="technique page_in: parts: no block is of kind experts; the plan has embed, ffn"):
        plan("page_in:resident=0,parts=experts")
    with pytest.raises(ValueError, match="resident"):
        parse("page_in:resident=2", TECHNIQUES)
    with pytest.raises(ValueError, match="apple_m1_max: no memory 'ssd'"):
        plan("page_in:resident=0,store=ssd")
