"""Outlier channels in float beside an integer product: what is added, who waits, and that the sum is the product."""

from __future__ import annotations

from collections import Counter

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
from sim.techniques.outliers import Outliers
from sim.techniques.run_on import RunOn
from sim.techniques.split_ops import SplitOps
from sim.techniques.technique import Technique
from workloads.ops import Gemm

QUERY = Query(model="gpt2", hw="snapdragon_8_gen_3", isl=128, osl=2, quant="w8a8")
SPLIT = SplitOps(rest="cpu")


def planned(*techniques: Technique, phase: str = "prefill") -> Plan:
    return plan_of(resolve(QUERY), techniques, phase=phase)


def products(plan: Plan, engine: str) -> Counter[Gemm]:
    return Counter(op for b in plan.blocks if b.engine == engine for op in b.ops if isinstance(op, Gemm))


def size(op: Gemm) -> float:
    return float(np.asarray(op.k)) * float(np.asarray(op.n))


def seconds(*techniques: Technique) -> float:
    return simulate(QUERY, techniques, phase="prefill").step_s


@pytest.mark.parametrize("pruned", [0.0, 0.5, 0.85, 1.0])
def test_products_stay_and_float_products_of_the_outliers_are_added(pruned: float) -> None:
    before, after = planned(SPLIT), planned(SPLIT, Outliers(share=0.02, pruned=pruned))
    assert products(after, "npu") == products(before, "npu")
    kept = {b.layer for b in after.blocks if b.name.endswith(" outside")}
    assert len(kept) == round((1 - pruned) * 12)
    added = [op for op in products(after, "cpu").elements() if op.name.endswith(" outliers")]
    whole = [op for b in before.blocks if b.layer in kept for op in b.ops if isinstance(op, Gemm) and op.static]
    assert len(added) == len(whole)
    assert sum(map(size, added)) == pytest.approx(0.02 * sum(map(size, whole)))
    copies = sum(b.weight_bytes for b in after.blocks) - sum(b.weight_bytes for b in before.blocks)
    assert copies == pytest.approx(2 * sum(map(size, added)))


def test_the_outermost_layers_keep_theirs() -> None:
    assert Outliers(share=0.1, pruned=0.5).layers(8) == {0, 1, 6, 7}
    assert Outliers(share=0.1, pruned=0.85).layers(24) == {0, 1, 22, 23}
    assert Outliers(share=0.1, pruned=0).layers(3) == {0, 1, 2}


def test_who_waits_for_whom() -> None:
    after = {b.name: b for b in planned(SPLIT, Outliers(share=0.02, pruned=0, sync=1e-3)).blocks}
    product = next(n.removesuffix(" inside") for n in after if n.startswith("layer 4 ffn") and n.endswith(" inside"))
    total, inside, outside = (after[product + x] for x in ("", " inside", " outside"))
    assert total.after == (inside.name, outside.name)
    assert inside.after == outside.after                       # side by side
    assert (inside.engine, outside.engine, total.engine) == ("npu", "cpu", "cpu")
    assert total.sync_s == 1e-3
    waiting = [b for b in after.values() if product in b.after]
    assert waiting
    assert all(b not in (inside, outside) for b in waiting)


def test_handing_over_costs_what_it_is_said_to_cost() -> None:
    """One chunk: nothing overlaps, so every sum delays the prompt by all of it."""
    free, dear = (seconds(SPLIT, Outliers(share=0.02, pruned=0.5, sync=s)) for s in (0.0, 1e-3))
    sums = sum(b.name.endswith(" inside") for b in planned(SPLIT, Outliers(share=0.02, pruned=0.5)).blocks)
    assert dear - free == pytest.approx(sums * 1e-3, rel=1e-6)
    assert seconds(SPLIT) < free < seconds(SPLIT, Outliers(share=0.02, pruned=0))
    assert seconds(SPLIT, Outliers(share=0.02, pruned=1)) == seconds(SPLIT)


def test_it_composes_with_chunks_and_places() -> None:
    chunks = planned(ChunkPrefill(chunk=64), SPLIT, Outliers(share=0.02, pruned=0))
    assert sum(b.name.endswith(" outside") for b in chunks.blocks) == 2 * sum(
        b.name.endswith(" outside") for b in planned(SPLIT, Outliers(share=0.02, pruned=0)).blocks)
    copies = [b.weight_bytes for b in chunks.blocks if b.name.endswith(" outside") and b.name.startswith("chunk 1")]
    assert not any(copies)                                     # stored once
    away = planned(SPLIT, Outliers(share=0.02, pruned=0), Offload(to="flash", layers=0))
    away.check()
    moved = planned(RunOn(engine="cpu", phase="decode"), SPLIT, Outliers(share=0.02, pruned=0), phase="decode")
    assert {b.engine for b in moved.blocks} == {"cpu"}         # no product is left beside which there could be one
    assert not any(b.name.endswith(" outside") for b in moved.blocks)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match=r"block 'layer 0 mixer' does more than multiply; list split_ops with rest=cpu"):
        planned(Outliers(share=0.02, pruned=0))
    with pytest.raises(ValueError, match="engine: must be another than that of the products, found 'npu'"):
        planned(SPLIT, Outliers(share=0.02, pruned=0, engine="npu"))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), outliers=st.integers(0, 5))
def test_both_parts_sum_up_to_the_product(seed: int, outliers: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.normal(size=(7, 32)), rng.normal(size=(32, 11))
    channels = rng.choice(32, outliers, replace=False)
    x[:, channels] *= 50
    inside = x.copy()
    inside[:, channels] = 0
    found = inside @ w + x[:, channels] @ w[channels]
    np.testing.assert_allclose(found, x @ w, rtol=1e-9, atol=1e-9)


def test_one_scale_without_the_outliers_errs_less() -> None:
    """Why it is done: int8 with one scale for all channels, with outliers inside and with them beside."""
    def int8(a: NDArray[np.float64]) -> NDArray[np.float64]:
        scale = np.abs(a).max() / 127
        return np.asarray(np.round(a / scale) * scale)

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(64, 256)), rng.normal(size=(256, 32))
    x[:, :2] *= 60
    inside = x.copy()
    inside[:, :2] = 0
    true = x @ w
    together = np.abs(int8(x) @ w - true).mean()
    beside = np.abs(int8(inside) @ w + x[:, :2] @ w[:2] - true).mean()
    assert beside < together / 20
