"""CPUs: products by unpacking or by table look-up, as the framework has kernels; attention and the rest on the cores.

Figures of the engine, all optional: ``threads`` cores used (all), ``core_bytes_per_s`` what one core alone draws from
DRAM, ``read_share`` of the memory's bandwidth that reading by enough cores reaches (both pooled), ``group`` of
activations a look-up table holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from accel_models import fitted_store
from accel_models.bind import Hardware
from accel_models.columns import UNMEASURED, Columns, Sets, Stack, priced
from accel_models.cost.cpu import (
    LANE_BYTES,
    REGISTER,
    attention_on_cores,
    elementwise_on_cores,
    table_lookup,
    unpack_multiply,
)
from accel_models.cost.terms import REGIMES, Array, Cost
from accel_models.families.general import Pricer
from workloads.formats import Format, get_format
from workloads.ops import NUMBERS, Attention, Elementwise, Gemm, Moe, Op

#: Frameworks whose kernels look weights up in tables, by the part of their name before a version.
LOOKUP = ("tmac",)
#: Planes that a table kernel takes at most; wider weights are unpacked by every framework.
MOST_PLANES = 4


def kernel(fmt: Format, framework: str) -> str:
    """Which kernel multiplies weights of this format: ``plain`` (16 bits and more), ``lookup`` or ``unpack``."""
    if fmt.bits >= 16:
        return "plain"
    tables = framework.split("-")[0].lower() in LOOKUP
    few = fmt.kind in ("int", "ternary") and planes(fmt) <= MOST_PLANES
    return "lookup" if tables and few else "unpack"


def planes(fmt: Format) -> int:
    """Bit planes of an element: a ternary digit takes two."""
    return int(np.ceil(fmt.element_bits))


def lookup_limit(fmt: Format, hw: Hardware) -> Array:
    """Rate (devices,) of products with weights of this format if looking up were all: one shuffle a look-up, every lane busy;
    0 where tables do not serve. [op/s]"""
    if fmt.bits >= 16 or kernel(fmt, LOOKUP[0]) != "lookup":
        return np.zeros(len(hw))
    group = hw.figure("group", 4.0)
    rate: Array = LANE_BYTES * hw.vector_rate * 2.0 * group / (planes(fmt) * np.maximum(2.0**group / REGISTER, 1.0))
    return rate


# -- what all pricers here share ----------------------------------------------------------------------------------------

@lru_cache(maxsize=1024)
def _found(variant: str, device: tuple[str, str, str], framework: str) -> fitted_store.Found:
    try:
        return fitted_store.lookup("cpu", variant, device[0], device[1], framework)
    except (KeyError, FileNotFoundError):
        wide = fitted_store.ParameterSet(values={}, lo={"all": 1 / UNMEASURED}, hi={"all": UNMEASURED})
        return fitted_store.Found(params=wide, source="assumed")


#: (variant, number of ops, hardware, framework) -> parameters; the fit tries its own.
Look = Callable[[str, int, Hardware, str], Sets]


def look_up(variant: str, n_ops: int, hw: Hardware, framework: str) -> Sets:
    """One set per device; all ops of a call share their variant. Sets were fitted on CPUs, so a CPU without one of its
    own takes the pool as ``transferred``."""
    found = [_found(variant, device, framework) for device in hw.identity]
    names = sorted(set.intersection(*(set(f.params.values) for f in found)))
    sides = ([[f.params.lo for f in found], [f.params.hi for f in found]])
    lo, hi = (np.array([[t.get(r, t.get("all", 1.0)) for t in side] for r in REGIMES])[:, None] for side in sides)
    return Sets({n: np.array([f.params.values[n] for f in found]) for n in names}, lo, hi,
                (tuple(f.source for f in found),) * n_ops)


def _machine(hw: Hardware, col: Columns, known: Mapping[str, Array]) -> dict[str, Any]:
    """Arguments of the machine itself: what its file says, else what was fitted, else what the formula assumes."""
    threads = hw.figure("threads", np.inf)
    if np.any(threads < 1):
        name = hw.identity[int(np.argmax(threads < 1))][0]
        raise ValueError(f"{name}: engine figure 'threads': must be at least 1, found {threads.min():g}")
    clock = np.where(hw.clock > 0, hw.clock, ASSUMED_CLOCK)
    given = {"threads": threads, "clock": clock}
    for name, own in (("core_bytes", hw.figure("core_bytes_per_s", np.nan) / clock),
                      ("read_share", hw.figure("read_share", np.nan))):
        pool = known.get(name, np.full(len(hw), _DEFAULT[name]))
        given[name] = np.where(np.isnan(own), pool, own)
    rest = {k: v for k, v in known.items() if k not in given}
    return {k: col(v) for k, v in (rest | given).items()}


#: Clock where the device file has none [Hz], and what no fit has found (see the formulas).
ASSUMED_CLOCK = 2.5e9
_DEFAULT = {"core_bytes": 8.0, "read_share": 0.8}


def _some(known: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {n: known[n] for n in names if n in known}


_FORMULA: dict[str, Callable[..., Cost]] = {"lookup": table_lookup, "unpack": unpack_multiply, "plain": unpack_multiply}
_MACHINE = ("threads", "clock", "core_bytes", "read_share", "sharpness", "barrier_cycles")
_CACHE = ("l2_bandwidth", "l2_capacity")


# -- pricers ------------------------------------------------------------------------------------------------------------

def _rate(fmt: Format, a: Format, native: frozenset[str]) -> str:
    """Format in which weights are multiplied: int8 dot products below 16 bits, else the wider of both operands."""
    if fmt.bits < 16:
        return "int8"
    return "fp32" if "fp32" in (fmt.compute, a.compute) or fmt.compute not in native else fmt.compute


def _product(ops: Sequence[Gemm] | Sequence[Moe], shape: tuple[Array, ...], resident: Array, hw: Hardware,
             framework: str, variant: str, col: Columns, look: Look) -> Stack:
    """Products of one kernel: ``shape`` is (m, n, k, batch)."""
    both = [(get_format(op.w), get_format(op.a)) for op in ops]
    formats = [w for w, _ in both]
    found = look(variant, len(ops), hw, framework)
    known = _machine(hw, col, found.values)
    rates = col.rates([[_rate(w, a, native) for native in hw.native] for w, a in both])
    given: dict[str, Any] = {
        "bytes_a": col.each([a.nbytes for _, a in both]), "bytes_w": col.each([f.nbytes for f in formats]),
        "bytes_out": col.each([get_format(op.out).nbytes for op in ops]), "resident": resident,
        "vector_peak": col(hw.vector_rate), **col.common("n_units", "dram_bandwidth", *_CACHE),
        **_some(known, _MACHINE)}
    formula = _FORMULA[variant]
    if variant == "lookup":
        cost = formula(*shape, bits=col.each([float(planes(f)) for f in formats]),
                            group=col(hw.figure("group", 4.0)), **given, **_some(known, ("lookup_ops", "build_ops")))
    else:
        unpack = [0.0 if w.bits >= 16 else w.dequant_ops for w in formats]
        cost = formula(*shape, dequant_ops=col.each(unpack), peak=rates, **given,
                               **_some(known, ("efficiency", "convert_ops", "reuse")))
    return priced(cost, found, rates, col)


def _gemm(ops: Sequence[Gemm], f: dict[str, Array], hw: Hardware, framework: str, *, look: Look) -> Stack:
    def one(chosen: Sequence[Gemm], n: dict[str, Array], variant: str, col: Columns) -> Stack:
        return _product(chosen, (n["m"], n["n"], n["k"], n["batch"]), n["resident"], hw, framework, variant, col, look)

    return _by_kernel(ops, f, hw, framework, one)


def _moe(ops: Sequence[Moe], f: dict[str, Array], hw: Hardware, framework: str, *, look: Look) -> Stack:
    """Experts one after another: each that is hit reads its weights once for its rows. Loads are taken as even."""
    def one(chosen: Sequence[Moe], n: dict[str, Array], variant: str, col: Columns) -> Stack:
        missed = (1.0 - np.minimum(n["topk"] / n["n_experts"], 1.0)) ** n["tokens"]
        dealt = np.minimum(n["n_local"], n["tokens"] * n["topk"] * n["n_local"] / n["n_experts"])
        hit = n["dealt"] * dealt + (1.0 - n["dealt"]) * n["n_local"] * (1.0 - missed)
        rows = n["tokens"] * n["topk"] * n["n_local"] / n["n_experts"] / np.maximum(hit, 1e-9)
        width = col.each([3.0 if op.gated else 2.0 for op in chosen]) * n["inter"]
        return _product(chosen, (rows, width, n["hidden"], hit), n["resident"], hw, framework, variant, col, look)

    return _by_kernel(ops, f, hw, framework, one)


def _by_kernel(ops: Any, f: dict[str, Array], hw: Hardware, framework: str, one: Callable[..., Stack]) -> Stack:
    """Ops of unlike kernels go through one after another kernel and come back in their places."""
    kinds = [kernel(get_format(op.w), framework) for op in ops]
    col = Columns(hw, next(iter(f.values())).ndim - 2)
    if len(set(kinds)) == 1:
        return one(ops, f, kinds[0], col)
    groups = {v: [i for i, x in enumerate(kinds) if x == v] for v in dict.fromkeys(kinds)}
    stacks = {v: one([ops[i] for i in at], {n: a if len(a) == 1 else a[at] for n, a in f.items()}, v, col)
              for v, at in groups.items()}
    order = np.argsort([i for at in groups.values() for i in at])

    def joined(parts: list[Array], sizes: list[int]) -> Array:
        n_axes = 2 + len(col.tail)
        full = [np.broadcast_to(p, np.broadcast_shapes(p.shape, (size,) + (1,) * (n_axes - 1)))
                for p, size in zip(parts, sizes, strict=True)]
        rest = np.broadcast_shapes(*(p.shape[1:] for p in full))
        return np.concatenate([np.broadcast_to(p, (len(p), *rest)) for p in full])[order]

    sizes = [len(at) for at in groups.values()]
    cost = Cost(*(joined(list(terms), sizes) for terms in zip(*(s.cost for s in stacks.values()), strict=True)))
    lo, hi, energy = (joined([getattr(s, n) for s in stacks.values()], sizes) for n in ("lo", "hi", "energy"))
    sources = [s for stack in stacks.values() for s in stack.sources]
    return Stack(cost, lo, hi, energy, tuple(sources[i] for i in order))


def _attention(ops: Sequence[Attention], f: dict[str, Array], hw: Hardware, framework: str, *, look: Look) -> Stack:
    col = Columns(hw, f["batch"].ndim - 2)
    found = look("attention", len(ops), hw, framework)
    known = _machine(hw, col, found.values)
    rates = col.rates([[_rate(get_format(op.q), get_format(op.q), native) if get_format(op.q).bits >= 16 else "fp32"
                        for native in hw.native] for op in ops])
    names = ("batch", "q_len", "kv_len", "n_heads", "head_dim", "v_head_dim", "window")
    formula: Callable[..., Cost] = attention_on_cores
    cost = formula(*(f[n] for n in names), kv_elements=f["kv_elements"],
                   bytes_kv=col.each([get_format(op.kv).nbytes for op in ops]),
                   causal=col.each([float(op.causal) for op in ops]), peak=rates, vector_peak=col(hw.vector_rate),
                   **col.common("n_units", "dram_bandwidth"), **_some(known, (*_MACHINE, "efficiency", "softmax_ops")))
    return priced(cost, found, rates, col)


def _elementwise(ops: Sequence[Elementwise], f: dict[str, Array], hw: Hardware, framework: str, *, look: Look) -> Stack:
    col = Columns(hw, f["rows"].ndim - 2)
    found = look("elementwise", len(ops), hw, framework)
    known = _machine(hw, col, found.values)
    formula: Callable[..., Cost] = elementwise_on_cores
    cost = formula(*(f[n] for n in NUMBERS[Elementwise]), vector_peak=col(hw.vector_rate),
                   **col.common("n_units", "dram_bandwidth", *_CACHE), **_some(known, (*_MACHINE, "element_ops")))
    return priced(cost, found, col(hw.rate_table["fp32"]), col)


def pricers(look: Look = look_up) -> dict[type[Op], Pricer]:
    """The pricers of a CPU, with parameters from ``look``."""
    return {kind: partial(f, look=look) for kind, f in
            ((Gemm, _gemm), (Moe, _moe), (Attention, _attention), (Elementwise, _elementwise))}


PRICERS = pricers()
