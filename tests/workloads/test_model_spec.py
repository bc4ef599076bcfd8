"""Counting laws of ModelSpec on small networks built by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from workloads.model_spec import Experts, FeedForward, Layer, Linear, Mixer, ModelSpec, Recurrent, Softmax
from workloads.registry import list_models, load_model


def softmax(**more: object) -> Softmax:
    base: dict[str, object] = {"n_heads": 4, "n_kv_heads": 2, "head_dim": 8, "v_head_dim": 8, "kv_elements": 32,
                               "reads_elements": 32}
    return Softmax.model_validate({**base, **more})


def model(*cores: Softmax | Recurrent, tied: bool = False, experts: Experts | None = None) -> ModelSpec:
    """One layer a core: a single square linear, a feed-forward part of one linear."""
    out = Linear(name="o_proj", n_in=32, n_out=32, split="row")
    layers = tuple(Layer(label=str(i), mixer=Mixer(linears=(out,), core=c), norm_params=64,
                         ffn=FeedForward(linears=(Linear(name="up", n_in=32, n_out=64, bias=True),), experts=experts))
                   for i, c in enumerate(cores))
    return ModelSpec(name="m", family="llama", hidden_size=32, vocab_size=10, layers=layers,
                     pattern=tuple(range(len(layers))), tied_embeddings=tied, embed_params=320, final_params=32,
                     lm_head=Linear(name="lm_head", n_in=32, n_out=10))


def test_counts_by_hand() -> None:
    layer = 32 * 32 + 64 + 32 * 64 + 64
    assert model(softmax()).n_params == 320 + layer + 32 + 320
    assert model(softmax(), tied=True).n_params == 320 + layer + 32
    assert Linear(name="a", n_in=3, n_out=5, bias=True).n_params == 20


def test_idle_experts_do_not_count_as_active() -> None:
    experts = Experts(n_experts=8, topk=2, hidden=32, inter=16, bias=True)
    spec = model(softmax(), experts=experts)
    one = 3 * 32 * 16 + 2 * 16 + 32
    assert spec.n_params - spec.n_active_params == 6 * one
    assert Experts(n_experts=8, topk=2, hidden=32, inter=16, gated=False).n_weights == 2 * 32 * 16


def test_cache_of_windows_and_compression() -> None:
    spec = model(softmax(), softmax(window=100), softmax(compress=4, window=10, index_elements=8))
    assert spec.kv_elements_per_token == 32 + 32 + 40 / 4
    got = spec.kv_elements_at(np.array([0, 40, 1000]))
    assert got.tolist() == [0, 40 * 74 + 10 * 32, 1000 * 32 + 100 * 32 + 250 * 40 + 10 * 32]


def test_state_is_apart_from_the_cache() -> None:
    cell = Recurrent(cell="mamba2", state_elements=100, flops_per_token=500, io_elements=10, conv_elements=6)
    spec = model(cell, cell, softmax())
    assert spec.state_elements == 212
    assert spec.kv_elements_per_token == 32


@given(st.sampled_from(list_models()), st.integers(0, 10**6), st.integers(0, 10**6))
def test_longer_contexts_never_cache_less(name: str, a: int, b: int) -> None:
    low, high = load_model(name).kv_elements_at(np.sort([a, b]))
    assert low <= high


@pytest.mark.parametrize("name", list_models())
def test_cache_at_one_token_is_the_cache_per_token(name: str) -> None:
    spec = load_model(name)
    # Compressed layers keep their window besides, which ``kv_elements_per_token`` leaves out as a constant.
    near = sum(c * x.mixer.core.kv_elements for c, x in zip(spec.counts, spec.layers, strict=True)
               if x.mixer and isinstance(x.mixer.core, Softmax) and x.mixer.core.compress > 1)
    assert spec.kv_elements_at(1) == pytest.approx(spec.kv_elements_per_token + near)


def test_specs_are_frozen_hashable_and_survive_json() -> None:
    spec = load_model("mixtral-8x7b")
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
    assert hash(spec.layers[0]) == hash(load_model("mixtral-8x7b").layers[0])
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "other"
