"""Blocks given to another engine of the board."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from sim.plan.block import Block, Plan
from sim.techniques.technique import Names, Stage, Technique


class RunOn(Technique):
    """Blocks of the kinds ``parts`` (none: all) run on ``engine``, and what they keep lies in its memory.

    ``phase``: only in that phase ("" both): a phone prefills on its NPU and decodes on its CPU.
    """

    name: ClassVar[str] = "run_on"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = "operations and stored bytes stay the same; only their places change"

    engine: str
    parts: Names = ()
    phase: Literal["", "prefill", "decode"] = ""

    def apply(self, plan: Plan) -> Plan:
        home = plan.board.engine(self.engine).home
        if self.phase and self.phase != plan.phase:
            return plan
        moved = plan.map(lambda b: self._moved(b, home, plan) if not self.parts or b.part in self.parts else b)
        if not any(b.engine == self.engine for b in moved.blocks):
            raise ValueError(f"technique run_on: parts: no block is of kind {' or '.join(self.parts)}; the plan has "
                             f"{', '.join(sorted({b.part for b in plan.blocks}))}")
        return moved

    def _moved(self, block: Block, home: str, plan: Plan) -> Block:
        before = plan.board.engine(block.engine).home
        weights, cache = (tuple((home if t == before else t, n) for t, n in places) for places in (block.weights, block.cache))
        return replace(block, engine=self.engine, weights=weights, cache=cache)
