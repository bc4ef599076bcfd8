"""Reading config.json: sizes and cache against published figures and hand arithmetic, module paths, refusals."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workloads.config_json import read_config
from workloads.model_spec import Layer, ModelSpec, Recurrent, Softmax
from workloads.registry import list_models, load_config, load_model

# Cached numbers a token, by hand: layers x (K and V) x KV heads x head size, or the latent and rotary vectors.
KV_NUMBERS = {
    "huggyllama/llama-7b": 32 * 2 * 32 * 128,
    "huggyllama/llama-65b": 80 * 2 * 64 * 128,
    "meta-llama/Llama-2-7b-hf": 32 * 2 * 32 * 128,
    "meta-llama/Llama-2-70b-hf": 80 * 2 * 8 * 128,
    "meta-llama/Llama-3.1-8B": 131072 // 2,                     # 128 KiB in bf16
    "meta-llama/Llama-3.1-405B": 126 * 2 * 8 * 128,
    "meta-llama/Llama-3.2-1B": 16 * 2 * 8 * 64,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": 48 * 2 * 8 * 128,
    "facebook/opt-175b": 96 * 2 * 12288,
    "openai/gpt3-175b": 96 * 2 * 12288,
    "openai-community/gpt2-large": 36 * 2 * 1280,
    "bigscience/bloom": 70 * 2 * 14336,
    "tiiuae/falcon-7b": 32 * 2 * 64,                            # one KV head
    "tiiuae/falcon-40b": 60 * 2 * 8 * 64,
    "google-bert/bert-large-uncased": 0,                        # an encoder caches nothing
    "microsoft/phi-2": 32 * 2 * 2560,
    "microsoft/Phi-3-mini-128k-instruct": 32 * 2 * 3072,
    "01-ai/Yi-34B": 60 * 2 * 8 * 128,
    "mistralai/Mistral-7B-v0.1": 32 * 2 * 8 * 128,
    "mistralai/Mixtral-8x22B-v0.1": 56 * 2 * 8 * 128,
    "Qwen/Qwen2.5-72B": 80 * 2 * 8 * 128,
    "Qwen/Qwen3-0.6B": 28 * 2 * 8 * 128,                        # head size is not hidden / heads
    "Qwen/Qwen3-235B-A22B": 94 * 2 * 4 * 128,
    "Qwen/Qwen3-Next-80B-A3B-Instruct": 12 * 2 * 2 * 256,       # one layer in four
    "Qwen/Qwen3.5-27B": 16 * 2 * 4 * 256,
    "deepseek-ai/DeepSeek-V2-Lite": 27 * 576,
    "deepseek-ai/DeepSeek-V3": 70272 // 2,
    "moonshotai/Kimi-K2-Instruct": 61 * 576,
    "moonshotai/Kimi-Linear-48B-A3B-Instruct": 7 * 576,
    "zai-org/GLM-5": 78 * (576 + 128),                          # and the indexer's keys
    "zai-org/GLM-5.2": 78 * 576 + 21 * 128,                     # 21 layers have an indexer of their own
    "zai-org/glm-4-9b-chat-1m": 40 * 2 * 4 * 128,
    "google/gemma-7b": 28 * 2 * 16 * 256,
    "google/gemma-2-27b": 46 * 2 * 16 * 128,
    "nvidia/Gemma-4-31B-IT-NVFP4": 50 * 2 * 16 * 256 + 10 * 2 * 4 * 512,
    "openai/gpt-oss-20b": 24 * 2 * 8 * 64,
    "MiniMaxAI/MiniMax-Text-01": 10 * 2 * 8 * 128,
    "MiniMaxAI/MiniMax-M3": 60 * 2 * 4 * 128 + 57 * 128,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 6 * 2 * 2 * 128,
    "NX-AI/xLSTM-7b": 0,
    "state-spaces/mamba2-2.7b": 0,
    "ridger/MMfreeLM-2.7B": 0,
}
# Recurrent state a sequence, by hand: layers x (heads x key size x value size + channels x (kernel - 1)).
STATES = {
    "Qwen/Qwen3-Next-80B-A3B-Instruct": 36 * (32 * 128 * 128 + 8192 * 3),
    "state-spaces/mamba2-2.7b": 64 * (80 * 64 * 128 + (5120 + 256) * 3),
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 23 * (64 * 64 * 128 + (4096 + 2048) * 3),
    "NX-AI/xLSTM-7b": 32 * 8 * (256 * 512 + 256 + 1),
    "ridger/MMfreeLM-2.7B": 32 * 2560,
    "MiniMaxAI/MiniMax-Text-01": 70 * 64 * 128 * 128,
    "moonshotai/Kimi-Linear-48B-A3B-Instruct": 20 * (32 * 128 * 128 + 3 * 4096 * 3),
}
LLAMA = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
MLP = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
# First layer's module paths (last layer's where the name ends in "!"), as in the published checkpoints.
PATHS = {
    "meta-llama/Llama-3.1-8B": ("model.layers", LLAMA + MLP),
    "microsoft/Phi-3-mini-128k-instruct": ("model.layers", ["self_attn.qkv_proj"] * 3 + ["self_attn.o_proj"] + [
        "mlp.gate_up_proj"] * 2 + ["mlp.down_proj"]),
    "openai-community/gpt2": ("transformer.h", ["attn.c_attn"] * 3 + ["attn.c_proj", "mlp.c_fc", "mlp.c_proj"]),
    "facebook/opt-13b": ("model.decoder.layers", [
        *LLAMA[:3], "self_attn.out_proj", "fc1", "fc2"]),
    "mistralai/Mixtral-8x7B-v0.1": ("model.layers", [*LLAMA, "block_sparse_moe.gate"]),
    "Qwen/Qwen3-30B-A3B": ("model.layers", [*LLAMA, "mlp.gate"]),
    "Qwen/Qwen1.5-MoE-A2.7B": ("model.layers", [*LLAMA, "mlp.gate", *(
        x.replace("mlp.", "mlp.shared_expert.") for x in MLP), "mlp.shared_expert_gate"]),
    "openai/gpt-oss-20b": ("model.layers", [*LLAMA, "mlp.router"]),
    "deepseek-ai/DeepSeek-V3!": ("model.layers", [
        "self_attn.q_a_proj", "self_attn.q_b_proj", "self_attn.kv_a_proj_with_mqa", "self_attn.kv_b_proj",
        "self_attn.o_proj", "mlp.gate", *(x.replace("mlp.", "mlp.shared_experts.") for x in MLP)]),
    "deepseek-ai/DeepSeek-V2-Lite": ("model.layers", [
        "self_attn.q_proj", "self_attn.kv_a_proj_with_mqa", "self_attn.kv_b_proj", "self_attn.o_proj", *MLP]),
    "nvidia/Gemma-4-26B-A4B-NVFP4": ("model.layers", [*LLAMA, "router.proj", *MLP]),
    "Qwen/Qwen3.5-35B-A3B": ("model.layers", [
        "linear_attn.in_proj_qkv", "linear_attn.in_proj_z", "linear_attn.in_proj_b", "linear_attn.in_proj_a",
        "linear_attn.out_proj", "mlp.gate", *(x.replace("mlp.", "mlp.shared_expert.") for x in MLP),
        "mlp.shared_expert_gate"]),
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": ("backbone.layers", ["mixer.in_proj", "mixer.out_proj"]),
}


def layer_paths(layer: Layer) -> list[str]:
    linears = (*(layer.mixer.linears if layer.mixer else ()), *(layer.ffn.linears if layer.ffn else ()))
    return [x.name for x in linears]


@pytest.fixture(scope="module")
def specs() -> dict[str, ModelSpec]:
    return {name: load_model(name) for name in list_models()}


@pytest.mark.parametrize("name", list_models())
def test_parameters_agree_with_published(name: str, specs: dict[str, ModelSpec]) -> None:
    about = load_config(name).config["_perfboard"]
    assert about["source"]
    assert about["params_source"]
    published, rounding = about["params_published"], about.get("params_rounding")
    if published and published % 100_000 and not rounding:       # stated to the last digit
        assert specs[name].n_params == published
    elif published:
        assert specs[name].n_params == pytest.approx(published, rel=rounding or 0.005)


def test_most_sizes_are_exact(specs: dict[str, ModelSpec]) -> None:
    published = {n: load_config(n).config["_perfboard"]["params_published"] for n in specs}
    assert sum(specs[n].n_params == p for n, p in published.items()) >= 85
    assert specs["meta-llama/Llama-3.1-8B"].n_params == 8030261248
    assert specs["mistralai/Mixtral-8x7B-v0.1"].n_params == 46702792704
    assert specs["openai-community/gpt2-large"].n_params == 774030080


@pytest.mark.parametrize("name", sorted(KV_NUMBERS))
def test_cache_per_token_by_hand(name: str, specs: dict[str, ModelSpec]) -> None:
    assert specs[name].kv_elements_per_token == KV_NUMBERS[name]
    assert specs[name].kv_bytes_per_token(2.0) == 2 * KV_NUMBERS[name]


@pytest.mark.parametrize("name", sorted(STATES))
def test_recurrent_state_by_hand(name: str, specs: dict[str, ModelSpec]) -> None:
    assert specs[name].state_elements == STATES[name]


def test_compressed_attention_cache(specs: dict[str, ModelSpec]) -> None:
    flash = specs["deepseek-ai/DeepSeek-V4-Flash"]
    # 2 sliding layers; 21 layers compress 4 positions (with an indexer of 128), 20 compress 128.
    assert flash.kv_elements_per_token == 2 * 512 + 21 * (512 + 128) / 4 + 20 * 512 / 128
    long = float(flash.kv_elements_at(2**20))
    assert long == 43 * 128 * 512 + 2**20 * (21 * 640 / 4 + 20 * 4)


@pytest.mark.parametrize(("name", "billions", "embedding_counts"), [
    ("Qwen/Qwen3-30B-A3B", 3.3, True), ("Qwen/Qwen3-235B-A22B", 22.0, True),
    ("openai/gpt-oss-20b", 3.61, False), ("openai/gpt-oss-120b", 5.13, False),
    ("mistralai/Mixtral-8x7B-v0.1", 12.9, True), ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 3.6, True),
])
def test_active_parameters_as_stated_on_model_cards(name: str, billions: float, embedding_counts: bool,
                                                    specs: dict[str, ModelSpec]) -> None:
    spec = specs[name]
    active = spec.n_active_params - (0 if embedding_counts else spec.embed_params)
    assert active / 1e9 == pytest.approx(billions, rel=0.02)


def test_prediction_module_of_deepseek_v3(specs: dict[str, ModelSpec]) -> None:
    assert specs["deepseek-ai/DeepSeek-V3"].mtp_params / 1e9 == pytest.approx(11.5, rel=0.011)


@pytest.mark.parametrize("name", sorted(PATHS))
def test_module_paths(name: str, specs: dict[str, ModelSpec]) -> None:
    prefix, paths = PATHS[name]
    spec = specs[name.rstrip("!")]
    layer = spec.layers[spec.pattern[-1 if name.endswith("!") else 0]]
    assert spec.layer_prefix == prefix
    assert layer_paths(layer) == paths


@pytest.mark.parametrize(("name", "path"), [
    ("mistralai/Mixtral-8x7B-v0.1", "block_sparse_moe.experts"), ("Qwen/Qwen3-30B-A3B", "mlp.experts"),
    ("nvidia/Gemma-4-26B-A4B-NVFP4", "experts"), ("deepseek-ai/DeepSeek-V4-Flash", "ffn.experts"),
    ("moonshotai/Kimi-K3", "block_sparse_moe.experts"), ("zai-org/GLM-5", "mlp.experts"),
])
def test_expert_paths(name: str, path: str, specs: dict[str, ModelSpec]) -> None:
    spec = specs[name]
    ffn = spec.layers[spec.pattern[-1]].ffn
    assert ffn is not None
    assert ffn.experts is not None
    assert ffn.experts.name == path


@pytest.mark.parametrize(("name", "labels"), [
    ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", {"mamba2": 23, "moe": 23, "full": 6}),
    ("nvidia/Gemma-4-31B-IT-NVFP4", {"sliding": 50, "full": 10}),
    ("google/gemma-3-1b-it", {"sliding": 22, "full": 4}),
    ("openai/gpt-oss-20b", {"sliding+moe": 12, "full+moe": 12}),
    ("meta-llama/Llama-4-Scout-17B-16E-Instruct", {"chunked+moe": 36, "full+moe": 12}),
    ("deepseek-ai/DeepSeek-V3", {"mla": 3, "mla+moe": 58}),
    ("moonshotai/Kimi-K3", {"kda": 1, "kda+moe": 68, "mla+moe": 24}),
    ("MiniMaxAI/MiniMax-Text-01", {"lightning+moe": 70, "full+moe": 10}),
    ("Qwen/Qwen3.5-27B", {"delta net": 48, "full": 16}),
    ("Qwen/Qwen2.5-7B", {"full": 28}),                       # a window is stated, but switched off
    ("microsoft/Phi-3-mini-128k-instruct", {"full": 32}),    # its window is longer than its context
    ("mistralai/Mistral-7B-v0.1", {"sliding": 32}),
])
def test_layer_kinds(name: str, labels: dict[str, int], specs: dict[str, ModelSpec]) -> None:
    spec = specs[name]
    assert {x.label: c for x, c in zip(spec.layers, spec.counts, strict=True)} == labels


def test_latent_attention_has_both_forms(specs: dict[str, ModelSpec]) -> None:
    mixer = specs["deepseek-ai/DeepSeek-V3"].layers[0].mixer
    assert mixer is not None
    core = mixer.core
    assert isinstance(core, Softmax)
    assert core.latent
    assert (core.head_dim, core.v_head_dim, core.n_kv_heads, core.kv_elements) == (576, 512, 1, 576)
    assert (core.prefill_head_dim, core.prefill_v_head_dim) == (192, 128)


@pytest.mark.parametrize("name", list_models())
def test_what_every_spec_holds(name: str, specs: dict[str, ModelSpec]) -> None:
    spec = specs[name]
    assert len(spec.pattern) == sum(spec.counts)
    assert min(spec.counts) >= 1
    for layer in spec.layers:
        assert layer.mixer or layer.ffn
        if layer.mixer:
            rows = [x for x in layer.mixer.linears if x.split == "row"]
            assert [x.n_out for x in rows] == [spec.hidden_size]
            if isinstance(layer.mixer.core, Recurrent):
                assert layer.mixer.core.state_elements > 0
        for group in {x.fuse for x in (layer.mixer.linears if layer.mixer else ()) if x.fuse and x.fuse != "compress"}:
            assert len({x.n_in for x in layer.mixer.linears if x.fuse == group}) == 1  # type: ignore[union-attr]
    formats = {x.weight for layer in spec.layers if layer.mixer for x in layer.mixer.linears}
    assert ("ternary" in formats) == (spec.family in ("bitnet", "hgrn_bit"))


def test_ternary_models(specs: dict[str, ModelSpec]) -> None:
    bitnet, free = specs["1bitLLM/bitnet_b1_58-3B"], specs["ridger/MMfreeLM-2.7B"]
    linear = bitnet.layers[0].mixer.linears[0]  # type: ignore[union-attr]
    assert (linear.weight, linear.act) == ("ternary", "int8")
    assert bitnet.lm_head is not None
    assert free.lm_head is not None
    assert (bitnet.lm_head.weight, free.lm_head.weight) == ("fp16", "ternary")   # the head of MatMul-free LM is ternary


SMALL: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "torch_dtype": "bfloat16",
}


def test_small_llama_by_hand() -> None:
    spec = read_config(SMALL, name="small")
    per_layer = 64 * (64 + 32 + 32 + 64) + 3 * 64 * 128 + 2 * 64
    assert spec.n_params == 2 * 100 * 64 + 2 * per_layer + 64
    assert read_config({**SMALL, "tie_word_embeddings": True}, name="small").n_params == spec.n_params - 100 * 64


def test_nested_config_falls_back_to_class_defaults_and_says_so() -> None:
    spec = load_model("llava-hf/llava-1.5-7b-hf")
    assert spec.hidden_size == 4096
    assert any("hidden_size=4096" in note for note in spec.notes)
    assert any("vision_config" in note for note in spec.notes)


@pytest.mark.parametrize(("change", "message"), [
    ({"hidden_size": float("nan")}, r"x: hidden_size: found nan, expected a whole number >= 1"),
    ({"hidden_size": -64}, r"x: hidden_size: found -64, expected a whole number >= 1"),
    ({"hidden_size": 0}, r"x: hidden_size: found 0"),
    ({"hidden_size": "64"}, r"x: hidden_size: found '64', expected a whole number >= 1"),
    ({"hidden_size": True}, r"x: hidden_size: found True"),
    ({"hidden_size": 64.5}, r"x: hidden_size: found 64.5"),
    ({"hidden_size": 10**12}, r"x: hidden_size: found 1000000000000, expected .*< 2\^31"),
    ({"hidden_size": None}, r"x: hidden_size: missing"),
    ({"num_hidden_layers": 2**30}, r"x: num_hidden_layers: found 1073741824, expected at most 10000 layers"),
    ({"num_key_value_heads": 3}, r"x: num_key_value_heads: found 3, expected a divisor of num_attention_heads = 4"),
    ({"num_attention_heads": 5, "num_key_value_heads": 5}, r"expected a divisor of hidden_size = 64"),
    ({"model_type": "lama"}, r"x: model_type: found 'lama', which is not known \(near: .*llama"),
    ({"model_type": None}, r"x: model_type: missing"),
    ({"model_type": 3}, r"x: model_type: found 3, expected a text"),
    ({"model_type": "t5"}, r"x: model_type 't5' is an encoder-decoder"),
    ({"model_type": "whisper"}, r"an encoder-decoder"),
    ({"model_type": "clip"}, r"a vision network"),
    ({"is_encoder_decoder": True}, r"is_encoder_decoder is true"),
    ({"torch_dtype": "int3"}, r"x: dtype: found 'int3'"),
    ({"tie_word_embeddings": "yes"}, r"x: tie_word_embeddings: found 'yes', expected true or false"),
    ({"layer_types": ["full_attention", "spiral_attention"]},
     r"x: layer_types: unknown layer kinds at 1 layers \(1: spiral_attention\), known here: full_attention"),
    ({"layer_types": ["full_attention"]}, r"x: layer_types: found 1 entries, expected 2, one a layer"),
    ({"layer_types": ["full_attention", "sliding_attention"]}, r"x: sliding_window: missing"),
    ({"layer_types": 3}, r"x: layer_types: found 3, expected a list"),
])
def test_refusals_are_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as e:
        read_config({**SMALL, **change}, name="x")
    assert "\n" not in str(e.value)


def test_unknown_kinds_of_a_hybrid_are_listed() -> None:
    config = dict(load_config("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16").config)
    config["hybrid_override_pattern"] = "MQ" + config["hybrid_override_pattern"][2:]
    with pytest.raises(ValueError, match=r"hybrid_override_pattern: unknown layer kinds at 1 layers \(1: Q\), known"):
        read_config(config, name="x")


@pytest.mark.parametrize("config", [None, [], 3, "llama"])
def test_refuses_what_is_not_an_object(config: Any) -> None:
    with pytest.raises(ValueError, match="expected a JSON object"):
        read_config(config, name="x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10**13) | st.floats() | st.text(max_size=5)
    | st.sampled_from(["full_attention", "linear_attention", "llama", "mamba2", "MEME*", "bert"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=6)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list_models()), st.data())
def test_any_damage_gives_a_spec_or_one_line(name: str, data: st.DataObject) -> None:
    """Whatever stands in one field, the reader answers with a model or with one line that names the place."""
    config = copy.deepcopy(load_config(name).config)
    inner = config.get("text_config", config)
    key = data.draw(st.sampled_from(sorted(inner)))
    if data.draw(st.booleans()):
        inner[key] = data.draw(JSON)
    else:
        del inner[key]
    message = ""
    try:
        spec = read_config(config, name="x")
    except ValueError as e:
        message = str(e)
    if message:
        assert re.fullmatch(r"x: .+", message)          # no line break: "." does not match one
        return
    assert spec.n_params > 0
    assert spec.kv_elements_per_token >= 0
    json.dumps(spec.model_dump(mode="json"))
