"""Bench of ``lut_table_gen``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np

from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack, wrap
from rtl.harness.unit import Beat
from rtl.lut_table_gen.contract import UNIT, e_max
from rtl.lut_table_gen.golden import Ints, lut_table, lut_table_quant


class TableBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"a": ("data",)}
    outputs: ClassVar = {"tbl": ("data", "exp")}

    def job(self, a: Ints, name: str = "") -> Job:
        """Tables of a: int[n, K]. The oracle of exact tables is a product with all sign patterns."""
        p, k = self.p, self.p["K"]
        expected = {}
        if not p["Q"]:
            signs = np.array([[1 if i >> j & 1 else -1 for j in range(k - 1)] + [-1] for i in range(1 << (k - 1))])
            expected = {"tbl": [{"data": pack(signs @ row, p["T_W"]), "exp": 0} for row in a]}
        beats = [{"data": pack(row, p["A_W"])} for row in a]
        return Job({"a": beats}, {}, {"tables": len(a), "quantised": p["Q"]}, expected, name)

    def activations(self, rng: np.random.Generator, n: int) -> Ints:
        """Of every magnitude: each table has its own range, so that all exponents occur."""
        top = 1 << (self.p["A_W"] - 1)
        size = np.minimum(1 << rng.integers(0, self.p["A_W"], (n, 1)), top)
        values: Ints = np.maximum(rng.integers(-top, top, (n, self.p["K"])) % (2 * size) - size, -top)
        return values

    def random_job(self, rng: np.random.Generator) -> Job:
        return self.job(self.activations(rng, int(rng.integers(1, 12))))

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for n in (1, 2, 3, 5, 16, 64):
            yield self.job(self.activations(rng, n))

    def corners(self) -> Iterator[Job]:
        p, k, top = self.p, self.p["K"], 1 << (self.p["A_W"] - 1)
        edge = np.array([[-top] * k, [top - 1] * k, [(-top, top - 1)[j & 1] for j in range(k)], [0] * k])
        single = np.eye(k, dtype=np.int64)
        yield self.job(np.concatenate([edge, single * (top - 1), single * -top]), "extremes")
        limits = [s + d for b in range(p["Q_W"] - 1, p["Q_W"] + e_max(p)) for s in (1 << b,) for d in (-1, 0)]
        sums = [[min(max(m - j * (top - 1), 0), top - 1) for j in range(k)] for m in limits]
        yield self.job(np.array(sums), "sums of magnitudes at every step of the exponent")
        yield self.job(-np.array(sums), "the same, negative")
        small = np.random.default_rng(3).integers(-4, 4, (40, k))
        yield self.job(np.maximum(np.minimum(small * (top // 4) + small % 3, top - 1), -top), "ties and clips")

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        p = self.p
        if not seen["a"]:
            return {"tbl": []}
        tables = lut_table(np.array([unpack(b["data"], p["A_W"], p["K"]) for b in seen["a"]]), p["K"])
        exps = np.zeros(len(tables), dtype=np.int64)
        if p["Q"]:
            tables, exps = lut_table_quant(tables, p["Q_W"])
        return {"tbl": [{"data": pack(t, p["O_W"]), "exp": wrap(int(e), p["E_W"])} for t, e in zip(tables, exps, strict=True)]}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        names = {-1: "negative", 0: "zero", 1: "positive"}
        for _, beat in trace.moved["a"]:
            table = lut_table(unpack(beat["data"], self.p["A_W"], self.p["K"]), self.p["K"])
            yield from (f"entry {i} {names[int(s)]}" for i, s in enumerate(np.sign(table)))
            if self.p["Q"]:
                yield from self._rounding(table)
        for t, state in enumerate(trace.states):
            full = all(state.values())
            if full and not trace.ready["tbl"][t]:
                yield "stall: all stages full"
            if not full and state[f"stage {len(state)}"] and not trace.ready["tbl"][t] and trace.ready["a"][t]:
                yield "gap closes inside"

    def _rounding(self, table: Ints) -> Iterator[str]:
        q, e = lut_table_quant(table, self.p["Q_W"])
        yield f"exponent {int(e)}"
        exact = table / 2.0 ** int(e)
        if np.any(np.abs(np.rint(exact)) > np.abs(q)):
            yield "clip"
        ties = np.abs(exact % 1.0 - 0.5) == 0
        if np.any(ties & (np.floor(exact) % 2 == 0)):
            yield "tie down"
        if np.any(ties & (np.floor(exact) % 2 == 1)):
            yield "tie up"


BENCH = TableBench
