"""What one side of a case gives: a figure, how sure it is by class of op, its terms, and its physical limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_models.bind import Hardware, bind
from accel_models.cost.terms import attribute
from accel_models.families import peak
from accel_models.price import Priced, power_interval, price
from sim.estimate import Z80, Estimate, Step, compose, estimate, matrix_format, op_class
from sim.estimate import limit as speed_of_light
from sim.query import Query, Setting, resolve
from validate.case import Quantity, Side
from validate.case_arrays import density, efficiency
from validate.case_counts import RULES
from workloads.formats import get_format
from workloads.ops import Gemm, Op
from workloads.work import work

Array = NDArray[np.float64]

#: Memory is counted and not fitted; what a runtime's allocator adds to it is not modelled (assumed share).
COUNTED = 0.05


class Deviation(NamedTuple):
    """What one kernel adds to the log standard deviation of a figure. ``kernel`` is equal on two sides only where
    formats, shapes, device and framework are (of simulated sides: the kind of work, see ``validate.case_simulated``);
    ``own``: its parameters were fitted on this device."""

    op_class: str
    kernel: str
    size: float
    own: bool


@dataclass(frozen=True)
class Outcome:
    """``value`` in the unit of the quantity. ``spread`` holds what each kernel adds to its log standard deviation,
    ``shift`` the log of the median over the value. ``terms`` [s] by (op class, term), summing to ``busy``, of which
    the value is a function: proportional (``power`` +1, a time) or inverse (-1, a rate). ``limit``: the value if
    everything ran at its physical limit (NaN where there is none)."""

    value: float
    limit: float
    spread: tuple[Deviation, ...]
    shift: float
    terms: dict[tuple[str, str], float]
    busy: float
    power: int
    kernels: float
    source: str
    batch: int


def evaluate(side: Side, quantity: Quantity) -> Outcome:
    """One side of a claim. Raises ``ValueError`` where the setting cannot be evaluated."""
    if quantity in ("density", "efficiency"):
        return _of_arrays(side, quantity)
    if not side.model:
        if quantity not in ("time", "power", "busy"):
            raise ValueError(f"quantity: products have a time, a busy time and a power, found {quantity!r}")
        return _products(side, quantity)
    return _model(side, quantity)


# -- bare matrix products ---------------------------------------------------------------------------------------------

@lru_cache(maxsize=256)
def _hardware(hw: str, changes: tuple[tuple[str, str], ...]) -> Hardware:
    query = Query(model="llama-3.1-8b", hw=hw, sets=changes)
    return bind([resolve(query).device])


def _of_arrays(side: Side, quantity: Quantity) -> Outcome:
    """Figures of cells. Two kinds of units err apart: each would be laid out in its own way."""
    device = resolve(Query(model="llama-3.1-8b", hw=side.hw, sets=_sets(side))).device
    value, wrong = (density if quantity == "density" else efficiency)(device, side.a, side.w)
    return _measured_by(value, quantity, (1 / wrong, wrong), int(side.m), device.matrix.kind if device.matrix else "")


def _products(side: Side, quantity: Quantity) -> Outcome:
    hw = _hardware(side.hw, _sets(side))
    rows, calls = (1.0, side.m) if side.each_row else (side.m, 1.0)
    ops = [Gemm(name=f"{n:g}x{k:g}", m=rows, batch=calls, n=n, k=k, a=side.a, w=side.w, out=side.out)
           for n, k in side.products()]
    priced = price(ops, hw, framework=side.framework)
    if quantity == "power":
        time = sum(float(p.cost.time.item()) for p in priced)
        return _measured_by(sum(float(p.energy.item()) for p in priced) / time, "power",
                            tuple(float(f[0]) for f in power_interval(hw)), int(side.m))
    if quantity == "busy":
        return _collect([(1.0, ops, [_working(p) for p in priced])], _arithmetic(ops, hw), +1, 1.0, int(side.m), _where(side))
    return _collect([(1.0, ops, priced)], _limit(ops, hw), +1, 1.0, int(side.m), _where(side))


def _limit(ops: Sequence[Gemm], hw: Hardware) -> float:
    """Arithmetic at the peaks of its formats, weights moved once, perfectly overlapped. [s]"""
    counts = [float(np.asarray(op.repeat)) for op in ops]
    works = [work(op) for op in ops]
    compute = sum(n * float(w.flops) * _planes(op, hw) / float(peak(get_format(op.a), get_format(op.w), hw)[0])
                  for n, op, w in zip(counts, ops, works, strict=True))
    moved = sum(n * float(w.weight_bytes) for n, w in zip(counts, works, strict=True))
    return max(compute, moved / float(hw.dram_bandwidth[0]))


def _where(side: Side) -> str:
    return f"{side.hw} {side.framework} {side.set or ''}"


def _sets(side: Side) -> tuple[tuple[str, str], ...]:
    return tuple((k, str(v)) for k, v in side.set.items())


def _planes(op: Gemm, hw: Hardware) -> int:
    """Binary products of one product in bit planes."""
    both = get_format(op.a).planes * get_format(op.w).planes
    return both if both and "int1" in hw.native[0] else 1


# -- whole models -----------------------------------------------------------------------------------------------------

@lru_cache(maxsize=1024)
def _estimate(query: Query) -> tuple[Setting, Estimate]:
    setting = resolve(query)
    hardware = bind([setting.device], setting.system)
    return setting, estimate(setting.spec, hardware, setting.workload, setting.parallel, framework=query.framework)


def query_of(side: Side) -> Query:
    """The question that a side of a model asks; its batch, where it is the largest that fits, worked out."""
    query = Query(model=side.model, hw=side.hw, batch=max(side.batch, 1), isl=side.isl, osl=side.osl, quant=side.quant,
                  gemm_quant=side.gemm_quant, kv_quant=side.kv_quant, fmha_quant=side.fmha_quant, tp=side.tp, pp=side.pp,
                  dp=side.dp,
                  utilization=side.utilization, framework=side.framework, sets=_sets(side))
    if side.batch:
        return query
    room = int(_estimate(query)[1].memory["max_concurrency"].item())
    if room < 1:
        raise ValueError(f"{side.model} on {side.hw}: not even one sequence fits")
    return replace(query, batch=min(room, side.batch_cap or room))


def _model(side: Side, quantity: Quantity) -> Outcome:
    query = query_of(side)
    result = _counted(side, *_estimate(query))
    decode = result.decode or result.prefill
    batch, steps = float(query.batch), float(query.osl - 1)
    size: dict[str, Callable[[], float]] = {
        "weights": lambda: result.memory["weights"].item(), "memory": lambda: result.memory["used"].item(),
        "max_batch": lambda: result.memory["max_concurrency"].item(),
        "memory_bound": lambda: _memory_bound(decode), "prompt_memory_bound": lambda: _memory_bound(result.prefill)}
    if quantity in size:
        return _measured_by(float(size[quantity]()), quantity, (1 - COUNTED, 1 + COUNTED), query.batch, str(query))
    if quantity in ("power", "energy", "prompt_energy"):
        return _drawn(query, result, quantity)
    parts: dict[str, list[tuple[float, Step]]] = {
        "tpot": [(1.0, decode)], "tokens_per_s": [(1.0, decode)], "ttft": [(1.0, result.prefill)],
        "linears": [(1.0, _only_linears(decode, result.hardware))],
        "busy": [(1.0, _multiplying(decode, result.hardware))],
        "prompt_busy": [(1.0, _multiplying(result.prefill, result.hardware))], "e2el": [(1.0, result.prefill), (steps, decode)],
        "throughput": [(batch / query.pp, result.prefill), (steps, decode)]}
    chosen = parts[quantity]
    limit = sum(n * float(s.sol.item()) for n, s in chosen)
    scale = {"tokens_per_s": batch, "throughput": batch * query.osl / (query.tp * query.pp)}.get(quantity, 1.0)
    groups = [(n, s.ops, s.priced) for n, s in chosen]
    return _collect(groups, limit, -1 if quantity in ("tokens_per_s", "throughput") else +1, scale, query.batch,
                    _where(side))


def _counted(side: Side, setting: Setting, result: Estimate) -> Estimate:
    """The estimate with what the source counts of each step in place of the whole."""
    if not side.counts:
        return result

    def only(step: Step) -> Step:
        hw, ops = result.hardware, tuple(RULES[side.counts](step.ops, setting.spec))
        priced = tuple(price(ops, hw, framework=side.framework))
        each = [(float(np.asarray(op.repeat)), p) for op, p in zip(ops, priced, strict=True)]
        times = [n * p.cost.time for n, p in each]
        time, joules = sum(times, np.zeros(())), sum((n * p.energy for n, p in each), np.zeros(()))
        lo, hi = compose(ops, priced, times, time)
        return replace(step, ops=ops, priced=priced, time=time, lo=lo, hi=hi, energy=joules, sol=np.array(_limit(ops, hw)))

    return replace(result, prefill=only(result.prefill), decode=only(result.decode) if result.decode else None)


def _drawn(query: Query, result: Estimate, quantity: Quantity) -> Outcome:
    """Power of decoding, or energy a token of one phase: power errs by its own factor, energy by that of the time besides."""
    decode = result.decode or result.prefill
    step, tokens = (result.prefill, query.isl) if quantity == "prompt_energy" else (decode, query.batch)
    lo, hi = (float(f[0]) for f in power_interval(result.hardware))
    width, long = float(np.log(hi / lo)), float(np.log(step.hi / step.lo).item())
    joules, busy = float(step.energy.item()), float(step.time.item())
    value, width = ((joules / busy, width) if quantity == "power"
                    else (joules * query.tp * query.pp / tokens, float(np.hypot(width, long))))
    return _measured_by(value, quantity, (float(np.exp(-width / 2)), float(np.exp(width / 2))), query.batch, str(query))


def _only_linears(step: Step, hw: Hardware) -> Step:
    """The matrix products of the layers: what a kernel paper sums up (the language head stays out)."""
    pairs = [(op, p) for op, p in zip(step.ops, step.priced, strict=True)
             if isinstance(op, Gemm) and op.static and op.name != "lm_head"]
    ops = tuple(op for op, _ in pairs)
    return replace(step, ops=ops, priced=tuple(p for _, p in pairs), sol=np.array(_limit(ops, hw)))


def _multiplying(step: Step, hw: Hardware) -> Step:
    """All products of a step, those with the cache among them, for as long as the engine itself works on them."""
    pairs = [(op, p) for op, p in zip(step.ops, step.priced, strict=True) if matrix_format(op)]
    ops = tuple(op for op, _ in pairs)
    return replace(step, ops=ops, priced=tuple(_working(p) for _, p in pairs), sol=np.array(_arithmetic(ops, hw)))


def _working(p: Priced) -> Priced:
    """An op for as long as the engine works on it: nothing waits for memory."""
    zero = 0.0 * p.cost.compute
    return p._replace(cost=p.cost._replace(time=p.cost.compute, memory=zero, link=zero, launch=zero, tail=zero))


def _arithmetic(ops: Sequence[Op], hw: Hardware) -> float:
    """Products at the peaks of their formats, whatever they move. [s]"""
    free = replace(hw, dram_bandwidth=np.full(len(hw), np.inf))
    return float(speed_of_light(ops, [work(op) for op in ops], free, 0)[0].item())


def _memory_bound(step: Step) -> float:
    """Share of the step's products that need longer for their bytes than for their arithmetic."""
    found = [(float(np.asarray(op.repeat)), bool(np.all(p.cost.memory > p.cost.compute)))
             for op, p in zip(step.ops, step.priced, strict=True) if isinstance(op, Gemm)]
    return sum(n for n, yes in found if yes) / sum(n for n, _ in found)


