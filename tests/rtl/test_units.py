"""Every unit, found by folder: contract, laws, stalls, corners, reset, configuration change, illegal parameters, lint."""

from __future__ import annotations

import pytest

from rtl.harness import toolchain
from rtl.harness.lint import lint, stops
from rtl.harness.registry import load, names
from rtl.harness.run import SEEDS, verify
from rtl.harness.unit import Params

pytestmark = pytest.mark.rtl

SETS = [pytest.param(n, p, id=f"{n}-{i}") for n in names() for i, p in enumerate(load(n).fast)]
#: What the suite holds, written out: a test that silently disappears is a failure.
TESTS = {"contract", "stall_law", "random_stall", "corners", "reset_mid", "cfg_change", "bins"}


def check(name: str, params: Params, simulator: str) -> None:
    out = verify(load(name), params, simulator=simulator, seeds=SEEDS["fast"])
    assert not out.failed, "\n".join(f"{t}: {why}" for t, why in out.failed.items()) + f"\nseeds {out.record.get('clock_seed')}"
    assert set(out.passed) >= TESTS
    assert out.record["cycles"]


@pytest.mark.parametrize(("name", "params"), SETS)
def test_unit_on_verilator(name: str, params: Params) -> None:
    check(name, params, "verilator")


@pytest.mark.skipif(toolchain.iverilog() is None, reason="Icarus is not installed")
@pytest.mark.parametrize("name", [n for n in names() if load(n).icarus])
def test_unit_on_icarus(name: str) -> None:
    check(name, load(name).fast[0], "icarus")


@pytest.mark.parametrize("name", names())
def test_illegal_parameters_stop_elaboration(name: str) -> None:
    unit = load(name)
    assert unit.illegal, f"{name} states no illegal parameter set"
    assert not [why for bad in unit.illegal if (why := stops(unit, bad))]


@pytest.mark.parametrize("name", names())
def test_lint_is_clean(name: str) -> None:
    unit = load(name)
    for params in (*unit.fast, *unit.thorough):
        assert lint(unit, params) == "", params
