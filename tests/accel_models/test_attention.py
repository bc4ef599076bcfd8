"""Laws of the attention formulas, and their arithmetic where it is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.cost.attention import attention_decode, attention_prefill, variant
from accel_models.cost.terms import Cost, regime
from accel_models.fitted_store import load

HW: dict[str, float] = {"peak": 990e12, "vector_peak": 67e12, "n_units": 132.0, "dram_bandwidth": 4.8e12,
                        "l2_bandwidth": 9.9e12, "l2_capacity": 50e6}
BOTH = [attention_prefill, attention_decode]
KEYWORDS = {attention_prefill: ("efficiency", "tile_loss", "softmax_ops", "overlap", "fill", "start", "tail_share",
                                "dram_efficiency", "l2_efficiency", "append", "packs", "window_packs", "window_skip",
                                "overhead", "causal", "appends", "warm", "launch", "bytes_q", "bytes_kv"),
            attention_decode: ("efficiency", "vector_efficiency", "vector_path", "vector_slots", "pad_rows", "start",
                               "slots", "flight", "dram_efficiency", "l2_efficiency", "resident_share", "tail_share",
                               "window_packs", "window_skip", "split_cost", "overhead", "warm", "launch", "bytes_q",
                               "bytes_kv")}
Formula = Callable[..., Cost]

shapes = st.tuples(st.integers(1, 300), st.integers(1, 9000), st.integers(0, 60000), st.sampled_from([1, 2, 4, 8]),
                   st.sampled_from([1, 3, 8, 16, 48]), st.sampled_from([64, 128]), st.sampled_from([0, 0, 128, 4096]))


def work(shape: tuple[int, ...], phase: Formula) -> tuple[float, ...]:
    batch, q, past, kv_heads, group, d, window = shape
    q = q if phase is attention_prefill else 1 + q % 4
    return batch, q, q + past, kv_heads * group, kv_heads, d, d, window


@pytest.mark.parametrize("phase", BOTH)
@settings(max_examples=40, deadline=None)
@given(shape=shapes, warm=st.sampled_from([0.0, 1.0]))
def test_laws_over_all_shapes(phase: Formula, shape: tuple[int, ...], warm: float) -> None:
    w = work(shape, phase)
    base = phase(*w, warm=warm, **HW).time
    assert np.isfinite(base)
    assert base > 0
    for key in ("peak", "vector_peak", "dram_bandwidth", "l2_bandwidth", "l2_capacity"):
        assert phase(*w, warm=warm, **HW | {key: HW[key] * 1.7}).time <= base * (1 + 1e-9), key
    longer = list(w)
    longer[2] = w[2] * 1.3 + 1
    assert phase(*longer, warm=warm, **HW).time >= base * (1 - 1e-9)
    more = list(w)
    more[0] = w[0] + 1
    assert phase(*more, warm=warm, tail_share=0.0, **HW).time >= phase(*w, warm=warm, tail_share=0.0, **HW).time * 0.999


@pytest.mark.parametrize("phase", BOTH)
@settings(max_examples=40, deadline=None)
@given(shape=shapes)
def test_never_faster_than_the_roofline_of_its_own_parameters(phase: Formula, shape: tuple[int, ...]) -> None:
    cost = phase(*work(shape, phase), **HW)
    assert cost.time >= cost.flops / HW["peak"] * (1 - 1e-9)
    assert cost.time >= cost.nbytes / HW["dram_bandwidth"] * (1 - 1e-9)
    assert cost.time >= np.maximum(cost.compute, cost.memory) * (1 - 1e-9)


@pytest.mark.parametrize("phase", BOTH)
@settings(max_examples=30, deadline=None)
@given(shape=shapes, window=st.integers(1, 5000))
def test_a_window_never_costs_more_than_the_whole(phase: Formula, shape: tuple[int, ...], window: int) -> None:
    w = work(shape, phase)[:7]
    assert phase(*w, window, **HW).time <= phase(*w, 0.0, **HW).time * (1 + 1e-9)
    assert phase(*w, window, **HW).flops <= phase(*w, 0.0, **HW).flops * (1 + 1e-9)


@pytest.mark.parametrize("phase", BOTH)
def test_scalar_equals_array_element_across_chunks(phase: Formula) -> None:
    rng = np.random.default_rng(1)
    n = 5000                                                  # more than one chunk
    batch, kv, window = rng.integers(1, 64, n), rng.integers(1, 9000, n), rng.choice([0, 128], n)
    whole = phase(batch, 1, kv, 32, 8, 128, 128, window, **HW)
    for i in (0, 1, 2047, 2048, n - 1):
        one = phase(batch[i], 1, kv[i], 32, 8, 128, 128, window[i], **HW)
        for name in Cost._fields:
            assert getattr(one, name) == pytest.approx(getattr(whole, name)[i], rel=1e-12), name


@pytest.mark.parametrize("phase", BOTH)
def test_every_keyword_may_be_an_array(phase: Formula) -> None:
    base = (4, 64, 2048, 32, 8, 128, 128, 0)
    for key in (*HW, *KEYWORDS[phase]):
        values = np.array([0.5, 0.9]) * HW.get(key, 1.0)
        given_: dict[str, Any] = {**HW, key: values}
        got = phase(*base, **given_).time
        assert got.shape == (2,), key
        assert got[1] == pytest.approx(float(phase(*base, **{**given_, key: values[1]}).time)), key
    grid = phase(np.ones((3, 1)), 1, 4096, 32, 8, 128, 128, **(HW | {"peak": np.array([1e14, 2e14])}))
    assert grid.time.shape == (3, 2)
    assert grid.launch.shape == (3, 2)


@pytest.mark.parametrize("phase", BOTH)
def test_no_work_takes_the_launch_alone(phase: Formula) -> None:
    for w in ((0, 16, 16), (4, 0, 16), (4, 16, 0)):
        cost = phase(*w, 32, 8, 128, 128, overhead=5e-6, launch=2e-6, **HW)
        assert cost.time == pytest.approx(7e-6), w
        assert np.isfinite(cost.flops)
        assert regime(cost) >= 0


def test_causal_prefill_counts_the_triangle_exactly() -> None:
    per_pair = 2 * 8 * 2 * (64 + 128)                         # sequences, heads, multiply and add, widths
    whole = attention_prefill(2, 1700, 2000, 8, 8, 64, 128, **HW)
    assert whole.flops == pytest.approx(per_pair * sum(range(301, 2001)))
    pairs = sum(min(i, 1000) for i in range(301, 2001))       # under a window: up to the half row at its edge
    edge = attention_prefill(2, 1700, 2000, 8, 8, 64, 128, 1000, **HW)
    assert edge.flops == pytest.approx(per_pair * pairs, rel=1e-3)
    encoder = attention_prefill(2, 512, 512, 8, 8, 64, 64, causal=0.0, **HW)
    assert encoder.flops == pytest.approx(2 * 8 * 4 * 64 * 512 * 512)


def test_decode_of_a_long_cache_runs_at_memory_speed_and_mla_reads_its_latent_once() -> None:
    ideal = {"dram_efficiency": 1.0, "flight": 0.0, "overhead": 0.0, "sharpness": 64.0, "start": 0.0,
             "split_cost": 0.0}
    cost = attention_decode(64, 1, 8192, 32, 8, 128, 128, **HW, **ideal)
    assert cost.nbytes == pytest.approx(64 * 8192 * 8 * 256 * 2 + 64 * 32 * 256 * 2)
    assert cost.time == pytest.approx(float(cost.nbytes) / HW["dram_bandwidth"], rel=0.05)
    mla = attention_decode(64, 1, 8192, 128, 1, 576, 512, kv_elements=576, **HW)
    assert mla.nbytes == pytest.approx(64 * (8192 * 576 + 128 * 1088) * 2)
    assert mla.flops == pytest.approx(2 * 64 * 128 * 8192 * 1088)


def test_splitting_the_cache_fills_the_machine() -> None:
    whole = attention_decode(1, 1, 65536, 8, 1, 128, 128, max_split=1.0, **HW).time
    assert attention_decode(1, 1, 65536, 8, 1, 128, 128, **HW).time < 0.2 * whole


def test_a_cache_that_stays_in_l2_is_read_faster_only_if_warm_and_small() -> None:
    cold = attention_decode(8, 1, 1024, 8, 8, 128, 128, **HW).memory
    assert attention_decode(8, 1, 1024, 8, 8, 128, 128, warm=1.0, l2_efficiency=1.0, **HW).memory < 0.6 * cold
    big = attention_decode(256, 1, 8192, 8, 8, 128, 128, **HW).memory
    assert attention_decode(256, 1, 8192, 8, 8, 128, 128, warm=1.0, **HW).memory == pytest.approx(float(big), rel=1e-3)


def test_variant_names() -> None:
    assert variant("decode", "bf16", "bf16") == "decode"
    assert variant("decode", "bf16", "fp8_e4m3") == "decode_fp8kv"
    assert variant("prefill", "fp16", "fp16") == "prefill"
    assert variant("prefill", "fp8", "fp8") == "prefill_fp8"


def test_every_fitted_set_is_accepted_and_physical() -> None:
    seen = set()
    for s in load("attention").set:
        phase = attention_prefill if s.variant.startswith("prefill") else attention_decode
        cost = phase(8, 1, 4096, 32, 8, 128, 128, **HW, **s.values)
        assert np.isfinite(cost.time)
        assert cost.time >= cost.nbytes / HW["dram_bandwidth"] * (1 - 1e-9)
        assert 0 < s.lo["all"] <= 1.2
        assert s.hi["all"] >= 0.8
        assert s.n_rows > 0
        seen.add((s.variant, s.device, s.generation))
    assert {("prefill", "", ""), ("decode", "", ""), ("decode", "", "hopper"),
            ("prefill", "h200_sxm", "hopper")} <= seen
