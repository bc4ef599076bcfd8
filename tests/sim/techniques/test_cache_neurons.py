"""Neurons fetched from storage: what is read, in which requests, and what may go on meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.plan.block import Block, Move, Plan
from sim.query import Query, resolve
from sim.simulate import plan_of, simulate
from sim.techniques import TECHNIQUES
from sim.techniques.cache_neurons import trace_misses
from sim.techniques.technique import parse
from workloads.ops import Elementwise, Gemm

QUERY = Query(model="llama-2-7b", hw="snapdragon_8_gen_3", quant="q4_0", batch=1, isl=32, osl=8)
CPU = "run_on:engine=cpu"
SPARSE = "sparse_ffn:active=0.1,hot=0.2,mass=0.7,rank=64"
NEURONS, LAYERS = 11008, 32


def plan(*techniques: str, query: Query = QUERY, step: int = 0, seed: int = 0) -> Plan:
    return plan_of(resolve(query), [parse(t, TECHNIQUES) for t in techniques], phase="decode", step=step, seed=seed)


def block(p: Plan, name: str = "layer 5 ffn") -> Block:
    return next(b for b in p.blocks if b.name == name)


def moves(cache: str, *, step: int = 0) -> tuple[Move, ...]:
    return block(plan(CPU, SPARSE, f"cache_neurons:{cache}", step=step)).moves


def flops(*blocks: Block) -> float:
    return sum(2 * float(np.asarray(op.m * op.n * op.k)) for b in blocks  # type: ignore[operator]
               for op in b.ops if isinstance(op, Gemm))


EACH = block(plan(CPU)).weight_bytes / NEURONS           # bytes of a neuron: three rows


def test_without_a_cache_every_active_neuron_is_read() -> None:
    (move,) = moves("policy=chance,size=0,reuse=0")
    assert move.nbytes == pytest.approx(0.1 * NEURONS * EACH, rel=1e-3)
    assert (move.src, move.dst, move.scattered) == ("flash", "dram", True)
    assert move.after == ("layer 5 predictor",)
    assert move.chunk == pytest.approx(EACH)


def test_a_fixed_half_misses_half_of_what_is_used() -> None:
    (move,) = moves("policy=chance,size=0.5,reuse=0")
    assert move.nbytes == pytest.approx(0.05 * NEURONS * EACH, rel=0.15)


def test_bundles_are_fewer_and_larger_requests_for_the_same_bytes() -> None:
    (whole,), (rows,) = moves("policy=chance,size=0,reuse=0"), moves("policy=chance,size=0,reuse=0,bundle=false")
    assert rows.nbytes == pytest.approx(whole.nbytes)
    assert rows.chunk == pytest.approx(whole.chunk / 3)


def test_records_fill_whole_blocks() -> None:
    (whole,) = moves("policy=chance,size=0,reuse=0,align=4 KiB")
    (rows,) = moves("policy=chance,size=0,reuse=0,bundle=false,align=4 KiB")
    assert 4096 < EACH < 8192                            # 3 rows of 4096 weights of 4.5 bits
    assert (whole.chunk, rows.chunk) == (8192, 4096)
    assert whole.nbytes == pytest.approx(0.1 * NEURONS * 8192, rel=1e-3)
    assert rows.nbytes == pytest.approx(0.1 * NEURONS * 3 * 4096, rel=1e-3)


def test_the_second_half_is_read_for_those_that_need_it() -> None:
    first, second = moves("policy=chance,size=0,reuse=0,align=8 KiB,rest=0.8")
    assert (first.chunk, second.chunk) == (4096, 4096)
    assert first.nbytes == pytest.approx(0.1 * NEURONS * 4096, rel=1e-3)
    assert second.nbytes == pytest.approx(0.8 * first.nbytes)


def test_a_window_reads_less_than_no_cache_and_holds_what_it_saved() -> None:
    (move,) = moves("policy=window,window=5,reuse=0.3")
    assert move.nbytes < 0.4 * 0.1 * NEURONS * EACH
    held = plan(CPU, SPARSE, "cache_neurons:policy=window,window=5,reuse=0.3").resident()["dram"]["neuron cache"]
    assert 0.1 < held / (LAYERS * NEURONS * EACH) < 0.4


def test_locality_and_window_of_opt_as_published() -> None:
    """10 % used by a token, 24 % by five (LLM in a flash, section 4.1): then 2.4 % are new, by the locality measured in
    another paper (26 % of a block's neurons make 80 %, PowerInfer)."""
    query = replace(QUERY, model="opt-6.7b")
    cached = plan(CPU, "sparse_ffn:active=0.1,hot=0.26,mass=0.8,rank=128", "cache_neurons:policy=window,window=5,reuse=0.15",
                  query=query)
    stored = sum(b.weight_bytes for b in cached.blocks if b.part == "ffn")
    assert cached.resident()["dram"]["neuron cache"] / stored == pytest.approx(0.24, rel=0.06)
    assert sum(m.nbytes for b in cached.blocks for m in b.moves) / stored == pytest.approx(0.024, rel=0.15)


def test_weights_stay_stored_and_the_cache_takes_room() -> None:
    p = plan(CPU, SPARSE, "cache_neurons:policy=lru,size=0.5,reuse=0.3")
    assert block(p).weights == (("flash", pytest.approx(NEURONS * EACH)),)
    assert p.resident()["dram"]["neuron cache"] == pytest.approx(0.5 * LAYERS * NEURONS * EACH, rel=1e-3)
    assert p.resident()["flash"]["weights"] == pytest.approx(LAYERS * NEURONS * EACH)


def test_found_and_fetched_neurons_do_all_the_work() -> None:
    cache = "cache_neurons:policy=lru,size=0.5,reuse=0.3"
    p = plan(CPU, SPARSE, f"{cache},overlap=true")
    found, rest = block(p, "layer 5 ffn found"), block(p)
    assert flops(found, rest) == pytest.approx(flops(block(plan(CPU, SPARSE, cache))))
    assert flops(rest) < 0.3 * flops(found)
    assert found.moves == ()
    assert rest.after == ("layer 5 mixer", "layer 5 predictor", "layer 5 ffn found")
    assert rest.moves[0].after == ("layer 5 predictor",)          # reading does not wait for computing


def test_a_pipeline_hides_reading_and_a_deeper_queue_shortens_it() -> None:
    def seconds(cache: str) -> float:
        chosen = (CPU, SPARSE, f"cache_neurons:policy=lru,size=0.5,reuse=0.3,{cache}")
        return simulate(QUERY, [parse(t, TECHNIQUES) for t in chosen], steps=2).step_s
    waits, goes_on, alone = seconds("depth=32"), seconds("depth=32,overlap=true"), seconds("depth=1")
    assert goes_on < waits < alone
    compute = simulate(QUERY, [parse(t, TECHNIQUES) for t in (CPU, SPARSE)], steps=2).step_s
    assert compute < goes_on


def test_copies_are_work_in_memory() -> None:
    p = plan(CPU, SPARSE, "cache_neurons:policy=chance,size=0,reuse=0,copies=2")
    copy = block(p).ops[0]
    assert isinstance(copy, Elementwise)
    assert copy.bytes_read == copy.bytes_written == pytest.approx(2 * 0.1 * NEURONS * EACH, rel=1e-3)


def test_a_batch_misses_the_union() -> None:
    one, eight = (sum(m.nbytes for m in block(plan(CPU, SPARSE, "cache_neurons:policy=chance,size=0,reuse=0",
                                                   query=replace(QUERY, batch=b))).moves) for b in (1, 8))
    assert 3 * one < eight < 8 * one


def test_steps_follow_one_trace() -> None:
    cache = "cache_neurons:policy=lru,size=0.3,reuse=0.3"
    first, again, later, other = (block(plan(CPU, SPARSE, cache, step=s, seed=x)).moves[0].nbytes
                                  for s, x in ((0, 0), (0, 0), (1, 0), (0, 1)))
    assert first == again
    assert len({first, later, other}) == 3


def test_only_cold_neurons_are_cached_beside_whole_ones() -> None:
    p = plan(CPU, SPARSE, "split_neurons:fast=npu,hot=0.2,whole=true", "cache_neurons:policy=lru,size=0.3,reuse=0.3")
    hot, cold = block(p), block(p, "layer 5 ffn cold")
    assert hot.moves == ()
    assert hot.weights == (("dram", pytest.approx(0.2 * NEURONS * EACH)),)
    assert cold.weights == (("flash", pytest.approx(0.8 * NEURONS * EACH)),)
    assert 0 < cold.moves[0].nbytes < 0.03 * 0.8 * NEURONS * EACH + 0.03 * NEURONS * EACH


def test_only_the_engine_asked_for() -> None:
    query = replace(QUERY, hw="pc_high")
    p = plan(SPARSE, "split_neurons:hot=0.2", "cache_neurons:engine=cpu,policy=lru,size=0.3,reuse=0.3", query=query)
    assert block(p).moves == ()
    assert block(p, "layer 5 ffn cold").moves[0].dst == "dram"


def test_a_trace_of_ones_own(tmp_path: Path) -> None:
    trace = np.zeros((3, LAYERS, NEURONS), bool)
    trace[:, :, :100] = True
    trace[2, 5, 100:150] = True                           # new in the last step, in layer 5 alone
    np.save(tmp_path / "t.npy", trace)
    cache = f"cache_neurons:policy=lru,size=0.5,trace={tmp_path / 't.npy'},warm=1"
    after = [sum(m.nbytes for m in block(plan(CPU, SPARSE, cache, step=1), f"layer {i} ffn").moves) for i in (4, 5)]
    assert after[0] == 0
    assert after[1] == pytest.approx(50 / 150 * 0.1 * NEURONS * EACH, rel=1e-3)
    with pytest.raises(ValueError, match=r"cache_neurons: trace: .*t.npy has 3 steps, 4 are needed \(warm 1\)"):
        plan(CPU, SPARSE, cache, step=2)


@pytest.mark.parametrize(("cache", "message"), [
    ("policy=lru,size=0.5", "give either reuse or a trace file"),
    ("policy=lru,size=0.5,reuse=0.1,trace=x.npy", "give either reuse or a trace file"),
    ("policy=lfu,size=0.5,reuse=0.1", "policy"),
    ("policy=lru,size=1.5,reuse=0.1", "size"),
    ("policy=lru,size=0.5,reuse=0.1,depth=0", "depth"),
])
def test_settings_are_checked(cache: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(f"cache_neurons:{cache}", TECHNIQUES)


@pytest.mark.parametrize(("techniques", "message"), [
    (("cache_neurons:reuse=0.1",), "technique cache_neurons: no block has sparse neurons; give sparse_ffn before it"),
    ((SPARSE, "cache_neurons:reuse=0.1,engine=gpu"), "no block has sparse neurons on gpu"),
    ((SPARSE, "cache_neurons:reuse=0.1,store=disk"), "snapdragon_8_gen_3: no memory 'disk'"),
    ((SPARSE, "cache_neurons:trace=/none.npy"), "/none.npy: not a readable .npy file"),
])
def test_what_cannot_be_cached_is_said(techniques: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(CPU, *techniques)


def test_biases_and_shared_parts_stay_beside() -> None:
    """A bias stored with its neuron would make each record of OPT-6.7B a page longer than its two rows of 8 KiB."""
    query = replace(QUERY, model="opt-6.7b", quant="fp16")
    dense, cached = (block(plan(CPU, *t, query=query)) for t in ((), (SPARSE, "cache_neurons:policy=lru,size=0.3,reuse=0.3")))
    assert cached.moves[0].chunk == 2 * 4096 * 2
    stored = dict(cached.weights)
    assert stored["flash"] == 16384 * 2 * 4096 * 2
    assert stored["dram"] == dense.weight_bytes - stored["flash"] > 0


def test_a_long_run_makes_its_trace_once() -> None:
    """Not one a step, each a step longer: the time to plan would grow with the square of the steps."""
    trace_misses.cache_clear()
    for step in range(0, 24, 4):                       # 41 to 61 tokens of the trace
        plan(CPU, SPARSE, "cache_neurons:size=0.3,reuse=0.5,warm=40", step=step)
    assert trace_misses.cache_info().misses == 1
