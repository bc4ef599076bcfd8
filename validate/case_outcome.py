"""What one side of a case gives: a figure, how sure it is by class of op, its terms, and its physical limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from accel_models.bind import Hardware, bind
from accel_models.cost.terms import attribute
from accel_models.price import Priced, price
from sim.estimate import Z80, Estimate, Step, estimate, op_class
from sim.query import Query, Setting, resolve
from validate.case import Quantity, Side
from workloads.formats import get_format
from workloads.ops import Gemm, Op
from workloads.work import work

Array = NDArray[np.float64]

#: Memory is counted and not fitted; what a runtime's allocator adds to it is not modelled (assumed share).
COUNTED = 0.05


@dataclass(frozen=True)
class Outcome:
    """``value`` in the unit of the quantity. ``spread`` is the log standard deviation that each op class brings,
    ``shift`` the log of the median over the value. ``terms`` [s] by (op class, term), summing to ``busy``, of which
    the value is a function: proportional (``power`` +1, a time) or inverse (-1, a rate). ``limit``: the value if
    everything ran at its physical limit (NaN where there is none)."""

    value: float
    limit: float
    spread: dict[str, float]
    shift: float
    terms: dict[tuple[str, str], float]
    busy: float
    power: int
    kernels: float
    source: str
    batch: int


def evaluate(side: Side, quantity: Quantity) -> Outcome:
    """One side of a claim. Raises ``ValueError`` where the setting cannot be evaluated."""
    if not side.model:
        if quantity != "time":
            raise ValueError(f"quantity: products have a time only, found {quantity!r}")
        return _products(side)
    return _model(side, quantity)


# -- bare matrix products ---------------------------------------------------------------------------------------------

@lru_cache(maxsize=256)
def _hardware(hw: str, changes: tuple[tuple[str, str], ...]) -> Hardware:
    query = Query(model="llama-3.1-8b", hw=hw, sets=changes)
    return bind([resolve(query).device])


def _products(side: Side) -> Outcome:
    hw = _hardware(side.hw, _sets(side))
    ops = [Gemm(name=f"{n:g}x{k:g}", m=side.m, n=n, k=k, a=side.a, w=side.w, out=side.out)
           for n, k in side.products()]
    priced = price(ops, hw, framework=side.framework)
    return _collect([(1.0, ops, priced)], _limit(ops, hw), +1, 1.0, int(side.m))


def _limit(ops: Sequence[Gemm], hw: Hardware) -> float:
    """Arithmetic at the peaks of its formats, weights moved once, perfectly overlapped. [s]"""
    counts = [float(np.asarray(op.repeat)) for op in ops]
    works = [work(op) for op in ops]
    compute = sum(n * float(w.flops) / float(hw.rate_table[get_format(op.a).compute][0])
                  for n, op, w in zip(counts, ops, works, strict=True))
    moved = sum(n * float(w.weight_bytes) for n, w in zip(counts, works, strict=True))
    return max(compute, moved / float(hw.dram_bandwidth[0]))


def _sets(side: Side) -> tuple[tuple[str, str], ...]:
    return tuple((k, str(v)) for k, v in side.set.items())


# -- whole models -----------------------------------------------------------------------------------------------------

@lru_cache(maxsize=1024)
def _estimate(query: Query) -> tuple[Setting, Estimate]:
    setting = resolve(query)
    hardware = bind([setting.device], setting.system)
    return setting, estimate(setting.spec, hardware, setting.workload, setting.parallel, framework=query.framework)


def _query(side: Side) -> Query:
    query = Query(model=side.model, hw=side.hw, batch=max(side.batch, 1), isl=side.isl, osl=side.osl, quant=side.quant,
                  gemm_quant=side.gemm_quant, kv_quant=side.kv_quant, tp=side.tp, pp=side.pp, dp=side.dp,
                  utilization=side.utilization, framework=side.framework, sets=_sets(side))
    if side.batch:
        return query
    room = int(_estimate(query)[1].memory["max_concurrency"].item())
    if room < 1:
        raise ValueError(f"{side.model} on {side.hw}: not even one sequence fits")
    return replace(query, batch=min(room, side.batch_cap or room))


def _model(side: Side, quantity: Quantity) -> Outcome:
    query = _query(side)
    _, result = _estimate(query)
    decode = result.decode or result.prefill
    batch, steps = float(query.batch), float(query.osl - 1)
    size: dict[str, Callable[[], float]] = {
        "weights": lambda: result.memory["weights"].item(), "memory": lambda: result.memory["used"].item(),
        "max_batch": lambda: result.memory["max_concurrency"].item(),
        "power": lambda: result.metrics["avg_power_w"].item(),
        "memory_bound": lambda: _memory_bound(decode)}
    if quantity in size:
        return _counted(size[quantity](), quantity, result, query.batch)
    parts: dict[str, list[tuple[float, Step]]] = {
        "tpot": [(1.0, decode)], "tokens_per_s": [(1.0, decode)], "ttft": [(1.0, result.prefill)],
        "linears": [(1.0, _only_linears(decode, result.hardware))], "e2el": [(1.0, result.prefill), (steps, decode)],
        "throughput": [(batch / query.pp, result.prefill), (steps, decode)]}
    chosen = parts[quantity]
    limit = sum(n * float(s.sol.item()) for n, s in chosen)
    scale = {"tokens_per_s": batch, "throughput": batch * query.osl / (query.tp * query.pp)}.get(quantity, 1.0)
    groups = [(n, s.ops, s.priced) for n, s in chosen]
    return _collect(groups, limit, -1 if quantity in ("tokens_per_s", "throughput") else +1, scale, query.batch)


def _only_linears(step: Step, hw: Hardware) -> Step:
    """The matrix products of the layers: what a kernel paper sums up (the language head stays out)."""
    pairs = [(op, p) for op, p in zip(step.ops, step.priced, strict=True)
             if isinstance(op, Gemm) and op.static and op.name != "lm_head"]
    ops = tuple(op for op, _ in pairs)
    return replace(step, ops=ops, priced=tuple(p for _, p in pairs), sol=np.array(_limit(ops, hw)))


def _memory_bound(step: Step) -> float:
    """Share of the step's products that need longer for their bytes than for their arithmetic."""
    found = [(float(np.asarray(op.repeat)), bool(np.all(p.cost.memory > p.cost.compute)))
             for op, p in zip(step.ops, step.priced, strict=True) if isinstance(op, Gemm)]
    return sum(n for n, yes in found if yes) / sum(n for n, _ in found)


