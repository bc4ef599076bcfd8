"""Published systems as cases: schema, intervals of ratios, verdicts, the page, and that no engine knows them."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sim.estimate import Z80
from validate.case import absent, load, names, parse, plain
from validate.case_correlation import study
from validate.case_outcome import Deviation, evaluate
from validate.case_verdict import RHO_TRANSFERRED, VERDICTS, WIDTH, Summary, judge, overall, run, spread_of_ratio
from validate.cases_command import cases, claimed, page, run_all, select
from validate.measured import data_dir

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = {"marlin", "awq", "finequant", "atom", "comet", "abq_llm", "flexq", "ap_bipolar", "bitmod", "tilus", "dgq", "spqr",
           "vptq", "llm_int8", "flashdecoding_pp", "llm_viewer", "gpperf", "cheap_eval_efficiency", "ptq_impact"}
TINY = """
name = "tiny"
system = "none"
title = "t"
source = "s"
mechanism = "m"
[common]
hw = "a100_sxm4_80gb"
n = 4096
k = 4096
[sides.a]
w = "int4_g128"
[sides.b]
w = "fp16"
[[claim]]
side = "a"
against = ["b"]
quantity = "time"
over = "m"
points = [1, 8]
values = [2.0, [1.5, 2.5]]
source = "s"
"""


@pytest.fixture(scope="module")
def done() -> list[Summary]:
    return run_all(names())


@pytest.mark.parametrize(("value", "text"), [
    ([{"use": "split_ops", "weights": "in_flash"}, {"use": "split_neurons"}], "split_ops:weights=in_flash; split_neurons"),
    ([{"use": "page_in", "parts": ["embed", "mixer"], "on": True}], "page_in:parts=embed+mixer,on=true"),
    ({"engine.matrix.clock": "1410 MHz", "engine.matrix.units": 108}, "engine.matrix.clock=1410 MHz; engine.matrix.units=108"),
    ([[256, 2048], [64, 64]], "256 x 2048 64 x 64"), ("w4a16", "w4a16"), (0.5, "0.5"), ([], ""),
])
def test_settings_are_shown_as_one_would_type_them(value: object, text: str) -> None:
    assert plain(value) == text


def test_a_claim_that_is_open_above_says_at_least(done: list[Summary]) -> None:
    shown = {(s.case.name, claimed(r)) for s in done for r in s.results}
    assert ("denseshift", "at least 1.00") in shown
    assert not [text for _, text in shown if re.search(r"to (1000\.00|1e\+06)", text)]


def test_every_system_has_a_case_or_a_reason() -> None:
    covered = {load(n).system for n in names()} | {a.system for a in absent()}
    assert covered >= SYSTEMS


def test_no_engine_knows_a_case() -> None:
    known = {*names()}
    for package in ("rtl", "workloads", "accel_models", "sim"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "validate.case" not in text, path
            assert not [n for n in known if re.search(rf"\b{n}\b", text)], path


def test_the_page_is_what_the_code_prints(done: list[Summary]) -> None:
    """Words exactly, numbers within two percent: the last digit may differ between machines."""
    number = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?")
    stored = (ROOT / "docs" / "cases.md").read_text(encoding="utf-8")
    now = page(done)
    message = "run: perfboard cases run --write docs/cases.md"
    assert number.sub("#", stored) == number.sub("#", now), message
    pairs = zip(number.findall(stored), number.findall(now), strict=True)
    assert not [(a, b) for a, b in pairs if not math.isclose(float(a), float(b), rel_tol=0.02, abs_tol=0.011)], message


def test_every_result_stands_in_its_interval_and_says_why(done: list[Summary]) -> None:
    for s in done:
        for r in s.results:
            assert r.lo <= r.value <= r.hi, (s.case.name, r)
            assert math.isfinite(r.value)
            assert r.reason, (s.case.name, r)
            assert r.verdict in VERDICTS


# -- schema -----------------------------------------------------------------------------------------------------------

def test_a_case_is_read_and_run() -> None:
    s = run(parse(TINY, "tiny.toml"))
    assert [r.label for r in s.results] == ["a m 1", "a m 8"]
    assert s.results[1].claimed == (1.5, 2.5)
    side = s.case.resolve("a", {"m": 8})
    assert s.results[1].value == pytest.approx(evaluate(s.case.resolve("b", {"m": 8}), "time").value
                                               / evaluate(side, "time").value)
    assert s.results[0].limit == pytest.approx(16 / 4.125)


@pytest.mark.parametrize(("old", "new", "message"), [
    ('side = "a"', 'side = "c"', "tiny.toml: claim: side 'c' is not defined; known: a, b"),
    ("values = [2.0, [1.5, 2.5]]", "values = [2.0]", "tiny.toml: claim.0: has 1 values for 2 points"),
    ('over = "m"', "", "tiny.toml: claim.0: bare points need 'over'"),
    ('quantity = "time"', 'quantity = "speed"', "tiny.toml: claim.0.quantity:"),
    ('name = "tiny"', 'name = "small"', "tiny.toml: name: must be 'tiny', found 'small'"),
    ('title = "t"', 'titel = "t"', "tiny.toml: titel: unknown key (did you mean 'title'?)"),
])
def test_a_wrong_file_says_what_is_wrong(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(TINY.replace(old, new, 1), "tiny.toml")


def test_a_wrong_side_names_its_field() -> None:
    case = parse(TINY.replace('w = "int4_g128"', 'ww = "int4_g128"'), "tiny.toml")
    with pytest.raises(ValueError, match=r"tiny.toml: sides.a: ww: unknown key"):
        case.resolve("a")


def test_an_unknown_case_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown 'marlinn'"):
        select(("marlinn",))
    assert select(("marlin",)) == ["marlin_a10", "marlin_models"]


def test_commands() -> None:
    runner = CliRunner()
    listed = runner.invoke(cases, ["list", "--format", "csv"])
    assert listed.exit_code == 0
    assert "marlin_a10,marlin," in listed.output
    shown = runner.invoke(cases, ["run", "marlin_a10", "--format", "json"])
    assert '"verdict": "explained"' in shown.output
    assert runner.invoke(cases, ["show", "llm_viewer"]).exit_code == 0


# -- intervals --------------------------------------------------------------------------------------------------------

def dev(size: float, kernel: str = "a", own: bool = True, op_class: str = "gemm") -> Deviation:
    return Deviation(op_class, kernel, size, own)


SIZES = st.floats(0.0, 0.5)


@given(SIZES, SIZES)
def test_the_same_kernel_cancels_and_classes_are_independent(a: float, b: float) -> None:
    assert spread_of_ratio([dev(a)], [dev(b)]) == pytest.approx(abs(a - b), abs=1e-9)
    assert spread_of_ratio([dev(a)], [dev(b, "other")]) == pytest.approx(math.hypot(a, b))
    assert spread_of_ratio([dev(a)], [dev(b, op_class="attention")]) == pytest.approx(math.hypot(a, b))
    assert spread_of_ratio([dev(a), dev(b, "other")], ()) == pytest.approx(a + b)


@given(SIZES, SIZES)
def test_the_interval_of_a_ratio_covers_80_percent_of_errors_so_correlated(a: float, b: float) -> None:
    """Draws with the stated correlation: the composed interval holds 80 % of their ratios."""
    rng = np.random.default_rng(7)
    common, x, y = rng.standard_normal((3, 4000))
    r = RHO_TRANSFERRED
    x, y = (math.sqrt(r) * common + math.sqrt(1 - r) * z for z in (x, y))
    s = spread_of_ratio([dev(a, own=False)], [dev(b, "other", own=False)])
    if s > 1e-6:
        assert np.mean(np.abs(a * x - b * y) <= Z80 * s) == pytest.approx(0.8, abs=0.03)


@pytest.mark.accuracy
@pytest.mark.skipif(not os.environ.get("PERFBOARD_DATA"), reason="needs the full measured tables (PERFBOARD_DATA)")
def test_the_correlations_are_those_measured() -> None:
    own, far = (study(data_dir(), transferred=t) for t in (False, True))
    assert abs(own.correlation) < 0.1
    assert 0.2 < far.correlation < 0.5
    assert 0.74 < far.coverage[RHO_TRANSFERRED] < 0.86


# -- verdicts ---------------------------------------------------------------------------------------------------------

def test_a_claim_held_by_the_width_alone_is_told_apart() -> None:
    """A factor of 1.2 between two kernels of one format and like bytes: only the interval holds it."""
    text = TINY.replace('w = "fp16"', 'w = "int4_g64"').replace("[2.0, [1.5, 2.5]]", "[1.2, 1.04]")
    s = run(parse(text, "tiny.toml"))
    assert [WIDTH in r.reason for r in s.results] == [True, False]
    assert s.by_width == 1


@pytest.mark.parametrize(("claimed", "value", "lo", "hi", "reach", "expected"), [
    ((2.0, 2.0), 1.9, 1.7, 2.1, 3.0, "explained"),
    ((2.0, 2.2), 1.5, 1.3, 2.0, 3.0, "explained"),
    ((2.0, 2.0), 1.5, 1.4, 1.6, 3.0, "partly"),
    ((2.0, 2.0), 1.1, 1.0, 1.2, 3.0, "not explained"),
    ((2.0, 2.0), 0.8, 0.7, 0.9, 3.0, "not explained"),
    ((0.5, 0.5), 0.6, 0.55, 0.65, 3.0, "partly"),
    ((1.1, 1.1), 3.0, 2.5, 3.5, 9.0, "not explained"),
    ((4.0, 4.0), 1.9, 1.7, 2.1, 3.0, "beyond the physical bound"),
])
def test_verdict_on_a_ratio(claimed: tuple[float, float], value: float, lo: float, hi: float, reach: float,
                            expected: str) -> None:
    assert judge(claimed, value, lo, hi, reach, ratio=True, more=True) == expected


def test_verdict_on_a_figure() -> None:
    assert judge((9.0, 9.0), 10.0, 9.5, 11.0, 8.0, ratio=False, more=False) == "partly"
    assert judge((7.0, 7.0), 10.0, 9.5, 11.0, 8.0, ratio=False, more=False) == "beyond the physical bound"
    assert judge((30.0, 30.0), 10.0, 9.5, 11.0, 8.0, ratio=False, more=False) == "not explained"
    assert judge((30.0, 30.0), 10.0, 9.5, 11.0, math.nan, ratio=False, more=True) == "not explained"


def test_a_case_is_explained_as_an_interval_should_hold() -> None:
    e, p, n, b = VERDICTS
    assert overall([e, e, e, e, n]) == e
    assert overall([e, e, p, n]) == p
    assert overall([e, n, n, b]) == n
    assert overall([e, n, b, b]) == b
