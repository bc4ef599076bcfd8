"""Figures of one setting against batch size, as far as memory allows: one vectorised estimate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accel_models.bind import bind
from sim.estimate import estimate
from sim.query import Setting

Array = NDArray[np.float64]
#: Largest batch drawn, whatever the memory: beyond it no serving system batches decode steps.
TOP = 1024


@dataclass(frozen=True)
class Curve:
    """``tpot`` [ms] and ``rate`` [tokens/s per device] as (estimate, lo, hi), each of shape (batches,)."""

    label: str
    batch: Array
    tpot: tuple[Array, Array, Array]
    rate: tuple[Array, Array, Array]
    room: int


def batch_curve(setting: Setting, label: str, room: float) -> Curve | None:
    """The curve from one sequence to as many as fit; None where fewer than two fit or nothing is decoded."""
    if not setting.spec.causal or room < 2:
        return None
    most = int(min(room, TOP))
    grid = np.unique(np.round(np.geomspace(1, most, 48)))
    asked = float(setting.query.batch)
    batch = np.unique(np.append(grid, asked)) if asked <= most else grid
    work = replace(setting.workload, batch=batch)
    result = estimate(setting.spec, bind([setting.device], setting.system), work, setting.parallel,
                      framework=setting.query.framework)

    def series(name: str, factor: float) -> tuple[Array, Array, Array]:
        lo, hi = result.intervals[name]
        middle, low, high = (factor * np.broadcast_to(a, (1, batch.size))[0] for a in (result.metrics[name], lo, hi))
        return middle, low, high

    return Curve(label, batch, series("tpot_s", 1e3), series("tokens_per_s_per_gpu", 1.0), int(room))
