"""Sparse feed-forward weights in storage, the neurons used lately in memory (LLM in a flash, PowerInfer-2)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import ClassVar

from pydantic import Field, model_validator

from sim.plan.block import Block, Move, Plan
from sim.plan.caches import Misses, Policy, simulate_cache
from sim.plan.neurons import Neurons
from sim.plan.traces import read, rounded, synthetic
from sim.techniques.split_neurons import check_whole
from sim.techniques.technique import Size, Stage, Technique
from workloads.ops import Elementwise, Op

#: Neurons of a layer that are followed, evenly over its degrees of activity, where it has more: the share of a layer's that
#: is missed then has a standard error of at most 1 %, and of all layers' of a network of 32 at most 0.2 %.
SAMPLE = 4096


class CacheNeurons(Technique):
    """Weights of sparse feed-forward blocks lie in ``store``; a cache by the engine keeps some neurons, and each step fetches
    the active ones that it misses, once the predictor has named them.

    ``size``: share of a block's neurons that the cache holds (not used by the window policy, which keeps what the last
    ``window`` tokens used). ``reuse``: share of neurons that do as at the token before beyond chance; or ``trace``: a file
    that says which were active (``.npy``, booleans: steps, layers, neurons). ``engine``: only blocks that run there ("" all;
    never those computed whole, which stay).

    Reading: ``bundle``: a neuron's rows of all matrices are stored side by side as one record; without it each row is one.
    ``align``: records begin at multiples of it and are read in such. ``rest``: a record is read in two halves, the second
    only for this share of the neurons, which the first (the gate) leaves active (0: in one go). ``chunk``: size of a request
    (0: a record, or half of one); ``depth`` of them in flight from ``cores`` cores of the host.
    ``overlap``: neurons that are there are computed while the others come (a pipeline of neuron clusters); else all wait.
    ``copies``: how often what was fetched is copied within memory to keep the neurons together. ``warm``: tokens seen before.
    """

    name: ClassVar[str] = "cache_neurons"
    stage: ClassVar[Stage] = "policy"
    conserves: ClassVar[str] = "neurons fetched and neurons found add up to the active ones; every weight stays stored"

    store: str = "flash"
    policy: Policy = "lru"
    size: float = Field(default=0.0, ge=0, le=1)
    window: int = Field(default=5, ge=1)
    reuse: float | None = Field(default=None, ge=0, lt=1)
    trace: str = ""
    engine: str = ""
    bundle: bool = True
    align: Size = Field(default=0.0, ge=0)
    rest: float = Field(default=0.0, ge=0, le=1)
    chunk: Size = Field(default=0.0, ge=0)
    depth: float = Field(default=32.0, ge=1)
    cores: float = Field(default=1.0, ge=1)
    overlap: bool = False
    copies: float = Field(default=0.0, ge=0)
    warm: int = Field(default=32, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> CacheNeurons:
        if (self.reuse is None) == (not self.trace):
            raise ValueError("give either reuse or a trace file")
        return self

    def apply(self, plan: Plan) -> Plan:
        mine = [b for b in plan.blocks if self._mine(b)]
        if not mine:
            where = f" on {self.engine}" if self.engine else ""
            raise ValueError(f"technique cache_neurons: no block has sparse neurons{where}; give sparse_ffn before it")
        plan.board.tier(self.store)
        for b in mine:
            check_whole(self.name, b)
        layers = sorted({b.layer for b in mine})
        found = {b.name: self._share(plan, b, layers) for b in mine}
        held = [(plan.board.engine(b.engine).home, "neuron cache", found[b.name][1] * _rows(b)) for b in mine]
        changed = plan.map(lambda b: self._cached(plan, b, found[b.name][0]) if self._mine(b) else b)
        return replace(changed, held=(*plan.held, *held))

    def _mine(self, block: Block) -> bool:
        return (block.neurons is not None and not block.neurons.whole and not block.model
                and self.engine in ("", block.engine))

    def _share(self, plan: Plan, block: Block, layers: list[int]) -> tuple[float, float]:
        """Share of the neurons used that this step misses, and the most of a block's that are ever there."""
        n = block.neurons
        assert n is not None
        now, mine = self.warm + plan.step, round(n.count * n.width)
        if self.trace:
            misses = file_misses(self.policy, self.size, self.window, self.trace, len(layers), mine)
            if len(misses.used) <= now:
                raise ValueError(f"technique cache_neurons: trace: {self.trace} has {len(misses.used)} steps, {now + 1} are "
                                 f"needed (warm {self.warm})")
        else:
            misses = trace_misses(self.policy, self.size, self.window, len(layers), replace(n, dense=()), n.routed,
                                  min(mine, SAMPLE), plan.tokens, self.reuse or 0.0, rounded(now + 1), plan.seed)
        at = layers.index(block.layer)
        return (float(misses.missed[now, at]) / max(float(misses.used[now, at]), 1.0),
                float(misses.resident[:now + 1, at].max()) / misses.kept.shape[2])

    def _cached(self, plan: Plan, block: Block, missed: float) -> tuple[Block, ...]:
        n = block.neurons
        assert n is not None
        home = plan.board.engine(block.engine).home
        neurons = missed * n.share(plan.tokens) * _in_use(n, plan.tokens) * n.count
        named = tuple(a for a in block.after if a.endswith(" predictor")) or block.after or None
        fetched = tuple(replace(m, src=self.store, dst=home, after=named) for m in self._reads(block, n, neurons))
        copied = self._copies(block, n, neurons)
        rest = block.weight_bytes - _rows(block)                 # biases, a router, experts that all tokens share
        stored = ((self.store, _rows(block)), *(((home, rest),) if rest > 0 else ()))
        if not self.overlap or not 0 < missed < 1:
            return (replace(block, weights=stored, moves=(*block.moves, *fetched), ops=(*copied, *block.ops)),)
        first = replace(block, name=f"{block.name} found", ops=n.ops(plan.tokens, 1 - missed), weights=(), out_bytes=0.0)
        return first, replace(block, ops=(*copied, *n.ops(plan.tokens, missed)), weights=stored, moves=(*block.moves, *fetched),
                              after=(*block.after, first.name))

    def _reads(self, block: Block, n: Neurons, neurons: float) -> list[Move]:
        """What is fetched: whole records, or their first halves and then the second ones that are still needed."""
        record = n.record if self.bundle else n.record / n.matrices
        if self.align:
            record = math.ceil(record / self.align - 1e-9) * self.align
        records = neurons * (1.0 if self.bundle else n.matrices)
        parts = [(records, record)] if not self.rest else [(records, record / 2), (records * self.rest, record / 2)]
        return [Move(what="neurons", nbytes=count * size, src="", dst="", chunk=min(self.chunk or size, size), scattered=True,
                     span=_rows(block), depth=self.depth, cores=self.cores, staged=False) for count, size in parts]

    def _copies(self, block: Block, n: Neurons, neurons: float) -> tuple[Op, ...]:
        if not self.copies or not neurons:
            return ()
        nbytes = self.copies * neurons * n.record
        return (Elementwise(name=f"{block.name} copies", kind="kv_append", rows=neurons, cols=nbytes / neurons / 2,
                            bytes_read=nbytes, bytes_written=nbytes),)


