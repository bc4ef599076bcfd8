"""The long tier (PERFBOARD_SLOW=1): all parameter sets, faults, Yosys's own check, figures within 3 % of those stored."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rtl.harness.figures import stored
from rtl.harness.formal import has_proof, prove
from rtl.harness.mutate import examine, listed
from rtl.harness.registry import load, names, sources
from rtl.harness.results import FAULTS
from rtl.harness.run import SEEDS, verify
from rtl.harness.synth import CHECK, synthesise, yosys

pytestmark = [pytest.mark.rtl, pytest.mark.slow,
              pytest.mark.skipif(not os.environ.get("PERFBOARD_SLOW"), reason="the long tier: PERFBOARD_SLOW=1")]
#: Share by which a figure may differ from the stored one.
DRIFT = 0.03
#: Listed faults that make a unit overwrite a waiting output, by what their names hold.
OVERWRITES = ("out_ready", "output overwritten")


@pytest.mark.parametrize("name", names())
def test_all_parameter_sets(name: str) -> None:
    unit = load(name)
    for params in (*unit.fast, *unit.thorough):
        out = verify(unit, params, seeds=SEEDS["thorough"])
        assert not out.failed, out.failed


@pytest.mark.parametrize("name", names())
def test_faults_are_noticed(name: str) -> None:
    unit = load(name)
    assert not [v.fault.key for v in examine(unit, FAULTS) if not v.by and not v.reason]


@pytest.mark.parametrize("name", names())
def test_yosys_finds_no_problem(name: str) -> None:
    unit = load(name)
    assert yosys(CHECK, unit.name, {}, sources(unit)) == {}


@pytest.mark.parametrize("name", [n for n in names() if has_proof(load(n))])
def test_handshake_is_proved(name: str, tmp_path: Path) -> None:
    unit = load(name)
    assert prove(unit) == ""
    fault = next((f for f in listed(unit) if any(word in f.key for word in OVERWRITES)), None)
    assert fault or name == "lut_table_gen", "no listed fault overwrites a waiting output"
    if fault:
        bad = tmp_path / fault.file.name
        bad.write_text(fault.text)
        assert "fail" in prove(unit, files=[bad if p == fault.file else p for p in sources(unit)])


@pytest.mark.parametrize("name", names())
def test_figures_have_not_drifted(name: str) -> None:
    unit = load(name)
    for label, params in unit.synth.items():
        row = stored()[unit.name, label]
        assert synthesise(unit, params).ge == pytest.approx(row["ge"], rel=DRIFT), label
