"""Bench of ``nbit_unpack``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack
from rtl.harness.unit import Beat
from rtl.nbit_unpack.contract import UNIT
from rtl.nbit_unpack.golden import widen


class UnpackBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"s": ("data",)}
    outputs: ClassVar = {"out": ("data",)}
    cfg = ("signed",)

    def job(self, codes: NDArray[np.int64], signed: int, name: str = "") -> Job:
        """Beats of codes: int[n, LANES], unsigned."""
        return Job({"s": [{"data": pack(c, self.p["B"])} for c in codes]}, {"signed": signed}, {"beats": len(codes)}, name=name)

    def random_job(self, rng: np.random.Generator) -> Job:
        codes = rng.integers(0, 1 << self.p["B"], (int(rng.integers(1, 12)), self.p["LANES"]))
        return self.job(codes, int(rng.integers(0, 2)))

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for n in (1, 2, 7, 64):
            yield self.job(rng.integers(0, 1 << self.p["B"], (n, self.p["LANES"])), n & 1)

    def corners(self) -> Iterator[Job]:
        every = np.arange(1 << self.p["B"])
        for signed in (0, 1):
            shifted = np.stack([np.roll(every, lane) for lane in range(self.p["LANES"])], axis=1)
            yield self.job(shifted, signed, "every code in every lane")

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        b, lanes = self.p["B"], self.p["LANES"]
        return {"out": [{"data": pack(widen(unpack(x["data"], b, lanes, signed=False), b, bool(cfg["signed"])), 8)}
                        for x in seen["s"]]}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        for _, beat in trace.moved["s"]:
            yield from (f"code {c}/signed {job.cfg['signed']}"
                        for c in unpack(beat["data"], self.p["B"], self.p["LANES"], signed=False))
        if trace.stalls():
            yield "stall"
        if trace.bubbles():
            yield "gap"


BENCH = UnpackBench
