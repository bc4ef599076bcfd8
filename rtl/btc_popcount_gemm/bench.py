"""Bench of ``btc_popcount_gemm``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np

from rtl.btc_popcount_gemm.contract import UNIT, clamped, pairs
from rtl.btc_popcount_gemm.golden import Ints, btc_gemm, plane_product
from rtl.harness.bench import Bench, Job, Seen, Trace, pack
from rtl.harness.unit import Beat


def to_number(bits: Ints) -> int:
    """Bits of an array as one integer, the first one lowest."""
    return int.from_bytes(np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little").tobytes(), "little")


def to_bits(number: int, rows: int, length: int) -> Ints:
    """Inverse of :func:`to_number`: int64[rows, length]."""
    raw = np.frombuffer(number.to_bytes((rows * length + 7) // 8, "little"), dtype=np.uint8)
    return np.unpackbits(raw, bitorder="little")[:rows * length].reshape(rows, length).astype(np.int64)


class PopcountBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"s": ("a", "w", "last")}
    outputs: ClassVar = {"out": ("data", "last")}
    cfg = ("pa", "pw", "bipolar")
    flags = ("err",)

    def planes(self, cfg: Mapping[str, int]) -> tuple[int, int]:
        """Plane counts in use: activations, weights."""
        return clamped(cfg["pa"], self.p["P_MAX"]), clamped(cfg["pw"], self.p["P_MAX"])

    def job(self, a: Ints, w: Ints, cfg: Mapping[str, int], rng: np.random.Generator | None = None, name: str = "") -> Job:
        """Tiles of codes a: int[D, MT, C, KW] by w: int[D, NT, C, KW], C words each."""
        p, (pa, pw) = self.p, self.planes(cfg)
        tiles, words = a.shape[0], a.shape[2]
        beats: list[Beat] = []
        for d, c, i, j in np.ndindex(tiles, words, pw, pa):
            # the last flag counts on the last plane pair of a word only: elsewhere it is noise
            whole = i == pw - 1 and j == pa - 1
            last = int(c == words - 1) if whole else 1 if rng is None else int(rng.integers(0, 2))
            beats.append({"a": to_number(a[d, :, c] >> j & 1), "w": to_number(w[d, :, c] >> i & 1), "last": last})
        rows = [self.row(y, m) for d in range(tiles) for y in
                [btc_gemm(a[d].reshape(p["MT"], -1), w[d].reshape(p["NT"], -1), pa, pw, bool(cfg["bipolar"]))]
                for m in range(p["MT"])]
        return Job({"s": beats}, cfg, {"tiles": tiles, "kwords": words, "pa": pa, "pw": pw, "mt": p["MT"]}, {"out": rows}, name)

    def row(self, y: Ints, m: int) -> Beat:
        return {"data": pack(y[m], self.p["ACC_W"]), "last": int(m == self.p["MT"] - 1)}

    def operands(self, rng: np.random.Generator, tiles: int, words: int, cfg: Mapping[str, int]) -> tuple[Ints, Ints]:
        p, (pa, pw) = self.p, self.planes(cfg)
        return (rng.integers(0, 1 << pa, (tiles, p["MT"], words, p["KW"])),
                rng.integers(0, 1 << pw, (tiles, p["NT"], words, p["KW"])))

    def random_job(self, rng: np.random.Generator) -> Job:
        most = min(self.p["P_MAX"] + 1, (1 << self.p["PW"]) - 1)
        low, high = (0, most) if rng.random() < 0.2 else (1, min(3, self.p["P_MAX"]))
        pa, pw, bipolar = (int(rng.integers(x, y + 1)) for x, y in ((low, high), (low, high), (0, 1)))
        cfg = {"pa": pa, "pw": pw, "bipolar": bipolar}
        large = self.planes(cfg)[0] * self.planes(cfg)[1] > 9
        tiles, words = (1, 1) if large else (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        return self.job(*self.operands(rng, tiles, words, cfg), cfg, rng)

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for n, (pa, pw) in enumerate(pairs(self.p)):
            sizes = ((1, 1), (2, 3), (4, 1)) if pa * pw <= 4 else ((1, 1), (2, 2)) if pa * pw <= 16 else ((1, 1),)
            for tiles, words in sizes:
                cfg = {"pa": pa, "pw": pw, "bipolar": (n + tiles) & 1}
                yield self.job(*self.operands(rng, tiles, words, cfg), cfg, rng)

    def corners(self) -> Iterator[Job]:
        rng, top = np.random.default_rng(11), self.p["P_MAX"]
        for pa, pw in pairs(self.p):
            for bipolar in (0, 1):
                cfg = {"pa": pa, "pw": pw, "bipolar": bipolar}
                yield self.job(*self.operands(rng, 1, 1, cfg), cfg, rng, "all pairs in both modes")
        for pa, pw in ((1, 1), (top, 1), (min(2, top), min(3, top))):
            cfg = {"pa": pa, "pw": pw, "bipolar": 0}
            a, w = self.operands(rng, 2, 1, cfg)
            for x, y in ((0, 0), (-1, -1), (0, -1), (1 << (pa - 1), 1 << (pw - 1)), (1 << (pa - 1), 1), (1, 1 << (pw - 1))):
                codes = np.full_like(a, x & ((1 << pa) - 1)), np.full_like(w, y & ((1 << pw) - 1))
                for bipolar in (0, 1):
                    yield self.job(*codes, {**cfg, "bipolar": bipolar}, rng, f"all codes {x} by {y}")
        yield from self.places(rng)
        for bad in ({"pa": 0}, {"pw": 0}, *(({"pa": top + 1}, {"pw": top + 1}) if top + 1 < 1 << self.p["PW"] else ())):
            cfg = {"pa": 1, "pw": 1, "bipolar": 0, **bad}
            yield self.job(*self.operands(rng, 2, 1, cfg), cfg, rng, "illegal plane count, clamped and flagged")

    def places(self, rng: np.random.Generator) -> Iterator[Job]:
        """Each position of k alone, in every row; then a sum that leaves a narrow accumulator."""
        p, top = self.p, self.p["P_MAX"]
        cfg, few = {"pa": 1, "pw": 1, "bipolar": 0}, min(24, p["KW"])
        alone = np.broadcast_to(np.eye(p["KW"], dtype=np.int64)[:, None], (p["KW"], p["MT"], p["KW"]))[:, :, None]
        ones = np.ones((few, p["NT"], 1, p["KW"]), dtype=np.int64)
        for part in (alone[:few], alone[-few:]):
            yield self.job(part, ones, cfg, rng, "a position of k alone")
        wide = {"pa": top, "pw": top, "bipolar": 1}
        a, w = self.operands(rng, 1, 8 if top < 5 else 1, wide)
        yield self.job(a * 0, w * 0, wide, rng, "wraps in a narrow accumulator")

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        p, (pa, pw) = self.p, self.planes(cfg)
        total = np.zeros((p["MT"], p["NT"]), dtype=np.int64)
        rows: list[Beat] = []
        for t, x in enumerate(seen["s"]):
            i, j = t % (pa * pw) // pa, t % pa
            a, w = to_bits(x["a"], p["MT"], p["KW"]), to_bits(x["w"], p["NT"], p["KW"])
            total = total + plane_product(a, w, i, j, pa, pw, bool(cfg["bipolar"]))
            if x["last"] and i == pw - 1 and j == pa - 1:
                rows += [self.row(total, m) for m in range(p["MT"])]
                total = np.zeros_like(total)
        return {"out": rows}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        return {"err": int(bool(seen["s"]) and (cfg["pa"], cfg["pw"]) != self.planes(cfg))}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        cfg, (pa, pw), words = job.cfg, self.planes(job.cfg), 0
        mode = "bipolar" if cfg["bipolar"] else "two's complement"
        if (pa, pw) in pairs(self.p) and trace.moved["out"]:
            yield f"pa {pa}, pw {pw}, {mode}"
        for planes in (cfg["pa"], cfg["pw"]):
            yield from ["planes 0"] * (planes == 0) + ["planes above P_MAX"] * (planes > self.p["P_MAX"])
        for t, beat in trace.moved["s"]:
            i, j = divmod(trace.states[t]["pair"], pa)
            signs = (i == pw - 1) + (j == pa - 1)
            if signs and not cfg["bipolar"]:
                yield "both sign planes" if signs == 2 else "one sign plane"
            words += signs == 2
            if signs == 2 and beat["last"]:
                yield "one word" if words == 1 else "many words"
                words = 0
        for t, state in enumerate(trace.states):
            if state["out"] and not trace.ready["out"][t]:
                yield f"stall: row {state['row']}"
            if state["out"] and state["s1"] and state["row"] < self.p["MT"] - 1:
                yield "next tile waits behind a drain"


BENCH = PopcountBench
