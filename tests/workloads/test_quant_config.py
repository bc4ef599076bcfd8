"""Every way a checkpoint states its quantisation, as such files are written."""

from typing import Any

import pytest

from workloads.quant_config import scheme_from_config

FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128]}


Raw = dict[str, Any]


def group(weights: Raw | None, acts: Raw | None = None, **more: Any) -> Raw:
    groups = {"group_0": {"weights": weights, "input_activations": acts, "targets": ["Linear"]}}
    return {"config_groups": groups, **more}


NV = {"num_bits": 4, "type": "float", "group_size": 16, "dynamic": False}
INT4 = {"num_bits": 4, "type": "int", "group_size": 32, "strategy": "group", "symmetric": True}
CT = {"quant_method": "compressed-tensors"}

CASES: list[tuple[dict[str, Any], str, str]] = [
    (FP8, "fp8_block128", "fp8_g128"),
    (FP8 | {"scale_fmt": "ue8m0"}, "fp8_block128_e8m0", "fp8_g128"),
    ({"quant_method": "fp8", "activation_scheme": "static", "fmt": "float8_e4m3fn"}, "fp8_e4m3", "fp8_e4m3"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"} | group(NV, NV), "nvfp4", "nvfp4"),
    ({"quant_algo": "FP8", "ignore": ["lm_head"]}, "fp8_e4m3", "fp8_e4m3"),                 # quant_method missing
    ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "group_size": 64}, "int4_g64", ""),
    (CT | group(INT4, format="pack-quantized"), "int4_g32", ""),
    (CT | group(INT4 | {"symmetric": False}, format="pack-quantized"), "int4_g32z", ""),
    (CT | group(INT4 | {"group_size": 128}, format="marlin-24"), "int4_g128+2:4", ""),
    (CT | group({"num_bits": 4, "type": "float", "group_size": 32}, format="mxfp4-pack-quantized"), "mxfp4", ""),
    (CT | group(NV, NV, format="nvfp4-pack-quantized"), "nvfp4", "nvfp4"),
    (CT | group({"num_bits": 8, "type": "int"}, {"num_bits": 8, "type": "int"}), "int8", "int8"),
    (CT | group({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]},
                {"num_bits": 8, "type": "float", "group_size": 128}), "fp8_block128", "fp8_g128"),
    ({"quant_method": "mxfp4"}, "mxfp4", ""),
    ({"quant_method": "gptq", "bits": 3, "group_size": 128, "sym": True}, "int3_g128z", ""),
    ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "int8", ""),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}, "int4_g128z", ""),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": False}, "int4_g128", ""),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}, "nf4_dq", ""),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", "int8"),
    ({"quant_method": "bitnet"}, "ternary2", "int8"),
]


@pytest.mark.parametrize(("raw", "weight", "act"), CASES)
def test_conventions(raw: dict[str, Any], weight: str, act: str) -> None:
    s = scheme_from_config(raw, where="m")
    assert s is not None
    assert (s.default.weight, s.default.act) == (weight, act)


def test_none_stays_none() -> None:
    assert scheme_from_config(None, None, where="m") is None


def test_separate_file_alone_and_beside() -> None:
    hf = {"producer": {"name": "modelopt"}, "quantization": {
        "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16, "exclude_modules": ["lm_head", "*gate"]}}
    alone = scheme_from_config(None, hf, where="m")
    assert alone
    assert (alone.default.weight, alone.kv, alone.ignore) == ("nvfp4", "fp8_e4m3", ("lm_head", "*gate"))
    beside = scheme_from_config({"quant_method": "modelopt", "quant_algo": "NVFP4"}, hf, where="m")
    assert beside
    assert (beside.kv, beside.ignore) == (alone.kv, alone.ignore)


def test_mixed_precision_and_fp8_beneath() -> None:
    layers = {"a.q_proj": {"quant_algo": "FP8"}, "a.up_proj": {"quant_algo": "W4A16_NVFP4", "group_size": 16}}
    raw = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    mixed = scheme_from_config(raw, where="m")
    assert mixed
    assert mixed.default.weight == ""
    assert [o.pair.weight for o in mixed.overrides] == ["fp8_e4m3", "nvfp4"]
    both = scheme_from_config(FP8 | {"quantized_layers": layers, "ignore": ["*.attn.*"]}, where="m")
    assert both
    assert (both.default.weight, both.ignore) == ("fp8_block128", ())      # the ignored modules are still fp8


def test_experts_of_another_format() -> None:
    s = scheme_from_config(FP8, where="m", expert_dtype="fp4")
    assert s
    assert s.moe
    assert (s.moe.weight, s.default.weight) == ("mxfp4", "fp8_block128")


@pytest.mark.parametrize("kv", ["FP8", "fp8_e4m3", {"num_bits": 8, "type": "float", "dynamic": False}])
def test_kv_spellings(kv: object) -> None:
    s = scheme_from_config({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": kv}, where="m")
    assert s
    assert s.kv == "fp8_e4m3"


@pytest.mark.parametrize(("raw", "hint"), [
    ({"quant_method": "gptqq"}, "gptq"), ({"quant_method": "modelopt", "quant_algo": "NVFP5"}, "NVFP4"),
    ({"quant_method": "fp8", "fmt": "e4m4"}, "e4m3"), ({"quant_method": "fp8", "weight_block_size": [64]}, "128"),
    ({"foo": 1}, "quant_method"), (CT, "config_groups"), (CT | group({"num_bits": 5, "type": "float"}), "num_bits"),
    ({"quant_method": "gptq", "bits": "4"}, "whole number"), ({"quant_method": "bitsandbytes"}, "load_in_4bit"),
    ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, "list of module names"),
])
def test_bad_configs_say_where_in_one_line(raw: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=r"^my-model") as e:
        scheme_from_config(raw, where="my-model")
    assert hint in str(e.value)
    assert "\n" not in str(e.value)
