"""``perfboard rtl verify``: its records, and a thorough tier that goes on where it was interrupted."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtl.harness import coverage, kept
from rtl.harness.junit import junit
from rtl.harness.new import skeleton
from rtl.harness.registry import ROOT, load
from rtl.harness.run import Outcome
from sim.cli import main
from validate import rtl_verify

GOOD = Outcome("lut_dot", {"K": 3}, "verilator", passed=["contract", "bins"], build_s=1.5, run_s=2.0,
               seconds={"contract": 0.25, "bins": 0.0}, record={"seeds": [0, 63], "clock_seed": 7, "edges": 90})
BAD = replace(GOOD, passed=["bins"], failed={"contract": "T = 3 edges <the contract> says 4"})
UNBUILT = Outcome("lut_dot", {}, "verilator", failed={"build": "%Error: u.v:3: no such\nsecond line"})


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["rtl", "verify", *args])
    return int(stop.value.code or 0)


def test_junit_names_unit_parameters_and_reasons() -> None:
    suites = ET.fromstring(junit([GOOD, BAD, UNBUILT]))
    names = [(s.get("name"), s.get("tests"), s.get("failures"), s.get("errors"), s.get("time")) for s in suites]
    assert names == [("lut_dot K=3 on verilator", "2", "0", "0", "3.500"), ("lut_dot K=3 on verilator", "2", "1", "0", "3.500"),
                     ("lut_dot default on verilator", "1", "0", "1", "0.000")]
    cases = {(c.get("classname"), c.get("name")): c for c in suites[0].iter("testcase")}
    assert cases["rtl.lut_dot", "contract"].get("time") == "0.250"
    assert [f.get("message") for f in suites[1].iter("failure")] == ["T = 3 edges <the contract> says 4"]
    assert [(e.get("message"), e.text) for e in suites[2].iter("error")] == \
        [("%Error: u.v:3: no such", "%Error: u.v:3: no such\nsecond line")]
    assert {p.get("name"): p.get("value") for p in suites[0].iter("property")} == \
        {"seeds": "[0, 63]", "clock_seed": "7", "edges": "90"}


def test_kept_run_comes_back_whole(tmp_path: Path) -> None:
    file = tmp_path / "x" / "a.json"
    assert kept.load(file) is None
    kept.keep(file, GOOD)
    assert kept.load(file) == GOOD
    file.write_text(file.read_text()[:40])
    assert kept.load(file) is None


def test_kept_run_holds_for_its_bench_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFBOARD_CACHE", str(tmp_path))
    monkeypatch.setattr("rtl.harness.toolchain.identity", lambda name: name)
    skeleton("my_kept", tmp_path)
    unit = load(str(tmp_path / "my_kept"))
    first = kept.place(unit, {}, "verilator", (0, 64))
    assert kept.place(unit, {}, "verilator", (0, 64)) == first
    assert kept.place(unit, {"L": 2}, "verilator", (0, 64)) != first
    assert kept.place(unit, {}, "icarus", (0, 64)) != first
    assert kept.place(unit, {}, "verilator", (0, 65)) != first
    bench = tmp_path / "my_kept" / "bench.py"
    bench.write_text(bench.read_text() + "# a change\n")
    assert kept.place(unit, {}, "verilator", (0, 64)) != first


def test_python_of_units_that_a_bench_imports_counts() -> None:
    folders = {p.parent.name for p in kept._python(ROOT / "lut_mpgemm_tile")}
    assert {"lut_mpgemm_tile", "lut_dot", "lut_table_gen", "harness"} <= folders
    assert "ternary_acc" not in folders


def simulated(monkeypatch: pytest.MonkeyPatch, verdict: Callable[[int], Outcome]) -> list[dict[str, Any]]:
    """In place of simulations: outcomes by the number of the call. Returns the calls."""
    calls: list[dict[str, Any]] = []

    def fake(unit: Any, params: Any, **how: Any) -> Outcome:
        calls.append({"params": dict(params), **how})
        return replace(verdict(len(calls)), unit=unit.name, params=dict(params))
    monkeypatch.setattr(rtl_verify, "verify", fake)
    monkeypatch.setattr(rtl_verify, "static", lambda unit: replace(GOOD, unit=unit.name, simulator="lint"))
    return calls


def test_interrupted_thorough_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PERFBOARD_CACHE", str(tmp_path))

    def verdict(n: int) -> Outcome:
        if n == 4:
            raise KeyboardInterrupt
        return BAD if n == 2 else GOOD
    calls = simulated(monkeypatch, verdict)
    unit = load("lut_dot")
    sets = [dict(p) for p in (*unit.fast, *unit.thorough)]
    assert run("lut_dot", "--thorough") == 130
    assert [c["params"] for c in calls] == sets[:4]
    assert {c["seeds"] for c in calls} == {(0, 1024)}
    err = capsys.readouterr().err
    assert f"[3/{len(sets) + 1}] lut_dot" in err
    assert run("lut_dot", "--thorough", "--out", str(tmp_path / "out")) == 0
    assert [c["params"] for c in calls[4:]] == [sets[1], *sets[3:]]        # what failed and what was never run
    assert capsys.readouterr().err.count("kept from before") == 2
    assert len(list((tmp_path / "out").glob("*.xml"))) == len(list((tmp_path / "out").glob("*.json"))) == len(sets) + 1
    assert run("lut_dot", "--thorough", "--fresh") == 0
    assert len(calls) == 4 + len(sets) - 2 + len(sets)
    assert run("lut_dot") == 0                                             # the fast tier keeps and takes nothing
    assert calls[-1]["seeds"] == (0, 64)


def test_failed_build_is_recorded_and_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    simulated(monkeypatch, lambda n: UNBUILT)
    assert run("nbit_unpack", "--out", str(tmp_path), "--format", "json") == 1
    data = json.loads((tmp_path / "nbit_unpack-0.json").read_text())
    assert (data["ok"], data["failed"]) == (False, UNBUILT.failed)
    assert ET.parse(tmp_path / "nbit_unpack-0.xml").getroot()[0].get("errors") == "1"
    assert "no such" in capsys.readouterr().err


def test_coverage_of_a_failed_build_is_no_row_and_no_traceback(monkeypatch: pytest.MonkeyPatch,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(coverage, "verify", lambda unit, params, **how: UNBUILT)
    assert run("nbit_unpack", "--coverage") == 1
    shown = capsys.readouterr()
    assert "no such" in shown.err
    assert "nbit_unpack" not in shown.out
    assert "Traceback" not in shown.err


def test_lint_is_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtl_verify, "lint", lambda unit, params: "a warning" if params else "")
    monkeypatch.setattr(rtl_verify, "stops", lambda unit, bad: "")
    unit = load("nbit_unpack")
    out = rtl_verify.static(unit)
    assert "lint default" in out.passed
    assert len(out.failed) == len(unit.fast) + len(unit.thorough) - 1
    assert len(out.passed) == 1 + len(unit.illegal)
    assert rtl_verify.row(out)[1:4] == ["lint, illegal sets", "FAIL", f"{len(out.passed)}/{len(out.passed) + len(out.failed)}"]
