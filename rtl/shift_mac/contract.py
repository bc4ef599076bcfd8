"""Cycle contract and handshake-level model of ``shift_mac``."""

from __future__ import annotations

from typing import Any

from rtl.harness.models import RigidPipe
from rtl.harness.pipe_bins import PIPE_BINS
from rtl.harness.unit import Illegal, Mutant, Parameter, Params, Unit

TESTED = {"beats": (1, 64)}


def cycles(beats: Any) -> Any:
    """T of n beats [edges]: n + 1. Broadcasts. ``beats`` is results x ceil(K_total / L)."""
    return beats + 1


def gemm_cycles(m: Any, n: Any, k: Any, *, rows: Any, lanes: Any) -> Any:
    """T of a product [m, k] x [k, n] on ``rows`` units side by side, one column each [edges]. All arguments broadcast."""
    return cycles(m * -(-n // rows) * -(-k // lanes))


def places(lanes: int) -> dict[str, int]:
    """Lane classes: name -> lane."""
    return {"first lane": 0, "inner lane": lanes // 2, "last lane": lanes - 1} if lanes > 2 else {"first lane": 0}


def bins(p: Params) -> list[str]:
    codes = [f"code {c}/{place}" for c in range(1 << p["B"]) for place in places(p["L"])]
    some = ["mask some"] if p["L"] > 1 else []
    return [*codes, "mask none", *some, "mask all", "lowest activations, largest shift, negated", *PIPE_BINS]


UNIT = Unit(
    name="shift_mac", law="R", text="dot product with power-of-two weights: shift and sign",
    parameters={
        "L": Parameter(16, (1, 3, 4, 16), "products per beat"),
        "A_W": Parameter(8, (4, 8), "activation [bit], signed"),
        "B": Parameter(3, (2, 3, 4), "weight {sign, exponent} [bit], 2 to 4"),
        "ACC_W": Parameter(32, (13, 24, 32), "accumulator [bit], wraps"),
    },
    cycles=cycles, model=lambda p: RigidPipe(2),
    fast=({}, {"L": 3, "A_W": 4, "B": 4, "ACC_W": 13}),
    thorough=({"B": 4}, {"L": 1}, {"L": 4, "B": 2, "ACC_W": 24}),
    illegal=(Illegal({"L": 0}, "shift_mac_requires_L_at_least_1"), Illegal({"A_W": 1}, "shift_mac_requires_A_W_at_least_2"),
             Illegal({"B": 1}, "shift_mac_requires_B_from_2_to_4"), Illegal({"B": 5}, "shift_mac_requires_B_from_2_to_4"),
             Illegal({"ACC_W": 15}, "shift_mac_requires_ACC_W_at_least")),
    mutants=(
        Mutant("exponent off by one", "term >>> down;", "term >>> (down + 1'b1);"),
        Mutant("sign on the wrong side of the shift", "term = {x, {E_MAX{neg}}};", "term = {x, {E_MAX{1'b0}}};"),
        Mutant("logical shift", "term >>> down;", "term >> down;"),
        Mutant("mask ignored", "(s_a[i*A_W +: A_W] & {A_W{s_mask[i]}})", "s_a[i*A_W +: A_W]"),
        Mutant("a masked lane takes the mask of the next", "{A_W{s_mask[i]}}", "{A_W{s_mask[(i == 1) ? 0 : i]}}"),
        Mutant("+1 of the negation missing", "term[T_W-2:0]} + neg;", "term[T_W-2:0]};"),
        Mutant("first flag stuck", "if (s1_valid_q) fresh_q <= s1_last_q;", "fresh_q <= 1'b1;"),
        Mutant("last ignored", "out_valid_q <= s1_valid_q & s1_last_q;", "out_valid_q <= s1_valid_q;"),
        Mutant("adv without out_ready", "wire adv = !out_valid_q | out_ready;", "wire adv = !out_valid_q;"),
        Mutant("accumulates an empty stage", "if (s1_valid_q) acc_q <=", "acc_q <="),
    ),
    bins=bins,
    macs_per_cycle=lambda p, cfg: float(p["L"]),
    formats={"POT3A8": ("16, B 3", {}), "POT4A8": ("16, B 4", {})},
    synth={"16, B 3": {}, "16, B 4": {"B": 4}},
    published={"16, B 3": {"ge": 3054, "ff": 52, "lut": 655, "dsp": 0}, "16, B 4": {"ge": 4031, "lut": 936, "dsp": 0}},
)
