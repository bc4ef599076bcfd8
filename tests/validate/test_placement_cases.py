"""Cases whose point is placement: what they rest on, beyond the verdicts that ``perfboard cases`` shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.kernel import run
from sim.plan.block import DoesNotFitError
from sim.plan.lower import lower
from sim.query import load_spec, resolve
from sim.simulate import plan_of, step_seconds
from validate.case import Quantity, Side, load
from validate.case_outcome import query_of
from validate.case_simulated import _stretches, evaluate_simulated, techniques
from validate.case_verdict import spread_of_ratio
from workloads.footprint import kv_bytes


def seconds(case: str, side: str, phase: str = "decode", **change: object) -> float:
    """One step of a side, without its interval: the same plan, tasks and engine as the case's own path."""
    chosen = load(case).resolve(side, change)
    setting, n = resolve(query_of(chosen)), 2 if phase == "decode" else 1
    lowered = lower([plan_of(setting, techniques(chosen), phase=phase, step=i, seed=chosen.seed) for i in range(n)])
    return step_seconds(lowered, run(lowered.graph))


# -- Cambricon-LLM ----------------------------------------------------------------------------------------------------

def test_figure_9_without_a_fitted_efficiency() -> None:
    """Three of the seven models on all platforms: 8 % on average (a reconstruction with an efficiency per platform: 8 %)."""
    case = load("cambricon_llm")
    errors = []
    for claim in case.claim[:3]:
        figures = dict(zip(claim.points, claim.values, strict=True))
        for model in ("opt-6.7b", "opt-30b", "llama-2-70b"):
            errors.append(1 / seconds("cambricon_llm", claim.side, model=model) / float(figures[model]) - 1)  # type: ignore[arg-type]
    assert len(errors) == 9
    assert np.mean(np.abs(errors)) < 0.12
    assert np.max(np.abs(errors)) < 0.25


# -- ShadowKV ---------------------------------------------------------------------------------------------------------

def test_the_column_for_infinite_batch_is_two_tebibytes_a_second_over_the_cache() -> None:
    """A pure bound, 8 % above the peak of the GPU it is stated for."""
    claim = next(c for c in load("shadowkv").claim if "infinite" in c.condition)
    for overlay, (low, high) in zip(claim.overlays(), claim.ranges(), strict=True):
        tokens = overlay["isl"] + 128
        assert tokens % 1024 == 0
        bound = 2 * 2**40 / float(kv_bytes(load_spec(overlay["model"]), tokens, 1.0))
        assert low < bound < high
        assert bound == pytest.approx(np.mean([low, high]), rel=2e-4)


