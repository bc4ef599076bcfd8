"""A user's own unit from ``rtl new`` to a question about a device that is made of it, as docs/own_unit.md shows it."""

from __future__ import annotations

import json
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from accel_models.registry import load_device
from accel_models.units import KINDS, own_files, rates
from rtl.harness.new import skeleton
from rtl.harness.registry import load
from sim.api import whatif
from sim.cli import main
from sim.sweep.identity import _device

PAGE = Path(__file__).parents[2] / "docs" / "own_unit.md"
Capture = pytest.CaptureFixture[str]
#: Rows of figures as ``rtl synth --write`` leaves them.
ROW = {"unit": "", "build": "default", "parameters": {}, "tool": "test", "ge": 2643.0, "sequential_ge": 306.0, "ff": 54,
       "depth": 34, "cells": {}}


def device_text() -> str:
    """The device file that the page shows."""
    return files()["my_chip.toml"]


def files() -> dict[str, str]:
    """All files that the page shows, by the name in their first line."""
    return dict(re.findall(r"```toml\n# (\w+\.toml)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S))


def make(folder: Path, name: str, *, synthesised: bool = True) -> Path:
    """A skeleton with figures, and the page's device made of it."""
    skeleton(name, folder)
    if synthesised:
        (folder / name / "figures.json").write_text(json.dumps([ROW | {"unit": name}]))
    chip = folder / "my_chip.toml"
    chip.write_text(device_text().replace("my_mac", name))
    return chip


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    return int(stop.value.code or 0)


@pytest.mark.rtl
def test_the_page_holds_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Every command after ``$``, faults and coverage apart: they take minutes, and have tests of their own."""
    monkeypatch.chdir(tmp_path)
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    commands = re.findall(r"^\$ perfboard (.*)$", PAGE.read_text(encoding="utf-8"), re.M)
    assert len(commands) >= 8
    for command in commands:
        if "--mutants" not in command and "--coverage" not in command:
            assert run(*shlex.split(command, comments=True)) == 0, (command, capsys.readouterr().err)
    assert (tmp_path / "my_mac" / "figures.json").exists()


def test_a_device_made_of_it_runs_at_its_contract(tmp_path: Path) -> None:
    """One array as its Verilog: 16 x 64 x 4 x 4 products a cycle at 1 GHz; a prompt is as long as cycles over clock."""
    chip = make(tmp_path, "mac_a")
    device = load_device(chip)
    assert device.matrix is not None
    assert device.rates()["int8"] == 2.0 * 16 * 64 * 4 * 4 * 1e9
    kind, f = KINDS[device.matrix.kind], {k: np.asarray(v) for k, v in (("rows", 64.0), ("cols", 4.0), ("lanes", 4.0))}
    cycles = load(str(tmp_path / "mac_a")).cycles
    m, n, k, passes = (np.asarray(x) for x in (4.0, 128.0, 64.0, 1.0))
    assert kind.cycles(m, n, k, passes, f) == cycles(2 * 16)
    said = whatif("llama-2-7b", str(chip), quant="w8a8", isl=128, osl=8).data["units"]
    assert said["synthesised"].startswith("cells: 676,608 gate equivalents")
    assert "proven" not in said
    assert said["assumed"].startswith(f"cycles: contract of {tmp_path / 'mac_a'}; perfboard rtl compare")
    assert "activity 0.20 mean of other units" in said["assumed"]


def test_another_process_knows_it_too(tmp_path: Path) -> None:
    """Workers of a sweep get devices as pickles, and never saw the file."""
    device = load_device(make(tmp_path, "mac_b"))
    (tmp_path / "device.pickle").write_bytes(pickle.dumps(device))
    code = ("import pickle, sys; d = pickle.load(open(sys.argv[1], 'rb')); from accel_models.families import family;"
            "from workloads.ops import Gemm; print(d.rates()['int8'], family(d.matrix.kind, d.kind)[Gemm].func.__module__)")
    words = [sys.executable, "-c", code, str(tmp_path / "device.pickle")]
    done = subprocess.run(words, text=True, capture_output=True, check=True)
    assert done.stdout.split() == ["32768000000000.0", "accel_models.families.units"]


def test_two_units_of_one_name_are_two(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    shape = {"rows": 2.0}
    for folder, lanes in ((first, "4.0"), (second, "8.0")):
        folder.mkdir()
        make(folder, "mac_c")
        engine = folder / "mac_c" / "engine.py"
        engine.write_text(engine.read_text().replace('"lanes": 4.0', f'"lanes": {lanes}'))
    found = [rates(str(folder / "mac_c"), shape, units=1, clock=1.0, where="test")["int8"] for folder in (first, second)]
    assert found == [2.0 * 2 * 4, 2.0 * 2 * 8]


@pytest.mark.parametrize(("was", "becomes", "message"), [
    ("./mac_d", "./nowhere", "my_chip.toml: engine.matrix.kind: './nowhere': no engine.py in "),
    ("rows =", "rowz =", "my_chip.toml"),
])
def test_a_wrong_device_file_is_one_line(was: str, becomes: str, message: str, tmp_path: Path, capsys: Capture) -> None:
    chip = make(tmp_path, "mac_d")
    chip.write_text(chip.read_text().replace(was, becomes))
    assert run("whatif", "-m", "llama-2-7b", "--hw", str(chip)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_what_is_not_synthesised_is_told(tmp_path: Path, capsys: Capture) -> None:
    chip = make(tmp_path, "mac_e", synthesised=False)
    assert run("whatif", "-m", "llama-2-7b", "--hw", str(chip), "--quant", "w8a8") == 2
    assert f"perfboard rtl synth {tmp_path / 'mac_e'} --write" in capsys.readouterr().err
    (tmp_path / "mac_e" / "figures.json").write_text(json.dumps([ROW | {"unit": "mac_e"}]))


def test_an_engine_that_is_none_is_told(tmp_path: Path) -> None:
    chip = make(tmp_path, "mac_f")
    (tmp_path / "mac_f" / "engine.py").write_text("ENGINE = 3\n")
    with pytest.raises(ValueError, match=r"mac_f/engine.py: ENGINE is 3; expected a Kind"):
        load_device(chip)


def test_a_name_that_python_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'json': Python has a module of that name"):
        skeleton("json", tmp_path)


def test_a_sweep_knows_when_the_unit_was_changed(tmp_path: Path) -> None:
    chip, unit = make(tmp_path, "mac_g"), tmp_path / "mac_g"
    assert own_files("int_mac") == []
    seen = [_device(str(chip))]
    for name in ("engine.py", "contract.py", "figures.json"):
        (unit / name).write_text((unit / name).read_text() + "\n")
        seen.append(_device(str(chip)))
    assert len(set(seen)) == 4
