"""Bench of ``base_mac_dp``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rtl.base_mac_dp.contract import UNIT
from rtl.base_mac_dp.golden import mac_dot
from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack, wrap
from rtl.harness.unit import Beat

Ints = NDArray[np.int64]


class MacBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"s": ("a", "w", "last")}
    outputs: ClassVar = {"out": ("data",)}

    def job(self, a: Ints, w: Ints, name: str = "") -> Job:
        """Dot products of a: int[D, C, L] with w of the same shape, C beats each."""
        p = self.p
        beats = [{"a": pack(a[d, c], p["A_W"]), "w": pack(w[d, c], p["B_W"]), "last": int(c == a.shape[1] - 1)}
                 for d, c in product(range(a.shape[0]), range(a.shape[1]))]
        sums = np.einsum("dcl,dcl->d", a, w)
        return Job({"s": beats}, {}, {"beats": len(beats)}, {"out": [{"data": wrap(int(s), p["ACC_W"])} for s in sums]}, name)

    def operands(self, rng: np.random.Generator, results: int, beats: int) -> tuple[Ints, Ints]:
        shape, a, b = (results, beats, self.p["L"]), 1 << (self.p["A_W"] - 1), 1 << (self.p["B_W"] - 1)
        keep = rng.random((2, *shape)) > 0.15
        return rng.integers(-a, a, shape) * keep[0], rng.integers(-b, b, shape) * keep[1]

    def random_job(self, rng: np.random.Generator) -> Job:
        return self.job(*self.operands(rng, int(rng.integers(1, 5)), int(rng.integers(1, 7))))

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for results, beats in ((1, 1), (1, 2), (2, 1), (5, 3), (1, 64), (8, 8)):
            yield self.job(*self.operands(rng, results, beats))

    def corners(self) -> Iterator[Job]:
        p, shape = self.p, (2, 40, self.p["L"])
        lows = -(1 << (p["A_W"] - 1)), -(1 << (p["B_W"] - 1))
        for x, y in product((lows[0], -lows[0] - 1), (lows[1], -lows[1] - 1)):
            yield self.job(np.full(shape, x, dtype=np.int64), np.full(shape, y, dtype=np.int64), f"all {x} times {y}")
        for lane in range(p["L"]):
            a = np.zeros((1, 1, p["L"]), dtype=np.int64)
            a[..., lane] = 3
            yield self.job(a, np.full(a.shape, -2, dtype=np.int64), f"lane {lane} alone")

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        p, total = self.p, 0
        sums: list[Beat] = []
        for beat in seen["s"]:
            total += int(mac_dot(unpack(beat["a"], p["A_W"], p["L"]), unpack(beat["w"], p["B_W"], p["L"])))
            if beat["last"]:
                sums.append({"data": wrap(total, p["ACC_W"])})
                total = 0
        return {"out": sums}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        p, length = self.p, 0
        names = {-1: "negative", 0: "zero", 1: "positive"}
        low = {-(1 << (p["A_W"] - 1))}, {-(1 << (p["B_W"] - 1))}
        for _, beat in trace.moved["s"]:
            a, w = unpack(beat["a"], p["A_W"], p["L"]), unpack(beat["w"], p["B_W"], p["L"])
            yield from (f"a {names[int(x)]}/w {names[int(y)]}" for x, y in zip(np.sign(a), np.sign(w), strict=True))
            if set(a.tolist()) == low[0] and set(w.tolist()) == low[1]:
                yield "extreme times extreme"
            length += 1
            if beat["last"]:
                yield "one beat" if length == 1 else "many beats"
                length = 0
        for t, state in enumerate(trace.states):
            if state["stage 1"] and state["stage 2"] and not trace.ready["out"][t]:
                yield "stall: result waits, next in stage 1"
        at = [t for t, _ in trace.moved["s"]]
        if any(trace.offers["s"][t] is None and trace.ready["s"][t] for t in range(at[0], at[-1])) if at else False:
            yield "gap in a result"


BENCH = MacBench
