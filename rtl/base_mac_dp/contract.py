"""Cycle contract and handshake-level model of ``base_mac_dp``."""

from __future__ import annotations

from typing import Any

from rtl.harness.models import RigidPipe
from rtl.harness.unit import Illegal, Mutant, Parameter, Params, Unit

TESTED = {"beats": (1, 64)}


def cycles(beats: Any) -> Any:
    """T of n beats [edges]: n + 1. Broadcasts. ``beats`` is results x ceil(K_total / L)."""
    return beats + 1


def gemm_cycles(m: Any, n: Any, k: Any, *, rows: Any, cols: Any, lanes: Any) -> Any:
    """T of a product [m, k] x [k, n] on ``rows`` x ``cols`` units [edges]. All arguments broadcast.

    Outputs n are dealt over the rows and tokens m over the columns, each unit computes one result at a time.
    """
    return cycles(-(-n // rows) * -(-m // cols) * -(-k // lanes))


def bins(p: Params) -> list[str]:
    signs = [f"a {s}/w {t}" for s in ("negative", "zero", "positive") for t in ("negative", "zero", "positive")]
    return [*signs, "extreme times extreme", "one beat", "many beats", "stall: result waits, next in stage 1",
            "gap in a result"]


UNIT = Unit(
    name="base_mac_dp", law="R", text="baseline: integer dot product with multipliers",
    parameters={
        "L": Parameter(4, (1, 3, 4, 16), "products per beat"),
        "A_W": Parameter(8, (4, 8), "activation [bit], signed"),
        "B_W": Parameter(8, (3, 4, 8), "weight [bit], signed"),
        "ACC_W": Parameter(32, (12, 24, 32), "accumulator [bit], wraps"),
    },
    cycles=cycles, model=lambda p: RigidPipe(2),
    fast=({}, {"L": 3, "A_W": 4, "B_W": 3, "ACC_W": 10}),
    thorough=({"L": 1, "A_W": 8, "B_W": 4}, {"L": 16, "ACC_W": 24}),
    illegal=(Illegal({"L": 0}, "base_mac_dp_requires_L_at_least_1"), Illegal({"A_W": 1}, "base_mac_dp_requires_A_W_at_least_2"),
             Illegal({"B_W": 1}, "base_mac_dp_requires_B_W_at_least_2"),
             Illegal({"ACC_W": 17}, "base_mac_dp_requires_ACC_W_at_least")),
    mutants=(
        Mutant("first flag stuck", "if (s1_valid_q) fresh_q <= s1_last_q;", "fresh_q <= 1'b1;"),
        Mutant("last ignored", "out_valid_q <= s1_valid_q & s1_last_q;", "out_valid_q <= s1_valid_q;"),
        Mutant("weight unsigned", "reg signed [B_W-1:0]     b;", "reg [B_W-1:0]     b;"),
        Mutant("activation unsigned", "reg signed [A_W-1:0]     a;", "reg [A_W-1:0]     a;"),
        Mutant("lane 0 left out", "for (i = 0; i < L", "for (i = 1; i < L"),
        Mutant("adv without out_ready", "wire adv = !out_valid_q | out_ready;", "wire adv = !out_valid_q;"),
        Mutant("accumulates an empty stage", "if (s1_valid_q) acc_q <=", "acc_q <="),
    ),
    bins=bins,
    macs_per_cycle=lambda p, cfg: float(p["L"]),
    formats={"W1A8": ("4x(8x3)", {}), "W2A8": ("4x(8x3)", {}), "W4A8": ("4x(8x4)", {}), "W8A8": ("4x(8x8)", {}),
             "W4A4": ("4x(4x4)", {})},
    sizes={"16x(8x8)": "4x(8x8)", "16x(8x4)": "4x(8x4)", "8x(8x3)": "4x(8x3)", "16x(4x4)": "4x(4x4)"},
    synth={"4x(8x8)": {}, "4x(8x4)": {"B_W": 4}, "4x(8x3)": {"B_W": 3}, "4x(4x4)": {"A_W": 4, "B_W": 4},
           "16x(8x8)": {"L": 16}, "16x(8x4)": {"L": 16, "B_W": 4}, "8x(8x3)": {"L": 8, "B_W": 3},
           "16x(4x4)": {"L": 16, "A_W": 4, "B_W": 4}},
    published={"4x(8x8)": {"ge": 2512, "ff": 54, "lut": 92, "dsp": 4},
               "4x(8x4)": {"ge": 1788, "ff": 50, "lut": 78, "dsp": 4},
               "4x(8x3)": {"ge": 1437, "ff": 49, "lut": 74, "dsp": 4},
               "16x(8x8)": {"ge": 8749, "ff": 56, "lut": 430, "dsp": 16}},
)
