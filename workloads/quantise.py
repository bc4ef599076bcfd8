"""Quantisation schemes: which module is stored and multiplied in which number format.

``preset("W4A16")`` names a scheme, ``workloads.quant_config`` reads one from a checkpoint, ``apply_scheme`` puts it on
a network. Routers, norms, embeddings and the language head stay as they are unless a pattern names them.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Literal

from pydantic import BaseModel, ConfigDict

from workloads.formats import get_format
from workloads.model_spec import Experts, FeedForward, Layer, Linear, Mixer, ModelSpec

Kind = Literal["attention", "gemm", "moe", "router", "lm_head", "embed"]
_ROOTS = re.compile(r"^(?:(?:model|language_model|backbone|text_model|thinker)\.)+")
_ROUTER = re.compile(r"(?:^|\.)(?:gate|router|wg|shared_expert_gate)(?:\.|$)")


class Pair(BaseModel):
    """Formats of the stored weight and of the multiplied activation; "" leaves what is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    weight: str = ""
    act: str = ""


class Override(BaseModel):
    """A pattern on module paths and the formats of what it matches."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    pattern: str
    pair: Pair


class QuantScheme(BaseModel):
    """``ignore`` beats ``overrides`` (the last match counts) beats ``gemm``/``moe`` beats ``default``.

    Patterns are exact paths, prefixes ("model.layers.0.self_attn"), globs, "re:" regular expressions, or a bare
    component ("gate"). Roots such as ``model.`` and ``language_model.`` make no difference.
    ``kv`` is the cache format, ``attention`` the format scores are computed in; "" leaves what is there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    default: Pair = Pair()
    gemm: Pair | None = None
    moe: Pair | None = None
    overrides: tuple[Override, ...] = ()
    ignore: tuple[str, ...] = ()
    kv: str = ""
    attention: str = ""
    notes: tuple[str, ...] = ()


# -- which module a pattern means -------------------------------------------------------------------------------------

@cache
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], bool]:
    """One test for a whole list: checkpoints list up to a thousand modules, one by one."""
    plain = {_ROOTS.sub("", p) for p in patterns if not p.startswith("re:") and not set(p) & set("*?[")}
    globs = [fnmatch.translate(_ROOTS.sub("", p) + tail) for p in patterns
             if not p.startswith("re:") and set(p) & set("*?[") for tail in ("", ".*")]
    glob = re.compile("|".join(globs)) if globs else None
    regexes = tuple(_regex(p[3:]) for p in patterns if p.startswith("re:"))

    def matches(path: str) -> bool:
        short = _ROOTS.sub("", path)
        parts = short.split(".")
        if any(".".join(parts[:i]) in plain for i in range(1, len(parts) + 1)) or plain.intersection(parts):
            return True
        # a leading "*." must also match at the root, so one more spelling is tried
        if glob and (glob.match(short) or glob.match("model." + short)):
            return True
        spelled = (path, short, f"model.{short}", f"language_model.model.{short}", f"model.language_model.{short}")
        return any(r.match(s) for r in regexes for s in spelled)

    return matches


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as e:
        raise ValueError(f"ignore pattern 're:{text}' is no regular expression ({e})") from None


def _matches(patterns: tuple[str, ...], paths: tuple[str, ...]) -> bool:
    return any(_matcher(patterns)(p) for p in paths) if patterns else False


_AS_IT_IS = Pair()


def _pair(scheme: QuantScheme, kind: Kind, paths: tuple[str, ...]) -> Pair:
    if _matches(scheme.ignore, paths):
        return _AS_IT_IS
    for o in reversed(scheme.overrides):
        if _matches((o.pattern,), paths):
            return o.pair
    if kind in ("router", "lm_head", "embed"):
        return _AS_IT_IS
    return (scheme.moe if kind == "moe" else scheme.gemm) or scheme.default


# -- putting it on a network ------------------------------------------------------------------------------------------

