"""Speculative decoding: a small model drafts tokens, the large one verifies them in one pass."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from sim.plan.block import Block, Plan
from sim.plan.network import network
from sim.query import load_spec
from sim.techniques.technique import Stage, Technique


class Speculate(Technique):
    """Each step drafts ``length`` tokens one after another with ``draft`` and verifies ``verified`` tokens (0: ``length`` + 1;
    more for a tree) with the model.

    ``accepted``: tokens a sequence gains in a step, the one that verification itself gives included; it depends on both
    models and the text, is measured, and has no default. ``engine``: where the draft model runs ("": the first).
    ``overlap``: drafting for the next step goes on while this one is verified; without it, it waits for the outcome.
    """

    name: ClassVar[str] = "speculate"
    stage: ClassVar[Stage] = "graph"
    conserves: ClassVar[str] = "the verified tokens cost what they cost in one pass; draft work is added, none is taken away"

    draft: str
    length: int = Field(ge=1)
    accepted: float = Field(ge=1)
    verified: int = 0
    quant: str = ""
    engine: str = ""
    overlap: bool = False

    def apply(self, plan: Plan) -> Plan:
        if plan.phase != "decode":
            return plan
        width = self.verified or self.length + 1
        if self.accepted > width:
            raise ValueError(f"technique speculate: accepted: at most the {width} tokens verified, found {self.accepted:g}")
        if plan.q_len != 1 or any(b.model for b in plan.blocks):
            raise ValueError("technique speculate: only a plain decode step can be speculated on; list it first, and once")
        main = plan.board.main
        verify = network(plan.spec, main.name, main.home, phase="decode", batch=plan.batch, q_len=float(width),
                         kv_len=plan.kv_len + width - 1)
        drafts = self._drafts(plan)
        # The tokens to verify are the drafts'; where drafting runs ahead, the outcome of the last step is needed besides.
        first = replace(verify[0], after=(drafts[-1].name, *(("<head",) if self.overlap else ())))
        return replace(plan, blocks=(*drafts, first, *verify[1:]), q_len=float(width), yields=plan.yields * self.accepted)

    def _drafts(self, plan: Plan) -> list[Block]:
        spec = load_spec(self.draft, quant=self.quant)
        engine = plan.board.engine(self.engine) if self.engine else plan.board.main
        found: list[Block] = []
        for i in range(self.length):
            blocks = network(spec, engine.name, engine.home, phase="decode", batch=plan.batch, q_len=1.0,
                             kv_len=plan.kv_len + i, prefix=f"draft {i} ", model=spec.name)
            if i:                                       # stored once, however often it runs
                blocks = [replace(b, weights=(), cache=()) for b in blocks]
            before = found[-1].name if found else ""
            found += [replace(b, part="draft", after=b.after or ((before,) if before else ())) for b in blocks]
        if self.overlap:
            found[0] = replace(found[0], after=(f"<{found[-1].name}",))
        return found
