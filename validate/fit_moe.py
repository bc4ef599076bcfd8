"""Fit the mixture-of-experts formula to measured layers, per weight format: ``python -m validate.fit_moe --data DIR``.

The rows come from benchmarks that deal tokens to experts exactly (even, or by a power law of exponent 1.2) and repeat
the same layer, so that weights may stay in a large L2; ``dealt``, ``skew`` and ``repeated`` say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from accel_models.cost.moe import moe
from accel_models.cost.terms import Array, Cost
from validate.fit import Parameter
from validate.measured import Table, read
from validate.study import OUT, Predict, Problem, Study, Values, hardware, known_rows, main, rate
from workloads.formats import get_format

#: Activation format in the table -> rate it is multiplied at; weight format -> name in ``workloads.formats``.
_COMPUTE = {"bf16": "bf16", "fp8": "fp8", "mxfp8": "fp8", "nvfp4": "fp4"}

_PARAMETERS = (
    Parameter("efficiency", 0.8, 0.1, 1.0), Parameter("tile_loss", 20.0, 0.5, 200.0),
    Parameter("dram_efficiency", 0.88, 0.2, 1.0), Parameter("l2_efficiency", 0.5, 0.1, 1.0),
    Parameter("l2_share", 1.0, 0.01, 2.0), Parameter("reread", 0.1, 1e-3, 1.0), Parameter("flight", 0.1, 1e-3, 5.0),
    Parameter("tail_share", 0.5, 0.0, 1.0, linear=True), Parameter("fill", 200.0, 10.0, 3000.0),
    Parameter("sharpness", 2.0, 1.0, 8.0), Parameter("passes", 1.0, 0.1, 20.0),
    Parameter("expert_time", 1e-8, 1e-11, 1e-6), Parameter("overhead", 2e-5, 1e-6, 4e-4),
)


def table(directory: Path) -> Table:
    t = known_rows(read("moe", directory))
    t.columns["variant"] = np.array([_variant(str(a), str(w)) for a, w in zip(t["dtype_a"], t["dtype_w"], strict=True)],
                                    dtype=object)
    t.columns["issue"] = np.full(len(t), "", dtype=object)
    # One kernel streams weights at an eighth of the memory's rate (fp8 through FlashInfer in vLLM 0.24 on the H200).
    slow = np.array(["modeloptfp8moe_flashinfer" in str(k) for k in t["kernel"]])
    t.columns["apart"] = np.where(slow, t["framework"], "").astype(object)
    return t


def _variant(a: str, w: str) -> str:
    """Class of kernel: weight-only 4 bit, native 4 bit (mxfp8 x mxfp4 has four rows, too few for a class), else W."""
    if w in ("mxfp4", "int4"):
        return "w4a16" if a == "bf16" else "nvfp4"
    return w


def parameters(variant: str, pool: bool) -> tuple[Parameter, ...]:
    return _PARAMETERS


def bind(t: Table) -> Predict:
    hw: dict[str, Any] = hardware(t, "dram_bandwidth", "l2_bandwidth", "l2_capacity", "n_units")
    formats_w = {w: get_format(str(w)) for w in sorted(set(t["dtype_w"]))}
    formats_a = {a: get_format(str(a)) for a in sorted(set(t["dtype_a"]))}
    compute = [_COMPUTE[str(a)] for a in t["dtype_a"]]
    same = np.array([formats_a[a].bits == formats_w[w].bits or formats_w[w].compute == formats_a[a].compute
                     for a, w in zip(t["dtype_a"], t["dtype_w"], strict=True)])
    unpack = np.array([formats_w[w].dequant_ops for w in t["dtype_w"]]) * ~same
    known: dict[str, Any] = dict(
        tokens=t["n_tokens"], hidden=t["hidden"], inter=t["inter"] / t["tp"], topk=t["topk"],
        n_experts=t["n_experts"], n_local=t["n_experts"],
        gated=np.array(["nongated" not in str(k) for k in t["kernel"]]),
        bytes_a=np.array([formats_a[a].nbytes for a in t["dtype_a"]]),
        bytes_w=np.array([formats_w[w].nbytes for w in t["dtype_w"]]), bytes_out=np.float64(2.0),
        peak=rate(t, compute), vector_peak=hardware(t, "vector_rate")["vector_rate"], dequant_ops=unpack,
        skew=np.array([1.2 if str(d).startswith("power_law") else 0.0 for d in t["distribution"]]),
        dealt=np.float64(1.0), repeated=np.float64(1.0), **hw)

    def predict(values: Values) -> Cost:
        fitted: dict[str, Any] = dict(values)
        return moe(**known, **fitted)

    return predict


def roofline(t: Table) -> Array:
    """The larger of operations at the peak rate and weights of the experts hit, once, at the DRAM rate."""
    cost = bind(t)({"passes": 0.0})
    compute = cost.flops / rate(t, [_COMPUTE[str(a)] for a in t["dtype_a"]])
    return np.maximum(compute, cost.nbytes / hardware(t, "dram_bandwidth")["dram_bandwidth"])


def fold(values: Values, issue: str) -> dict[str, float]:
    return dict(values)


PROBLEM = Problem(
    op="moe", formula="accel_models.cost.moe.moe",
    source="aiconfigurator 095f58a51c4c: measured mixture-of-experts layers",
    family=("hidden", "inter", "topk", "n_experts"), parameters=parameters, bind=bind, roofline=roofline, fold=fold,
    serving="", ranges=("n_tokens", "hidden", "inter", "topk", "n_experts", "tp"),
    prior=2.0)     # chosen on left-out chips


def study(directory: Path) -> Study:
    return Study(PROBLEM, table(directory))


if __name__ == "__main__":
    main(study, OUT / "moe.toml")
