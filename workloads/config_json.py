"""From a public ``config.json`` to a :class:`ModelSpec`: find the language model in it, dispatch on ``model_type``.

Nothing is guessed silently: what had to be assumed stands in ``ModelSpec.notes``; what is not known is refused in
one line. The key ``_perfboard`` (where a bundled file came from) is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from workloads.config_fields import Fields
from workloads.families_classic import CLASSIC
from workloads.families_common import Reading
from workloads.families_hybrid import HYBRID
from workloads.families_latent import LATENT
from workloads.families_llama import TRAITS, read_llama_like
from workloads.families_recurrent import RECURRENT
from workloads.model_spec import ModelSpec

Reader = Callable[[Reading], ModelSpec]

READERS: dict[str, Reader] = {**dict.fromkeys(TRAITS, read_llama_like), **CLASSIC, **LATENT, **HYBRID, **RECURRENT}
# Values of the public configuration classes, which a nested text_config leaves out where they agree.
DEFAULTS: dict[str, dict[str, int]] = {
    "llama": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
              "vocab_size": 32000},
    "mistral": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
                "num_key_value_heads": 8, "vocab_size": 32000},
    "gemma3": {"hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
               "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208, "max_position_embeddings": 131072},
}
# Wrappers without a nested config, and renamed copies of a known family.
ALIASES = {"llava": "llama", "llava_llama": "llama", "Yi": "yi", "kimi_k25": "kimi_k2"}
MAX_LAYERS = 10_000
NESTS = ("text_config", "llm_config", "language_config", "thinker_config")
DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16", "float": "fp32"}
REFUSED = {
    **dict.fromkeys(("t5", "mt5", "umt5", "bart", "mbart", "marian", "pegasus", "encoder-decoder", "whisper", "m2m_100",
                     "longt5", "switch_transformers", "blenderbot", "nllb-moe", "t5gemma"),
                    "an encoder-decoder; only decoders and single encoders are modelled"),
    **dict.fromkeys(("vit", "clip", "siglip", "dinov2", "swin", "resnet", "convnext", "detr", "clip_vision_model",
                     "siglip_vision_model", "sam"), "a vision network; only language models are modelled"),
    "mllama": "a decoder with cross-attention to an image encoder in some layers, which is not modelled",
    **dict.fromkeys(("wav2vec2", "hubert"), "a speech network; only language models are modelled"),
}


def read_config(config: Mapping[str, Any], *, name: str, source: str = "", where: str = "") -> ModelSpec:
    """The network that a ``config.json`` describes.

    ``name`` is shown to people; ``source`` says where the shape comes from; ``where`` (a file; by default the name)
    opens every error line. Raises ``ValueError`` of one line. Quantisation dicts in the config are not read here.
    """
    r = _open(config, name, source, where or name)
    try:
        return READERS[r.family](r)
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(x) for x in first["loc"])
        raise ValueError(f"{where or name}: sizes of the config give {field} = {first['input']!r}, "
                         f"expected: {first['msg']}") from None


def _open(config: Mapping[str, Any], name: str, source: str, where: str) -> Reading:
    if not isinstance(config, dict):
        raise ValueError(f"{where}: found a {type(config).__name__}, expected a JSON object {{...}} as config.json is")
    top = Fields(config, where)
    text = top
    depth = 0
    while key := next((k for k in NESTS if isinstance(text.data.get(k), dict)), None):
        text = Fields(text.data[key], f"{text.where}: {key}")
        depth += 1
    family = _family(top, text)
    for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks"):
        if text.has(key) and text.size(key) > MAX_LAYERS:
            raise text.error(key, text.size(key), f"at most {MAX_LAYERS} layers")
    if depth:
        text.defaults = DEFAULTS.get(family, {})
    r = Reading(f=text, top=top, name=name, source=source, family=family, dtype="", nested=depth > 0)
    r.dtype = _dtype(r)
    return r


def _family(top: Fields, text: Fields) -> str:
    outer, inner = top.text("model_type"), text.text("model_type")
    for kind in (outer, inner):
        if kind in REFUSED:
            raise ValueError(f"{top.where}: model_type {kind!r} is {REFUSED[kind]}")
    if top.flag("is_encoder_decoder"):
        raise ValueError(f"{top.where}: is_encoder_decoder is true; only decoders and single encoders are modelled")
    found = inner or outer
    names = text.text_list("architectures") or top.text_list("architectures") or [""]
    if names[0] == "BitnetForCausalLM":          # published with model_type llama
        return "bitnet"
    if top.has("ssm_cfg") and not found:         # Mamba-2 as its authors publish it
        return "mamba2"
    for kind in (inner.removesuffix("_text"), outer, *(ALIASES.get(k, "") for k in (inner, outer))):
        if kind in READERS:
            return kind
    if not found:
        raise ValueError(f"{top.where}: model_type: missing, expected one of {', '.join(sorted(READERS))}")
    near = get_close_matches(found, READERS, n=3)
    raise ValueError(f"{top.where}: model_type: found {found!r}, which is not known"
                     + (f" (near: {', '.join(near)})" if near else f", expected one of {', '.join(sorted(READERS))}"))


def _dtype(r: Reading) -> str:
    for fields in (r.f, r.top):
        found = fields.text("dtype", "torch_dtype").removeprefix("torch.")
        if found:
            if found not in DTYPES:
                raise fields.error("dtype", found, ", ".join(DTYPES))
            return DTYPES[found]
    r.notes.append("dtype: not in the config, bf16 assumed")
    return "bf16"
