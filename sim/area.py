"""Silicon area beside the figures of an answer, where designs are compared that are made of units."""

from __future__ import annotations

from accel_models.chip import chip
from sim.answer import Answer


def area_mm2(a: Answer) -> tuple[float, float, float] | None:
    """Estimate and 80 % interval: of a device made of units its cells, buffers and vector engine; of others the die that
    the file states, while none of its numbers is changed. None where neither is known. [mm2]"""
    changed = any(k.startswith(("engine.", "memory.", "hw.")) for k, _ in a.setting.query.sets)
    if changed and not a.data["units"]:
        return None
    try:
        found = chip(a.setting.device)
    except ValueError:                                       # neither a die nor a process is stated
        return None
    return float(found.area), float(found.area_lo), float(found.area_hi)
