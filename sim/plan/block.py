"""A plan: blocks of ops with the engine that runs them, the memory that holds their weights, and what must be moved.

Techniques turn one plan into another (``sim/techniques``); ``sim/plan/lower.py`` turns the last one into tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from sim.plan.board import Board
from sim.plan.neurons import Neurons
from workloads.model_spec import ModelSpec
from workloads.ops import Op


@dataclass(frozen=True, kw_only=True)
class Move:
    """Bytes that a block needs moved from one memory to another, each time it runs.

    ``after``: blocks of the same step whose results say what to move; empty: known beforehand, so that it may run ahead
    as far as the room for it (``Plan.staging``) allows; None: the block's own predecessors. ``back``: written out when the
    block has ended. ``chunk``: bytes of one request (0: as large as the memory likes them), ``scattered`` over ``span``
    bytes or in order, ``depth`` requests in flight from ``cores`` cores of the host. ``staged``: takes room in the staging
    buffer of ``dst`` until the block has ended. ``priority`` in the queue of copies, on top of the block's (smaller first);
    None: 0 for what a block has asked for, 1 for what runs ahead, so that nobody waits for what nobody waits for.
    """

    what: str                         # "weights", "neurons", "experts", "kv", "result" ...
    nbytes: float
    src: str
    dst: str
    after: tuple[str, ...] | None = ()
    back: bool = False
    chunk: float = 0.0
    scattered: bool = False
    span: float = 0.0
    depth: float = 32.0
    cores: float = 1.0
    staged: bool = True
    priority: int | None = None

    @property
    def ahead(self) -> bool:
        """Known before any block of its step has run."""
        return self.after == () and not self.back


@dataclass(frozen=True, kw_only=True)
class Block:
    """Ops of one layer that run together, one after another, on one engine.

    ``after``: blocks of the same step whose results it needs, or of the step before where the name begins with "<"; none:
    it waits for the last block of the step before. ``weights`` and ``cache``: where its stored weights and KV cache lie,
    (tier, bytes) each. ``out_bytes``: what it hands on; where the next block computes from another memory it is sent
    there. ``sync_s``: fixed time before it starts, on top of what its kernels cost. ``model``: "" for the model asked
    about, else which (a draft model). ``neurons``: which neurons of a sparse feed-forward part it computes.
    ``cuts``: equal parts between which a block of higher priority may take the engine (preemption points).
    """

    name: str
    layer: int                        # -1 before the layers; n_layers after them
    part: str                         # "embed", "mixer", "ffn", "experts", "head", "predictor", "draft" ...
    ops: tuple[Op, ...]
    engine: str
    after: tuple[str, ...] = ()
    weights: tuple[tuple[str, float], ...] = ()
    cache: tuple[tuple[str, float], ...] = ()
    moves: tuple[Move, ...] = ()
    out_bytes: float = 0.0
    sync_s: float = 0.0
    priority: int = 0
    framework: str | None = None      # None: that of the plan
    model: str = ""
    neurons: Neurons | None = None
    cuts: int = 1

    @property
    def weight_bytes(self) -> float:
        return sum(nbytes for _, nbytes in self.weights)

    @property
    def cache_bytes(self) -> float:
        return sum(nbytes for _, nbytes in self.cache)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One step: blocks in an order in which each comes after those it waits for.

    ``batch`` sequences with ``q_len`` new tokens each and ``kv_len`` of context. ``step`` counts from 0: plans of later
    steps may move other things (what a cache misses). ``yields``: tokens a sequence gains in one step. ``staging``: room
    for what is moved ahead, by memory; a memory that is not named gets room for the largest two moves. ``held``: bytes
    kept in a memory besides weights and cache (a neuron cache, a draft's buffers), by (tier, what).
    """

    board: Board
    spec: ModelSpec
    phase: str                        # "decode" | "prefill"
    batch: float
    q_len: float
    kv_len: float
    blocks: tuple[Block, ...]
    step: int = 0
    seed: int = 0
    framework: str = ""
    yields: float = 1.0
    staging: tuple[tuple[str, float], ...] = ()
    held: tuple[tuple[str, str, float], ...] = ()
    history: tuple[str, ...] = ()

    @property
    def tokens(self) -> float:
        return self.batch * self.q_len

    def map(self, change: Callable[[Block], Block | Iterable[Block]]) -> Plan:
        """A plan with each block replaced by one or several. Blocks that waited for a block which is gone, wait for the
        last one that took its place."""
        made: list[Block] = []
        became: dict[str, str] = {}
        for block in self.blocks:
            new = change(block)
            several = (new,) if isinstance(new, Block) else tuple(new)
            made += several
            if block.name not in {b.name for b in several}:
                became[block.name] = several[-1].name if several else ""
        if became:
            made = [replace(b, after=tuple(became.get(a, a) for a in b.after if became.get(a, a))) for b in made]
        return replace(self, blocks=tuple(made))

    def noted(self, text: str) -> Plan:
        return replace(self, history=(*self.history, text))

    def resident(self) -> dict[str, dict[str, float]]:
        """Bytes by memory and kind: weights, cache and what is held besides."""
        found: dict[str, dict[str, float]] = {}
        for block in self.blocks:
            for kind, places in (("weights", block.weights), ("kv", block.cache)):
                for tier, nbytes in places:
                    found.setdefault(tier, {}).setdefault(kind, 0.0)
                    found[tier][kind] += nbytes
        for tier, what, nbytes in self.held:
            found.setdefault(tier, {})[what] = found.get(tier, {}).get(what, 0.0) + nbytes
        for tier, nbytes in self.staging:
            found.setdefault(tier, {})["staging"] = nbytes
        return found

    def check(self) -> None:
        """Raise ``ValueError`` naming the block and what is wrong with it."""
        seen: set[str] = set()
        names = {b.name for b in self.blocks}
        for block in self.blocks:
            where = f"block {block.name!r}"
            if block.name in seen:
                raise ValueError(f"{where}: named twice")
            for name in (*block.after, *(a for m in block.moves for a in m.after or ())):
                if name.removeprefix("<") not in (names if name.startswith("<") else seen):
                    raise ValueError(f"{where}: waits for {name!r}, which does not come before it")
            seen.add(block.name)
            if block.cuts < 1:
                raise ValueError(f"{where}: cuts: must be at least 1, found {block.cuts}")
            self.board.engine(block.engine)
            for tier, _ in (*block.weights, *block.cache):
                self.board.tier(tier)
            for move in block.moves:
                if not move.nbytes >= 0:
                    raise ValueError(f"{where}: move of {move.what}: must be at least 0 bytes, found {move.nbytes:g}")
                self.board.route(move.src, move.dst)


class DoesNotFitError(ValueError):
    """A placement that exceeds a memory: the run is possible, the machine too small."""


def check_memory(plan: Plan) -> None:
    """Raise ``DoesNotFitError`` naming the memory, what lies in it and what it holds."""
    for tier, kinds in plan.resident().items():
        room = plan.board.tier(tier).capacity
        used = sum(kinds.values())
        if used > room:
            parts = ", ".join(f"{k} {v / 2**30:.2f}" for k, v in sorted(kinds.items(), key=lambda x: -x[1]) if v)
            raise DoesNotFitError(f"{tier} of {plan.board.name}: {used / 2**30:.2f} GiB do not fit in {room / 2**30:.2f} GiB "
                             f"({parts} GiB); place less there, e.g. --technique offload")
