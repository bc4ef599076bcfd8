"""Fit the attention formulas to measured calls, per phase and formats: ``python -m validate.fit_attention --data DIR``.

Traits of a library are facts, not fitted: which heads its kernel packs, and when. They come from the framework of a
row, so that a pool over frameworks does not blame the device for a choice of the software.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accel_models.cost.attention import attention_decode, attention_prefill, variant
from accel_models.cost.terms import Array, Cost
from validate.fit import Parameter
from validate.measured import Table, read
from validate.study import OUT, Predict, Problem, Study, Values, hardware, known_rows, main, rate
from workloads.formats import get_format

_PREFILL = (
    Parameter("efficiency", 0.8, 0.1, 1.0), Parameter("tile_loss", 8.0, 0.5, 100.0),
    Parameter("softmax_ops", 20.0, 4.0, 300.0), Parameter("overlap", 0.8, 0.0, 1.0, linear=True),
    Parameter("fill", 60.0, 1.0, 1500.0), Parameter("start", 1e-6, 1e-8, 2e-5),
    Parameter("tail_share", 0.7, 0.0, 1.0, linear=True),
    Parameter("l2_efficiency", 0.6, 0.1, 1.0), Parameter("append", 0.9, 0.1, 10.0),
    Parameter("window_skip", 0.97, 0.0, 1.0, linear=True), Parameter("overhead", 9e-6, 1e-6, 1e-4),
)
_DECODE = (
    Parameter("efficiency", 0.4, 0.02, 1.0), Parameter("vector_efficiency", 0.15, 0.01, 2.0),
    Parameter("vector_slots", 4.0, 1.0, 16.0),
    Parameter("pad_rows", 24.0, 16.0, 64.0), Parameter("start", 4e-6, 1e-7, 2e-5), Parameter("slots", 1.4, 1.0, 8.0),
    Parameter("flight", 0.3, 0.01, 5.0), Parameter("dram_efficiency", 0.88, 0.4, 1.0),
    Parameter("l2_efficiency", 0.4, 0.1, 1.0), Parameter("tail_share", 0.6, 0.0, 1.0, linear=True),
    Parameter("resident_share", 1.0, 0.2, 1.5), Parameter("split_cost", 2e-6, 1e-7, 2e-5),
    Parameter("overhead", 5e-6, 1e-6, 1e-4),
)
#: What differs from library to library on one device, as a factor on vLLM's CUDA kernels; folded into what is written.
_ISSUES, _BY_LIBRARY = ("trtllm",), ("overhead", "start", "efficiency")
#: TensorRT-LLM: its packed decode kernel takes 2 to 32 query heads per KV head, others go one by one on the vector
#: unit; its prefill kernel never packs. Read off the rows: 1.6 to 6 times slower from 33 heads on.
_TRTLLM = {"pack_limit": 32.0, "vector_path": 1.0, "packs": 0.0}
_LIBRARY = {"pack_limit": np.inf, "vector_path": 0.0, "packs": 1.0}
_PREFILL_TRAITS, _DECODE_TRAITS = ("packs",), ("pack_limit", "vector_path")
#: FlashAttention-2 (vLLM before Hopper, 16-bit cache) packs heads only without a window: ``seqlenq_ngroups_swapped`` in
#: csrc/flash_attn/flash_api.cpp of Dao-AILab/flash-attention asks for ``window_size_left < 0``.
_FLASH2_GENERATIONS = ("ampere", "ada", "blackwell_rtx")


def table(directory: Path) -> Table:
    t = known_rows(read("attention", directory))
    c, n = t.columns, range(len(t))
    c["variant"] = _column(variant(str(t["phase"][i]), str(t["dtype_q"][i]), str(t["dtype_kv"][i])) for i in n)
    c["issue"] = _column("trtllm" if str(f).startswith("trtllm") else "" for f in t["framework"])
    # Intel's kernels share no code with CUDA's (no skipping under a window, 50 us a call): a pool of their own.
    c["apart"] = _column(str(t["framework"][i]) if str(t["generation"][i]).startswith("xe") else "" for i in n)
    # One or two head counts per device where a model's layer was profiled: there, lengths make the family.
    keys = [("q_len", "kv_len", "batch") if s == "llmservingsim" else ("n_heads", "n_kv_heads", "head_dim", "batch")
            for s in t["source"]]
    c["family"] = _column("x".join(f"{t[k][i]:g}" for k in keys[i]) for i in n)
    return t


def _column(values: Any) -> Any:
    cells = list(values)
    out = np.empty(len(cells), dtype=object)
    out[:] = cells
    return out


def parameters(variant: str, pool: bool = False) -> tuple[Parameter, ...]:
    """A pool over libraries also finds the ratios between them; within one device and library there are none."""
    ratios = tuple(Parameter(f"{name}_{issue}", 1.0, 0.1, 20.0) for issue in _ISSUES for name in _BY_LIBRARY)
    return (_PREFILL if variant.startswith("prefill") else _DECODE) + (ratios if pool else ())


def traits(t: Table) -> dict[str, Array]:
    """What each row's library does, by framework, generation and cache format."""
    prefill = str(t["variant"][0]).startswith("prefill")
    trt = t["issue"] == "trtllm"
    flash2 = ~trt & np.isin(t["generation"].astype(str), _FLASH2_GENERATIONS) & (t["dtype_kv"] != "fp8")
    names = _PREFILL_TRAITS if prefill else _DECODE_TRAITS
    return {n: np.where(trt, _TRTLLM[n], _LIBRARY[n]) for n in names} | {"window_packs": np.where(flash2, 0.0, 1.0)}