def _measured_by(value: float, quantity: str, factors: tuple[float, ...], batch: int, kernel: str = "") -> Outcome:
    """A figure that is no sum of times, with the factors of its interval."""
    spread = float(np.log(factors[1] / factors[0])) / (2 * Z80)
    return Outcome(value, np.nan, (Deviation(quantity, kernel, spread, True),), 0.0, {}, 1.0, 1, 0.0, quantity, batch)


# -- summing up -------------------------------------------------------------------------------------------------------

def _collect(groups: Sequence[tuple[float, Sequence[Op], Sequence[Priced]]], limit: float, power: int, scale: float,
             batch: int, where: str) -> Outcome:
    """Sum of all ops, each ``n`` times: errors of one class move together, so their absolute deviations add up."""
    order = ("fitted", "transferred", "assumed")
    found: list[tuple[str, str, float, bool]] = []
    terms: dict[tuple[str, str], float] = {}
    busy = shift = kernels = 0.0
    worst = "fitted"
    for times, ops, priced in groups:
        for op, p in zip(ops, priced, strict=True):
            count = times * float(np.asarray(op.repeat))
            t = count * float(p.cost.time.item())
            lo, hi = float(np.log(p.lo.item())), float(np.log(p.hi.item()))
            name = op_class(op)
            found.append((name, f"{where} {replace(op, name='', repeat=1.0)}", t * (hi - lo) / (2 * Z80),
                          p.source[0] == "fitted"))
            shift += t * float(np.expm1((hi + lo) / 2))
            for term, part in attribute(p.cost).items():
                terms[name, term] = terms.get((name, term), 0.0) + count * float(part.item())
            busy += t
            kernels += count
            worst = max(worst, p.source[0], key=order.index)
    value = busy if power > 0 else scale / busy
    bound = limit if power > 0 else scale / limit
    middle = power * float(np.log(max(1 + shift / busy, 0.1)))
    spread = tuple(Deviation(c, k, s / busy, own) for c, k, s, own in found)
    return Outcome(value, bound, spread, middle, terms, busy, power, kernels, worst, batch)
