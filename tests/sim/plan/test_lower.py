"""Plans become tasks: what is equal to the closed form, what is moved, and what cannot be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from accel_models.bind import bind
from sim.closed_form import bounds, earliest
from sim.estimate import estimate
from sim.kernel import run
from sim.plan.block import DoesNotFitError, Move, Plan
from sim.plan.board import board
from sim.plan.lower import lower
from sim.query import Query, resolve
from sim.simulate import plan_of, simulate, step_seconds
from sim.tasks import PS

QUERY = Query(model="llama-2-7b", hw="pc_high", batch=1, isl=128, osl=128)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(resolve(QUERY), (), phase="decode")


@pytest.mark.parametrize(("model", "hw", "batch"), [
    ("llama-3.1-8b", "h200_sxm", 64), ("qwen3-30b-a3b", "h100_sxm", 8), ("state-spaces/mamba2-2.7b", "a100_sxm4_80gb", 4),
    ("llama-2-7b", "pc_high", 1)])
@pytest.mark.parametrize("detail", ["block", "op"])
def test_without_techniques_a_step_takes_what_the_closed_form_says(model: str, hw: str, batch: int, detail: str) -> None:
    query = Query(model=model, hw=hw, batch=batch, isl=256, osl=64)
    done = simulate(query, detail=detail)  # type: ignore[arg-type]
    s = done.setting
    closed = estimate(s.spec, bind([s.device], s.system), s.workload, s.parallel)
    n = len(done.lowered.graph.tasks)
    assert done.step_s == pytest.approx(closed.metrics["tpot_s"].item(), abs=n / PS)
    assert done.intervals["tpot_s"] == pytest.approx([x.item() for x in closed.intervals["tpot_s"]], rel=1e-6)
    prompt = simulate(replace(query, batch=1), phase="prefill", detail=detail)  # type: ignore[arg-type]
    assert prompt.step_s == pytest.approx(closed.metrics["ttft_s"].item(), abs=n / PS)


def test_both_evaluators_read_the_same_tasks(plan: Plan) -> None:
    lowered = lower([plan, replace(plan, step=1)])
    done = run(lowered.graph)
    _, end = earliest(lowered.graph)
    np.testing.assert_array_equal(done.end, end)
    low, high = bounds(lowered.graph)
    assert low <= done.makespan_ps <= high


def test_weights_fetched_ahead_hide_behind_compute_as_far_as_staging_allows(plan: Plan) -> None:
    """Two layers' moves: the copy of a block runs while the one before computes, and no earlier than room is given back."""
    def fetched(room: float) -> float:
        moved = plan.map(lambda b: replace(b, moves=(Move(what="weights", nbytes=2e7, src="dram", dst="vram"),))
                         if b.part == "ffn" else b)
        lowered = lower([replace(moved, staging=(("vram", room),), step=s) for s in range(3)])
        return step_seconds(lowered, run(lowered.graph))

    alone = step_seconds(lower([plan]), run(lower([plan]).graph))
    copies = 32 * 2e7 / (32e9 * 0.83)
    assert fetched(2e7) > max(alone, copies) * 1.2           # one slot: a copy waits until the block that used it has ended
    assert fetched(8e7) == pytest.approx(max(alone, copies), rel=0.02)


def test_a_move_that_is_decided_late_waits_for_who_decides(plan: Plan) -> None:
    late = plan.map(lambda b: replace(b, moves=(Move(what="kv", nbytes=1e6, src="dram", dst="vram", after=b.after),))
                    if b.name == "layer 3 mixer" else b)
    lowered = lower([late])
    done = run(lowered.graph)
    names = {t.name: i for i, t in enumerate(lowered.graph.tasks)}
    copy, before, block = names["kv of layer 3 mixer"], names["layer 2 ffn"], names["layer 3 mixer"]
    assert done.start[copy] == done.end[before]
    assert done.start[block] == done.end[copy]


def test_what_a_block_has_asked_for_overtakes_what_runs_ahead(plan: Plan) -> None:
    ahead = plan.map(lambda b: replace(b, moves=(Move(what="weights", nbytes=2e8, src="dram", dst="vram", staged=False),))
                     if b.part == "ffn" else b)
    late = Move(what="kv", nbytes=1e6, src="dram", dst="vram", after=("layer 2 ffn",), staged=False)

    def waited(priority: int | None) -> int:
        """Copies that start between the asking and the start of what was asked for."""
        asks = ahead.map(lambda b: replace(b, moves=(replace(late, priority=priority),)) if b.name == "layer 3 mixer" else b)
        lowered = lower([asks])
        done, names = run(lowered.graph), {t.name: i for i, t in enumerate(lowered.graph.tasks)}
        asked = names["kv of layer 3 mixer"]
        copies = [i for i, t in enumerate(lowered.graph.tasks) if t.labels["kind"] == "copy"]
        return sum(bool(done.ready[asked] <= done.start[i] < done.start[asked]) for i in copies)

    assert waited(None) == 0                           # but the copy under way is not stopped
    assert waited(1) == 28                             # as urgent as prefetches: last of those that are ready


