"""Weights elsewhere, and blocks on other engines: what stays, what moves, what adds up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plan.block import DoesNotFitError, Plan
from sim.query import Query, resolve
from sim.simulate import plan_of, simulate
from sim.techniques import TECHNIQUES
from sim.techniques.technique import parse

QUERY = Query(model="llama-2-13b", hw="pc_low", batch=1, isl=128, osl=128)


def planned(*texts: str, query: Query = QUERY) -> Plan:
    return plan_of(resolve(query), [parse(t, TECHNIQUES) for t in texts], phase="decode")


def stored(plan: Plan) -> float:
    return sum(kinds.get("weights", 0.0) for kinds in plan.resident().values())


PLAIN = planned()


@settings(max_examples=25, deadline=None)
@given(layers=st.integers(0, 40), via=st.sampled_from(["stream", "there"]), to=st.sampled_from(["dram", "flash"]))
def test_every_weight_lies_somewhere_once_and_all_is_computed(layers: int, via: str, to: str) -> None:
    plan = planned(f"offload:layers={layers},via={via},to={to}")
    assert stored(plan) == pytest.approx(stored(PLAIN))
    assert [b.ops for b in plan.blocks] == [b.ops for b in PLAIN.blocks]
    moved = sum(m.nbytes for b in plan.blocks for m in b.moves)
    away = stored(PLAIN) - plan.resident()["vram"]["weights"]
    # Nobody computes at a drive, so that what lies there is fetched however it was asked for.
    assert moved == pytest.approx(away if via == "stream" or to == "flash" else 0.0, abs=1.0)


def test_as_many_layers_stay_as_the_memory_holds() -> None:
    plan = planned("offload")
    used = sum(plan.resident()["vram"].values()) + 2 * max(b.weight_bytes for b in PLAIN.blocks if b.part == "ffn")
    layer = sum(b.weight_bytes for b in PLAIN.blocks if b.layer == 0)
    capacity = plan.board.tier("vram").capacity
    assert used <= capacity < used + layer
    with pytest.raises(DoesNotFitError):
        simulate(QUERY)
    assert simulate(QUERY, [parse("offload", TECHNIQUES)]).step_s > 0


def test_a_share_of_every_layer() -> None:
    plan = planned("offload:share=0.25,to=dram")
    for b in plan.blocks:
        if b.part in ("mixer", "ffn"):
            assert dict(b.weights) == pytest.approx({"vram": 0.25 * b.weight_bytes, "dram": 0.75 * b.weight_bytes})


def test_two_memories_one_after_the_other() -> None:
    query = Query(model="llama-3.1-70b", hw="pc_low", isl=128)
    plan = planned("offload:to=dram,then=flash", query=query)
    where = [dict(b.weights) for b in plan.blocks if b.part == "ffn"]
    order = [next(iter(w)) for w in where]
    assert order == sorted(order, key=["vram", "dram", "flash"].index)
    assert set(order) == {"vram", "dram", "flash"}


def test_blocks_given_to_another_engine_keep_their_work_and_take_their_memory_along() -> None:
    plan = planned("run_on:engine=cpu,parts=ffn")
    assert {b.engine for b in plan.blocks if b.part == "ffn"} == {"cpu"}
    assert {b.engine for b in plan.blocks if b.part != "ffn"} == {"gpu"}
    assert all(t == "dram" for b in plan.blocks if b.part == "ffn" for t, _ in b.weights)
    assert [b.ops for b in plan.blocks] == [b.ops for b in PLAIN.blocks]
    assert stored(plan) == pytest.approx(stored(PLAIN))


def test_techniques_compose_the_second_sees_what_the_first_left() -> None:
    plan = planned("run_on:engine=cpu", "offload:to=flash,layers=10")
    assert {b.engine for b in plan.blocks} == {"cpu"}
    assert {m.src for b in plan.blocks for m in b.moves} == {"flash"}
    assert {m.dst for b in plan.blocks for m in b.moves} == {"dram"}


@pytest.mark.parametrize(("text", "message"), [
    ("offload:layers=-3", "technique offload: layers: input should be greater than or equal to -1, found '-3'"),
    ("offload:share=1.5", "technique offload: share: input should be less than or equal to 1, found '1.5'"),
    ("offload:tier=dram", "technique offload: tier: unknown key"),
    ("offload:via", r"technique offload: expected key=value, found 'via'"),
    ("offlod", "unknown technique 'offlod'; nearest: offload"),
])
def test_settings_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text, TECHNIQUES)


def test_engines_and_parts_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"no engine 'npu'; it has gpu, cpu"):
        planned("run_on:engine=npu")
    with pytest.raises(ValueError, match=r"no block is of kind experts; the plan has embed, ffn, head, mixer"):
        planned("run_on:engine=cpu,parts=experts")


def test_a_layer_computed_in_two_parts_of_its_weights_gives_the_same() -> None:
    """What is fetched and what is kept are rows of one matrix: the two products side by side are the whole."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3, 16)), rng.normal(size=(16, 24))
    kept, fetched = w[:, :6], w[:, 6:]
    np.testing.assert_allclose(np.concatenate([x @ kept, x @ fetched], axis=1), x @ w)
