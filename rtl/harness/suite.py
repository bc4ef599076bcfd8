"""The tests every unit passes, as cocotb tests; ``run.verify`` starts them in a simulator for one set of parameters.

Settings come through the environment: ``PERFBOARD_BENCH`` (module with ``BENCH``), ``PERFBOARD_PARAMS`` (JSON),
``PERFBOARD_SEEDS`` (first and number), ``PERFBOARD_RECORD`` (file for the JSON record).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from rtl.harness.bench import Bench, Job, Trace
from rtl.harness.cycle_model import MismatchError, assert_contract, assert_law, replay
from rtl.harness.streams import Player, Rates
from rtl.harness.unit import Beat

BENCH: Bench = import_module(os.environ["PERFBOARD_BENCH"]).BENCH(json.loads(os.environ["PERFBOARD_PARAMS"]))
FIRST, COUNT = (int(x) for x in os.environ.get("PERFBOARD_SEEDS", "0,64").split(","))
CROSSED = (1.0, 0.7, 0.3)
RECORD: dict[str, Any] = {"cycles": [], "bins": [], "missed": [], "edges": 0, "seeds": [FIRST, FIRST + COUNT - 1],
                          "clock_seed": int(time.time()) & 0xFFFFFFF, "seconds": {}}
_hit: set[str] = set()


class Session:
    """One player between two resets: the cycle model and the sticky flags go on from job to job."""

    def __init__(self, dut: Any, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.player = Player(dut, BENCH)
        self.started = False

    async def fresh(self, edges: int = 2) -> None:
        if self.started:
            await self.player.reset(self.rng, edges)
        else:
            await self.player.start(self.rng)
            self.started = True
        self.model = BENCH.unit.model(BENCH.p)
        self.sticky: dict[str, int] = {}

    async def run(self, job: Job, rates: Rates, *, stop_at: int | None = None) -> Trace:
        """Play a job and check it in full: scoreboard, flags, cycle model, coverage."""
        trace = await self.player.play(job, rates, self.rng, stop_at=stop_at)
        try:
            replay(self.model, job.cfg, trace)
            self._score(job, trace, whole=stop_at is None)
        except MismatchError as e:
            raise MismatchError(f"{job.name or 'job'} {dict(job.cfg)} {dict(job.work)}: {e}") from None
        _hit.update(BENCH.cover(job, trace))
        return trace

    def _score(self, job: Job, trace: Trace, *, whole: bool) -> None:
        seen = trace.seen(BENCH.inputs)
        due = BENCH.predict(job.cfg, seen)
        for s in BENCH.outputs:
            got = [b for _, b in trace.moved[s]]
            compare(s, got, due[s], whole)
            if whole and s in job.expected:
                compare(f"{s} (oracle)", got, list(job.expected[s]), whole)
        if whole:
            for f, v in BENCH.predict_flags(job.cfg, seen).items():
                before = self.sticky.get(f, 0)
                self.sticky[f] = (before + v) & 0xFFFF if f in BENCH.counters else before | v
            for f, v in self.sticky.items():
                if trace.flags[f] != v:
                    raise MismatchError(f"{f} is {trace.flags[f]}, golden {v}")


def compare(stream: str, got: list[Beat], due: list[Beat], whole: bool) -> None:
    """Scoreboard: every output as expected, none left over (``whole``), none too many."""
    for i, (g, d) in enumerate(zip(got, due, strict=False)):
        if dict(g) != dict(d):
            raise MismatchError(f"{stream} beat {i}: {dict(g)}, golden {dict(d)}")
    if len(got) > len(due) or (whole and len(got) < len(due)):
        raise MismatchError(f"{stream}: {len(got)} beats, golden {len(due)}")


def rates(rng: np.random.Generator) -> Rates:
    """Every stream with its own probability."""
    return Rates(of={s: float(rng.choice(CROSSED)) for s in (*BENCH.inputs, *BENCH.outputs)})


def cycles(job: Job) -> int:
    return int(BENCH.unit.cycles(**job.work))


def corner_rates() -> Iterator[Rates]:
    yield Rates()
    yield Rates(valid=0.6, ready=0.4)


@cocotb.test()
async def contract(dut: Any) -> None:
    """Full rate: T equals the closed formula for every job of the sweep, from reset and right behind another job."""
    s = Session(dut, 1)
    for job in BENCH.sweep():
        await s.fresh()
        for _ in range(2):
            trace = await s.run(job, Rates())
            RECORD["cycles"].append({"work": dict(job.work), "contract": cycles(job), "rtl": trace.took()})
            if trace.took() != cycles(job):
                note(s, "contract")                  # the run that differs is known then
            assert_contract(trace, cycles(job), dict(job.work))
    assert RECORD["cycles"], "the sweep has no jobs"
    note(s, "contract")


@cocotb.test()
async def stall_law(dut: Any) -> None:
    """Sources always valid, sinks ready with p = 0.3: T + S exactly (class R), bounded (class E)."""
    s = Session(dut, 2)
    for job in BENCH.sweep():
        await s.fresh()
        assert_law(await s.run(job, Rates(ready=0.3)), cycles(job), BENCH.unit.law, steady=True)
        if len(BENCH.inputs) == 1 and BENCH.unit.law == "R":
            assert_law(await s.run(job, Rates(valid=0.5, ready=0.5)), cycles(job), "R", steady=True)
    note(s, "stall_law")


@cocotb.test()
async def random_stall(dut: Any) -> None:
    """All streams stalled at random: data and every edge as the models say; the fixed seeds and one of the clock."""
    s = Session(dut, 3)
    for seed in (*range(FIRST, FIRST + COUNT), RECORD["clock_seed"]):
        s.rng = np.random.default_rng(seed)
        await s.fresh()
        try:
            await s.run(BENCH.random_job(s.rng), rates(s.rng))
        except MismatchError as e:
            raise MismatchError(f"seed {seed}: {e}") from None
    note(s, "random_stall")


@cocotb.test()
async def corners(dut: Any) -> None:
    """Directed jobs at full rate and with stalls."""
    s = Session(dut, 4)
    for job, r in product(BENCH.corners(), corner_rates()):
        await s.fresh()
        await s.run(job, r)
    note(s, "corners")


@cocotb.test()
async def reset_mid(dut: Any) -> None:
    """Reset at a random edge with data in flight; what came out before is right, a clean run follows at full rate."""
    s = Session(dut, 5)
    for _ in range(12):
        await s.fresh()
        job = BENCH.random_job(s.rng)
        await s.run(job, rates(s.rng), stop_at=int(s.rng.integers(1, 40)))
        await s.fresh(edges=int(s.rng.integers(1, 3)))
        trace = await s.run(job, Rates())
        if job.work:
            assert_contract(trace, cycles(job), "after a reset")
    note(s, "reset_mid")


@cocotb.test()
async def cfg_change(dut: Any) -> None:
    """Jobs of different configuration one after the other without a reset."""
    s = Session(dut, 6)
    await s.fresh()
    for _ in range(16):
        await s.run(BENCH.random_job(s.rng), rates(s.rng))
    note(s, "cfg_change")


@cocotb.test()
async def bins(dut: Any) -> None:
    """Every functional bin of this parameter set was reached by the tests before."""
    want = set(BENCH.unit.bins(BENCH.p))
    RECORD["bins"], RECORD["missed"] = sorted(want & _hit), sorted(want - _hit)
    unknown = sorted(_hit - want)
    note(None, "bins")
    if RECORD["missed"] or unknown:
        raise MismatchError(f"bins not reached: {RECORD['missed'][:8]}; not declared: {unknown[:8]}")


def note(s: Session | None, test: str) -> None:
    """Write the record after each test, so that a crash leaves what was known."""
    if s is not None:
        RECORD["edges"] += s.player.edges
        RECORD["seconds"][test] = round(time.monotonic() - s.player.started, 3)
    if path := os.environ.get("PERFBOARD_RECORD"):
        Path(path).write_text(json.dumps(RECORD), encoding="utf-8")
