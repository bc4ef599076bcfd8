"""Hot neurons on the fast engine, cold ones computed where they lie (PowerInfer)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from sim.plan.block import Block, Plan
from sim.techniques.technique import Size, Stage, Technique


class SplitNeurons(Technique):
    """Each sparse feed-forward block becomes two that run side by side: the most active neurons on the engine of the plan,
    the others on the engine ``cold``, each from its own memory; the next block needs both.

    ``hot``: share of the neurons with the fast engine; -1: as many as its memory holds beside all else and ``reserve``.
    """

    name: ClassVar[str] = "split_neurons"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = "active neurons of both blocks add up to those of the one before; weights stay stored once"

    cold: str = "cpu"
    hot: float = -1.0
    reserve: Size = 0.0

    def apply(self, plan: Plan) -> Plan:
        if not any(b.neurons for b in plan.blocks):
            raise ValueError("technique split_neurons: no block has sparse neurons; give sparse_ffn before it")
        if self.hot > 1:
            raise ValueError(f"technique split_neurons: hot: must be at most 1, found {self.hot:g}")
        engine = plan.board.engine(self.cold)
        share = self.hot if self.hot >= 0 else self._room(plan)
        made: list[Block] = []
        twins: dict[str, str] = {}
        for b in plan.blocks:
            b = replace(b, after=tuple(x for a in b.after for x in ((a, twins[a]) if a in twins else (a,))))
            if b.neurons is None or b.engine == engine.name:
                made.append(b)
                continue
            hot, cold = b.neurons.part(0.0, share), b.neurons.part(share, 1.0)
            kept = share * b.weight_bytes
            twin = replace(b, name=f"{b.name} cold", engine=engine.name, neurons=cold,
                           ops=cold.ops(plan.tokens), weights=((engine.home, b.weight_bytes - kept),))
            made.append(twin)
            if share > 0:
                made.append(replace(b, ops=hot.ops(plan.tokens), neurons=hot,
                                    weights=((plan.board.engine(b.engine).home, kept),)))
                twins[b.name] = twin.name
            else:
                twins[b.name] = twin.name
                made.append(replace(b, ops=(), weights=()))
        return replace(plan, blocks=tuple(made))

    def _room(self, plan: Plan) -> float:
        """Share of the neurons that the fast memory holds beside everything else."""
        home = plan.board.main.home
        sparse = sum(b.weight_bytes for b in plan.blocks if b.neurons and not b.model)
        there = sum(sum(n for t, n in b.weights if t == home) for b in plan.blocks if b.neurons and not b.model)
        other = sum(plan.resident().get(home, {}).values()) - there + self.reserve
        return min(max((plan.board.tier(home).capacity - other) / sparse, 0.0), 1.0)
