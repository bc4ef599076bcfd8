"""Fit the matrix-product formula to measured kernels, per kind of operands: ``python -m validate.fit_gemm --data DIR``.

What is in L2 when a timed call starts decides about small and middle weights, so it is worked out from how each source
repeats its calls (``copies``) and not left to the fit. Rows of one eager call between two events or clock readings hold
tens of microseconds of a framework's own time: ``eager_overhead``, which belongs to the sets named after such a
framework and is dropped from the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accel_models.cost.gemm import gemm, residency
from accel_models.cost.terms import Array, Cost
from validate.fit import Parameter
from validate.measured import Table, read
from validate.study import OUT, Predict, Problem, Study, Values, hardware, known_rows, main, rate
from workloads.formats import get_format


class Kind(NamedTuple):
    """Operands of one variant: rate's format, formats of A and W, and whether A is quantised inside the time."""

    compute: str
    a: str
    w: str
    quantised: bool = False
    gemv_rows: tuple[float, ...] = (1.0,)     # most rows of the library's matrix-vector kernel, to choose from


#: TensorRT-LLM has matrix-vector kernels of several rows for these (measured times jump beyond so many).
_SMALL = (4.0, 8.0)
#: One row of fp8 has a kernel of its own in TensorRT-LLM and none in CUTLASS, which vLLM uses.
_ONE = (0.0, 1.0)
KINDS = {
    "none": Kind("bf16", "bf16", "bf16"),
    "fp32": Kind("fp32", "fp32", "fp32", gemv_rows=(0.0,)),
    "fp8_dynamic": Kind("fp8", "fp8", "fp8", True, gemv_rows=_ONE),
    "fp8_block128": Kind("fp8", "fp8_g128", "fp8_block128", True, gemv_rows=(0.0,)),
    "nvfp4_g16": Kind("fp4", "nvfp4", "nvfp4", True, gemv_rows=(0.0,)),
    "int8_smoothquant": Kind("int8", "int8", "int8", gemv_rows=_SMALL),
    "int8_weight_only": Kind("bf16", "bf16", "int8", gemv_rows=_SMALL),
    "int4_weight_only": Kind("bf16", "bf16", "int4", gemv_rows=_SMALL),
}

_COMMON = (
    Parameter("efficiency", 0.9, 0.3, 1.0), Parameter("step_time", 1e-9, 1e-11, 1e-6),
    Parameter("tail_share", 0.35, 0.0, 1.0, linear=True),
    Parameter("dram_efficiency", 0.83, 0.3, 1.0), Parameter("l2_efficiency", 0.45, 0.05, 1.0),
    Parameter("sharpness", 4.0, 1.0, 12.0), Parameter("split_time", 1.6e-6, 1e-7, 1e-3),
    Parameter("overhead", 3e-6, 2e-7, 4e-5), Parameter("throttle", 0.1, 1e-3, 1.0),
)
#: 16-bit products need no ``fill`` beside ``step_time``, but show when the clock settles; the others the reverse.
_FILL, _SETTLE = Parameter("fill", 110.0, 4.0, 2000.0), Parameter("settle", 1e-4, 1e-7, 1e-2)
_GEMV_FIXED = Parameter("gemv_fixed", 1.0, 0.3, 2.0)
_GEMV_GAIN = Parameter("gemv_gain", 1.05, 0.7, 1.5)
_PASSES = Parameter("quant_passes", 1.5, 0.2, 10.0)
_REACH = (Parameter("reach", 2e8, 5e6, 2e9), Parameter("reach_loss", 0.3, 1e-3, 10.0),
          Parameter("ragged_loss", 0.1, 1e-3, 10.0))
_EAGER = Parameter("eager_overhead", 2.5e-5, 1e-6, 2e-4)
#: A kernel of its own lays the bias of a linear into C (``addmm``): small ones take some 15 us longer than batched products
#: of their size. Linears inside a network's graph, timed by the same source, do not.
_BIAS = Parameter("bias_time", 1e-5, 1e-7, 1e-4)


