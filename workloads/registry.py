"""Models by name: the bundled ``config.json`` files, aliases, and configs on disk.

``load_config`` reads a config with its raw quantisation dicts; ``load_model`` goes on to the :class:`ModelSpec`.
A name is a Hugging Face id, its last part, an alias (all case-insensitive), or a path to a ``config.json`` or to a
directory that holds one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from workloads.config_json import read_config
from workloads.model_spec import ModelSpec

MAX_BYTES = 4_000_000           # the largest public config.json is some 100 kB; a weight file must not be read as one
_ALIASES = {
    "llama-7b": "llama-7b", "llama-13b": "llama-13b", "llama-33b": "llama-30b", "llama1-7b": "llama-7b",
    "llama1-13b": "llama-13b", "llama1-30b": "llama-30b", "llama1-65b": "llama-65b",
    "llama-2-7b": "llama-2-7b-hf", "llama-2-13b": "llama-2-13b-hf", "llama-2-70b": "llama-2-70b-hf",
    "llama2-7b": "llama-2-7b-hf", "llama2-13b": "llama-2-13b-hf", "llama2-70b": "llama-2-70b-hf",
    "llama-2-7b-chat-hf": "llama-2-7b-hf", "llama-2-13b-chat-hf": "llama-2-13b-hf",
    "llama-2-70b-chat-hf": "llama-2-70b-hf",
    "llama-3-8b": "meta-llama-3-8b", "llama-3-70b": "meta-llama-3-70b", "llama3-8b": "meta-llama-3-8b",
    "llama3-70b": "meta-llama-3-70b", "llama-3-8b-1m": "llama-3-8b-instruct-gradient-1048k",
    "llama3.1-8b": "llama-3.1-8b", "llama3.1-70b": "llama-3.1-70b", "llama3.1-405b": "llama-3.1-405b",
    "meta-llama-3.1-8b": "llama-3.1-8b", "meta-llama-3.1-70b": "llama-3.1-70b",
    "meta-llama-3.1-405b": "llama-3.1-405b", "llama-3.1-8b-instruct": "llama-3.1-8b",
    "llama-3.1-70b-instruct": "llama-3.1-70b", "llama-3.1-405b-instruct": "llama-3.1-405b",
    "llama-3.3-70b-instruct": "llama-3.1-70b", "llama-4-scout": "llama-4-scout-17b-16e-instruct",
    "mistral-7b": "mistral-7b-v0.1", "mixtral-8x7b": "mixtral-8x7b-v0.1", "mixtral-8x22b": "mixtral-8x22b-v0.1",
    "mixtral-8x7b-instruct-v0.1": "mixtral-8x7b-v0.1", "turbosparse-mixtral-47b": "turbosparse-mixtral",
    "gpt3": "gpt3-175b", "gpt-3": "gpt3-175b", "gpt-3-175b": "gpt3-175b", "bloom-176b": "bloom",
    "bloom-7b": "bloom-7b1",
    "bert-large": "bert-large-uncased", "phi-3-mini-128k": "phi-3-mini-128k-instruct", "gpt-j": "gpt-j-6b",
    "glm-4-9b": "glm-4-9b-chat", "glm-4-9b-1m": "glm-4-9b-chat-1m", "vicuna-7b": "vicuna-7b-v1.5",
    "vicuna-13b": "vicuna-13b-v1.5", "llava-v1.5-7b": "llava-1.5-7b-hf", "llava-1.5-7b": "llava-1.5-7b-hf",
    "bitnet-b1.58-3b": "bitnet_b1_58-3b", "bitnet-b1.58-2b-4t": "bitnet-b1.58-2b-4t-bf16",
    "matmulfree-370m": "mmfreelm-370m", "matmulfree-1.3b": "mmfreelm-1.3b", "matmulfree-2.7b": "mmfreelm-2.7b",
    "kimi-k2": "kimi-k2-instruct", "qwen3-coder-480b": "qwen3-coder-480b-a35b-instruct",
    "tinyllama-1.1b": "tinyllama-1.1b-chat-v1.0", "nemotron-3-nano": "nvidia-nemotron-3-nano-30b-a3b-bf16",
}


@dataclass(frozen=True)
class RawConfig:
    """A config as found. ``quantization_config``: the dict inside it, if any (of the nested language model, too);
    ``hf_quant_config``: the file of that name beside it, if any (a bundled file holds it under ``_hf_quant_config``).
    ``origin`` is the file it came from."""

    name: str
    config: dict[str, Any]
    quantization_config: dict[str, Any] | None
    hf_quant_config: dict[str, Any] | None
    origin: str
    source: str = ""


@cache
def _bundled() -> dict[str, str]:
    """Model id -> file name of the bundled configs."""
    folder = resources.files("workloads.models")
    files = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".json"))
    return {name.removesuffix(".json").replace("__", "/"): name for name in files}


@cache
def _names() -> dict[str, str]:
    """Every accepted spelling in lower case -> model id."""
    table = {name.rsplit("/", 1)[-1].lower(): name for name in _bundled()}
    table |= {name.lower(): name for name in _bundled()}
    return table | {alias: table[target] for alias, target in _ALIASES.items()}


def list_models() -> tuple[str, ...]:
    """Ids of the bundled models, sorted."""
    return tuple(sorted(_bundled(), key=str.lower))


def is_bundled(name_or_path: str | Path) -> bool:
    """Does this name one of the bundled models (rather than a file, or nothing)?"""
    return str(name_or_path).strip().lower() in _names()


def load_model(name_or_path: str | Path) -> ModelSpec:
    """The ModelSpec of a bundled model or of a config on disk. Quantisation stays apart: see ``load_config``."""
    raw = load_config(name_or_path)
    return read_config(raw.config, name=raw.name, source=raw.source, where=raw.origin)


def load_config(name_or_path: str | Path) -> RawConfig:
    """The raw config with its quantisation dicts; refuses, in one line, what is not there or not a config."""
    text = str(name_or_path)
    if name := _names().get(text.strip().lower()):
        file = resources.files("workloads.models") / _bundled()[name]
        config = _parse(file.read_text(encoding="utf-8"), _bundled()[name])
        return _raw(name, config, config.get("_hf_quant_config"), _bundled()[name])
    try:
        path = Path(name_or_path).expanduser()
        if path.is_dir() and text:
            if not (path / "config.json").is_file():
                raise ValueError(f"{path}: found a directory without a config.json, expected one that holds it")
            path = path / "config.json"
        if path.is_file():
            return _from_disk(path)
    except (OSError, RuntimeError) as e:      # too long a name, no permission, no such home directory
        raise ValueError(f"{text[:200]}: {e.strerror if isinstance(e, OSError) else e}, "
                         "expected a readable config.json or a model name") from None
    raise _unknown(text)


def _unknown(text: str) -> ValueError:
    if text.endswith(".json") or text.startswith((".", "~", "/")):
        return ValueError(f"{text}: no such file, expected a config.json or a model name (perfboard model list)")
    key = text.lower().rsplit("/", 1)[-1]
    near = list(dict.fromkeys(_names()[k] for k in get_close_matches(key, _names(), n=6, cutoff=0.5)))[:3]
    hint = f"Did you mean {' or '.join(near)}?" if near else "See the list of bundled models."
    return ValueError(f"unknown model {text!r}. {hint}   (perfboard model list; or a path to a config.json)")


def _from_disk(path: Path) -> RawConfig:
    config = _parse(_read(path), str(path))
    beside = path.with_name("hf_quant_config.json")
    if path.name.endswith("_config.json") and not beside.is_file():
        beside = path.with_name(path.name.removesuffix("config.json") + "hf_quant_config.json")
    quant = _parse(_read(beside), str(beside)) if beside.is_file() else None
    return _raw(_name_of(path.resolve()), config, quant, str(path))


def _name_of(path: Path) -> str:
    """A name to show: the directory's (in a Hub cache, the repository's), or the file's where it is not config.json."""
    if path.name != "config.json":
        return path.name.removesuffix(".json").removesuffix("_config").replace("__", "/")
    hub = path.parents[2].name if len(path.parents) > 2 and path.parent.parent.name == "snapshots" else ""
    return hub.removeprefix("models--").replace("--", "/") if hub else path.parent.name or str(path)


def _raw(name: str, config: dict[str, Any], quant: dict[str, Any] | None, origin: str) -> RawConfig:
    found: dict[str, Any] | None = None
    for level in (config, *(config.get(k) for k in ("text_config", "llm_config", "language_config"))):
        if isinstance(level, dict) and level.get("quantization_config") is not None and found is None:
            found = level["quantization_config"]
            if not isinstance(found, dict):
                raise ValueError(f"{origin}: quantization_config: found {found!r:.60}, expected an object {{...}}")
    about = config.get("_perfboard")
    source = str(about.get("source", "")) if isinstance(about, dict) else origin
    return RawConfig(name, config, found, quant, origin, source)


def _read(path: Path) -> str:
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"{path}: found {size} bytes, expected a config.json of at most {MAX_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: found bytes that are not text, expected JSON in UTF-8") from None


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"{where}: line {e.lineno}, column {e.colno}: {e.msg}, expected complete JSON") from None
    except (ValueError, RecursionError) as e:      # a number of thousands of digits, nesting without end
        raise ValueError(f"{where}: {e}, expected a config.json") from None
    if not isinstance(config, dict):
        raise ValueError(f"{where}: found a {type(config).__name__}, expected a JSON object {{...}}")
    return config
