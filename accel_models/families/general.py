"""GPUs, and every engine without formulas of its own: the general pricers, one for each kind of op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from accel_models.bind import Hardware
from accel_models.columns import BORROWED, MEMORY, Columns, Stack, defaults, priced, sets, widening
from accel_models.cost.attention import attention_decode, attention_prefill
from accel_models.cost.attention import variant as attention_variant
from accel_models.cost.collective import BORROWS as LINK_BORROWS
from accel_models.cost.collective import collective
from accel_models.cost.elementwise import BORROWS as KIND_BORROWS
from accel_models.cost.elementwise import elementwise
from accel_models.cost.gemm import gemm
from accel_models.cost.moe import BORROWS as MOE_BORROWS
from accel_models.cost.moe import moe
from accel_models.cost.scan import scan
from accel_models.cost.terms import Array, Cost
from accel_models.kernels import Multiply, multiply
from workloads.formats import get_format
from workloads.ops import NUMBERS, Attention, Collective, Elementwise, Gemm, Moe, Op, Scan

#: (ops, their numbers stacked, hardware, framework) -> Stack.
Pricer = Callable[[Any, dict[str, Array], Hardware, str], Stack]


def ways_of(ops: Sequence[Gemm] | Sequence[Moe], hw: Hardware) -> list[tuple[Multiply, ...]]:
    """How each op multiplies on each device."""
    found = {(a, w): tuple(multiply(a, w, native) for native in hw.native) for a, w in {(op.a, op.w) for op in ops}}
    return [found[op.a, op.w] for op in ops]


def _product(ops: Sequence[Gemm] | Sequence[Moe], ways: list[tuple[Multiply, ...]], col: Columns) -> dict[str, Any]:
    """Arguments that dense and grouped products share, all that follows from formats and devices."""
    return {"bytes_a": col.table([[w.bytes_a for w in row] for row in ways]),
            "bytes_w": col.each([get_format(op.w).nbytes for op in ops]),
            "bytes_out": col.each([get_format(op.out).nbytes for op in ops]),
            "dequant_ops": col.table([[w.dequant_ops for w in row] for row in ways]),
            "peak": _peak(ways, col), "vector_peak": col(col.hw.vector_rate),
            **col.common(*MEMORY)}


def _label(way: Multiply, variant: str) -> str:
    return variant + BORROWED if way.borrowed else variant


def _peak(ways: list[tuple[Multiply, ...]], col: Columns) -> Array:
    """Rate of each product: that of its format over the passes, mixed harmonically where two formats share k."""
    peak = col.rates([[w.compute for w in row] for row in ways])
    if any(w.passes != 1.0 for row in ways for w in row):
        peak = peak / col.table([[w.passes for w in row] for row in ways])
    if any(w.mix for row in ways for w in row):
        mix = col.table([[w.mix for w in row] for row in ways])
        other = col.rates([[w.mixed for w in row] for row in ways])
        peak = 1.0 / ((1.0 - mix) / peak + mix / np.where(mix > 0, other, np.inf))
    return peak


def _gathers(ops: Sequence[Gemm], hw: Hardware) -> list[list[float]]:
    """Bytes fetched from L2 per weight: of codebooks that exceed the scratchpad of a processor."""
    found = [get_format(op.w) for op in ops]
    return [[f.gather if f.codebook > size else 0.0 for size in hw.smem_per_unit.tolist()] for f in found]


def _gemm(ops: Sequence[Gemm], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    return gemm_of(ops, f, hw, framework, ways_of(ops, hw))


def gemm_of(ops: Sequence[Gemm], f: dict[str, Array], hw: Hardware, framework: str, ways: list[tuple[Multiply, ...]], *,
            rate: Array | None = None) -> Stack:
    """Dense products issued in these ways; ``rate`` [op/s], (ops, devices, ...), stands for that of the format where it is
    not NaN."""
    col = Columns(hw, f["m"].ndim - 2)
    variants = tuple(tuple(_label(w, w.variant) for w in row) for row in ways)
    found = sets("gemm", gemm, variants, hw.identity, framework)
    beyond = widening("gemm", variants, col, framework, **{k: f[k] for k in ("m", "n", "k", "batch")})
    static = col.each([float(op.static) for op in ops])
    given = _product(ops, ways, col)
    if rate is not None:
        given["peak"] = np.where(np.isnan(rate), given["peak"], rate)
    m = f["m"]
    if any(w.rows != 1.0 for row in ways for w in row):
        rows = col.table([[w.rows for w in row] for row in ways])
        m, given["bytes_out"] = m * rows, given["bytes_out"] / rows
    known = col.fitted(found)
    if any(w.step != 1.0 for row in ways for w in row):
        step, default = col.table([[w.step for w in row] for row in ways]), defaults(gemm)
        known["step_time"] = known.get("step_time", default["step_time"]) * step
        known["fill"] = known.get("fill", default["fill"]) / step       # start and end of a tile take the time they took
    cost = gemm(m, f["n"], f["k"], f["batch"], gather_bytes=col.table(_gathers(ops, hw)),
                resident=static * f["resident"] + (1.0 - static),
                quant_kernels=col.table([[w.quant_kernels for w in row] for row in ways]),
                quant_bytes=col.table([[w.quant_bytes for w in row] for row in ways]), **given, **known)
    return priced(cost, found, given["peak"], col, beyond=beyond)


def _moe(ops: Sequence[Moe], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    col = Columns(hw, f["tokens"].ndim - 2)
    ways = ways_of(ops, hw)
    variants = tuple(tuple(_label(w, MOE_BORROWS[w.variant]) for w in row) for row in ways)
    found = sets("moe", moe, variants, hw.identity, framework)
    given = _product(ops, ways, col)
    if any(w.rows != 1.0 for row in ways for w in row):     # planes of A: rows in a product, here passes and bytes
        rows = col.table([[w.rows for w in row] for row in ways])
        given["peak"], given["bytes_a"] = given["peak"] / rows, given["bytes_a"] * rows
    formula: Callable[..., Cost] = moe
    cost = formula(*(f[k] for k in NUMBERS[Moe][:6]), skew=f["skew"], dealt=f["dealt"], repeated=f["resident"],
                   gated=col.each([float(op.gated) for op in ops]), **given, **col.fitted(found))
    beyond = widening("moe", variants, col, framework, n_tokens=f["tokens"], hidden=f["hidden"], topk=f["topk"],
                     n_experts=f["n_experts"])
    return priced(cost, found, given["peak"], col, beyond=beyond)


def _attention(ops: Sequence[Attention], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    col = Columns(hw, f["batch"].ndim - 2)
    formula: Callable[..., Cost] = attention_decode if ops[0].phase == "decode" else attention_prefill
    formats = [get_format(op.q).compute for op in ops]
    kernels = tuple(tuple(attention_variant(op.phase, op.q if fmt in native else "", op.kv) for native in hw.native)
                    for op, fmt in zip(ops, formats, strict=True))
    found = sets("attention", formula, kernels, hw.identity, framework)
    peak = col.rates([(fmt,) * len(hw) for fmt in formats])
    cost = formula(*(f[k] for k in NUMBERS[Attention][:7]), f["window"], kv_elements=f["kv_elements"],
                   warm=f["resident"], bytes_q=col.each([max(get_format(op.q).nbytes, 2.0) for op in ops]),
                   bytes_kv=col.each([get_format(op.kv).nbytes for op in ops]),
                   causal=col.each([float(op.causal) for op in ops]),
                   peak=peak, vector_peak=col(hw.vector_rate), **col.common(*MEMORY), **col.fitted(found))
    beyond = widening("attention", kernels, col, framework,
                     **{k: f[k] for k in ("batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim")})
    return priced(cost, found, peak, col, "attention_bf16", beyond=beyond)


def _scan(ops: Sequence[Scan], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    col = Columns(hw, f["batch"].ndim - 2)
    peak = col.rates([(get_format(op.act).compute,) * len(hw) for op in ops])
    found = sets("scan", scan, tuple((op.phase,) * len(hw) for op in ops), hw.identity, framework)
    cost = scan(*(f[k] for k in NUMBERS[Scan]), bytes_act=col.each([get_format(op.act).nbytes for op in ops]),
                bytes_state=col.each([get_format(op.state).nbytes for op in ops]),
                decode=col.each([float(op.phase == "decode") for op in ops]),
                peak=peak, vector_peak=col(hw.vector_rate), **col.common("dram_bandwidth", "n_units"))
    return priced(cost, found, peak, col)


def _elementwise(ops: Sequence[Elementwise], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    col = Columns(hw, f["rows"].ndim - 2)
    variants = tuple((KIND_BORROWS[op.kind],) * len(hw) for op in ops)
    found = sets("elementwise", elementwise, variants, hw.identity, framework)
    formula: Callable[..., Cost] = elementwise
    cost = formula(*(f[k] for k in NUMBERS[Elementwise]), **col.common(*MEMORY), **col.fitted(found))
    beyond = widening("elementwise", variants, col, framework, bytes_rw=f["bytes_read"] + f["bytes_written"])
    return priced(cost, found, col(hw.rate_table["fp32"]), col, beyond=beyond)


def _collective(ops: Sequence[Collective], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    col = Columns(hw, f["nbytes"].ndim - 2)
    # Sets of a link inside a node know nothing of the network: where a group crosses it, they are no more than borrowed.
    links = [(LINK_BORROWS[k], size) for k, size in zip(hw.link_class, hw.domain.tolist(), strict=True)]
    variants = tuple(tuple(v + BORROWED if v != "internode" and group > domain else v for v, domain in links)
                     for group in (float(np.max(op.n_devices)) for op in ops))
    found = sets("collective", collective, variants, hw.identity, framework)
    cost = collective(f["nbytes"], f["n_devices"], kind=ops[0].kind, bandwidth=col(hw.link_bandwidth),
                      devices_per_node=col(hw.domain), internode_bandwidth=col(hw.network_bandwidth),
                      **col.fitted(found))
    beyond = widening("collective", variants, col, framework, bytes=f["nbytes"], n_devices=f["n_devices"])
    return priced(cost, found, col(hw.rate_table["fp32"]), col, beyond=beyond)


PRICERS: dict[type[Op], Pricer] = {
    Gemm: _gemm, Moe: _moe, Attention: _attention, Scan: _scan, Elementwise: _elementwise, Collective: _collective,
}


def fitted_as(op: Op, native: frozenset[str]) -> tuple[str, str] | None:
    """Fit and variant under which the general formulas look up a kernel that people calibrate; None for the others."""
    if isinstance(op, Gemm):
        return "gemm", multiply(op.a, op.w, native).variant
    if isinstance(op, Elementwise):
        return "elementwise", KIND_BORROWS[op.kind]
    if isinstance(op, Attention):
        return "attention", attention_variant(op.phase, op.q if get_format(op.q).compute in native else "", op.kv)
    return None
