"""Bench of ``bitmod_unit``: groups of every data type, all codes, alignments from 0 to beyond the clamp."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import ClassVar, NamedTuple

import numpy as np

from rtl.base_fp16_mac.golden import fp16_value
from rtl.bitmod_unit.contract import TERMS, UNIT, in_use
from rtl.bitmod_unit.golden import accumulate, bitmod_group, bitmod_terms, steps
from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack, wrap
from rtl.harness.unit import Beat

ONE, SMALLEST, LARGEST = 0x3C00, 0x0001, 0x7BFF
#: Special values {term 1, term 0}: in units of 0.5 +16, -16, +10, 14 = 16 - 2.
SPECIAL = (0x07, 0x0F, 0x35, 0xB7)
WIDTH = {0: 8, 1: 6, 2: 4, 4: 4, 5: 3}


class Group(NamedTuple):
    """Whole quads of activations and codes, the special value's number, the scale."""

    act: Sequence[int]
    codes: Sequence[int]
    sel: int = 0
    scale: int = 1


def special_code(code: int, dtype: int) -> bool:
    return (in_use(dtype) == 4 and code & 15 == 8) or (in_use(dtype) == 5 and code & 7 == 4)


class BitmodBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"s": ("act", "wcode", "svsel", "last", "scale")}
    outputs: ClassVar = {"out": ("man", "exp")}
    cfg = ("dtype", "sv_file")
    flags = ("err",)

    def quads(self, dtype: int) -> int:
        """Most quads that the accumulator holds."""
        return (1 << (self.p["ACC_W"] - 17)) // TERMS[in_use(dtype)]

    def job(self, groups: Sequence[Group], dtype: int, rng: np.random.Generator, svs: Sequence[int] = SPECIAL,
            name: str = "") -> Job:
        """Scale counts on a group's last quad alone: elsewhere it is noise. Codes' unused bits are noise as well."""
        beats, top, used = [], 1 << self.p["D_W"], WIDTH[in_use(dtype)]
        for g in groups:
            for q in range(0, len(g.act), 4):
                last = q + 4 >= len(g.act)
                codes = [c & ((1 << used) - 1) | int(rng.integers(0, 256)) >> used << used for c in g.codes[q:q + 4]]
                beats.append({"act": pack(g.act[q:q + 4], 16), "wcode": pack(codes, 8), "svsel": g.sel, "last": int(last),
                              "scale": g.scale if last else int(rng.integers(0, top))})
        sizes = {len(g.act) for g in groups}
        work = {"groups": len(groups), "quads": sizes.pop() // 4, "terms": TERMS[in_use(dtype)],
                "scale_bits": self.p["D_W"]} if len(sizes) == 1 else {}
        return Job({"s": beats}, {"dtype": dtype, "sv_file": pack(svs, 8)}, work, {}, name)

    def group(self, rng: np.random.Generator, quads: int) -> Group:
        n, style = 4 * quads, rng.random()
        if style < 0.4:
            act = rng.integers(0, 1 << 16, n)
        elif style < 0.7:
            act = (rng.normal(size=n) * 2.0 ** rng.integers(-20, 12)).astype(np.float16).view(np.uint16).astype(np.int64)
        else:
            act = (rng.integers(0, 2, n) << 15) | (rng.integers(0, 31, n) << 10) | rng.integers(0, 3, n) * 511
        if rng.random() < 0.8:
            act = np.where((act >> 10) & 31 == 31, act & 0x83FF, act)
        act = np.where(rng.random(n) < 0.15, act & 0x8000, act)
        codes = np.where(rng.random(n) < 0.2, rng.choice([0, 4, 8, 255]), rng.integers(0, 256, n))
        if quads > 1 and rng.random() < 0.4:                    # the second quad takes the first away
            act[4:8], codes[4:8] = act[:4] ^ 0x8000, codes[:4]
        return Group(act.tolist(), codes.tolist(), int(rng.integers(0, 4)), int(rng.integers(0, 1 << self.p["D_W"])))

    def random_job(self, rng: np.random.Generator) -> Job:
        dtype = int(rng.choice([0, 1, 2, 4, 5] * 3 + [3, 6, 7]))
        most = min(self.quads(dtype), 5)
        groups = [self.group(rng, int(rng.integers(1, most + 1))) for _ in range(int(rng.integers(1, 5)))]
        return self.job(groups, dtype, rng, rng.integers(0, 256, 4).tolist())

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for dtype, (groups, quads) in product(TERMS, ((1, 1), (2, 1), (9, 1), (3, 2), (2, 3), (3, 4), (2, 32))):
            if quads <= self.quads(dtype):
                yield self.job([self.group(rng, quads) for _ in range(groups)], dtype, rng)

    def corners(self) -> Iterator[Job]:
        rng, top = np.random.default_rng(3), (1 << self.p["D_W"]) - 1
        scales = (0, 1, top // 2 + 1, top)
        for dtype in TERMS:
            yield self.job([Group([ONE, 0, ONE, 0], [c, 0, 0, c], sel) for c in range(1 << WIDTH[dtype])
                            for sel in (range(4) if special_code(c, dtype) else (0,))], dtype, rng, name=f"every code {dtype}")
            most = self.quads(dtype)
            for a, c in product((LARGEST, LARGEST | 0x8000), (1 << (WIDTH[dtype] - 1), (1 << (WIDTH[dtype] - 1)) - 1)):
                yield self.job([Group([a] * 4 * most, [c] * 4 * most, 0, top)], dtype, rng, name="as far as it goes")
        edge = [a | s for a in (0, SMALLEST, 0x03FF, 0x0400, ONE, LARGEST, 0x7C00, 0x7E01) for s in (0, 0x8000)]
        yield self.job([Group([a, b, 0, ONE], [1, 1, 1, 0], 0, scales[i % 4]) for i, (a, b) in
                        enumerate(product(edge, edge[::3]))], 2, rng, name="edges of FP16")
        far = [(0x0400 + (d << 10), f) for d in range(1, 30) for f in (1, 0x3FF)]
        yield self.job([Group([0x0400 | f, big, 0, 0], [1, 1, 0, 0]) for big, f in far], 2, rng, name="lanes apart")
        yield self.job([Group([0, big, 0, 0, sign | f | 0x0400, 0, 0, 0], [1] * 8) for big, f in far for sign in (0, 0x8000)],
                       2, rng, name="steps apart, smaller second")
        yield self.job([Group([0, sign | f | 0x0400, 0, 0, big, 0, 0, 0], [1] * 8) for big, f in far for sign in (0, 0x8000)],
                       2, rng, name="steps apart, smaller first")
        yield self.job([Group([LARGEST, 0, 0, 0, LARGEST | 0x8000, 0, 0, 0, a, 0, 0, 0], [1] * 12) for a in edge], 2, rng,
                       name="cancelled, then more")
        yield self.job([Group([0, LARGEST, LARGEST | 0x8000, 0, a, 0, 0, 0], [1] * 8) for a in edge], 2, rng,
                       name="cancelled within a step, then more")
        yield self.job([Group([0] * 4, [7] * 4, 0, top), Group([ONE] * 4, [0] * 4, 0, top)], 4, rng, name="nothing counts")
        for dtype in (3, 6, 7):
            yield self.job([self.group(rng, 2)], dtype, rng, name=f"illegal type {dtype}")
        for lane in range(4):
            act = [0x7C00 if i == lane else ONE for i in range(4)]
            yield self.job([Group(act, [1] * 4)], 2, rng, name=f"infinity in lane {lane}")
        yield self.job([Group([ONE] * 4, [1] * 4)], 2, rng, name="nothing illegal")
        yield self.job([self.group(np.random.default_rng(i), 1) for i in range(40)], 0, rng, name="many short groups")

    def groups(self, cfg: Mapping[str, int], seen: Seen) -> Iterator[Group]:
        """Complete groups among the beats that were taken."""
        act: list[int] = []
        codes: list[int] = []
        for b in seen["s"]:
            act += unpack(b["act"], 16, 4, signed=False).tolist()
            codes += unpack(b["wcode"], 8, 4, signed=False).tolist()
            if b["last"]:
                yield Group(act, codes, b["svsel"], b["scale"])
                act, codes = [], []

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        svs = unpack(cfg["sv_file"], 8, 4, signed=False).tolist()
        found = [bitmod_group(g.act, g.codes, cfg["dtype"], svs, g.sel, g.scale) for g in self.groups(cfg, seen)]
        return {"out": [{"man": wrap(m, self.p["ACC_W"] + self.p["D_W"]), "exp": e} for m, e in found]}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        bad = any(fp16_value(a)[2] for b in seen["s"] for a in unpack(b["act"], 16, 4, signed=False).tolist())
        return {"err": int(bool(seen["s"]) and (bad or cfg["dtype"] not in TERMS))}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        dtype, svs = job.cfg["dtype"], unpack(job.cfg["sv_file"], 8, 4, signed=False).tolist()
        for t, state in enumerate(trace.states):
            if trace.offers["s"][t] is not None:
                yield f"type {dtype}/term {state['term']}"
            elif state["done"] == 0 and trace.moved["s"] and trace.moved["s"][0][0] < t < trace.moved["s"][-1][0]:
                yield "gap between terms"
            if state["done"] and state["left"]:
                yield "dequantiser busy at hand-over"
                if state["left"] == 1 and state["out"] and not trace.ready["out"][t]:
                    yield "stall: result waits, next complete"
        for g in self.groups(job.cfg, trace.seen(self.inputs)):
            yield "one quad" if len(g.act) == 4 else "many quads"
            yield from self.reached(g, dtype, svs)

    def reached(self, g: Group, dtype: int, svs: Sequence[int]) -> Iterator[str]:
        """What the arithmetic of a group comes to."""
        for i, (a, c) in enumerate(zip(g.act, g.codes, strict=True)):
            if fp16_value(a)[2]:
                yield "illegal activation"
            if special_code(c, dtype) and any(t[2] for t, _ in bitmod_terms(c, dtype, svs, g.sel)):
                yield from (f"special value in lane {i % 4}", f"special value {g.sel}")
        m, e, zero = 0, 0, False
        for step in steps(g.act, g.codes, dtype, svs, g.sel):
            if step is None:
                yield "no lane counts"
                continue
            if zero and e > step.exp:
                yield "cancelled to zero, then more"
            yield from (f"distance {d}" for d in step.distances)
            if step.jam:
                yield "jam of products"
            below = m != 0 and step.exp > e
            m, e, lost = accumulate(m, e, step)
            zero = m == 0
            if lost:
                yield "jam of the accumulator" if below else "jam of a step"
        if (m, e) == (0, 0):
            yield "nothing in a group"


BENCH = BitmodBench
