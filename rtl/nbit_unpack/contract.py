"""Cycle contract and handshake-level model of ``nbit_unpack``."""

from __future__ import annotations

from typing import Any

from rtl.harness.models import RigidPipe
from rtl.harness.unit import Illegal, Mutant, Parameter, Params, Unit

TESTED = {"beats": (1, 64)}


def cycles(beats: Any) -> Any:
    """T of n beats [edges]: n, since L = 1 and II = 1. Broadcasts."""
    return beats + 0


def bins(p: Params) -> list[str]:
    return [*(f"code {c}/signed {s}" for c in range(1 << p["B"]) for s in (0, 1)), "stall", "gap"]


UNIT = Unit(
    name="nbit_unpack", law="R", text="2 to 7-bit codes widened to INT8",
    parameters={"LANES": Parameter(8, (1, 3, 8), "codes per beat"), "B": Parameter(4, (2, 3, 4, 7), "code [bit]")},
    cycles=cycles, model=lambda p: RigidPipe(1),
    fast=({}, {"LANES": 3, "B": 3}),
    thorough=({"B": 2}, {"LANES": 1, "B": 7}),
    illegal=(Illegal({"LANES": 0}, "nbit_unpack_requires_LANES_at_least_1"),
             Illegal({"B": 1}, "nbit_unpack_requires_B_at_least_2"),
             Illegal({"B": 8}, "nbit_unpack_requires_B_at_most_7")),
    mutants=(
        Mutant("sign ignored", "cfg_signed & s_data[i*B + B - 1]", "1'b0"),
        Mutant("always signed", "cfg_signed & s_data[i*B + B - 1]", "s_data[i*B + B - 1]"),
        Mutant("sign of the lowest bit", "s_data[i*B + B - 1]", "s_data[i*B]"),
        Mutant("ready without out_ready", "assign s_ready   = !valid_q | out_ready;", "assign s_ready   = !valid_q;"),
        Mutant("data load while stalled", "if (s_ready) data_q <= wide;", "data_q <= wide;"),
    ),
    bins=bins,
    survivors={
        "nbit_unpack: constant: wide = {LANES*8{1'b0}}; -> wide = {LANES*8{1'b1}};": "start value; the loop assigns every bit",
        "nbit_unpack: constant: wide = {LANES*8{1'b0}}; -> wide = {LANES*7{1'b0}};": "start value; the loop assigns every bit",
    },
    synth={"8x4": {}, "16x2": {"LANES": 16, "B": 2}},
)
