"""Bench of ``shift_mac`` with FP16 activations: all kinds of numbers, distances from 0 to beyond the clamp."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import ClassVar

import numpy as np

from rtl.base_fp16_mac.golden import fp16_value
from rtl.bitmod_unit.golden import Step, accumulate
from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack, wrap
from rtl.harness.pipe_bins import pipe_bins
from rtl.harness.unit import Beat
from rtl.shift_mac.contract import UNIT, most_beats, places
from rtl.shift_mac.golden import Ints, fp16_product, fp16_step, shift_fp16

ONE, SMALLEST, LARGEST, NEGATIVE = 0x3C00, 0x0001, 0x7BFF, 0x8000


def kind(a: int, code: int, b: int) -> str:
    """Kind of an activation and of its product."""
    m, _, bad = fp16_value(a)
    grown, _, over = fp16_product(a, code, b)
    if bad:
        return "illegal"
    if over:
        return "above 65504"
    if abs(m) >= 1024 or m == 0:
        return "normal" if m else "zero"
    return "subnormal that becomes normal" if abs(grown) >= 1024 else "subnormal"


class ShiftFp16Bench(Bench):
    unit = UNIT
    inputs: ClassVar = {"s": ("a", "w", "mask", "last")}
    outputs: ClassVar = {"out": ("data", "exp")}
    flags = ("err",)

    def job(self, a: Ints, code: Ints, mask: Ints, name: str = "") -> Job:
        """Results of a: uint16[D, C, L] with codes and mask of the same shape, C beats each."""
        beats = [{"a": pack(a[d, c], 16), "w": pack(code[d, c], self.p["B"]), "mask": pack(mask[d, c], 1),
                  "last": int(c == a.shape[1] - 1)} for d, c in product(range(a.shape[0]), range(a.shape[1]))]
        return Job({"s": beats}, {}, {"beats": len(beats)}, {}, name)

    def lane0(self, results: Sequence[Sequence[tuple[int, int]]], name: str) -> Job:
        """Results of (activation, code) in lane 0, one a beat; the other lanes are masked and hold infinities."""
        shape = (len(results), len(results[0]), self.p["L"])
        a, code, mask = np.full(shape, 0x7C00), np.full(shape, (1 << self.p["B"]) - 1), np.zeros(shape, dtype=np.int64)
        a[..., 0], code[..., 0], mask[..., 0] = np.array(results)[..., 0], np.array(results)[..., 1], 1
        return self.job(a, code, mask, name)

    def operands(self, rng: np.random.Generator, results: int, beats: int) -> tuple[Ints, Ints, Ints]:
        """Any codes, values of one size, or far apart; zeros and masked lanes between them; a beat may take the last away."""
        shape, style = (results, beats, self.p["L"]), rng.random()
        if style < 0.4:
            a = rng.integers(0, 1 << 16, shape)
        elif style < 0.7:
            a = (rng.normal(size=shape) * 2.0 ** rng.integers(-24, 12)).astype(np.float16).view(np.uint16).astype(np.int64)
        else:
            a = (rng.integers(0, 2, shape) << 15) | (rng.integers(0, 31, shape) << 10) | rng.integers(0, 3, shape) * 511
        if rng.random() < 0.8:
            a = np.where((a >> 10) & 31 == 31, a & 0x83FF, a)
        a = np.where(rng.random(shape) < 0.1, a & NEGATIVE, a)
        share = rng.choice([0.0, 0.6, 1.0, 1.0], shape[:2])[..., None]
        code, mask = rng.integers(0, 1 << self.p["B"], shape), (rng.random(shape) < share).astype(np.int64)
        if beats > 1 and rng.random() < 0.4:
            a[:, 1], code[:, 1], mask[:, 1] = a[:, 0] ^ NEGATIVE, code[:, 0], mask[:, 0]
        return a, code, mask

    @property
    def most(self) -> int:
        return most_beats(self.p["L"], self.p["ACC_W"])

    def random_job(self, rng: np.random.Generator) -> Job:
        return self.job(*self.operands(rng, int(rng.integers(1, 5)), int(rng.integers(1, 1 + min(self.most, 6)))))

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for results, beats in ((1, 1), (1, 2), (2, 1), (5, 3), (1, min(self.most, 64)), (8, 8)):
            yield self.job(*self.operands(rng, results, beats))

    def corners(self) -> Iterator[Job]:
        lanes, codes = self.p["L"], 1 << self.p["B"]
        ones = np.ones((1, min(self.most, 128), lanes), dtype=np.int64)
        for largest, c in product((LARGEST, LARGEST | NEGATIVE), (0, codes - 1)):
            yield self.job(largest * ones, c * ones, ones, "as far as it goes")
        yield self.job(LARGEST * ones, 0 * ones, 0 * ones, "all masked")
        every = (np.arange(codes)[:, None, None] + np.arange(lanes)) % codes
        yield self.job(np.full_like(every, ONE + 1), every, np.ones_like(every), "every code in every lane")
        alone = np.eye(lanes, dtype=np.int64)[:, None, :]
        yield self.job(np.full_like(alone, ONE | NEGATIVE), np.full_like(alone, 1), alone, "each lane alone, others masked")
        yield self.job(alone * 0x7C00, 0 * alone, np.ones_like(alone), "infinity in each lane")
        small = (*(1 << i for i in range(11)), *((2 << i) - 1 for i in range(11)), 0, 0x0401, 0x0800)
        yield self.lane0([[(a | s, c)] for a in small for s in (0, NEGATIVE) for c in range(codes)], "subnormals")
        large = [(e << 10) | f for e in range(22, 31) for f in (0, 1, 0x3FF)]
        yield self.lane0([[(a, c)] for a in large for c in range(codes)], "around 65504")
        far = [(0x0400 + (d << 10), f) for d in range(1, 30) for f in (1, 0x3FF)]
        for s in (0, NEGATIVE):
            yield self.lane0([[(big, 0), (s | f | 0x0400, 0)] for big, f in far], "beats apart, smaller second")
            yield self.lane0([[(s | f | 0x0400, 0), (big, 0)] for big, f in far], "beats apart, smaller first")
        if lanes > 1:
            a = np.array([[[big, f | 0x0400, *[0] * (lanes - 2)]] for big, f in far])
            yield self.job(a, np.zeros_like(a), np.ones_like(a), "lanes apart")
        if self.most >= 3:
            yield self.lane0([[(LARGEST, 0), (LARGEST | NEGATIVE, 0), (a, 0)] for a in (SMALLEST, 0x03FF, 0x0400, ONE, 0)],
                             "cancelled, then more")
        yield self.lane0([[(LARGEST, 1)], [(0, 1)]], "nothing after a large result")

    def steps(self, beat: Beat) -> tuple[Step | None, bool]:
        lanes, b = self.p["L"], self.p["B"]
        a, w, mask = (unpack(beat[f], width, lanes, signed=False).tolist() for f, width in (("a", 16), ("w", b), ("mask", 1)))
        return fp16_step(a, w, b, mask)

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        sums: list[Beat] = []
        steps: list[Step | None] = []
        for x in seen["s"]:
            steps.append(self.steps(x)[0])
            if x["last"]:
                m, e = shift_fp16(steps)
                sums.append({"data": wrap(m, self.p["ACC_W"]), "exp": e})
                steps = []
        return {"out": sums}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        return {"err": int(any(self.steps(x)[1] for x in seen["s"]))}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        p, full = self.p, (1 << self.p["L"]) - 1
        m, e, zero = 0, 0, False
        for _, x in trace.moved["s"]:
            a, codes = unpack(x["a"], 16, p["L"], signed=False), unpack(x["w"], p["B"], p["L"], signed=False)
            for place, lane in places(p["L"]).items():
                if x["mask"] >> lane & 1:
                    yield f"code {codes[lane]}/{place}"
                    yield f"{kind(int(a[lane]), int(codes[lane]), p['B'])}/{place}"
            yield "mask all" if x["mask"] == full else "mask some" if x["mask"] else "mask none"
            step, _ = self.steps(x)
            yield from reached(m, e, step, zero)
            m, e, _ = accumulate(m, e, step)
            zero = m == 0 and (e > 0 or zero)
            if x["last"]:
                if e == 0:
                    yield "nothing in a result"
                m, e, zero = 0, 0, False
        yield from pipe_bins(trace)


def reached(m: int, e: int, step: Step | None, cancelled: bool) -> Iterator[str]:
    """What the arithmetic of a beat comes to, behind a sum (m, e) that may have cancelled to zero."""
    if step is None:
        yield "no lane counts"
        return
    if cancelled and e > step.exp:
        yield "cancelled to zero, then more"
    yield from (f"distance {d}" for d in step.distances)
    if step.jam:
        yield "jam of products"
    if accumulate(m, e, step)[2]:
        yield "jam of the accumulator" if step.exp > e else "jam of a step"
