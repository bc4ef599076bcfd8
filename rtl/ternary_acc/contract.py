"""Cycle contract and handshake-level model of ``ternary_acc``."""

from __future__ import annotations

from typing import Any

from rtl.harness.models import RigidPipe
from rtl.harness.pipe_bins import PIPE_BINS
from rtl.harness.unit import Illegal, Mutant, Parameter, Params, Unit

TESTED = {"beats": (1, 64)}
PACKED = {"L": 5, "NO": 2, "A_W": 4, "PACK": 1, "ACC_W": 8}


def cycles(beats: Any) -> Any:
    """T of n beats [edges]: n + 1. Broadcasts. ``beats`` is results x ceil(K_total / L)."""
    return beats + 1


def gemm_cycles(m: Any, n: Any, k: Any, *, lanes: Any, outputs: Any) -> Any:
    """T of a product [m, k] x [k, n] [edges]: one result per row of m and ``outputs`` columns, ``lanes`` of k a beat.

    All arguments broadcast; ``lanes`` and ``outputs`` are the parameters L and NO. Padding counts as work.
    """
    return cycles(m * -(-n // outputs) * -(-k // lanes))


def bins(p: Params) -> list[str]:
    values = [f"weight {t}/lane {i}" for t in (-1, 0, 1) for i in range(p["L"])]
    packed = [f"byte {c}" for c in (0, 121, 242, 243, 255)] if p["PACK"] else ["illegal code"]
    return [*values, *packed, "lowest activations times -1", *PIPE_BINS]


UNIT = Unit(
    name="ternary_acc", law="R", text="dot products with ternary weights: add, subtract, skip",
    parameters={
        "L": Parameter(20, (1, 5, 16, 20), "activations per beat; a multiple of 5 when packed"),
        "NO": Parameter(4, (1, 2, 3, 4), "outputs that share the activations"),
        "A_W": Parameter(8, (4, 5, 8), "activation [bit], signed"),
        "PACK": Parameter(0, (0, 1), "0: two bits a weight, 1: five weights a byte"),
        "WB": Parameter(lambda p: 8 * (p["L"] // 5) if p["PACK"] else 2 * p["L"], (2, 8, 32, 40), "weights of an output [bit]"),
        "ACC_W": Parameter(32, (8, 12, 32), "accumulator [bit], wraps"),
    },
    cycles=cycles, model=lambda p: RigidPipe(2),
    fast=({}, PACKED),
    thorough=({"PACK": 1}, {"L": 1, "NO": 1}, {"L": 16, "NO": 3, "A_W": 5, "ACC_W": 12}),
    illegal=(Illegal({"L": 0}, "ternary_acc_requires_L_at_least_1"), Illegal({"NO": 0}, "ternary_acc_requires_NO_at_least_1"),
             Illegal({"A_W": 1}, "ternary_acc_requires_A_W_at_least_2"),
             Illegal({"L": 7, "PACK": 1}, "ternary_acc_requires_L_a_multiple_of_5_if_PACK"),
             Illegal({"WB": 32}, "ternary_acc_requires_WB_equal"),
             Illegal({"ACC_W": 12}, "ternary_acc_requires_ACC_W_at_least")),
    mutants=(
        Mutant("+1 of the negation missing", "term[A_W-2:0]} + neg;", "term[A_W-2:0]};"),
        Mutant("code 10 as -1", "on   = trits[2*(o*L + i)];", "on   = |trits[2*(o*L + i) +: 2];"),
        Mutant("code 10 not flagged", "assign bad[g] = s_w[2*g + 1] & !s_w[2*g];", "assign bad[g] = 1'b0;"),
        Mutant("first flag stuck", "if (s1_valid_q) fresh_q <= s1_last_q;", "fresh_q <= 1'b1;"),
        Mutant("last ignored", "out_valid_q <= s1_valid_q & s1_last_q;", "out_valid_q <= s1_valid_q;"),
        Mutant("flag without a transfer", "if (s_valid & illegal) err_q", "if (illegal) err_q"),
        Mutant("adv without out_ready", "wire adv = !out_valid_q | out_ready;", "wire adv = !out_valid_q;"),
        Mutant("base-3 digits reversed", "assign trits[2*k +: 2]", "assign trits[2*(4-k) +: 2]", PACKED,
               "trit_decode5"),
        Mutant("limit 243", "assign illegal = above[8];", "assign illegal = code > 8'd243;", PACKED, "trit_decode5"),
        Mutant("limit 241", "assign illegal = above[8];", "assign illegal = code > 8'd241;", PACKED, "trit_decode5"),
        Mutant("illegal bytes decoded", "{2{!illegal}} & ", "", PACKED, "trit_decode5"),
    ),
    bins=bins,
    survivors={
        "ternary_acc: constant: for (g = 0; g < NO*(L/5); g = g + 1) begin : g_byte -> "
        "for (g = 0; g < NO*(L/4); g = g + 1) begin : g_byte": "decoders beyond the last byte drive nothing",
    },
    macs_per_cycle=lambda p, cfg: float(p["NO"] * p["L"]),
    formats={"W2A8": ("20x4", {}), "W1.6A8": ("20x4 packed", {})},
    synth={"20x4": {}, "20x4 packed": {"PACK": 1}},
    published={"20x4": {"ge": 9745, "ff": 185, "lut": 1975, "dsp": 0},
               "20x4 packed": {"ge": 11600, "ff": 185, "lut": 2583, "dsp": 0}},
)
