"""Cases of sparse neurons: what their mechanisms give, apart from what was claimed."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest

from validate.case import Case, load
from validate.case_outcome import Outcome
from validate.case_verdict import evaluate

CASES = ("llm_in_a_flash", "powerinfer", "powerinfer_2", "powerinfer_int4")


@cache
def case(name: str) -> Case:
    return load(name)


def outcome(name: str, side: str, **changed: object) -> Outcome:
    return evaluate(case(name).resolve(side, changed), "tokens_per_s")


@pytest.mark.parametrize("name", CASES)
def test_inputs_that_depend_on_a_model_are_explained(name: str) -> None:
    found = case(name)
    assert found.assumed
    assert found.warning
    assert all(c.source for c in found.claim)


@pytest.mark.parametrize("name", CASES)
def test_no_claimed_figure_is_a_setting(name: str) -> None:
    """Speeds and ratios that were claimed stand in no technique of any side."""
    found = case(name)
    speeds = {v for c in found.claim for pair in c.ranges() for v in pair if c.quantity in ("tokens_per_s", "tpot", "ttft")}
    used = {v for s in found.sides.values() for t in s.get("techniques", ()) for v in t.values() if isinstance(v, float)}
    assert not (used - {0.0, 0.5, 1.0}) & speeds


def test_each_part_of_powerinfer_adds_and_the_cpu_is_what_remains() -> None:
    steps = [outcome("powerinfer", s) for s in ("llama_cpp", "operators", "engine", "powerinfer")]
    assert [a.value < b.value for a, b in pairwise(steps)] == [True] * 3
    last = steps[-1]
    assert max(last.terms, key=last.terms.__getitem__) == ("cpu", "memory")


def test_the_gain_of_powerinfer_falls_with_the_batch() -> None:
    gains = [outcome("powerinfer", "powerinfer", batch=b).value / outcome("powerinfer", "llama_cpp", batch=b).value
             for b in (1, 16)]
    assert gains[0] > 3 * gains[1] > 3


def test_each_part_of_the_phone_s_engine_adds_until_reading_hides() -> None:
    steps = [outcome("powerinfer_2", s) for s in ("base", "bundle", "cache", "pipeline")]
    assert [a.value < b.value for a, b in pairwise(steps)] == [True] * 3
    reads = [x.terms[("copy flash>dram", "neurons")] / x.busy for x in steps]
    assert reads[0] > 0.9
    assert reads[-1] < 0.5


def test_flash_is_what_naive_loading_waits_for() -> None:
    naive = outcome("llm_in_a_flash", "cpu_naive")
    assert naive.terms[("copy flash>dram", "weights")] == pytest.approx(13.3e9 / 6.1e9, rel=0.05)
    assert outcome("llm_in_a_flash", "cpu").value > 4 * naive.value