def grid(t: Table) -> Sequence[dict[str, float]]:
    """Settings tried in turn: TensorRT-LLM's decode with an 8-bit cache splits on some chips and not on others."""
    mine = t.where(t["issue"] == "") if (t["issue"] == "").any() else t
    uniform = {k: float(v[0]) for k, v in traits(mine).items() if np.all(v == v[0]) and np.isfinite(v[0])}
    if str(t["variant"][0]) == "decode_fp8kv" and np.all(t["issue"] == "trtllm"):
        return [uniform, {**uniform, "max_split": 1.0}]
    return [uniform]


def bind(t: Table) -> Predict:
    """Cost of the rows as a function of fitted values; the rows' own library traits win over those in the values."""
    hw: dict[str, Any] = hardware(t, "dram_bandwidth", "l2_bandwidth", "l2_capacity", "n_units")
    own = traits(t)
    bytes_of = {f: get_format(str(f)).nbytes for f in sorted(set(t["dtype_kv"]) | set(t["dtype_q"]))}
    prefill = str(t["variant"][0]).startswith("prefill")
    work = tuple(t[k] for k in ("batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim", "head_dim", "window"))
    # Both sources repeat a call on the same operands; the measured op writes the new keys and values to the cache.
    known: dict[str, Any] = dict(hw, **own, warm=1.0, bytes_q=2.0, peak=rate(t, [str(f) for f in t["dtype_q"]]),
                                 bytes_kv=np.array([bytes_of[f] for f in t["dtype_kv"]]),
                                 vector_peak=hardware(t, "vector_rate")["vector_rate"])
    if prefill:
        known["appends"] = 1.0
    issued = [t["issue"] == i for i in _ISSUES]
    formula: Any = attention_prefill if prefill else attention_decode

    def predict(values: Values) -> Cost:
        fitted: dict[str, Any] = {k: v for k, v in values.items() if k not in own and not k.endswith(_ISSUES)}
        for name in _BY_LIBRARY:
            ratio = np.select(issued, [values.get(f"{name}_{i}", 1.0) for i in _ISSUES], 1.0)
            if name in values:
                fitted[name] = _capped(name, values[name] * ratio)
        cost: Cost = formula(*work, **known, **fitted)
        return cost

    return predict


def roofline(t: Table) -> Array:
    """The larger of operations at the peak rate and compulsory bytes at the DRAM rate."""
    out = np.empty(len(t))
    for phase in ("prefill", "decode"):
        mask = np.array([str(v).startswith(phase) for v in t["variant"]])
        if mask.any():
            rows = t.where(mask)
            cost = bind(rows)({"append": 0.0} if phase == "prefill" else {})
            compute = cost.flops / rate(rows, [str(f) for f in rows["dtype_q"]])
            out[mask] = np.maximum(compute, cost.nbytes / hardware(rows, "dram_bandwidth")["dram_bandwidth"])
    return out


def _capped(name: str, value: Any) -> Any:
    return np.minimum(value, 1.0) if name == "efficiency" else value


def fold(values: Values, issue: str) -> dict[str, float]:
    """Values as one library sees them."""
    plain = {k: v for k, v in values.items() if not k.endswith(_ISSUES)}
    plain |= {k: float(_capped(k, plain[k] * values.get(f"{k}_{issue}", 1.0))) for k in _BY_LIBRARY}
    if issue != "trtllm":
        return plain
    trait = {n: _TRTLLM[n] for n in (_PREFILL_TRAITS if "append" in values else _DECODE_TRAITS)}
    return {**plain, **trait, "window_packs": 1.0}


PROBLEM = Problem(
    op="attention", formula="accel_models.cost.attention.attention_prefill / attention_decode",
    source="aiconfigurator 095f58a51c4c and LLMServingSim 5daddb21a545: measured fused attention",
    family=("family",), parameters=parameters, bind=bind, roofline=roofline, fold=fold, serving="",
    ranges=("batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim"), grid=grid, kin_prior=1.0)


def study(directory: Path) -> Study:
    return Study(PROBLEM, table(directory))


if __name__ == "__main__":
    main(study, OUT / "attention.toml")