def _counted(value: float, quantity: str, result: Estimate, batch: int) -> Outcome:
    lo, hi = (np.asarray(x).item() for x in result.intervals["avg_power_w"]) if quantity == "power" else (
        value * (1 - COUNTED), value * (1 + COUNTED))
    spread = float(np.log(hi / lo)) / (2 * Z80) if value else 0.0
    return Outcome(value, np.nan, {quantity: spread}, 0.0, {}, 1.0, 1, 0.0, "counted", batch)


# -- summing up -------------------------------------------------------------------------------------------------------

def _collect(groups: Sequence[tuple[float, Sequence[Op], Sequence[Priced]]], limit: float, power: int, scale: float,
             batch: int) -> Outcome:
    """Sum of all ops, each ``n`` times: errors of one class move together, so their absolute deviations add up."""
    order = ("fitted", "transferred", "assumed")
    deviation: dict[str, float] = {}
    terms: dict[tuple[str, str], float] = {}
    busy = shift = kernels = 0.0
    worst = "fitted"
    for times, ops, priced in groups:
        for op, p in zip(ops, priced, strict=True):
            count = times * float(np.asarray(op.repeat))
            t = count * float(p.cost.time.item())
            lo, hi = float(np.log(p.lo.item())), float(np.log(p.hi.item()))
            name = op_class(op)
            deviation[name] = deviation.get(name, 0.0) + t * (hi - lo) / (2 * Z80)
            shift += t * float(np.expm1((hi + lo) / 2))
            for term, part in attribute(p.cost).items():
                terms[name, term] = terms.get((name, term), 0.0) + count * float(part.item())
            busy += t
            kernels += count
            worst = max(worst, p.source[0], key=order.index)
    value = busy if power > 0 else scale / busy
    bound = limit if power > 0 else scale / limit
    middle = power * float(np.log(max(1 + shift / busy, 0.1)))
    return Outcome(value, bound, {k: v / busy for k, v in deviation.items()}, middle, terms, busy, power, kernels,
                   worst, batch)
