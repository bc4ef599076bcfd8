"""What an axis may be: the names of all parameters, the values they take, and the question that a point asks.

Names: ``model``, ``model.quant``, ``model.<key of its config>``; ``hardware``, ``hardware.<number of the device>``;
``deployment.tp`` ...; ``workload.isl`` ...; and ``var.<anything>`` for quantities that only expressions use.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from accel_models.device import Device
from accel_models.quantity import parse_noted
from accel_models.registry import load_system
from sim.query import Query, resolve
from sim.sweep.experiment import Experiment
from sim.techniques import TECHNIQUES

#: Parameter -> field of ``sim.query.Query``, and its type.
FIELDS: dict[str, tuple[str, type]] = {
    "model": ("model", str), "hardware": ("hw", str),
    **{f"model.{n}": (n, str) for n in ("quant", "gemm_quant", "moe_quant", "kv_quant", "fmha_quant")},
    **{f"deployment.{n}": (n, int) for n in ("tp", "pp", "dp", "ep", "etp")},
    "deployment.framework": ("framework", str), "deployment.gpu_memory_utilization": ("utilization", float),
    **{f"workload.{n}": (n, int) for n in ("isl", "osl", "prefix")}, "workload.concurrency": ("batch", int),
}
ALIASES = {"model.path": "model", "hardware.base": "hardware", "hw": "hardware", "workload.batch": "workload.concurrency",
           "workload.bs": "workload.concurrency", "deployment.utilization": "deployment.gpu_memory_utilization"}
#: Parameters that may differ from point to point within one array call.
WORKLOAD = ("workload.isl", "workload.osl", "workload.prefix", "workload.concurrency")


class Kind(NamedTuple):
    """How values of a parameter are read: ``type`` int, float or str; ``dimension`` of a quantity, else empty."""

    type: type
    dimension: str = ""


def canonical(name: str) -> str:
    """The one name of a parameter."""
    if name.startswith("hw."):
        name = "hardware." + name.removeprefix("hw.")
    return ALIASES.get(name, name)


def is_parameter(name: str) -> bool:
    return canonical(name).split(".")[0] in ("model", "hardware", "deployment", "workload", "technique", "var")


def is_hardware(name: str) -> bool:
    """A number of the device (which may differ from point to point), not the device itself."""
    return name.startswith("hardware.")


def key(device: Device, name: str) -> str:
    """The device's own key of a number (short forms as in ``--set hw.mem_bw=...``). Raises ``ValueError``."""
    return device.key("hw." + name.removeprefix("hardware."))


def kind(name: str, devices: Sequence[str], where: str) -> Kind:
    """How values of ``name`` are read. Raises ``ValueError`` with the nearest names for one that does not exist."""
    if name in FIELDS:
        return Kind(FIELDS[name][1])
    if name.startswith("var.") and name != "var.":
        return Kind(float)
    if is_hardware(name):
        dimensions = set()
        for device in devices:
            main = load_system(device).main
            try:
                dimensions.add(main.settable()[key(main, name)])
            except ValueError as error:
                raise ValueError(f"{where}: {name}: {error}") from None
        return Kind(float, dimensions.pop())
    if name.startswith("model.") and name != "model.":
        return Kind(object)
    if name.startswith("technique."):
        return _setting(name, where)
    raise ValueError(f"{where}: unknown axis {name!r}; nearest: {', '.join(nearest(name, devices))}")


def _setting(name: str, where: str) -> Kind:
    """A setting of a technique. Raises ``ValueError`` with the nearest for one that does not exist."""
    known = [f"technique.{t}.{f}" for t, c in TECHNIQUES.items() for f in c.model_fields]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:2]
        raise ValueError(f"{where}: unknown axis {name!r}; nearest: {', '.join(near)}")
    return Kind(object)


def nearest(name: str, devices: Sequence[str]) -> list[str]:
    known = [*FIELDS, *(f"hardware.{k}" for d in devices[:1] for k in load_system(d).main.settable())]
    return difflib.get_close_matches(name, known, n=3, cutoff=0.4) or list(FIELDS)[:3]


