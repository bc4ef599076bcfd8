"""Speculative decoding: a small model drafts tokens, the large one verifies them in one pass."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from sim.plan.block import Block, Plan
from sim.plan.network import network
from sim.query import load_spec
from sim.techniques.technique import Stage, Technique


class Speculate(Technique):
    """Each step drafts ``length`` levels of ``width`` tokens (1: a chain; more: a tree, whose level is one pass of the draft
    model) with ``draft`` and verifies ``verified`` tokens (0: all of them and the one before) with the model.

    ``accepted``: tokens a sequence gains in a step, the one that verification itself gives included; it depends on both
    models and the text, is measured, and has no default. ``engine``: where the draft model runs ("": the first).
    ``overlap``: drafting for the next step goes on while this one is verified; without it, it waits for the outcome. What
    was drafted ahead is of use with the chance ``guessed`` (that verification goes the way drafting went on); else it is
    drafted again from the outcome, at a step drawn by the seed.
    """

    name: ClassVar[str] = "speculate"
    stage: ClassVar[Stage] = "graph"
    conserves: ClassVar[str] = "the verified tokens cost what they cost in one pass; draft work is added, none is taken away"

    draft: str
    length: int = Field(ge=1)
    accepted: float = Field(ge=1)
    width: int = Field(default=1, ge=1)
    verified: int = Field(default=0, ge=0)
    quant: str = ""
    engine: str = ""
    overlap: bool = False
    guessed: float = Field(default=1.0, ge=0, le=1)

    def apply(self, plan: Plan) -> Plan:
        if plan.phase != "decode":
            return plan
        width = self.verified or self.length * self.width + 1
        if self.accepted > min(width, self.length + 1):
            raise ValueError(f"technique speculate: accepted: at most the {min(width, self.length + 1)} tokens of the longest "
                             f"path verified, found {self.accepted:g}")
        if plan.q_len != 1 or any(b.model or b.neurons for b in plan.blocks):
            raise ValueError("technique speculate: only a plain decode step can be speculated on; list it first, and once")
        main = plan.board.main
        verify = network(plan.spec, main.name, main.home, phase="decode", batch=plan.batch, q_len=float(width),
                         kv_len=plan.kv_len + width - 1)
        drafts = self._drafts(plan)
        # The tokens to verify are the drafts'; where drafting runs ahead, the outcome of the last step is needed besides.
        first = replace(verify[0], after=(drafts[-1].name, *(("<head",) if self.overlap else ())))
        return replace(plan, blocks=(*drafts, first, *verify[1:]), q_len=float(width), yields=plan.yields * self.accepted)

    def _drafts(self, plan: Plan) -> list[Block]:
        """Passes of the draft model. Ahead of the outcome: after those of the step before; drafted in vain: once ahead, and
        once more after the outcome."""
        ahead = self._passes(plan, "draft")
        if not self.overlap:
            return ahead
        again = bool(np.random.default_rng((plan.seed, plan.step)).random() >= self.guessed) and plan.step > 0
        last = f"<{ahead[-1].name}"
        if not again:
            return [replace(ahead[0], after=(last,)), *ahead[1:]]
        vain = [replace(b, weights=(), cache=()) for b in self._passes(plan, "vain")]
        return [replace(vain[0], after=(last,)), *vain[1:], replace(ahead[0], after=("<head", vain[-1].name)), *ahead[1:]]

    def _passes(self, plan: Plan, label: str) -> list[Block]:
        spec = load_spec(self.draft, quant=self.quant)
        engine = plan.board.engine(self.engine) if self.engine else plan.board.main
        found: list[Block] = []
        for i in range(self.length):
            blocks = network(spec, engine.name, engine.home, phase="decode", batch=plan.batch, q_len=float(self.width),
                             kv_len=plan.kv_len + (i + 1) * self.width - 1, prefix=f"{label} {i} ", model=spec.name)
            if i:                                       # stored once, however often it runs
                blocks = [replace(b, weights=(), cache=()) for b in blocks]
            before = found[-1].name if found else ""
            found += [replace(b, part="draft", after=b.after or ((before,) if before else ())) for b in blocks]
        return found
