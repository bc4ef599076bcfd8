"""Products with stored weights on one engine, everything else on another (an NPU and its CPU, a flash die and its NPU)."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import ClassVar

import numpy as np

from sim.plan.block import Block, Plan
from sim.techniques.technique import Names, Stage, Technique
from workloads.formats import get_format
from workloads.ops import Attention, Elementwise, Gemm, Moe, Op


class SplitOps(Technique):
    """Each block becomes runs of ops that go to ``weights`` (products with stored weights) and to ``rest`` (attention, norms,
    activations) in turn; "" leaves those where they are. What a run hands on crosses where the engines' memories differ.

    ``tier``: where the weights lie ("": in the memory of the engine ``weights``). ``parts``: kinds of blocks (none: all).
    """

    name: ClassVar[str] = "split_ops"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = "the same operations in the same order; only their places change"

    weights: str = ""
    rest: str = ""
    tier: str = ""
    parts: Names = ()

    def apply(self, plan: Plan) -> Plan:
        for engine in filter(None, (self.weights, self.rest)):
            plan.board.engine(engine)
        if not self.weights and not self.rest:
            raise ValueError("technique split_ops: names no engine; give weights=ENGINE or rest=ENGINE")
        return plan.map(lambda b: self._split(plan, b) if not self.parts or b.part in self.parts else b)

    def _split(self, plan: Plan, block: Block) -> list[Block]:
        runs = [(stored, tuple(ops)) for stored, ops in groupby(block.ops, key=_stored)]
        runs = runs or [(False, ())]
        made: list[Block] = []
        attends = next((i for i, (_, ops) in enumerate(runs) if any(hasattr(op, "kv_len") for op in ops)), len(runs) - 1)
        first = next((i for i, (stored, _) in enumerate(runs) if stored), 0)
        for i, (stored, ops) in enumerate(runs):
            engine = (self.weights if stored else self.rest) or block.engine
            home = plan.board.engine(engine).home
            last = i == len(runs) - 1
            made.append(replace(
                block, name=block.name if last else f"{block.name} {i}", ops=ops, engine=engine,
                after=block.after if i == 0 else (made[-1].name,), moves=block.moves if i == 0 else (),
                weights=self._places(plan, block, home) if i == first else (),
                cache=tuple((home, n) for _, n in block.cache) if i == attends else (),
                out_bytes=block.out_bytes if last else _out_bytes(ops[-1], plan)))
        return made

    def _places(self, plan: Plan, block: Block, home: str) -> tuple[tuple[str, float], ...]:
        before = plan.board.engine(block.engine).home
        return tuple((self.tier or home if t == before else t, n) for t, n in block.weights)


def _stored(op: Op) -> bool:
    return isinstance(op, Moe) or (isinstance(op, Gemm) and op.static)


def _out_bytes(op: Op, plan: Plan) -> float:
    """Bytes that an op hands to the next: one result for each of its rows."""
    fmt = plan.spec.dtype
    if isinstance(op, Gemm):
        shape, fmt = (op.m, op.n, op.batch), op.out
    elif isinstance(op, Attention):
        shape = (op.batch, op.q_len, float(np.asarray(op.n_heads)) * float(np.asarray(op.v_head_dim)))
    elif isinstance(op, Elementwise):
        shape = (op.rows, op.cols, 1.0)
    else:
        shape = (plan.tokens, float(plan.spec.hidden_size), 1.0)
    return float(np.prod([float(np.asarray(x)) for x in shape])) * get_format(fmt).nbytes
