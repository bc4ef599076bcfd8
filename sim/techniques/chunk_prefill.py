"""Prompts in chunks of a fixed length: what NPU graphs of fixed shapes need, and what lets layers of several chunks overlap."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from sim.plan.block import Block, Plan
from sim.plan.network import network
from sim.techniques.technique import Stage, Technique


class ChunkPrefill(Technique):
    """A prefill of the prompt in chunks of ``chunk`` tokens, the last padded to full length. A chunk's layer needs the layer
    below it, and the same layer of the chunk before, whose keys and values it attends to.

    ``reorder``: a block runs as soon as these are done, so that blocks of different chunks overlap on different engines;
    without it a chunk begins when the one before has ended. With it, chunks that came first go first where blocks wait.
    """

    name: ClassVar[str] = "chunk_prefill"
    stage: ClassVar[Stage] = "graph"
    conserves: ClassVar[str] = "every prompt token passes every layer once and attends to all before it; padding is added"

    chunk: int = Field(ge=1)
    reorder: bool = True

    def apply(self, plan: Plan) -> Plan:
        if plan.phase != "prefill":
            return plan
        if plan.q_len != plan.kv_len or any(b.model for b in plan.blocks):
            raise ValueError("technique chunk_prefill: only a plain prefill without prefix can be cut; list it first")
        n = math.ceil(plan.q_len / self.chunk)
        main = plan.board.main
        made: list[Block] = []
        for c in range(n):
            length = float(self.chunk * (c + 1))
            blocks = network(plan.spec, main.name, main.home, phase="prefill", batch=plan.batch, q_len=float(self.chunk),
                             kv_len=length, prefix=f"chunk {c} ")
            last = c == n - 1
            before = made[-1].name if made else ""
            for b in blocks:
                after = b.after
                if c and b.part == "mixer" and self.reorder:
                    after = (*after, f"chunk {c - 1} {b.name.removeprefix(f'chunk {c} ')}")
                if c and b.part == "embed" and not self.reorder:
                    after = (before,)
                if b.part == "head" and not last:       # only the last position of the prompt is turned into logits
                    continue
                # Weights are stored once; the cache of the last chunk holds all.
                made.append(replace(b, after=after, weights=b.weights if c == 0 or b.part == "head" else (),
                                    cache=b.cache if last else (), priority=c if self.reorder else 0))
        return replace(plan, blocks=tuple(made))
