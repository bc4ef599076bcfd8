"""Silicon area and price of a chip with some of its numbers changed, from the published die of the chip as it is.

The die is taken apart: last-level cache by its bytes, multipliers by their number, memory interfaces by the bandwidth
they carry; what remains is control, registers, scratchpads and wiring, and goes with the number of processors. Put
together again with other numbers that gives another die; with the same numbers, the published one. After LLMCompass
(Zhang et al., ISCA 2024, section 5). Gates of multipliers are those of our own synthesised units.

Nobody published a die of an accelerator made of units (``accel_models.units``): its area is that of their cells, of the two
buffers and of the vector engine, at the node that the file names. In a GPU such arrays come on top of its die.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_models import silicon, technology, units
from accel_models.device import Device
from accel_models.silicon import ge_per_mac
from accel_models.technology import assumptions, node_of
from accel_models.unit_silicon import array_cells

__all__ = ["Chip", "assumptions", "chip", "die_price", "ge_per_mac", "node_of"]

Array = NDArray[np.float64]

#: Wider formats first: the multipliers of the widest one serve the narrower ones in parts.
_WIDEST = ("fp16", "bf16", "int8", "fp8", "int4", "fp32")


class Chip(NamedTuple):
    """Areas [mm2] and price [USD]; ``lo``/``hi`` of the total area, an 80 % interval of what was changed, and of the price,
    which follows that area alone (wafer, defects, memory and board are taken as they are)."""

    area: Array
    sram: Array
    multipliers: Array
    phy: Array
    rest: Array
    area_lo: Array
    area_hi: Array
    usd: Array
    usd_lo: Array
    usd_hi: Array


def chip(base: Device, changed: Mapping[str, ArrayLike] | None = None) -> Chip:
    """The chip of a device file with numbers replaced (dotted keys of the file, SI, arrays that broadcast).

    Keys that count: ``engine.matrix.units``, ``engine.matrix.rate.*`` (at the same clock: multipliers),
    ``memory.l2.capacity``, ``memory.smem.capacity``, bandwidth and capacity of the main memory; of an engine made of units
    also the figures of an array and its buffers, and the rate of the vector engine.
    Raises ``ValueError`` where the file states no die area or process.
    """
    made = base.matrix is not None and base.matrix.kind in units.KINDS
    if made and base.area.process and base.area.die is None:
        return _made(base, changed or {})
    if base.area.die is None or not base.area.process:
        raise ValueError(f"{base.name}: area: needs [area] die and process to say what a changed chip would measure")
    known = base.parameters()
    own = {k: q.value for k, q in base.area.figure.items()}
    node, common = (table | {k: v for k, v in own.items() if k in table}
                    for table in (dict(technology.node(base.area.process)), dict(technology.common())))
    if unknown := own.keys() - node.keys() - common.keys() - {"mm2_per_mac"}:
        raise ValueError(f"{base.name}: area.figure.{min(unknown)}: no such part; known: mm2_per_mac, "
                         f"{', '.join(sorted({*node, *common}))}")
    new = {k: np.asarray(v, dtype=np.float64) for k, v in (changed or {}).items()}

    def value(key: str) -> tuple[float, Array]:
        was = known.get(key, 0.0)
        return was, new.get(key, np.asarray(was, dtype=np.float64))

    die = base.area.die.value * 1e6
    count, units_new = value("engine.matrix.units")
    grown = units_new / count if count else np.ones(())
    bit = node["sram_mm2_per_bit"]
    l2, l2_new = value("memory.l2.capacity")
    smem, smem_new = value("memory.smem.capacity")
    multipliers, more = _multipliers(base, new, own.get("mm2_per_mac", 0.0), node, common)
    main = f"memory.{base.main_memory}"
    rate, rate_new = value(f"{main}.bandwidth")
    per_phy = common["hbm_phy_mm2"] / common["hbm_stack_bytes_per_s"]
    phy, phy_new = rate * per_phy, rate_new * per_phy
    rest = max(die - l2 * 8 * bit - multipliers - phy, 0.0)
    added = _arrays(base, new)[0] if made else np.zeros(())
    parts = (l2_new * 8 * bit, multipliers * grown * more + added, phy_new,
             rest * grown + (smem_new - smem) * units_new * 8 * bit)
    area = np.asarray(sum(parts, np.zeros(())))
    change = np.abs(area - die) * (common["spread"] - 1.0)
    _, capacity = value(f"{main}.capacity")
    return _with_prices(area, parts, np.maximum(area - change, 1.0), area + change, capacity, node, common,
                        board=common["board_usd"])


def _with_prices(area: Array, parts: tuple[Array, ...], lo: Array, hi: Array, capacity: Array, node: Mapping[str, float],
                 common: Mapping[str, float], *, board: float = 0.0) -> Chip:
    """All fields of a chip, of one shape."""
    usd, usd_lo, usd_hi = (die_price(a, wafer_usd=node["wafer_usd"], defects_per_mm2=common["defects_per_mm2"],
                                     clustering=common["clustering"]) + capacity * common["hbm_usd_per_byte"]
                           + board for a in (area, lo, hi))
    shape = np.broadcast_shapes(area.shape, usd.shape, *(x.shape for x in parts))
    full = (np.broadcast_to(x, shape) for x in (area, *parts, lo, hi, usd, usd_lo, usd_hi))
    return Chip(*(np.asarray(x, dtype=np.float64) for x in full))


def _arrays(base: Device, new: Mapping[str, ArrayLike]) -> tuple[Array, Array]:
    """Area of the arrays of a device's units [mm2], and the factor by which their cells may be wrong."""
    engine = base.matrix
    if engine is None:
        return np.zeros(()), np.ones(())
    known = units.given(engine.kind, {k: q.value for k, q in engine.figure.items()}, where=base.name)
    shape = {k: np.asarray(new.get(f"engine.matrix.figure.{k}", v), dtype=np.float64) for k, v in known.items()}
    per_unit = new.get("engine.matrix.figure.arrays_per_unit", _figure(base, "arrays_per_unit", 1.0))
    count = np.asarray(new.get("engine.matrix.units", engine.units.value if engine.units else 1.0)) * np.asarray(per_unit)
    one = array_cells(engine.kind, shape)
    return silicon.area(one.ge * count, node=base.area.process), one.spread


