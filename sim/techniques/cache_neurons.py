"""Sparse feed-forward weights in storage, the neurons used lately in memory (LLM in a flash, PowerInfer-2)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import ClassVar

from pydantic import Field

from sim.plan.block import Block, Move, Plan
from sim.plan.caches import Misses, Policy, simulate_cache
from sim.plan.traces import synthetic
from sim.techniques.technique import Size, Stage, Technique


class CacheNeurons(Technique):
    """Weights of sparse feed-forward blocks lie in ``store``; a cache by the engine keeps some neurons, and each step fetches
    the active ones that it misses, once the predictor has named them.

    ``size``: share of each layer's neurons that the cache holds (not used by the window policy, which keeps what the last
    ``window`` tokens used). ``reuse``: share of neurons that do as at the token before beyond chance. ``bundle``: neurons'
    rows of all matrices are stored side by side and read as one request; without it each matrix is read by itself.
    ``chunk``: size of one request (0: one bundle or one row). ``warm``: tokens seen before the first step.
    """

    name: ClassVar[str] = "cache_neurons"
    stage: ClassVar[Stage] = "policy"
    conserves: ClassVar[str] = "neurons fetched and neurons found add up to the active ones; every weight stays stored"

    store: str = "flash"
    policy: Policy = "lru"
    size: float = Field(default=0.0, ge=0, le=1)
    window: int = Field(default=5, ge=1)
    reuse: float = Field(ge=0, lt=1)
    bundle: bool = True
    chunk: Size = 0.0
    warm: int = Field(default=32, ge=0)

    def apply(self, plan: Plan) -> Plan:
        mine = [b for b in plan.blocks if b.neurons and not b.model]
        if not mine:
            raise ValueError("technique cache_neurons: no block has sparse neurons; give sparse_ffn before it")
        plan.board.tier(self.store)
        misses = self._misses(plan, mine[0])
        layers = sorted({b.layer for b in mine})
        held = [(plan.board.engine(b.engine).home, "neuron cache", self._kept(misses, layers.index(b.layer)) * b.weight_bytes)
                for b in mine]
        changed = plan.map(lambda b: self._cached(plan, b, misses, layers.index(b.layer)) if b in mine else b)
        return replace(changed, held=(*plan.held, *held))

    def _misses(self, plan: Plan, block: Block) -> Misses:
        neurons = block.neurons
        assert neurons is not None
        if neurons.lo > 0 or neurons.hi < 1:
            raise ValueError("technique cache_neurons: the neurons are split already; list split_neurons after it")
        layers = len({b.layer for b in plan.blocks if b.neurons and not b.model})
        if plan.tokens > 1:
            active, hot, mass = neurons.share(plan.tokens), 1.0, 1.0
        else:
            active, hot, mass = neurons.active, neurons.hot, neurons.mass
        return _trace_misses(self.policy, self.size, self.window, layers, neurons.count, active, hot, mass, self.reuse,
                             self.warm + plan.step + 1, plan.seed)

    def _kept(self, misses: Misses, layer: int) -> float:
        """Most of a layer's neurons that are ever there."""
        return int(misses.resident[:, layer].max()) / int(misses.kept.shape[2])

    def _cached(self, plan: Plan, block: Block, misses: Misses, layer: int) -> Block:
        neurons = block.neurons
        assert neurons is not None
        each = block.weight_bytes / misses.kept.shape[2]
        nbytes = float(misses.missed[self.warm + plan.step, layer]) * each
        rows = 1.0 if self.bundle else float(neurons.matrices)
        predictors = tuple(a for a in block.after if a.endswith("predictor"))
        move = Move(what="neurons", nbytes=nbytes, src=self.store, dst=plan.board.engine(block.engine).home,
                    after=predictors or None, chunk=self.chunk or each / rows, scattered=True, span=block.weight_bytes,
                    staged=False)
        return replace(block, weights=((self.store, block.weight_bytes),), moves=(*block.moves, move))


@lru_cache(maxsize=64)
def _trace_misses(policy: Policy, size: float, window: int, layers: int, items: int, active: float, hot: float, mass: float,
                  reuse: float, steps: int, seed: int) -> Misses:
    """Steps of one trace; a longer one begins with the shorter one, so that consecutive steps see one and the same."""
    trace = synthetic(steps, layers, items, active=active, hot=hot, mass=mass, reuse=reuse, seed=seed)
    return simulate_cache(trace, policy, capacity=round(size * items), window=window)
