"""Density and efficiency of the arrays of an engine made of units: what their cells, turns and clock say, and no kernel."""

from __future__ import annotations

from accel_models.bind import bind
from accel_models.chip import chip
from accel_models.device import Device
from accel_models.families import peak
from accel_models.families.units import arrays_of, shape
from accel_models.technology import common
from accel_models.unit_silicon import engine_cells
from accel_models.units import KINDS
from workloads.formats import get_format


def density(device: Device, a: str, w: str) -> tuple[float, float]:
    """Products of formats ``a`` and ``w`` by the arrays with full tiles over their area [op/s/mm2], and the factor by which
    that may be wrong either way: of the area of a chip that was never laid out, and of cells between synthesised builds.

    Raises ``ValueError`` for an engine that is not made of units, or whose units do not take the product.
    """
    one = engine_cells(device)
    if one is None:
        raise ValueError(f"{device.name}: density: its engine is not made of units, and its multipliers' area is not known")
    return _rate(device, a, w) / float(chip(device).multipliers), common()["spread"] * float(one.spread)


def efficiency(device: Device, a: str, w: str) -> tuple[float, float]:
    """Operations of the arrays over their energy, a cycle of all cells at the assumed activity [op/J], and the factor by which
    that may be wrong. Leakage, buffers and memory are not in it. Raises ``ValueError`` as ``density``."""
    engine = device.matrix
    if engine is None or engine.kind not in KINDS or engine.clock is None or not device.area.process:
        raise ValueError(f"{device.name}: efficiency: needs an engine made of units, its clock, and [area] process")
    hw = bind([device])
    watts = arrays_of(hw) * hw.array_clock * shape(hw, engine.kind).energies.cycle
    return _rate(device, a, w) / float(watts[0]), common()["energy_spread"]


def _rate(device: Device, a: str, w: str) -> float:
    return float(peak(get_format(a), get_format(w), bind([device]))[0])
