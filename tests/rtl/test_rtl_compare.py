"""``perfboard rtl compare``: contract against RTL, areas against the smallest multiplier unit, and their figure."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from rtl.harness import figures
from rtl.harness.new import skeleton
from rtl.harness.registry import load, names
from rtl.harness.run import Outcome
from sim.cli import main
from validate import rtl_compare

Capture = pytest.CaptureFixture[str]


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["rtl", "compare", *args])
    return int(stop.value.code or 0)


@pytest.mark.rtl
def test_contract_is_rtl_and_both_tables_are_written(tmp_path: Path, capsys: Capture) -> None:
    assert run("nbit_unpack", "--out", str(tmp_path), "--format", "json") == 0
    shown = capsys.readouterr()
    data = json.loads(shown.out)
    assert len(data["cycles"]) == len(load("nbit_unpack").fast)
    assert all(r["verdict"] == "equal" and r["runs"] > 0 and r["first_difference"] == "" for r in data["cycles"])
    assert "contract = RTL in all" in shown.err
    assert [r["rtl_edges"] for r in csv.DictReader((tmp_path / "cycles.csv").open())] == \
        [str(r["rtl_edges"]) for r in data["cycles"]]


@pytest.mark.rtl
def test_a_wrong_contract_is_told_with_the_first_run_that_differs(tmp_path: Path, capsys: Capture) -> None:
    skeleton("short_by_one", tmp_path)
    contract = tmp_path / "short_by_one" / "contract.py"
    contract.write_text(contract.read_text().replace("return beats + 1", "return beats"))
    assert run(str(tmp_path / "short_by_one"), "--only", "cycles", "--format", "json") == 1
    rows = json.loads(capsys.readouterr().out)["cycles"]
    assert [r["verdict"] for r in rows] == ["DIFFERENT"] * len(rows)
    assert rows[0]["first_difference"] == "beats=1: contract 1, RTL 2 edges"


def test_what_is_no_difference_and_what_is() -> None:
    same, other = {"work": {"n": 3}, "contract": 4, "rtl": 4}, {"work": {"n": 9}, "contract": 10, "rtl": 11}
    assert rtl_compare.difference(Outcome("u", {}, "verilator", record={"cycles": [same]})) == ""
    assert rtl_compare.difference(Outcome("u", {}, "verilator", record={"cycles": [same, other]})) == \
        "n=9: contract 10, RTL 11 edges"
    assert rtl_compare.difference(Outcome("u", {}, "verilator")) == "no run was recorded"
    assert rtl_compare.difference(Outcome("u", {}, "verilator", failed={"build": "no\nport"})) == "build: no port"


def test_a_difference_is_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    bad = {"cycles": [{"work": {"n": 9}, "contract": 10, "rtl": 11}]}
    monkeypatch.setattr(rtl_compare, "verify", lambda unit, params, **k: Outcome(unit.name, params, "verilator", record=bad))
    assert run("lut_dot", "--only", "cycles") == 1
    shown = capsys.readouterr()
    assert "DIFFERENT" in shown.out
    assert "differ in 2 sets" in shown.err


def test_areas_are_those_of_the_figures_over_the_products_per_cycle() -> None:
    every = rtl_compare.area_rows([load(n) for n in names()])
    rows = {(r[0], r[1], r[2]): dict(zip(rtl_compare.AREA, r, strict=True)) for r in every}
    tile = rows["W2A8", "lut_mpgemm_tile", "ACC 24"]
    assert tile["macs_per_cycle"] == 2 * 64 * 4 / 2
    assert tile["ge"] == round(figures.stored()["lut_mpgemm_tile", "ACC 24"]["ge"])
    assert tile["ge_per_mac_per_cycle"] == pytest.approx(tile["ge"] / 256, abs=0.06)
    assert rows["W8A8", "base_mac_dp", "16x(8x8)"]["baseline_over_unit"] == 1
    assert rows["W8A8", "base_mac_dp", "4x(8x8)"]["baseline_over_unit"] < 1


def test_the_baseline_of_a_format_is_the_smallest_unit_that_multiplies() -> None:
    rows = figures.against_baselines()
    least = {d.format: min(r.ge_per_mac for r in rows if r.unit in figures.BASELINES and r.format == d.format)
             for d in rows if d.unit in figures.BASELINES}
    for d in rows:
        of = figures.MULTIPLIED_AS.get(d.format, d.format)
        assert (d.ratio is None) == (of not in least), d
        assert d.ratio is None or d.ratio == pytest.approx(least[of] / d.ge_per_mac)


@pytest.mark.parametrize("name", names())
def test_every_size_is_a_build_and_takes_the_formats_of_one(name: str) -> None:
    unit = load(name)
    assert set(unit.sizes) <= set(unit.synth)
    assert set(unit.sizes.values()) <= {label for label, _ in unit.formats.values()}


@pytest.mark.parametrize("form", ["svg", "png"])
def test_figure(form: str, tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / f"area.{form}"
    assert run("--only", "area", "--figure", str(file)) == 0
    drawn = file.read_bytes()
    assert drawn.startswith(b"\x89PNG" if form == "png" else b"<?xml")
    if form == "svg":
        text = drawn.decode()
        assert all(f in text for f in ("W2xFP16", "W4A8", "lut_mpgemm_tile", "smallest multiplier unit"))
        marks = [d for d in figures.against_baselines() if d.unit not in figures.BASELINES]
        assert text.count("<title>") == len(marks)
        assert all(f"<title>{d.unit}, {d.build}: {d.format}, {d.ge_per_mac:.3g} GE" in text for d in marks)


def test_figure_of_one_unit_shows_its_formats(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert run("lut_dot", "--only", "area", "--figure", str(tmp_path / "a.svg")) == 0
    text = (tmp_path / "a.svg").read_text()
    assert "W4A8" in text
    assert "W8A8" not in text
    assert "ternary_acc" not in text


@pytest.mark.parametrize(("args", "message"), [
    (["--figure", "a.pdf"], "expected one of .svg, .png"),
    (["--format", "csv"], "--only cycles or --only area"),
    (["lut_dott"], "did you mean 'lut_dot'"),
])
def test_bad_input_is_one_line(args: list[str], message: str, capsys: Capture) -> None:
    assert run(*args) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_unit_without_figures_has_no_area(monkeypatch: pytest.MonkeyPatch) -> None:
    unit = replace(load("lut_dot"), formats={"W1A8": ("never built", {"wbits": 1})}, sizes={})
    assert list(figures.builds(unit)) == []
