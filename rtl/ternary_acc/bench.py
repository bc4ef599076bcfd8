"""Bench of ``ternary_acc``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import ClassVar

import numpy as np

from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack, wrap
from rtl.harness.pipe_bins import pipe_bins
from rtl.harness.unit import Beat
from rtl.ternary_acc.contract import UNIT
from rtl.ternary_acc.golden import Ints, ternary_gemv, tri2_decode, tri2_encode, trit_pack5, trit_unpack5


class TernaryBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"s": ("a", "w", "last")}
    outputs: ClassVar = {"out": ("data",)}
    flags = ("err",)

    @property
    def code_w(self) -> int:
        """Width of one weight code: two bits a weight, or a byte for five."""
        return 8 if self.p["PACK"] else 2

    def encode(self, t: Ints) -> Ints:
        return trit_pack5(t).astype(np.int64) if self.p["PACK"] else tri2_encode(t)

    def weights(self, raw: int) -> tuple[Ints, Ints]:
        """(weights int[NO, L], codes) of a beat's ``w``; illegal codes read as 0."""
        p = self.p
        codes = unpack(raw, self.code_w, p["NO"] * p["WB"] // self.code_w, signed=False)
        t, _ = trit_unpack5(codes) if p["PACK"] else tri2_decode(codes)
        return t.reshape(p["NO"], p["L"]), codes

    def job(self, a: Ints, t: Ints, name: str = "") -> Job:
        """Results of a: int[D, C, L] with ternary t: int[D, C, NO, L], C beats each."""
        sums = np.einsum("dcl,dcol->do", a, t)
        expected: dict[str, list[Beat]] = {"out": [{"data": pack(s, self.p["ACC_W"])} for s in sums]}
        return self.coded(a, self.encode(t), name, expected)

    def coded(self, a: Ints, codes: Ints, name: str = "", expected: Mapping[str, list[Beat]] | None = None) -> Job:
        """The same from codes int[D, C, NO, codes of an output], illegal ones included."""
        beats = [{"a": pack(a[d, c], self.p["A_W"]), "w": pack(codes[d, c], self.code_w), "last": int(c == a.shape[1] - 1)}
                 for d, c in product(range(a.shape[0]), range(a.shape[1]))]
        return Job({"s": beats}, {}, {"beats": len(beats)}, expected or {}, name)

    def operands(self, rng: np.random.Generator, results: int, beats: int) -> tuple[Ints, Ints]:
        p, top = self.p, 1 << (self.p["A_W"] - 1)
        return rng.integers(-top, top, (results, beats, p["L"])), rng.integers(-1, 2, (results, beats, p["NO"], p["L"]))

    def random_job(self, rng: np.random.Generator) -> Job:
        a, t = self.operands(rng, int(rng.integers(1, 5)), int(rng.integers(1, 7)))
        if rng.random() < 0.75:
            return self.job(a, t)
        codes = self.encode(t)
        spoilt = rng.random(codes.shape) < 0.05
        return self.coded(a, np.where(spoilt, rng.integers(243, 256, codes.shape) if self.p["PACK"] else 2, codes))

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for results, beats in ((1, 1), (1, 2), (2, 1), (5, 3), (1, 64), (8, 8)):
            yield self.job(*self.operands(rng, results, beats))

    def corners(self) -> Iterator[Job]:
        p, low = self.p, -(1 << (self.p["A_W"] - 1))
        a, t = self.operands(np.random.default_rng(11), 2, 40)
        for x, y in product((low, -low - 1), (-1, 0, 1)):
            yield self.job(np.full_like(a, x), np.full_like(t, y), f"all {x} times {y}")
        alone = np.eye(p["L"], dtype=np.int64)[:, None, :] * 3
        for y in (-1, 1):
            rows = np.full((p["L"], 1, p["NO"], p["L"]), y, dtype=np.int64)
            yield self.job(alone, rows * (1 - 2 * (np.arange(p["NO"]) & 1))[:, None], f"each lane alone times {y}")
        yield from self.every_code(a)

    def every_code(self, a: Ints) -> Iterator[Job]:
        """All codes in all places; the legal ones alone (no flag), and each first illegal one alone in each place."""
        packed, places = self.p["PACK"], self.p["WB"] // self.code_w * self.p["NO"]
        for most in (243, 256) if packed else (4,):
            codes = (np.arange(most)[:, None] + np.arange(places)) % most
            shaped = codes.reshape(most, 1, self.p["NO"], -1)
            yield self.coded(np.resize(a, (most, 1, self.p["L"])), shaped, f"codes below {most} in every place")
        first = 243 if packed else 2
        for place in {0, places - 1}:
            codes = np.zeros((1, 1, places), dtype=np.int64)
            codes[..., place] = first
            yield self.coded(a[:1, :1], codes.reshape(1, 1, self.p["NO"], -1), f"code {first} in place {place} alone")

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        p, total = self.p, np.zeros(self.p["NO"], dtype=np.int64)
        sums: list[Beat] = []
        for beat in seen["s"]:
            total = total + ternary_gemv(unpack(beat["a"], p["A_W"], p["L"]), self.weights(beat["w"])[0])
            if beat["last"]:
                sums.append({"data": pack([wrap(int(y), p["ACC_W"]) for y in total], p["ACC_W"])})
                total = np.zeros_like(total)
        return {"out": sums}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        limit = 243 if self.p["PACK"] else 2
        codes = [self.weights(beat["w"])[1] for beat in seen["s"]]
        return {"err": int(any(np.any(c >= limit) if self.p["PACK"] else np.any(c == limit) for c in codes))}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        p = self.p
        low = pack(np.full(p["L"], -(1 << (p["A_W"] - 1))), p["A_W"])
        for _, beat in trace.moved["s"]:
            t, codes = self.weights(beat["w"])
            yield from {f"weight {t[o, i]}/lane {i}" for o, i in np.ndindex(t.shape)}
            if p["PACK"]:
                yield from (f"byte {c}" for c in {0, 121, 242, 243, 255} & set(codes.tolist()))
            elif np.any(codes == 2):
                yield "illegal code"
            if beat["a"] == low and np.all(t == -1):
                yield "lowest activations times -1"
        yield from pipe_bins(trace)


BENCH = TernaryBench
