"""Bytes that a model keeps: by hand for one model, by its own parameter count for all."""

from __future__ import annotations

import numpy as np
import pytest

from sim.query import load_spec
from tests.workloads.bundled import NAMES, spec
from workloads.footprint import KINDS, activation_bytes, kv_bytes, kv_bytes_per_token, state_bytes, weights_bytes
from workloads.model_spec import Softmax
from workloads.parallel import Parallel

GIB = 2**30
# Llama 3.1 8B, written out: 32 layers of hidden 4096, 32 heads and 8 KV heads of 128, width 14336, vocabulary 128256.
LAYER = 4096 * (4096 + 1024 + 1024) + 4096 * 4096 + 3 * 4096 * 14336
EMBED = 128256 * 4096


def test_weights_of_llama_by_hand() -> None:
    w = weights_bytes(spec("llama-3.1-8b"))
    assert w["attention"] == 32 * 2 * (4096 * 6144 + 4096 * 4096)
    assert w["mlp"] == 32 * 2 * 3 * 4096 * 14336
    assert w["embed"] == w["lm_head"] == 2 * EMBED
    assert w["other"] == 2 * (32 * 2 * 4096 + 4096)
    assert w["experts"] == 0
    assert round(sum(w.values()) / GIB, 2) == 14.96
    assert sum(w.values()) == 2 * (32 * (LAYER + 2 * 4096) + 2 * EMBED + 4096)


def test_kv_cache_of_llama_by_hand() -> None:
    s = spec("llama-3.1-8b")
    assert kv_bytes_per_token(s) == 32 * 2 * 8 * 128 * 2 == 128 * 1024
    assert kv_bytes_per_token(s, "fp8") == 64 * 1024
    assert float(kv_bytes(s, 2560, 64)) == 64 * 2560 * 131072 == 20 * GIB


@pytest.mark.parametrize("name", NAMES)
def test_unquantised_weights_are_the_parameters_times_their_bytes(name: str) -> None:
    s = load_spec(name, quant="none") if _quantised(name) else spec(name)
    formats = {x.weight for layer in s.layers for part in (layer.mixer, layer.ffn) if part for x in part.linears}
    formats |= {x.ffn.experts.weight for x in s.layers if x.ffn and x.ffn.experts}
    if formats - {"bf16", "fp16", "fp32"}:
        pytest.skip("published in a low-bit format only")
    width = 4 if s.dtype == "fp32" else 2
    assert sum(weights_bytes(s).values()) == pytest.approx(width * s.n_params, rel=1e-9)


def _quantised(name: str) -> bool:
    return any(x.weight not in ("bf16", "fp16", "fp32") for layer in spec(name).layers
               for part in (layer.mixer, layer.ffn) if part for x in part.linears)


@pytest.mark.parametrize("name", NAMES)
def test_a_device_never_holds_more_than_the_whole_nor_less_than_its_share(name: str) -> None:
    s = spec(name)
    whole = weights_bytes(s)
    for split in (Parallel(tp=2), Parallel(pp=2), Parallel(tp=2, pp=2)):
        part = weights_bytes(s, split)
        assert set(part) == set(KINDS)
        assert all(part[k] <= whole[k] for k in KINDS)
        assert sum(part.values()) >= sum(whole.values()) / split.n_devices * (1 - 1e-9)


def test_experts_are_spread_and_cut() -> None:
    s = spec("mixtral-8x7b-v0.1")
    whole = weights_bytes(s)["experts"]
    assert whole == 32 * 8 * 3 * 4096 * 14336 * 2
    assert weights_bytes(s, Parallel(dp=8, ep=8))["experts"] == whole / 8
    assert weights_bytes(s, Parallel(tp=8, ep=4))["experts"] == whole / 8
    assert weights_bytes(s, Parallel(tp=2, dp=4, ep=8))["experts"] == whole / 8


