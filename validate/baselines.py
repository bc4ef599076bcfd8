"""What the models are compared with: a fit of three constants (share of the peak, share of the bandwidth, fixed time).

Fitted on the same training rows as the model itself, for each class of kernel and device; for devices left out, on the
rows of all other chips.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from validate.fit import Parameter, fit
from validate.measured import Table
from validate.study import Problem, Study, hardware

Array = NDArray[np.float64]

_CONSTANTS = (Parameter("of_peak", 0.6, 0.01, 1.5), Parameter("of_bandwidth", 0.7, 0.01, 1.5),
              Parameter("fixed", 1e-5, 1e-7, 1e-2))
#: Values that leave out what a kernel adds to its operands once each.
_BARE = {"gemm": {"quant_passes": 0.0}, "moe": {"passes": 0.0}}


def terms(problem: Problem, t: Table) -> tuple[Array, Array]:
    """Time of the work at the peak rate and of the least traffic at the peak bandwidth, per row. [s]

    Link traffic and element-wise kernels have a traffic term alone.
    """
    whole = problem.roofline(t)
    if problem.op in ("elementwise", "collective"):
        return np.zeros(len(t)), whole
    compute, memory = np.zeros(len(t)), np.zeros(len(t))
    bandwidth = hardware(t, "dram_bandwidth")["dram_bandwidth"]
    for variant in sorted(set(t["variant"])):
        mask = t["variant"] == variant
        rows = t.where(mask)
        bare = {"append": 0.0} if str(variant).startswith("prefill") else _BARE.get(problem.op, {})
        memory[mask] = problem.bind(rows)(bare).nbytes / bandwidth[mask]
    compute = np.where(whole > memory * (1 + 1e-9), whole, 0.0)
    return compute, memory


def predict(values: Mapping[str, float], compute: Array, memory: Array) -> Array:
    """The larger of both terms at the achieved shares, and the fixed time. [s]"""
    out: Array = np.maximum(compute / values["of_peak"], memory / values["of_bandwidth"]) + values["fixed"]
    return out


def three_constants(study: Study) -> dict[str, Array]:
    """Predictions by split, NaN where the study itself has none."""
    t, time = study.table, study.table["time_s"]
    compute, memory = terms(study.problem, t)
    own, far = np.full(len(t), np.nan), np.full(len(t), np.nan)

    def constants(mask: NDArray[np.bool_]) -> Mapping[str, float]:
        return fit(lambda v: predict(v, compute[mask], memory[mask]), time[mask], _CONSTANTS).values

    for (device, framework, variant), mask in study.groups(np.isfinite(study.own_pred)):
        train = ((t["variant"] == variant) & (t["device"] == device) & (t["framework"] == framework) & ~study.held)
        if train.any():
            own[mask] = predict(constants(train), compute[mask], memory[mask])
    keys = list(zip(t["variant"], t["issue"], t["apart"], study.chips, strict=True))
    for key in sorted(set(keys)):
        variant, issue, apart, chip = key
        alike = (t["variant"] == variant) & (t["issue"] == issue) & (t["apart"] == apart)
        mask, train = alike & (study.chips == chip), alike & (study.chips != chip) & ~study.held
        if train.any():
            far[mask] = predict(constants(train), compute[mask], memory[mask])
    return {"held-back shapes": own, "unseen device": np.where(np.isfinite(study.far_pred), far, np.nan)}
