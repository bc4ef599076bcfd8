"""Simulated steps: their time, figures and intervals, and what an interrupted run keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from sim import kernel
from sim import simulate as sim_simulate
from sim.query import Query
from sim.simulate import Simulated, simulate, step_seconds, whole_steps
from sim.tasks import PS, TaskGraph
from sim.techniques import TECHNIQUES
from sim.techniques.technique import parse
from sim.trace_figures import figures

QUERY = Query(model="llama-2-7b", hw="pc_low", batch=2, isl=128, osl=64)
TECHNIQUE = "offload:to=dram,layers=24"


def simulated(*texts: str, **settings: object) -> Simulated:
    return simulate(QUERY, [parse(t, TECHNIQUES) for t in texts or (TECHNIQUE,)], **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done() -> Simulated:
    return simulated()


def test_figures_follow_from_the_time_of_a_step(done: Simulated) -> None:
    m = done.metrics
    assert m["tpot_s"] == done.step_s
    assert m["tokens_per_s"] == pytest.approx(2 / done.step_s)
    assert m["tokens_per_s_per_user"] == pytest.approx(1 / done.step_s)
    assert m["avg_power_w"] * done.step_s == pytest.approx(2 * m["j_per_output_token"])
    for name, (lo, hi) in done.intervals.items():
        assert lo <= m[name] <= hi
        assert lo < hi


def test_a_step_is_the_mean_of_those_after_the_first(done: Simulated) -> None:
    ends = [int(done.run.end[i]) for i in done.lowered.ends]
    assert len(ends) == 4
    assert done.step_s == pytest.approx((ends[3] - ends[0]) / 3 / PS)
    one = simulated(steps=1)
    assert one.step_s == one.run.end[one.lowered.ends[0]] / PS
    assert one.step_s > done.step_s                    # nothing has been fetched ahead yet


def test_more_steps_change_nothing_once_things_run_steadily(done: Simulated) -> None:
    assert simulated(steps=9).step_s == pytest.approx(done.step_s, rel=1e-3)


def test_prefill(done: Simulated) -> None:
    p = simulated(phase="prefill")
    assert set(p.metrics) == {"ttft_s", "prompt_tokens_per_s", "j_per_input_token"}
    assert p.metrics["prompt_tokens_per_s"] == pytest.approx(2 * 128 / p.metrics["ttft_s"])
    assert len(p.plans) == 1


def test_the_closed_form_beside_it(done: Simulated) -> None:
    f = figures(done)
    assert f.lower_s <= done.step_s * (1 + 1e-9)
    assert done.step_s <= f.serial_s
    assert f.alone_s < done.step_s                     # copies queue: that is what differs
    assert f.limit_s < done.step_s
    assert sum(f.chain.values()) == pytest.approx(done.step_s)
    by_name = {u.name: u for u in f.resources}
    assert all(0 < u.used <= 1 + 1e-9 for u in f.resources)
    copies = by_name["copy dram>vram"]
    assert copies.used == pytest.approx(1 - copies.idle_s / done.step_s)       # one server: it is used or there is a bubble
    moved = sum(m.nbytes for b in done.plans[0].blocks for m in b.moves)
    # the first step leaves room filled for the next, the last one has nothing to fetch ahead
    assert by_name["pcie cpu>gpu"].rate == pytest.approx(moved / done.step_s, rel=0.01)


def test_nothing_contends_then_events_are_the_closed_form() -> None:
    here = simulated("offload:to=dram,layers=24,via=there")
    f = figures(here)
    assert f.alone_s == pytest.approx(here.step_s, abs=1e-9)
    assert f.serial_s == pytest.approx(here.step_s, abs=1e-9)


def test_the_same_seed_gives_the_same_run(done: Simulated) -> None:
    again = simulated()
    np.testing.assert_array_equal(done.run.end, again.run.end)
    assert done.metrics == again.metrics


def test_several_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="one device of each part of a system, found tp 2"):
        simulate(replace(QUERY, hw="2x h100_sxm", tp=2))


# -- interrupted ------------------------------------------------------------------------------------------------------

@pytest.fixture
def interrupted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Simulated:
    """A run of 8 steps, interrupted when so many tasks had ended (one report every 10)."""
    monkeypatch.setattr(kernel, "REPORT", 10)
    at: int = request.param
    runs: list[int] = []

    def stop(ended: int, total: int) -> None:
        if not runs or ended < runs[-1]:
            runs.append(ended)
        runs[-1] = ended
        if (len(runs) - 1) * total + ended >= at:
            raise KeyboardInterrupt

    return simulated(steps=8, progress=stop)


@pytest.mark.parametrize("interrupted", [300], indirect=True)
def test_what_had_ended_is_kept(interrupted: Simulated, done: Simulated) -> None:
    assert not interrupted.run.done
    assert 300 <= (interrupted.run.end >= 0).sum() < len(interrupted.lowered.graph.tasks)
    plans, lowered, run = whole_steps(interrupted.plans, interrupted.lowered, interrupted.run)
    assert 2 <= len(plans) == len(lowered.ends) < 8
    assert len(run.end) == len(lowered.graph.tasks) == lowered.ends[-1] + 1
    assert run.makespan_ps == run.end[lowered.ends[-1]]
    assert interrupted.step_s == pytest.approx(done.step_s, rel=1e-3)
    assert interrupted.metrics["j_per_output_token"] == pytest.approx(done.metrics["j_per_output_token"], rel=0.02)
    assert interrupted.intervals == {}                 # they would have taken two more runs
    f = figures(interrupted)
    assert math.isnan(f.limit_s)
    assert f.lower_s <= interrupted.step_s * (1 + 1e-9) <= f.serial_s


@pytest.mark.parametrize("interrupted", [20], indirect=True)
def test_interrupted_before_a_step_had_ended(interrupted: Simulated) -> None:
    assert not interrupted.run.done
    assert (interrupted.metrics, interrupted.intervals) == ({}, {})
    assert math.isnan(interrupted.step_s)
    assert math.isnan(step_seconds(interrupted.lowered, interrupted.run))


@pytest.mark.parametrize("interrupted", [1000], indirect=True)
def test_interrupted_while_the_interval_is_made(interrupted: Simulated, done: Simulated) -> None:
    assert (interrupted.run.end >= 0).all()
    assert not interrupted.run.done
    assert set(interrupted.metrics) == set(done.metrics)
    assert interrupted.intervals == {}


def test_a_long_run_finds_its_interval_and_limit_on_its_first_steps(done: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    long, seen = simulated(steps=20), []

    def counted(graph: TaskGraph, **_: object) -> kernel.Run:
        seen.append(len(graph.tasks))
        return kernel.run(graph)

    monkeypatch.setattr(sim_simulate, "run", counted)
    again = simulated(steps=20)
    assert len(seen) == 4                              # the run, its first steps once more, and they fast and slow
    assert all(n < seen[0] / 2 for n in seen[1:])
    assert (again.lo_s, again.hi_s) == (long.lo_s, long.hi_s)
    assert long.lo_s / long.step_s == pytest.approx(done.lo_s / done.step_s, rel=1e-3)
    assert figures(long).limit_s == pytest.approx(figures(done).limit_s, rel=1e-3)


def test_planning_shows_its_progress() -> None:
    seen: list[tuple[int, int]] = []
    simulated(progress=lambda n, total: seen.append((n, total)))
    assert seen[:4] == [(i, 4) for i in (1, 2, 3, 4)]
    assert seen[4][1] > 4