def table(directory: Path) -> Table:
    t = known_rows(read("gemm", directory))
    fp32 = t["dtype_a"] == "fp32"
    t.columns["variant"] = np.where(fp32, "fp32", t["quant"]).astype(object)
    eager = [str(f).startswith("torch") for f in t["framework"]]
    t.columns["issue"] = np.where(eager, "eager", "kernel").astype(object)
    # TensorRT-LLM's fp8 finds its scale in kernels of its own, vLLM's is given one: different work under one name.
    scaling = (t["variant"] == "fp8_dynamic") & np.array([str(f).startswith("trtllm") for f in t["framework"]])
    t.columns["apart"] = np.where(scaling, t["framework"], "").astype(object)
    t.columns["resident"] = _resident(t)
    return t


def _resident(t: Table) -> Array:
    """Share of W in L2 at the start of a timed call: the loop over all copies, with A and C, against L2."""
    capacity = hardware(t, "l2_capacity")["l2_capacity"]
    bytes_a, bytes_w, bytes_out = _bytes(t)
    weights = t["n"] * t["k"] * t["batch"] * bytes_w
    acts = (t["m"] * t["k"] * bytes_a + t["m"] * t["n"] * bytes_out) * t["batch"]
    worked_out = residency(_copies(t, weights, capacity) * weights + acts, capacity)
    # Rows of this package's own suite say how far their copies went beyond the cache.
    if "cache" not in t.columns:
        return worked_out
    said = {"cold": 0.0, "mixed": 0.5, "warm": 1.0}
    own = [s == "perfboard" and c in said for s, c in zip(t["source"], t["cache"], strict=True)]
    return np.where(own, [said.get(str(c), 0.0) for c in t["cache"]], worked_out)


def _copies(t: Table, weights: Array, capacity: Array) -> Array:
    """Copies of W that a source goes through in turn, from its collectors (aiconfigurator ``collect_gemm.py``)."""
    enough, layer = np.clip(np.ceil(capacity / weights), 1.0, 5.0), _layer(t, weights)
    out = np.ones(len(t))
    for i, (source, framework, variant) in enumerate(zip(t["source"], t["framework"], t["variant"], strict=True)):
        if source == "aiconfigurator":
            if framework.startswith("trtllm-1.3"):
                out[i] = enough[i]
            elif framework.startswith("trtllm"):
                out[i] = 5.0
            else:
                out[i] = 1.0 if variant in ("nvfp4_g16", "fp8_block128") else 6.0
        elif source == "llmservingsim":
            out[i] = layer[i] / weights[i]      # the other matrices of the one layer that is run come between
    return out


def _layer(t: Table, weights: Array) -> Array:
    """Bytes of all weights of a model's layer, split as the row's own: what a source that runs one layer goes through.

    The largest matrix of every projection is the unsplit one; experts are not among these rows, nor run with them.
    """
    models = t.columns.get("model", np.full(len(t), ""))
    keys = [(str(d), str(f), str(m)) for d, f, m in zip(t["device"], t["framework"], models, strict=True)]
    largest: dict[tuple[str, str, str], dict[str, float]] = {}
    for key, op, w in zip(keys, t["op"], weights, strict=True):
        mine = largest.setdefault(key, {})
        mine[str(op)] = max(mine.get(str(op), 0.0), float(w))
    whole = {k: sum(w for op, w in v.items() if op != "lm_head") for k, v in largest.items()}
    return np.array([max(w, whole[k] * w / largest[k][str(op)]) for k, op, w in zip(keys, t["op"], weights, strict=True)])


def _bytes(t: Table) -> tuple[Array, Array, Array]:
    """Bytes per element of A as multiplied, W as stored, C."""
    a = {v: get_format(KINDS[str(v)].a).nbytes for v in set(t["variant"])}
    w = {v: get_format(KINDS[str(v)].w).nbytes for v in set(t["variant"])}
    variants = t["variant"]
    return (np.array([a[v] for v in variants]), np.array([w[v] for v in variants]),
            np.where(variants == "fp32", 4.0, 2.0))


