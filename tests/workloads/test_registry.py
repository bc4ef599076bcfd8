"""Models by name, by path, and every way a path can disappoint."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from workloads.registry import MAX_BYTES, list_models, load_config, load_model

# What published systems of the first two priorities ran, and what users type.
WANTED = [
    "llama-7b", "llama-13b", "llama-30b", "llama-33b", "llama-65b", "llama-2-7b", "llama-2-13b", "llama-2-70b",
    "llama-3-8b", "llama-3-70b", "llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "llama-3.2-1b", "llama-3.2-3b",
    "llama-3-8b-1m", "opt-125m", "opt-1.3b", "opt-6.7b", "opt-13b", "opt-30b", "opt-66b", "opt-175b", "gpt2",
    "gpt2-large", "gpt3-xl", "gpt3-13b", "gpt3-175b", "bloom-7b", "bloom-176b", "falcon-7b", "falcon-40b",
    "falcon-180b", "bert-large", "phi-2", "phi-3-mini-128k", "yi-6b", "yi-9b-200k", "yi-34b", "mistral-7b",
    "mixtral-8x7b", "mixtral-8x22b", "qwen1.5-1.8b", "qwen2-7b", "qwen2.5-7b", "qwen2.5-14b", "qwen2.5-32b",
    "qwen2.5-72b", "qwq-32b", "deepseek-r1-distill-qwen-32b", "deepseek-v2-lite", "deepseek-v3", "kimi-k2",
    "glm-4-9b", "glm-4-9b-1m", "gemma-2b", "gemma-7b", "bitnet-b1.58-3b", "mmfreelm-370m", "mmfreelm-1.3b",
    "mmfreelm-2.7b", "xlstm-7b", "mamba2-2.7b", "vicuna-7b", "mpt-7b", "turbosparse-mixtral-47b", "llava-v1.5-7b",
    "gpt-oss-20b", "gpt-oss-120b", "llama-4-scout",
]


@pytest.mark.parametrize("name", WANTED)
def test_wanted_models_load(name: str) -> None:
    assert load_model(name).n_params > 0


def test_list() -> None:
    names = list_models()
    assert len(names) >= 45
    assert "meta-llama/Llama-3.1-8B" in names
    assert len({n.lower().rsplit("/", 1)[-1] for n in names}) == len(names)      # the last part is enough


@pytest.mark.parametrize("text", ["meta-llama/Llama-3.1-8B", "Llama-3.1-8B", "llama-3.1-8b", "META-LLAMA/llama-3.1-8B",
                                  "meta-llama-3.1-8b", "llama-3.1-8b-instruct", " Llama-3.1-8B "])
def test_spellings(text: str) -> None:
    assert load_model(text).name == "meta-llama/Llama-3.1-8B"


def test_source_and_quantisation_are_reachable() -> None:
    raw = load_config("Qwen3-32B-FP8")
    assert raw.quantization_config is not None
    assert raw.quantization_config["quant_method"] == "fp8"
    assert raw.hf_quant_config is None
    assert load_model("Qwen3-32B-FP8").source
    nested = load_config("nvidia/Gemma-4-31B-IT-NVFP4")
    assert nested.quantization_config is not None
    apart = load_config("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8")
    assert apart.hf_quant_config is not None
    assert apart.hf_quant_config["quantization"]["quant_algo"] == "FP8"


@pytest.mark.parametrize(("text", "near"), [
    ("llama-3.1-8c", "Llama-3.1-8B"), ("mixtral8x7b", "Mixtral-8x7B-v0.1"), ("Qwen/Qwen3-33B", "Qwen/Qwen3-32B"),
    ("deepseek-v33", "DeepSeek-V3"),
])
def test_unknown_name_says_the_nearest(text: str, near: str) -> None:
    with pytest.raises(ValueError, match="unknown model") as e:
        load_model(text)
    assert near in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("text", ["", "nothing like it at all", "x" * 5000, "/no/such/config.json", "a\0b",
                                  "~nobody-x/c"])
def test_unknown_without_neighbour(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown model|no such file|expected") as e:
        load_model(text)
    assert "\n" not in str(e.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint's directory as downloaded."""
    place = tmp_path / "my-llama"
    place.mkdir()
    (place / "config.json").write_text(json.dumps(load_config("llama-3.2-1b").config))
    return place


def test_paths(folder: Path) -> None:
    for path in (folder, folder / "config.json", str(folder)):
        spec = load_model(path)
        assert (spec.name, spec.n_params) == ("my-llama", 1235814400)
    assert load_config(folder).hf_quant_config is None
    (folder / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}')
    assert load_config(folder).hf_quant_config == {"quantization": {"quant_algo": "FP8"}}


def test_flat_names_and_hub_cache(tmp_path: Path) -> None:
    text = json.dumps(load_config("llama-3.2-1b").config)
    flat = tmp_path / "Owner__Some-Model_config.json"
    flat.write_text(text)
    (tmp_path / "Owner__Some-Model_hf_quant_config.json").write_text("{}")
    assert load_model(flat).name == "Owner/Some-Model"
    assert load_config(flat).hf_quant_config == {}
    hub = tmp_path / "models--Owner--Other" / "snapshots" / "0123abcd"
    hub.mkdir(parents=True)
    (hub / "config.json").write_text(text)
    assert load_model(hub).name == "Owner/Other"


@pytest.mark.parametrize(("content", "message"), [
    ('{\n "model_type": "llama",\n "hidden_size":', r"config.json: line 3, column 16: Expecting value"),
    ("[1, 2]", r"config.json: found a list, expected a JSON object"),
    ("", r"config.json: line 1, column 1: Expecting value"),
    ("[" * 100_000, r"config.json: .*expected"),
    ('{"hidden_size": ' + "9" * 5000 + "}", r"config.json: .*digits"),
    ('{"model_type": "llama", "hidden_size": NaN}', r"config.json: hidden_size: found nan, expected a whole number"),
    ('{"model_type": "llama", "quantization_config": 3}', r"config.json: quantization_config: found 3, expected an "),
])
def test_bad_files_in_one_line(content: str, message: str, folder: Path) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message) as e:
        load_model(folder)
    assert "\n" not in str(e.value)


def test_weights_in_place_of_a_config_are_not_read(folder: Path) -> None:
    big = folder / "config.json"
    with big.open("wb") as f:
        f.truncate(2 * 10**9)                       # sparse: takes no room
    start = time.perf_counter()
    with pytest.raises(ValueError, match=rf"found 2000000000 bytes, expected a config.json of at most {MAX_BYTES}"):
        load_model(folder)
    assert time.perf_counter() - start < 0.5
    big.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ValueError, match="not text"):
        load_model(folder)


def test_directory_without_config(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found a directory without a config\.json"):
        load_model(tmp_path)


def test_loading_is_fast() -> None:
    load_model("kimi-k3")
    start = time.perf_counter()
    for _ in range(5):
        load_model("kimi-k3")
    assert (time.perf_counter() - start) / 5 < 0.05        # 0.6 ms where it was written; slack for busy machines
