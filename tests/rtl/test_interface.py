"""Verilog as pyverilog reads it agrees with contracts; interface tables are up to date; foreign files get clear messages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rtl.harness.interface import inspect, problems, readme
from rtl.harness.registry import ROOT, load, names
from rtl.harness.unit import Parameter

pytestmark = pytest.mark.rtl


def test_units_agree_with_their_contracts_and_readmes() -> None:
    """One process for all units: building the parser's tables is most of the cost."""
    assert not {n: p for n in names() if (p := problems(load(n)))}
    stale = [n for n in names() if readme(load(n)) != (ROOT / n / "README.md").read_text(encoding="utf-8")]
    assert not stale, f"python -m rtl.harness.generate {' '.join(stale)}"


def test_a_difference_is_found() -> None:
    unit = load("lut_dot")
    assert "default of K" in problems(replace(unit, parameters={**unit.parameters, "K": Parameter(5)}))[0]
    assert "Verilog has parameters" in problems(replace(unit, parameters={"K": Parameter(4)}))[0]


def test_registers_and_hierarchy() -> None:
    lane, dot = inspect(ROOT / "lut_dot" / "lut_lane.v")[0], inspect(ROOT / "lut_dot" / "lut_dot.v")[0]
    assert lane.registers == {"val_q": "T_W", "neg_q": "1", "acc_q": "ACC_W"}
    assert ("lut_lane", "lane") in dot.instances
    assert {p.name: p.width for p in dot.ports}["tbl_data"] == "(1<<(K-1))*T_W"


@pytest.mark.parametrize(("text", "message"), [
    ("module m(input wire a);\nalways @* for (integer i = 0; i < 3; i = i + 1) ;\nendmodule\n", "user.v:2: "),
    ("module m(input wire a);\ntypedef enum {X} t;\nendmodule\n", "user.v:2: .typedef. .* SystemVerilog is not supported"),
    ("module m(input wire a)\nendmodule\n", "user.v"),
    ("// nothing\n", "user.v"),
])
def test_foreign_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "user.v").write_text(text)
    with pytest.raises(ValueError, match=message) as e:
        inspect(tmp_path / "user.v")
    assert "\n" not in str(e.value)