def test_projections_of_kv_heads_are_replicated_beyond_their_number() -> None:
    w = weights_bytes(spec("llama-3.1-8b"), Parallel(tp=16))          # 8 KV heads over 16 ranks
    assert w["attention"] == 32 * 2 * 4096 * (4096 / 16 + 2 * 1024 / 8 + 4096 / 16)
    assert w["mlp"] == 32 * 2 * 3 * 4096 * 14336 / 16


def test_the_fullest_stage_holds_the_embedding_or_the_head() -> None:
    part = weights_bytes(spec("llama-3.1-8b"), Parallel(pp=2))
    assert (part["embed"], part["lm_head"]) == (2 * EMBED, 0)
    assert part["mlp"] == 16 * 2 * 3 * 4096 * 14336


def test_a_tied_head_is_stored_once() -> None:
    w = weights_bytes(spec("llama-3.2-1b"))
    assert w["lm_head"] == 0
    assert w["embed"] == 128256 * 2048 * 2


def test_quantised_weights_shrink_by_their_bits() -> None:
    full, low = weights_bytes(spec("llama-3.1-8b")), weights_bytes(load_spec("llama-3.1-8b", quant="W4A16"))
    assert low["mlp"] / full["mlp"] == pytest.approx((4 + 16 / 128) / 16)
    assert low["embed"] == full["embed"]


def test_windows_and_chunks_hold_at_most_their_size() -> None:
    mistral = spec("mistral-7b-v0.1")
    assert kv_bytes(mistral, 100_000) == kv_bytes(mistral, 4096) == 4096 * 131072
    gemma = spec("gemma-2-9b")                           # 21 of 42 layers with a window of 4096
    per_token = kv_bytes_per_token(gemma)
    assert float(kv_bytes(gemma, 8192)) == pytest.approx(per_token * (4096 + 8192) / 2)


def test_recurrent_state_does_not_grow() -> None:
    s = spec("falcon-mamba-7b")
    assert kv_bytes(s, 10) == kv_bytes(s, 1_000_000) == state_bytes(s)
    # 64 layers of 8192 channels: 16 states in fp32, 3 inputs of the convolution in bf16
    assert state_bytes(s) == 64 * 8192 * (16 * 4 + 3 * 2)


def test_latent_cache_is_small_and_replicated_over_ranks() -> None:
    s = spec("deepseek-v3")
    assert kv_bytes_per_token(s, "bf16") == 61 * (512 + 64) * 2
    assert kv_bytes(s, 1000, split=Parallel(tp=8)) == kv_bytes(s, 1000)
    assert kv_bytes(s, 1000, split=Parallel(pp=4)) == kv_bytes(s, 1000) / 4


def test_kv_heads_are_cut_by_whole_heads() -> None:
    s = spec("llama-3.1-8b")
    shares = [float(kv_bytes(s, 1000) / kv_bytes(s, 1000, split=Parallel(tp=t))) for t in (1, 2, 8, 16, 32)]
    assert shares == [1, 2, 8, 8, 8]


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_grows_with_length_and_in_proportion_to_the_batch(name: str) -> None:
    s = spec(name)
    length = np.array([1, 100, 10_000, 1_000_000])
    one = kv_bytes(s, length)
    assert np.all(np.diff(one) >= 0)
    np.testing.assert_allclose(kv_bytes(s, length, 7), 7 * one)
    assert (one[0] > 0) == (s.causal or any(isinstance(x.mixer.core, Softmax) and x.mixer.core.kv_elements
                                            for x in s.layers if x.mixer))


def test_activations_of_llama_by_hand() -> None:
    # residual in and out, the widest linear's input and output side by side, fp32 logits of at most 256 sequences
    got = float(activation_bytes(spec("llama-3.1-8b"), 2048))
    widest = 4096 + 14336
    assert got == 2048 * (2 * 4096 + widest) * 2 + 256 * 128256 * 4
    halved = float(activation_bytes(spec("llama-3.1-8b"), 2048, Parallel(tp=2)))
    assert halved == 2048 * (2 * 4096 + widest / 2) * 2 + 256 * 128256 / 2 * 4
