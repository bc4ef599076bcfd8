"""Weights read from storage when they are needed, as a mapped file or a plain loader does."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from sim.plan.block import Block, Move, Plan
from sim.techniques.technique import Names, Size, Stage, Technique


class PageIn(Technique):
    """Each step a block waits until the part of its weights that is not ``resident`` has been read from ``store``; nothing
    is read ahead of it.

    ``chunk``: bytes of one request (0: as large as the drive likes them) and ``depth`` of them in flight: a loader asks for
    much at once; a thread that faults on a mapped file waits for one read-ahead window of the operating system. ``resident``:
    share that stays; 0 also for a least-recently-used page cache that is smaller than what is read over and over.
    """

    name: ClassVar[str] = "page_in"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = "the same operations; every weight lies somewhere once; what is not resident is read once a step"

    store: str = "flash"
    resident: float = Field(ge=0, le=1)
    chunk: Size = Field(default=0.0, ge=0)
    depth: float = Field(default=32.0, ge=1)
    cores: float = Field(default=1.0, ge=1)
    parts: Names = ("mixer", "ffn", "experts", "head")

    def apply(self, plan: Plan) -> Plan:
        plan.board.tier(self.store)
        if not any(b.part in self.parts for b in plan.blocks):
            raise ValueError(f"technique page_in: parts: no block is of kind {' or '.join(self.parts)}; the plan has "
                             f"{', '.join(sorted({b.part for b in plan.blocks}))}")
        return plan.map(lambda b: self._paged(plan, b) if b.part in self.parts and not b.model else b)

    def _paged(self, plan: Plan, block: Block) -> Block:
        home = plan.board.engine(block.engine).home
        away = (1 - self.resident) * block.weight_bytes
        move = Move(what="weights", nbytes=away, src=self.store, dst=home, after=None, chunk=self.chunk, depth=self.depth,
                    cores=self.cores)
        return replace(block, moves=(*block.moves, move),
                       weights=((home, block.weight_bytes - away), (self.store, away)))
