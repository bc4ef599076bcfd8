"""The operations of one answer as points of a roofline: FLOP per byte against FLOP/s, under several ceilings.

Bytes of a point are those that its kernel asks of memory; where a cache serves some of them, the point may lie above
the DRAM ceiling and its roof is then the cache's. Roofline model: Williams, Waterman, Patterson, CACM 52 (2009) 4.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from accel_models.bind import Hardware
from accel_models.families import other_way
from accel_models.kernels import multiply
from accel_models.quantity import format_quantity
from sim.answer import Answer
from workloads.formats import get_format
from workloads.ops import Attention, Collective, Gemm, Moe, Op, Scan

SCHEMA = "perfboard/roofline/1"
#: Name of the ceiling of work that runs on no matrix engine.
VECTOR = "vector fp32"
#: A formula's time may touch its ceiling; below this excess over DRAM's it is rounding and not a cache.
ROUNDING = 1e-6
#: Ops below this share of their step need not widen the axes.
NEGLIGIBLE = 0.002


@dataclass(frozen=True)
class Ceiling:
    """``rate`` is op/s where ``kind`` is "compute", B/s where it is "memory"; of one device, dense."""

    name: str
    kind: str
    rate: float


@dataclass(frozen=True)
class Point:
    """One op; flops, bytes and times of one run of it, ``count`` runs a step.

    ``roof`` [op/s] is the lower of its compute and memory ceilings at its intensity, ``roof_name`` which one that is.
    ``share_of_step`` is that of all its runs in the time of its phase's step. ``bound`` is what the model says limits
    it, launch and tail included; ``source`` where its parameters come from.
    """

    key: str
    op: str
    label: str
    phase: str
    op_class: str
    shape: str
    count: float
    flops: float
    nbytes: float
    intensity_flop_per_byte: float
    flop_per_s: float
    roof_flop_per_s: float
    roof_name: str
    share_of_roof: float
    share_of_step: float
    time_s: float
    lo_s: float
    hi_s: float
    bound: str
    source: str
    compute: str


@dataclass(frozen=True)
class Roofline:
    """Points, largest share of their step first, and ceilings, fastest first. ``off`` [share of the step's time, by
    phase] is work without FLOPs (links), which has no place here."""

    model: str
    device: str
    workload: str
    points: tuple[Point, ...]
    ceilings: tuple[Ceiling, ...]
    off: dict[str, float]

    def of(self, kind: str) -> list[Ceiling]:
        return [c for c in self.ceilings if c.kind == kind]

    def flat(self) -> list[Ceiling]:
        """Compute ceilings to draw: those of one rate are one line that bears all their names."""
        names: dict[float, list[str]] = {}
        for c in self.of("compute"):
            names.setdefault(c.rate, []).append(c.name)
        return [Ceiling(", ".join(n), "compute", rate) for rate, n in names.items()]

    def ridges(self) -> list[tuple[str, str, float]]:
        """(compute ceiling, memory ceiling, intensity at which they meet [FLOP/B])."""
        return [(c.name, m.name, c.rate / m.rate) for c in self.of("compute") for m in self.of("memory")]

    def window(self) -> tuple[float, float, float, float]:
        """Axis limits as powers of ten (x from, x to, y from, y to) that show every point that matters and every roof.

        A point under 0.2 % of its step does not widen them and may lie outside.
        """
        heavy = [p for p in self.points if p.share_of_step >= NEGLIGIBLE] or list(self.points)
        xs = [p.intensity_flop_per_byte for p in heavy] + [i for _, _, i in self.ridges()]
        x = (math.log10(min(xs)) - 0.25, math.log10(max(xs)) + 0.55)
        ys = [p.flop_per_s for p in heavy] + [c.rate for c in self.of("compute")]
        return x[0], x[1], math.log10(min(ys)) - 0.3, math.log10(max(ys)) + 0.3

    def data(self) -> dict[str, Any]:
        """As JSON, schema ``perfboard/roofline/1``."""
        unit = {"compute": "op/s", "memory": "B/s"}
        return {
            "schema": SCHEMA, "model": self.model, "device": self.device, "workload": self.workload,
            "ceilings": [asdict(c) | {"unit": unit[c.kind]} for c in self.ceilings],
            "ridges": [{"compute": c, "memory": m, "intensity_flop_per_byte": i} for c, m, i in self.ridges()],
            "points": [asdict(p) for p in self.points], "share_without_flops": self.off,
        }


def roofline(a: Answer) -> Roofline:
    """The roofline of one answered query; its first (unperturbed) device."""
    hw = a.estimate.hardware
    steps = {"prefill": a.estimate.prefill} | ({"decode": a.estimate.decode} if a.estimate.decode else {})
    memory = _memory_ceilings(a, hw)
    raw = [(op, row, ceiling(op, hw)) for phase, step in steps.items()
           for op, row in zip(step.ops, _rows(a, phase), strict=True)]
    compute = {roof.name: roof.rate for _, row, roof in raw if row["flops"] > 0}
    ceilings = [*memory, *(Ceiling(n, "compute", r) for n, r in sorted(compute.items(), key=lambda x: -x[1]))]
    whole = {phase: float(step.time.reshape(-1)[0]) for phase, step in steps.items()}
    drawn = sorted((x for x in raw if x[1]["flops"] > 0 and x[1]["time_s"] > 0),
                   key=lambda x: -x[1]["time_s"] * x[1]["count"] / whole[x[1]["phase"]])
    keys = _keys([row["phase"] for _, row, _ in drawn])
    points = tuple(_point(op, row, roof.name, key, whole, memory, roof.rate)
                   for (op, row, roof), key in zip(drawn, keys, strict=True))
    shown = {phase: sum(p.share_of_step for p in points if p.phase == phase) for phase in whole}
    return Roofline(a.setting.spec.name, a.setting.device.title, describe(a), points, tuple(ceilings),
                    {phase: max(1.0 - s, 0.0) for phase, s in shown.items()})


def describe(a: Answer) -> str:
    """Workload and split in one line."""
    q = a.setting.query
    parts = [q.quant or _weights(a), f"batch {q.batch}", f"prompt {q.isl}", f"output {q.osl}"]
    parts += [f"prefix {q.prefix}"] if q.prefix else []
    parts += [a.setting.parallel.label()] if a.setting.parallel.n_devices > 1 else []
    return " · ".join([*parts, *(f"{k}={v}" for k, v in q.sets)])


def _weights(a: Answer) -> str:
    """Format of the weights that most of the multiplications take."""
    total: dict[str, float] = {}
    for op, row in zip(a.estimate.prefill.ops, _rows(a, "prefill"), strict=True):
        if isinstance(op, Gemm | Moe):
            total[op.w] = total.get(op.w, 0.0) + row["flops"] * row["count"]
    return max(total, key=lambda w: total[w]) if total else a.setting.spec.dtype


def _rows(a: Answer, phase: str) -> list[dict[str, Any]]:
    return [row for row in a.data["ops"] if row["phase"] == phase]


def _memory_ceilings(a: Answer, hw: Hardware) -> list[Ceiling]:
    main = Ceiling(a.setting.device.main_memory.upper(), "memory", float(hw.dram_bandwidth[0]))
    cache = Ceiling("L2", "memory", float(hw.l2_bandwidth[0]))
    return [cache, main] if hw.l2_capacity[0] > 0 and cache.rate > main.rate else [main]


def ceiling(op: Op, hw: Hardware) -> Ceiling:
    """What an op's operations run at on the first of the devices: the rate of the format that it multiplies in, or that of
    another way which its two formats allow."""
    name = _compute_of(op, hw)
    rate = float(hw.vector_rate[0] if name == VECTOR else hw.rate_table[name][0])
    a, w = (getattr(op, "a", "") or getattr(op, "q", "")), (getattr(op, "w", "") or getattr(op, "kv", ""))
    other = float(other_way(get_format(a), get_format(w), hw)[0]) if a and w else 0.0
    return Ceiling(name, "compute", rate) if rate >= other or not other else Ceiling(f"{a} x {w}", "compute", other)


def _compute_of(op: Op, hw: Hardware) -> str:
    """The format that the op multiplies in on this device, or ``VECTOR``."""
    if isinstance(op, Gemm | Moe):
        return multiply(op.a, op.w, hw.native[0]).compute
    if isinstance(op, Attention):
        return get_format(op.q).compute
    return get_format(op.act).compute if isinstance(op, Scan) else VECTOR


def _point(op: Op, row: dict[str, Any], compute: str, key: str, whole: dict[str, float], memory: list[Ceiling],
           rate: float) -> Point:
    flops, nbytes, time = row["flops"], row["bytes_hbm"], row["time_s"]
    intensity, achieved = flops / max(nbytes, 1e-12), flops / time
    level = next((m for m in reversed(memory) if achieved <= intensity * m.rate * (1 + ROUNDING)), memory[0])
    roof = min(rate, intensity * level.rate)
    return Point(
        key=key, op=row["name"], label=_short(row["name"], row["phase"]), phase=row["phase"],
        op_class=row["class"], shape=shape(op), count=row["count"],
        flops=flops, nbytes=nbytes, intensity_flop_per_byte=intensity, flop_per_s=achieved, roof_flop_per_s=roof,
        roof_name=compute if rate <= intensity * level.rate else level.name, share_of_roof=achieved / roof,
        share_of_step=time * row["count"] / whole[row["phase"]], time_s=time, lo_s=row["lo_s"], hi_s=row["hi_s"],
        bound=row["bound"], source=row["source"], compute=compute)


def intensity_text(p: Point) -> str:
    """FLOP per byte, for people."""
    return plain(p.intensity_flop_per_byte) if p.nbytes > 0 else "on chip"


def shape(op: Op) -> str:
    """What a person calls the shape of an op, formats included."""
    def f(name: str) -> str:
        return f"{_scalar(getattr(op, name)):g}"

    if isinstance(op, Gemm):
        many = f"{f('batch')} x " if _scalar(op.batch) > 1 else ""
        return f"{many}m {f('m')} n {f('n')} k {f('k')}, {op.a} x {op.w}"
    if isinstance(op, Moe):
        return (f"{f('tokens')} tokens, {f('n_local')} of {f('n_experts')} experts here, top {f('topk')}, "
                f"{f('hidden')} to {f('inter')}, {op.a} x {op.w}")
    if isinstance(op, Attention):
        return (f"batch {f('batch')}, {f('q_len')} new of {f('kv_len')}, {f('n_heads')}/{f('n_kv_heads')} heads of "
                f"{f('head_dim')}, KV {op.kv}")
    if isinstance(op, Scan):
        return f"batch {f('batch')}, {f('q_len')} new tokens"
    if isinstance(op, Collective):
        return f"{f('nbytes')} B among {f('n_devices')}"
    return f"{f('rows')} x {f('cols')}"


def _scalar(value: Any) -> float:
    return float(value.reshape(-1)[0]) if hasattr(value, "reshape") else float(value)


def _short(name: str, phase: str) -> str:
    """What tells an op from the others of its layer: ``full.attention.prefill`` is attention."""
    return name.removesuffix(f".{phase}").rpartition(".")[2]


def _keys(phases: list[str]) -> list[str]:
    """One letter a point for the text plot: capitals for prefill, small for decode, '+' when letters run out."""
    letters = {"prefill": iter("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "decode": iter("abcdefghijklmnopqrstuvwxyz")}
    return [next(letters[phase], "+") for phase in phases]


def rate_text(kind: str, rate: float) -> str:
    """A rate with three digits: ``989 TFLOP/s``, ``4.8 TB/s``."""
    text = format_quantity(float(f"{rate:.3g}"), "ops/s" if kind == "compute" else "bytes/s")
    return text.replace("OP/s", "FLOP/s")


def plain(value: float) -> str:
    """Three digits without a power of ten: ``1,303``, ``62.9``."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def hover(p: Point) -> str:
    """What a person sees who points at a point; lines."""
    def si(value: float, dimension: str) -> str:
        return format_quantity(float(f"{value:.3g}"), dimension)

    return "\n".join((
        f"{p.op} ({p.phase}, {p.count:g} times a step)", p.shape,
        f"{si(p.flops, 'ops/s').replace('OP/s', 'FLOP')}, {si(p.nbytes, 'bytes/s').removesuffix('/s')}, "
        f"{intensity_text(p)}{' FLOP/B' if p.nbytes > 0 else ''}",
        f"{si(p.time_s, 's')} each, 80 % within {si(p.lo_s, 's')} to {si(p.hi_s, 's')}",
        f"{rate_text('compute', p.flop_per_s)}: {100 * p.share_of_roof:.3g} % of its roof ({p.roof_name})",
        f"{100 * p.share_of_step:.1f} % of the step; limited by {p.bound}; parameters {p.source}"))
