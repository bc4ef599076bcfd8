"""Cycle contract and handshake-level model of ``shift_mac``."""

from __future__ import annotations

from typing import Any

from rtl.harness.models import RigidPipe
from rtl.harness.pipe_bins import PIPE_BINS
from rtl.harness.unit import Illegal, Mutant, Parameter, Params, Unit, clog2

TESTED = {"beats": (1, 64)}
#: Parameter sets with FP16 activations.
FP16 = {"FP": 1, "L": 3, "B": 4, "ACC_W": 24}
FP16_KINDS = ("zero", "subnormal", "subnormal that becomes normal", "normal", "above 65504", "illegal")


def cycles(beats: Any) -> Any:
    """T of n beats [edges]: n + 1. Broadcasts. ``beats`` is results x ceil(K_total / L)."""
    return beats + 1


def gemm_cycles(m: Any, n: Any, k: Any, *, rows: Any, lanes: Any) -> Any:
    """T of a product [m, k] x [k, n] on ``rows`` units side by side, one column each [edges]. All arguments broadcast."""
    return cycles(m * -(-n // rows) * -(-k // lanes))


def most_beats(lanes: int, acc_w: int) -> int:
    """Beats of a result that an accumulator of FP16 mode surely holds: each adds less than 2^(14 + clog2(lanes))."""
    return 1 << (acc_w - 15 - clog2(lanes))


def check_beats(beats: int, lanes: int, acc_w: int = 32) -> None:
    """Raise ``ValueError`` if the accumulator may overflow in FP16 mode."""
    if beats > (most := most_beats(lanes, acc_w)):
        raise ValueError(f"beats = {beats}: ACC_W = {acc_w} holds {most} beats of {lanes} FP16 products")


def places(lanes: int) -> dict[str, int]:
    """Lane classes: name -> lane."""
    return {"first lane": 0, "inner lane": lanes // 2, "last lane": lanes - 1} if lanes > 2 else {"first lane": 0}


def bins(p: Params) -> list[str]:
    codes = [f"code {c}/{place}" for c in range(1 << p["B"]) for place in places(p["L"])]
    some = ["mask some"] if p["L"] > 1 else []
    own = fp16_bins(p) if p["FP"] else ["lowest activations, largest shift, negated"]
    return [*codes, "mask none", *some, "mask all", *own, *PIPE_BINS]


def fp16_bins(p: Params) -> list[str]:
    kinds = [f"{kind}/{place}" for kind in FP16_KINDS for place in places(p["L"])]
    apart = [*(f"distance {d}" for d in range(16)), "jam of products"] if p["L"] > 1 else ["distance 0"]
    return [*kinds, *apart, "jam of a step", "jam of the accumulator", "cancelled to zero, then more", "no lane counts",
            "nothing in a result"]


UNIT = Unit(
    name="shift_mac", law="R", text="dot product with power-of-two weights: shift and sign",
    parameters={
        "FP": Parameter(0, (0, 1), "1: FP16 activations"),
        "L": Parameter(16, (1, 3, 4, 16), "products per beat"),
        "A_W": Parameter(lambda p: 16 if p["FP"] else 8, (4, 8, 16), "activation [bit], signed; 16 for FP16"),
        "B": Parameter(3, (2, 3, 4), "weight {sign, exponent} [bit], 2 to 4"),
        "ACC_W": Parameter(32, (13, 20, 24, 32), "accumulator [bit]; integers wrap, FP16: holds 2^(ACC_W-15) / L beats"),
    },
    cycles=cycles, model=lambda p: RigidPipe(2),
    fast=({}, {"L": 3, "A_W": 4, "B": 4, "ACC_W": 13}, FP16),
    thorough=({"B": 4}, {"L": 1}, {"L": 4, "B": 2, "ACC_W": 24}, {"FP": 1}, {"FP": 1, "L": 4, "B": 2, "ACC_W": 20},
              {"FP": 1, "L": 1}),
    illegal=(Illegal({"L": 0}, "shift_mac_requires_L_at_least_1"), Illegal({"A_W": 1}, "shift_mac_requires_A_W_at_least_2"),
             Illegal({"B": 1}, "shift_mac_requires_B_from_2_to_4"), Illegal({"B": 5}, "shift_mac_requires_B_from_2_to_4"),
             Illegal({"ACC_W": 15}, "shift_mac_requires_ACC_W_at_least"),
             Illegal({"FP": 1, "ACC_W": 18}, "shift_mac_requires_ACC_W_at_least"),
             Illegal({"FP": 1, "A_W": 8}, "shift_mac_requires_A_W_16_for_FP16")),
    mutants=(
        Mutant("exponent off by one", "term >>> down;", "term >>> (down + 1'b1);", file="shift_int_dot"),
        Mutant("sign on the wrong side of the shift", "term = {x, {E_MAX{neg}}};", "term = {x, {E_MAX{1'b0}}};",
               file="shift_int_dot"),
        Mutant("logical shift", "term >>> down;", "term >> down;", file="shift_int_dot"),
        Mutant("mask ignored", "(a[i*A_W +: A_W] & {A_W{mask[i]}})", "a[i*A_W +: A_W]", file="shift_int_dot"),
        Mutant("a masked lane takes the mask of the next", "{A_W{mask[i]}}", "{A_W{mask[(i == 1) ? 0 : i]}}",
               file="shift_int_dot"),
        Mutant("+1 of the negation missing", "term[T_W-2:0]} + neg;", "term[T_W-2:0]};", file="shift_int_dot"),
        Mutant("first flag stuck", "if (s1_valid_q) fresh_q <= s1_last_q;", "fresh_q <= 1'b1;"),
        Mutant("last ignored", "out_valid_q <= s1_valid_q & s1_last_q;", "out_valid_q <= s1_valid_q;"),
        Mutant("adv without out_ready", "wire adv = !out_valid_q | out_ready;", "wire adv = !out_valid_q;"),
        Mutant("accumulates an empty stage", "if (s1_valid_q) acc_q <=", "acc_q <="),
        Mutant("jam of products dropped", "p[0] = p[0] | (|(full & ~(14'h3fff << d)));", "", FP16, "shift_fp16_dot"),
        Mutant("jam of the accumulator dropped", "far[0] | lost}", "far[0]}", FP16),
        Mutant("distance not clamped", "gap[3:0] | {4{gap[4]}};", "gap[3:0];", FP16, "shift_fp16_dot"),
        Mutant("subnormals not renormalised", "left >= (1 << j) &&", "1'b0 &&", FP16, "shift_fp16_dot"),
        Mutant("renormalised past the leading one", "== 11'd0)", "!= 11'd1)", FP16, "shift_fp16_dot"),
        Mutant("exponent of subnormals is 0", "fe[0] | !(|fe)}", "fe[0]}", FP16, "shift_fp16_dot"),
        Mutant("weight's exponent ignored", "!(|fe)} + left;", "!(|fe)};", FP16, "shift_fp16_dot"),
        Mutant("saturates one exponent late", "(e >= 6'd31)", "(e > 6'd31)", FP16, "shift_fp16_dot"),
        Mutant("saturated significand kept", "(m | {11{over[i]}})", "m", FP16, "shift_fp16_dot"),
        Mutant("masked lane flagged", "mask[i] & (e >= 6'd31)", "(e >= 6'd31)", FP16, "shift_fp16_dot"),
        Mutant("FP16 mask ignored", "{11{mask[i]}};", "{11{1'b1}};", FP16, "shift_fp16_dot"),
        Mutant("sign of the weight ignored", "a[k*16 + 15] ^ w[k*B + B-1];", "a[k*16 + 15];", FP16, "shift_fp16_dot"),
        Mutant("zero lanes count", "if (|m_all[i*11 +: 11])", "if (mask[i])", FP16, "shift_fp16_dot"),
        Mutant("exponent of the smaller operand", "exp_q <= lead ? dot_exp_q : base_exp;",
               "exp_q <= lead ? base_exp : dot_exp_q;", FP16),
        Mutant("zero accumulator keeps its exponent", "(base == {ACC_W{1'b0}})", "fresh_q", FP16),
        Mutant("exponent kept from the result before", "exp_q & {5{!fresh_q}}", "exp_q", FP16),
        Mutant("nothing flagged", "if (s_valid & adv & bad) err_q", "if (1'b0) err_q", FP16),
        Mutant("flagged without a beat", "s_valid & adv & bad", "adv & bad", FP16),
    ),
    bins=bins,
    survivors={
        "shift_fp16_dot: off-by-one: for (i = L - 1; i > 0; i = i - 1) -> for (i = L - 1; i >= 0; i = i - 1)":
            "entry 0 of the tree of exponents is not used",
        "shift_fp16_dot: constant: reg [L*10-1:0] top; -> reg [L*10-1:1] top;": "entry 0 of the tree of exponents is not used",
        "shift_fp16_dot: operator: for (j = B - 2; j >= 0; j = j - 1) -> for (j = B + 2; j >= 0; j = j - 1)":
            "no exponent of a weight is as large as the further steps",
        "shift_mac: off-by-one: wire above = dot_exp_q > base_exp; -> wire above = dot_exp_q >= base_exp;":
            "at equal exponents nothing is shifted, whichever operand leads",
    },
    waived={**{f" top[{i}]": "entry 0 of the tree of exponents is not used" for i in range(5)},
            **{f" full[{i}]": "guard bits are 0 before the shift" for i in range(3)}},
    macs_per_cycle=lambda p, cfg: float(p["L"]),
    formats={"POT3A8": ("16, B 3", {}), "POT4A8": ("16, B 4", {}),
             "POT3xFP16": ("16 FP16, B 3", {}), "POT4xFP16": ("16 FP16, B 4", {})},
    synth={"16, B 3": {}, "16, B 4": {"B": 4}, "16 FP16, B 3": {"FP": 1}, "16 FP16, B 4": {"FP": 1, "B": 4}},
    published={"16, B 3": {"ge": 3054, "ff": 52, "lut": 655, "dsp": 0}, "16, B 4": {"ge": 4031, "lut": 936, "dsp": 0}},
)