def test_results_cross_the_link_once_however_many_need_them(plan: Plan) -> None:
    there = plan.map(lambda b: replace(b, engine="cpu") if b.layer == 5 else b)
    tasks = lower([there]).graph.tasks
    assert [t.name for t in tasks if t.labels.get("what") == "result"] == ["send layer 4 ffn", "send layer 5 ffn"]


def test_a_block_of_the_step_before_can_be_waited_for(plan: Plan) -> None:
    first = plan.blocks[0].name
    early = plan.map(lambda b: replace(b, after=("<layer 10 ffn",)) if b.name == first else b)
    lowered = lower([early, replace(early, step=1)])
    tasks = {(t.name, t.labels["step"]): i for i, t in enumerate(lowered.graph.tasks)}
    assert lowered.graph.tasks[tasks[first, 1]].after == (tasks["layer 10 ffn", 0],)


def test_an_urgent_block_takes_the_engine_at_a_preemption_point(plan: Plan) -> None:
    """Two chains on one engine: the urgent one is ready while a long block runs, and waits for its end or its next cut."""
    def waited(cuts: int) -> float:
        first, urgent = replace(plan.blocks[0], engine="cpu", out_bytes=0.0), plan.blocks[1]
        long = replace(plan.blocks[2], name="long", after=(), cuts=cuts, ops=plan.blocks[2].ops * 8)
        lowered = lower([replace(plan, blocks=(first, long, replace(urgent, name="urgent", after=(first.name,), priority=-1)))])
        done = run(lowered.graph)
        i = next(i for i, t in enumerate(lowered.graph.tasks) if t.name == "urgent")
        return float(done.start[i] - done.ready[i]) / PS

    whole = waited(1)
    assert whole > 0
    assert waited(4) < whole / 3


def test_what_does_not_fit_is_named_with_what_lies_there() -> None:
    with pytest.raises(DoesNotFitError, match=r"vram of pc_high: .* GiB do not fit in 24.00 GiB \(weights .*, kv .* GiB\)"):
        simulate(replace(QUERY, model="llama-2-70b"))


@pytest.mark.parametrize(("change", "message"), [
    ({"engine": "tpu"}, r"no engine 'tpu'; it has gpu, cpu"),
    ({"weights": (("l4", 1.0),)}, r"no memory 'l4'; it has vram, dram, flash"),
    ({"after": ("nobody",)}, r"block 'layer 3 ffn': waits for 'nobody', which does not come before it"),
    ({"after": ("layer 4 ffn",)}, r"waits for 'layer 4 ffn', which does not come before it"),
    ({"moves": (Move(what="kv", nbytes=-1.0, src="dram", dst="vram"),)}, r"move of kv: must be at least 0 bytes, found -1"),
])
def test_a_plan_that_contradicts_itself_is_refused(plan: Plan, change: dict[str, object], message: str) -> None:
    bad = plan.map(lambda b: replace(b, **change) if b.name == "layer 3 ffn" else b)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        lower([bad])


def test_a_staging_buffer_too_small_for_one_block_is_refused(plan: Plan) -> None:
    moved = plan.map(lambda b: replace(b, moves=(Move(what="weights", nbytes=2e7, src="dram", dst="vram"),)))
    with pytest.raises(ValueError, match=r"moves 19.1 MiB into vram, whose staging holds 9.5 MiB; make it larger"):
        lower([replace(moved, staging=(("vram", 1e7),))])


def test_boards_name_what_people_say() -> None:
    pc = board(resolve(QUERY).system)
    assert list(pc.engines) == ["gpu", "cpu"]
    assert list(pc.tiers) == ["vram", "dram", "flash"]
    assert [h.resource for h in pc.route("flash", "vram")] == ["storage flash>cpu", "pcie cpu>gpu"]
    phone = board(resolve(replace(QUERY, hw="snapdragon_8_gen_3")).system)
    assert phone.engines["cpu"].home == phone.engines["npu"].home == "dram"
