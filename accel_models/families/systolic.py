"""Systolic arrays: the Hexagon NPU (kind ``hexagon_npu``) and engines of TPU form (kind ``systolic``).

``[engine.matrix.figure]`` holds ``rows``, ``cols`` (one array), ``scratchpad_bytes``, and where they differ from a
weight-stationary array with second registers and double buffering ``dataflow`` (index into ``DATAFLOWS``), ``shadow``,
``double_buffer``, ``row_quantum``, ``graph_rows``; ``attention`` 1: the arrays attend, too; ``units`` counts the arrays.
What nothing was measured for is ``assumed``: the hardware as it is, without any loss by software.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from accel_models.bind import Hardware
from accel_models.columns import Columns, Stack, picked, priced, sets, widening
from accel_models.cost.systolic import systolic
from accel_models.cost.terms import Array, Cost
from accel_models.families.general import PRICERS, Pricer
from accel_models.kernels import Multiply, multiply
from workloads.formats import get_format
from workloads.ops import Attention, Gemm, Moe, Op

#: Figure of the device file -> argument of the formula, and its value where a file is silent (None: it must say).
FIGURES: dict[str, tuple[str, float | None]] = {
    "rows": ("array_rows", None), "cols": ("array_cols", None), "scratchpad_bytes": ("scratchpad", None),
    "dataflow": ("dataflow", 0.0), "shadow": ("shadow", 1.0), "double_buffer": ("double_buffer", 1.0),
    "row_quantum": ("row_quantum", 1.0), "graph_rows": ("graph_rows", 0.0),
}
#: Hexagon matrix unit: tiles of 32 x 32 summed up inside it, fed from 8 MiB of tightly coupled memory (Hao et al.,
#: arXiv:2509.23324, section 3.1.2: reverse-engineered on V75 in fp16).
HEXAGON: dict[str, float] = {"rows": 32.0, "cols": 32.0, "scratchpad_bytes": 8.0 * 2**20, "dataflow": 1.0}


def figures(hw: Hardware) -> dict[str, Array]:
    """Arguments of ``systolic`` that follow from devices alone, (devices,). ``ValueError`` names a figure not given."""
    hexagon = all(kind == "hexagon_npu" for kind in hw.engine)
    given = {arg: hw.figure(name, HEXAGON.get(name, default) if hexagon else default)
             for name, (arg, default) in FIGURES.items()}
    return given | {"n_units": hw.n_units, "dram_bandwidth": hw.dram_bandwidth}


def variant(way: Multiply) -> str:
    """Class of products with a fit of its own: ``int8``, ``fp16`` (all 16- and 32-bit formats), ``weight_only``."""
    if way.compute == "int8":
        return "int8"
    return "weight_only" if way.variant.endswith("weight_only") else "fp16"


def _ways(ops: Sequence[Gemm] | Sequence[Moe], hw: Hardware) -> list[list[Multiply]]:
    return [[multiply(op.a, op.w, native) for native in hw.native] for op in ops]


def _formats(ops: Sequence[Gemm] | Sequence[Moe], ways: list[list[Multiply]], col: Columns) -> dict[str, Any]:
    peak = col.rates([[w.compute for w in row] for row in ways]) / col.table([[w.passes * w.rows for w in row] for row in ways])
    return {"bytes_a": col.table([[w.bytes_a * w.rows for w in row] for row in ways]), "peak": peak,
            "bytes_w": col.each([get_format(op.w).nbytes for op in ops]),
            "bytes_out": col.each([get_format(op.out).nbytes for op in ops])}


def _gemm(ops: Sequence[Gemm], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    col = Columns(hw, f["m"].ndim - 2)
    ways = _ways(ops, hw)
    variants = tuple(tuple(variant(w) for w in row) for row in ways)
    found = sets("systolic", systolic, variants, hw.identity, framework)
    static = col.each([float(op.static) for op in ops])
    formats = _formats(ops, ways, col)
    formula: Any = systolic
    cost = formula(f["m"], f["n"], f["k"], f["batch"], resident=static * f["resident"], **formats,
                   **{k: col(v) for k, v in figures(hw).items()}, **col.fitted(found))
    beyond = widening("systolic", variants, col, framework, m=f["m"], n=f["n"], k=f["k"])
    return priced(cost, found, formats["peak"], col, beyond=beyond)


def _moe(ops: Sequence[Moe], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    """Experts one after another, as products of the mean number of rows: an array takes no ragged batch."""
    col = Columns(hw, f["tokens"].ndim - 2)
    ways = _ways(ops, hw)
    variants = tuple(tuple(variant(w) for w in row) for row in ways)
    found = sets("systolic", systolic, variants, hw.identity, framework)
    busy, rows = picked(f)
    formats = _formats(ops, ways, col)
    given = {**formats, **{k: col(v) for k, v in figures(hw).items()}, **col.fitted(found)}
    wide = f["inter"] * col.each([1.0 + op.gated for op in ops])
    formula: Any = systolic
    up, down = formula(rows, wide, f["hidden"], busy, **given), formula(rows, f["hidden"], f["inter"], busy, **given)
    cost = Cost(*(a + b for a, b in zip(up, down, strict=True)))
    return priced(cost, found, formats["peak"], col, beyond=widening("systolic", variants, col, framework, m=rows))


def _vector_side(hw: Hardware) -> Hardware:
    """The vector engine in the place of the arrays."""
    return replace(hw, rate_table=dict.fromkeys(hw.rate_table, hw.vector_rate))


def _cheaper(kind: type[Op], arrays: Pricer) -> Pricer:
    """Products of 16 bits on the arrays as the vendor's runtime was measured (``qnn``); under any other, or none, on the
    vector engine where that is faster: no runtime with a choice keeps them there."""
    def pricer(ops: Any, f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
        mine = arrays(ops, f, hw, framework)
        wide = np.array([[variant(w) == "fp16" for w in row] for row in _ways(ops, hw)])
        if framework.startswith("qnn") or not wide.any():
            return mine
        other = PRICERS[kind](ops, f, _vector_side(hw), framework)
        n_axes = next(iter(f.values())).ndim - 2
        use = wide.reshape(*wide.shape, *(1,) * n_axes) & np.asarray(other.cost.time < mine.cost.time)
        some: list[list[bool]] = np.any(use.reshape(*wide.shape, -1), axis=-1).tolist()
        cost = Cost(*(np.where(use, b, a) for a, b in zip(mine.cost, other.cost, strict=True)))
        lo, hi, joules = (np.where(use, getattr(other, x), getattr(mine, x)) for x in ("lo", "hi", "energy"))
        sources = tuple(tuple(b if chosen else a for a, b, chosen in zip(x, y, row, strict=True))
                        for x, y, row in zip(mine.sources, other.sources, some, strict=True))
        return Stack(cost, lo, hi, joules, sources)

    return pricer


def _attention(ops: Sequence[Attention], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    """On the vector engine: float products of activations are what integer matrix units are left out of (llm.npu,
    arXiv:2407.05858, runs attention on the CPU)."""
    return PRICERS[Attention](ops, f, _vector_side(hw), framework)


def _attention_on_arrays(ops: Sequence[Attention], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    """Scores and weighted sums as products of activations, one for each head of keys and values with its group of queries;
    of the softmax between them nothing is known. An array takes a row as long as ``rows`` of them."""
    col = Columns(hw, f["batch"].ndim - 2)
    variants = tuple(("int8" if get_format(op.q).compute == "int8" else "fp16",) * len(hw) for op in ops)
    found = sets("systolic", systolic, variants, hw.identity, framework)
    peak = col.rates([(get_format(op.q).compute,) * len(hw) for op in ops])
    seen = f["kv_len"] - col.each([float(op.causal) for op in ops]) * (f["q_len"] - 1.0) / 2.0
    seen = np.where(f["window"] > 0, np.minimum(seen, f["window"]), seen)
    rows, batch = f["q_len"] * f["n_heads"] / f["n_kv_heads"], f["batch"] * f["n_kv_heads"]
    wide = col.each([get_format(op.q).nbytes for op in ops])
    given = {"bytes_a": wide, "bytes_w": col.each([get_format(op.kv).nbytes for op in ops]), "bytes_out": wide, "peak": peak,
             **{k: col(v) for k, v in figures(hw).items()}, **col.fitted(found)}
    formula: Any = systolic
    scores, sums = formula(rows, seen, f["head_dim"], batch, **given), formula(rows, f["v_head_dim"], seen, batch, **given)
    cost = Cost(*(a + b for a, b in zip(scores, sums, strict=True)))
    return priced(cost, found, peak, col, beyond=widening("systolic", variants, col, framework, m=rows))


def _where_told(ops: Sequence[Attention], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    """Attention on the arrays of an engine that has nothing else for it."""
    told = bool(np.all(hw.figure("attention", 0.0) > 0))
    return (_attention_on_arrays if told else PRICERS[Attention])(ops, f, hw, framework)


def _where_known(kind: type[Op], mine: Pricer) -> Pricer:
    """``mine``, or the general formula where a file does not say how large the arrays are."""
    def pricer(ops: Any, f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
        known = not np.any(np.isnan(hw.figure("rows", np.nan)))
        return (mine if known else PRICERS[kind])(ops, f, hw, framework)

    return pricer


NPU: Mapping[type[Op], Pricer] = {Gemm: _cheaper(Gemm, _gemm), Moe: _cheaper(Moe, _moe), Attention: _attention}
ARRAYS: Mapping[type[Op], Pricer] = {Gemm: _where_known(Gemm, _gemm), Moe: _where_known(Moe, _moe),
                                      Attention: _where_told}