@lru_cache(maxsize=4)
def file_misses(policy: Policy, size: float, window: int, path: str, layers: int, items: int) -> Misses:
    """All steps of a trace in a file. Raises ``ValueError`` with one line."""
    return simulate_cache(read(path, layers, items), policy, capacity=round(size * items), window=window)


def _rows(block: Block) -> float:
    """Bytes of the neurons of a block: what lies in storage."""
    n = block.neurons
    assert n is not None
    return min(n.record * n.count * n.width, block.weight_bytes)


def _in_use(n: Neurons, tokens: float) -> float:
    """Share of the experts that at least one token is routed to."""
    return 1.0 - (1.0 - n.routed) ** tokens if n.routed < 1 else 1.0


@lru_cache(maxsize=16)
def trace_misses(policy: Policy, size: float, window: int, layers: int, n: Neurons, routed: float, items: int, tokens: float,
                 reuse: float, steps: int, seed: int) -> Misses:
    """Steps of one trace; a longer one begins with the shorter one, so that consecutive steps see one and the same."""
    trace = synthetic(steps, layers, items, active=n.active, hot=n.hot, mass=n.mass, reuse=reuse, seed=seed, tokens=tokens,
                      lo=n.lo, hi=n.hi, routed=routed)
    return simulate_cache(trace, policy, capacity=round(size * items), window=window)
