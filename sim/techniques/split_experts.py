"""Routed experts of which a part stays with the fast engine: the others are computed where they lie or fetched."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from accel_models.price import price
from sim.plan.block import Block, Move, Plan
from sim.plan.board import Engine
from sim.plan.caches import Policy, simulate_cache
from sim.plan.lower import LINK_SHARE
from sim.plan.traces import routed
from sim.techniques.technique import Stage, Technique
from workloads.ops import Moe


class SplitExperts(Technique):
    """Experts lie with the engine ``cold``; a cache by the fast engine keeps ``size`` of each layer's.

    ``misses``: what happens to experts that are used and not cached: ``"compute"`` where they lie (kTransformers),
    ``"fetch"`` to the fast engine (AdapMoE), ``"balance"``: those with most tokens are fetched as long as that makes the
    layer end sooner (HybriMoE). ``policy``: which experts stay (``pinned``: a fixed choice of the most liked). ``skew``:
    exponent of the power law of the experts' popularity; ``reuse``: chance that a pick repeats at the next token. ``ahead``:
    fetches are known that many layers earlier (by a prediction taken to be right), else once the router has spoken.
    """

    name: ClassVar[str] = "split_experts"
    stage: ClassVar[Stage] = "policy"
    conserves: ClassVar[str] = "every token meets its topk experts once, here or there"

    cold: str = "cpu"
    size: float = Field(ge=0, le=1)
    policy: Policy = "score"
    misses: Literal["compute", "fetch", "balance"] = "compute"
    skew: float = Field(ge=0)
    reuse: float = Field(ge=0, lt=1)
    decay: float = Field(default=0.3, gt=0, le=1)
    ahead: bool = False
    warm: int = Field(default=32, ge=0)

    def apply(self, plan: Plan) -> Plan:
        mine = [b for b in plan.blocks if _experts(b) and not b.model]
        if not mine:
            raise ValueError(f"technique split_experts: {plan.spec.name} has no routed experts")
        layers = sorted({b.layer for b in mine})
        op = _experts(mine[0])
        assert op is not None
        items, warm = int(np.asarray(op.n_experts)), self.warm if plan.phase == "decode" else 0
        trace = _trace(len(layers), items, int(np.asarray(op.topk)), self.skew, self.reuse, round(plan.tokens),
                       warm + plan.step + 1, plan.seed)
        kept = simulate_cache(trace > 0, self.policy, capacity=round(self.size * items), decay=self.decay).kept
        if plan.phase == "prefill":                     # the cache holds what earlier requests left: the most liked
            kept = simulate_cache(trace > 0, "pinned", capacity=round(self.size * items)).kept
        times = self._times(plan, op, mine[0])
        made: list[Block] = []
        became: dict[str, tuple[str, ...]] = {}
        for b in plan.blocks:
            b = replace(b, after=tuple(x for a in b.after for x in became.get(a, (a,))))
            if b not in mine and not (_experts(b) and not b.model):
                made.append(b)
                continue
            at = layers.index(b.layer)
            parts = self._split(plan, b, trace[-1, at], kept[-1, at], times)
            became[b.name] = tuple(p.name for p in parts if p.name != f"{b.name} router")
            made += parts
        return replace(plan, blocks=tuple(made))

    def _split(self, plan: Plan, block: Block, loads: NDArray[np.int64], kept: NDArray[np.bool_], times: _Times) -> list[Block]:
        """The router with what is shared; experts here (cached or fetched); experts there."""
        op = _experts(block)
        assert op is not None
        fetched = self._fetched(loads, kept, times)
        here, there = (loads > 0) & (kept | fetched), (loads > 0) & ~kept & ~fetched
        fast, slow = plan.board.engine(block.engine), plan.board.engine(self.cold)
        stored = block.weight_bytes
        each = times.nbytes
        cached = round(self.size * len(loads)) * each
        router = replace(block, name=f"{block.name} router", ops=tuple(o for o in block.ops if o is not op), cache=(),
                         weights=((fast.home, stored - len(loads) * each),), out_bytes=block.out_bytes, moves=block.moves)
        after: tuple[str, ...] | None = () if self.ahead else (router.name,)
        moves = (Move(what="experts", nbytes=float(fetched.sum()) * each, src=slow.home, dst=fast.home, after=after),)
        parts = [router, replace(block, ops=_subset(op, loads[here]), after=(router.name,), moves=moves,
                                 weights=((fast.home, cached),))]
        cold = replace(block, name=f"{block.name} cold", engine=slow.name, ops=_subset(op, loads[there]), moves=(), cache=(),
                       after=(router.name,), weights=((slow.home, len(loads) * each),))
        return [*parts, cold]

    def _fetched(self, loads: NDArray[np.int64], kept: NDArray[np.bool_], times: _Times) -> NDArray[np.bool_]:
        """Uncached experts in use that are fetched. Balance: from the most loaded on, while the layer's end comes sooner."""
        missing = (loads > 0) & ~kept
        if self.misses == "compute":
            return np.zeros_like(missing)
        if self.misses == "fetch":
            return missing
        order = np.flatnonzero(missing)[np.argsort(-loads[missing], kind="stable")]
        cached = int(((loads > 0) & kept).sum())
        # What is fetched is computed with what is cached, once it has come.
        ends = [max(k * times.fetch + _sum(times.here, cached + k),
                    _sum(times.there, len(order) - k) + float((loads[order[k:]] - 1).sum()) * times.per_token)
                for k in range(len(order) + 1)]
        found = np.zeros_like(missing)
        found[order[:int(np.argmin(ends))]] = True
        return found

    def _times(self, plan: Plan, op: Moe, block: Block) -> _Times:
        """What experts cost: here and there (alone, each further), one more token there, a fetch; and bytes of one."""
        fast, slow = plan.board.engine(block.engine), plan.board.engine(self.cold)

        def seconds(engine: Engine, experts: int, tokens: int) -> float:
            ops = _subset(op, np.full(experts, tokens))
            return float(np.ravel(price(ops, engine.hardware, framework=plan.framework)[0].cost.time)[0])

        here, there = ((seconds(e, 1, 1), (seconds(e, 5, 1) - seconds(e, 1, 1)) / 4) for e in (fast, slow))
        more = (seconds(slow, 1, 17) - there[0]) / 16
        nbytes = _expert_bytes(plan, block, op)
        hops = plan.board.route(slow.home, fast.home)
        rate = min([h.bandwidth * LINK_SHARE for h in hops], default=np.inf)
        return _Times(here, there, max(more, 0.0), nbytes / rate + sum(h.latency for h in hops), nbytes)


