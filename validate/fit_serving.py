"""What serving systems add to their kernels, learned from serving points: part of ``python -m validate.accuracy``.

One factor on the kernels' figure per point; of those the 80 % interval over systems, each system weighing the same
(``intervals.among_chips``). A system is a model and the software that serves it. The coverage that is reported tests
every system with the interval of all others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accel_models.fitted_store import FittedFile, ParameterSet
from validate.fit import mape
from validate.intervals import among_chips
from validate.study import DATE

Array = NDArray[np.float64]
WHAT = ("TTFT", "TPOT")
#: Two names of one network: their published rows are the same.
_SAME = {"DeepSeek-R1": "DeepSeek-V3"}


def system(group: str) -> str:
    """System behind the group of a serving point ("DeepSeek-R1, sglang")."""
    model, software = group.split(", ")
    return f"{_SAME.get(model, model)}, {software}"


def left_out(measured: Array, predicted: Array, systems: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Whether each point lies in the interval that all other systems give."""
    log, inside = np.log(measured / predicted), np.zeros(len(measured), dtype=bool)
    for name in sorted(set(systems)):
        mine = systems == name
        lo, hi = among_chips(log[~mine], systems[~mine])
        inside[mine] = (log[mine] >= np.log(lo)) & (log[mine] <= np.log(hi))
    return inside


def learn(points: dict[str, tuple[Array, Array, Sequence[str]]]) -> FittedFile:
    """The fitted file from (measured, predicted, groups) per figure of ``WHAT``."""
    sets, h = [], hashlib.sha256()
    for what in WHAT:
        measured, predicted, groups = points[what]
        names = np.array([system(g) for g in groups], dtype=object)
        log = np.log(measured / predicted)
        h.update("\n".join(f"{what} {g} {m!r}" for g, m in zip(groups, measured.tolist(), strict=True)).encode())
        lo, hi = among_chips(log, names)
        each = np.array([np.median(log[names == n]) for n in sorted(set(names))])
        sets.append(ParameterSet(
            variant=what.lower(), n_rows=len(log), mape=_round(mape(predicted, measured)), lo={"all": _round(min(lo, 1.0))},
            hi={"all": _round(max(hi, 1.0))},
            values={"factor": _round(float(np.exp(np.median(each)))), "systems": float(len(each))}))
    return FittedFile(op="serving", formula="sim.served.served", date=DATE, data_sha256=h.hexdigest(), set=tuple(sets),
                      source="aiconfigurator 095f58a51c4c: published serving points on H200, lowest concurrency of each series")


def _round(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")
