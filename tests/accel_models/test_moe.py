"""Laws of the mixture-of-experts formula that hold for all inputs, and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.cost.moe import BORROWS, QUANTILES, expert_load, moe
from accel_models.cost.terms import Cost, attribute
from accel_models.fitted_store import lookup

KEYWORDS = {"gated": 1.0, "bytes_a": 2.0, "bytes_w": 2.0, "bytes_out": 2.0, "peak": 312e12, "vector_peak": 19.5e12,
            "n_units": 108.0, "dram_bandwidth": 2e12, "l2_bandwidth": 5e12, "l2_capacity": 40e6, "dequant_ops": 1.0,
            "launch": 1e-6, "skew": 0.0, "dealt": 0.0, "imbalance": 1.0, "repeated": 0.0, "efficiency": 0.8,
            "tile_loss": 20.0, "dram_efficiency": 0.85, "l2_efficiency": 0.5, "l2_share": 1.0, "reread": 0.1,
            "flight": 0.2, "tail_share": 0.6, "fill": 200.0, "sharpness": 2.0, "passes": 1.0, "pair_time": 1e-10,
            "expert_time": 1e-8, "overhead": 2e-5}
#: (hidden, inter, topk, n_experts) of published models.
layers = st.sampled_from([(4096, 14336, 2, 8), (2048, 768, 8, 128), (7168, 2048, 8, 256), (5120, 8192, 1, 16)])
tokens = st.integers(1, 20_000)


def cost(layer: tuple[int, int, int, int], t: object, local: object = None, **kw: object) -> Cost:
    hidden, inter, topk, n_experts = layer
    return moe(t, hidden, inter, topk, n_experts, n_experts if local is None else local,  # type: ignore[arg-type]
               **{**KEYWORDS, **kw})  # type: ignore[arg-type]


@given(layers, st.lists(tokens, min_size=2, max_size=5), st.sampled_from([0.0, 0.6, 1.2]), st.sampled_from([0.0, 1.0]))
def test_an_array_holds_what_each_scalar_gives(layer: tuple[int, int, int, int], many: list[int], skew: float,
                                               dealt: float) -> None:
    whole = cost(layer, np.array(many), skew=skew, dealt=dealt)
    for i, t in enumerate(many):
        for a, b in zip(whole, cost(layer, t, skew=skew, dealt=dealt), strict=True):
            np.testing.assert_allclose(np.broadcast_to(a, (len(many),))[i], b, rtol=1e-10)


@pytest.mark.parametrize("name", sorted(KEYWORDS))
def test_every_keyword_may_be_an_array(name: str) -> None:
    switches = ("gated", "dealt", "repeated", "skew")
    values = np.array([0.0, 1.0]) if name in switches else KEYWORDS[name] * np.array([1.0, 1.5])
    layer = (2048, 768, 8, 128)
    got = np.broadcast_to(cost(layer, 64, **{name: values}).time, (2,))
    np.testing.assert_allclose(got, [float(cost(layer, 64, **{name: v}).time) for v in values], rtol=1e-10)


@settings(max_examples=150)
@given(layers, tokens, st.floats(1.0, 50.0),
       st.sampled_from(["dram_bandwidth", "l2_bandwidth", "peak", "vector_peak", "l2_capacity"]),
       st.sampled_from([0.0, 1.2]), st.sampled_from([0.0, 1.0]))
def test_more_hardware_never_costs_more(layer: tuple[int, int, int, int], t: int, factor: float, name: str, skew: float,
                                        repeated: float) -> None:
    base = cost(layer, t, skew=skew, repeated=repeated)
    more = cost(layer, t, skew=skew, repeated=repeated, **{name: KEYWORDS[name] * factor})
    assert more.time <= base.time * (1 + 1e-12)


@settings(max_examples=300)
@given(layers, tokens, st.integers(1, 5000), st.sampled_from([0.0, 1.0]))
def test_more_tokens_never_cost_less(layer: tuple[int, int, int, int], t: int, more: int, dealt: float) -> None:
    assert cost(layer, t + more, dealt=dealt).time >= cost(layer, t, dealt=dealt).time * (1 - 1e-12)


@given(layers, tokens, st.sampled_from([2, 4, 8]))
def test_an_expert_parallel_share_costs_less_and_no_less_than_its_share(layer: tuple[int, int, int, int], t: int,
                                                                        parts: int) -> None:
    whole, share = cost(layer, t, tail_share=0.0), cost(layer, t, layer[3] / parts, tail_share=0.0)
    assert share.time <= whole.time * (1 + 1e-12)
    assert share.time * parts >= whole.time * (1 - 1e-9)
    assert share.flops * parts == pytest.approx(whole.flops)


@given(layers, tokens)
def test_terms_are_shares_of_the_time(layer: tuple[int, int, int, int], t: int) -> None:
    c = cost(layer, t)
    np.testing.assert_allclose(sum(attribute(c).values()), c.time, rtol=1e-9)


@given(tokens, st.sampled_from([1, 2, 8]), st.sampled_from([8, 128, 512]), st.floats(0.0, 2.0))
def test_loads_sum_to_all_assignments(t: int, topk: int, n_experts: int, skew: float) -> None:
    load = expert_load(t, topk, n_experts, skew)
    assert load.shape == (len(QUANTILES),)
    assert load.mean() * n_experts == pytest.approx(t * topk)


def test_no_tokens_cost_the_fixed_time() -> None:
    c = cost((4096, 14336, 2, 8), 0)
    assert np.isfinite(c.time)
    assert c.time == pytest.approx(1e-6 + 2e-5 + 8e-8)


def test_one_token_reads_the_weights_of_the_experts_it_hits() -> None:
    hidden, inter, topk, _ = layer = (2048, 768, 8, 128)
    dealt = cost(layer, 1, dealt=1.0)
    weights = 3 * hidden * inter * 2 * topk
    assert dealt.nbytes == pytest.approx(weights, rel=0.02)
    assert dealt.memory > dealt.compute


def test_random_choice_hits_the_expected_number_of_experts() -> None:
    """8 tokens to 2 of 8 experts: 8 (1 - exp(-2)) distinct ones, the Poisson limit of 8 (1 - (1 - 2/8)^8)."""
    hidden, inter = 4096, 14336
    got = cost((hidden, inter, 2, 8), 8, passes=0.0)
    rows = 16 * (hidden + inter) * 4
    assert (got.nbytes - rows) / (3 * hidden * inter * 2) == pytest.approx(8 * (1 - np.exp(-2)), rel=1e-3)


def test_skew_leaves_experts_cold_at_small_batches_and_pads_more_at_large() -> None:
    layer = (2048, 768, 8, 128)
    assert cost(layer, 16, skew=1.2).nbytes < cost(layer, 16).nbytes
    assert cost(layer, 4096, skew=1.2).time > cost(layer, 4096).time


def test_a_large_batch_reaches_the_efficiency_of_its_tiles() -> None:
    c = cost((4096, 14336, 2, 8), 100_000, dequant_ops=0.0)
    assert 0.4 < c.flops / c.time / 312e12 < 0.8


def test_every_format_has_fitted_parameters_on_any_device() -> None:
    hw = {k: KEYWORDS[k] for k in ("peak", "vector_peak", "n_units", "dram_bandwidth", "l2_bandwidth", "l2_capacity")}
    for variant in sorted(set(BORROWS.values())):
        for device, generation in (("h200_sxm", "hopper"), ("never_measured", "")):
            found = lookup("moe", variant, device, generation)
            c = moe(64, 4096, 14336, 2, 8, 8, **hw, **found.params.values)
            assert 5e-4 < c.time < 1e-2, variant
            assert found.params.lo["all"] < found.params.hi["all"]
