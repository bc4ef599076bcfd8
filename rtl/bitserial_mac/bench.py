"""Bench of ``bitserial_mac``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import ClassVar

import numpy as np

from rtl.bitserial_mac.contract import UNIT, clamped
from rtl.bitserial_mac.golden import Ints, bitserial_gemv, from_slices, to_slices
from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack, wrap
from rtl.harness.unit import Beat


class BitserialBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"a": ("data",), "w": ("data", "last")}
    outputs: ClassVar = {"out": ("data",)}
    cfg = ("wbits", "wsigned")
    flags = ("err",)

    def width(self, cfg: Mapping[str, int]) -> int:
        return clamped(cfg["wbits"], self.p["W_MAX"])

    def job(self, a: Ints, w: Ints, wbits: int, signed: int, rng: np.random.Generator | None = None, name: str = "") -> Job:
        """Dot products of a: int[D, C, LANES] with weights w of the same shape, C chunks each."""
        p, used = self.p, clamped(wbits, self.p["W_MAX"])
        results, chunks = a.shape[:2]
        slices = to_slices(w, used, p["BPC"], bool(signed))                     # [n, D, C, LANES]
        n = len(slices)
        # the last flag counts on the last slice of a chunk only: elsewhere it is noise
        noise = rng.integers(0, 2, (results, chunks, n)) if rng is not None else np.ones((results, chunks, n), dtype=np.int64)
        beats = [{"data": pack(slices[s, d, c], p["BPC"]), "last": int(c == chunks - 1) if s == n - 1 else int(noise[d, c, s])}
                 for d, c, s in product(range(results), range(chunks), range(n))]
        sums = np.einsum("dcl,dcl->d", a, w)
        return Job({"a": [{"data": pack(x, p["A_W"])} for x in a.reshape(-1, p["LANES"])], "w": beats},
                   {"wbits": wbits, "wsigned": signed},
                   {"results": results, "chunks": chunks, "wbits": used, "bpc": p["BPC"]},
                   {"out": [{"data": wrap(int(s), p["ACC_W"])} for s in sums]}, name)

    def limits(self, wbits: int, signed: int) -> tuple[int, int]:
        """Lowest and highest weight."""
        used = clamped(wbits, self.p["W_MAX"])
        return (-(1 << (used - 1)), (1 << (used - 1)) - 1) if signed else (0, (1 << used) - 1)

    def operands(self, rng: np.random.Generator, results: int, chunks: int, wbits: int, signed: int) -> tuple[Ints, Ints]:
        top, shape = 1 << (self.p["A_W"] - 1), (results, chunks, self.p["LANES"])
        low, high = self.limits(wbits, signed)
        return rng.integers(-top, top, shape), rng.integers(low, high + 1, shape)

    def random_job(self, rng: np.random.Generator) -> Job:
        results, chunks, signed = int(rng.integers(1, 4)), int(rng.integers(1, 5)), int(rng.integers(0, 2))
        most = min(self.p["W_MAX"] + 1, (1 << self.p["PW"]) - 1)
        wbits = int(rng.integers(0, most + 1)) if rng.random() < 0.25 else int(rng.integers(1, self.p["W_MAX"] + 1))
        return self.job(*self.operands(rng, results, chunks, wbits, signed), wbits, signed, rng)

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        sizes = ((1, 1), (1, 3), (2, 1), (5, 2))
        for w in range(1, self.p["W_MAX"] + 1):
            for i, (results, chunks) in enumerate((*sizes, (1, 16)) if w in (1, self.p["W_MAX"]) else sizes):
                yield self.job(*self.operands(rng, results, chunks, w, (i + w) & 1), w, (i + w) & 1, rng)

    def corners(self) -> Iterator[Job]:
        p, low = self.p, -(1 << (self.p["A_W"] - 1))
        shape = (2, 2, p["LANES"])
        for width, signed in product(sorted({1, *(w for w in (3, 5) if w < p["W_MAX"]), p["W_MAX"]}), (0, 1)):
            for x, y in product((low, -low - 1), self.limits(width, signed)):
                yield self.job(np.full(shape, x), np.full(shape, y), width, signed, name=f"all {x} times {y}")
        long: Ints = np.full((1, 48, p["LANES"]), low)
        yield self.job(long, np.full_like(long, self.limits(p["W_MAX"], 1)[0]), p["W_MAX"], 1, name="wraps if narrow")
        alone = np.eye(p["LANES"], dtype=np.int64)[:, None, :] * (-low // 2)
        for signed, end in product((0, 1), (0, 1)):
            yield self.job(alone, np.full_like(alone, self.limits(p["W_MAX"], signed)[end]), p["W_MAX"], signed,
                           name="each lane alone")
        a, w = self.operands(np.random.default_rng(11), 8, 1, p["W_MAX"], 0)
        yield self.job(a, w & 1, 0, 0, name="width 0 is read as 1, flagged")
        if p["W_MAX"] + 1 < 1 << p["PW"]:
            yield self.job(a, w, p["W_MAX"] + 1, 0, name="width above W_MAX is read as W_MAX, flagged")

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        p, signed, total = self.p, bool(cfg["wsigned"]), 0
        steps = -(-self.width(cfg) // p["BPC"])
        sums: list[Beat] = []
        for c in range(len(seen["w"]) // steps):
            beats = seen["w"][c * steps:(c + 1) * steps]
            slices = np.stack([unpack(x["data"], p["BPC"], p["LANES"], signed=False) for x in beats])
            a = unpack(seen["a"][c]["data"], p["A_W"], p["LANES"])
            total += bitserial_gemv(a, from_slices(slices, p["BPC"], signed), steps * p["BPC"], signed)
            if beats[-1]["last"]:
                sums.append({"data": wrap(total, p["ACC_W"])})
                total = 0
        return {"out": sums}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        return {"err": int(bool(seen["a"]) and cfg["wbits"] != self.width(cfg))}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        p, w, c, signed = self.p, self.width(job.cfg), job.cfg["wbits"], job.cfg["wsigned"]
        steps, top = -(-w // p["BPC"]), pack(np.full(p["LANES"], 1 << (p["BPC"] - 1)), p["BPC"])
        if c == 0 or c >= p["W_MAX"]:
            yield "width 0" if c == 0 else "width W_MAX" if c == p["W_MAX"] else "width above W_MAX"
        loads = {t for t, _ in trace.moved["a"]}
        for t, beat in trace.moved["w"]:
            yield f"W{w}/{'signed' if signed else 'unsigned'}"
            if trace.states[t]["slice"] == steps - 1:
                if beat["data"] & top:
                    yield f"top bit of the last slice {'subtracted' if signed else 'added'}"
                if w % p["BPC"]:
                    yield "last slice wider than the weight"
                if t in loads:
                    yield "activation load with last slice"
        lowest = [pack(x, p["BPC"]) for x in to_slices(np.full(p["LANES"], self.limits(w, 1)[0]), w, p["BPC"], True)]
        low_a = pack(np.full(p["LANES"], -(1 << (p["A_W"] - 1))), p["A_W"])
        if signed and [x["data"] for x in job.beats["w"][:steps]] == lowest and job.beats["a"][0]["data"] == low_a:
            yield "most negative times most negative"
        for t, state in enumerate(trace.states):
            if trace.offers["w"][t] is not None and not state["av"]:
                yield "stall: no activations"
            if state["s1"] and state["out"] and not trace.ready["out"][t]:
                yield "stall: result waits, next in stage 1"


BENCH = BitserialBench
