"""Quantisation as checkpoints state it: ``quantization_config`` of a config.json and ``hf_quant_config.json``.

Conventions read: fp8 (per block or per tensor), modelopt (one algorithm or MIXED_PRECISION by layer),
compressed-tensors, mxfp4, gptq, awq, bitsandbytes, bitnet, and files without ``quant_method``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from workloads.formats import get_format
from workloads.quantise import Override, Pair, QuantScheme

Raw = Mapping[str, Any]

# modelopt's quant_algo -> formats; {g} is the file's group size (modelopt documentation, "quant_algo")
_ALGOS: dict[str, tuple[str, str]] = {
    "FP8": ("fp8_e4m3", "fp8_e4m3"), "FP8_PER_CHANNEL_PER_TOKEN": ("fp8_e4m3", "fp8_e4m3"),
    "FP8_PB_WO": ("fp8_block128", ""), "FP8_PB_REAL": ("fp8_block128", "fp8_g128"),
    "NVFP4": ("nvfp4", "nvfp4"), "W4A16_NVFP4": ("nvfp4", ""), "NVFP4_AWQ": ("nvfp4", "nvfp4"),
    "W4A8_NVFP4_FP8": ("nvfp4", "fp8_e4m3"), "MXFP4": ("mxfp4", "mxfp4"), "W4A8_MXFP4_FP8": ("mxfp4", "fp8_e4m3"),
    "MXFP8": ("mxfp8", "mxfp8"), "W4A16_AWQ": ("int4_g{g}", ""), "W4A8_AWQ": ("int4_g{g}", "fp8_e4m3"),
    "INT4_AWQ": ("int4_g{g}", ""), "W8A16": ("int8", ""), "W8A8_SQ_PER_CHANNEL": ("int8", "int8"),
    "INT8": ("int8", "int8"), "INT8_SQ": ("int8", "int8"), "W4A16": ("int4_g{g}", ""), "NONE": ("", ""),
}
_KV = {"": "", "NONE": "", "AUTO": "", "FP8": "fp8_e4m3", "FP8_E4M3": "fp8_e4m3", "FP8_E5M2": "fp8_e5m2",
       "INT8": "int8", "INT4": "int4", "NVFP4": "nvfp4", "BF16": "bf16", "FP16": "fp16"}
_FMT = {"e4m3": "fp8_e4m3", "float8_e4m3fn": "fp8_e4m3", "float8_e4m3": "fp8_e4m3", "e5m2": "fp8_e5m2",
        "float8_e5m2": "fp8_e5m2"}

_EXPERTS = {"fp4": Pair(weight="mxfp4", act="fp8_g128"), "fp8": Pair(weight="fp8_block128", act="fp8_g128"),
            "bfloat16": Pair(weight="bf16", act="bf16")}


def _pick(table: Mapping[str, Any], key: str, *, where: str, field: str) -> Any:
    if key in table:
        return table[key]
    near = difflib.get_close_matches(key, list(table), n=3, cutoff=0.4) or [k for k in table if k][:6]
    raise ValueError(f"{where}: {field}: unknown value {key!r}; did you mean {', '.join(near)}?")


def _int(q: Raw, key: str, default: int, where: str) -> int:
    value = q.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{where}: {key}: found {value!r}, expected a whole number")
    return value


def _dict(value: object, where: str, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {field}: found {value!r}, expected an object")
    return value


def _names(q: Raw, where: str) -> tuple[str, ...]:
    """The modules left alone, whatever the key is called."""
    found: list[str] = []
    for key in ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "llm_int8_skip_modules"):
        value = q.get(key) or []
        if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
            raise ValueError(f"{where}: {key}: found {value!r}, expected a list of module names"[:300])
        found += value
    return tuple(dict.fromkeys(found))


def _kv(q: Raw, where: str) -> str:
    """``kv_cache_quant_algo`` (a name) or ``kv_cache_scheme`` (a name or an object of num_bits and type)."""
    for key in ("kv_cache_quant_algo", "kv_cache_scheme"):
        value = q.get(key)
        if isinstance(value, dict):
            return _number(value, f"{where}: {key}", weight=False)
        if value is not None:
            return str(_pick(_KV, str(value).upper(), where=where, field=key))
    return ""


def _number(args: Raw, where: str, *, weight: bool, packing: str = "") -> str:
    """Format of compressed-tensors arguments: num_bits, type, group_size, strategy, symmetric, block_structure."""
    bits, group, kind = _int(args, "num_bits", 8, where), _int(args, "group_size", 0, where), args.get("type", "int")
    if kind not in ("int", "float"):
        raise ValueError(f"{where}: type: unknown value {kind!r}; did you mean int or float?")
    if kind == "float":
        e8m0 = "mxfp" in packing or args.get("scale_dtype") == "torch.uint8" or group == 32
        table = {4: "mxfp4" if e8m0 else "nvfp4", 6: "mxfp6", 8: "mxfp8" if e8m0 else "fp8_e4m3", 16: "bf16"}
        if bits not in table:
            raise ValueError(f"{where}: num_bits: found {bits}, expected one of 4, 6, 8, 16 for type float")
        if bits == 8 and (args.get("strategy") == "block" or args.get("block_structure")):
            return "fp8_block128" if weight else "fp8_g128"
        return "fp8_g128" if bits == 8 and group == 128 else table[bits]
    if not 1 <= bits <= 8:
        raise ValueError(f"{where}: num_bits: found {bits}, expected 1 to 8 for type int")
    zero = "z" if args.get("symmetric") is False and weight else ""
    name = f"int{bits}" + (f"_g{group}{zero}" if group > 0 else "")
    return name + ("+2:4" if weight and "24" in packing else "")


def _group_pair(group: Raw, where: str, packing: str) -> Pair:
    packing = group.get("format") or packing
    weights, acts = group.get("weights"), group.get("input_activations")
    weight = _number(_dict(weights, where, "weights"), where, weight=True, packing=packing) if weights else ""
    act = _number(_dict(acts, where, "input_activations"), where, weight=False, packing=packing) if acts else ""
    return Pair(weight=weight, act=act)


def _groups(q: Raw, where: str) -> tuple[Pair, tuple[Override, ...]]:
    """Default and overrides of ``config_groups``; the target "Linear" means every linear map."""
    default, overrides, packing = Pair(), [], str(q.get("format") or "")
    for key, value in _dict(q.get("config_groups"), where, "config_groups").items():
        group = _dict(value, where, f"config_groups.{key}")
        pair = _group_pair(group, f"{where}: config_groups.{key}", packing)
        targets = group.get("targets") or ["Linear"]
        if "Linear" in targets:
            default = pair
        overrides += [Override(pattern=t, pair=pair) for t in targets if t != "Linear"]
    return default, tuple(overrides)


def _algo(name: object, q: Raw, where: str) -> Pair:
    weight, act = _pick(_ALGOS, str(name).upper(), where=where, field="quant_algo")
    return Pair(weight=weight.format(g=_int(q, "group_size", 128, where)), act=act)


def _layers(q: Raw, where: str) -> tuple[Override, ...]:
    layers = _dict(q.get("quantized_layers") or {}, where, "quantized_layers")
    return tuple(Override(pattern=path, pair=_algo(_dict(x, where, path).get("quant_algo"), x, f"{where}: {path}"))
                 for path, x in layers.items())


# -- one reader per quant_method --------------------------------------------------------------------------------------

def _fp8(q: Raw, where: str) -> QuantScheme:
    """``weight_block_size`` present: scales per block, activations per 1 x 128; else per tensor."""
    plain = _pick(_FMT, str(q.get("fmt", "e4m3")), where=where, field="fmt")
    block = q.get("weight_block_size")
    if block not in (None, [128, 128]):
        raise ValueError(f"{where}: weight_block_size: found {block!r}, expected [128, 128]")
    activation = q.get("activation_scheme", "dynamic")
    if activation not in ("dynamic", "static"):
        raise ValueError(f"{where}: activation_scheme: unknown value {activation!r}; did you mean dynamic or static?")
    small = "_e8m0" if q.get("scale_fmt") == "ue8m0" else ""
    pair = Pair(weight=f"fp8_block128{small}", act="fp8_g128") if block else Pair(weight=plain, act=plain)
    overrides = _layers(q, where)
    # With layers quantised further by another tool, its ignore list speaks of that tool: what it left is still fp8.
    left = {"modules_to_not_convert": q.get("modules_to_not_convert")} if overrides else q
    return QuantScheme(name="fp8_block" if block else "fp8", default=pair, overrides=overrides,
                       ignore=_names(left, where), kv=_kv(q, where))


def _modelopt(q: Raw, where: str) -> QuantScheme:
    """``quant_algo`` for all linears, or MIXED_PRECISION with one per module."""
    algo = str(q.get("quant_algo") or ("MIXED_PRECISION" if q.get("quantized_layers") else "NONE")).upper()
    mixed = algo == "MIXED_PRECISION"
    default = Pair() if mixed else _algo(algo, q, where)
    overrides = _layers(q, where)
    if mixed and not overrides and q.get("config_groups"):
        default, overrides = _groups(q, where)
    return QuantScheme(name=algo.lower(), default=default, overrides=overrides, ignore=_names(q, where),
                       kv=_kv(q, where))


def _compressed(q: Raw, where: str) -> QuantScheme:
    default, overrides = _groups(q, where)
    sparse = q.get("sparsity_config") or {}
    note = (f"sparsity_config {sparse.get('format')!r} not applied",) if sparse else ()
    return QuantScheme(name=str(q.get("format") or "compressed-tensors"), default=default, overrides=overrides,
                       ignore=_names(q, where), kv=_kv(q, where), notes=note)


def _mxfp4(q: Raw, where: str) -> QuantScheme:
    return QuantScheme(name="mxfp4", default=Pair(weight="mxfp4"), ignore=_names(q, where))


def _weight_only(q: Raw, where: str) -> QuantScheme:
    """gptq (``sym``) and awq (``zero_point``): integer groups; group_size -1 is one group a column."""
    bits = _int(q, "bits", _int(q, "w_bit", 4, where), where)
    group = _int(q, "group_size", _int(q, "q_group_size", 128, where), where)
    if not 1 <= bits <= 8:
        raise ValueError(f"{where}: bits: found {bits}, expected 1 to 8")
    # gptq stores zero points in symmetric files too (qzeros); awq as it says
    zero = bool(q.get("zero_point", True))
    name = f"int{bits}" + (f"_g{group}{'z' if zero else ''}" if group > 0 else "")
    return QuantScheme(name=str(q.get("quant_method")), default=Pair(weight=name), ignore=_names(q, where))


def _bitsandbytes(q: Raw, where: str) -> QuantScheme:
    if q.get("load_in_8bit") or q.get("_load_in_8bit"):
        pair = Pair(weight="int8", act="int8")
    elif q.get("load_in_4bit") or q.get("_load_in_4bit"):
        pair = Pair(weight="nf4_dq" if q.get("bnb_4bit_use_double_quant") else "nf4")
    else:
        raise ValueError(f"{where}: bitsandbytes: neither load_in_8bit nor load_in_4bit is true, expected one")
    return QuantScheme(name="bitsandbytes", default=pair, ignore=_names(q, where))


def _bitnet(q: Raw, where: str) -> QuantScheme:
    return QuantScheme(name="bitnet", default=Pair(weight="ternary2", act="int8"), ignore=_names(q, where))


_READERS: dict[str, Callable[[Raw, str], QuantScheme]] = {
    "fp8": _fp8, "modelopt": _modelopt, "modelopt_fp4": _modelopt, "compressed-tensors": _compressed,
    "mxfp4": _mxfp4, "gptq": _weight_only, "awq": _weight_only, "bitsandbytes": _bitsandbytes, "bitnet": _bitnet,
}


def _method(q: Raw, where: str) -> str:
    """``quant_method``, or what the other keys say where it is missing."""
    if q.get("quant_method"):
        return str(q["quant_method"]).lower()
    for key, method in (("quant_algo", "modelopt"), ("quantized_layers", "modelopt"), ("fmt", "fp8"),
                        ("weight_block_size", "fp8"), ("config_groups", "compressed-tensors"), ("bits", "gptq"),
                        ("load_in_4bit", "bitsandbytes"), ("load_in_8bit", "bitsandbytes")):
        if key in q:
            return method
    raise ValueError(f"{where}: quant_method: missing, expected one of {', '.join(_READERS)}")


def _check(scheme: QuantScheme, where: str) -> QuantScheme:
    for pair in {scheme.default, *(o.pair for o in scheme.overrides)}:
        for name in (pair.weight, pair.act):
            try:
                if name:
                    get_format(name)
            except ValueError as e:
                raise ValueError(f"{where}: {e}") from None
    return scheme


def scheme_from_config(quantization_config: Raw | None, hf_quant: Raw | None = None, *, where: str,
                       expert_dtype: str | None = None) -> QuantScheme | None:
    """The scheme a checkpoint states, or None for an unquantised one. ``where`` opens every error line.

    ``quantization_config`` wins over the separate file, which may be whole or its ``quantization`` part alone and
    adds the cache format and excluded modules that the config leaves out. ``expert_dtype`` is that key of the
    config.json (DeepSeek-V4): experts stored apart from the rest.
    """
    extra = None
    if hf_quant is not None:
        whole = f"{where} (hf_quant_config.json)"
        extra = _modelopt(_dict(hf_quant.get("quantization", hf_quant), whole, "quantization"), whole)
    if not quantization_config:
        return _check(extra, where) if extra else None
    q = _dict(quantization_config, where, "quantization_config")
    place = f"{where}: quantization_config"
    scheme = _pick(_READERS, _method(q, place), where=place, field="quant_method")(q, place)
    if expert_dtype:
        scheme = scheme.model_copy(update={"moe": _pick(_EXPERTS, expert_dtype, where=where, field="expert_dtype"),
                                           "notes": (*scheme.notes, "expert_dtype fp4 read as mxfp4: assumed")
                                           if expert_dtype == "fp4" else scheme.notes})
    if extra and not scheme.kv:
        scheme = scheme.model_copy(update={"kv": extra.kv})
    if extra and not scheme.ignore and not scheme.overrides:
        scheme = scheme.model_copy(update={"ignore": extra.ignore, "overrides": extra.overrides})
    return _check(scheme, place)
