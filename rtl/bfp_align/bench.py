"""Bench of ``bfp_align``: blocks of every exponent, every distance below it, every code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np

from rtl.bfp_align.contract import UNIT
from rtl.bfp_align.golden import Ints, bfp_align, fp16_fixed
from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack
from rtl.harness.unit import Beat, Params

#: Fractions whose rounding differs: none, ones at either end, halves with neighbours, all ones.
FRACTIONS = (0, 1, 0x3FF, 0x200, 0x1FF, 0x2AA, 0x155, 0x3FE, 0x100, 0x180, 0x0C0, 0x300, 0x010, 0x018, 0x008, 0x00F)
INFINITIES = {0x7C00: "infinity", 0xFC00: "-infinity"}


class AlignBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"s": ("data",)}
    outputs: ClassVar = {"out": ("data", "exp", "last")}
    flags = ("err",)

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.beats = -(-self.p["B"] // self.p["LANES"])

    def job(self, blocks: Ints, name: str = "") -> Job:
        """Blocks of codes int[n, B]; the last beat of each is padded with zeros."""
        p = self.p
        padded = np.zeros((len(blocks), self.beats * p["LANES"]), dtype=np.int64)
        padded[:, :p["B"]] = blocks
        beats = [{"data": pack(row, 16)} for row in padded.reshape(-1, p["LANES"])]
        return Job({"s": beats}, {}, {"blocks": len(blocks), "block": p["B"], "lanes": p["LANES"]},
                   {"out": self.oracle(padded)}, name)

    def oracle(self, padded: Ints) -> list[Beat]:
        """By floating point: exponents of ``frexp``, rounding of ``rint``; binary64 holds every step exactly."""
        x = padded.astype(np.uint16).view(np.float16).astype(np.float64)
        x = np.where(np.isfinite(x), x, np.where(padded >> 15 == 1, -65504.0, 65504.0))
        largest = np.maximum(np.abs(x).max(axis=1), 2.0 ** -14)           # the smallest normal value, E = 1
        e = np.frexp(largest)[1] - 1 + 15
        most = (1 << (self.p["N"] - 1)) - 1
        m = np.clip(np.rint(x * 2.0 ** ((self.p["N"] - 2) - (e[:, None] - 15))), -most, most).astype(np.int64)
        return self.outputs_of(m, e)

    def outputs_of(self, m: Ints, e: Ints) -> list[Beat]:
        beats = m.reshape(len(m), self.beats, self.p["LANES"])
        return [{"data": pack(beats[b, i], self.p["N"]), "exp": int(e[b]), "last": int(i == self.beats - 1)}
                for b, i in np.ndindex(beats.shape[:2])]

    def values(self, rng: np.random.Generator, n: int) -> Ints:
        """Blocks with their own range of exponents each; infinities and NaNs in some."""
        shape = (n, self.p["B"])
        high = rng.integers(0, 31, (n, 1))
        field = np.maximum(high - rng.integers(0, 1 + rng.choice([0, 3, 12, 30], (n, 1)), shape), 0)
        fraction = np.where(rng.random(shape) < 0.5, rng.integers(0, 1024, shape), rng.choice(FRACTIONS, shape))
        codes = rng.integers(0, 2, shape) << 15 | field << 10 | fraction
        wild = (rng.random(shape) < 0.05) & (rng.random((n, 1)) < 0.1)
        mixed: Ints = np.where(wild, codes | 0x7C00, np.where(rng.random(shape) < 0.1, codes & 0x8000, codes))
        return mixed

    def random_job(self, rng: np.random.Generator) -> Job:
        return self.job(self.values(rng, int(rng.integers(1, 7))))

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for n in (1, 2, 3, 5, 16):
            yield self.job(self.values(rng, n))

    def filled(self, codes: Sequence[int] | Ints, first: int = 0) -> Ints:
        """Codes as blocks, each block led by ``first`` (0: by nothing); the lead moves through the block."""
        size = self.p["B"] - bool(first)
        c = np.resize(np.asarray(codes, dtype=np.int64), -(-len(codes) // size) * size).reshape(-1, size)
        if first:
            c = np.stack([np.insert(row, i % (size + 1), first) for i, row in enumerate(c)])
        return c

    def corners(self) -> Iterator[Job]:
        signs = np.array([0, 0x8000])[:, None]
        every = np.arange(1 << 16)
        if self.p["N"] == 8:                         # 20 000 edges: in the long tier
            yield self.job(self.filled(every), "every code")
        yield self.job(self.filled(every[np.isin(every & 0x3FF, FRACTIONS)]), "every exponent by itself")
        yield self.job(self.filled(np.concatenate([every[0x7BF0:0x7C10], every[0xFBF0:0xFC10]])), "around infinity")
        for e in (1, 2, 13, 29, 30):
            fields = np.arange(e + 1)
            codes = (signs[..., None] | fields[:, None] << 10 | np.array(FRACTIONS)).reshape(-1)
            yield self.job(self.filled(codes, e << 10 | 0x3FF), f"every distance below {e}")
        empty = np.zeros((4, self.p["B"]), dtype=np.int64)
        empty[1], empty[2], empty[3] = 0x8000, 1, 0x83FF
        yield self.job(np.concatenate([empty, self.filled([0x7BFF, 0xFBFF]), empty]), "zeros, subnormals, largest")
        lone = np.zeros((self.p["B"], self.p["B"]), dtype=np.int64)
        np.fill_diagonal(lone, np.resize([0x3C00, 0xBC01, 0x7BFF, 0x0401, 0x8001, 0x7C00, 0xFE00], self.p["B"]))
        yield self.job(lone, "one value in every place")

    def blocks(self, beats: Sequence[Beat]) -> Ints:
        """Whole blocks of the beats seen: int[n, C LANES]."""
        whole = len(beats) // self.beats * self.beats
        rows = [unpack(b["data"], 16, self.p["LANES"], signed=False) for b in beats[:whole]]
        return np.array(rows, dtype=np.int64).reshape(-1, self.beats * self.p["LANES"])

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        blocks = self.blocks(seen["s"])
        return {"out": self.outputs_of(*bfp_align(blocks, self.p["N"])[:2]) if len(blocks) else []}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        codes = [unpack(b["data"], 16, self.p["LANES"], signed=False) for b in seen["s"]]
        return {"err": int(bool(codes) and bool(fp16_fixed(np.array(codes))[2].any()))}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        blocks = self.blocks([b for _, b in trace.moved["s"]])
        if len(blocks):
            yield from self.kinds(blocks)
            yield from self.rounding(blocks)
        for t, s in enumerate(trace.states):
            if s["out"] and not trace.ready["out"][t]:
                behind = s["s1"] + s["reading"] + s["s2"] + s["s3"]
                if behind in (0, 4):
                    yield "stall: all stages full" if behind else "stall: nothing behind"
        for t, _ in trace.moved["s"]:
            s = trace.states[t]
            if s["reading"] and s["rd"] == s["wr"]:
                yield "place read and written at one edge"
        for i, ((t, _), (later, _)) in enumerate(pairwise(trace.moved["s"])):
            idle = any(trace.offers["s"][e] is None and trace.ready["s"][e] for e in range(t + 1, later))
            if idle and (i + 1) % self.beats:
                yield "gap in a block"
        # a block is read to its end while the next one is not complete
        if any(s["wr"] and not s["reading"] and s["s3"] for s in trace.states) or (self.beats == 1 and trace.bubbles()):
            yield "next block waits for its beats"

    def kinds(self, blocks: Ints) -> Iterator[str]:
        x, e, _ = fp16_fixed(blocks)
        lanes, top = self.p["LANES"], e.max(axis=1)
        leads = np.argwhere((e == top[:, None]) & ((e == top[:, None]).sum(axis=1) == 1)[:, None])[:, 1]
        yield from {f"largest in lane {i % lanes}" for i in leads.tolist()}
        yield from {f"largest in beat {i // lanes}" for i in leads.tolist()}
        yield from {f"E {v}" for v in top.tolist()} | {f"distance {v}" for v in (top[:, None] - e)[x != 0].tolist()}
        codes = set(blocks.reshape(-1).tolist())
        yield from (name for c, name in ((0, "zero"), (0x8000, "-0"), *INFINITIES.items()) if c in codes)
        nans = {c >> 15 for c in codes if c & 0x7FFF > 0x7C00}
        yield from (("NaN", "-NaN")[s] for s in nans)
        if np.any((np.abs(x) < 1024) & (x != 0)):
            yield "subnormal"
        if np.any(~x.any(axis=1)):
            yield "all zero"

    def rounding(self, blocks: Ints) -> Iterator[str]:
        n = self.p["N"]
        x, _, _ = fp16_fixed(blocks)
        m, top, _ = bfp_align(blocks, n)
        scaled = np.abs(x) * 2.0 ** (n - 11 - top[:, None].astype(float))      # exact: 41 bits
        away, tie = np.abs(m) - scaled, np.abs(scaled % 1 - 0.5) == 0
        clamp = np.rint(scaled) > np.abs(m)
        for sign, mine in (("+", blocks >> 15 == 0), ("-", blocks >> 15 == 1)):
            found = {"clamp": clamp, "tie up": tie & (away > 0) & ~clamp, "tie down": tie & (away < 0) & ~clamp,
                     "up": ~tie & (away > 0), "down": ~tie & (away < 0) & ~clamp, "exact": (away == 0) & (x != 0),
                     "to zero": (m == 0) & (x != 0)}
            yield from (f"{k}/{sign}" for k, v in found.items() if np.any(v & mine))


BENCH = AlignBench
