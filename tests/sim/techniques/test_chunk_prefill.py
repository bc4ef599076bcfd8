"""Prompts in chunks: what passes through the layers, what is attended to, and when."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim.plan.block import Plan
from sim.query import Query, resolve
from sim.simulate import plan_of, simulate
from sim.techniques.chunk_prefill import ChunkPrefill
from sim.techniques.offload import Offload
from sim.techniques.run_on import RunOn
from sim.techniques.split_ops import SplitOps
from sim.techniques.technique import Technique
from workloads.ops import Attention, Gemm

SETTING = resolve(Query(model="gpt2", hw="snapdragon_8_gen_3", isl=512, osl=2, quant="w8a8"))


def planned(isl: int, *techniques: Technique, phase: str = "prefill") -> Plan:
    setting = resolve(Query(model="gpt2", hw="snapdragon_8_gen_3", isl=isl, osl=2, quant="w8a8"))
    return plan_of(setting, techniques, phase=phase)


def rows(plan: Plan, name: str) -> float:
    """Rows that products of a name have in all, layer 0."""
    return sum(float(np.asarray(op.m)) for b in plan.blocks if b.layer == 0 for op in b.ops
               if isinstance(op, Gemm) and op.name.endswith(name))


def pairs(plan: Plan) -> float:
    """Query-key pairs of layer 0, each query with all before it and itself."""
    found = [(float(np.asarray(op.q_len)), float(np.asarray(op.kv_len))) for b in plan.blocks if b.layer == 0 for op in b.ops
             if isinstance(op, Attention)]
    return sum(q * (kv - q) + q * (q + 1) / 2 for q, kv in found)


@settings(max_examples=12, deadline=None)
@given(isl=st.integers(1, 700), chunk=st.integers(16, 300))
def test_every_token_passes_once_and_attends_to_all_before_it(isl: int, chunk: int) -> None:
    padded = math.ceil(isl / chunk) * chunk
    cut, whole = planned(isl, ChunkPrefill(chunk=chunk)), planned(padded)
    assert rows(cut, "qkv") == padded == rows(whole, "qkv")
    assert pairs(cut) == padded * (padded + 1) / 2 == pairs(whole)
    assert sum(b.weight_bytes for b in cut.blocks) == sum(b.weight_bytes for b in whole.blocks)
    assert sum(b.cache_bytes for b in cut.blocks) == sum(b.cache_bytes for b in whole.blocks)
    assert sum(b.part == "head" for b in cut.blocks) == 1


def test_one_chunk_is_the_prompt_and_more_take_longer_in_order() -> None:
    query = SETTING.query
    plain = simulate(query, phase="prefill").step_s
    assert simulate(query, [ChunkPrefill(chunk=512)], phase="prefill").step_s == plain
    assert simulate(query, [ChunkPrefill(chunk=128, reorder=False)], phase="prefill").step_s > plain


@pytest.mark.parametrize(("isl", "chunk", "model"), [
    (257, 64, "gpt2"), (512, 256, "gpt2"), (900, 128, "gpt2"), (512, 256, "qwen1.5-1.8b")])
def test_out_of_order_is_never_later(isl: int, chunk: int, model: str) -> None:
    """Blocks wait for less; and where they run on two engines, they end sooner."""
    query = Query(model=model, hw="snapdragon_8_gen_3", isl=isl, osl=2, quant="w8a8")
    split = SplitOps(rest="cpu")
    cuts = [ChunkPrefill(chunk=chunk, reorder=r) for r in (False, True)]
    in_order, free = (simulate(query, [cut, split], phase="prefill").step_s for cut in cuts)
    assert free < in_order
    alone = [simulate(query, [cut], phase="prefill").step_s for cut in cuts]
    assert alone[1] == pytest.approx(alone[0], rel=1e-9)     # one engine: nothing to overlap


def test_a_layer_waits_for_the_one_below_and_for_the_chunk_before() -> None:
    cut = planned(100, ChunkPrefill(chunk=50))
    by_name = {b.name: b for b in cut.blocks}
    assert by_name["chunk 1 layer 3 mixer"].after == ("chunk 1 layer 2 ffn", "chunk 0 layer 3 mixer")
    assert by_name["chunk 1 layer 3 ffn"].after == ("chunk 1 layer 3 mixer",)
    strict = {b.name: b for b in planned(100, ChunkPrefill(chunk=50, reorder=False)).blocks}
    assert strict["chunk 1 embed"].after == ("chunk 0 layer 11 ffn",)


def test_it_composes_with_places() -> None:
    there = planned(300, ChunkPrefill(chunk=100), RunOn(engine="cpu", phase="prefill"))
    assert {b.engine for b in there.blocks} == {"cpu"}
    away = planned(300, ChunkPrefill(chunk=100), Offload(to="flash", layers=0))
    stored = sum(n for b in away.blocks for t, n in b.weights if t == "flash")
    assert stored == sum(b.weight_bytes for b in planned(300).blocks if b.part in ("mixer", "ffn"))
    simulate(SETTING.query, [ChunkPrefill(chunk=256), Offload(to="flash", layers=0)], phase="prefill")


def test_what_it_refuses_and_what_it_leaves_alone() -> None:
    assert planned(64, ChunkPrefill(chunk=32), phase="decode").blocks == planned(64, phase="decode").blocks
    prefixed = resolve(Query(model="gpt2", hw="snapdragon_8_gen_3", isl=64, osl=2, prefix=16))
    with pytest.raises(ValueError, match="chunk_prefill: only a plain prefill without prefix can be cut"):
        plan_of(prefixed, [ChunkPrefill(chunk=32)], phase="prefill")


def attended(q: NDArray[np.float64], k: NDArray[np.float64], v: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """Causal attention of queries from position ``first`` on, over all keys up to their own position."""
    scores = q @ k.T / math.sqrt(q.shape[1])
    at = first + np.arange(len(q))[:, None]
    scores = np.where(np.arange(len(k)) <= at, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True) @ v
    return found


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 40), chunk=st.integers(1, 17), seed=st.integers(0, 99))
def test_chunked_attention_gives_the_same_values(length: int, chunk: int, seed: int) -> None:
    """The last chunk padded, its padding cut off again."""
    q, k, v = np.random.default_rng(seed).normal(size=(3, length, 8))
    whole = attended(q, k, v, 0)
    padded = math.ceil(length / chunk) * chunk
    fill = np.zeros((padded - length, 8))
    q, k, v = (np.concatenate([x, fill]) for x in (q, k, v))
    parts = [attended(q[c:c + chunk], k[:c + chunk], v[:c + chunk], c) for c in range(0, padded, chunk)]
    np.testing.assert_allclose(np.concatenate(parts)[:length], whole, rtol=1e-12)
