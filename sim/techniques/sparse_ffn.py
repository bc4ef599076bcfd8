"""Activation sparsity of feed-forward parts and routed experts: only neurons predicted to be active are computed."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from sim.plan.block import Block, Plan
from sim.plan.neurons import Neurons
from sim.techniques.technique import Stage, Technique
from workloads.formats import get_format
from workloads.ops import Gemm


class SparseFfn(Technique):
    """Feed-forward blocks shrink to the neurons that the step's tokens activate, named by a low-rank predictor.

    ``active``: mean share of neurons active for one token; ``hot``, ``mass``: the share ``hot`` of the neurons makes the
    share ``mass`` of the activations (equal: no locality). ``rank``: inner width of the predictor (0: none is run), whose
    weights are kept beside the model's. No defaults for what depends on the model: they are measured and have a source.
    """

    name: ClassVar[str] = "sparse_ffn"
    stage: ClassVar[Stage] = "graph"
    conserves: ClassVar[str] = "operations and bytes of a block fall to the share of neurons computed; weights stay stored"

    active: float = Field(gt=0, le=1)
    hot: float = Field(gt=0, le=1)
    mass: float = Field(gt=0, le=1)
    rank: int = Field(ge=0)

    def apply(self, plan: Plan) -> Plan:
        if not any(b.part in ("ffn", "experts") for b in plan.blocks):
            raise ValueError(f"technique sparse_ffn: {plan.spec.name} has no feed-forward part")
        return plan.map(lambda b: self._sparse(plan, b) if b.part in ("ffn", "experts") and not b.model else b)

    def _sparse(self, plan: Plan, block: Block) -> tuple[Block, ...]:
        neurons = Neurons(block.ops, self.active, self.hot, self.mass)
        sparse = replace(block, ops=neurons.ops(plan.tokens), neurons=neurons)
        if not self.rank:
            return (sparse,)
        predictor = self._predictor(plan, block, neurons)
        return predictor, replace(sparse, after=(*block.after, predictor.name))

    def _predictor(self, plan: Plan, block: Block, neurons: Neurons) -> Block:
        """It runs for the experts that a token is routed to, and lies there for all."""
        fmt, hidden = plan.spec.dtype, float(plan.spec.hidden_size)
        name = f"layer {block.layer} predictor"
        width = neurons.count * neurons.routed
        ops = (Gemm(name=f"{name} in", m=plan.tokens, n=float(self.rank), k=hidden, a=fmt, w=fmt, out=fmt),
               Gemm(name=f"{name} out", m=plan.tokens, n=width, k=float(self.rank), a=fmt, w=fmt, out=fmt))
        nbytes = self.rank * (hidden + neurons.count) * get_format(fmt).nbytes
        home = plan.board.engine(block.engine).home
        return Block(name=name, layer=block.layer, part="predictor", ops=ops, engine=block.engine, after=block.after,
                     weights=((home, nbytes),), out_bytes=plan.tokens * width / 8)
