"""From plans to tasks: blocks priced on their engines, moves routed over memories and links, staging room as buffers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal, NamedTuple

import numpy as np

from accel_models.cost.terms import attribute
from accel_models.price import Priced, price
from sim.estimate import limit
from sim.plan.block import Block, Move, Plan, check_memory
from sim.plan.board import Board, Tier, copier
from sim.plan.storage import read_seconds
from sim.tasks import Flow, Labels, Resource, Task, TaskGraph, picoseconds
from workloads.ops import NUMBERS, Attention, Op
from workloads.work import work

Detail = Literal["block", "op"]

#: Share of a link's peak that long copies reach, and the range taken as its 80 % interval. Measured on PCIe: 12.35 of
#: 15.75 GB/s on a V100 (gpu-benches), 55.4 of 63 on an H200 (ml-engineering); assumed alike for all links.
LINK_SHARE, LINK_LOW, LINK_HIGH = 0.83, 0.78, 0.88


class Piece(NamedTuple):
    """One op of a block as its engine runs it: seconds of all its repeats, and what limits it."""

    op: Op
    seconds: float
    nbytes: float
    joules: float
    bound: str
    priced: Priced


@dataclass(frozen=True)
class Lowered:
    """``ends[s]``: index of the last task of step ``s``. ``pieces``: every block's ops as priced, by (step, block);
    ``reads``: times of what was read from storage. [s]"""

    graph: TaskGraph
    ends: tuple[int, ...]
    pieces: Mapping[tuple[int, str], tuple[Piece, ...]]
    reads: dict[tuple[object, ...], float] = field(default_factory=dict)


def lower(plans: Sequence[Plan], *, detail: Detail = "block", pace: Mapping[str, float] | None = None,
          ideal: bool = False, known: Lowered | None = None) -> Lowered:
    """Tasks of consecutive steps. ``pace`` stretches the times of an engine, of all copies over links (key "copies"), or
    of all reads from storage ("reads"). ``ideal``: every op at its physical limit, every link and storage at its peak, for
    the limit that this plan could reach. ``known``: the same plans lowered before, whose prices need not be found again.

    Raises ``ValueError`` for a plan that contradicts itself and ``DoesNotFitError`` for one that exceeds a memory.
    """
    if known is None:
        for plan in plans:
            plan.check()
        check_memory(plans[0])
    pieces = known.pieces if known and not ideal else _pieces(plans, ideal)
    reads = known.reads if known else {}
    resources = (*plans[0].board.resources(), *_staging(plans))
    maker = _Maker(plans[0].board, {"copies": LINK_SHARE} if ideal else pace or {}, detail, reads, ideal)
    for s, plan in enumerate(plans):
        for block in plan.blocks:
            maker.block(plan, block, pieces[s, block.name])
        maker.step_ends()
    return Lowered(TaskGraph(resources=resources, tasks=tuple(maker.tasks), seed=plans[0].seed), tuple(maker.ends), pieces,
                   reads)


# -- pricing ----------------------------------------------------------------------------------------------------------

_Key = tuple[object, ...]


#: Fields of each kind of op that its price depends on.
_COUNTING = {kind: tuple(f.name for f in fields(kind) if f.name not in ("name", "repeat")) for kind in NUMBERS}


def _key(plan: Plan, block: Block, op: Op) -> _Key:
    framework = plan.framework if block.framework is None else block.framework
    return block.engine, framework, type(op), *[getattr(op, name) for name in _COUNTING[type(op)]]


def _pieces(plans: Sequence[Plan], ideal: bool) -> dict[tuple[int, str], tuple[Piece, ...]]:
    """Every block's ops with what they cost, all repeats of each."""
    prices = _prices(plans, ideal)
    return {(s, block.name): tuple(_times(prices[_key(plan, block, op)], op) for op in block.ops)
            for s, plan in enumerate(plans) for block in plan.blocks}


def _times(p: Piece, op: Op) -> Piece:
    n = float(np.asarray(op.repeat))
    return p._replace(op=op, seconds=p.seconds * n, nbytes=p.nbytes * n, joules=p.joules * n)