def parameters(variant: str, pool: bool = False) -> tuple[Parameter, ...]:
    if variant == "fp32":
        # Look-aside misses are a matter of single old chips: a pool that carried them would mislead about others.
        return (*(p for p in _COMMON if p.name != "l2_efficiency"), _FILL, *(() if pool else _REACH), _EAGER, _BIAS)
    if KINDS[variant].quantised:
        return (*_COMMON, _FILL, _GEMV_FIXED, _PASSES)
    if variant == "none":
        return (*_COMMON, _SETTLE, _GEMV_FIXED, _GEMV_GAIN, _EAGER)
    return (*_COMMON, _FILL, _GEMV_FIXED, _GEMV_GAIN)


def grid(t: Table) -> tuple[dict[str, float], ...]:
    """Traits of the library, tried in turn: rows of its matrix-vector kernel, and from which k / n on it splits k."""
    variant = str(t["variant"][0])
    return tuple({"gemv_rows": rows, "split_from": ratio} for rows in KINDS[variant].gemv_rows
                 for ratio in ((0.0, 3.0) if variant == "none" else (0.0,)))


def bind(t: Table) -> Predict:
    hw: dict[str, Any] = hardware(t, "dram_bandwidth", "l2_bandwidth", "l2_capacity", "n_units")
    kinds = [KINDS[str(v)] for v in t["variant"]]
    bytes_a, bytes_w, bytes_out = _bytes(t)
    quantised = np.array([float(k.quantised) for k in kinds])
    unpack = np.array([0.0 if k.a == k.w or k.compute != "bf16" else get_format(k.w).dequant_ops for k in kinds])
    known: dict[str, Any] = dict(
        m=t["m"], n=t["n"], k=t["k"], batch=t["batch"], bytes_a=bytes_a, bytes_w=bytes_w, bytes_out=bytes_out,
        peak=rate(t, [k.compute for k in kinds]), vector_peak=hardware(t, "vector_rate")["vector_rate"],
        resident=t["resident"], dequant_ops=unpack, quant_kernels=quantised,
        quant_bytes=quantised * (2.0 + bytes_a), **hw)
    eager = (t["issue"] == "eager").astype(float)
    biased = eager * (t["op"] == "linear") * (t["source"] == "neusight")

    def predict(values: Values) -> Cost:
        fitted: dict[str, Any] = {k: v for k, v in values.items() if k not in ("eager_overhead", "bias_time")}
        return gemm(**known, launch=eager * values.get("eager_overhead", 0.0), bias_time=biased * values.get("bias_time", 0.0),
                    **fitted)

    return predict


def roofline(t: Table) -> Array:
    """The larger of operations at the peak rate and every operand once at the DRAM rate."""
    cost = bind(t)({"quant_passes": 0.0})
    compute = cost.flops / rate(t, [KINDS[str(v)].compute for v in t["variant"]])
    return np.maximum(compute, cost.nbytes / hardware(t, "dram_bandwidth")["dram_bandwidth"])


def fold(values: Values, issue: str) -> dict[str, float]:
    out = {k: v for k, v in values.items() if k != "eager_overhead"}
    if values.get("gemv_rows") == 0.0:        # no such kernel: what the optimiser left of its parameters means nothing
        out = {k: v for k, v in out.items() if k not in ("gemv_fixed", "gemv_gain")}
    if issue == "eager":
        out["overhead"] += values.get("eager_overhead", 0.0)
    else:
        out.pop("bias_time", None)
    return out


PROBLEM = Problem(
    op="gemm", formula="accel_models.cost.gemm.gemm",
    source="vidur 7d47513363ec, NeuSight 6945927d9afc, LLMCompass 2e015fd2ee75, LLMServingSim 5daddb21a545, "
           "aiconfigurator 095f58a51c4c: measured matrix products",
    family=("n", "k"), parameters=parameters, bind=bind, roofline=roofline, fold=fold, serving="kernel",
    ranges=("m", "n", "k", "batch"), grid=grid, kin_prior=12.0, own_prior=0.2)


def study(directory: Path) -> Study:
    return Study(PROBLEM, table(directory))


if __name__ == "__main__":
    main(study, OUT / "gemm.toml")
