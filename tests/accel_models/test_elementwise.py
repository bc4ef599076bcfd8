"""Laws of the elementwise formula that hold for all inputs, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.cost.elementwise import BORROWS, elementwise
from accel_models.cost.terms import attribute
from accel_models.fitted_store import load, lookup
from workloads.ops import ELEMENTWISE_KINDS

HW = {"dram_bandwidth": 2e12, "l2_bandwidth": 5e12, "l2_capacity": 40e6, "n_units": 108.0}
KEYWORDS = {**HW, "launch": 1e-6, "efficiency": 0.8, "l2_efficiency": 0.4, "l2_share": 0.5, "unit_rate": 3e10,
            "row_blocks": 4.0, "row_time": 1e-7, "passes": 0.5, "overhead": 2e-6, "sharpness": 4.0}

shapes = st.tuples(st.integers(1, 200_000), st.integers(1, 30_000), st.integers(1, 10))


def cost(shape: tuple[int, int, int], **kw: object):  # type: ignore[no-untyped-def]
    rows, cols, width = shape
    return elementwise(rows, cols, rows * cols * width, rows * cols * width, **{**KEYWORDS, **kw})  # type: ignore[arg-type]


@given(st.lists(shapes, min_size=2, max_size=6))
def test_an_array_holds_what_each_scalar_gives(many: list[tuple[int, int, int]]) -> None:
    rows, cols, width = (np.array(x, dtype=float) for x in zip(*many, strict=True))
    whole = elementwise(rows, cols, rows * cols * width, rows * cols * width, **KEYWORDS)
    for i, shape in enumerate(many):
        one = cost(shape)
        for a, b in zip(whole, one, strict=True):
            np.testing.assert_allclose(np.broadcast_to(a, rows.shape)[i], b, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(KEYWORDS))
def test_every_keyword_may_be_an_array(name: str) -> None:
    values = KEYWORDS[name] * np.array([0.5, 1.0, 2.0])
    got = cost((4096, 4096, 2), **{name: values}).time
    assert got.shape == (3,)
    np.testing.assert_allclose(got, [float(cost((4096, 4096, 2), **{name: v}).time) for v in values], rtol=1e-12)


@settings(max_examples=200)
@given(shapes, st.sampled_from(["dram_bandwidth", "l2_bandwidth", "l2_capacity", "n_units", "unit_rate", "efficiency"]),
       st.floats(1.0, 100.0))
def test_more_hardware_never_costs_more(shape: tuple[int, int, int], name: str, factor: float) -> None:
    assert cost(shape, **{name: KEYWORDS[name] * factor}).time <= cost(shape).time * (1 + 1e-12)


@settings(max_examples=200)
@given(shapes, st.integers(0, 2), st.floats(1.0, 50.0))
def test_more_work_never_costs_less(shape: tuple[int, int, int], axis: int, factor: float) -> None:
    more = tuple(x * factor if i == axis else x for i, x in enumerate(shape))
    assert cost(more).time >= cost(shape).time * (1 - 1e-12)  # type: ignore[arg-type]


@given(shapes)
def test_terms_add_up(shape: tuple[int, int, int]) -> None:
    c = cost(shape)
    np.testing.assert_allclose(sum(attribute(c).values()), c.time, rtol=1e-9)


def test_zero_work_costs_the_launch_alone() -> None:
    c = elementwise(0, 0, 0, 0, **KEYWORDS)
    assert np.isfinite(c.time)
    assert c.time == pytest.approx(3e-6)


def test_large_kernels_run_at_the_dram_rate_and_small_ones_from_l2() -> None:
    free = {"overhead": 0.0, "launch": 0.0, "row_time": 0.0, "passes": 0.0, "unit_rate": 1e15}
    big = cost((100_000, 50_000, 2), **free)
    assert big.time == pytest.approx(big.nbytes / (2e12 * 0.8), rel=0.01)
    small = cost((1000, 1000, 2), **free)
    assert small.time == pytest.approx(small.nbytes / (5e12 * 0.4), rel=0.05)


def test_one_row_is_limited_by_one_processor() -> None:
    one = cost((1, 10_000_000, 2), row_blocks=1.0)
    many = cost((1000, 10_000, 2), row_blocks=1.0)
    assert one.time > 20 * many.time
    assert one.tail > one.memory


def test_without_a_cache_everything_comes_from_memory() -> None:
    assert cost((100, 100, 2), l2_capacity=0.0).memory == pytest.approx(100 * 100 * 4 / (2e12 * 0.8))


def test_every_kind_of_op_has_fitted_parameters_on_any_device() -> None:
    for kind in ELEMENTWISE_KINDS:
        for device, generation in (("a100_80gb", "ampere"), ("never_measured", "")):
            found = lookup("elementwise", BORROWS[kind], device, generation)
            c = cost((4096, 4096, 2), **found.params.values)
            assert 1e-6 < c.time < 1e-3, kind
            assert found.params.lo["all"] < 1.4
            assert found.params.hi["all"] > 0.7


def test_sets_named_after_no_framework_hold_no_eager_overhead() -> None:
    for s in load("elementwise").set:
        if not s.framework:
            assert s.values["overhead"] <= 2e-5, (s.variant, s.device)
