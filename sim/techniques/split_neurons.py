"""Hot neurons on the fast engine, cold ones computed where they lie (PowerInfer; on a phone's NPU and CPU PowerInfer-2)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

from sim.plan.block import Block, Plan
from sim.plan.neurons import Neurons
from sim.techniques.technique import Size, Stage, Technique


def check_whole(technique: str, block: Block) -> None:
    """Raise ``ValueError`` where another technique has cut the ops of a sparse block or moves its weights each step."""
    if block.neurons is not None and len(block.ops) < len(block.neurons.dense):
        raise ValueError(f"technique {technique}: the ops of {block.name!r} are on several engines already; leave its part out "
                         f"of split_ops, e.g. parts=mixer")
    if any(m.what == "weights" for m in block.moves):
        raise ValueError(f"technique {technique}: the weights of {block.name!r} are fetched each step already; leave its part "
                         f"out of offload or page_in, e.g. parts=mixer")


class SplitNeurons(Technique):
    """Each sparse feed-forward block becomes two that run side by side: some neurons on a fast engine, the others on the
    engine ``cold``, each from its own memory; the next block needs both.

    ``fast``: engine of the first ("": that of the block). ``hot``: share of the neurons with it; -1: as many as its memory
    holds beside all else and ``reserve``. ``by``: those most active, or any (``chance``). ``whole``: the fast engine computes
    all of its neurons, active or not, and waits for no predictor (an NPU, which gains nothing from sparse rows).
    """

    name: ClassVar[str] = "split_neurons"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = "active neurons of both blocks add up to those of the one before; weights stay stored once"

    cold: str = "cpu"
    fast: str = ""
    hot: float = -1.0
    by: Literal["activity", "chance"] = "activity"
    whole: bool = False
    reserve: Size = 0.0

    def apply(self, plan: Plan) -> Plan:
        if not any(b.neurons for b in plan.blocks):
            raise ValueError("technique split_neurons: no block has sparse neurons; give sparse_ffn before it")
        if self.hot > 1:
            raise ValueError(f"technique split_neurons: hot: must be at most 1, found {self.hot:g}")
        plan.board.engine(self.cold)
        share = self.hot if self.hot >= 0 else self._room(plan)
        made: list[Block] = []
        halves: dict[str, tuple[str, ...]] = {}
        for b in plan.blocks:
            b = replace(b, after=tuple(x for a in b.after for x in halves.get(a, (a,))))
            mine = b.neurons is not None and not b.model and (self.fast or b.engine) != self.cold
            parts = self._split(plan, b, share) if mine else (b,)
            halves[b.name] = tuple(p.name for p in parts)
            made += parts
        return replace(plan, blocks=tuple(made))

    def _split(self, plan: Plan, block: Block, share: float) -> tuple[Block, ...]:
        """The cold block first: the slower engine should not wait."""
        assert block.neurons is not None
        check_whole(self.name, block)
        if block.neurons.width < 1:
            raise ValueError(f"technique split_neurons: the neurons of {block.name!r} are split already; give it once")
        hot, cold = self._halves(block.neurons, share)
        made = []
        if share < 1:
            away = plan.board.engine(self.cold)
            made.append(replace(block, name=f"{block.name} cold", engine=away.name, neurons=cold, ops=cold.ops(plan.tokens),
                                weights=((away.home, (1 - share) * block.weight_bytes),)))
        if share > 0:
            here = plan.board.engine(self.fast or block.engine)
            after = tuple(a for a in block.after if not (self.whole and a.endswith(" predictor")))
            made.append(replace(block, engine=here.name, neurons=hot, ops=hot.ops(plan.tokens), after=after,
                                weights=((here.home, share * block.weight_bytes),)))
        return tuple(made)

    def _halves(self, neurons: Neurons, share: float) -> tuple[Neurons, Neurons]:
        hot, cold = ((neurons.part(0.0, share), neurons.part(share, 1.0)) if self.by == "activity" else
                     (neurons.thinned(share), neurons.thinned(1 - share)))
        return replace(hot, whole=self.whole), cold

    def _room(self, plan: Plan) -> float:
        """Share of the neurons that the fast memory holds beside everything else."""
        home = plan.board.engine(self.fast).home if self.fast else plan.board.main.home
        mine = [b for b in plan.blocks if b.neurons and not b.model]
        sparse = sum(b.weight_bytes for b in mine)
        there = sum(n for b in mine for t, n in b.weights if t == home)
        other = sum(plan.resident().get(home, {}).values()) - there + self.reserve
        # A byte is left over, so that rounding cannot make it too much.
        return min(max((plan.board.tier(home).capacity - other - 1.0) / sparse, 0.0), 1.0)
