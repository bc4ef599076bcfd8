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
from sim.plan.traces import rounded, routed
from sim.techniques.technique import Stage, Technique
from workloads.ops import Moe

Loads = NDArray[np.int64]
Chosen = NDArray[np.bool_]


class SplitExperts(Technique):
    """Experts lie with the engine ``cold``; a cache by the fast engine keeps ``size`` of each layer's.

    ``misses``: what happens to experts that are used and not cached: ``"compute"`` where they lie (kTransformers),
    ``"fetch"`` to the fast engine (AdapMoE), ``"balance"``: those with most tokens are fetched as long as that makes the
    layer end sooner (HybriMoE). ``policy``: which experts stay; ``pinned``: a choice made once, blind to what is liked.
    ``skew``: exponent of the power law of the experts' popularity; ``reuse``: chance that a pick repeats at the next token;
    ``decay``: weight of the last step in the running score of the policy ``score``.
    ``prefetch``: while the layers before it run, as many experts are brought as the link has time for, those with most
    tokens by a prediction of which the share ``predicted`` is right; the others came for nothing.
    The trace is that of ``warm`` tokens before the step, so that a cache has settled; a prompt finds what such tokens left.
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
    decay: float = Field(default=0.1, gt=0, le=1)
    prefetch: bool = False
    predicted: float = Field(default=-1.0, le=1)
    warm: int = Field(default=64, ge=1)

    def apply(self, plan: Plan) -> Plan:
        mine = [b for b in plan.blocks if _experts(b) and not b.model]
        if not mine:
            raise ValueError(f"technique split_experts: {plan.spec.name} has no routed experts")
        if self.prefetch and self.predicted < 0:
            raise ValueError("technique split_experts: predicted: prefetch needs the share of predictions that are right")
        layers = sorted({b.layer for b in mine})
        op = _experts(mine[0])
        assert op is not None
        loads, kept = self.routing(plan, len(layers), op)
        times = self._times(plan, op, mine[0])
        made: list[Block] = []
        became: dict[str, tuple[str, ...]] = {}
        for b in plan.blocks:
            b = replace(b, after=tuple(x for a in b.after for x in became.get(a, (a,))))
            if not _experts(b) or b.model:
                made.append(b)
                continue
            at = layers.index(b.layer)
            parts = self._split(plan, b, loads[at], kept[at], times)
            became[b.name] = tuple(p.name for p in parts[1:])
            made += parts
        return replace(plan, blocks=tuple(made))

    def routing(self, plan: Plan, layers: int, op: Moe) -> tuple[Loads, Chosen]:
        """Tokens of each expert in this step and which experts the cache holds when it begins, (layers, experts) each."""
        items, topk = int(np.asarray(op.n_experts)), int(np.asarray(op.topk))
        now, asked = self.warm + plan.step, (layers, items, topk, self.skew, self.reuse, round(plan.batch))
        before, cached = _cached(self.policy, round(self.size * items), self.decay, *asked, rounded(now + 1), plan.seed)
        kept: Chosen = cached[now]
        if plan.phase == "decode":
            return before[now], kept
        return _trace(layers, items, topk, self.skew, self.reuse, round(plan.tokens), 1, plan.seed)[-1], kept

    def _split(self, plan: Plan, block: Block, loads: Loads, kept: Chosen, times: Times) -> list[Block]:
        """The router; what is shared and the experts here (cached or brought); experts there."""
        op = _experts(block)
        assert op is not None
        ahead, fetched = self.brought(loads, kept, times)
        here = (loads > 0) & (kept | ahead.useful | fetched)
        there = (loads > 0) & ~here
        fast, slow = plan.board.engine(block.engine), plan.board.engine(self.cold)
        every, each = len(loads) * times.nbytes, times.nbytes
        shared = tuple(o for o in block.ops[1:] if o is not op)
        router = replace(block, name=f"{block.name} router", ops=block.ops[:1], cache=(),
                         weights=((fast.home, block.weight_bytes - every),))
        # What is fetched on demand takes the place of experts in the cache; what comes ahead waits in a buffer of its own.
        moves = (Move(what="experts ahead", nbytes=ahead.sent * each, src=slow.home, dst=fast.home),
                 Move(what="experts", nbytes=float(fetched.sum()) * each, src=slow.home, dst=fast.home, after=(router.name,),
                      staged=False))
        hot = replace(block, ops=(*shared, *_subset(op, loads[here])), after=(router.name,), moves=moves,
                      weights=((fast.home, round(self.size * len(loads)) * each),))
        # The home of all experts: those cached are copies.
        cold = replace(block, name=f"{block.name} cold", engine=slow.name, ops=_subset(op, loads[there]), moves=(), cache=(),
                       after=(router.name,), weights=((slow.home, every),))
        return [router, hot, cold]

    def brought(self, loads: Loads, kept: Chosen, times: Times) -> tuple[Ahead, Chosen]:
        """Which experts come while earlier layers run, and which once the router has spoken: of all pairs of counts, those
        with which the layer ends first, the link being busy with both. Most loaded first."""
        missing = (loads > 0) & ~kept
        order = np.flatnonzero(missing)[np.argsort(-loads[missing], kind="stable")]
        n = len(order)
        early = np.arange(n + 1) if self.prefetch else np.zeros(1, np.int64)
        useful = np.round(early * max(self.predicted, 0.0)).astype(int)
        late = {"compute": np.zeros(1, np.int64), "fetch": np.full(1, n), "balance": np.arange(n + 1)}[self.misses]
        use, k = useful[:, None], np.minimum(late[None, :], n - useful[:, None])
        ends = self.ends(loads, kept, times, use, k, early[:, None])
        i, j = np.unravel_index(int(np.argmin(ends)), ends.shape)
        sooner, later = np.zeros_like(missing), np.zeros_like(missing)
        sooner[order[:useful[i]]] = True
        later[order[useful[i]:useful[i] + int(k[i, j])]] = True
        return Ahead(int(early[i]), sooner), later

    def ends(self, loads: Loads, kept: Chosen, times: Times, use: Loads, late: Loads, early: Loads) -> NDArray[np.float64]:
        """When the layer ends, by its own estimate [s]: the fast engine after what was fetched, the cold one beside it, and
        the link, which carries as much in every layer."""
        missing = (loads > 0) & ~kept
        order = np.sort(loads[missing])[::-1]
        rest = len(order) - use - late
        # tokens beyond the first of the experts left there
        left = np.concatenate([np.cumsum((order - 1)[::-1])[::-1], [0]])[use + late]
        cached = int(((loads > 0) & kept).sum())
        here = np.maximum(late * times.fetch + _sum(times.here, late), _sum(times.here, cached + use + late))
        there = _sum(times.there, rest) + left * times.per_token
        link = (late + early) * times.fetch
        return np.asarray(np.maximum(np.maximum(here, there), link))

    def _times(self, plan: Plan, op: Moe, block: Block) -> Times:
        """What experts cost: here and there (alone, each further), one more token there, a fetch; and bytes of one."""
        fast, slow = plan.board.engine(block.engine), plan.board.engine(self.cold)

        def seconds(engine: Engine, experts: int, tokens: int) -> float:
            ops = _subset(op, np.full(experts, tokens))
            return float(np.ravel(price(ops, engine.hardware, framework=plan.framework)[0].cost.time)[0])

        here, there = ((seconds(e, 1, 1), (seconds(e, 5, 1) - seconds(e, 1, 1)) / 4) for e in (fast, slow))
        more = (seconds(slow, 1, 17) - there[0]) / 16
        nbytes = _expert_bytes(plan, block)
        hops = plan.board.route(slow.home, fast.home)
        rate = min([h.bandwidth * LINK_SHARE for h in hops], default=np.inf)
        return Times(here, there, max(more, 0.0), nbytes / rate + sum(h.latency for h in hops), nbytes)


class Times(NamedTuple):
    """``here`` and ``there``: seconds of the first expert and of each further one."""

    here: tuple[float, float]
    there: tuple[float, float]
    per_token: float
    fetch: float
    nbytes: float


class Ahead(NamedTuple):
    """Experts brought by prediction: how many, and which of them are used."""

    sent: int
    useful: Chosen


def _experts(block: Block) -> Moe | None:
    return next((op for op in block.ops if isinstance(op, Moe)), None)


def _expert_bytes(plan: Plan, block: Block) -> float:
    """Stored bytes of one expert: the block's, less what is dense, over its experts."""
    ffn = plan.spec.layers[plan.spec.pattern[block.layer]].ffn
    if ffn is None or ffn.experts is None:
        raise ValueError(f"block {block.name!r}: layer {block.layer} of {plan.spec.name} has no routed experts")
    routed_weights = ffn.experts.n_experts * ffn.experts.n_weights
    dense = sum(x.n_params for x in ffn.linears)
    return block.weight_bytes * routed_weights / (routed_weights + dense) / ffn.experts.n_experts


