"""Cells and joules of engines made of units: from the shape in a device file to what its arrays are synthesised to."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_models.device import Device, Engine
from accel_models.silicon import Cells, area, cells, sram_energy_per_byte, work_energy
from accel_models.technology import common
from accel_models.units import BANKS, KINDS, Figures, given, unit_names

Array = NDArray[np.float64]


def array_cells(kind: str, shape: Figures) -> Cells:
    """Cells of one array, all its units together; ``synthesised`` where every build of them was. Broadcasts over ``shape``."""
    found = [(cells(part.unit, part.parameters), part.instances) for part in KINDS[kind].parts(shape)]
    ge, ff, toggles = (np.asarray(sum((getattr(c, name) * count for c, count in found), np.zeros(())))
                       for name in ("ge", "ff", "toggles"))
    wrong = sum((c.ge * count * c.spread for c, count in found), np.zeros(()))
    return Cells(ge, ff, np.logical_and.reduce(np.broadcast_arrays(*(c.synthesised for c, _ in found))), wrong / ge,
                 toggles)


def engine_cells(device: Device) -> Cells | None:
    """``array_cells`` of the multiplying engine as its file has it, None where it is not made of units."""
    engine = device.matrix
    if engine is None or engine.kind not in KINDS:
        return None
    return _one(engine.kind, tuple(sorted(given(engine.kind, _shape(engine), where=device.name).items())))


@lru_cache(maxsize=65536)
def _one(kind: str, shape: tuple[tuple[str, float], ...]) -> Cells:
    return array_cells(kind, {k: np.asarray(v) for k, v in shape})


class Energies(NamedTuple):
    """``cycle``: of one array at work [J]; ``vector_op``: of an operation beside it [J/op]; ``input`` and ``weight``: of a byte
    from its buffers [J/B]."""

    cycle: Array
    vector_op: Array
    input: Array
    weight: Array


def energies(kind: str, shape: Figures, beside: Figures, *, node: str) -> Energies:
    """Energies of an engine made of units at a process node; ``beside``: the figures of ``units.COMMON``, NaN where a file is
    silent. Broadcasts over the figures.

    A cycle of an array is that of its cells, or what the file states for each of its units (``element_j``); an operation
    beside it half of that of a synthesised fp16 multiply-accumulate unit; a buffer of no size costs nothing.
    """
    units = sum((part.instances for part in KINDS[kind].parts(shape)), np.zeros(()))
    cycle = np.where(np.isnan(stated := beside["element_j"]), work_energy(array_cells(kind, shape), node=node), stated * units)
    banks = np.where(np.isnan(beside["buffer_banks"]), BANKS, beside["buffer_banks"])
    fed = (sram_energy_per_byte(beside[f"{name}_buffer_bytes"] / banks, node=node) for name in ("input", "weight"))
    return Energies(cycle, work_energy(cells("base_fp16_mac", {}), node=node) / 2.0, *map(np.nan_to_num, fed))


def _shape(engine: Engine) -> dict[str, float]:
    return {name: q.value for name, q in engine.figure.items()}


def rests(device: Device) -> dict[str, str]:
    """What the figures of an engine made of units rest on: ``proven``, ``synthesised`` (or ``modelled``, between builds that
    were) and ``assumed``, each as one sentence; empty for other engines. Cycles of a user's own unit are assumed: whether he
    proved them is not known here."""
    engine = device.matrix
    if engine is None or not (names := unit_names(engine.kind)):
        return {}
    own = "/" in names[0]
    compare = f"perfboard rtl compare {names[0]}"
    found = {} if own else {"proven": f"cycles: contract of {names[0]}, equal to its Verilog ({compare})"}
    assumed = [f"cycles: contract of {names[0]}; {compare} holds it against the Verilog"] if own else []
    assumed += [f"clock {engine.clock}"] if engine.clock and engine.clock.kind == "assumed" else []
    if (one := engine_cells(device)) is not None:
        count = (engine.units.value if engine.units else 1.0) * _shape(engine).get("arrays_per_unit", 1.0)
        arrays = "1 array" if count == 1 else f"{count:g} arrays"
        kind = "synthesised" if one.synthesised else "modelled"
        wrong = "" if one.synthesised else f", within {100 * (float(one.spread) - 1):.0f} % of builds that were not in the fit"
        found[kind] = f"cells: {float(one.ge):,.0f} gate equivalents an array of {', '.join(names)}, {arrays}{wrong}"
        if node := device.area.process:
            found[kind] += f"; {float(area(one.ge * count, node=node)):.3g} mm2 at {node}"
            how = "mean of other units" if own else "without delays on random operands"
            activity = f"activity {float(one.toggles / one.ge):.2f} {how}"
            assumed += [*([] if "element_j" in _shape(engine) else [activity]),
                        f"logic utilisation {common()['logic_utilisation']:g}"]
        assumed += ["placement, wiring and timing: none was done"]
    return found | ({"assumed": "; ".join(assumed)} if assumed else {})
