"""Storage memories as keyword arguments of ``cost.storage.read`` and ``cost.in_flash.gemv``.

The device file's figures, then what was fitted.
"""

from __future__ import annotations

from accel_models.device import Device, Memory, Nand, Quantity
from accel_models.fitted_store import lookup
from accel_models.registry import load_device

#: Figures of ``[memory.*.nand]`` -> keyword of ``read``. Geometry and the host link are bound by hand.
_PLAIN = {
    "planes": "planes", "multi_plane": "multi_plane", "cache_read": "cache_read", "page": "page", "t_read": "t_read",
    "t_command": "t_command", "t_ecc": "t_ecc", "channel_rate": "channel_rate", "request_time": "request_time",
    "request_rate": "request_rate", "queues": "n_queues", "depth": "max_depth", "issue_cycles": "issue_cycles",
    "contention": "contention", "spread": "spread", "readahead": "readahead", "readahead_min": "readahead_min",
    "mapped": "mapped",
}
#: Without these there is no read; all must be positive, as must whatever divides.
_NEEDED = ("channels", "page", "t_read", "channel_rate")
_POSITIVE = (*_NEEDED, "chips", "dies", "planes", "request_rate", "link_rate", "queues", "depth", "spread")
_SHARES = ("spread", "contention", "cache_read", "multi_plane")


def storage(device: Device, memory: str, *, fitted: bool = True) -> dict[str, float]:
    """Keyword arguments of ``cost.storage.read`` for one memory of a device. [SI]

    Figures of the file, of the part that ``nand.like`` names below them, and over both what was fitted to measured
    curves of that part (``fitted/storage.toml``). Figures set by hand or given beside ``like`` are never overlaid.
    Raises ``ValueError`` in one line.
    """
    part, mem, nand = _part(device, memory)
    where = f"{device.name}: memory.{memory}.nand"
    figures = {name: q for name in Nand.model_fields if isinstance(q := getattr(nand, name), Quantity)}
    if "link_rate" not in figures and mem.bandwidth is not None:
        figures["link_rate"] = mem.bandwidth
    _check(figures, mem, where)
    value = {name: q.value for name, q in figures.items()}
    bound = {keyword: value[name] for name, keyword in _PLAIN.items() if name in value}
    bound |= {"n_channels": value["channels"], "dies_per_channel": value.get("chips", 1.0) * value.get("dies", 1.0),
              "link_rate": value["link_rate"]}
    if fitted:
        beside = device.memory[memory].nand if part is not device else None
        own = {_PLAIN.get(n, n) for n, q in figures.items() if q.source == "set by hand" or getattr(beside, n, None)}
        own |= {"dies_per_channel"} if own & {"chips", "dies", "channels"} else set()
        bound |= {k: v for k, v in _fitted(part).items() if k not in own}
    return bound


def in_flash(device: Device, memory: str) -> dict[str, float]:
    """Keyword arguments of ``cost.in_flash.gemv`` for a memory whose dies compute (an engine of kind ``in_flash``). [SI]

    The engine's units are the cores, one a die; its INT8 rate and clock give the multiply-accumulate units of one.
    """
    v = storage(device, memory)
    name, engine = next(((n, e) for n, e in device.engine.items() if e.kind == "in_flash"), ("", None))
    if engine is None:
        raise ValueError(f"{device.name}: engine: none of kind 'in_flash'; its dies compute nothing")
    if engine.units is None or engine.clock is None or "int8" not in engine.rate:
        raise ValueError(f"{device.name}: engine.{name}: in-flash compute needs units, clock and rate.int8")
    dies = v["n_channels"] * v["dies_per_channel"]
    if engine.units.value != dies:
        raise ValueError(f"{device.name}: engine.{name}.units: found {engine.units.value:g}, but there are {dies:g} dies")
    if not (engine.clock.value > 0 and engine.rate["int8"].value > 0):
        raise ValueError(f"{device.name}: engine.{name}: clock and rate.int8 must be positive")
    return {"n_channels": v["n_channels"], "cores_per_channel": v["dies_per_channel"], "page": v["page"],
            "t_read": v["t_read"], "channel_rate": v["channel_rate"], "planes": v.get("planes", 1.0),
            "core_clock": engine.clock.value,
            "macs": engine.rate["int8"].value / (2.0 * engine.clock.value * engine.units.value)}


def _part(device: Device, memory: str) -> tuple[Device, Memory, Nand]:
    """The device that a storage memory is a part of, with its figures laid under those of the memory."""
    if memory not in device.memory:
        raise ValueError(f"{device.name}: memory.{memory}: no such memory; it has {', '.join(device.memory)}")
    mem = device.memory[memory]
    if mem.nand is None:
        raise ValueError(f"{device.name}: memory.{memory}.nand: missing; give [memory.{memory}.nand], at least with "
                         "like = \"NAME\" of a storage device, e.g. ufs_4_0")
    if not mem.nand.like:
        return device, mem, mem.nand
    part = load_device(mem.nand.like)
    under = part.main.nand
    if under is None or under.like:
        raise ValueError(f"{device.name}: memory.{memory}.nand.like: {mem.nand.like!r} has no [memory.*.nand] of its own")
    own = {n: q for n in Nand.model_fields if isinstance(q := getattr(mem.nand, n), Quantity)}
    rate = mem.bandwidth or part.main.bandwidth
    return part, mem.model_copy(update={"bandwidth": rate}), under.model_copy(update=own)


def _check(figures: dict[str, Quantity], mem: Memory, where: str) -> None:
    for name in _NEEDED:
        if name not in figures:
            raise ValueError(f"{where}.{name}: missing; a read needs {', '.join(_NEEDED)}")
    if "link_rate" not in figures:
        raise ValueError(f"{where}.link_rate: missing; give it here or as bandwidth of the memory")
    for name in _POSITIVE:
        if name in figures and not figures[name].value > 0:
            raise ValueError(f"{where}.{name}: must be positive, found {figures[name].text or figures[name].value}")
    for name in _SHARES:
        if name in figures and not 0 <= figures[name].value <= 1:
            raise ValueError(f"{where}.{name}: must be in 0..1, found {figures[name].text or figures[name].value}")
    if mem.block is not None and figures["page"].value > mem.block.value:
        raise ValueError(f"{where}.page: {figures['page']} is larger than the memory's block of {mem.block}")


def _fitted(part: Device) -> dict[str, float]:
    """What was fitted to curves of this very part; nothing where none was measured."""
    try:
        found = lookup("storage", "read", part.name, part.generation)
    except (KeyError, FileNotFoundError):
        return {}
    return dict(found.params.values) if found.source == "fitted" else {}
