"""A product for every group of weights: the same multiplications, partial results added, and the same values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.query import Query, resolve
from sim.simulate import plan_of, simulate
from sim.techniques.group_products import GroupProducts
from sim.techniques.split_ops import SplitOps
from workloads.ops import Elementwise, Gemm, Op

QUERY = Query(model="gpt2", hw="snapdragon_8_gen_3", isl=128, osl=2, quant="w8a8")
PRODUCT = Gemm(name="p", m=64.0, n=128.0, k=96.0, a="int8", w="int8", out="fp16")


def multiplications(ops: tuple[Op, ...]) -> float:
    return sum(float(np.prod([np.asarray(x) for x in (op.m, op.n, op.k, op.batch)])) for op in ops if isinstance(op, Gemm))


@given(group=st.integers(1, 200))
def test_multiplications_stay_and_partial_results_are_summed(group: int) -> None:
    made = GroupProducts(group=group).split(PRODUCT)
    assert multiplications(made) == pytest.approx(multiplications((PRODUCT,)))
    if group >= 96:
        assert made == (PRODUCT,)
        return
    product, total = made
    assert isinstance(total, Elementwise)
    assert isinstance(product, Gemm)
    assert product.k == pytest.approx(min(group, 96))
    assert total.bytes_read == pytest.approx(96 / group * 64 * 128 * 4)
    assert total.bytes_written == 64 * 128 * 2


def test_only_stored_products_of_its_engine_are_split() -> None:
    split = SplitOps(rest="cpu")
    before = plan_of(resolve(QUERY), [split], phase="prefill")
    after = plan_of(resolve(QUERY), [split, GroupProducts(group=32)], phase="prefill")
    for b, a in zip(before.blocks, after.blocks, strict=True):
        assert (b.ops == a.ops) == (b.engine != "npu" or not 0 <= b.layer < 12)
        assert a.weights == b.weights
    assert plan_of(resolve(QUERY), [split, GroupProducts(group=32, engine="cpu")], phase="prefill").blocks == before.blocks


def test_smaller_groups_cost_more() -> None:
    times = [simulate(QUERY, [GroupProducts(group=g)], phase="prefill").step_s for g in (16, 32, 128, 4096)]
    assert times[0] > times[1] > times[2] > times[3]
    assert times[3] == simulate(QUERY, phase="prefill").step_s


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), group=st.sampled_from([4, 8, 16]))
def test_integer_products_of_groups_give_the_same_values(seed: int, group: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.integers(-127, 128, (5, 48)), rng.integers(-127, 128, (48, 6))
    scales = rng.random((48 // group, 6))
    whole = x @ (w * np.repeat(scales, group, axis=0))
    parts = sum((x[:, g * group:(g + 1) * group] @ w[g * group:(g + 1) * group]) * scales[g] for g in range(48 // group))
    np.testing.assert_allclose(parts, whole, rtol=1e-9, atol=1e-6)
