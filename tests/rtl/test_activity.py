"""Counting changes of outputs in a netlist."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest

from rtl.harness.activity import FUNCTIONS, PATH, WORK, count
from rtl.harness.synth import LIBRARY, library


def cell(kind: str, **pins: Any) -> dict[str, Any]:
    return {"type": kind, "connections": {p: [b] for p, b in pins.items()}}


def netlist(cells: dict[str, Any], **inputs: list[int]) -> dict[str, Any]:
    return {"cells": cells, "ports": {k: {"direction": "input", "bits": v} for k, v in inputs.items()}}


def test_functions_are_those_of_the_library() -> None:
    text = LIBRARY.read_text(encoding="utf-8")
    for name, function in FUNCTIONS.items():
        body = re.search(rf"cell \({name}\).*?function : \"(.*?)\"", text)
        assert body, name
        pins = [p for p in "ABCDS" if re.search(rf"\b{p}\b", body[1])]
        said = body[1].replace(" ", " & ").replace("+", "|").replace("!", "~")
        said = re.sub(r"& *\|", "|", said)
        for bits in itertools.product((0, 1), repeat=len(pins)):
            wanted = eval(said, {}, dict(zip(pins, bits, strict=True))) & 1        # text of our own library
            assert function(*bits) & 1 == wanted, (name, bits)
    assert set(FUNCTIONS) == set(library()) - {"DFF"}


def test_a_toggle_flip_flop_changes_every_cycle() -> None:
    """Q and its inverse change each cycle: two changes on 5.67 + 0.67 gate equivalents."""
    found = count(netlist({"f": cell("DFF", C=2, D=4, Q=3), "i": cell("INV", A=3, Y=4)}, clk=[2]), {})
    assert found.per_ff == 1.0
    assert found.per_ge == pytest.approx(2 / (library()["DFF"] + library()["INV"]))


def test_random_inputs_and_constants() -> None:
    """A random bit changes every second cycle, an AND of two in 3/8 of them, what a constant gates never."""
    gates = {"a": cell("AND2", A=2, B=3, Y=4), "b": cell("NOR2", A=2, B="1", Y=5), "c": cell("BUF", A=2, Y=6),
             "d": cell("BUF", A=7, Y=8)}
    found = count(netlist(gates, s_a=[2, 3], cfg_x=[7], s_valid=[9]), {"cfg_x": 1})
    total = found.per_ge * sum(library()[g["type"]] for g in gates.values())
    assert total == pytest.approx(3 / 8 + 1 / 2, abs=0.02)


def test_every_unit_that_is_simulated_is_stored_and_plausible() -> None:
    rows = json.loads(PATH.read_text(encoding="utf-8"))
    assert {r["unit"] for r in rows} == set(WORK), "python -m rtl.harness.activity"
    assert all(0.05 < r["per_ge"] < 0.5 and 0.05 < r["per_ff"] <= 1 for r in rows)