def _prices(plans: Sequence[Plan], ideal: bool) -> dict[_Key, Piece]:
    """Every distinct op once, all of one engine and framework in one call."""
    wanted: dict[tuple[str, str], dict[_Key, Op]] = {}
    for plan in plans:
        for block in plan.blocks:
            for op in block.ops:
                key = _key(plan, block, op)
                each = wanted.setdefault((str(key[0]), str(key[1])), {})
                if key not in each:
                    each[key] = replace(op, name="", repeat=1.0)
    found: dict[_Key, Piece] = {}
    for (engine, framework), ops in wanted.items():
        hardware = plans[0].board.engine(engine).hardware
        priced = price(list(ops.values()), hardware, framework=framework)
        for (key, op), p in zip(ops.items(), priced, strict=True):
            terms = {k: float(np.ravel(v)[0]) for k, v in attribute(p.cost).items()}
            seconds = float(np.ravel(p.cost.time)[0])
            if ideal:
                seconds = float(np.ravel(limit([op], [work(op)], hardware, 0)[0])[0])
            if not np.isfinite(seconds):
                instead = "; --fmha-quant-mode int8 --kvcache-quant-mode int8 ?" if isinstance(op, Attention) else ""
                raise ValueError(f"{engine} of {plans[0].board.name} cannot run {type(op).__name__.lower()} in "
                                 f"{getattr(op, 'a', '') or getattr(op, 'q', '') or 'this format'}: no rate for it{instead}")
            found[key] = Piece(op, seconds, float(np.ravel(p.cost.nbytes)[0]),
                               float(np.ravel(p.energy)[0]), max(terms, key=terms.__getitem__), p)
    return found


# -- tasks ------------------------------------------------------------------------------------------------------------

def _staging(plans: Sequence[Plan]) -> list[Resource]:
    """Room for what is moved ahead, as a buffer of each memory that needs one: as stated, else the largest two blocks'."""
    largest: dict[str, float] = {}
    stated: dict[str, float] = {}
    for plan in plans:
        stated |= dict(plan.staging)
        for block in plan.blocks:
            each: dict[str, float] = {}
            for m in block.moves:
                if _staged(m):
                    each[m.dst] = each.get(m.dst, 0.0) + m.nbytes
                    if m.dst in stated and each[m.dst] > stated[m.dst]:
                        raise ValueError(f"block {block.name!r}: moves {each[m.dst] / 2**20:.1f} MiB into {m.dst}, whose "
                                         f"staging holds {stated[m.dst] / 2**20:.1f} MiB; make it larger")
            for tier, nbytes in each.items():
                largest[tier] = max(largest.get(tier, 0.0), nbytes)
    return [Resource(f"staging {tier}", "buffer", stated.get(tier, 2 * nbytes), plans[0].board.tier(tier).device.name)
            for tier, nbytes in largest.items()]


def _staged(move: Move) -> bool:
    return move.staged and not move.back and move.nbytes > 0