def _formats(pair: Pair) -> dict[str, str]:
    return {k: v for k, v in (("weight", pair.weight), ("act", pair.act)) if v}


def _linear_pair(x: Linear, scheme: QuantScheme, path: str, kind: Kind) -> Pair:
    return _pair(scheme, "router" if _ROUTER.search(x.name) else kind, (f"{path}{x.name}",))


def _experts_pair(e: Experts, scheme: QuantScheme, path: str) -> Pair:
    """Checkpoints name the experts' module, or the linears of each expert."""
    full = f"{path}{e.name}"
    return _pair(scheme, "moe", (full, *(f"{full}.0.{n}" for n in ("gate_proj", "up_proj", "w1", "w3"))))


def _pairs(x: Layer, scheme: QuantScheme, path: str) -> Iterator[Pair]:
    """Formats of each module of a layer, in the order in which ``_layer`` takes them."""
    if x.mixer:
        yield from (_linear_pair(y, scheme, path, "attention") for y in x.mixer.linears)
    if x.ffn:
        yield from (_linear_pair(y, scheme, path, "gemm") for y in x.ffn.linears)
        if x.ffn.experts:
            yield _experts_pair(x.ffn.experts, scheme, path)


def _layer(x: Layer, pairs: Iterator[Pair]) -> Layer:
    mixer: Mixer | None = x.mixer
    ffn: FeedForward | None = x.ffn
    if mixer:
        mixer = mixer.model_copy(update={
            "linears": tuple(y.model_copy(update=_formats(next(pairs))) for y in mixer.linears)})
    if ffn:
        ffn = ffn.model_copy(update={
            "linears": tuple(y.model_copy(update=_formats(next(pairs))) for y in ffn.linears),
            "experts": ffn.experts and ffn.experts.model_copy(update=_formats(next(pairs)))})
    return x.model_copy(update={"mixer": mixer, "ffn": ffn})


def apply_scheme(spec: ModelSpec, scheme: QuantScheme) -> ModelSpec:
    """The same network in the scheme's formats. Distinct layers are split where depths differ, equal ones merged."""
    index: dict[Layer, int] = {}
    known: dict[tuple[object, ...], int] = {}      # most depths are alike: each kind is built once
    pattern = []
    for i, kind in enumerate(spec.pattern):
        pairs = list(_pairs(spec.layers[kind], scheme, f"{spec.layer_prefix}.{i}."))
        key = (kind, *((p.weight, p.act) for p in pairs))
        if key not in known:
            known[key] = index.setdefault(_layer(spec.layers[kind], iter(pairs)), len(index))
        pattern.append(known[key])
    change: dict[str, object] = {"layers": tuple(index), "pattern": tuple(pattern)}
    if scheme.kv:
        change["kv_format"] = scheme.kv
    if scheme.attention:
        change["attention_format"] = scheme.attention
    if spec.lm_head:
        names = tuple(dict.fromkeys((spec.lm_head.name, "lm_head")))
        change["lm_head"] = spec.lm_head.model_copy(update=_formats(_pair(scheme, "lm_head", names)))
    if weight := _pair(scheme, "embed", ("embed", "embed_tokens")).weight:
        change["embed_format"] = weight
    return spec.model_copy(update=change)


# -- names ------------------------------------------------------------------------------------------------------------

