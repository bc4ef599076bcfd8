"""Bench of ``lut_dot``: tables and bit-planes of random dot products, exact and with exponents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import ClassVar

import numpy as np

from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack, wrap
from rtl.harness.unit import Beat, clog2
from rtl.lut_dot.contract import UNIT, clamped
from rtl.lut_dot.golden import Ints, lut_encode, lut_planes
from rtl.lut_table_gen.golden import lut_table


class LutDotBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"tbl": ("data", "exp"), "w": ("idx", "last")}
    outputs: ClassVar = {"out": ("data",)}
    cfg = ("wbits",)
    flags = ("err",)

    @property
    def a_w(self) -> int:
        """Width of activations whose exact tables fit."""
        return self.p["T_W"] - clog2(self.p["K"]) - 1

    def job(self, a: Ints, q: Ints, wbits: int, exps: Ints | None = None, rng: np.random.Generator | None = None,
            name: str = "") -> Job:
        """Dot products a: int[D, Ktot] with codes q: int[D, Ktot]; exponents per group stand for quantised tables."""
        p, w = self.p, clamped(wbits, self.p["W_MAX"])
        results, groups = a.shape[0], a.shape[1] // p["K"]
        e = np.zeros((results, groups), dtype=np.int64) if exps is None else exps
        tables = [{"data": pack(lut_table(a[d, g * p["K"]:(g + 1) * p["K"]], p["K"]), p["T_W"]), "exp": int(e[d, g])}
                  for d, g in product(range(results), range(groups))]
        idx = lut_encode(q, w, p["K"])
        # the last flag counts on the last plane only: elsewhere it is noise
        noise = rng.integers(0, 2, idx.shape) if rng is not None else np.ones(idx.shape, dtype=np.int64)
        planes = [{"idx": int(idx[d, g, i]), "last": int(g == groups - 1) if i == w - 1 else int(noise[d, g, i])}
                  for d, g, i in np.ndindex(idx.shape)]
        scaled = a * np.repeat(1 << e, p["K"], axis=1)
        sums = (scaled * (2 * q - ((1 << w) - 1))).sum(axis=1)           # the oracle: no table, no plane
        return Job({"tbl": tables, "w": planes}, {"wbits": wbits}, {"results": results, "groups": groups, "wbits": w},
                   {"out": [{"data": wrap(s, p["ACC_W"])} for s in sums]}, name)

    def operands(self, rng: np.random.Generator, results: int, groups: int, wbits: int) -> tuple[Ints, Ints]:
        top, shape = 1 << (self.a_w - 1), (results, groups * self.p["K"])
        return rng.integers(-top, top, shape), rng.integers(0, 1 << clamped(wbits, self.p["W_MAX"]), shape)

    def random_job(self, rng: np.random.Generator) -> Job:
        results, groups = int(rng.integers(1, 4)), int(rng.integers(1, 5))
        most = min(self.p["W_MAX"] + 1, (1 << self.p["PW"]) - 1)
        wbits = int(rng.integers(0, most + 1)) if rng.random() < 0.25 else int(rng.integers(1, self.p["W_MAX"] + 1))
        e_max = (1 << self.p["SH_W"]) - self.p["W_MAX"]
        exps = rng.integers(0, e_max + 1, (results, groups)) if rng.random() < 0.5 else None
        return self.job(*self.operands(rng, results, groups, wbits), wbits, exps, rng)

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for w, (results, groups) in product(range(1, self.p["W_MAX"] + 1), ((1, 1), (1, 3), (2, 1), (2, 16), (5, 4))):
            yield self.job(*self.operands(rng, results, groups, w), w, None, rng)

    def corners(self) -> Iterator[Job]:
        p, low = self.p, -(1 << (self.a_w - 1))
        for w in (1, p["W_MAX"]):
            for code, value in product((0, (1 << w) - 1), (low, -low - 1)):
                full = np.full((2, 2 * p["K"]), value, dtype=np.int64)
                yield self.job(full, np.full_like(full, code), w, name=f"all {value} with all codes {code}")
        long = np.full((1, 64 * p["K"]), low, dtype=np.int64)
        yield self.job(long, np.zeros_like(long), p["W_MAX"], name="wraps in a narrow accumulator")
        a, q = self.operands(np.random.default_rng(11), 8, 1, p["W_MAX"])
        yield self.job(a, q, p["W_MAX"], name="w_last on every group")
        yield self.job(a, q & 1, 0, name="width 0 is read as 1, flagged")
        if p["W_MAX"] + 1 < 1 << p["PW"]:
            yield self.job(a, q, p["W_MAX"] + 1, name="width above W_MAX is read as W_MAX, flagged")
        every = np.array([[(i >> j) & 1 for j in range(p["K"])] for i in range(1 << p["K"])])
        yield self.job(np.arange(every.size).reshape(every.shape) % -low, every, 1, name="every index")

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        p, w = self.p, clamped(cfg["wbits"], self.p["W_MAX"])
        sums: list[Beat] = []
        total = 0
        for g in range(len(seen["w"]) // w):
            table, planes = seen["tbl"][g], seen["w"][g * w:(g + 1) * w]
            entries = unpack(table["data"], p["T_W"], 1 << (p["K"] - 1))
            total += lut_planes(entries, table["exp"], [x["idx"] for x in planes], p["K"])
            if planes[-1]["last"]:
                sums.append({"data": wrap(total, p["ACC_W"])})
                total = 0
        return {"out": sums}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        return {"err": int(bool(seen["tbl"]) and cfg["wbits"] != clamped(cfg["wbits"], self.p["W_MAX"]))}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        p, w = self.p, clamped(job.cfg["wbits"], self.p["W_MAX"])
        c, top = job.cfg["wbits"], p["W_MAX"]
        if c == 0 or c >= top:
            yield "width 0" if c == 0 else "width W_MAX" if c == top else "width above W_MAX"
        loads = {t for t, _ in trace.moved["tbl"]}
        for t, beat in trace.moved["w"]:
            plane, negate = trace.states[t]["plane"], beat["idx"] >> (p["K"] - 1)
            yield from (f"W{w}/{'last' if plane == w - 1 else 'middle' if plane else 'first'}", f"idx {beat['idx']}",
                        f"negate {negate}/plane {plane}")
            if plane == w - 1 and t in loads:
                yield "table load with last plane"
        for t, state in enumerate(trace.states):
            if trace.offers["w"][t] is not None and not state["tv"]:
                yield "stall: no table"
            if state["s1"] and state["out"] and not trace.ready["out"][t]:
                yield "stall: result waits, next in stage 1"


BENCH = LutDotBench
