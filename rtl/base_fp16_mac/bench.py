"""Bench of ``base_fp16_mac``: bit for bit numpy's float32 at AM = 23."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import ClassVar

import numpy as np

from rtl.base_fp16_mac.contract import UNIT
from rtl.base_fp16_mac.golden import fp16_mac, fp16_value
from rtl.harness.bench import Bench, Job, Seen, Trace
from rtl.harness.unit import Beat

Pair = tuple[int, int]
EDGE = (0x0000, 0x8000, 0x0001, 0x83FF, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x3C01, 0x7BFF, 0xFBFF, 0x7C00, 0xFE01)


def kind(code: int) -> str:
    e, f = (code >> 10) & 31, code & 1023
    return "illegal" if e == 31 else "normal" if e else "subnormal" if f else "zero"


class Fp16MacBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"s": ("a", "w", "last")}
    outputs: ClassVar = {"out": ("data",)}
    flags = ("err",)

    def job(self, results: Sequence[Sequence[Pair]], name: str = "") -> Job:
        beats = [{"a": a, "w": w, "last": int(i == len(r) - 1)} for r in results for i, (a, w) in enumerate(r)]
        expected = {"out": [{"data": float32(r)} for r in results]} if self.p["AM"] == 23 else {}
        return Job({"s": beats}, {}, {"pairs": len(beats)}, expected, name)

    def pairs(self, rng: np.random.Generator, n: int) -> list[Pair]:
        """Codes at random, or values of one size so that sums cancel and round."""
        if rng.random() < 0.5:
            codes = rng.integers(0, 1 << 16, (n, 2))
            if rng.random() < 0.7:
                codes = np.where((codes >> 10) & 31 == 31, codes & 0x83FF, codes)
        else:
            codes = rng.normal(size=(n, 2)).astype(np.float16).view(np.uint16).astype(np.int64)
        pairs = [(int(a), int(w)) for a, w in codes]
        if n > 1 and rng.random() < 0.4:
            at = int(rng.integers(1, n))
            pairs[at] = (pairs[at - 1][0] ^ 0x8000, pairs[at - 1][1])             # cancels exactly
        return pairs

    def random_job(self, rng: np.random.Generator) -> Job:
        return self.job([self.pairs(rng, int(rng.integers(1, 9))) for _ in range(int(rng.integers(1, 5)))])

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for results, n in ((1, 1), (1, 2), (3, 1), (5, 3), (1, 64), (8, 8)):
            yield self.job([self.pairs(rng, n) for _ in range(results)])

    def corners(self) -> Iterator[Job]:
        yield self.job([[(a, w)] for a, w in product(EDGE, EDGE)], "edges of the format")
        yield self.job([[(a, 0x3C00), (w, 0x3C00)] for a, w in product(EDGE[:11], EDGE[:11])], "sums of edges")
        one, rng = 0x3C00, np.random.default_rng(3)
        yield self.job([[(one, one), (one, 0x0400 + (e << 10) + f)] for e in range(14) for f in (0, 1, 0x200)], "alignment")
        ulp = [[(0x3C00, 0x7800), (0x3C01, 0x1000 + (e << 10)), (0xBC01, 0x1000 + (e << 10))] for e in range(20)]
        yield self.job(ulp, "far apart, then back")
        yield self.job([self.pairs(rng, 40) for _ in range(12)], "long sums")

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        ends = [0, *(i + 1 for i, b in enumerate(seen["s"]) if b["last"])]
        pairs = [(b["a"], b["w"]) for b in seen["s"]]
        return {"out": [{"data": fp16_mac(pairs[i:j], self.p["AM"])} for i, j in pairwise(ends)]}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        return {"err": int(any(fp16_value(b[x])[2] for b in seen["s"] for x in ("a", "w")))}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        length = 0
        for _, b in trace.moved["s"]:
            yield f"a {kind(b['a'])}/w {kind(b['w'])}"
            length += 1
            if b["last"]:
                yield "one pair" if length == 1 else "many pairs"
                length = 0
        nonzero = any(kind(b["a"]) != "zero" and kind(b["w"]) != "zero" for _, b in trace.moved["s"])
        if nonzero and any(b["data"] == 0 for _, b in trace.moved["out"]):
            yield "exact cancellation"
        if trace.bubbles():
            yield "gap in a result"
        for t, state in enumerate(trace.states):
            if state["stage 1"] and state["stage 2"] and not trace.ready["out"][t]:
                yield "stall: result waits, next in stage 1"


def float32(pairs: Sequence[Pair]) -> int:
    """The oracle: numpy's own float32, one product and one addition at a time."""
    total = np.float32(0.0)
    for a, w in pairs:
        x, y = (np.uint16(c & 0x8000 | 0x7BFF if kind(c) == "illegal" else c).view(np.float16) for c in (a, w))
        total = np.float32(total + np.float32(x) * np.float32(y))
    return int(total.view(np.uint32))


BENCH = Fp16MacBench
