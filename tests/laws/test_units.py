"""Each hardware unit's folder is complete, and says of itself what tests, models and people need."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rtl.harness.figures import stored
from rtl.harness.mutate import generated, listed
from rtl.harness.registry import COMPLETE, ROOT, load, names

INDEX = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = ("Purpose", "Parameters", "Ports", "Formats", "Function", "Cycles", "Errors", "Test points", "Synthesis")


def test_there_are_units() -> None:
    assert {"lut_dot"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_folder_is_complete(name: str) -> None:
    missing = [f for f in (part.format(name=name) for part in COMPLETE) if not (ROOT / name / f).is_file()]
    assert not missing, f"rtl/{name} lacks {missing}"


def test_every_folder_with_verilog_is_a_unit() -> None:
    assert {p.parent.name for p in ROOT.glob("*/*.v")} == set(names())


@pytest.mark.parametrize("name", names())
def test_unit_describes_itself(name: str) -> None:
    unit = load(name)
    assert unit.name == name
    assert unit.text
    assert unit.fast
    assert unit.illegal
    assert unit.mutants
    for params in (*unit.fast, *unit.thorough):
        full = unit.resolve(params)
        assert len(unit.bins(full)) == len(set(unit.bins(full))) > 0
    for p in unit.parameters.values():
        assert p.text
        assert p.tested


@pytest.mark.parametrize("name", names())
def test_faults_are_enough_and_reasons_are_not_stale(name: str) -> None:
    unit = load(name)
    assert len(listed(unit)) == len(unit.mutants)
    keys = [f.key for f in generated(unit)]
    assert len(keys) == len(set(keys)) >= 20
    assert set(unit.survivors) <= set(keys), f"stale: {sorted(set(unit.survivors) - set(keys))}"


@pytest.mark.parametrize("name", names())
def test_every_build_is_synthesised(name: str) -> None:
    unit = load(name)
    missing = [label for label in unit.synth if (name, label) not in stored()]
    assert not missing, f"perfboard rtl synth {name} --write: no figures of {missing}"
    assert {label for label, _ in unit.formats.values()} <= set(unit.synth)


@pytest.mark.parametrize("name", names())
def test_readme_has_all_sections_and_a_row_in_the_index(name: str) -> None:
    text = (ROOT / name / "README.md").read_text(encoding="utf-8")
    assert not [s for s in SECTIONS if f"## {s}" not in text]
    assert f"({name}/README.md)" in INDEX


def test_contracts_broadcast() -> None:
    """Cost models call the contracts with arrays."""
    cycles = load("lut_dot").cycles(np.array([1, 2, 5]), np.array([[1], [16]]), wbits=np.array([1, 2, 4]))
    assert cycles.tolist() == [[3, 6, 22], [18, 66, 322]]


def test_the_index_names_every_file_of_the_harness() -> None:
    files = {f.name for f in (ROOT / "harness").iterdir() if f.suffix in (".py", ".lib") and f.name != "__init__.py"}
    assert files == set(re.findall(r"\(harness/([\w.]+)\)", INDEX))
