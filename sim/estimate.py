"""The closed-form answer for a grid of design points: devices x batch sizes x lengths, in a few array calls.

Axes: devices first, then the axes of the workload's arrays as they broadcast. Every figure keeps only the axes it
depends on. The time of a step is the sum of its ops, one after another, as eager and graph-captured inference run them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_models.bind import Hardware
from accel_models.cost.terms import RESOURCES, attribute
from accel_models.families import peak
from accel_models.price import Priced, power_interval, price
from sim.pieces import LIMIT, cut, load
from workloads import graph
from workloads.footprint import activation_bytes, kv_bytes, weights_bytes
from workloads.formats import get_format
from workloads.model_spec import ModelSpec
from workloads.ops import Collective, Elementwise, Gemm, Moe, Op
from workloads.parallel import Parallel
from workloads.work import Work, work

Array = NDArray[np.float64]

#: z of a two-sided 80 % interval of a normal distribution.
Z80 = 1.2815515655446004


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is served: ``batch`` sequences in flight per replica, prompt and output lengths, cached prefix.

    Arrays broadcast against each other. ``utilization`` is the share of memory that weights and cache may take.
    """

    batch: ArrayLike = 1
    isl: ArrayLike = 1024
    osl: ArrayLike = 128
    prefix: ArrayLike = 0
    utilization: float = 0.9

    def check(self, spec: ModelSpec) -> None:
        """Raise ``ValueError`` naming the field, its value and the rule."""
        for name in ("batch", "isl", "osl"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if not np.all(np.isfinite(value)) or np.any(value < 1) or np.any(value % 1):
                raise ValueError(f"{name}: must be a whole number of at least 1, got {_first_bad(value)}")
        prefix, isl = np.asarray(self.prefix, dtype=np.float64), np.asarray(self.isl, dtype=np.float64)
        if np.any(prefix < 0) or np.any(prefix >= isl):
            raise ValueError(f"prefix: must be at least 0 and below isl, got {prefix.max():g} with isl {isl.min():g}")
        if not 0 < self.utilization <= 1:
            raise ValueError(f"gpu-memory-utilization: must be in (0, 1], got {self.utilization:g}")
        # An encoder writes nothing: its context holds the prompt alone.
        longest = float(np.max(isl + spec.causal * np.asarray(self.osl, dtype=np.float64)))
        if spec.max_context and longest > spec.max_context:
            name = "isl + osl" if spec.causal else "isl"
            raise ValueError(f"{name}: {longest:.0f} tokens exceed the {spec.max_context} that {spec.name} allows "
                             f"(max_position_embeddings)")


@dataclass(frozen=True)
class Step:
    """One step, priced. ``time`` [s] and its 80 % interval; ``sol`` the physical limit [s] and what sets it."""

    ops: tuple[Op, ...]
    priced: tuple[Priced, ...]
    works: tuple[Work, ...]
    time: Array
    lo: Array
    hi: Array
    sol: Array
    sol_bound: Array                  # 0 compute, 1 memory, 2 link
    flops: Array
    nbytes: Array                     # compulsory: weights and cache
    energy: Array                     # [J] of one device, idle power included


@dataclass(frozen=True)
class Estimate:
    """The whole answer; see ``METRICS`` for the figures and their units."""

    spec: ModelSpec
    hardware: Hardware
    workload: Workload
    parallel: Parallel
    prefill: Step
    decode: Step | None               # None for an encoder
    memory: dict[str, Array]
    metrics: dict[str, Array]
    intervals: dict[str, tuple[Array, Array]] = field(default_factory=dict)


def estimate(spec: ModelSpec, hardware: Hardware, workload: Workload, parallel: Parallel | None = None, *,
             framework: str = "", paired: bool = False) -> Estimate:
    """Price prefill and decode on every device and design point and derive all figures.

    TTFT is one prompt alone; TPOT one decode step at ``batch`` with the mean context (isl + osl / 2). Tokens/s is the
    steady state in which each request's prefill interrupts the decoding of the others.
    A large grid is worked on in pieces, so that memory holds little more than the results; of its steps only the sums
    are kept, not the single ops.
    ``paired``: not every device at every point, but device i at point i of workload arrays of shape (devices,).
    Raises ``ValueError`` for a split or a workload that the model does not allow.
    """
    split = parallel or Parallel()
    workload.check(spec)
    given = {n: np.asarray(getattr(workload, n), dtype=np.float64) for n in ("isl", "osl", "batch", "prefix")}
    if not paired and (pieces := load(**given, n_devices=len(hardware)) / LIMIT) > 1 and np.broadcast(*given.values()).size > 1:
        canvas, parts = cut(given, pieces)
        for place, part in parts:
            done = estimate(spec, hardware, replace(workload, **part), split, framework=framework)
            canvas.put(place, _flat(done))
        return _joined(canvas.arrays, done, workload)
    return _whole(spec, hardware, workload, split, framework, paired)


def _whole(spec: ModelSpec, hardware: Hardware, workload: Workload, split: Parallel, framework: str,
           paired: bool) -> Estimate:
    isl, osl, batch = (np.asarray(x, dtype=np.float64) for x in (workload.isl, workload.osl, workload.batch))
    first = graph.build(spec, [graph.prefill(1.0 if spec.causal else batch, isl, workload.prefix)], split).ops
    # With pipeline stages the batch goes through in pp micro-batches, all stages busy.
    micro = np.maximum(batch / split.pp, 1.0)
    later = graph.build(spec, [graph.decode(micro, isl + osl / 2)], split).ops if spec.causal else ()
    n_axes = np.broadcast(batch, isl, osl, np.asarray(workload.prefix)).ndim
    paired = paired and n_axes > 0
    n_axes -= paired
    priced = price([*first, *later], hardware, framework=framework, n_axes=n_axes, paired=paired)
    prefill = _step(first, priced[:len(first)], hardware, n_axes)
    decode = _step(later, priced[len(first):], hardware, n_axes) if later else None
    held = memory(spec, hardware, workload, split, n_axes)
    metrics, intervals = _metrics(hardware, n_axes, workload, split, prefill, decode)
    _power_intervals(hardware, n_axes, metrics, intervals)
    return Estimate(spec, hardware, workload, split, prefill, decode, held, metrics, intervals)


def _flat(e: Estimate) -> dict[str, Array]:
    """All figures of an estimate by name, single ops left out."""
    out = {f"memory {k}": a for k, a in e.memory.items()} | {f"metrics {k}": a for k, a in e.metrics.items()}
    for k, (lo, hi) in e.intervals.items():
        out |= {f"lo {k}": lo, f"hi {k}": hi}
    for name, step in (("prefill", e.prefill), ("decode", e.decode)):
        if step is not None:
            out |= {f"{name} {f.name}": getattr(step, f.name) for f in fields(Step) if f.type == "Array"}
    return out


def _joined(arrays: dict[str, Array], one: Estimate, workload: Workload) -> Estimate:
    """The reverse of ``_flat``, for the whole of which ``one`` is a piece."""
    def named(group: str) -> dict[str, Array]:
        return {k.removeprefix(group + " "): a for k, a in arrays.items() if k.startswith(group + " ")}

    hi = named("hi")
    prefill, decode = (Step(ops=(), priced=(), works=(), **named(name)) if named(name) else None
                       for name in ("prefill", "decode"))
    assert prefill is not None
    return replace(one, workload=workload, prefill=prefill, decode=decode, memory=named("memory"),
                   metrics=named("metrics"), intervals={k: (lo, hi[k]) for k, lo in named("lo").items()})


def _step(ops: Sequence[Op], priced: Sequence[Priced], hw: Hardware, n_axes: int) -> Step:
    counts = [_count(op) for op in ops]
    times = [p.cost.time * n for n, p in zip(counts, priced, strict=True)]
    time = sum(times, np.zeros(()))
    lo, hi = compose(ops, priced, times, time)
    works = tuple(work(op) for op in ops)
    sol, bound, flops, nbytes = limit(ops, works, hw, n_axes)
    joules = sum((p.energy * n for n, p in zip(counts, priced, strict=True)), np.zeros(()))
    return Step(tuple(ops), tuple(priced), works, time, lo, hi, sol, bound, flops, nbytes, joules)


def _count(op: Op) -> Array:
    """How often the op runs in a step."""
    found: Array = np.asarray(op.repeat, dtype=np.float64)[()]
    return found


def compose(ops: Sequence[Op], priced: Sequence[Priced], times: Sequence[Array], time: Array) -> tuple[Array, Array]:
    """Interval of a sum: errors of one op class move together, those of different classes independently.

    Each op's interval becomes a median shift and a log standard deviation; class by class the absolute deviations
    add up, over the classes their squares do.
    """
    spread: dict[str, Array] = {}
    shift: Array = np.zeros(())
    alike: dict[tuple[type[Op], tuple[int, ...]], list[int]] = {}
    for i, op in enumerate(ops):
        alike.setdefault((type(op), times[i].shape), []).append(i)
    for (kind, shape), members in alike.items():
        t = np.stack([times[i] for i in members])
        lo, hi = (np.log(np.stack([a if a.shape == shape else np.broadcast_to(a, shape) for a in side]))
                  for side in ([priced[i].lo for i in members], [priced[i].hi for i in members]))
        shift = shift + (t * np.expm1((hi + lo) / 2)).sum(axis=0)
        spread[kind.__name__] = spread.get(kind.__name__, np.zeros(())) + (t * (hi - lo)).sum(axis=0) / (2 * Z80)
    safe = np.maximum(time, 1e-30)
    total = np.sqrt(sum((s**2 for s in spread.values()), np.zeros(()))) / safe
    middle = np.maximum(1 + shift / safe, 0.1)
    # Classes that err to one side shift the whole; the estimate itself stays inside its interval all the same.
    lo, hi = time * middle * np.exp(-Z80 * total), time * middle * np.exp(Z80 * total)
    return np.minimum(lo, time), np.maximum(hi, time)


def limit(ops: Sequence[Op], works: Sequence[Work], hw: Hardware, n_axes: int) -> tuple[Array, Array, Array, Array]:
    """Speed of light: each resource at its peak, perfectly overlapped, weights and cache moved exactly once.

    Returns the time [s], what sets it (0 compute, 1 memory, 2 link), operations, and bytes of weights and cache."""
    moved: Array = np.zeros(())
    sent: Array = np.zeros(())
    flops: dict[tuple[str, str], Array] = {}
    for op, w in zip(ops, works, strict=True):
        n = _count(op)
        if isinstance(op, Collective):
            sent = sent + n * w.link_bytes
        elif not isinstance(op, Elementwise):
            moved = moved + n * (w.weight_bytes + w.cache_bytes)
        if matrix := matrix_format(op):
            both = matrix, getattr(op, "w", getattr(op, "kv", matrix))
            flops[both] = flops.get(both, np.zeros(())) + n * w.flops
    column = (-1,) + (1,) * n_axes
    compute = sum((f / peak(get_format(a), get_format(w), hw).reshape(column) for (a, w), f in flops.items()), np.zeros(()))
    times = np.stack(np.broadcast_arrays(compute, moved / hw.column("dram_bandwidth", n_axes),
                                         sent / hw.column("link_bandwidth", n_axes)))
    return times.max(axis=0), times.argmax(axis=0), sum(flops.values(), np.zeros(())), moved


def matrix_format(op: Op) -> str:
    """Format in which a matrix op multiplies; empty for the others."""
    if isinstance(op, Gemm | Moe):
        return op.a
    return getattr(op, "q", "") or getattr(op, "act", "")


def memory(spec: ModelSpec, hw: Hardware, workload: Workload, split: Parallel, n_axes: int) -> dict[str, Array]:
    """Bytes per device by kind, the budget they must fit in, and how many sequences would."""
    length = np.asarray(workload.isl, dtype=np.float64) + np.asarray(workload.osl, dtype=np.float64)
    weights = np.asarray(sum(weights_bytes(spec, split).values()))
    per_sequence = kv_bytes(spec, length, split=split)
    kv = per_sequence * np.asarray(workload.batch, dtype=np.float64)
    step_tokens = np.maximum(np.asarray(workload.isl, dtype=np.float64), np.asarray(workload.batch, dtype=np.float64))
    activations = activation_bytes(spec, np.minimum(step_tokens, 8192.0), split)
    runtime, capacity = hw.column("runtime_bytes", n_axes), hw.column("dram_capacity", n_axes)
    # Weights and cache may take the stated share, and never what activations and the runtime need.
    budget = np.minimum(capacity * workload.utilization, capacity - activations - runtime)
    # A network without a cache (an encoder) has no number of sequences that fill the memory.
    room = np.where(per_sequence > 0, np.floor(np.maximum(budget - weights, 0.0) / np.maximum(per_sequence, 1.0)), np.nan)
    return {
        "weights": weights, "kv": kv, "activations": activations, "runtime": runtime, "capacity": capacity,
        "budget": budget, "used": weights + kv + activations + runtime, "max_concurrency": room,
        "kv_per_sequence": per_sequence, "fits": weights + kv <= budget,
    }


def _metrics(hw: Hardware, n_axes: int, workload: Workload, split: Parallel, prefill: Step,
             decode: Step | None) -> tuple[dict[str, Array], dict[str, tuple[Array, Array]]]:
    batch, osl, isl = (np.asarray(x, dtype=np.float64) for x in (workload.batch, workload.osl, workload.isl))
    rental, idle = hw.column("rental", n_axes), hw.column("idle", n_axes)
    # An encoder puts out no tokens: its figures are per token put in.
    kind, tokens = ("output", osl) if decode else ("input", isl)

    def derive(ttft: Array, tpot: Array) -> dict[str, Array]:
        busy = ttft / split.pp if decode is None else batch * ttft / split.pp + (osl - 1) * tpot
        out = {"ttft_s": ttft, "tokens_per_s_per_gpu": batch * tokens / busy / (split.tp * split.pp)}
        if decode is not None:
            out |= {"tpot_s": tpot, "e2el_s": ttft + (osl - 1) * tpot, "tokens_per_s_per_user": 1 / tpot}
        out[f"usd_per_m_{kind}_tokens"] = rental / 3600 / out["tokens_per_s_per_gpu"] * 1e6
        return out

    step = decode or prefill
    metrics = derive(prefill.time, step.time)
    low, high = derive(prefill.lo, step.lo), derive(prefill.hi, step.hi)
    intervals = {k: (np.minimum(low[k], high[k]), np.maximum(low[k], high[k])) for k in metrics}
    # One request's share: its prefill, and its part of each decode step; all ranks of the replica draw power.
    prompts = batch if decode is not None else np.ones(())          # an encoder takes the batch in one pass
    prompt, rest = prompts * prefill.energy / split.pp, 0.0 * prefill.energy
    busy = prompts * prefill.time / split.pp
    if decode is not None:
        # Fewer sequences than stages leave stages idle.
        full = np.minimum(batch, split.pp) / split.pp
        rest = (osl - 1) * (decode.energy * full + idle * decode.time * (1 - full))
        busy = busy + (osl - 1) * decode.time
        metrics["prefill_power_w"] = prefill.energy / prefill.time
        metrics["decode_power_w"] = decode.energy / decode.time
    ranks = split.tp * split.pp
    metrics["avg_power_w"] = (prompt + rest) / busy
    metrics[f"j_per_{kind}_token"] = (prompt + rest) * ranks / (batch * tokens)
    return metrics, intervals


def _power_intervals(hw: Hardware, n_axes: int, metrics: dict[str, Array],
                     intervals: dict[str, tuple[Array, Array]]) -> None:
    """Power errs by its own factor, at most to the power limit; energy by that and by the time, independently."""
    lo, hi = (f.reshape((-1,) + (1,) * n_axes) for f in power_interval(hw))
    limit = hw.column("tdp", n_axes)
    for name in ("avg_power_w", "prefill_power_w", "decode_power_w"):
        if name in metrics:
            intervals[name] = (metrics[name] * lo, np.minimum(metrics[name] * hi, np.maximum(limit, metrics[name])))
    rate = metrics["tokens_per_s_per_gpu"]
    slow, fast = intervals["tokens_per_s_per_gpu"]
    name = next(k for k in metrics if k.startswith("j_per_"))
    joules = metrics[name]
    intervals[name] = (joules * np.exp(-np.hypot(np.log(lo), np.log(np.maximum(fast / rate, 1.0)))),
                                       joules * np.exp(np.hypot(np.log(hi), np.log(np.maximum(rate / slow, 1.0)))))


def by_class(step: Step) -> dict[str, dict[str, Array]]:
    """Exclusive time of a step by op class and by limiting resource [s]: ``{class: {resource: time}}``.

    Raises ``ValueError`` for a step of a large grid, which keeps only its sums.
    """
    if not step.ops:
        raise ValueError("time by op class: the grid was too large to keep single ops; ask for fewer points at once")
    out: dict[str, dict[str, Array]] = {}
    for op, p in zip(step.ops, step.priced, strict=True):
        row = out.setdefault(op_class(op), {r: np.zeros(()) for r in RESOURCES})
        for r, t in attribute(p.cost).items():
            row[r] = row[r] + t * _count(op)
    return out


def op_class(op: Op) -> str:
    """Class under which people see an op: its kind, or the kind of its kernel."""
    kind = getattr(op, "kind", "")
    return kind if isinstance(op, Collective) else type(op).__name__.lower()


def _first_bad(value: Array) -> str:
    flat = np.ravel(value)
    bad = flat[~np.isfinite(flat) | (flat < 1) | (flat % 1 != 0)]
    return f"{bad[0]:g}" if len(bad) else "nothing"
