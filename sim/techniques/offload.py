"""Weights that do not stay with the engine: kept elsewhere, and fetched for each step or computed where they lie."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from sim.plan.block import Block, Move, Plan
from sim.techniques.technique import Names, Size, Stage, Technique


class Offload(Technique):
    """Weights of layers beyond what is kept lie in ``to`` (and in ``then`` where that is full).

    ``via = "stream"``: they are fetched to the engine each step, ahead as far as staging allows (FlexGen, llama.cpp's mmap);
    ``"there"``: the engine that lives by that memory computes those layers (llama.cpp's layer split).
    ``layers``: layers kept; -1: as many as the memory holds beside cache and ``reserve``. ``share``: instead of whole
    layers, this share of every layer is kept. ``parts``: kinds of blocks it applies to.
    """

    name: ClassVar[str] = "offload"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = "every weight lies somewhere exactly once; operations stay the same"

    to: str = "dram"
    then: str = ""
    via: Literal["stream", "there"] = "stream"
    layers: int = Field(default=-1, ge=-1)
    share: float = Field(default=-1.0, ge=-1, le=1)
    reserve: Size = Field(default=0.0, ge=0)
    parts: Names = ("mixer", "ffn", "experts")

    def apply(self, plan: Plan) -> Plan:
        plan.board.tier(self.to)
        if self.share >= 0:
            return plan.map(lambda b: self._moved(plan, b, self.share) if self._mine(b) else b)
        kept = self._kept(plan)
        places = self._places(plan, kept)
        return plan.map(lambda b: self._moved(plan, b, 0.0, places[b.layer]) if self._mine(b) and b.layer >= kept else b)

    def _mine(self, block: Block) -> bool:
        return block.part in self.parts and not block.model

    def _kept(self, plan: Plan) -> int:
        """Layers that stay: as asked, else as many as fit beside everything that is not a layer's weights."""
        if self.layers >= 0:
            return self.layers
        home = plan.board.main.home
        each = np.zeros(plan.spec.n_layers)
        for b in plan.blocks:
            if self._mine(b):
                each[b.layer] += b.weight_bytes
        other = sum(plan.resident().get(home, {}).values()) - each.sum() + self.reserve
        if self.via == "stream" and home not in dict(plan.staging):    # they pass through a buffer of two blocks
            other += 2 * max(b.weight_bytes for b in plan.blocks if self._mine(b))
        room = plan.board.tier(home).capacity - other
        return int(np.searchsorted(np.cumsum(each), room, side="right")) if each.sum() > room else plan.spec.n_layers

    def _places(self, plan: Plan, kept: int) -> dict[int, str]:
        """Memory of each layer that does not stay: the first until it is full, then the second."""
        resident = sum(plan.resident().get(self.to, {}).values())
        room = plan.board.tier(self.to).capacity - resident - self.reserve
        found: dict[int, str] = {}
        for b in plan.blocks:
            if self._mine(b) and b.layer >= kept:
                if self.then and b.layer not in found and room < b.weight_bytes:
                    room = -1.0
                found.setdefault(b.layer, self.then if self.then and room < 0 else self.to)
                room -= b.weight_bytes if found[b.layer] == self.to else 0.0
        return found

    def _moved(self, plan: Plan, block: Block, kept: float, place: str = "") -> Block:
        place = place or self.to
        home = plan.board.engine(block.engine).home
        if place == home:
            return block
        away = (1 - kept) * block.weight_bytes
        weights = ((home, kept * block.weight_bytes), (place, away)) if kept else ((place, away),)
        there = next((e.name for e in plan.board.engines.values() if e.home == place), "")
        if self.via == "there" and there:
            # What a layer caches stays with the engine that attends to it.
            cache = tuple((place, n) for _, n in block.cache)
            return replace(block, engine=there, weights=((place, block.weight_bytes),), cache=cache)
        return replace(block, weights=weights, moves=(*block.moves, Move(what="weights", nbytes=away, src=place, dst=home)))
