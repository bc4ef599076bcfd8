"""What a device is: engines, memories, links, power, price; each number with its unit, kind and source.

A ``Device`` is read from a TOML file (see ``accel_models/devices``) and never written to. Rates are dense, link
bandwidths per direction and device, energies per byte; everything is SI inside (areas in m^2).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict

from accel_models import units
from accel_models.quantity import echo, parse_noted

Kind = Literal["datasheet", "measured", "fitted", "assumed", "derived"]
Format = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int4", "fp6", "fp4", "int1"]
FORMATS: tuple[str, ...] = get_args(Format)


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quantity(Strict):
    """A number with a source. ``value`` is SI; ``text`` is how it was written."""

    value: float
    text: str = ""
    dimension: str = ""
    kind: Kind
    source: str = ""
    note: str = ""

    def __str__(self) -> str:
        text = echo(self.value, self.dimension)
        return text.replace("OP/s", "FLOP/s") if "FLOP" in self.text.upper() else text


def _quantity(raw: Any, dimension: str) -> Any:
    if isinstance(raw, Quantity):
        return raw
    if not isinstance(raw, Mapping):
        kinds = "|".join(get_args(Kind))
        raise ValueError(f'found {raw!r}, expected {{ value = ..., kind = "{kinds}", source = ... }}')
    if "value" not in raw:
        raise ValueError("has no 'value'")
    value, note = parse_noted(raw["value"], dimension)
    if not (raw.get("source") or raw.get("note")):
        raise ValueError(f"{raw['value']!r} names no source (or, if assumed, a reason in 'note')")
    said = "; ".join(t for t in (str(raw.get("note", "")), note) if t)
    return dict(raw) | {"value": value, "text": str(raw["value"]), "dimension": dimension, "note": said}


def _of(dimension: str) -> BeforeValidator:
    return BeforeValidator(partial(_quantity, dimension=dimension))


Bytes = Annotated[Quantity, _of("bytes")]
Bandwidth = Annotated[Quantity, _of("bytes/s")]
Rate = Annotated[Quantity, _of("ops/s")]
Seconds = Annotated[Quantity, _of("s")]
Hertz = Annotated[Quantity, _of("Hz")]
Watts = Annotated[Quantity, _of("W")]
EnergyPerByte = Annotated[Quantity, _of("J/B")]
EnergyPerOp = Annotated[Quantity, _of("J/op")]
Area = Annotated[Quantity, _of("m2")]
Dollars = Annotated[Quantity, _of("USD")]
DollarsPerHour = Annotated[Quantity, _of("USD/h")]
Count = Annotated[Quantity, _of("count")]


#: Dimension of an engine's own figure, by the end of its name; none of these: a plain count.
_SUFFIXES = {"_bytes_per_s": "bytes/s", "_bytes": "bytes", "_hz": "Hz", "_s": "s", "_j": "J/op", "_w": "W"}


def _figures(raw: Any) -> Any:
    """Numbers of any name, each parsed in the dimension that its name ends in."""
    if not isinstance(raw, Mapping):
        return raw
    return {k: _quantity(v, _figure_dimension(k)) for k, v in raw.items()}


def _figure_dimension(name: str) -> str:
    return next((d for end, d in _SUFFIXES.items() if name.endswith(end)), "count")


class Engine(Strict):
    """Something that computes. ``units`` are SMs, CUs, cores or tiles; ``rate`` is of the whole device, dense.

    ``energy_per_op``: of one multiplication or addition, wires and control included; without it energies are lent by
    measured devices. ``bandwidth``: what this engine alone draws from the main memory, where that is less than the memory
    gives. ``figure``: numbers that the formulas of this kind of engine take besides (see ``accel_models/families``).
    """

    kind: str
    units: Count | None = None
    clock: Hertz | None = None
    rate: dict[Format, Rate] = {}
    energy_per_op: EnergyPerOp | None = None
    bandwidth: Bandwidth | None = None
    resources: dict[str, Count] = {}         # FPGA: lut, dsp, bram18, uram
    figure: Annotated[dict[str, Quantity], BeforeValidator(_figures)] = {}

    def rates(self, device: str) -> dict[str, float]:
        """Dense peak per format [op/s]: as stated, and of an engine made of units as its contract and shape give it."""
        stated: dict[str, float] = {fmt: q.value for fmt, q in self.rate.items()}
        if self.kind not in units.KINDS or not self.clock:
            return stated
        shape = {name: q.value for name, q in self.figure.items()}
        count = (self.units.value if self.units else 1.0) * shape.get("arrays_per_unit", 1.0)
        return units.rates(self.kind, shape, units=count, clock=self.clock.value, where=device) | stated


class Nand(Strict):
    """What lies behind a storage memory: dies on channels, a controller, a host queue. See ``cost.storage.read``.

    ``like`` names the storage device whose part is built in here; figures given beside it replace that device's.
    """

    like: str = ""
    channels: Count | None = None
    chips: Count | None = None               # per channel
    dies: Count | None = None                # per chip
    planes: Count | None = None              # per die
    multi_plane: Count | None = None         # 1: all planes of a die read at once, 0: one page at a time
    cache_read: Count | None = None          # 1: a die reads on while its last page is transferred
    page: Bytes | None = None
    t_read: Seconds | None = None            # tR, cells to page register
    t_command: Seconds | None = None         # channel time per page beside its data
    t_ecc: Seconds | None = None             # decoding latency, pipelined
    channel_rate: Bandwidth | None = None
    request_time: Seconds | None = None      # latency of host, controller and firmware per request, not a NAND access
    request_rate: Rate | None = None         # most requests per second that the controller takes
    link_rate: Bandwidth | None = None       # host link as reached; default: bandwidth of the memory
    queues: Count | None = None
    depth: Count | None = None               # commands per queue
    issue_cycles: Count | None = None        # of the host core that submits and completes a request
    contention: Count | None = None          # share of the rate lost when many cores share one queue
    spread: Count | None = None              # n pages in a row lie on n^spread dies
    readahead: Bytes | None = None           # window that the drive fetches ahead of sequential reads
    readahead_min: Bytes | None = None       # smallest sequential request that it does so for
    mapped: Bytes | None = None              # range whose address map the controller keeps at hand


class Memory(Strict):
    """A level of memory. ``per_unit``: capacity and bandwidth are those of one engine unit."""

    level: Literal["dram", "cache", "scratchpad", "registers", "storage"]
    capacity: Bytes | None = None
    bandwidth: Bandwidth | None = None
    write_bandwidth: Bandwidth | None = None
    latency: Seconds | None = None
    energy_per_byte: EnergyPerByte | None = None
    block: Bytes | None = None               # storage: request size at which the bandwidth holds
    nand: Nand | None = None                 # storage: what its reads are made of
    per_unit: bool = False


class Link(Strict):
    """A way out of the device. Bandwidth per direction and device; ``peers`` is the size of the domain it spans."""

    kind: Literal["nvlink", "pcie", "xgmi", "ethernet", "infiniband", "c2c", "on_board", "ici", "hccs", "storage"]
    bandwidth: Bandwidth
    latency: Seconds | None = None
    peers: Count | None = None


class Power(Strict):
    tdp: Watts | None = None
    idle: Watts | None = None


class Price(Strict):
    list: Dollars | None = None
    rental: DollarsPerHour | None = None


class AreaInfo(Strict):
    """``figure``: areas of the device's own parts in place of those of ``technology.toml``, by the names there
    (``sram_mm2_per_bit``, ``hbm_phy_mm2`` ...) and ``mm2_per_mac`` for its multipliers."""

    die: Area | None = None
    process: str = ""
    figure: Annotated[dict[str, Quantity], BeforeValidator(_figures)] = {}


class Overhead(Strict):
    launch: Seconds | None = None            # one kernel in a stream
    graph_launch: Seconds | None = None      # one kernel in a captured graph


class Fallback(BaseModel):
    """The format an engine really computes in, and why (empty if native)."""

    model_config = ConfigDict(frozen=True)
    fmt: str
    reason: str
    rate: float


#: Wider formats to try in turn when an engine lacks one. Weights are converted in registers: bytes stay, rate changes.
_WIDER: dict[str, tuple[str, ...]] = {
    "int1": ("int4", "int8", "fp16", "bf16", "fp32"), "int4": ("int8", "fp16", "bf16", "fp32"),
    "int8": ("fp16", "bf16", "fp32"), "fp4": ("fp8", "bf16", "fp16", "fp32"), "fp6": ("fp8", "bf16", "fp16", "fp32"),
    "fp8": ("bf16", "fp16", "fp32"), "bf16": ("fp16", "fp32"), "fp16": ("bf16", "fp32"),
    "tf32": ("fp32",), "fp32": ("fp64",), "fp64": (),
}
_ALIASES = {"hw.mem_bw": "main.bandwidth", "hw.memory_bandwidth": "main.bandwidth", "hw.mem_capacity": "main.capacity",
            "hw.tdp": "power.tdp", "hw.launch": "overhead.launch", "hw.price": "price.rental"}


#: Numbers that a table of each section may hold, with their dimension.
_NUMBERS: dict[str, dict[str, str]] = {
    "engine": {"units": "count", "clock": "Hz", "energy_per_op": "J/op",
               "bandwidth": "bytes/s"} | {f"rate.{f}": "ops/s" for f in FORMATS},
    "memory": {"capacity": "bytes", "bandwidth": "bytes/s", "write_bandwidth": "bytes/s", "latency": "s",
               "energy_per_byte": "J/B", "block": "bytes"},
    "link": {"bandwidth": "bytes/s", "latency": "s", "peers": "count"},
    "power": {"tdp": "W", "idle": "W"}, "price": {"list": "USD", "rental": "USD/h"}, "area": {"die": "m2"},
    "overhead": {"launch": "s", "graph_launch": "s"},
}


class Device(Strict):
    """One chip or card. ``main_memory`` names the memory that holds weights and KV cache."""

    name: str
    title: str
    vendor: str
    kind: Literal["gpu", "npu", "fpga", "cpu", "tpu", "phone", "flash", "accelerator"]
    generation: str
    aliases: tuple[str, ...] = ()
    base: str = ""
    year: int = 0
    notes: str = ""
    main_memory: str
    engine: dict[str, Engine] = {}
    memory: dict[str, Memory]
    link: dict[str, Link] = {}
    power: Power = Power()
    price: Price = Price()
    area: AreaInfo = AreaInfo()
    overhead: Overhead = Overhead()

    @property
    def main(self) -> Memory:
        return self.memory[self.main_memory]

    @property
    def matrix(self) -> Engine | None:
        """The matrix engine, else the vector engine, which then also multiplies matrices."""
        return self.engine.get("matrix") or self.engine.get("vector") or next(iter(self.engine.values()), None)

    @property
    def vector(self) -> Engine | None:
        return self.engine.get("vector")

    def seen_by(self, engine: str) -> Device:
        """The device with one of its engines alone: that one multiplies, at the memory bandwidth that it can draw.

        Raises ``ValueError`` naming the engines there are.
        """
        if engine not in self.engine:
            raise ValueError(f"{self.name}: no engine {engine!r}; it has {', '.join(self.engine) or 'none'}")
        mine = self.engine[engine]
        # A matrix engine leaves norms and softmax to the vector engine beside it; any other engine is on its own.
        engines = {k: v for k, v in self.engine.items() if k == "vector"} if engine == "matrix" else {}
        memories = dict(self.memory)
        if mine.bandwidth:
            memories[self.main_memory] = self.main.model_copy(update={"bandwidth": mine.bandwidth})
        return self.model_copy(update={"engine": engines | {"matrix": mine}, "memory": memories})

    def quantities(self) -> dict[str, Quantity]:
        """Every number of the device by its dotted key, in file order."""
        return dict(_walk(self, ""))

    def parameters(self) -> dict[str, float]:
        """Every number of the device by its dotted key, SI."""
        return {key: q.value for key, q in _walk(self, "")}

    def assumed(self) -> list[str]:
        return [key for key, q in _walk(self, "") if q.kind == "assumed"]

    def settable(self) -> dict[str, str]:
        """Every dotted key that may hold a number here, given in the file or not, with its dimension."""
        keys = {key: q.dimension for key, q in _walk(self, "")}
        for section, names in (("engine", self.engine), ("memory", self.memory), ("link", self.link)):
            fields = _NUMBERS[section]
            keys |= {f"{section}.{name}.{f}": dim for name in names for f, dim in fields.items()
                     if f"{section}.{name}.{f}" not in keys}
        for name, engine in self.engine.items():
            keys |= {f"engine.{name}.figure.{f}": _figure_dimension(f) for f in units.figures(engine.kind)
                     if f"engine.{name}.figure.{f}" not in keys}
        for section in ("power", "price", "area", "overhead"):
            keys |= {f"{section}.{f}": dim for f, dim in _NUMBERS[section].items()}
        return keys

    def key(self, path: str) -> str:
        """The dotted key that ``path`` means (``hw.mem_bw``, ``hardware.power.tdp``, ``memory.main.capacity``)."""
        known = self.settable()
        short = _ALIASES.get(path, path)
        for prefix in ("hardware.", "hw.", "device."):
            short = short.removeprefix(prefix)
        if short.startswith(("memory.main.", "main.")):
            short = f"memory.{self.main_memory}.{short.rsplit('.', 1)[1]}"
        if short in known:
            return short
        near = difflib.get_close_matches(short, known, n=3, cutoff=0.4) or list(known)[:3]
        raise ValueError(f"{self.name}: no parameter {short!r}; nearest: {', '.join(near)}")

    def get(self, path: str) -> float:
        """SI value of a parameter. Raises ``ValueError`` for one that does not exist or was not given."""
        key = self.key(path)
        found = self.quantities().get(key)
        if found is None:
            raise ValueError(f"{self.name}: {key}: not given in the device file; set it, e.g. --set {key}=...")
        return found.value

    def with_value(self, path: str, value: str | float, *, note: str = "set by the user") -> Device:
        """A copy with one parameter replaced, marked as assumed. The name stays: results quote the change.

        More units or a faster clock raise the rates of that engine in proportion; a rate set by itself stays as set.
        """
        key = self.key(path)
        if key.startswith("engine.matrix.rate.") and self.follows():
            raise ValueError(f"{self.name}: {key}: {self.follows()}")
        old, dimension = self.quantities().get(key), self.settable()[key]
        parsed, said = parse_noted(value, dimension, where=f"{self.name}: {key}")
        was = f"was {old}" if old else "was not given"
        new = Quantity(value=parsed, text=str(value), dimension=dimension, kind="assumed", source="set by hand",
                       note="; ".join(t for t in (note, said, was) if t))
        changed: Device = _replace(self, key.split("."), new)
        kind, _, rest = key.partition(".")
        name, _, field = rest.partition(".")
        if kind == "engine" and field in ("units", "clock") and old and old.value:
            changed = changed._scaled(name, new.value / old.value, f"scaled with {field}, {was}")
        return changed

    def follows(self) -> str:
        """Why the multiplying engine's rates cannot be stated: they follow from a contract. Empty where they can be."""
        if self.matrix is None or self.matrix.kind not in units.KINDS or self.kind == "gpu":
            return ""
        return ("follows from the shape and the clock of arrays of units; change engine.matrix.units, engine.matrix.clock or "
                "engine.matrix.figure.*")

    def _scaled(self, engine: str, factor: float, why: str) -> Device:
        """A copy whose rates of one engine are multiplied."""
        rates = {f: q.model_copy(update={"value": q.value * factor, "kind": "derived", "note": why})
                 for f, q in self.engine[engine].rate.items()}
        scaled: Device = _replace(self, ["engine", engine, "rate"], rates)  # type: ignore[arg-type]
        return scaled

    def rates(self, *, stated: bool = False) -> dict[str, float]:
        """Dense peak per format [op/s]: the matrix engine, completed by what only the vector engine has. ``stated``: without
        those that follow from a contract."""
        found: dict[str, float] = {}
        for engine in (self.vector, self.matrix):
            if engine is not None:
                found |= {f: q.value for f, q in engine.rate.items()} if stated else engine.rates(self.name)
        return found

    def rate(self, fmt: str) -> float:
        """Dense peak for operands of ``fmt`` [op/s], after fallback."""
        return self.fallback(fmt).rate

    def _instead(self, rates: Mapping[str, float]) -> str:
        """What to ask of a device that multiplies nothing but integers."""
        if "int8" not in rates:
            return ""
        flash = any(e.kind == "in_flash" for e in self.engine.values())
        return ("; ask for it throughout: " + ("perfboard simulate -t split_ops:weights=in_flash,tier=flash " if flash else "")
                + "--quant 'w8a8; lm_head=w8a8' --kvcache-quant-mode int8 --fmha-quant-mode int8")

    def fallback(self, fmt: str, *, stated: bool = False) -> Fallback:
        """The format that operands of ``fmt`` are multiplied in here; ``stated`` as in ``rates``. Raises ``ValueError`` if
        there is none."""
        if fmt not in _WIDER:
            raise ValueError(f"unknown compute format {fmt!r}; known: {', '.join(FORMATS)}")
        rates = self.rates(stated=stated)
        used = next((f for f in (fmt, *_WIDER[fmt]) if f in rates), None)
        if used is None:
            has = ", ".join(rates) or "none"
            raise ValueError(f"{self.name}: no engine rate for {fmt} or anything wider; it has {has}{self._instead(rates)}")
        reason = "" if used == fmt else f"{self.name} has no {fmt} rate: operands are converted to {used}"
        # A half-precision unit slower than the fp32 one (Pascal P4: 1/64) is not used by any library.
        if used in ("fp16", "bf16") and rates.get("fp32", 0.0) > rates[used]:
            used, reason = "fp32", f"{self.name}: {used} is slower than fp32, operands are converted to fp32"
        return Fallback(fmt=used, reason=reason, rate=rates[used])


def _walk(node: Any, prefix: str) -> Iterator[tuple[str, Quantity]]:
    items = node.items() if isinstance(node, dict) else ((f, getattr(node, f)) for f in type(node).model_fields)
    for name, child in items:
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(child, Quantity):
            yield path, child
        elif isinstance(child, (dict, BaseModel)):
            yield from _walk(child, path)


def _replace(node: Any, path: list[str], new: Quantity) -> Any:
    head, rest = path[0], path[1:]
    value: Any = new
    if rest:
        value = _replace(node[head] if isinstance(node, dict) else getattr(node, head), rest, new)
    return {**node, head: value} if isinstance(node, dict) else node.model_copy(update={head: value})
