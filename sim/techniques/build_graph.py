"""Engines that run compiled graphs of fixed shapes: time to build one for a shape that is not there yet."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from sim.plan.block import Block, Plan
from sim.techniques.technique import Stage, Technique
from workloads.ops import Gemm


class BuildGraph(Technique):
    """Before a step, a graph is built for every number of rows that products on ``engine`` ("": the plan's first) have and
    that is not ``ready`` (one length; 0: none). Each takes ``seconds``, which depends on the model and the compiler, and
    nothing runs meanwhile.
    """

    name: ClassVar[str] = "build_graph"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = "operations and bytes stay the same; a fixed time a new shape is added"

    seconds: float = Field(ge=0)
    ready: float = Field(default=0.0, ge=0)
    engine: str = ""

    def apply(self, plan: Plan) -> Plan:
        engine = plan.board.engine(self.engine) if self.engine else plan.board.main
        new = self.shapes(plan, engine.name) - {self.ready}
        if not new:
            return plan
        first = plan.blocks[0]
        build = Block(name="build graph", layer=-1, part="build", ops=(), engine=first.engine, after=first.after,
                      sync_s=self.seconds * len(new))
        waiting = tuple(replace(b, after=(build.name,)) if not b.after else b for b in plan.blocks)
        return replace(plan, blocks=(build, *waiting))

    def shapes(self, plan: Plan, engine: str) -> set[float]:
        """Rows of stored products within layers on an engine."""
        return {float(np.asarray(op.m)) for b in plan.blocks if b.engine == engine and 0 <= b.layer < plan.spec.n_layers
                for op in b.ops if isinstance(op, Gemm) and op.static}
