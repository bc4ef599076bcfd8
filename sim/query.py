"""A question as people put it, resolved into a model, hardware, a split and a workload."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from accel_models.bind import alike, bind
from accel_models.device import Device
from accel_models.fitted_store import check_framework
from accel_models.registry import System, load_system
from sim.estimate import Workload
from workloads.config_json import read_config
from workloads.model_spec import ModelSpec
from workloads.parallel import Parallel
from workloads.quant_config import scheme_from_config
from workloads.quantise import QuantScheme, apply_scheme, preset, with_modes
from workloads.registry import is_bundled, load_config

_MODEL_PREFIX = "model."


@dataclass(frozen=True, kw_only=True)
class Query:
    """One question. Names as on the command line; ``sets`` are (key, value) pairs of ``--set``.

    ``quant`` names a preset ("" keeps what the model's own config says); the four ``*_quant`` fields override it for
    one kind of module. Lengths in tokens, ``batch`` in sequences per replica.
    """

    model: str
    hw: str
    batch: int = 1
    isl: int = 1024
    osl: int = 128
    prefix: int = 0
    quant: str = ""
    gemm_quant: str = ""
    moe_quant: str = ""
    kv_quant: str = ""
    fmha_quant: str = ""
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    etp: int = 0
    utilization: float = 0.9
    framework: str = ""
    sets: tuple[tuple[str, str], ...] = field(default=())

    def changed(self, changes: dict[str, str]) -> Query:
        """The same question with some fields replaced; unknown names are taken as ``--set`` keys."""
        known: dict[str, object] = {}
        sets = dict(self.sets)
        for key, text in changes.items():
            name = _ALIASES.get(key, key.replace("-", "_"))
            if name in _CASTS:
                known[name] = _cast(name, key, text)
            else:
                sets[key] = text
        return replace(self, sets=tuple(sets.items()), **known)  # type: ignore[arg-type]


_ALIASES = {"bs": "batch", "batch-size": "batch", "tp-size": "tp", "pp-size": "pp", "system": "hw", "model-path": "model",
            "kv-cache-dtype": "kv_quant", "kvcache-quant-mode": "kv_quant", "gemm-quant-mode": "gemm_quant",
            "moe-quant-mode": "moe_quant", "fmha-quant-mode": "fmha_quant", "gpu-memory-utilization": "utilization"}
_CASTS: dict[str, type] = {"model": str, "hw": str, "batch": int, "isl": int, "osl": int, "prefix": int, "quant": str,
                           "gemm_quant": str, "moe_quant": str, "kv_quant": str, "fmha_quant": str, "tp": int, "pp": int,
                           "dp": int, "ep": int, "etp": int, "utilization": float, "framework": str}


def _cast(name: str, key: str, text: str) -> object:
    try:
        return _CASTS[name](text)
    except ValueError:
        raise ValueError(f"{key}: expected {'a whole number' if _CASTS[name] is int else 'a number'}, got {text!r}") from None


@dataclass(frozen=True)
class Setting:
    """A query resolved: everything that the estimate needs, and what the device lacks."""

    query: Query
    spec: ModelSpec
    system: System
    parallel: Parallel
    workload: Workload
    notes: tuple[str, ...]

    @property
    def device(self) -> Device:
        return self.system.main


def resolve(query: Query) -> Setting:
    """Load, quantise, change and check. Raises ``ValueError`` with one line that says what is wrong."""
    parallel = Parallel(tp=query.tp, pp=query.pp, dp=query.dp, ep=query.ep, etp=query.etp)
    check_framework(query.framework, ("gemm", "attention", "moe", "elementwise", "collective", "cpu"))
    spec = _model(query)
    system = _system(query, parallel)
    workload = Workload(batch=query.batch, isl=query.isl, osl=query.osl, prefix=query.prefix,
                        utilization=query.utilization)
    workload.check(spec)
    parallel.check(spec)
    if system.n_devices < parallel.n_devices:
        raise ValueError(f"hw: {system.name} has {system.n_devices} device(s), but {parallel.label()} needs "
                         f"{parallel.n_devices}; try --hw '{parallel.n_devices}x {system.main.name}'")
    return Setting(query, spec, system, parallel, workload, (*spec.notes, *_without_effect(query, system)))


def load_spec(name: str, *, quant: str = "") -> ModelSpec:
    """A model by name or path, in the formats its own config states or in those of ``quant``."""
    return _model(Query(model=name, hw="", quant=quant))


def _model(query: Query) -> ModelSpec:
    sets = tuple((k.removeprefix(_MODEL_PREFIX), v) for k, v in query.sets if k.startswith(_MODEL_PREFIX))
    asked = (query.model, sets, query.quant, query.gemm_quant, query.moe_quant, query.kv_quant, query.fmha_quant)
    # What is bundled does not change while we run; a user's file may.
    return _bundled_model(*asked) if is_bundled(query.model) else _read_model(*asked)


def _read_model(model: str, sets: tuple[tuple[str, str], ...], quant: str, gemm: str, moe: str, kv: str,
                attention: str) -> ModelSpec:
    raw = load_config(model)
    config = dict(raw.config)
    for key, value in sets:
        _set_config(config, key, value, raw.name)
    spec = read_config(config, name=raw.name, source=raw.source)
    scheme = (preset(quant) if quant
              else scheme_from_config(raw.quantization_config, raw.hf_quant_config, where=raw.origin,
                                      expert_dtype=str(config.get("expert_dtype") or "") or None))
    if gemm or moe or kv or attention:
        scheme = with_modes(scheme or QuantScheme(name="none"), gemm=gemm, moe=moe, kv=kv, attention=attention)
    return apply_scheme(spec, scheme) if scheme else spec


_bundled_model = lru_cache(maxsize=256)(_read_model)


def _set_config(config: dict[str, object], path: str, value: str, name: str) -> None:
    """Replace one key of a config, keeping its type; a key the config does not have is refused with the nearest."""
    node = config
    *parents, last = path.split(".")
    for step in parents:
        child = node.get(step)
        if not isinstance(child, dict):
            raise ValueError(f"--set model.{path}: {name} has no section {step!r}")
        node[step] = node = dict(child)
    if last not in node:
        near = difflib.get_close_matches(last, node, n=3, cutoff=0.5)
        raise ValueError(f"--set model.{path}: {name} has no key {last!r}"
                         + (f"; nearest: {', '.join(near)}" if near else ""))
    old = node[last]
    node[last] = _as_type_of(old, value, f"--set model.{path}")


def _as_type_of(old: object, text: str, where: str) -> object:
    if isinstance(old, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{where}: expected true or false, got {text!r}")
        return text.lower() == "true"
    if isinstance(old, int) or old is None:
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{where}: expected a whole number, got {text!r}") from None
    if isinstance(old, float):
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"{where}: expected a number, got {text!r}") from None
    if isinstance(old, str):
        return text
    raise ValueError(f"{where}: only numbers, flags and texts can be set, this is a {type(old).__name__}")


def _system(query: Query, parallel: Parallel) -> System:
    """The system asked for; a single device stands for as many of it as the split needs, on its own link."""
    system = load_system(query.hw)
    if system.n_devices == 1 and parallel.n_devices > 1 and len(system.devices) == 1:
        system = load_system(f"{parallel.n_devices}x {query.hw}")
    changes = [(k, v) for k, v in query.sets if not k.startswith(_MODEL_PREFIX)]
    if not changes:
        return system
    device = system.main
    for key, value in changes:
        device = device.with_value(key, value)
    return system.model_copy(update={"devices": (device, *system.devices[1:])})


def _without_effect(query: Query, system: System) -> Iterator[str]:
    """A remark for each changed figure that no estimate uses, lest its user takes the unchanged answer for a finding."""
    shipped = load_system(query.hw).main
    for key, value in query.sets:
        if key.startswith(_MODEL_PREFIX):
            continue
        changed = shipped.with_value(key, value)
        differs = changed.parameters() != shipped.parameters()
        if differs and alike(bind([shipped], system), bind([changed], system)):
            yield f"{key} is changed, but no estimate uses it yet"

