"""Options that several commands share, named as users of serving tools know them."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, TypeVar

import click

from sim.query import Query

F = TypeVar("F", bound=Callable[..., Any])


def _option(*names: str, **rest: Any) -> Callable[[F], F]:
    """An option that may also be given in the environment, under each of its long names (``PERFBOARD_TP_SIZE=8``)."""
    variables = [f"PERFBOARD_{n.removeprefix('--').replace('-', '_').upper()}" for n in names if n.startswith("--")]
    return click.option(*names, envvar=variables, **rest)


_MODEL = (
    _option("-m", "--model", "--model-path", "model", required=True, metavar="MODEL",
                 help="Bundled model (perfboard model list), path of a config.json or of its folder."),
)
_HARDWARE = (
    _option("--hw", "--system", "hw", required=True, metavar="DEVICE[,DEVICE...]",
                 help="Device or system (perfboard hw list), TOML file, or '8x h100_sxm'."),
)
_WORKLOAD = (
    _option("--bs", "--batch-size", "--concurrency", "batch", type=int, default=1, show_default=True,
                 help="Sequences in flight per replica."),
    _option("--isl", type=int, default=1024, show_default=True, help="Prompt length [tokens]."),
    _option("--osl", type=int, default=128, show_default=True, help="Output length [tokens]."),
    _option("--prefix", type=int, default=0, show_default=True, help="Prompt tokens already in the cache."),
)
_DEPLOYMENT = (
    _option("--tp", "--tp-size", "tp", type=int, default=1, show_default=True, help="Tensor parallelism."),
    _option("--pp", "--pp-size", "pp", type=int, default=1, show_default=True, help="Pipeline parallelism."),
    _option("--dp", type=int, default=1, show_default=True, help="Data parallelism (replicas)."),
    _option("--ep", type=int, default=1, show_default=True, help="Devices that the experts are spread over."),
    _option("--etp", type=int, default=0, help="Ways each expert is cut (default: what remains of tp)."),
    _option("--quant", default="", metavar="NAME",
            help="Number formats: W4A16, FP8, NVFP4, w3, or WEIGHT/ACTIVATION: pot3/int8 (default: the config's)."),
    _option("--gemm-quant-mode", "gemm_quant", default="", metavar="NAME", help="... of dense layers only."),
    _option("--moe-quant-mode", "moe_quant", default="", metavar="NAME", help="... of routed experts only."),
    _option("--kvcache-quant-mode", "--kv-cache-dtype", "kv_quant", default="", metavar="NAME", help="... of the KV cache."),
    _option("--fmha-quant-mode", "fmha_quant", default="", metavar="NAME", help="... of attention's products."),
    _option("--gpu-memory-utilization", "utilization", type=float, default=0.9, show_default=True,
                 help="Share of memory for weights and cache."),
    _option("--framework", default="", metavar="NAME", help="Kernel library whose fit is used (vllm, trtllm, ...)."),
)
_SETS = (
    _option("--set", "sets", multiple=True, metavar="KEY=VALUE",
                 help="Change a value: memory.hbm.bandwidth=6TB/s, model.num_hidden_layers=40. Repeatable."),
)


def _apply(function: F, options: tuple[Callable[[F], F], ...]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def query_options(function: F) -> F:
    """Model, hardware, workload, deployment and ``--set``: everything that makes a ``Query``."""
    return _apply(function, _MODEL + _HARDWARE + _WORKLOAD + _DEPLOYMENT + _SETS)


def query_from(values: dict[str, Any], hw: str) -> Query:
    """A query from the parsed options, for one of the devices named by ``--hw``."""
    known = {k: v for k, v in values.items() if k in Query.__dataclass_fields__ and k not in ("hw", "sets")}
    return Query(hw=hw, sets=tuple(pair(text, "--set") for text in values.get("sets", ())), **known)


def pair(text: str, where: str) -> tuple[str, str]:
    """``KEY=VALUE`` as two texts."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip() or not value.strip():
        raise ValueError(f"{where} {text!r}: expected KEY=VALUE, for instance memory.hbm.bandwidth=6TB/s")
    return key.strip(), value.strip()


def changes(text: str, where: str = "--vs") -> dict[str, str]:
    """The pairs of one ``--vs``: ``hw=b200_sxm quant=fp8``."""
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{where} {text!r}: {error}; expected KEY=VALUE pairs") from None
    if not parts:
        raise ValueError(f"{where} {text!r}: expected KEY=VALUE, for instance quant=fp8")
    return dict(pair(part, where) for part in parts)


def hardware_names(text: str) -> list[str]:
    """The comma-separated devices of ``--hw``."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise ValueError("--hw: names no device   (perfboard hw list)")
    return names
