"""The figures of a point: their names, units, and where an estimate has them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.estimate import Estimate

Column = NDArray[Any]

#: Figure -> (unit, what it is). Each of those with an interval also has ``_lo`` and ``_hi``, its 80 % interval.
FIGURES: dict[str, tuple[str, str]] = {
    "ttft_s": ("s", "time to first token"), "tpot_s": ("s", "time per output token"),
    "e2el_s": ("s", "request latency"), "tokens_per_s_per_gpu": ("tokens/s", "throughput of one device"),
    "tokens_per_s_per_user": ("tokens/s", "what one user sees"), "usd_per_m_output_tokens": ("USD", "price of output"),
    "j_per_output_token": ("J", "energy of output"), "avg_power_w": ("W", "mean power of a device"),
    "prefill_power_w": ("W", "power in prefill"), "decode_power_w": ("W", "power in decode"),
    "usd_per_m_input_tokens": ("USD", "price of input (encoders)"), "j_per_input_token": ("J", "energy of input (encoders)"),
    "ttft_sol_s": ("s", "physical limit of the time to first token"),
    "tpot_sol_s": ("s", "physical limit of the time per output token"),
    "used_bytes": ("B", "memory taken on a device"), "weights_bytes": ("B", "weights on a device"),
    "kv_bytes": ("B", "cache on a device"), "capacity_bytes": ("B", "memory of a device"),
    "max_concurrency": ("sequences", "sequences that would fit"), "tdp_w": ("W", "power limit of a device"),
    "rental_usd_per_h": ("USD/h", "price of a device"), "n_devices": ("devices", "devices in use"),
    "area_mm2": ("mm^2", "area of the die, changed as the point says"), "chip_usd": ("USD", "price of making that chip"),
    "sram_mm2": ("mm^2", "last-level cache of it"), "multipliers_mm2": ("mm^2", "multipliers of it"),
    "phy_mm2": ("mm^2", "memory interfaces of it"), "other_mm2": ("mm^2", "all else of it"),
    "scaled_rental_usd_per_h": ("USD/h", "price of a device, scaled with chip_usd (assumed)"),
    "scaled_usd_per_m_output_tokens": ("USD", "price of output at that rent (assumed)"),
}
WITH_INTERVAL = ("ttft_s", "tpot_s", "e2el_s", "tokens_per_s_per_gpu", "tokens_per_s_per_user", "usd_per_m_output_tokens",
                 "j_per_output_token", "avg_power_w", "prefill_power_w", "decode_power_w", "usd_per_m_input_tokens",
                 "j_per_input_token", "area_mm2", "chip_usd")
#: Stored of every point, beside what the objectives and constraints name.
ALWAYS = ("ttft_s", "tpot_s", "tokens_per_s_per_gpu", "used_bytes")
_MEMORY = {"used_bytes": "used", "weights_bytes": "weights", "kv_bytes": "kv", "capacity_bytes": "capacity",
           "max_concurrency": "max_concurrency"}
_HARDWARE = {"tdp_w": "tdp", "rental_usd_per_h": "rental"}


def check(name: str, also: Iterable[str], where: str) -> None:
    """Raise ``ValueError`` with the nearest names for a figure that does not exist."""
    plain = name.removesuffix("_lo").removesuffix("_hi")
    if name in FIGURES or name in also or (plain != name and plain in WITH_INTERVAL):
        return
    near = difflib.get_close_matches(name, [*FIGURES, *also], n=3, cutoff=0.4) or list(FIGURES)[:4]
    raise ValueError(f"{where}: no figure {name!r}; nearest: {', '.join(near)}")


def figure(name: str, e: Estimate, n_axes: int) -> Column:
    """One figure of an estimate of ``n_axes`` workload axes; NaN where the estimate has none."""
    found: Any = np.nan
    plain = name.removesuffix("_lo").removesuffix("_hi")
    if name in e.metrics:
        found = e.metrics[name]
    elif plain in e.intervals:
        found = e.intervals[plain][name.endswith("_hi")]
    elif name in _MEMORY:
        found = e.memory[_MEMORY[name]]
    elif name in _HARDWARE:
        found = e.hardware.column(_HARDWARE[name], n_axes)
    elif name == "ttft_sol_s":
        found = e.prefill.sol
    elif name == "tpot_sol_s" and e.decode is not None:
        found = e.decode.sol
    elif name == "n_devices":
        found = e.parallel.n_devices
    return np.asarray(found, dtype=np.float64)