class _Times(NamedTuple):
    """``here`` and ``there``: seconds of the first expert and of each further one."""

    here: tuple[float, float]
    there: tuple[float, float]
    per_token: float
    fetch: float
    nbytes: float


def _experts(block: Block) -> Moe | None:
    return next((op for op in block.ops if isinstance(op, Moe)), None)


def _expert_bytes(plan: Plan, block: Block, op: Moe) -> float:
    layer = plan.spec.layers[plan.spec.pattern[block.layer]]
    from_spec = layer.ffn.experts if layer.ffn else None
    assert from_spec is not None
    # The block's weights less the dense part, over its experts.
    dense = sum(x.n_params for x in layer.ffn.linears) if layer.ffn else 0
    total = from_spec.n_experts * from_spec.n_weights + dense
    return block.weight_bytes * (from_spec.n_experts * from_spec.n_weights / total) / from_spec.n_experts


def _sum(times: tuple[float, float], n: int) -> float:
    return times[0] + (n - 1) * times[1] if n else 0.0


def _subset(op: Moe, loads: NDArray[np.int64]) -> tuple[Moe, ...]:
    """The routed part of some experts with these loads, dealt evenly among them."""
    n = float(len(loads))
    return (replace(op, tokens=float(loads.sum()), topk=1.0, n_experts=n, n_local=n, skew=0.0, dealt=1.0),) if n else ()


@lru_cache(maxsize=32)
def _trace(layers: int, items: int, topk: int, skew: float, reuse: float, tokens: int, steps: int,
           seed: int) -> NDArray[np.int64]:
    return routed(steps, layers, items, topk=topk, skew=skew, reuse=reuse, tokens=tokens, seed=seed)
