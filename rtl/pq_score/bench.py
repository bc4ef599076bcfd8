"""Bench of ``pq_score``: tables and codes of several queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import numpy as np

from rtl.harness.bench import Bench, Job, Seen, Trace, pack, unpack, wrap
from rtl.harness.unit import Beat, Params
from rtl.pq_score.contract import UNIT
from rtl.pq_score.golden import Ints, pq_score


class ScoreBench(Bench):
    unit = UNIT
    inputs: ClassVar = {"tbl": ("data",), "s": ("code", "last")}
    outputs: ClassVar = {"out": ("data",)}

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.groups, self.entries = -(-self.p["M"] // self.p["LANES"]), 1 << self.p["B"]
        self.top = 1 << (self.p["T_W"] - 1)

    def job(self, queries: Sequence[tuple[Ints, Ints]], name: str = "") -> Job:
        """Queries of (tables int[M, 2^B], codes int[tokens, M]). Codes of the padding are noise, its tables are 0."""
        p, rng = self.p, np.random.default_rng(5)
        shape, size = (self.groups, p["LANES"]), self.groups * p["LANES"]
        tables: list[Beat] = []
        beats: list[Beat] = []
        scores: list[Beat] = []
        for table, codes in queries:
            padded = np.zeros((size, self.entries), dtype=np.int64)
            padded[:p["M"]] = table
            tables += [{"data": pack(e, p["T_W"])} for e in padded.reshape(*shape, -1).swapaxes(1, 2).reshape(-1, p["LANES"])]
            noise = rng.integers(0, self.entries, (len(codes), size))
            noise[:, :p["M"]] = codes
            beats += [{"code": pack(noise.reshape(-1, *shape)[t, g], p["B"]),
                       "last": int(t == len(codes) - 1) if g == self.groups - 1 else int(rng.integers(0, 2))}
                      for t, g in np.ndindex(len(codes), self.groups)]
            chosen = np.arange(self.entries) == codes[..., None]                # the oracle: one-hot product
            scores += [{"data": wrap(int(v), p["ACC_W"])} for v in (chosen * table).sum(axis=(1, 2))]
        lengths = {len(codes) for _, codes in queries}
        work = {"queries": len(queries), "tokens": lengths.pop(), "subvectors": p["M"], "lanes": p["LANES"], "bits": p["B"]}
        return Job({"tbl": tables, "s": beats}, {}, {} if lengths else work, {"out": scores}, name)

    def query(self, rng: np.random.Generator, tokens: int) -> tuple[Ints, Ints]:
        return (rng.integers(-self.top, self.top, (self.p["M"], self.entries)),
                rng.integers(0, self.entries, (tokens, self.p["M"])))

    def random_job(self, rng: np.random.Generator) -> Job:
        return self.job([self.query(rng, int(rng.integers(1, 6))) for _ in range(int(rng.integers(1, 3)))])

    def sweep(self) -> Iterator[Job]:
        rng = np.random.default_rng(7)
        for queries, tokens in ((1, 1), (1, 2), (1, 32), (2, 1), (2, 7), (3, 5)):
            yield self.job([self.query(rng, tokens) for _ in range(queries)])

    def corners(self) -> Iterator[Job]:
        m, every = self.p["M"], np.arange(self.entries)
        table, _ = self.query(np.random.default_rng(3), 1)
        yield self.job([(table, np.stack([np.roll(every, j) for j in range(m)], axis=1))], "every code of every sub-vector")
        place = np.arange(m * self.entries).reshape(m, -1) % (2 * self.top) - self.top
        yield self.job([(place, np.repeat(every[:, None], m, axis=1))], "entries that tell their place")
        for value in (-self.top, self.top - 1):
            full = np.full((m, self.entries), value)
            yield self.job([(full, self.query(np.random.default_rng(4), 3)[1])], f"all entries {value}")
        single = np.zeros((m, m, self.entries), dtype=np.int64)
        for j in range(m):
            single[j, j] = self.top - 1 - np.arange(self.entries) % self.top
        rng = np.random.default_rng(9)
        yield self.job([(t, rng.integers(0, self.entries, (2, m))) for t in single], "one sub-vector alone")

    def tables(self, beats: Sequence[Beat]) -> Ints:
        """Whole tables of the beats seen: int[queries, C LANES, 2^B]."""
        per = self.groups * self.entries
        rows = [unpack(b["data"], self.p["T_W"], self.p["LANES"]) for b in beats[:len(beats) // per * per]]
        shaped = np.array(rows, dtype=np.int64).reshape(-1, self.groups, self.entries, self.p["LANES"])
        return shaped.swapaxes(2, 3).reshape(len(shaped), self.groups * self.p["LANES"], self.entries)

    def tokens(self, beats: Sequence[Beat]) -> Iterator[tuple[int, Ints]]:
        """(query, codes int[C LANES]) of each whole token."""
        query, step = 0, self.groups
        for at in range(0, len(beats) // step * step, step):
            token = beats[at:at + step]
            yield query, np.concatenate([unpack(b["code"], self.p["B"], self.p["LANES"], signed=False) for b in token])
            query += token[-1]["last"]

    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        tables = self.tables(seen["tbl"])
        return {"out": [{"data": wrap(int(pq_score(tables[q], codes[None])[0]), self.p["ACC_W"])}
                        for q, codes in self.tokens(seen["s"])]}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        seen, m = trace.seen(self.inputs), self.p["M"]
        tables, per_query = self.tables(seen["tbl"]), [0] * (1 + len(seen["tbl"]))
        for q, codes in self.tokens(seen["s"]):
            per_query[q] += 1
            yield from (f"sub-vector {j}/code {c >> max(self.p['B'] - 4, 0)}" for j, c in enumerate(codes[:m].tolist()))
            score = int(pq_score(tables[q], codes[None])[0])
            if score in (-m * self.top, m * (self.top - 1)):
                yield "lowest score" if score < 0 else "highest score"
        yield from {"one token" if n == 1 else "many tokens" for n in per_query if n}
        if len(tables) > 1:
            yield "next query's tables"
        if any(b["last"] and (i + 1) % self.groups for i, b in enumerate(seen["s"])):
            yield "last flag within a token"
        yield from self.stalls(trace)

    def stalls(self, trace: Trace) -> Iterator[str]:
        for t, s in enumerate(trace.states):
            waits = s["out"] and not trace.ready["out"][t]
            if waits and s["s1"]:
                yield "stall: score waits, next in stage 1"
            if waits and not s["full"] and trace.offers["tbl"][t] is not None:
                yield "stall: tables wait for a score"
            if trace.offers["s"][t] is not None and not s["full"]:
                yield "stall: codes before tables"
        for stream, bin_, size in (("s", "gap in a token", self.groups), ("tbl", "gap in a table", self.entries)):
            for i, ((t, _), (later, _)) in enumerate(pairwise(trace.moved[stream])):
                idle = any(trace.offers[stream][e] is None and trace.ready[stream][e] for e in range(t + 1, later))
                if idle and (i + 1) % size:
                    yield bin_


BENCH = ScoreBench
