"""What was recorded about the units is complete: faults, coverage, and the Verilog it holds for."""

from __future__ import annotations

from typing import Any

import pytest

from rtl.harness import registry, results
from rtl.harness.mutate import generated
from rtl.harness.registry import fingerprint, load, names

UNIT = "lut_dot"


def fault_record(**other: Any) -> dict[str, Any]:
    unit = load(UNIT)
    n = len(unit.mutants)
    return {"unit": UNIT, "verilog": fingerprint(unit), "listed": [n, n], "generated": {"width": [20, 20], "sign": [5, 5]},
            "possible": 85, "not_compiled": 3, "survivors": [], **other}


def coverage_record(**other: Any) -> dict[str, Any]:
    return {"unit": UNIT, "verilog": fingerprint(load(UNIT)), "bins": [9, 9], "line": [1, 1], "branch": [1, 1],
            "toggle": [3, 4], "open": 1, **other}


@pytest.fixture
def one_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "names", lambda: [UNIT])


@pytest.mark.usefixtures("one_unit")
@pytest.mark.parametrize(("faults", "coverage", "said"), [
    ({}, {}, []),
    (None, {}, ["no faults were put into it"]),
    ({}, None, ["no coverage was measured"]),
    ({"survivors": ["x"]}, {}, ["survives without a reason: x"]),
    ({"generated": {"width": [19, 19], "sign": [5, 5]}}, {}, ["24 generated faults of 85 possible ones, fewer than 25"]),
    ({"generated": {"width": [10, 10]}, "possible": 13}, {}, []),                  # all there are
    ({"generated": {"width": [10, 10]}, "possible": 14}, {}, ["10 generated faults of 14 possible ones, fewer than 25"]),
    ({"listed": [3, 3]}, {}, [f"3 of {len(load(UNIT).mutants)} listed faults were put in"]),
    ({"verilog": "old"}, {}, ["its Verilog has changed since faults were put into it"]),
    ({}, {"verilog": "old"}, ["its Verilog has changed since coverage was measured"]),
    ({}, {"bins": [8, 9]}, ["bins reached: 8 of 9"]),
    ({}, {"bins": [0, 0]}, ["bins reached: 0 of 0"]),
])
def test_gaps_are_told(faults: dict[str, Any] | None, coverage: dict[str, Any] | None, said: list[str]) -> None:
    mutation = {} if faults is None else {UNIT: fault_record(**faults)}
    measured = {} if coverage is None else {UNIT: coverage_record(**coverage)}
    assert results.gaps(mutation, measured) == [f"{UNIT}: {what}" for what in said]


def test_row_of_a_unit_shows_everything_at_a_glance() -> None:
    name = "nbit_unpack"
    known = next(iter(load(name).survivors))
    row = results.fault_row(fault_record(unit=name, listed=[5, 5], generated={"constant": [8, 10], "width": [1, 1]},
                                         possible=23, survivors=[known, "nobody knows"]))
    assert row == [name, "5/5", "9/11", 23, 1, 1, "constant 8/10, width 1/1"]
    assert results.coverage_row(coverage_record()) == [UNIT, "9/9", "1/1", "1/1", "3/4", "0.7500", 1]


def test_comments_do_not_change_what_was_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "u.v"
    monkeypatch.setattr(registry, "sources", lambda unit: [file])
    file.write_text("assign a = b; // once\n\n")
    first = fingerprint(load(UNIT))
    file.write_text("  assign a =  b;\n")
    assert fingerprint(load(UNIT)) == first
    file.write_text("assign a = !b;\n")
    assert fingerprint(load(UNIT)) != first


def test_every_unit_was_recorded_and_no_fault_survived_without_a_reason() -> None:
    """Each unit met all its listed faults and 25 generated ones (or all there are), and reached all its bins."""
    mutation, coverage = results.records("mutation"), results.records("coverage")
    assert results.gaps(mutation, coverage) == []
    assert sorted(mutation) == sorted(coverage) == names()
    for name, r in mutation.items():
        killed, judged = (sum(x[i] for x in (r["listed"], *r["generated"].values())) for i in (0, 1))
        assert judged - killed == len(r["survivors"]), name


def test_reasons_are_of_faults_that_there_are() -> None:
    for name in names():
        unit = load(name)
        assert set(unit.survivors) <= {f.key for f in generated(unit)} | {m.name for m in unit.mutants}, name


def test_page_is_that_of_the_data() -> None:
    assert results.PAGE.read_text(encoding="utf-8") == results.page()
