"""Bench of ``flash_page_gemv``: pages with protected weights, wrong bits in every field, thresholds at the edge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import ClassVar, NamedTuple

import numpy as np

from rtl.flash_page_gemv.contract import UNIT
from rtl.flash_page_gemv.golden import COPIES, Entry, Ints, flash_gemv, secded_decode, secded_encode, signed, vote
from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack, wrap
from rtl.harness.unit import Beat

BEYOND = ("none", "before", "here", "beyond").index("beyond")
HERE = BEYOND - 1


class Page(NamedTuple):
    """Bytes of a page, its vector, nine copies of the threshold, the protected weights."""

    raw: Ints
    x: Ints
    thr9: Ints
    entries: Sequence[Entry]


def same(value: int) -> Ints:
    return np.full(COPIES, value, dtype=np.int64)


class FlashBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"x": ("data",), "h": ("thr", "ne"), "e": ("data",), "d": ("data",)}
    outputs: ClassVar = {"out": ("data",)}
    flags = ("cnt_fixed", "cnt_drop", "cnt_zero")
    counters = flags

    def job(self, pages: Sequence[Page], *, exact: bool = False, name: str = "") -> Job:
        """``exact``: the contract holds (all addresses in the page, equally many protected weights)."""
        p, beats = self.p, {s: list[Beat]() for s in self.inputs}
        for g in pages:
            beats["x"] += self.split(g.x)
            beats["h"].append({"thr": pack(g.thr9, 8), "ne": len(g.entries)})
            beats["e"] += [{"data": e.addr | (e.chk | (e.copy1 | e.copy2 << 8) << 6) << p["AW"]} for e in g.entries]
            beats["d"] += self.split(g.raw)
        work = {"pages": len(pages), "entries": len(pages[0].entries), "page": p["PAGE"], "cols": p["COLS"], "macs": p["NMAC"]}
        return Job(beats, {}, work if exact else {}, {}, name)

    def split(self, values: Ints) -> list[Beat]:
        return [{"data": pack(v, 8)} for v in values.reshape(-1, self.p["NMAC"])]

    def entry(self, addr: int, value: int, flip: int = 0, copies: tuple[int, int] = (0, 0)) -> Entry:
        """A protected weight with wrong bits: ``flip`` of {check bits, address}, ``copies`` of each copy."""
        word = (addr | secded_encode(addr, self.p["AW"]) << self.p["AW"]) ^ flip
        return Entry(word & ((1 << self.p["AW"]) - 1), word >> self.p["AW"], value & 255 ^ copies[0], value & 255 ^ copies[1])

    def page(self, rng: np.random.Generator, addresses: Iterable[int], rate: float = 0.0, thr: int | None = None) -> Page:
        """Weights at random, the given ones protected; bits are wrong at ``rate``."""
        p, scale = self.p, int(rng.choice([2, 20, 127]))
        w = np.clip(rng.normal(0, scale, p["PAGE"]).round(), -128, 127).astype(np.int64)

        def noise(bits: int) -> int:
            return int(((rng.random(bits) < rate) << np.arange(bits)).sum())
        raw = np.array([int(v) & 255 ^ noise(8) for v in w])
        entries = [self.entry(a, int(w[a % p["PAGE"]]), noise(p["AW"] + 6), (noise(8), noise(8))) for a in addresses]
        limit = int(rng.integers(0, 129)) if thr is None else thr
        thr9 = np.array([limit ^ noise(8) for _ in range(COPIES)])
        return Page(raw, rng.integers(-128, 128, p["COLS"]) & 255, thr9, entries)

    def some(self, rng: np.random.Generator, most: int) -> list[int]:
        n = int(rng.integers(0, min(most, self.p["PAGE"]) + 1))
        return sorted(rng.choice(self.p["PAGE"], n, replace=False).tolist())

    def random_job(self, rng: np.random.Generator) -> Job:
        rate, pages = float(rng.choice([0.0, 1e-4, 1e-3, 1e-2, 1e-1])), []
        for _ in range(int(rng.integers(1, 3))):
            at = self.some(rng, 12)
            if at and rng.random() < 0.5:                          # now and then twice, too late, beyond the page
                at = sorted([*at, at[0]]) if rng.random() < 0.5 else [*at, at[0]]
            if rng.random() < 0.2:
                at.append((1 << self.p["AW"]) - 1)
            pages.append(self.page(rng, at, rate))
        return self.job(pages)

    def sweep(self) -> Iterator[Job]:
        rng, n = np.random.default_rng(7), self.p["PAGE"]
        if n > 4096:                                               # the whole page as published, 1 % protected
            yield self.job([self.page(rng, sorted(rng.choice(n, 163, replace=False).tolist()))], exact=True)
            yield self.job([self.page(rng, [])], exact=True)
            return
        for pages, most in ((1, 0), (1, 1), (3, 1), (2, 0), (3, 5), (2, n // 4), (1, min(n, (1 << self.p["AW"]) - 1))):
            yield self.job([self.page(rng, sorted(rng.choice(n, most, replace=False).tolist())) for _ in range(pages)],
                           exact=True)

    def corners(self) -> Iterator[Job]:
        rng, n, aw = np.random.default_rng(3), self.p["PAGE"], self.p["AW"]
        places: tuple[list[int], ...] = ([0], [n - 1], [0, 1], [4, 5, 8, 9], [n - 2, n - 1], [6, 6], [7, 0, 3], [])
        yield self.job([self.page(rng, at) for at in places], name="places")
        yield self.job([self.page(rng, range(n if n < 1 << aw else n - 1), thr=0)], name="all protected")
        most = min(1 << aw, 256) - 1
        singles = [self.entry(i % n, 77, 1 << i % (aw + 6)) for i in range(most)]
        yield self.job([self.page(rng, [], thr=0)._replace(entries=singles)], name="one wrong bit of an address")
        doubles = [self.entry(i % n, 77, 1 << a | 1 << b) for i, (a, b) in enumerate(combinations(range(aw + 6), 2))]
        yield self.job([self.page(rng, [], thr=0)._replace(entries=doubles[i:i + most]) for i in range(0, len(doubles), most)],
                       name="two wrong bits of an address")
        raw, x = np.full(n, 100), np.arange(self.p["COLS"]) & 255
        for field in range(3):
            flips = [[1 << (i % 8) if f == field else 0 for f in range(3)] for i in range(16)]
            bad = raw.copy()
            bad[:16] ^= np.array([f[0] for f in flips])
            yield self.job([Page(bad, x, same(10), [self.entry(i, 100, 0, (f[1], f[2])) for i, f in enumerate(flips)])],
                           name="one wrong bit of a value")
        levels = np.resize(np.array([64, 65, 63, -64, -65, -63, -128, 127, 0, 1]), n)
        for thr in (64, 127, 128, 0, 255):
            for wrong in (0, 4, 5):
                thr9 = same(thr) ^ np.where(np.arange(COPIES) < wrong, 0xFF, 0)
                yield self.job([Page(levels & 255, x, rng.permutation(thr9), [])], name=f"threshold {thr}, {wrong} bad copies")
        for w, v in ((128, 128), (127, 127), (128, 127)):
            yield self.job([Page(np.full(n, w), np.full(self.p["COLS"], v), same(128), [])], name=f"all {w} times {v}")
        if n < 1 << aw:
            out = [self.entry(a, 5) for a in (2, n, 3, (1 << aw) - 1, n - 1)]
            yield self.job([self.page(rng, [])._replace(entries=out), self.page(rng, [1, 2])], name="beyond the page")

    def pages(self, seen: Seen) -> Iterator[tuple[Page, int]]:
        """(page, weights of it that were taken) of each command; what was not taken is zero."""
        p, at = self.p, 0
        beats = p["PAGE"] // p["NMAC"]
        for i, h in enumerate(seen["h"]):
            x = self.joined(seen["x"][i * p["COLS"] // p["NMAC"]:(i + 1) * p["COLS"] // p["NMAC"]], p["COLS"])
            taken = seen["d"][i * beats:(i + 1) * beats]
            stored = [b["data"] for b in seen["e"][at:at + h["ne"]]]
            at += h["ne"]
            entries = [Entry(e & ((1 << p["AW"]) - 1), e >> p["AW"] & 63, e >> p["AW"] + 6 & 255, e >> p["AW"] + 14)
                       for e in stored]
            page = Page(self.joined(taken, p["PAGE"]), x, unpack(h["thr"], 8, COPIES, signed=False), entries)
            yield page, len(taken) * p["NMAC"]

    def joined(self, beats: Sequence[Beat], size: int) -> Ints:
        values = [unpack(b["data"], 8, self.p["NMAC"], signed=False) for b in beats]
        return np.concatenate([*values, np.zeros(size - len(values) * self.p["NMAC"], dtype=np.int64)])

    def golden(self, page: Page) -> tuple[Ints, int, int, int]:
        p = self.p
        return flash_gemv(page.raw, signed(page.x), page.thr9, page.entries, p["COLS"], p["AW"], p["NMAC"])

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        return {"out": [{"data": wrap(int(y), self.p["ACC_W"])} for page, taken in self.pages(seen)
                        for y in self.golden(page)[0][:taken // self.p["COLS"]]]}

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        counts = [self.golden(page)[1:] for page, _ in self.pages(seen)]
        return {f: int(sum(c[i] for c in counts)) for i, f in enumerate(self.flags)}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        for t, state in enumerate(trace.states):
            if state["place"] == HERE and trace.offers["d"][t] is None:
                yield "repair waits for the page"
            if state["busy"] and not state["place"] and state["todo"] and trace.offers["e"][t] is None:
                yield "page waits for protected weights"
            if state["out"] and not trace.ready["out"][t]:
                if state["place"] == HERE:
                    yield "repair while the output stalls"
                if state["s1"]:
                    yield "stall: result waits, next in stage 1"
        for page, taken in self.pages(trace.seen(self.inputs)):
            if taken == self.p["PAGE"]:
                yield from self.reached(page)

    def reached(self, page: Page) -> Iterator[str]:
        """What a page's weights and their protection come to."""
        p, w, thr = self.p, np.abs(signed(page.raw)), vote(page.thr9)
        used: list[int] = []
        beat = 0
        for e in page.entries:
            addr, fixed, bad = secded_decode(e.addr, e.chk, p["AW"])
            if fixed:
                yield "one wrong bit in the address" if addr != e.addr else "one wrong bit in the check bits"
            if bad or addr >= p["PAGE"] or addr // p["NMAC"] < beat:
                yield "dropped: " + ("not correctable" if bad else "beyond the page" if addr >= p["PAGE"] else "stale")
                beat = beat if bad or addr < p["PAGE"] else p["PAGE"]
                continue
            yield from self.votes(int(page.raw[addr]), e)
            yield f"repaired: lane {addr % p['NMAC']}"
            beat = addr // p["NMAC"]
            used.append(addr)
        yield from self.places(used)
        if not page.entries:
            yield "no protected weight"
        free = np.ones(p["PAGE"], dtype=bool)
        free[used] = False
        zeroed = ((w > thr) & free).reshape(-1, p["NMAC"]).sum(axis=1).tolist()
        yield from (f"zeroed in a beat: {n}" for n in {0, 1, 2} & set(zeroed))
        if np.any((w == thr) & free):
            yield "at the threshold"
        if np.any((w == 128) & free):
            yield "-128"
        if (wrong := int((page.thr9 != thr).sum())) in (0, 4):
            yield f"threshold: {wrong} bad copies"

    def votes(self, read: int, e: Entry) -> Iterator[str]:
        if read != e.copy1 == e.copy2:
            yield "wrong copy: read"
        if e.copy1 != read == e.copy2:
            yield "wrong copy: first"
        if e.copy2 != read == e.copy1:
            yield "wrong copy: second"

    def places(self, used: Sequence[int]) -> Iterator[str]:
        lanes = self.p["NMAC"]
        for a, b in pairwise(used):
            if a == b:
                yield "same weight twice"
            elif a // lanes == b // lanes:
                yield "two in a beat"
            elif a // lanes + 1 == b // lanes:
                yield "adjacent beats"
        if 0 in used:
            yield "first weight"
        if self.p["PAGE"] - 1 in used:
            yield "last weight"


BENCH = FlashBench
