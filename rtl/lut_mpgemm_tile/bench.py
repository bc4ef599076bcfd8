"""Bench of ``lut_mpgemm_tile``: tables and bit-planes of random tiles, exact and with exponents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import ClassVar

import numpy as np

from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack
from rtl.harness.unit import Beat, clog2
from rtl.lut_dot.golden import Ints, lut_encode
from rtl.lut_mpgemm_tile.contract import UNIT, clamped
from rtl.lut_mpgemm_tile.golden import lut_gemm, tile_planes
from rtl.lut_table_gen.golden import lut_table


class TileBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"tbl": ("data", "exp"), "w": ("idx", "last")}
    outputs: ClassVar = {"out": ("data", "last")}
    cfg = ("wbits",)
    flags = ("err",)

    @property
    def a_w(self) -> int:
        """Width of activations whose exact tables fit."""
        return self.p["T_W"] - clog2(self.p["K"]) - 1

    def job(self, a: Ints, q: Ints, wbits: int, exps: Ints | None = None, rng: np.random.Generator | None = None,
            name: str = "") -> Job:
        """Tiles of a: int[D, M, Ktot] by codes q: int[D, N, Ktot]; exponents int[D, G, M] stand for quantised tables."""
        p, w, k = self.p, clamped(wbits, self.p["W_MAX"]), self.p["K"]
        step = k * p["P"]
        tiles, groups = a.shape[0], a.shape[2] // step
        e = np.zeros((tiles, groups, p["M"]), dtype=np.int64) if exps is None else exps
        tables = [{"data": pack(lut_table(a[d].reshape(p["M"], groups, p["P"], k)[:, g], k), p["T_W"]),
                   "exp": pack(e[d, g], p["SH_W"])} for d, g in product(range(tiles), range(groups))]
        planes: list[Beat] = []
        for d in range(tiles):
            idx = lut_encode(q[d], w, k).reshape(p["N"], groups, p["P"], w)
            for g, i in product(range(groups), range(w)):
                # the last flag counts on the last plane only: elsewhere it is noise
                noise = 1 if rng is None else int(rng.integers(0, 2))
                planes.append({"idx": pack(idx[:, g, :, i], k), "last": int(g == groups - 1) if i == w - 1 else noise})
        scaled = a * np.repeat(1 << e.transpose(0, 2, 1), step, axis=2)
        sums = scaled @ (2 * q - ((1 << w) - 1)).transpose(0, 2, 1)             # the oracle: no table, no plane
        return Job({"tbl": tables, "w": planes}, {"wbits": wbits},
                   {"tiles": tiles, "groups": groups, "wbits": w, "m": p["M"]},
                   {"out": [self.row(y, m) for y in sums for m in range(p["M"])]}, name)

    def row(self, y: Ints, m: int) -> Beat:
        return {"data": pack(y[m], self.p["ACC_W"]), "last": int(m == self.p["M"] - 1)}

    def operands(self, rng: np.random.Generator, tiles: int, groups: int, wbits: int) -> tuple[Ints, Ints]:
        p, top = self.p, 1 << (self.a_w - 1)
        k = groups * p["K"] * p["P"]
        return (rng.integers(-top, top, (tiles, p["M"], k)),
                rng.integers(0, 1 << clamped(wbits, p["W_MAX"]), (tiles, p["N"], k)))

    def random_job(self, rng: np.random.Generator) -> Job:
        p, tiles, groups = self.p, int(rng.integers(1, 4)), int(rng.integers(1, 4))
        most = min(p["W_MAX"] + 1, (1 << p["PW"]) - 1)
        wbits = int(rng.integers(0, most + 1)) if rng.random() < 0.25 else int(rng.integers(1, p["W_MAX"] + 1))
        e_max = (1 << p["SH_W"]) - p["W_MAX"]
        exps = rng.integers(0, e_max + 1, (tiles, groups, p["M"])) if rng.random() < 0.5 else None
        return self.job(*self.operands(rng, tiles, groups, wbits), wbits, exps, rng)

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for w, (tiles, groups) in product(range(1, self.p["W_MAX"] + 1), ((1, 1), (1, 3), (2, 1), (1, 16), (5, 2))):
            yield self.job(*self.operands(rng, tiles, groups, w), w, None, rng)

    def corners(self) -> Iterator[Job]:
        p, low = self.p, -(1 << (self.a_w - 1))
        for w in (1, p["W_MAX"]):
            a, q = self.operands(np.random.default_rng(11), 2, 2, w)
            for code, value in product((0, (1 << w) - 1), (low, -low - 1)):
                yield self.job(np.full_like(a, value), np.full_like(q, code), w, name=f"all {value} with all codes {code}")
        a, q = self.operands(np.random.default_rng(12), 1, 40, p["W_MAX"])
        yield self.job(np.full_like(a, low), np.zeros_like(q), p["W_MAX"], name="wraps in a narrow accumulator")
        a, q = self.operands(np.random.default_rng(13), 4, 1, p["W_MAX"])
        yield self.job(a, q & 1, 0, name="width 0 is read as 1, flagged")
        if p["W_MAX"] + 1 < 1 << p["PW"]:
            yield self.job(a, q, p["W_MAX"] + 1, name="width above W_MAX is read as W_MAX, flagged")
        every = (np.arange(1 << p["K"])[:, None, None] + np.arange(p["N"])[:, None]) >> np.arange(p["K"]) & 1
        a, _ = self.operands(np.random.default_rng(14), 1 << p["K"], 1, 1)
        yield self.job(a, np.tile(every, p["P"]), 1, name="every index in every column")
        yield from self.whole_products()

    def whole_products(self) -> Iterator[Job]:
        """A product through the golden model of the whole: the oracle of a job and the tables agree."""
        p, rng = self.p, np.random.default_rng(15)
        a, q = self.operands(rng, 1, 3, p["W_MAX"])
        made = self.job(a, q, p["W_MAX"], None, rng, "golden product")
        y = lut_gemm(a[0], q[0], p["W_MAX"], p["K"], None, p["ACC_W"])
        yield Job(made.beats, made.cfg, made.work, {"out": [self.row(y, m) for m in range(p["M"])]}, made.name)

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        p, w = self.p, clamped(cfg["wbits"], self.p["W_MAX"])
        total = np.zeros((p["M"], p["N"]), dtype=np.int64)
        rows: list[Beat] = []
        for g in range(len(seen["w"]) // w):
            table, planes = seen["tbl"][g], seen["w"][g * w:(g + 1) * w]
            entries = unpack(table["data"], p["T_W"], p["M"] * p["P"] << (p["K"] - 1)).reshape(p["M"], p["P"], -1)
            exps = unpack(table["exp"], p["SH_W"], p["M"], signed=False)
            codes = [unpack(x["idx"], p["K"], p["N"] * p["P"], signed=False) for x in planes]
            idx = np.stack(codes, axis=1).reshape(p["N"], p["P"], w)
            total = total + sum(tile_planes(entries[:, i], exps, idx[:, i], p["K"]) for i in range(p["P"]))
            if planes[-1]["last"]:
                rows += [self.row(total, m) for m in range(p["M"])]
                total = np.zeros_like(total)
        return {"out": rows}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        return {"err": int(bool(seen["tbl"]) and cfg["wbits"] != clamped(cfg["wbits"], self.p["W_MAX"]))}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        p, c, w = self.p, job.cfg["wbits"], clamped(job.cfg["wbits"], self.p["W_MAX"])
        if c == 0 or c >= p["W_MAX"]:
            yield "width 0" if c == 0 else "width W_MAX" if c == p["W_MAX"] else "width above W_MAX"
        loads = {t for t, _ in trace.moved["tbl"]}
        for _, beat in trace.moved["tbl"]:
            if len(set(unpack(beat["exp"], p["SH_W"], p["M"]).tolist())) > 1:
                yield "rows with different exponents"
        for t, beat in trace.moved["w"]:
            plane = trace.states[t]["plane"]
            yield f"W{w}/{'last' if plane == w - 1 else 'middle' if plane else 'first'}"
            yield from {f"idx {i}" for i in unpack(beat["idx"], p["K"], p["N"] * p["P"], signed=False)}
            if plane == w - 1 and t in loads:
                yield "table load with last plane"
        for t, state in enumerate(trace.states):
            draining = state["out"] and state["row"] < p["M"] - 1
            if trace.offers["w"][t] is not None and not state["tv"]:
                yield "stall: no table"
            if state["out"] and not trace.ready["out"][t]:
                yield f"stall: row {state['row']}"
            if draining:
                yield from ["next tile waits behind a drain"] * state["s1"] + ["table loads during a drain"] * (t in loads)


BENCH = TileBench
