"""Cells and joules of engines made of units: from the shape in a device file to what its arrays are synthesised to."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from accel_models.device import Device, Engine
from accel_models.silicon import Cells, area, cells, sram_energy_per_byte, work_energy
from accel_models.technology import common
from accel_models.units import BANKS, KINDS, Figures, given, unit_names


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


def joules(device: Device) -> dict[str, float]:
    """Energies of a multiplying engine made of units, at the node of ``[area] process`` (none without): ``cycle_j`` of one
    array at work (of its cells, or of what the file states for each unit, figure ``element_j``), ``vector_op_j`` of an
    operation beside it (that of a synthesised fp16 multiply-accumulate unit, which is two), ``input_j`` and ``weight_j`` of
    a byte from its buffers."""
    engine, node = device.matrix, device.area.process
    one = engine_cells(device)
    if engine is None or one is None or not node:
        return {}
    shape = _shape(engine)
    stated = shape.get("element_j", 0.0) * _elements(engine.kind, given(engine.kind, shape, where=device.name))
    found = {"cycle_j": stated or float(work_energy(one, node=node)),
             "vector_op_j": float(work_energy(cells("base_fp16_mac", {}), node=node)) / 2.0}
    for name in ("input", "weight"):
        bank = shape.get(f"{name}_buffer_bytes", 0.0) / shape.get("buffer_banks", BANKS)
        found[f"{name}_j"] = float(sram_energy_per_byte(bank, node=node)) if bank else 0.0
    return found


def _elements(kind: str, shape: dict[str, float]) -> float:
    """Units of an array."""
    parts = KINDS[kind].parts({name: np.asarray(value) for name, value in shape.items()})
    return float(sum((part.instances for part in parts), np.zeros(())))


def _shape(engine: Engine) -> dict[str, float]:
    return {name: q.value for name, q in engine.figure.items()}


def rests(device: Device) -> dict[str, str]:
    """What the figures of an engine made of units rest on: ``proven``, ``synthesised`` (or ``modelled``, between builds that
    were) and ``assumed``, each as one sentence; empty for other engines."""
    engine = device.matrix
    if engine is None or not (names := unit_names(engine.kind)):
        return {}
    found = {"proven": f"cycles: contract of {names[0]}, equal to its Verilog (perfboard rtl compare {names[0]})"}
    assumed = [f"clock {engine.clock}"] if engine.clock and engine.clock.kind == "assumed" else []
    if (one := engine_cells(device)) is not None:
        count = (engine.units.value if engine.units else 1.0) * _shape(engine).get("arrays_per_unit", 1.0)
        kind = "synthesised" if one.synthesised else "modelled"
        wrong = "" if one.synthesised else f", within {100 * (float(one.spread) - 1):.0f} % of builds that were not in the fit"
        found[kind] = f"cells: {float(one.ge):,.0f} gate equivalents an array of {', '.join(names)}, {count:g} arrays{wrong}"
        if node := device.area.process:
            found[kind] += f"; {float(area(one.ge * count, node=node)):.3g} mm2 at {node}"
            activity = f"activity {float(one.toggles / one.ge):.2f} without delays on random operands"
            assumed += [*([] if "element_j" in _shape(engine) else [activity]),
                        f"logic utilisation {common()['logic_utilisation']:g}"]
        assumed += ["placement, wiring and timing: none was done"]
    return found | ({"assumed": "; ".join(assumed)} if assumed else {})
