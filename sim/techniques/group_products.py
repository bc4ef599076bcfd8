"""Scales per group of weights on an engine that only knows one scale: a product for every group, summed up in float."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from sim.plan.block import Plan
from sim.techniques.technique import Stage, Technique
from workloads.formats import get_format
from workloads.ops import Elementwise, Gemm, Op


class GroupProducts(Technique):
    """Stored products of blocks on ``engine`` ("": the plan's first) become one product for each ``group`` of inputs, whose
    results (fp32, each times its scale) are written to memory and summed up in float on that engine.

    Scales themselves are not counted: they are 1/``group`` of the weights.
    """

    name: ClassVar[str] = "group_products"
    stage: ClassVar[Stage] = "plan"
    conserves: ClassVar[str] = "multiplications stay the same; partial results and their sums are added"

    group: int = Field(ge=1)
    engine: str = ""

    def apply(self, plan: Plan) -> Plan:
        engine = plan.board.engine(self.engine) if self.engine else plan.board.main
        return plan.map(lambda b: replace(b, ops=tuple(x for op in b.ops for x in self.split(op)))
                        if b.engine == engine.name and 0 <= b.layer < plan.spec.n_layers and not b.model else b)

    def split(self, op: Op) -> tuple[Op, ...]:
        """A product as those of its groups and the sum of their results; any other op as it is."""
        if not (isinstance(op, Gemm) and op.static):
            return (op,)
        m, n, k, batch = (float(x) for x in (op.m, op.n, op.k, op.batch))  # type: ignore[arg-type]
        parts = k / min(float(self.group), k)
        if parts <= 1:
            return (op,)
        result = m * n * batch
        total = Elementwise(name=f"{op.name} sum", repeat=op.repeat, kind="add", rows=m * batch, cols=n,
                            bytes_read=parts * result * get_format("fp32").nbytes,
                            bytes_written=result * get_format(op.out).nbytes)
        return replace(op, k=k / parts, batch=batch * parts, out="fp32"), total