# Meaning as in the compressed-tensors preset schemes of the same names; W4 groups are 128 there.
PRESETS: dict[str, tuple[str, str]] = {
    "W4A16": ("int4_g128", ""), "W4A16_ASYM": ("int4_g128z", ""), "W8A16": ("int8", ""), "W4A8": ("int4_g128", "int8"),
    "W4AFP8": ("int4_g128", "fp8_e4m3"), "INT8_W8A8": ("int8", "int8"), "FP8": ("fp8_e4m3", "fp8_e4m3"),
    "FP8_DYNAMIC": ("fp8_e4m3", "fp8_e4m3"), "FP8_BLOCK": ("fp8_block128", "fp8_g128"), "NVFP4": ("nvfp4", "nvfp4"),
    "NVFP4A16": ("nvfp4", ""), "MXFP4": ("mxfp4", "mxfp4"), "MXFP4A16": ("mxfp4", ""), "MXFP8": ("mxfp8", "mxfp8"),
    "INT8": ("int8", "int8"), "INT4": ("int4_g128", ""), "TERNARY": ("ternary", "int8"), "BF16": ("bf16", "bf16"),
    "FP16": ("fp16", "fp16"), "NONE": ("", ""),
}
_GRAMMAR = re.compile(r"W([1-8])(?:A(4|8|16))?(?:[_-]?G(\d+))?(?:_(ASYM))?")


def preset(name: str) -> QuantScheme:
    """The scheme of a ``--quant`` name: a preset, ``W{1..8}A{4,8,16}[_gN][_asym]``, ``w3``, or a number format.

    A bare number format below 16 bit means weights only, except those the presets name (fp8, int8, nvfp4 ...).
    ``WEIGHT/ACTIVATION`` names two number formats: ``bit2/bit8``, ``int4_g128/int8``. Modules that differ follow behind
    semicolons, each a pattern and what it gets: ``W4A8; lm_head=W4A8; q_proj=int4+8:16/int8``.
    """
    if ";" in name:
        first, *others = name.split(";")
        return preset(first).model_copy(update={"name": name.strip(), "overrides": tuple(map(_override, others))})
    if "/" in name:
        stored, _, multiplied = name.strip().partition("/")
        return QuantScheme(name=name.strip(), default=Pair(weight=get_format(stored).name, act=get_format(multiplied).name))
    key = name.strip().upper().replace("-", "_")
    if key in PRESETS:
        weight, act = PRESETS[key]
        return QuantScheme(name=key, default=Pair(weight=weight, act=act))
    if found := _GRAMMAR.fullmatch(key):
        bits, act_bits, group, asym = int(found[1]), found[2] or "16", found[3], found[4]
        size = group or ("" if bits == 8 else "128")
        weight = f"int{bits}" + (f"_g{size}{'z' if asym else ''}" if size else "")
        get_format(weight)
        return QuantScheme(name=key, default=Pair(weight=weight, act="" if act_bits == "16" else f"int{act_bits}"))
    try:
        fmt = get_format(name)
    except ValueError:
        near = difflib.get_close_matches(key, [*PRESETS, "W3A16", "W4A16_G64", "INT4_G128"], n=3, cutoff=0.4)
        raise ValueError(f"--quant: unknown scheme {name!r}; did you mean {', '.join(near) or 'FP8, W4A16, NVFP4'}? "
                         "Or two number formats, WEIGHT/ACTIVATION: pot3/int8, bit1/bit1") from None
    return QuantScheme(name=fmt.name, default=Pair(weight=fmt.name, act=fmt.name if fmt.bits >= 16 else ""))


def _override(text: str) -> Override:
    """``pattern=scheme``. Raises ``ValueError`` for anything else."""
    pattern, equals, scheme = (part.strip() for part in text.partition("="))
    if not (pattern and equals and scheme):
        raise ValueError(f"--quant: {text.strip()!r} is no 'pattern=scheme', e.g. lm_head=W4A8")
    return Override(pattern=pattern, pair=preset(scheme).default)


def with_modes(scheme: QuantScheme, *, gemm: str = "", moe: str = "", kv: str = "", attention: str = "") -> QuantScheme:
    """Flags of single module kinds on top of a scheme: ``gemm`` and ``moe`` are presets, the others number formats."""
    change: dict[str, object] = {}
    if gemm:
        change["gemm"] = preset(gemm).default
    if moe:
        change["moe"] = preset(moe).default
    if kv:
        change["kv"] = get_format(kv).name
    if attention:
        change["attention"] = get_format(attention).name
    return scheme.model_copy(update=change)
