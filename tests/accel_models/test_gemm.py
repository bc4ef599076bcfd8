"""Laws of the matrix-product formula: broadcasting, bounds, monotonicity, limits, speed."""

from __future__ import annotations

import inspect
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models import fitted_store
from accel_models.cost.gemm import CHUNK, gemm, residency
from accel_models.cost.terms import attribute

HW = {"peak": 312e12, "vector_peak": 19.5e12, "n_units": 108.0, "dram_bandwidth": 2.039e12, "l2_bandwidth": 5.4e12,
      "l2_capacity": 40 * 2.0**20}
KEYWORDS = [p.name for p in inspect.signature(gemm).parameters.values() if p.kind is p.KEYWORD_ONLY]
DEFAULTS = {p.name: p.default for p in inspect.signature(gemm).parameters.values() if p.default is not p.empty}
size = st.integers(1, 20000)


def value(name: str) -> float:
    return HW.get(name, DEFAULTS.get(name, 0.0))


@given(size, size, size, st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_scalar_equals_array_element(m: int, n: int, k: int, batch: int) -> None:
    many = gemm([7, m], [9, n], [11, k], [1, batch], **HW)
    one = gemm(m, n, k, batch, **HW)
    for a, b in zip(many, one, strict=True):
        assert a[1] == pytest.approx(float(b), rel=1e-12)
        assert np.ndim(b) == 0


@pytest.mark.parametrize("name", KEYWORDS)
def test_every_keyword_may_be_an_array(name: str) -> None:
    base = value(name)
    values = np.array([base, base * 1.5 + (0.1 if base == 0 else 0.0)])[:, None]
    cost = gemm([1, 64, 4096], 4096, [512, 2048, 8192], **HW | {name: values})
    assert cost.time.shape == (2, 3)
    first = gemm([1, 64, 4096], 4096, [512, 2048, 8192], **HW | {name: base})
    np.testing.assert_allclose(cost.time[0], first.time)


@pytest.mark.parametrize("name", ["resident", "dequant_ops", "quant_kernels", "quant_bytes", "launch", "overhead",
                                  "step_time", "bytes_w", "bytes_a", "tail_share", "fill", "n_units", "sharpness"])
def test_keywords_change_the_time(name: str) -> None:
    base = value(name)
    changed = base * 1.9 if base else 0.9
    shapes = ([1, 64, 300, 4096], [4096, 512, 4096, 4096], [4096, 8192, 512, 2048])
    assert np.any(gemm(*shapes, **HW | {name: changed}).time != gemm(*shapes, **HW).time)


@given(size, size, size, st.sampled_from(["peak", "vector_peak", "dram_bandwidth", "l2_bandwidth", "efficiency",
                                          "dram_efficiency", "l2_efficiency", "l2_capacity"]),
       st.floats(1.0, 8.0), st.floats(0.0, 1.0))
@settings(max_examples=150, deadline=None)
def test_better_hardware_never_costs_more(m: int, n: int, k: int, name: str, gain: float, resident: float) -> None:
    slow = gemm(m, n, k, resident=resident, **HW).time
    fast = gemm(m, n, k, resident=resident, **HW | {name: value(name) * gain}).time
    assert fast <= slow * (1 + 1e-9)


@given(size, size, size, st.floats(1.0, 30.0))
@settings(max_examples=150, deadline=None)
def test_more_rows_never_cost_less_beyond_a_given_up_split(m: int, n: int, k: int, factor: float) -> None:
    # Where more blocks fill the machine a split of k is given up: its reduction is saved, some 10 % at worst.
    assert gemm(m * factor, n, k, **HW).time >= 0.85 * gemm(m, n, k, **HW).time


@given(size, size, size, st.floats(1.0, 8.0))
@settings(max_examples=100, deadline=None)
def test_unsplit_products_grow_with_every_length(m: int, n: int, k: int, factor: float) -> None:
    hw = HW | {"split_time": 1e3, "flight": 0.0}
    here = gemm(m, n, k, **hw).time
    for grown in ((m * factor, n, k), (m, n * factor, k), (m, n, k * factor)):
        assert gemm(*grown, **hw).time >= here * (1 - 1e-9)


@given(size, size, size)
@settings(max_examples=100, deadline=None)
def test_time_is_at_least_the_roofline_of_its_own_parameters(m: int, n: int, k: int) -> None:
    cost = gemm(m, n, k, **HW, gemv_gain=1.0)
    arithmetic = cost.flops / (HW["peak"] * DEFAULTS["efficiency"])
    weights = n * k * 2 / (HW["dram_bandwidth"] * DEFAULTS["dram_efficiency"])
    assert cost.time >= max(arithmetic, weights)


@pytest.mark.parametrize("shape", [(0, 4096, 4096, 1), (16, 0, 4096, 1), (16, 4096, 0, 1), (16, 4096, 4096, 0)])
def test_empty_product_costs_its_fixed_time(shape: tuple[int, int, int, int]) -> None:
    cost = gemm(*shape, **HW, overhead=3e-6, launch=1e-6)
    assert all(np.all(np.isfinite(term)) for term in cost)
    assert cost.time == pytest.approx(4e-6)


def test_terms_add_up_and_name_the_limit() -> None:
    cost = gemm([1, 8192, 1], [16384, 8192, 64], [16384, 8192, 64], **HW)
    shares = attribute(cost)
    np.testing.assert_allclose(sum(shares.values()), cost.time, rtol=1e-9)
    assert [max(shares, key=lambda r: shares[r][i]) for i in range(3)] == ["memory", "compute", "launch"]
    assert cost.flops[1] == 2 * 8192.0**3
    assert cost.nbytes[1] == 3 * 8192.0**2 * 2


def test_chunks_do_not_show() -> None:
    rng = np.random.default_rng(1)
    m, n, k = rng.integers(1, 4096, (3, 2 * CHUNK + 3))
    whole = gemm(m, n, k, **HW, resident=np.linspace(0, 1, m.size)).time
    for i in (0, CHUNK - 1, CHUNK, m.size - 1):
        assert whole[i] == pytest.approx(float(gemm(m[i], n[i], k[i], **HW, resident=i / (m.size - 1)).time))


def test_a_split_of_k_fills_the_machine() -> None:
    split = gemm(16, 64, 16384, **HW).time
    whole = gemm(16, 64, 16384, **HW, split_time=1.0).time
    assert split < 0.5 * whole


def test_weights_in_l2_and_low_bit_weights_speed_up_one_row_but_not_a_large_product() -> None:
    cold, warm = gemm(1, 8192, 4096, **HW).time, gemm(1, 8192, 4096, **HW, resident=1.0).time
    packed = gemm(1, 8192, 4096, **HW, bytes_w=0.5, dequant_ops=1.0).time
    assert warm < 0.95 * cold
    assert packed < 0.5 * cold
    big = [float(gemm(8192, 8192, 4096, **HW, bytes_w=b, dequant_ops=d).time) for b, d in ((2.0, 0.0), (0.5, 1.0))]
    assert big[1] >= big[0]


def test_matrix_vector_kernel_serves_no_more_rows_than_it_takes() -> None:
    slow = HW | {"step_time": 1e-6}
    assert gemm(4, 4096, 4096, **slow, gemv_rows=4.0).time < 0.5 * gemm(5, 4096, 4096, **slow, gemv_rows=4.0).time


def test_quantising_adds_its_kernels_and_traffic() -> None:
    plain = gemm(8192, 4096, 8192, **HW, bytes_a=1.0, bytes_w=1.0)
    quant = gemm(8192, 4096, 8192, **HW, bytes_a=1.0, bytes_w=1.0, quant_kernels=1.0, quant_bytes=3.0, quant_time=2e-6)
    moved = 8192 * 8192 * 3.0
    assert quant.nbytes - plain.nbytes == pytest.approx(moved)
    assert quant.time - plain.time > 2e-6 + moved / HW["l2_bandwidth"]


def test_sustained_clock_shows_only_on_long_products() -> None:
    short, long = (gemm(s, s, s, **HW, throttle=0.2).time / gemm(s, s, s, **HW, throttle=0.0).time
                   for s in (1024, 16384))
    assert short < 1.01
    assert 1.1 < long < 1.2


@given(st.floats(1e3, 1e10), st.floats(1e5, 1e9))
def test_residency_falls_where_the_loop_outgrows_the_cache(footprint: float, capacity: float) -> None:
    share = residency(footprint, capacity)
    assert 0.0 <= share <= 1.0
    assert share >= residency(footprint * 1.1, capacity)
    if footprint < 0.95 * capacity:
        assert share > 0.98
    if footprint > 1.15 * capacity:
        assert share < 0.02


def test_fast_enough_for_sweeps() -> None:
    rng = np.random.default_rng(0)
    m, n, k = (2 ** rng.uniform(low, 13, 60_000) for low in (0, 7, 7))
    begin = time.process_time()
    gemm(m, n, k, **HW)
    assert time.process_time() - begin < 1.0          # some 0.06 s; 1 M shapes take about 1 s


def test_fitted_values_are_arguments_with_usable_intervals() -> None:
    sets = fitted_store.load("gemm").set
    assert {s.variant for s in sets} >= {"none", "fp32", "fp8_dynamic", "int4_weight_only", "nvfp4_g16"}
    for s in sets:
        assert set(s.values) <= set(KEYWORDS)
        assert all(np.isfinite(v) for v in s.values.values())
        assert 0 < s.lo["all"] < s.hi["all"]
        assert np.isfinite(gemm(64, 4096, 4096, **HW, **s.values).time)
    assert fitted_store.lookup("gemm", "none", "h200_sxm", "hopper").source == "fitted"
    assert fitted_store.lookup("gemm", "none", "b200_sxm", "blackwell").source == "transferred"


def test_operands_that_fill_no_word_take_longer_where_the_chip_minds() -> None:
    def time(m: float, k: float, **more: float) -> float:
        hw = {"peak": 1e13, "vector_peak": 1e13, "n_units": 80, "dram_bandwidth": 1e12, "l2_bandwidth": 2e12,
              "l2_capacity": 4e7}
        return float(gemm(m, 4096, k, bytes_a=4, bytes_w=4, bytes_out=4, **hw, **{"ragged_loss": 1.0, **more}).time)

    whole = time(2048, 4096)
    assert time(2047, 4096) > 1.5 * whole
    assert time(2048, 4095) > 1.5 * whole
    assert time(2047, 4095, batch=2) == pytest.approx(2 * time(2047, 4095, ragged_loss=0.0), rel=0.2)
    assert time(2047, 4095, ragged_loss=0.0) == pytest.approx(whole, rel=0.01)


def test_a_bias_of_its_own_costs_single_products_alone() -> None:
    hw = {"peak": 1e13, "vector_peak": 1e13, "n_units": 80, "dram_bandwidth": 1e12, "l2_bandwidth": 2e12, "l2_capacity": 4e7}
    for batch, more in ((1, 1.5e-5), (2, 0.0)):
        with_bias = gemm(64, 64, 64, batch, **hw, bias_time=1.5e-5).time
        assert with_bias - gemm(64, 64, 64, batch, **hw).time == pytest.approx(more)
