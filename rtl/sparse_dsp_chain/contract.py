"""Cycle contract and handshake-level model of ``sparse_dsp_chain``."""

from __future__ import annotations

from typing import Any

from rtl.harness.models import RigidPipe
from rtl.harness.unit import Illegal, Mutant, Parameter, Params, Unit, clog2

TESTED = {"beats": (1, 64)}
SMALL = {"D": 4, "M": 2, "ACC_W": 18}
FLOW = ("one beat", "many beats", "stall: result waits, next in stage 2", "gap in a result")


def cycles(beats: Any) -> Any:
    """T of n beats [edges]: n + 2. Broadcasts. A result of K_dense positions takes ceil(K_dense n / (M D / segments))."""
    return beats + 2


def gemm_cycles(m: Any, n: Any, k: Any, *, lanes: Any, block: Any, kept: Any, segments: Any) -> Any:
    """T of a product of activations [m, k] with weights [n, k] that keep ``kept`` of each ``block`` along k [edges].

    Two rows of m at a time, ``segments`` columns of n side by side, each on ``lanes`` / ``segments`` multipliers. All
    arguments broadcast; ``lanes`` and ``block`` are the parameters D and M. k is a multiple of ``block`` (or padded to it).
    """
    return cycles(-(-m // 2) * -(-n // segments) * -(-k * kept * segments // (block * lanes)))


def rates(p: Params) -> tuple[int, ...]:
    """Legal values of cfg_n."""
    return tuple(sorted({1, 2, p["M"]}))


def bins(p: Params) -> list[str]:
    modes = [f"{n} of {p['M']}/{1 << s} segments" for n in rates(p) for s in range(3)]
    lanes = [f"lane {d}/{what}" for d in range(p["D"]) for what in
             ("borrow 0", "borrow 1", "weight -128", *(f"index {x}" for x in range(p["M"])))]
    signs = [f"segment {s}/signs {t}{u}" for s in range(4) for t in "+-" for u in "+-"]
    repeated = ["index repeated"] if p["M"] > 2 else []
    return [*modes, *lanes, *signs, *repeated, "fullest field +", "fullest field -", "illegal n", "illegal split", *FLOW]


UNIT = Unit(
    name="sparse_dsp_chain", law="R", text="N:M sparse dot products of two tokens on packed multipliers",
    parameters={
        "D": Parameter(8, (4, 8), "multipliers, 4 or 8"),
        "M": Parameter(4, (2, 4, 8), "positions of a block, power of two"),
        "XW": Parameter(lambda p: clog2(p["M"]), (1, 2, 3), "index of a position [bit]"),
        "NW": Parameter(lambda p: clog2(p["M"] + 1), (2, 3, 4), "bits of cfg_n, hold M"),
        "ACC_W": Parameter(32, (18, 24, 32), "accumulator [bit], wraps"),
    },
    cycles=cycles, model=lambda p: RigidPipe(3),
    fast=({}, SMALL),
    thorough=({"M": 8, "ACC_W": 24}, {"D": 4}, {"M": 2}),
    illegal=(Illegal({"D": 6}, "sparse_dsp_chain_requires_D_4_or_8"), Illegal({"D": 16}, "sparse_dsp_chain_requires_D_4_or_8"),
             Illegal({"M": 3}, "sparse_dsp_chain_requires_M_equal_2_to_the_XW"),
             Illegal({"M": 1, "XW": 1}, "sparse_dsp_chain_requires_M_equal_2_to_the_XW"),
             Illegal({"NW": 2}, "sparse_dsp_chain_requires_NW_to_hold_M"),
             Illegal({"ACC_W": 17}, "sparse_dsp_chain_requires_ACC_W_at_least_18")),
    mutants=(
        Mutant("borrow not added", "high_wide + low[F-1];", "high_wide;"),
        Mutant("borrow not taken off", "- a0[i*8 + 7];", "- 1'b0;"),
        Mutant("17-bit field", "localparam F   = 18;", "localparam F   = 17;"),
        Mutant("dense mode uses the index", ".straight(s_a0[d*8 +: 8])", ".straight(s_a0[((d/M)*M + s_x[d*XW +: XW])*8 +: 8])"),
        Mutant("block d/2 in 1:M mode", ".own(s_a1[d*M*8 +: M*8])", ".own(s_a1[(d/2)*M*8 +: M*8])"),
        Mutant("split boundary off by one", "for (j = k*PER; j < (k + 1)*PER; j = j + 1)",
               "for (j = k*PER - (k == 3); j < (k + 1)*PER - (k == 2); j = j + 1)"),
        Mutant("tokens swapped", "assign out_data  = acc_q;",
               "assign out_data  = {acc_q[0 +: 4*ACC_W], acc_q[4*ACC_W +: 4*ACC_W]};"),
        Mutant("two segments read as one", "whole ? right : {SW{1'b0}});", "!four ? right : {SW{1'b0}});"),
        Mutant("-128 kept", "s_w[i*8 +: 8] | lowest[i];", "s_w[i*8 +: 8];"),
        Mutant("no flag of -128", "(wrong | (|lowest))", "wrong"),
        Mutant("flag without a transfer", "wire s_fire = s_valid & s_ready;", "wire s_fire = 1'b1;"),
        Mutant("weight unsigned", "reg signed [7:0]  weight;", "reg [7:0]  weight;"),
        Mutant("first flag stuck", "if (s2_valid_q) fresh_q <= s2_last_q;", "fresh_q <= 1'b1;"),
        Mutant("last ignored", "out_valid_q <= s2_valid_q & s2_last_q;", "out_valid_q <= s2_valid_q;"),
        Mutant("adv without out_ready", "wire adv    = !out_valid_q | out_ready;", "wire adv    = !out_valid_q;"),
        Mutant("accumulates an empty stage", "if (s2_valid_q) acc_q <= acc;", "acc_q <= acc;"),
    ),
    bins=bins,
    macs_per_cycle=lambda p, cfg: 2 * p["D"] * p["M"] / cfg["n"],
    formats={"W8A8": ("D 8", {"n": 4}), "W8A8 2:4": ("D 8", {"n": 2}), "W8A8 1:4": ("D 8", {"n": 1})},
    sizes={"D 4": "D 8"},
    synth={"D 8": {}, "D 4": {"D": 4}},
    published={"D 8": {"ge": 24145, "ff": 647, "lut": 1753, "dsp": 8}},
)
