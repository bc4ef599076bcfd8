"""KV caches beyond the engine's memory, of which a step reads a selected part (ShadowKV, LeoAM, ALISA, plain offload)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from sim.plan.block import Block, Move, Plan
from sim.techniques.technique import Size, Stage, Technique
from workloads.ops import Attention, Gemm, Op


class KvSelect(Technique):
    """The KV cache lies in ``tier``, all but the share ``resident``; attention sees the share ``select`` of the context, and
    what of it is not resident is fetched.

    ``digest``: tokens that one digest key stands for, by which the part is selected (0: selection costs nothing, or
    everything is read); digests lie in ``digest_tier`` ("": with the engine) and are scored first. ``rank``: keys are kept
    with the engine as low-rank factors and rebuilt by a product for the selected tokens; only values are fetched. ``hit``:
    share of the selected tokens found from the step before. ``recompute``: share of the selected, absent tokens whose keys
    and values are computed again from kept activations instead of fetched. ``chunk``: bytes of one request (0: one token's
    keys or values of a head group). Shares that depend on a model's quality have no default.
    """

    name: ClassVar[str] = "kv_select"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = "every token's keys and values are kept somewhere; attention reads no more than it selects"

    tier: str = "dram"
    select: float = Field(gt=0, le=1)
    resident: float = Field(default=0.0, ge=0, le=1)
    digest: int = Field(default=0, ge=0)
    digest_tier: str = ""
    rank: int = Field(default=0, ge=0)
    hit: float = Field(default=0.0, ge=0, le=1)
    recompute: float = Field(default=0.0, ge=0, le=1)
    chunk: Size = 0.0

    def apply(self, plan: Plan) -> Plan:
        if plan.phase != "decode":
            return plan
        plan.board.tier(self.tier)
        if not any(_attention(b) for b in plan.blocks if not b.model):
            raise ValueError(f"technique kv_select: {plan.spec.name} has no attention that reads a cache")
        return plan.map(lambda b: self._split(plan, b) if _attention(b) and not b.model else b)

    def _split(self, plan: Plan, block: Block) -> tuple[Block, ...]:
        """What comes before attention, with the scores of the digests; then attention and what follows."""
        op = _attention(block)
        assert op is not None
        at = block.ops.index(op)
        engine = plan.board.engine(block.engine)
        context = float(np.asarray(op.kv_len)) * float(np.asarray(op.batch))
        per_token = block.cache_bytes / context
        first = replace(block, name=f"{block.name} select", ops=(*block.ops[:at], *self._score(op)), cache=(),
                        moves=(*block.moves, *self._digests(plan, block, per_token * context)))
        seen = max(self.select * float(np.asarray(op.kv_len)), 1.0)
        kept_keys = per_token * context * self._key_share(op)
        away = (1 - self.resident) * (1 - self.hit) * (1 - self.recompute)
        fetched = seen * float(np.asarray(op.batch)) * per_token * away * (0.5 if self.rank else 1.0)
        moves = () if engine.home == self.tier else (
            Move(what="kv", nbytes=fetched, src=self.tier, dst=engine.home, after=(first.name,), staged=False,
                 chunk=self.chunk, scattered=self.select < 1, span=block.cache_bytes),)
        main = (1 - self.resident) * per_token * context * (0.5 if self.rank else 1.0)
        near = self.resident * per_token * context + kept_keys
        second = replace(block, after=(first.name,), ops=(*self._rebuilt(op, seen), replace(op, kv_len=seen),
                                                          *block.ops[at + 1:]),
                         weights=(), cache=((engine.home, near), (self.tier, main)), moves=moves)
        return first, second

    def _key_share(self, op: Attention) -> float:
        """Bytes of low-rank keys over bytes of keys and values."""
        heads = float(np.asarray(op.n_kv_heads)) * float(np.asarray(op.head_dim))
        return 0.5 * self.rank / heads if self.rank else 0.0

    def _score(self, op: Attention) -> tuple[Op, ...]:
        """Every head's query against the digests of its group's keys."""
        if not self.digest:
            return ()
        heads = float(np.asarray(op.n_kv_heads))
        return (Gemm(name=f"{op.name} score", m=float(np.asarray(op.q_len)) * float(np.asarray(op.n_heads)) / heads,
                     n=max(float(np.asarray(op.kv_len)) / self.digest, 1.0), k=op.head_dim,
                     batch=float(np.asarray(op.batch)) * heads, a=op.q, w=op.kv, out=op.q, static=False),)

    def _digests(self, plan: Plan, block: Block, cached: float) -> tuple[Move, ...]:
        home = plan.board.engine(block.engine).home
        if not self.digest or self.digest_tier in ("", home):
            return ()
        return (Move(what="digests", nbytes=0.5 * cached / self.digest, src=self.digest_tier, dst=home, staged=False),)

    def _rebuilt(self, op: Attention, seen: float) -> tuple[Op, ...]:
        """Keys of the selected tokens from their factors; keys and values of recomputed ones from activations."""
        batch = float(np.asarray(op.batch))
        width = float(np.asarray(op.n_kv_heads)) * float(np.asarray(op.head_dim))
        made: list[Op] = []
        if self.rank:
            made.append(Gemm(name=f"{op.name} rebuild", m=seen * (1 - self.hit), n=width, k=float(self.rank), batch=batch,
                             a=op.q, w=op.kv, out=op.q, static=False))
        if self.recompute:
            lost = seen * batch * (1 - self.resident) * (1 - self.hit) * self.recompute
            hidden = float(np.asarray(op.n_heads)) * float(np.asarray(op.head_dim))
            made.append(Gemm(name=f"{op.name} recompute", m=lost, n=2 * width, k=hidden, a=op.q, w=op.q, out=op.q))
        return tuple(made)


def _attention(block: Block) -> Attention | None:
    return next((op for op in block.ops if isinstance(op, Attention)), None)