def test_the_baselines_batch_is_the_largest_that_fits() -> None:
    claim = next(c for c in load("shadowkv").claim if "largest" in c.condition)
    for overlay in claim.overlays():
        assert seconds("shadowkv", "full", **overlay) > 0
        with pytest.raises(DoesNotFitError):
            seconds("shadowkv", "full", **overlay | {"batch": overlay["batch"] * 5 // 4 + 1})


# -- ALISA ------------------------------------------------------------------------------------------------------------

def test_output_in_stretches_covers_it() -> None:
    query = query_of(load("alisa").resolve("alisa", {"hw": "v100_xeon", "model": "opt-13b"}))
    parts = list(_stretches(query, "decode", 4))
    assert sum(share for share, _ in parts) == pytest.approx(1.0)
    assert [q.isl for _, q in parts] == [128, 256, 384, 512]
    assert {q.osl for _, q in parts} == {128}
    assert list(_stretches(query, "decode", 1)) == [(1.0, query)]
    assert list(_stretches(query, "prefill", 4)) == [(1.0, query)]


def test_throughput_is_the_output_over_prompt_and_all_steps() -> None:
    side = load("alisa").resolve("alisa", {"hw": "v100_xeon", "model": "opt-6.7b", "batch": 4, "osl": 64, "contexts": 1})
    whole, prompt, step = (evaluate_simulated(side, q) for q in ("throughput", "ttft", "tpot"))
    assert whole.value == pytest.approx(4 * 64 / (prompt.value + 63 * step.value), rel=1e-6)
    assert sum(whole.terms.values()) == pytest.approx(whole.busy, rel=1e-6)


def test_time_grows_through_three_phases() -> None:
    """All on the GPU; spilled to the host; so much there that computing a part again is sooner."""
    def step(side: str, length: int) -> float:
        return seconds("alisa", side, hw="v100_xeon", model="opt-13b", batch=32, isl=length, osl=2)

    kept, spilled, late = (step("alisa_fp16", n) for n in (200, 350, 639))
    assert spilled - kept > 150 * (kept - step("alisa_fp16", 199))        # grows faster once it spills
    assert late > spilled
    assert step("alisa_recompute", 639) < late
    assert step("alisa_recompute", 200) == pytest.approx(kept)


def test_claim_over_flexgen_lies_between_moving_and_computing_on_the_cpu() -> None:
    at: dict[str, Any] = {"hw": "v100_xeon", "model": "opt-13b", "batch": 64}
    mine, moved, there = (seconds("alisa", s, **at) for s in ("alisa", "flexgen", "flexgen_cpu"))
    assert there / mine < 3 < moved / mine


# -- LeoAM ------------------------------------------------------------------------------------------------------------

def test_digests_pay_the_more_the_longer_the_context() -> None:
    gains = [seconds("leoam", "keys", isl=n) / seconds("leoam", "digests", isl=n) for n in (8000, 32000)]
    assert 1 < gains[0] < gains[1]


# -- HybriMoE ---------------------------------------------------------------------------------------------------------

def test_every_part_of_hybrimoe_helps_or_costs_nothing() -> None:
    at: dict[str, Any] = {"model": "qwen2-57b-a14b", "isl": 32}
    base, scheduling, all_of_it = (seconds("hybrimoe", s, "prefill", **at) for s in ("ktransformers", "scheduling", "hybrimoe"))
    assert all_of_it < 1.02 * scheduling
    assert scheduling < base
    assert seconds("hybrimoe", "hybrimoe", **at) < seconds("hybrimoe", "ktransformers", **at)


# -- what cancels between two sides -----------------------------------------------------------------------------------

OFFLOAD: dict[str, Any] = {"use": "offload", "to": "flash", "layers": 24}
SPARSE: dict[str, Any] = {"use": "sparse_ffn", "active": 0.1, "hot": 0.2, "mass": 0.8, "rank": 256}
NEURONS: dict[str, Any] = {"use": "cache_neurons", "size": 0.3, "reuse": 0.5, "warm": 4}


def width(quantity: Quantity, mine: list[dict[str, Any]], base: list[dict[str, Any]], **change: object) -> float:
    same: dict[str, Any] = {"model": "llama-2-7b", "hw": "pc_low", "isl": 64, "osl": 32, "steps": 2}
    sides = [Side(**(same | x), techniques=tuple(t)) for t, x in ((mine, change), (base, {}))]
    a, b = (evaluate_simulated(side, quantity).spread for side in sides)
    return spread_of_ratio(a, b)


def test_the_same_work_on_the_same_parts_cancels() -> None:
    assert width("tpot", [OFFLOAD], [OFFLOAD]) == pytest.approx(0, abs=1e-6)
    assert width("energy", [OFFLOAD], [OFFLOAD]) == pytest.approx(0, abs=1e-6)


def test_other_work_on_the_same_parts_does_not() -> None:
    """Neurons read here and there against layers in order, a sparse product against a dense one."""
    alike = width("tpot", [OFFLOAD], [OFFLOAD], osl=40)
    assert width("tpot", [SPARSE, NEURONS], [OFFLOAD]) > max(10 * alike, 0.05)
    assert width("energy", [SPARSE, NEURONS], [OFFLOAD]) > 0.5
    there: dict[str, Any] = {"use": "run_on", "engine": "cpu"}
    assert width("tpot", [there, SPARSE], [there]) > 0.02
    side = Side(model="llama-2-7b", hw="pc_low", isl=64, osl=32, steps=2, techniques=(there, SPARSE))
    kinds = {d.kernel.split()[-1] for d in evaluate_simulated(side, "tpot").spread if d.op_class == "cpu gemm"}
    assert kinds == {"dense", "sparse"}