def value(raw: object, of: Kind, where: str) -> Any:
    """One value of a parameter in base units. Raises ``ValueError``."""
    if of.dimension:
        if not isinstance(raw, str | int | float):
            raise ValueError(f"{where}: found {raw!r}, expected {of.dimension}")
        return parse_noted(raw, of.dimension, where=where).value
    if of.type is object:
        return raw
    if of.type is str:
        if not isinstance(raw, str):
            raise ValueError(f"{where}: found {raw!r}, expected a text")
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not np.isfinite(raw) or (of.type is int and raw % 1):
        raise ValueError(f"{where}: found {raw!r}, expected {'a whole number' if of.type is int else 'a number'}")
    return of.type(raw)


def values(raw: Sequence[object], of: Kind, where: str) -> np.ndarray[Any, Any]:
    """The values of an axis, in base units; quantities must all be written with units of one dimension, or none with any."""
    if of.dimension:
        bare = [r for r in raw if not isinstance(r, str)]
        if bare and len(bare) < len(raw):
            raise ValueError(f"{where}: mixed units: {bare[0]!r} has none, but {next(r for r in raw if isinstance(r, str))!r}"
                             f" has; expected {of.dimension}, e.g. all with a unit")
    found = [value(r, of, where) for r in raw]
    kinds = {type(v) for v in found}
    if of.type is object and len(kinds) > 1 and not kinds <= {int, float}:
        raise ValueError(f"{where}: mixed kinds of values: {', '.join(repr(r) for r in raw[:4])}")
    array = np.array(found)
    if len(np.unique(array)) < len(array):
        raise ValueError(f"{where}: a value stands there twice")
    return array


def base_values(experiment: Experiment) -> dict[str, Any]:
    """Every parameter that the file states outside the sweep, by its canonical name; hardware as it is written."""
    d, w, m = experiment.deployment, experiment.workload, experiment.model
    known: dict[str, Any] = {"model": m.path, "hardware": experiment.hardware.base}
    known |= {f"model.{n}": getattr(m, n) for n in ("quant", "gemm_quant", "moe_quant", "kv_quant", "fmha_quant")}
    known |= {name: getattr(d, name.split(".")[1]) for name in FIELDS if name.startswith("deployment.")}
    known |= {name: getattr(w, name.split(".")[1]) for name in FIELDS if name.startswith("workload.")}
    known |= {f"model.{k}": v for k, v in m.overrides.items()}
    known |= {f"technique.{t['use']}.{k}": v for t in experiment.techniques for k, v in t.items() if k != "use"}
    return known | {f"hardware.{k.removeprefix('hardware.').removeprefix('hw.')}": v
                    for k, v in experiment.hardware.overrides.items()}


def query(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Query:
    """The question of one point: base values, and ``changes`` of any but the device's numbers."""
    merged = {**base, **changes}
    known = {FIELDS[k][0]: FIELDS[k][1](v) for k, v in merged.items() if k in FIELDS}
    sets = tuple((k, _text(v)) for k, v in merged.items()
                 if k.startswith("model.") and k not in FIELDS)
    fixed = tuple((k.removeprefix("hardware."), _text(v)) for k, v in base.items() if is_hardware(k))
    return Query(**known, sets=sets + fixed)


def _text(v: Any) -> str:
    return str(v).lower() if isinstance(v, bool | np.bool_) else str(v)


def check_model_keys(values: Mapping[str, Any], models: Iterable[str], device: str, where: str) -> None:
    """Raise ``ValueError`` for a key that a model's config does not have, or a value that it cannot take."""
    for name, found in values.items():
        if name.startswith("model.") and name not in FIELDS:
            for model in models:
                try:
                    resolve(Query(model=model, hw=device, isl=1, osl=1, sets=((name, _text(found)),)))
                except ValueError as error:
                    raise ValueError(f"{where}: {name}: {error}") from None
