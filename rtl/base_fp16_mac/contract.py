"""Cycle contract and handshake-level model of ``base_fp16_mac``."""

from __future__ import annotations

from typing import Any

from rtl.harness.models import RigidPipe
from rtl.harness.unit import Illegal, Mutant, Parameter, Params, Unit

TESTED = {"pairs": (1, 64)}


def cycles(pairs: Any) -> Any:
    """T of n pairs [edges]: n + 1. Broadcasts."""
    return pairs + 1


def gemm_cycles(m: Any, n: Any, k: Any, *, rows: Any, cols: Any) -> Any:
    """T of a product [m, k] x [k, n] on ``rows`` x ``cols`` units [edges]. All arguments broadcast.

    Outputs n are dealt over the rows and tokens m over the columns, each unit computes one result at a time.
    """
    return cycles(-(-n // rows) * -(-m // cols) * k)


def bins(p: Params) -> list[str]:
    kinds = ("zero", "subnormal", "normal", "illegal")
    return [*(f"a {x}/w {y}" for x in kinds for y in kinds), "exact cancellation", "one pair", "many pairs",
            "stall: result waits, next in stage 1", "gap in a result"]


UNIT = Unit(
    name="base_fp16_mac", law="R", text="baseline: FP16 multiply-accumulate",
    parameters={"AM": Parameter(23, (10, 16, 23, 26), "fraction of the accumulator [bit]; 23: binary32")},
    cycles=cycles, model=lambda p: RigidPipe(2),
    fast=({}, {"AM": 10}), thorough=({"AM": 16}, {"AM": 26}),
    illegal=(Illegal({"AM": 6}, "base_fp16_mac_requires_AM_at_least_7"),
             Illegal({"AM": 41}, "base_fp16_mac_requires_AM_at_most_40")),
    mutants=(
        Mutant("sticky dropped", "lo_far[0] | lost}", "lo_far[0]}"),
        Mutant("round half up", "half & (rest | top[F-AM])", "half"),
        Mutant("hidden bit of subnormals", "{|s_a[14:10], s_a[9:0]", "{1'b1, s_a[9:0]"),
        Mutant("exponent of subnormals is 0", "(s_a[10] | ~(|s_a[14:10]))", "s_a[10]"),
        Mutant("carry of rounding ignored", "+ {7'd0, round[AM+1]};", ";"),
        Mutant("product not normalised", "lead[i] = 1'b1;", "lead[i] = 1'b0;"),
        Mutant("first flag stuck", "if (s1_valid_q) fresh_q <= s1_last_q;", "fresh_q <= 1'b1;"),
        Mutant("negative zero kept", "acc_s_q <= sign & !zero;", "acc_s_q <= sign;"),
        Mutant("illegal operand not flagged", "(a_bad | w_bad)", "a_bad"),
        Mutant("adv without out_ready", "wire adv = !out_valid_q | out_ready;", "wire adv = !out_valid_q;"),
    ),
    bins=bins,
    survivors={"base_fp16_mac: off-by-one: for (k = LZ - 1; k >= 0; k = k - 1) -> for (k = LZ; k >= 0; k = k - 1)":
               "a step of all bits is taken by zero alone, and zero stays zero"},
    waived={f"{m}[{i}]": "guard, round and sticky bits are 0 before the shift" for m in ("hi_m", "lo_m") for i in range(3)},
    macs_per_cycle=lambda p, cfg: 1.0,
    formats={f"W{w}xFP16": ("AM 23", {}) for w in (1, 2, 4, 6, 8)},
    synth={"AM 23": {}, "AM 10": {"AM": 10}},
    published={"AM 23": {"ge": 5503, "ff": 67, "lut": 1243, "dsp": 1}, "AM 10": {"ge": 3890, "ff": 54, "lut": 757, "dsp": 1}},
)
