"""Bench of ``shift_mac``: integer activations here, FP16 in ``bench_fp16``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import ClassVar

import numpy as np

from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack, wrap
from rtl.harness.pipe_bins import pipe_bins
from rtl.harness.unit import Beat, Params
from rtl.shift_mac.bench_fp16 import ShiftFp16Bench
from rtl.shift_mac.contract import UNIT, places
from rtl.shift_mac.golden import Ints, pot_value, shift_dot


class ShiftBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"s": ("a", "w", "mask", "last")}
    outputs: ClassVar = {"out": ("data", "exp")}
    flags = ("err",)

    def job(self, a: Ints, code: Ints, mask: Ints, name: str = "") -> Job:
        """Dot products of a: int[D, C, L] with codes and mask of the same shape, C beats each."""
        p = self.p
        beats = [{"a": pack(a[d, c], p["A_W"]), "w": pack(code[d, c], p["B"]), "mask": pack(mask[d, c], 1),
                  "last": int(c == a.shape[1] - 1)} for d, c in product(range(a.shape[0]), range(a.shape[1]))]
        sums = (a * pot_value(code, p["B"]) * mask).sum(axis=(1, 2))
        expected = {"out": [{"data": wrap(int(s), p["ACC_W"]), "exp": 0} for s in sums]}
        return Job({"s": beats}, {}, {"beats": len(beats)}, expected, name)

    def operands(self, rng: np.random.Generator, results: int, beats: int) -> tuple[Ints, Ints, Ints]:
        """Mostly whole beats; some with lanes at random masked, some all masked."""
        shape, top = (results, beats, self.p["L"]), 1 << (self.p["A_W"] - 1)
        share = rng.choice([0.0, 0.6, 1.0, 1.0], shape[:2])[..., None]
        mask = (rng.random(shape) < share).astype(np.int64)
        return rng.integers(-top, top, shape), rng.integers(0, 1 << self.p["B"], shape), mask

    def random_job(self, rng: np.random.Generator) -> Job:
        return self.job(*self.operands(rng, int(rng.integers(1, 5)), int(rng.integers(1, 7))))

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for results, beats in ((1, 1), (1, 2), (2, 1), (5, 3), (1, 64), (8, 8)):
            yield self.job(*self.operands(rng, results, beats))

    def corners(self) -> Iterator[Job]:
        p, lanes, low = self.p, self.p["L"], -(1 << (self.p["A_W"] - 1))
        codes, shape = 1 << p["B"], (2, 40, lanes)
        ones = np.ones(shape, dtype=np.int64)
        for x, c in product((low, -low - 1), (0, codes // 2 - 1, codes // 2, codes - 1)):
            yield self.job(x * ones, c * ones, ones, f"all {x} with all codes {c}")
        yield self.job(low * ones, (codes - 1) * ones, 0 * ones, "all masked")
        every = (np.arange(codes)[:, None, None] + np.arange(lanes)) % codes
        alone = np.eye(lanes, dtype=np.int64)[:, None, :]
        for x in (low, -low - 1, -1):
            yield self.job(np.full_like(every, x), every, np.ones_like(every), f"every code in every lane times {x}")
            yield self.job(np.full_like(alone, x), np.full_like(alone, codes - 2), alone, "each lane alone, others masked")
            yield self.job(alone * x, np.full_like(alone, codes - 2), np.ones_like(alone), "each lane alone, others zero")

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        p, total = self.p, 0
        sums: list[Beat] = []
        for x in seen["s"]:
            total += shift_dot(unpack(x["a"], p["A_W"], p["L"]), unpack(x["w"], p["B"], p["L"], signed=False), p["B"],
                               unpack(x["mask"], 1, p["L"], signed=False))
            if x["last"]:
                sums.append({"data": wrap(total, p["ACC_W"]), "exp": 0})
                total = 0
        return {"out": sums}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        return {"err": 0}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        p, full = self.p, (1 << self.p["L"]) - 1
        extreme = pack(np.full(p["L"], -(1 << (p["A_W"] - 1))), p["A_W"]), (1 << (p["L"] * p["B"])) - 1, full
        for _, x in trace.moved["s"]:
            codes = unpack(x["w"], p["B"], p["L"], signed=False)
            yield from (f"code {codes[lane]}/{place}" for place, lane in places(p["L"]).items() if x["mask"] >> lane & 1)
            yield "mask all" if x["mask"] == full else "mask some" if x["mask"] else "mask none"
            if (x["a"], x["w"], x["mask"]) == extreme:
                yield "lowest activations, largest shift, negated"
        yield from pipe_bins(trace)


def bench(params: Params) -> Bench:
    return ShiftFp16Bench(params) if params.get("FP") else ShiftBench(params)


BENCH = bench
