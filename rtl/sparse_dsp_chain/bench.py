"""Bench of ``sparse_dsp_chain``: the oracle puts sparse weights back in their places and multiplies densely."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import ClassVar

import numpy as np

from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack
from rtl.harness.pipe_bins import PIPE_BINS, pipe_bins
from rtl.harness.unit import Beat
from rtl.sparse_dsp_chain.contract import FLOW, UNIT, rates
from rtl.sparse_dsp_chain.golden import Ints, in_use, positions, sparse_nm_dot


class ChainBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"s": ("a0", "a1", "w", "x", "last")}
    outputs: ClassVar = {"out": ("data",)}
    cfg = ("n", "split")
    flags = ("err",)

    def job(self, a: Ints, w: Ints, x: Ints, n: int, split: int, name: str = "") -> Job:
        """Results of windows a: int[R, C, 2, D M], weights and indices int[R, C, D], C beats each."""
        p, (results, beats) = self.p, w.shape[:2]
        sent = [{"a0": pack(a[r, c, 0], 8), "a1": pack(a[r, c, 1], 8), "w": pack(w[r, c], 8), "x": pack(x[r, c], p["XW"]),
                 "last": int(c == beats - 1)} for r, c in product(range(results), range(beats))]
        sums = [sum(a[r, c] @ self.dense(w[r, c], x[r, c], n, split).T for c in range(beats)) for r in range(results)]
        return Job({"s": sent}, {"n": n, "split": split}, {"beats": len(sent)},
                   {"out": [{"data": pack(s, p["ACC_W"])} for s in sums]}, name)

    def dense(self, w: Ints, x: Ints, n: int, split: int) -> Ints:
        """Weights of a beat at their places in the window, a row a segment: int[4, D M]."""
        p, rows = self.p, np.zeros((4, self.p["D"] * self.p["M"]), dtype=np.int64)
        for d in range(p["D"]):
            place = d * p["M"] + x[d] if n == 1 else d // 2 * p["M"] + x[d] if n == 2 < p["M"] else d
            rows[d * (1, 2, 4, 4)[split] // p["D"], place] += max(w[d], -127)
        return rows

    def operands(self, rng: np.random.Generator, results: int, beats: int) -> tuple[Ints, Ints, Ints]:
        p, lanes = self.p, (results, beats, self.p["D"])
        return (rng.integers(-128, 128, (results, beats, 2, p["D"] * p["M"])),
                rng.integers(-127, 128, lanes) * (rng.random(lanes) > 0.1), rng.integers(0, p["M"], lanes))

    def random_job(self, rng: np.random.Generator) -> Job:
        a, w, x = self.operands(rng, int(rng.integers(1, 5)), int(rng.integers(1, 7)))
        n, split = int(rng.choice(rates(self.p))), int(rng.integers(0, 3))
        if rng.random() < 0.15:
            n, split = int(rng.integers(0, 1 << self.p["NW"])), int(rng.integers(0, 4))
        if rng.random() < 0.15:
            w[rng.random(w.shape) < 0.05] = -128
        return self.job(a, w, x, n, split)

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for n, split in product(rates(self.p), range(3)):
            for results, beats in ((1, 1), (2, 1), (3, 4)):
                yield self.job(*self.operands(rng, results, beats), n, split)
        for results, beats in ((1, 64), (8, 8)):
            yield self.job(*self.operands(rng, results, beats), 2, 0)

    def corners(self) -> Iterator[Job]:
        p, rng = self.p, np.random.default_rng(11)
        a, w, x = self.operands(rng, 2, 6)
        extremes = product((-128, 127), (-128, 127), (-127, 127))
        for (y, z, v), split in product(extremes, range(3)):
            both = np.broadcast_to(np.array([y, z])[:, None], a.shape)
            yield self.job(both, np.full_like(w, v), x, 1, split, f"all {y} and {z} times {v}")
        yield from self.alone()
        for n in range(1 << p["NW"]):
            yield self.job(*self.operands(rng, 2, 2), n, 3 if n == 1 else 0, f"n = {n}, split 3 once")
        for n, place in product(rates(p), range(p["M"])):
            yield self.job(a, w, np.full_like(x, place), n, 1, f"index {place} everywhere")
        a, w, x = self.operands(rng, 1, 40)
        yield self.job(np.full_like(a, -128), np.full_like(w, -127), x, 1, 0, "wraps a narrow accumulator")

    def alone(self) -> Iterator[Job]:
        """Each lane alone, and each lane's weight alone at -128."""
        p, rng = self.p, np.random.default_rng(13)
        for n, split in product(rates(p), range(3)):
            a, _, x = self.operands(rng, p["D"], 1)
            yield self.job(a, np.eye(p["D"], dtype=np.int64)[:, None] * -101, x, n, split, "lanes alone")
        for lane in range(p["D"]):
            a, w, x = self.operands(rng, 1, 1)
            w[..., lane] = -128
            yield self.job(a, w, x, 1, 2, f"weight -128 in lane {lane} alone")

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        p, (n, segments) = self.p, in_use(cfg["n"], cfg["split"], self.p["M"])
        total, sums = np.zeros((2, 4), dtype=np.int64), list[Beat]()
        for beat in seen["s"]:
            a, w, x = self.read(beat)
            total = total + sparse_nm_dot(a, w, x, n, p["M"], segments)
            if beat["last"]:
                sums.append({"data": pack(total, p["ACC_W"])})
                total = np.zeros_like(total)
        return {"out": sums}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        illegal = cfg["n"] not in rates(self.p) or cfg["split"] == 3
        return {"err": int(any(illegal or -128 in unpack(beat["w"], 8, self.p["D"]) for beat in seen["s"]))}

    def read(self, beat: Beat) -> tuple[Ints, Ints, Ints]:
        """Windows int[2, D M], weights and indices int[D] of a beat."""
        p = self.p
        a = np.stack([unpack(beat[f], 8, p["D"] * p["M"]) for f in ("a0", "a1")])
        return a, unpack(beat["w"], 8, p["D"]), unpack(beat["x"], p["XW"], p["D"], signed=False)

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        p, (n, segments) = self.p, in_use(job.cfg["n"], job.cfg["split"], self.p["M"])
        if job.cfg["n"] not in rates(p):
            yield "illegal n"
        if job.cfg["split"] == 3:
            yield "illegal split"
        for _, beat in trace.moved["s"]:
            yield f"{n} of {p['M']}/{segments} segments"
            yield from self.lanes(*self.read(beat), n, segments)
        yield from (b for b in pipe_bins(trace) if b != PIPE_BINS[2])      # that one is of a pipeline of two stages
        if any(s["stage 2"] and s["stage 3"] and not trace.ready["out"][t] for t, s in enumerate(trace.states)):
            yield FLOW[2]

    def lanes(self, a: Ints, w: Ints, x: Ints, n: int, segments: int) -> Iterator[str]:
        """Bins of the operands of one beat."""
        p = self.p
        picked = a[:, positions(x, n, p["M"])]
        for d in range(p["D"]):
            yield f"lane {d}/borrow {int(picked[0, d] * w[d] < 0)}"
            if w[d] == -128:
                yield f"lane {d}/weight -128"
            if n < p["M"]:
                yield f"lane {d}/index {x[d]}"
        sums = sparse_nm_dot(a, w, x, n, p["M"], segments)
        yield from (f"segment {s}/signs {'-' if sums[0, s] < 0 else '+'}{'-' if sums[1, s] < 0 else '+'}" for s in range(4))
        if segments == 1 and abs(sums[0, 0]) == p["D"] * 127 * 128:
            yield f"fullest field {'-' if sums[0, 0] < 0 else '+'}"
        if n == 2 < p["M"] and np.any(x[::2] == x[1::2]):
            yield "index repeated"


BENCH = ChainBench