def _sum(times: tuple[float, float], n: NDArray[np.int64] | int) -> NDArray[np.float64]:
    return np.where(np.asarray(n) > 0, times[0] + (np.asarray(n) - 1) * times[1], 0.0)


def _subset(op: Moe, loads: Loads) -> tuple[Moe, ...]:
    """The routed part of some experts with these loads, dealt evenly among them."""
    n = float(len(loads))
    return (replace(op, tokens=float(loads.sum()), topk=1.0, n_experts=n, n_local=n, skew=0.0, dealt=1.0),) if n else ()


@lru_cache(maxsize=16)
def _cached(policy: Policy, capacity: int, decay: float, layers: int, items: int, topk: int, skew: float, reuse: float,
            tokens: int, steps: int, seed: int) -> tuple[Loads, Chosen]:
    """Tokens of each expert and what the cache held when each step began: (steps, layers, experts) each."""
    loads = _trace(layers, items, topk, skew, reuse, tokens, steps, seed)
    return loads, simulate_cache(loads > 0, policy, capacity=capacity, decay=decay).kept


@lru_cache(maxsize=32)
def _trace(layers: int, items: int, topk: int, skew: float, reuse: float, tokens: int, steps: int, seed: int) -> Loads:
    return routed(steps, layers, items, topk=topk, skew=skew, reuse=reuse, tokens=tokens, seed=seed)
