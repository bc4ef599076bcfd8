"""Room for what is moved ahead of its use."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from sim.plan.block import Plan
from sim.techniques.technique import Size, Stage, Technique


class Staging(Technique):
    """What is fetched ahead into the memory ``tier`` ("": that of the first engine) has ``size`` bytes of room there, instead
    of as much as the two largest blocks need. More lets copies run further ahead and is taken from the memory; less than two
    blocks' worth leaves no double buffering. List it before ``offload``, which then keeps what still fits beside it.
    """

    name: ClassVar[str] = "staging"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = "operations and bytes moved stay the same; only when they may move changes"

    size: Size = Field(gt=0)
    tier: str = ""

    def apply(self, plan: Plan) -> Plan:
        tier = plan.board.tier(self.tier or plan.board.main.home).name
        return replace(plan, staging=(*(s for s in plan.staging if s[0] != tier), (tier, self.size)))
