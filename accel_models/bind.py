"""The one place that turns Devices into keyword arrays: axis 0 is the device (or a perturbed copy of it).

What a device file leaves out is filled by a stated rule (``generations.toml``) and listed as assumed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel_models.device import FORMATS, Device, Quantity
from accel_models.registry import System, is_shipped, load_device
from accel_models.units import KINDS, given

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Hardware:
    """Arrays of shape (devices,), SI units. ``rate_table`` holds dense rates per format after fallback, as files state them:
    those of engines made of units follow from their figures where products are priced (``families``).

    ``identity`` is (name, generation, kind) for the look-up of fitted parameters; ``engine`` the kind of the engine that
    multiplies, which chooses the formulas, ``figures`` its own numbers (resources of a part among them); ``native`` the
    formats it has rates for; ``process`` the node as the file names it. ``array_clock`` is that of the engine that
    multiplies. ``domain`` devices share the fast link; beyond it the network carries. ``launch_scale``
    multiplies the fixed time of every kernel.
    ``energy_per_op`` and ``energy_per_byte`` are those that the file states for its parts, NaN where it does not.
    """

    identity: tuple[tuple[str, str, str], ...]
    engine: tuple[str, ...]
    figures: tuple[Mapping[str, float], ...]
    native: tuple[frozenset[str], ...]
    process: tuple[str, ...]
    link_class: tuple[str, ...]
    assumed: tuple[tuple[str, ...], ...]
    rate_table: dict[str, Array]
    vector_rate: Array
    n_units: Array
    clock: Array
    array_clock: Array
    dram_bandwidth: Array
    dram_capacity: Array
    l2_bandwidth: Array
    l2_capacity: Array
    smem_per_unit: Array
    launch: Array
    launch_scale: Array
    tdp: Array
    idle: Array
    rental: Array
    energy_per_op: Array
    energy_per_byte: Array
    runtime_bytes: Array
    link_bandwidth: Array
    domain: Array
    network_bandwidth: Array

    def __len__(self) -> int:
        return len(self.identity)

    def rates(self, formats: Sequence[str]) -> Array:
        """Matrix rate of one format per device. [op/s]"""
        return np.array([self.rate_table[f][i] for i, f in enumerate(formats)])

    def figure(self, name: str, default: float | None = None) -> Array:
        """A number of the multiplying engine's own table ``figure``, (devices,). Raises ``ValueError`` naming the first
        device without it, unless there is a default."""
        for (device, *_), known in zip(self.identity, self.figures, strict=True):
            if name not in known and default is None:
                raise ValueError(f"{device}: engine figure {name!r} is missing; its kind of engine needs it, e.g. "
                                 f"[engine.matrix.figure] {name} = {{ value = ..., kind = ..., source = ... }}")
        return np.array([known.get(name, default) for known in self.figures], dtype=np.float64)

    def column(self, name: str, n_axes: int) -> Array:
        """A field as (devices, 1, ...), ready to broadcast against ``n_axes`` workload axes."""
        values: Array = getattr(self, name)
        return values.reshape((-1,) + (1,) * n_axes)


#: Rate of a link that is not there and never asked [B/s]; finite, so that nothing times it stays nothing.
NO_LINK = 1e30

#: Parameters that elasticities are taken of: dotted key -> the fields that grow with it.
PERTURBED = {
    "memory.main.bandwidth": ("dram_bandwidth",), "engine.matrix.rate": ("rate_table", "array_clock"),
    "engine.vector.rate": ("vector_rate",), "engine.units": ("n_units", "rate_table", "vector_rate", "l2_bandwidth"),
    "memory.l2.bandwidth": ("l2_bandwidth",), "memory.l2.capacity": ("l2_capacity",),
    "link.bandwidth": ("link_bandwidth",), "network.bandwidth": ("network_bandwidth",),
    "overhead.launch": ("launch_scale",),
    "engine.clock": ("clock",),              # what hangs on it beside the rates: ports into a fabric, cores between caches
}


def bind(devices: Sequence[Device], system: System | None = None) -> Hardware:
    """Arrays for these devices; ``system`` says how they are joined (without one: by each device's own fastest link)."""
    rows = [_row(d, system) for d in devices]
    for device, row in zip(devices, rows, strict=True):
        _check(device, row)
    names = [f.name for f in fields(Hardware) if f.type == "Array"]
    columns = {n: np.array([float(r[n]) for r in rows]) for n in names}
    table = {f: np.array([_rate(d, f) for d in devices]) for f in FORMATS}
    return Hardware(
        identity=tuple((d.name, d.generation, d.kind) for d in devices),
        engine=tuple(d.matrix.kind if d.matrix else "" for d in devices),
        figures=tuple(_engine_figures(d) for d in devices),
        native=tuple(frozenset(d.rates(stated=True)) for d in devices),
        process=tuple(d.area.process for d in devices),
        link_class=tuple(str(r["link_class"]) for r in rows), assumed=tuple(tuple(r["assumed"]) for r in rows),
        rate_table=table, **columns)


def perturb(hw: Hardware, step: float) -> tuple[Hardware, list[str]]:
    """The one bound device, followed by copies with one parameter of ``PERTURBED`` raised by the share ``step``."""
    if len(hw) != 1:
        raise ValueError(f"perturb takes one device, got {len(hw)}")
    keys = list(PERTURBED)
    n = len(keys) + 1
    factor = {k: np.ones(n) for k in {f for fs in PERTURBED.values() for f in fs}}
    for i, key in enumerate(keys, start=1):
        for name in PERTURBED[key]:
            factor[name][i] = 1.0 + step
    changed: dict[str, Any] = {f.name: np.repeat(getattr(hw, f.name), n) * factor.get(f.name, 1.0)
                                for f in fields(Hardware) if f.type == "Array"}
    table = {f: np.repeat(r, n) * factor["rate_table"] for f, r in hw.rate_table.items()}
    changed |= {name: getattr(hw, name) * n for name in _LISTED}
    return replace(hw, rate_table=table, **changed), keys


#: Fields that are tuples with an entry a device.
_LISTED = ("identity", "engine", "figures", "native", "process", "link_class", "assumed")


def take(hw: Hardware, places: Sequence[int]) -> Hardware:
    """Some of the bound devices, in the order named."""
    chosen: dict[str, Any] = {f.name: getattr(hw, f.name)[places] for f in fields(Hardware) if f.type == "Array"}
    chosen |= {name: tuple(getattr(hw, name)[i] for i in places) for name in _LISTED}
    return replace(hw, rate_table={f: r[places] for f, r in hw.rate_table.items()}, **chosen)


def alike(a: Hardware, b: Hardware) -> bool:
    """Whether every figure that formulas see is the same."""
    names = [f.name for f in fields(Hardware) if f.type == "Array"]
    same = a.figures == b.figures and a.process == b.process
    return (same and all(np.array_equal(getattr(a, n), getattr(b, n), equal_nan=True) for n in names)
            and all(np.array_equal(r, b.rate_table[f], equal_nan=True) for f, r in a.rate_table.items()))


@cache
def _rules() -> dict[str, dict[str, float]]:
    text = resources.files("accel_models").joinpath("generations.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _rule(generation: str, name: str) -> float:
    rules = _rules()
    return rules.get(generation, {}).get(name, rules["default"][name])


def _rate(device: Device, fmt: str) -> float:
    """Rate after fallback; NaN where the device cannot multiply this at all (pricing then fails loudly)."""
    try:
        return device.fallback(fmt, stated=True).rate
    except ValueError:
        return np.nan


def _check(device: Device, row: dict[str, Any]) -> None:
    """What is divided by cannot be zero; a figure that is not known is NaN and passes. Arrays of units need their shape."""
    if device.matrix and device.matrix.kind in KINDS:
        given(device.matrix.kind, {k: q.value for k, q in device.matrix.figure.items()}, where=device.name)
        if row["n_units"] < 1:
            raise ValueError(f"{device.name}: engine.matrix.units: must be at least 1, got {row['n_units']:g}")
    divisors = {"dram_bandwidth": f"memory.{device.main_memory}.bandwidth", "n_units": "engine.matrix.units",
                "vector_rate": "engine.vector.rate", "link_bandwidth": "link bandwidth",
                "network_bandwidth": "network bandwidth", "tdp": "power.tdp"}
    zero = [(f"engine.{name}.clock", e.clock.value) for name, e in device.engine.items() if e.clock and e.clock.value <= 0]
    zero += [(key, row[name]) for name, key in divisors.items() if row[name] <= 0]
    zero += [(f"rate.{f}", rate) for f, rate in device.rates(stated=True).items() if rate <= 0]
    if zero:
        raise ValueError(f"{device.name}: {zero[0][0]}: must be above 0, got {zero[0][1]:g}")


def _row(device: Device, system: System | None) -> dict[str, Any]:
    known = device.parameters()
    assumed = list(device.assumed())

    def value(key: str, rule: float, why: str) -> float:
        if key in known:
            return known[key]
        assumed.append(f"{key} ({why})")
        return rule

    matrix, vector = device.matrix, device.vector or device.matrix
    units = matrix.units.value if matrix and matrix.units else value("engine.matrix.units", 1.0, "one processor")
    clocked = next((e for e in (vector, matrix) if e and e.clock), None)
    clock = clocked.clock.value if clocked and clocked.clock else 0.0
    main = f"memory.{device.main_memory}"
    bandwidth = known.get(f"{main}.bandwidth", np.nan)
    per_clock = _rule(device.generation, "l2_bytes_per_clock")
    l2_rule = per_clock * units * clock if clock else _rule(device.generation, "l2_over_dram") * bandwidth
    has_l2 = "memory.l2.capacity" in known
    tdp = value("power.tdp", np.nan, "not known: no power or energy figures")
    fast, domain, network, link_class = _links(device, system)
    vector_rates = vector.rate if vector else {}
    return {
        "vector_rate": next((vector_rates[f].value for f in ("fp32", "fp16") if f in vector_rates),
                            max(device.rates(stated=True).values(), default=np.nan)),
        "n_units": units, "clock": clock,
        "array_clock": matrix.clock.value if matrix and matrix.clock else clock, "dram_bandwidth": bandwidth,
        "dram_capacity": value(f"{main}.capacity", np.nan, "not known"),
        "l2_capacity": known.get("memory.l2.capacity", 0.0),
        "l2_bandwidth": max(value("memory.l2.bandwidth", l2_rule, f"{per_clock:g} B per processor and clock"), bandwidth)
        if has_l2 else bandwidth,
        "smem_per_unit": known.get("memory.smem.capacity", 0.0),
        "launch": known.get("overhead.launch", 0.0), "launch_scale": _launch_scale(device), "tdp": tdp,
        "idle": value("power.idle", _rule(device.generation, "idle_share") * tdp, "share of TDP typical of GPUs"),
        "rental": known.get("price.rental", np.nan),
        "energy_per_op": matrix.energy_per_op.value if matrix and matrix.energy_per_op else np.nan,
        "energy_per_byte": known.get(f"{main}.energy_per_byte", np.nan),
        "runtime_bytes": value("memory for the runtime", _rule(device.generation, "runtime_bytes"), "1 GB")
        if device.kind == "gpu" else 0.0,
        "link_bandwidth": fast, "domain": domain, "network_bandwidth": network, "link_class": link_class,
        "assumed": assumed,
    }


def _engine_figures(device: Device) -> dict[str, float]:
    """Numbers of the multiplying engine's own: resources of the part, its figures, for cores inside NAND its geometry."""
    engine = device.matrix
    if engine is None:
        return {}
    found = {k: q.value for k, q in {**engine.resources, **engine.figure}.items()}
    nand = next((m.nand for m in device.memory.values() if m.nand), None)
    if engine.kind == "in_flash" and nand is not None:
        found |= {f"nand_{k}": q.value for k in type(nand).model_fields if isinstance(q := getattr(nand, k), Quantity)}
    return found


def _launch_scale(device: Device) -> float:
    """How much longer an empty kernel takes than on the shipped device that this one is, or is derived from: fitted
    overheads are those of shipped devices, so a changed launch time scales them."""
    mine = device.overhead.launch
    for name in (device.base, device.name):
        if mine and is_shipped(name) and (theirs := load_device(name).overhead.launch):
            return mine.value / theirs.value
    return 1.0


def _links(device: Device, system: System | None) -> tuple[float, float, float, str]:
    """Bandwidth inside the domain, its size, bandwidth beyond it, and the class of the fast link."""
    if system is not None and system.n_devices > 1:
        link = system.scale_up()
        beyond = system.network.bandwidth.value if system.network else NO_LINK
        if link is not None:
            return device.link[system.device[0].link].bandwidth.value, float(system.domain), beyond, link.kind
    best = max(device.link.values(), key=lambda x: x.bandwidth.value, default=None)
    if best is None:
        return NO_LINK, 1.0, NO_LINK, "pcie"
    return best.bandwidth.value, best.peers.value if best.peers else 8.0, NO_LINK, best.kind
