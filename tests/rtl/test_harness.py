"""The harness itself: every check can fail, and readers read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtl.harness import coverage
from rtl.harness.bench import Trace, pack, unpack
from rtl.harness.cycle_model import MismatchError, assert_contract, assert_law, replay
from rtl.harness.models import ElasticPipe, RigidPipe
from rtl.harness.mutate import generated, judge, listed
from rtl.harness.registry import load
from rtl.harness.synth import library, longest_path
from rtl.harness.unit import Model, check_accumulator


def trace(model: Model, offers: list[bool], ready: list[bool]) -> Trace:
    """What a unit that behaves as the model would show; every beat is a last one."""
    t = Trace({"s": []}, {"out": []}, {"s": [], "out": []}, {"s": [], "out": []})
    for edge, (offer, r) in enumerate(zip(offers, ready, strict=True)):
        beat = {"last": 1} if offer else None
        says = model.step({}, {"s": beat}, {"out": r})
        t.offers["s"].append(beat)
        t.valid["out"].append(says["out"])
        t.ready["s"].append(says["s"])
        t.ready["out"].append(r)
        if beat and says["s"]:
            t.moved["s"].append((edge, beat))
        if says["out"] and r:
            t.moved["out"].append((edge, {}))
    return t


def test_counts_of_a_trace() -> None:
    t = trace(RigidPipe(2), [True, False, True, True, False, False, False], [True, True, False, True, True, True, True])
    assert t.moved["s"][-1][0] == 3
    assert (t.took(), t.stalls(), t.bubbles()) == (5, 1, 1)
    assert_law(t, 3, "R", steady=True)
    with pytest.raises(MismatchError, match="allows 6 exactly"):
        assert_law(t, 4, "R", steady=True)
    with pytest.raises(MismatchError, match="allows 1 to 3"):
        assert_law(t, 1, "E", steady=False)


def test_rigid_and_elastic_differ_where_a_gap_can_close() -> None:
    offers, ready = [True, False, True, True, True, False, False], [False] * 4 + [True] * 3
    rigid = trace(RigidPipe(2), offers, ready)
    replay(RigidPipe(2), {}, rigid)
    assert len(rigid.states) == 7
    with pytest.raises(MismatchError, match="the cycle model says"):
        replay(ElasticPipe(2), {}, rigid)


def test_contract_is_exact() -> None:
    t = trace(RigidPipe(2), [True, True, False, False, False], [True] * 5)
    assert_contract(t, 3)
    with pytest.raises(MismatchError, match="T = 3 edges, the contract says 4"):
        assert_contract(t, 4)


def test_packing_goes_back() -> None:
    values = np.array([-8, 7, 0, -1, 3])
    assert unpack(pack(values, 4), 4, 5).tolist() == values.tolist()
    assert unpack(pack(values, 4), 4, 5, signed=False).tolist() == [8, 7, 0, 15, 3]


def test_accumulators_are_checked() -> None:
    check_accumulator(24, 4369, 128, 15)
    with pytest.raises(ValueError, match="needs 25 bits"):
        check_accumulator(24, 4370, 128, 15)


def test_coverage_file(tmp_path: Path) -> None:
    def line(kind: str, what: str, hits: int) -> str:
        return f"C '\x01f\x02/a/u.v\x01l\x027\x01n\x023\x01page\x02v_{kind}/u\x01o\x02{what}\x01h\x02u' {hits}"
    (tmp_path / "c.dat").write_text("# x\n" + "\n".join([line("toggle", "a:0->1", 3), line("toggle", "a:1->0", 0),
                                                          line("branch", "if", 0), line("toggle", "a:0->1", 2)]))
    hits = coverage.read(tmp_path / "c.dat")
    assert coverage.share(hits, "toggle") == (1, 2)
    assert [str(p) for p in coverage.missed(hits, "toggle")] == ["u.v:7 a:1->0"]
    assert coverage.missed(hits, "branch", ("u.v:7",)) == []
    assert coverage.share(coverage.merge([hits, hits]), "branch") == (0, 1)


def test_longest_path_ends_at_registers() -> None:
    def cell(kind: str, inputs: list[int], out: int) -> dict[str, Any]:
        pins = dict(zip("ABC", ([b] for b in inputs), strict=False))
        return {"type": kind, "connections": pins | {"Q" if kind == "DFF" else "Y": [out]}}
    chain = {"a": cell("INV", [1], 2), "b": cell("NAND2", [2, 1], 3), "r": cell("DFF", [3], 4), "c": cell("INV", [4], 5)}
    assert longest_path(chain) == 2
    assert longest_path(chain | {"r": cell("INV", [3], 4)}) == 4


def test_library_has_the_stated_areas() -> None:
    areas = library()
    assert (areas["NAND2"], areas["XOR2"], areas["MUX2"], areas["DFF"]) == (1.0, 2.0, 2.33, 5.67)
    assert len(areas) == 20


@pytest.mark.rtl
@pytest.mark.parametrize("name", ["w_last ignored", "exponent not added"])
def test_a_listed_fault_is_noticed(name: str) -> None:
    unit = load("lut_dot")
    verdict = judge(unit, next(f for f in listed(unit) if f.key == name))
    assert verdict.by not in ("", "build")


def test_faults_change_one_line_of_the_body() -> None:
    unit = load("lut_dot")
    own = {f.file: f.file.read_text().splitlines() for f in generated(unit)}
    for f in generated(unit):
        changed = [i for i, (a, b) in enumerate(zip(own[f.file], f.text.splitlines(), strict=True)) if a != b]
        assert len(changed) == 1
        assert changed[0] > own[f.file].index(");")
    kinds = {f.kind for f in generated(unit)}
    assert kinds >= {"operator", "constant", "width", "sign", "off-by-one", "missing reset", "swapped operands"}