class _Maker:
    """Tasks as they are made, and where each block ended up."""

    def __init__(self, board: Board, pace: Mapping[str, float], detail: Detail, reads: dict[tuple[object, ...], float],
                 ideal: bool) -> None:
        self.board, self.pace, self.detail, self.reads, self.ideal = board, pace, detail, reads, ideal
        self.ways: dict[tuple[str, str], tuple[tuple[str, ...], float, float]] = {}
        self.tasks: list[Task] = []
        self.ends: list[int] = []
        self.now: dict[str, tuple[int, Block]] = {}        # of this step: last task of each block
        self.past: dict[str, tuple[int, Block]] = {}
        self.sent: dict[tuple[int, str], int] = {}

    def step_ends(self) -> None:
        last = max(i for i, _ in self.now.values())
        self.ends.append(last)
        self.past, self.now, self.sent = self.now, {}, {}

    def add(self, task: Task) -> int:
        self.tasks.append(task)
        return len(self.tasks) - 1

    def block(self, plan: Plan, block: Block, pieces: Sequence[Piece]) -> None:
        """The moves that a block needs, its compute, and what it writes back."""
        labels: dict[str, str | int | float] = {"step": plan.step, "phase": plan.phase, "layer": block.layer,
                                                "part": block.part, "model": block.model}
        engine = self.board.engine(block.engine)
        inputs, handed = self._inputs(plan, block, engine.home, labels)
        loads = [self._move(plan, block, m, inputs, labels) for m in block.moves if not m.back and m.nbytes > 0]
        gives = tuple((f"staging {m.dst}", m.nbytes) for m in block.moves if _staged(m))
        delay = picoseconds(block.sync_s + (engine.handover_s if handed else 0.0))
        runs: list[Sequence[Piece]] = [pieces] if self.detail == "block" or not pieces else [(p,) for p in pieces]
        runs = [tuple(_part(p, block.cuts) for p in run) for run in runs for _ in range(block.cuts)]
        after = (*inputs, *loads)
        for i, run in enumerate(runs):
            last = i == len(runs) - 1
            after = (self._compute(block, run, engine.home, after, delay if i == 0 else 0, gives if last else (), labels),)
        for m in block.moves:
            if m.back and m.nbytes > 0:
                self._move(plan, block, m, after, labels)
        self.now[block.name] = (after[0], block)

    def _compute(self, block: Block, run: Sequence[Piece], home: str, after: tuple[int, ...], delay: int,
                 gives: tuple[tuple[str, float], ...], labels: Labels) -> int:
        pace = self.pace.get(block.engine, 1.0)
        seconds = pace * sum(p.seconds for p in run)
        nbytes, rate = sum(p.nbytes for p in run), self.board.tier(home).bandwidth
        # Traffic that a cache served does not cross the memory: no more than the memory gives in that time.
        nbytes = min(nbytes, seconds * rate)
        flows = (Flow(nbytes, (home,), nbytes / seconds),) if nbytes > 0 else ()
        name = block.name if self.detail == "block" else f"{block.name}: {run[0].op.name if run else ''}"
        longest = max(run, key=lambda p: p.seconds, default=None)
        return self.add(Task(
            name, (block.engine,), picoseconds(seconds), delay, flows, after, block.priority, gives=gives,
            joules=sum(p.joules for p in run),
            labels={**labels, "kind": "compute", "bound": longest.bound if longest else "", "nbytes": nbytes}))

    def _inputs(self, plan: Plan, block: Block, home: str, labels: Labels) -> tuple[tuple[int, ...], bool]:
        """Tasks whose results the block needs, brought to its memory; whether another engine left any of them."""
        found: list[int] = []
        handed = False
        producers = list(self._named(block.after))
        if not block.after and self.past:
            producers = [(self.ends[-1], self.past[max(self.past, key=lambda n: self.past[n][0])][1])]
        for task, made in producers:
            there = self.board.engine(made.engine).home
            if there != home and made.out_bytes:
                found.append(self._send(task, made, there, home, labels))
            else:
                found.append(task)
                handed |= made.engine != block.engine
        return tuple(found), handed

    def _named(self, names: Iterable[str]) -> Iterable[tuple[int, Block]]:
        for name in names:
            if not name.startswith("<"):
                yield self.now[name]
            elif self.past:
                yield self.past[name[1:]]

    def _send(self, task: int, made: Block, src: str, dst: str, labels: Labels) -> int:
        """What a block made, sent to another memory: once, whoever needs it there."""
        if (task, dst) not in self.sent:
            over, cap, latency = self._way(src, dst)
            self.sent[task, dst] = self.add(Task(
                f"send {made.name}", (), 0, picoseconds(latency), (Flow(made.out_bytes, over, cap),), (task,), -1,
                labels={**labels, "kind": "copy", "what": "result", "nbytes": made.out_bytes}))
        return self.sent[task, dst]

    def _way(self, src: str, dst: str) -> tuple[tuple[str, ...], float, float]:
        """Shared resources between two memories, the rate that a copy reaches [B/s], and the latency [s]."""
        if (src, dst) in self.ways:
            return self.ways[src, dst]
        hops = self.board.route(src, dst)
        share = LINK_SHARE / self.pace.get("copies", 1.0)
        links = [h.bandwidth * (share if h.lossy else 1.0) for h in hops]
        rates = [self.board.tier(t).bandwidth for t in (src, dst) if t]
        found = (src, *(h.resource for h in hops), dst), min([*links, *rates]), sum(h.latency for h in hops)
        self.ways[src, dst] = found
        return found

    def _read(self, source: Tier, m: Move) -> float:
        key = (m.src, m.nbytes, m.chunk, m.scattered, m.span, m.depth, m.cores)
        if key not in self.reads:
            self.reads[key] = read_seconds(source, m)
        return self.reads[key]

    def _move(self, plan: Plan, block: Block, m: Move, inputs: tuple[int, ...], labels: Labels) -> int:
        over, cap, latency = self._way(m.src, m.dst)
        source = self.board.tier(m.src)
        if source.storage and not self.ideal:       # sizes and depth of requests are a choice, not a limit
            cap = min(cap, m.nbytes / (self._read(source, m) * self.pace.get("reads", 1.0)))
        if m.back and (write := _write_rate(self.board.tier(m.dst))):
            cap = min(cap, write)
        after = inputs if m.back or m.after is None else tuple(i for i, _ in self._named(m.after))
        takes = ((f"staging {m.dst}", m.nbytes),) if _staged(m) else ()
        priority = block.priority + (int(m.ahead) if m.priority is None else m.priority)
        return self.add(Task(
            f"{m.what} of {block.name}", (copier(m.src, m.dst),), 0, picoseconds(latency), (Flow(m.nbytes, over, cap),),
            after, priority, takes, joules=m.nbytes * sum(_joules_per_byte(self.board.tier(t)) for t in (m.src, m.dst)),
            labels={**labels, "kind": "copy", "what": m.what, "nbytes": m.nbytes}))


def _part(p: Piece, cuts: int) -> Piece:
    """One of equal parts of a piece."""
    return p if cuts == 1 else p._replace(seconds=p.seconds / cuts, nbytes=p.nbytes / cuts, joules=p.joules / cuts)


def _write_rate(tier: Tier) -> float:
    return tier.spec.write_bandwidth.value if tier.spec.write_bandwidth else 0.0


def _joules_per_byte(tier: Tier) -> float:
    return tier.spec.energy_per_byte.value if tier.spec.energy_per_byte else 0.0
