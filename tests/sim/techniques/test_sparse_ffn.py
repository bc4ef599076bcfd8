"""Sparse feed-forward parts and their predictors in a plan."""

from __future__ import annotations

import numpy as np
import pytest

from sim.plan.block import Block, Plan
from sim.query import Query, resolve
from sim.simulate import plan_of, simulate
from sim.techniques import TECHNIQUES
from sim.techniques.technique import parse
from workloads.ops import Gemm, Moe

SPARSE = "sparse_ffn:active=0.05,hot=0.17,mass=0.8,rank=64"


def plan(*techniques: str, model: str = "opt-1.3b", hw: str = "h100_sxm", batch: int = 1) -> Plan:
    setting = resolve(Query(model=model, hw=hw, batch=batch, isl=32, osl=8))
    return plan_of(setting, [parse(t, TECHNIQUES) for t in techniques], phase="decode")


def block(p: Plan, name: str) -> Block:
    return next(b for b in p.blocks if b.name == name)


def gemm_flops(b: Block) -> float:
    return sum(2 * float(np.asarray(op.m * op.n * op.k)) for op in b.ops if isinstance(op, Gemm))  # type: ignore[operator]


def test_work_falls_to_the_active_share_and_weights_stay() -> None:
    dense, sparse = block(plan(), "layer 0 ffn"), block(plan(SPARSE), "layer 0 ffn")
    assert gemm_flops(sparse) == pytest.approx(0.05 * gemm_flops(dense), rel=1e-3)
    assert sparse.weights == dense.weights
    assert [b for b in plan(SPARSE).blocks if b.part == "mixer"] == [b for b in plan().blocks if b.part == "mixer"]


def test_a_batch_costs_the_sum_of_its_tokens() -> None:
    one, eight = (gemm_flops(block(plan(SPARSE, batch=b), "layer 0 ffn")) for b in (1, 8))
    assert eight == pytest.approx(8 * one, rel=1e-3)


def test_the_predictor_runs_first_on_the_same_input() -> None:
    p = plan(SPARSE)
    predictor, ffn = block(p, "layer 3 predictor"), block(p, "layer 3 ffn")
    assert ffn.after == ("layer 3 mixer", "layer 3 predictor")
    assert predictor.after == ("layer 3 mixer",)
    hidden, inter = 2048, 8192
    assert predictor.weight_bytes == 64 * (hidden + inter) * 2
    assert gemm_flops(predictor) == 2 * 64 * (hidden + inter)
    assert predictor.out_bytes == inter / 8


def test_a_gate_counts_neurons_once() -> None:
    gated = block(plan(SPARSE, model="llama-2-7b"), "layer 0 predictor")
    assert gated.weight_bytes == 64 * (4096 + 11008) * 2


def test_without_a_rank_nothing_is_predicted() -> None:
    p = plan("sparse_ffn:active=0.05,hot=0.17,mass=0.8,rank=0")
    assert not any(b.part == "predictor" for b in p.blocks)


def test_experts_are_sparse_inside() -> None:
    dense, sparse = (block(plan(*t, model="mistralai/Mixtral-8x7B-v0.1"), "layer 0 experts")
                     for t in ((), ("sparse_ffn:active=0.25,hot=1,mass=1,rank=8",)))
    inter = [float(np.asarray(op.inter)) for b in (dense, sparse) for op in b.ops if isinstance(op, Moe)]
    assert inter[1] == pytest.approx(inter[0] / 4)
    predictor = block(plan("sparse_ffn:active=0.25,hot=1,mass=1,rank=8", model="mistralai/Mixtral-8x7B-v0.1"),
                      "layer 0 predictor")
    assert predictor.weight_bytes == 8 * (4096 + 8 * 14336) * 2        # lies there for all experts,
    assert gemm_flops(predictor) == 2 * 8 * (4096 + 2 * 14336)         # and runs for the two of a token


def test_fewer_active_neurons_are_never_slower() -> None:
    query = Query(model="opt-1.3b", hw="h100_sxm", batch=1, isl=32, osl=8)
    times = [simulate(query, [parse(f"sparse_ffn:active={a},hot=1,mass=1,rank=0", TECHNIQUES)], steps=2).step_s
             for a in (0.05, 0.3, 1.0)]
    dense = simulate(query, steps=2).step_s
    assert times[0] < times[1] < times[2] == pytest.approx(dense)


@pytest.mark.parametrize(("text", "message"), [
    ("sparse_ffn:active=1.5,hot=0.2,mass=0.8,rank=8", "active"),
    ("sparse_ffn:hot=0.2,mass=0.8,rank=8", "active"),
])
def test_settings_are_checked(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text, TECHNIQUES)


def test_a_network_without_feed_forward_parts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"technique sparse_ffn: .* has no feed-forward part"):
        plan(SPARSE, model="state-spaces/mamba2-2.7b", hw="a100_sxm4_80gb")
