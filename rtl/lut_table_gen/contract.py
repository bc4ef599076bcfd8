"""Cycle contract and handshake-level model of ``lut_table_gen``."""

from __future__ import annotations

from typing import Any

from rtl.harness.models import ElasticPipe
from rtl.harness.unit import Illegal, Mutant, Parameter, Params, Unit, clog2

TESTED = {"tables": (1, 64)}


def cycles(tables: Any, *, quantised: Any) -> Any:
    """T of n tables from the first activations to the last table [edges]: n - 1 + L, L = 2 exact, 3 rounded. Broadcasts."""
    return tables - 1 + 2 + quantised


def e_max(p: Params) -> int:
    """Largest exponent of a rounded table: that of K activations of the largest magnitude."""
    return max(0, (p["K"] << (p["A_W"] - 1)).bit_length() - (p["Q_W"] - 1))


def bins(p: Params) -> list[str]:
    signs = [f"entry {i} {s}" for i in range(1 << (p["K"] - 1)) for s in ("negative", "zero", "positive")]
    if not p["Q"]:
        return [*signs, "stall: all stages full", "gap closes inside"]
    return [*signs, "stall: all stages full", "gap closes inside", *(f"exponent {e}" for e in range(e_max(p) + 1)), "clip",
            "tie down", "tie up"]


UNIT = Unit(
    name="lut_table_gen", law="R*", text="symmetric table of signed sums, exact or rounded",
    parameters={
        "K": Parameter(4, (2, 3, 4, 5), "activations per table"),
        "A_W": Parameter(8, (4, 8, 16), "activation [bit], signed; 16 for aligned FP16 blocks"),
        "T_W": Parameter(lambda p: p["A_W"] + clog2(p["K"]) + 1, (6, 11, 19), "exact entry [bit]"),
        "Q": Parameter(0, (0, 1), "1: entries rounded to Q_W bits"),
        "Q_W": Parameter(8, (4, 8), "rounded entry [bit]"),
        "E_W": Parameter(4, (2, 4), "exponent [bit]"),
        "O_W": Parameter(lambda p: p["Q_W"] if p["Q"] else p["T_W"], (6, 8, 11), "entry as sent [bit]"),
    },
    cycles=cycles, model=lambda p: ElasticPipe(2 + p["Q"], "a", "tbl"),
    fast=({}, {"Q": 1}, {"K": 3, "A_W": 4, "Q": 1, "Q_W": 4, "E_W": 2}),
    thorough=({"A_W": 16, "Q": 1}, {"K": 2, "A_W": 4}, {"K": 5, "A_W": 6}, {"K": 3}),
    illegal=(Illegal({"K": 1}, "lut_table_gen_requires_K_at_least_2"),
             Illegal({"A_W": 1}, "lut_table_gen_requires_A_W_at_least_2"),
             Illegal({"T_W": 10}, "lut_table_gen_requires_T_W_equal"), Illegal({"O_W": 8}, "lut_table_gen_requires_O_W_equal"),
             Illegal({"Q": 1, "E_W": 1}, "lut_table_gen_requires_E_W_to_hold_the_exponent"),
             Illegal({"Q": 1, "Q_W": 12}, "lut_table_gen_requires_Q_W_at_most_T_W")),
    mutants=(
        Mutant("top sign +1", "if (j < K-1 && ((i >>", "if (j == K-1 || ((i >>"),
        Mutant("one half-sum sign", "full[n*T_W +: T_W] = hi_part - lo_part;", "full[n*T_W +: T_W] = hi_part + lo_part;"),
        Mutant("exponent from the largest magnitude instead of the sum", "sum = sum + mag + a_data[j*A_W + A_W - 1];",
               "if (mag > sum) sum = mag;", {"Q": 1}, "lut_table_round"),
        Mutant("round half up", "moved[0] & (moved[1] | (|lost))", "moved[0]", {"Q": 1}, "lut_table_round"),
        Mutant("no clamp", "if (value > TOP)  value = TOP;", "", {"Q": 1}, "lut_table_round"),
        Mutant("clamp at -128", "if (value < -TOP) value = -TOP;", "", {"Q": 1}, "lut_table_round"),
        Mutant("clamp one higher", "TOP = (1 << (Q_W-1)) - 1;", "TOP = (1 << (Q_W-1));", {"Q": 1}, "lut_table_round"),
        Mutant("exponent off by one", "e = b - (Q_W - 2);", "e = b - (Q_W - 1);", {"Q": 1}, "lut_table_round"),
    ),
    bins=bins,
    survivors={
        "lut_table_gen: constant: hi = {HIS*HI_W{1'b0}}; -> hi = {HIS*HI_W{1'b1}};": "start value; the loop assigns every bit",
        "lut_table_round: off-by-one: if (value > TOP) value = TOP; -> if (value >= TOP) value = TOP;":
            "TOP set to TOP stays TOP",
    },
    waived={"entry[0]": "the bit appended below an entry is 0 until the shift", "lost[": "bits above the largest exponent",
            "mag[": "the top bit of a magnitude in ones' complement is 0"},
    synth={"A8": {}, "A8 rounded": {"Q": 1}, "A16 rounded": {"Q": 1, "A_W": 16}},
    published={"A8": {"ge": 1652, "ff": 135, "lut": 142}, "A8 rounded": {"ge": 3319, "lut": 599},
               "A16 rounded": {"ge": 8763, "lut": 1318}},
)
