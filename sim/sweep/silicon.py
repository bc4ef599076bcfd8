"""Area and price of the chip at each point, as figures of a sweep: what ``accel_models.chip`` makes of the numbers that
the experiment changes.

The device file's die is that of the chip as it is; a changed chip is put together from it. An accelerator made of units has
no die in its file and is put together from their cells. Its rent is the file's rent in proportion to the price of making
it, an assumption, since no rent of such a chip exists: it has figures of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel_models.chip import Chip, chip
from accel_models.device import Device

Column = NDArray[np.float64]

#: Figure -> field of ``Chip``.
CHIP = {"area_mm2": "area", "area_mm2_lo": "area_lo", "area_mm2_hi": "area_hi", "sram_mm2": "sram",
        "multipliers_mm2": "multipliers", "phy_mm2": "phy", "other_mm2": "rest", "chip_usd": "usd", "chip_usd_lo": "usd_lo",
        "chip_usd_hi": "usd_hi"}
#: Figure -> the figure that goes with the price of the chip.
SCALED = {"scaled_rental_usd_per_h": "rental_usd_per_h", "scaled_usd_per_m_output_tokens": "usd_per_m_output_tokens"}
RATE = "engine.matrix.rate."
SAID = ("areas and prices of changed chips: accel_models/chip.py, after LLMCompass; the interval is that of what was changed. "
        "Arrays of units: cells of our own synthesis (accel_models/silicon.py), placed as densely as chips of the node. "
        "The rate of the widest format gives the number of multipliers; rents are scaled with the price of the chip.")


def needed(names: list[str]) -> list[str]:
    """Figures of the estimate that figures of the chip go by."""
    return [SCALED[n] for n in names if n in SCALED]


def made(base: Device, setting: Device, numbers: Mapping[str, Column]) -> Chip:
    """The chips of points: ``base`` as its file says, ``setting`` with the experiment's fixed values, ``numbers`` (the
    device's own keys, SI) changed from point to point. Raises ``ValueError`` where the file states no die or process."""
    known, here = base.parameters(), setting.parameters()
    changed: dict[str, Column] = {k: np.asarray(v) for k, v in here.items() if known.get(k) != v}
    changed |= numbers
    # A rate follows units and clock of its engine unless it is set by itself; only what is beyond them is more multipliers.
    for k in [k for k in changed if k.startswith(RATE)]:
        changed[k] = changed[k] / _follows(changed if k in numbers else here, known)
    return chip(base, changed)


def _follows(values: Mapping[str, Any], known: Mapping[str, float]) -> Column:
    """How much faster units and clock make every rate."""
    keys = [k for k in ("engine.matrix.units", "engine.matrix.clock") if k in values and known.get(k)]
    return np.asarray(np.prod(np.broadcast_arrays(1.0, *(values[k] / known[k] for k in keys)), axis=0))


def put(out: dict[str, NDArray[Any]], base: Device, setting: Device, numbers: Mapping[str, Column]) -> None:
    """Fill the figures of the chip that ``out`` has; those of the estimate stand there already."""
    if not any(n in CHIP or n in SCALED for n in out):
        return
    found = made(base, setting, {k: v for k, v in numbers.items() if k != "area.die"})
    n = len(next(iter(out.values())))
    for name, field in CHIP.items():
        if name in out:
            out[name][:] = getattr(found, field)
    if "area.die" in numbers:                       # a die stated by itself is not put together
        for name in {"area_mm2", "area_mm2_lo", "area_mm2_hi"} & set(out):
            out[name][:] = 1e6 * numbers["area.die"]
    ratio = np.broadcast_to(found.usd / chip(base).usd, n)
    for name, plain in SCALED.items():
        if name in out:
            out[name][:] = out[plain] * ratio
