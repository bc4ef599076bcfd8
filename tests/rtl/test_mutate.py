"""The campaign of faults: what is counted, how far it goes, and that it starts from a unit that passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rtl.harness import mutate
from rtl.harness.mutate import Fault, Verdict, examine, generated, judge, listed, record
from rtl.harness.registry import load
from rtl.harness.run import Outcome

UNIT = load("nbit_unpack")
PASS: dict[str, str] = {}
FAIL, UNBUILT = {"contract": "T = 3"}, {"build": "%Error"}


def simulated(monkeypatch: pytest.MonkeyPatch, failed: Callable[[int], dict[str, str]]) -> None:
    """In place of runs: what fails by the number of the call."""
    calls: list[Any] = []

    def fake(unit: Any, params: Any, **how: Any) -> Outcome:
        calls.append(params)
        return Outcome(unit.name, params, "verilator", passed=["bins"], failed=failed(len(calls)))
    monkeypatch.setattr(mutate, "verify", fake)
    monkeypatch.setattr("rtl.harness.toolchain.iverilog", lambda: None)


@pytest.mark.parametrize(("runs", "by"), [
    ([FAIL], "contract"),
    ([UNBUILT], "build"),
    ([PASS, FAIL], "contract"),
    ([PASS, UNBUILT, FAIL], "contract"),
    ([PASS, UNBUILT], "build"),                        # in a part that the first parameter set does not have
    ([PASS], ""),
])
def test_verdict_of_a_fault(runs: list[dict[str, str]], by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    simulated(monkeypatch, lambda n: runs[n - 1] if n <= len(runs) else PASS)
    assert judge(UNIT, generated(UNIT)[0]).by == by


def test_campaign_goes_on_until_enough_faults_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated(monkeypatch, lambda n: PASS)
    order = generated(UNIT)
    broken = {f.key for f in order[:4]}
    monkeypatch.setattr(mutate, "judge", lambda unit, f: Verdict(f, "build" if f.key in broken else "contract"))
    r = record(UNIT, examine(UNIT, 10, workers=1), "text")
    assert sum(total for _, total in r["generated"].values()) == 10
    assert (r["not_compiled"], r["possible"], r["verilog"], r["survivors"]) == (4, len(order), "text", [])
    assert r["listed"] == [len(listed(UNIT))] * 2
    everything = record(UNIT, examine(UNIT, workers=1), "text")
    assert sum(total for _, total in everything["generated"].values()) == len(order) - 4


def test_unit_that_fails_as_it_is_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated(monkeypatch, lambda n: FAIL)
    with pytest.raises(ValueError, match="fails without any fault"):
        examine(UNIT, 1)


def test_survivors_are_kept_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated(monkeypatch, lambda n: PASS)
    fault: Fault = generated(UNIT)[0]
    r = record(UNIT, [Verdict(fault, ""), Verdict(listed(UNIT)[0], "contract")], "text")
    assert (r["survivors"], r["generated"], r["listed"]) == ([fault.key], {fault.kind: [0, 1]}, [1, 1])
