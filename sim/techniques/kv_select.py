"""KV caches beyond the engine's memory, of which a step reads a selected part (ShadowKV, LeoAM, ALISA, plain offload)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field

from sim.plan.block import Block, Move, Plan
from sim.techniques.technique import Size, Stage, Technique
from workloads.formats import get_format
from workloads.ops import Attention, Elementwise, Gemm, Op


class KvSelect(Technique):
    """The KV cache lies in ``tier``, all but the share ``resident`` (-1: as much as the engine's memory holds); attention
    sees the share ``select`` of the context, and what of it is not resident is fetched.

    ``then``: a second memory, which has the share ``then_share`` of what is not resident. ``local``: share of the selected
    tokens that are the latest ones; those are resident first (ALISA's window). ``hit``: share of the selected tokens kept
    from the step before. ``digest``: tokens that one digest key stands for, by which the part is selected (1: the keys
    themselves; 0: selection reads nothing); ``digest_tier`` holds the digests ("": the engine's memory), ``digest_share`` of
    them (the rest with the engine). ``rank``: keys are kept with the engine as low-rank factors and rebuilt for the selected
    tokens while their values are fetched. ``recompute``: share of the tokens not resident of which the layer's input is kept
    instead of keys and values, which are then computed again. ``via = "there"``: the engine that lives by the memory attends
    to what lies there, and both parts of the sum are merged (FlexGen's attention on the CPU). ``stored``: format of what
    lies beyond the engine's memory ("": as in the cache), unpacked on arrival. ``chunk``: bytes of one request to a storage
    memory (0: as large as it likes them). Shares that depend on a model's quality have no default.
    """

    name: ClassVar[str] = "kv_select"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = ("of every token keys and values, or what they are computed from, are kept exactly once; "
                                "attention reads no more than it selects")

    tier: str = "dram"
    then: str = ""
    then_share: float = Field(default=0.0, ge=0, le=1)
    select: float = Field(gt=0, le=1)
    resident: float = Field(default=0.0, ge=-1, le=1)
    local: float = Field(default=0.0, ge=0, le=1)
    digest: int = Field(default=0, ge=0)
    digest_tier: str = ""
    digest_share: float = Field(default=1.0, ge=0, le=1)
    rank: int = Field(default=0, ge=0)
    hit: float = Field(default=0.0, ge=0, le=1)
    recompute: float = Field(default=0.0, ge=0, le=1)
    via: Literal["fetch", "there"] = "fetch"
    stored: str = ""
    chunk: Size = 0.0

    def apply(self, plan: Plan) -> Plan:
        self._check(plan)
        resident = self.resident if self.resident >= 0 else self._room(plan)
        change = self._split if plan.phase == "decode" else self._written
        return plan.map(lambda b: change(plan, b, resident) if _attention(b) and not b.model else b)

    def _check(self, plan: Plan) -> None:
        for tier in filter(None, (self.tier, self.then, self.digest_tier)):
            plan.board.tier(tier)
        if self.then_share and not self.then:
            raise ValueError("technique kv_select: then_share: needs a memory in 'then', found none")
        if -1 < self.resident < 0:
            raise ValueError(f"technique kv_select: resident: must be a share of 0 to 1, or -1, found {self.resident:g}")
        if self.rank and self.recompute:
            raise ValueError("technique kv_select: rank and recompute: keys are either rebuilt or computed again; give one")
        if self.via == "there" and (self.rank or self.recompute or self.stored or self.then_share):
            raise ValueError("technique kv_select: via: what is attended to where it lies is neither packed, rebuilt, computed "
                             "again nor spread over two memories; leave out rank, recompute, stored and then_share")
        if not any(_attention(b) for b in plan.blocks if not b.model):
            raise ValueError(f"technique kv_select: {plan.spec.name} has no attention that reads a cache")

    def _room(self, plan: Plan) -> float:
        """Share of the cache that fits in the memory of the engine, beside all else that lies there."""
        mine = [b for b in plan.blocks if _attention(b) and not b.model]
        home = plan.board.engine(mine[0].engine).home
        cached = sum(b.cache_bytes for b in mine)
        nothing = plan.map(lambda b: self._written(plan, b, 0.0) if b in mine else b)
        room = plan.board.tier(home).capacity - sum(nothing.resident()[home].values())
        # A little is left free: bytes are counted exactly, allocators are not.
        return float(np.clip(0.98 * room / (cached * (0.5 if self.rank else 1.0)), 0.0, 1.0))

    def _split(self, plan: Plan, block: Block, resident: float) -> tuple[Block, ...]:
        """What comes before attention, with the scores of the digests; keys made again; attention and what follows."""
        op = _attention(block)
        assert op is not None
        at, home = block.ops.index(op), plan.board.engine(block.engine).home
        s = self._sizes(plan, block, op, resident)
        first = replace(block, name=f"{block.name} select", ops=(*block.ops[:at], *self._score(op)), cache=(),
                        moves=(*block.moves, *self._digests(block, home)))
        if self.via == "there" and s.absent:
            return self._there(plan, block, op, first, s)
        known = self.select == 1.0 and not self.digest        # nothing to be found out: it may come ahead
        after = () if known else (first.name,)
        moves = tuple(Move(what=what, nbytes=n, src=src, dst=home, after=after, staged=known, chunk=self.chunk,
                           scattered=self.select < 1, span=block.cache_bytes)
                      for what, n, src in s.fetched if src != home)
        inputs, others = ([m for m in moves if (m.what == "input") == yes] for yes in (True, False))
        ops = (*self._unpacked(op, s), replace(op, kv_len=s.seen), *block.ops[at + 1:])
        second = replace(block, after=(first.name,), ops=ops, weights=(), cache=s.kept, moves=tuple(others))
        again = self._again(op, s)
        if not again:
            return first, second
        rebuilt = replace(block, name=f"{block.name} rebuild", after=(first.name,), ops=again, weights=(), cache=(),
                          moves=tuple(inputs), out_bytes=0.0)
        return first, rebuilt, replace(second, after=(rebuilt.name,))

    def _there(self, plan: Plan, block: Block, op: Attention, first: Block, s: _Sizes) -> tuple[Block, ...]:
        """Attention to what is resident, beside attention to the rest where it lies; then what follows on both."""
        engine = next((e.name for e in plan.board.engines.values() if e.home == self.tier), "")
        if not engine:
            raise ValueError(f"technique kv_select: via: no engine of {plan.board.name} computes from {self.tier!r}")
        batch, at = _number(op.batch), block.ops.index(op)
        size, rows = get_format(op.q).nbytes, batch * _number(op.q_len)
        asked = rows * (_hidden(op) + _number(op.kv_elements)) * size          # queries, new keys and values
        first = replace(first, out_bytes=asked)
        far = s.absent / batch
        cold = replace(block, name=f"{block.name} there", engine=engine, ops=(replace(op, kv_len=max(far, 1.0)),), weights=(),
                       cache=tuple(x for x in s.kept if x[0] == self.tier), moves=(), after=(first.name,),
                       out_bytes=rows * (_hidden(op) + _number(op.n_heads)) * size)
        made = [first, cold]
        if s.seen - far >= 1.0:
            made.append(replace(block, name=f"{block.name} here", ops=(replace(op, kv_len=s.seen - far),), weights=(), moves=(),
                                cache=tuple(x for x in s.kept if x[0] != self.tier), after=(first.name,)))
        last = replace(block, ops=block.ops[at + 1:], weights=(), cache=(), moves=(), after=tuple(b.name for b in made[1:]))
        return (*made, last)

    def _written(self, plan: Plan, block: Block, resident: float) -> tuple[Block, ...]:
        """A prompt's block, which attends to all of it and writes out what does not stay."""
        op = _attention(block)
        assert op is not None
        home = plan.board.engine(block.engine).home
        kept = self._sizes(plan, block, op, resident).kept
        written = tuple(Move(what="kv", nbytes=n, src=home, dst=tier, back=True) for tier, n in kept if tier != home)
        return (replace(block, cache=kept, moves=(*block.moves, *written)),)

    def _sizes(self, plan: Plan, block: Block, op: Attention, resident: float) -> _Sizes:
        """Tokens seen and absent, bytes fetched by kind and memory, and where what is kept lies."""
        batch, context = _number(op.batch), _number(op.kv_len)
        home = plan.board.engine(block.engine).home
        per_token = block.cache_bytes / (context * batch)
        seen = max(self.select * context, 1.0)
        absent = seen * _absent(seen / context, self.local, resident) * (1 - self.hit)
        packed = get_format(self.stored).nbytes / get_format(op.kv).nbytes if self.stored else 1.0
        half = 0.5 if self.rank else 1.0                                   # only values lie elsewhere
        each = per_token * half * packed
        inputs = _hidden(op) * get_format(self.stored or op.q).nbytes      # of a token, to compute it again
        shares = ((self.tier, 1 - self.then_share), (self.then, self.then_share))
        fetched = [(what, n * share, tier) for tier, share in shares if share for what, n in (
            ("input", absent * batch * inputs * self.recompute), ("kv", absent * batch * each * (1 - self.recompute))) if n]
        away = context * batch * (1 - resident) * (inputs * self.recompute + each * (1 - self.recompute))
        near = context * batch * per_token * (resident * half + self._key_share(op))
        near += batch * per_token * half * seen * self.hit * (1 - resident)        # kept from the step before
        kept = [(home, near), *((tier, away * share) for tier, share in shares if share)]
        if self.digest > 1:                                                        # digests of 1 token are the keys
            every = 0.5 * block.cache_bytes / self.digest
            there = self.digest_share if self.digest_tier not in ("", home) else 0.0
            kept += [(home, every * (1 - there)), *([(self.digest_tier, every * there)] if there else [])]
        return _Sizes(seen, absent * batch, tuple(fetched), tuple((t, n) for t, n in kept if n > 0))

    def _key_share(self, op: Attention) -> float:
        """Bytes of low-rank keys over bytes of keys and values."""
        return 0.5 * self.rank / (_number(op.n_kv_heads) * _number(op.head_dim)) if self.rank else 0.0

    def _score(self, op: Attention) -> tuple[Op, ...]:
        """Every head's query against the digests of its group's keys; their softmax; the best of each group."""
        if not self.digest:
            return ()
        heads, batch, every = _number(op.n_kv_heads), _number(op.batch), _number(op.n_heads) * _number(op.q_len)
        n, size = max(_number(op.kv_len) / self.digest, 1.0), get_format(op.q).nbytes
        return (Gemm(name=f"{op.name} score", m=every / heads, n=n, k=op.head_dim, batch=batch * heads,
                     a=op.q, w=op.kv, out=op.q, static=False),
                Elementwise(name=f"{op.name} score softmax", kind="softmax", rows=batch * every, cols=n,
                            bytes_read=batch * every * n * size, bytes_written=batch * every * n * size),
                Elementwise(name=f"{op.name} select", kind="sampling", rows=batch * heads, cols=n,
                            bytes_read=batch * every * n * size, bytes_written=0.0))

    def _digests(self, block: Block, home: str) -> tuple[Move, ...]:
        """Digests that are read anew in each step, known beforehand to be needed."""
        if not self.digest or self.digest_tier in ("", home):
            return ()
        nbytes = 0.5 * block.cache_bytes / self.digest * self.digest_share
        return (Move(what="digests", nbytes=nbytes, src=self.digest_tier, dst=home),)

    def _again(self, op: Attention, s: _Sizes) -> tuple[Op, ...]:
        """Keys of the selected tokens from their factors, each head its own; keys and values from the layer's input."""
        heads, dim, batch = _number(op.n_kv_heads), _number(op.head_dim), _number(op.batch)
        if self.rank:
            return (Gemm(name=f"{op.name} rebuild", m=max(s.seen * (1 - self.hit), 1.0), n=dim, k=float(self.rank),
                         batch=batch * heads, a=op.q, w=op.kv, out=op.q, static=False),)
        if self.recompute and s.absent:
            return (Gemm(name=f"{op.name} recompute", m=max(s.absent * self.recompute, 1.0), n=2 * heads * dim, k=_hidden(op),
                         a=op.q, w=op.q, out=op.q),)
        return ()

    def _unpacked(self, op: Attention, s: _Sizes) -> tuple[Op, ...]:
        """What came in a smaller format, written out in that of the cache."""
        elements = s.absent * (1 - self.recompute) * _number(op.kv_elements) * (0.5 if self.rank else 1.0)
        if not self.stored or self.stored == op.kv or not elements:
            return ()
        small, large = get_format(self.stored).nbytes, get_format(op.kv).nbytes
        return (Elementwise(name=f"{op.name} unpack", kind="quantise", rows=max(s.absent, 1.0), cols=elements / s.absent,
                            bytes_read=elements * small, bytes_written=elements * large),)


class _Sizes(NamedTuple):
    """``seen``: tokens a sequence attends to; ``absent``: tokens of all sequences to be brought; (what, bytes, memory)
    fetched; (memory, bytes) kept."""

    seen: float
    absent: float
    fetched: tuple[tuple[str, float, str], ...]
    kept: tuple[tuple[str, float], ...]


def _absent(select: float, local: float, resident: float) -> float:
    """Share of the selected tokens that are not resident, where the latest are resident first and the others of the
    selection lie evenly over the rest of the context."""
    latest = select * local
    window = max(latest - resident, 0.0) / select
    spread = (1 - local) * (1 - max(resident - latest, 0.0) / (1 - latest)) if latest < 1 else 0.0
    return window + spread


def _attention(block: Block) -> Attention | None:
    return next((op for op in block.ops if isinstance(op, Attention)), None)


def _hidden(op: Attention) -> float:
    return _number(op.n_heads) * _number(op.head_dim)


def _number(x: object) -> float:
    return float(np.asarray(x))
