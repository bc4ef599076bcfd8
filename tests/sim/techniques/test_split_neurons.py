"""Hot and cold neurons on two engines: what is conserved, and what it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sim.plan.block import Block, Plan, check_memory
from sim.query import Query, resolve
from sim.simulate import plan_of, simulate
from sim.techniques import TECHNIQUES
from sim.techniques.technique import parse

SPARSE = "sparse_ffn:active=0.05,hot=0.17,mass=0.8,rank=64"
QUERY = Query(model="opt-6.7b", hw="pc_high", batch=1, isl=32, osl=8)


def plan(*techniques: str, query: Query = QUERY) -> Plan:
    return plan_of(resolve(query), [parse(t, TECHNIQUES) for t in techniques], phase="decode")


def block(p: Plan, name: str) -> Block:
    return next(b for b in p.blocks if b.name == name)


@pytest.mark.parametrize("by", ["activity", "chance"])
@pytest.mark.parametrize("batch", [1, 8])
def test_active_neurons_and_weights_add_up(by: str, batch: int) -> None:
    query = replace(QUERY, batch=batch)
    whole = block(plan(SPARSE, query=query), "layer 5 ffn")
    p = plan(SPARSE, f"split_neurons:hot=0.3,by={by}", query=query)
    hot, cold = block(p, "layer 5 ffn"), block(p, "layer 5 ffn cold")
    assert (hot.engine, cold.engine) == ("gpu", "cpu")
    assert hot.neurons
    assert cold.neurons
    assert whole.neurons
    assert hot.neurons.share(batch) + cold.neurons.share(batch) == pytest.approx(whole.neurons.share(batch), rel=2e-3)
    assert hot.weights == (("vram", pytest.approx(0.3 * whole.weight_bytes)),)
    assert cold.weights == (("dram", pytest.approx(0.7 * whole.weight_bytes)),)


def test_placement_by_activity_leaves_the_cpu_less_than_by_chance() -> None:
    shares = []
    for by in ("activity", "chance"):
        cold = block(plan(SPARSE, f"split_neurons:hot=0.3,by={by}"), "layer 5 ffn cold").neurons
        assert cold
        shares.append(cold.share(1))
    assert shares[0] < 0.3 * shares[1]
    assert shares[1] == pytest.approx(0.7 * 0.05, rel=1e-3)


def test_both_start_together_and_the_next_layer_needs_both() -> None:
    p = plan(SPARSE, "split_neurons:hot=0.3")
    assert block(p, "layer 5 ffn").after == block(p, "layer 5 ffn cold").after == ("layer 5 mixer", "layer 5 predictor")
    assert block(p, "layer 6 mixer").after == ("layer 5 ffn cold", "layer 5 ffn")


def test_whole_neurons_wait_for_no_predictor_and_are_all_computed() -> None:
    hot = block(plan(SPARSE, "split_neurons:hot=0.3,whole=true"), "layer 5 ffn")
    assert hot.after == ("layer 5 mixer",)
    assert hot.neurons
    assert hot.neurons.share(1) == pytest.approx(0.3)


def test_a_phone_gives_hot_ones_to_the_npu() -> None:
    query = Query(model="opt-6.7b", hw="snapdragon_8_gen_3", quant="q4_0", batch=1, isl=32, osl=8)
    p = plan("run_on:engine=cpu", SPARSE, "split_neurons:fast=npu,hot=0.3,whole=true", query=query)
    hot, cold = block(p, "layer 5 ffn"), block(p, "layer 5 ffn cold")
    assert (hot.engine, cold.engine) == ("npu", "cpu")
    assert hot.weights[0][0] == cold.weights[0][0] == "dram"


def test_as_many_as_the_memory_holds() -> None:
    query = replace(QUERY, sets=(("memory.gddr.capacity", "8 GB"),))
    p = plan(SPARSE, "split_neurons", query=query)
    check_memory(p)
    assert sum(p.resident()["vram"].values()) == pytest.approx(8e9, rel=1e-6)
    more = plan(SPARSE, "split_neurons:reserve=1 GB", query=query)
    assert sum(more.resident()["vram"].values()) == pytest.approx(7e9, rel=1e-6)


@pytest.mark.parametrize(("hot", "engine"), [(0.0, "cpu"), (1.0, "gpu")])
def test_the_ends_leave_one_block(hot: float, engine: str) -> None:
    p = plan(SPARSE, f"split_neurons:hot={hot}")
    parts = [b for b in p.blocks if b.part == "ffn" and b.layer == 5]
    assert [b.engine for b in parts] == [engine]
    assert parts[0].weight_bytes == pytest.approx(block(plan(SPARSE), "layer 5 ffn").weight_bytes)
    assert block(p, "layer 6 mixer").after == (parts[0].name,)


def test_time_falls_as_more_of_the_hot_ones_are_with_the_gpu() -> None:
    times = [simulate(QUERY, [parse(t, TECHNIQUES) for t in (SPARSE, f"split_neurons:hot={h}")], steps=2).step_s
             for h in (0.0, 0.1, 0.5)]
    assert times[0] > times[1] > times[2]


def test_attention_that_does_not_fit_goes_to_the_cpu_with_its_cache() -> None:
    query = replace(QUERY, sets=(("memory.gddr.capacity", "4 GB"),))
    p = plan("run_on:engine=cpu,parts=embed", SPARSE, "split_neurons", "offload:via=there,parts=mixer+predictor", query=query)
    check_memory(p)
    last = block(p, "layer 31 mixer")
    assert last.engine == "cpu"
    assert {t for t, _ in (*last.weights, *last.cache)} == {"dram"}
    assert not any(b.part == "ffn" and b.engine == "gpu" for b in p.blocks)


@pytest.mark.parametrize(("techniques", "message"), [
    (("split_neurons",), "technique split_neurons: no block has sparse neurons; give sparse_ffn before it"),
    ((SPARSE, "split_neurons:hot=1.2"), "technique split_neurons: hot: must be at most 1, found 1.2"),
    ((SPARSE, "split_neurons:cold=npu"), "pc_high: no engine 'npu'; it has gpu, cpu"),
])
def test_what_cannot_be_split_is_said(techniques: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(*techniques)
