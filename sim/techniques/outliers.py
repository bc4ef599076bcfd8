"""Outlier channels of activations multiplied in float on another engine, beside an integer product of all the others."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from sim.plan.block import Block, Plan
from sim.techniques.technique import Stage, Technique
from workloads.formats import get_format
from workloads.ops import Elementwise, Gemm


class Outliers(Technique):
    """Every product of blocks on the engine ``beside`` ("": the plan's first) is computed in two parts that run side by side,
    x W = x_in W + x_out W: all channels there, with those of x_out set to zero or clamped; the share ``share`` of channels
    on ``engine``, which looks for them, multiplies them with its own copy of their weights in ``fmt``, and adds both up.

    ``pruned``: share of layers where the float part is left out, because it was found not to matter; the layers in the
    middle go first. ``sync``: seconds to hand one result over between the engines, besides what a call of each costs. Both
    shares depend on the model and are measured; they have no default. Blocks must hold products alone: list ``split_ops``
    before it.
    """

    name: ClassVar[str] = "outliers"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = "products stay whole where they are; float products of the outlier channels are added, with sums"

    engine: str = "cpu"
    beside: str = ""
    share: float = Field(gt=0, lt=1)
    pruned: float = Field(ge=0, le=1)
    sync: float = Field(default=0.0, ge=0)
    fmt: str = "fp16"

    def apply(self, plan: Plan) -> Plan:
        engine = plan.board.engine(self.engine)
        beside = plan.board.engine(self.beside) if self.beside else plan.board.main
        if engine.name == beside.name:
            raise ValueError(f"technique outliers: engine: must be another than that of the products, found {self.engine!r}")
        mine = {b.name for b in plan.blocks if b.engine == beside.name and 0 <= b.layer < plan.spec.n_layers and not b.model
                and any(_stored(op) for op in b.ops)}
        for b in plan.blocks:
            if b.name in mine and not all(_stored(op) for op in b.ops):
                raise ValueError(f"technique outliers: block {b.name!r} does more than multiply; list split_ops with rest="
                                 f"{self.engine} before it")
        kept = self.layers(plan.spec.n_layers)
        chosen = {b.name: b for b in plan.blocks if b.name in mine and b.layer in kept}
        # Of several chunks the first one has the copies of the weights, as it has the weights.
        first = {(b.layer, tuple(op.name for op in b.ops)): b.name for b in reversed(chosen.values())}
        owners = set(first.values())
        return plan.map(lambda b: self._split(plan, b, owner=b.name in owners) if b.name in chosen else b)

    def layers(self, n: int) -> frozenset[int]:
        """Layers that keep their float part: the outermost, from both ends in turn."""
        order = sorted(range(n), key=lambda i: (min(i, n - 1 - i), i))
        return frozenset(order[:round((1 - self.pruned) * n)])

    def _split(self, plan: Plan, block: Block, *, owner: bool) -> list[Block]:
        """The product there, its float part here, and the sum, which takes the block's name."""
        home = plan.board.engine(self.engine).home
        last = block.ops[-1]
        assert isinstance(last, Gemm)
        inside = replace(block, name=f"{block.name} inside", out_bytes=_result_bytes(last))
        products = [_product(op, self.share, self.fmt) for op in block.ops if isinstance(op, Gemm)]
        copies = sum(_weight_bytes(p) for p in products) if owner else 0.0
        outside = replace(block, name=f"{block.name} outside", engine=self.engine, moves=(), cache=(),
                          ops=(*(_search(op) for op in block.ops if isinstance(op, Gemm)), *products),
                          weights=((home, copies),) if copies else (), out_bytes=_result_bytes(last))
        total = replace(block, engine=self.engine, after=(inside.name, outside.name), weights=(), moves=(), cache=(),
                        ops=tuple(_sum(op) for op in block.ops if isinstance(op, Gemm)), sync_s=block.sync_s + self.sync)
        return [inside, outside, total]


def _stored(op: object) -> bool:
    return isinstance(op, Gemm) and op.static


def _product(op: Gemm, share: float, fmt: str) -> Gemm:
    return replace(op, name=f"{op.name} outliers", k=float(op.k) * share, a=fmt, w=fmt, out=fmt)  # type: ignore[arg-type]


def _search(op: Gemm) -> Elementwise:
    """Every activation is read and compared with the largest that the integer format holds."""
    rows, cols = float(op.m) * float(op.batch), float(op.k)  # type: ignore[arg-type]
    return Elementwise(name=f"{op.name} search", kind="quantise", rows=rows, cols=cols,
                       bytes_read=rows * cols * get_format(op.out).nbytes, bytes_written=0.0)


def _sum(op: Gemm) -> Elementwise:
    """Both results read, their sum written."""
    each = _result_bytes(op)
    return Elementwise(name=f"{op.name} sum", kind="add", rows=float(op.m) * float(op.batch),  # type: ignore[arg-type]
                       cols=float(op.n), bytes_read=2 * each, bytes_written=each)  # type: ignore[arg-type]


def _weight_bytes(op: Gemm) -> float:
    return float(op.n) * float(op.k) * float(op.batch) * get_format(op.w).nbytes  # type: ignore[arg-type]


def _result_bytes(op: Gemm) -> float:
    return float(op.m) * float(op.n) * float(op.batch) * get_format(op.out).nbytes  # type: ignore[arg-type]