def _figure(base: Device, name: str, default: float) -> float:
    return base.parameters().get(f"engine.matrix.figure.{name}", default)


def _made(base: Device, changed: Mapping[str, ArrayLike]) -> Chip:
    """A chip that is its arrays, their buffers and the vector engine. Memory interfaces, control and host link are not in its
    area, nor is a board in its price."""
    new = {k: np.asarray(v, dtype=np.float64) for k, v in changed.items()}
    node, common = technology.node(base.area.process), technology.common()
    known = base.parameters()

    def value(key: str) -> Array:
        return new.get(key, np.asarray(known.get(key, 0.0)))

    arrays, spread = _arrays(base, new)
    buffers = silicon.sram_area(sum((value(f"engine.matrix.figure.{b}_buffer_bytes") for b in ("weight", "input")),
                                    np.zeros(())), node=base.area.process)
    clock = known.get("engine.vector.clock", known.get("engine.matrix.clock", np.nan))
    lanes = value("engine.vector.rate.fp16") / 2 / clock
    vector = silicon.area(lanes * ge_per_mac("fp16") * common["lane_overhead"], node=base.area.process)
    parts = (buffers, arrays, np.zeros(()), vector)
    area = np.asarray(sum(parts, np.zeros(())))
    factor = np.exp(np.hypot(np.log(common["spread"]), np.log(spread)))
    return _with_prices(area, parts, area / factor, area * factor, value(f"memory.{base.main_memory}.capacity"), node, common)


def _multipliers(base: Device, new: Mapping[str, Array], stated: float, node: Mapping[str, float],
                 common: Mapping[str, float]) -> tuple[float, Array]:
    """Area of the multipliers as they are (one as ``stated``, else by its gates), and by how much rates set apart from the
    processors change their number."""
    engine = base.matrix
    widest = next((f for f in _WIDEST if engine and f in engine.rate), "")
    if engine is None or not widest or not engine.clock:
        return 0.0, np.ones(())
    macs = engine.rate[widest].value / 2 / engine.clock.value  # type: ignore[index]
    gates = ge_per_mac(widest) * common["transistors_per_ge"] / (node["logic_per_mm2"] * common["logic_utilisation"])
    more = new.get(f"engine.matrix.rate.{widest}")
    return macs * (stated or gates), np.ones(()) if more is None else more / engine.rate[widest].value  # type: ignore[index]


def die_price(area: ArrayLike, *, wafer_usd: ArrayLike, defects_per_mm2: ArrayLike, clustering: ArrayLike,
              diameter: ArrayLike = 300.0) -> Array:
    """Price of one good die [USD] of ``area`` [mm2]: dies on a round wafer over those without a defect.

    Dies: pi d^2 / 4 A - pi d / sqrt(2 A). Yield: (1 + A D / c)^-c, negative binomial (Cunningham 1990).
    """
    a, d = np.asarray(area, dtype=np.float64), np.asarray(diameter, dtype=np.float64)
    dies = np.maximum(np.pi * d**2 / (4 * a) - np.pi * d / np.sqrt(2 * a), 1e-9)
    good = (1 + a * np.asarray(defects_per_mm2) / clustering) ** -np.asarray(clustering)
    return np.asarray(np.asarray(wafer_usd) / (dies * good))
