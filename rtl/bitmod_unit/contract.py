"""Cycle contract and handshake-level model of ``bitmod_unit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rtl.harness.unit import Beat, Illegal, Mutant, Parameter, Params, Unit

#: Legal types: terms of a weight.
TERMS = {0: 4, 1: 3, 2: 2, 4: 2, 5: 2}
#: Longest distance by which a product is shifted.
FURTHEST = 15
TESTED = {"groups": (1, 9), "quads": (1, 32), "terms": (2, 4), "scale_bits": (3, 8)}
SHORT = {"ACC_W": 20, "D_W": 3}


def in_use(dtype: int) -> int:
    """The type that a code stands for: illegal ones read as INT4 and EFP3."""
    return {3: 2, 6: 5, 7: 5}.get(dtype, dtype)


def term_cycles(groups: Any, quads: Any, *, terms: Any, scale_bits: Any = 8) -> Any:
    """T from the first term to the last result [edges]. All arguments broadcast.

    c = quads terms edges a group: groups c + scale_bits + 2 for c >= scale_bits, else the dequantiser sets the pace.
    ``quads`` is ceil(g / 4), ``terms`` 4, 3, 2 for INT8, INT6 and the others.
    """
    c = quads * terms
    return c + scale_bits + 2 + (groups - 1) * np.maximum(c, scale_bits)


def cycles(groups: Any, quads: Any, *, terms: Any, scale_bits: Any = 8) -> Any:
    """T from the first quad's transfer, which is that of its last term, to the last result [edges]. Broadcasts."""
    return term_cycles(groups, quads, terms=terms, scale_bits=scale_bits) - (terms - 1)


def gemm_cycles(m: Any, n: Any, k: Any, *, rows: Any, cols: Any, group: Any, terms: Any, drain: Any = 0,
                scale_bits: Any = 8) -> Any:
    """T of a product [m, k] x [k, n] on ``rows`` x ``cols`` PEs, n on the rows, m on the columns [edges]. Broadcasts.

    ``drain``: edges in which rows that share an accumulator hand their results over. A part group counts as whole quads.
    """
    whole = np.maximum(scale_bits * -(-k // group), -(-k // 4) * terms)
    return -(-n // rows) * -(-m // cols) * whole + scale_bits + 2 + drain


def check_group(group: int, dtype: int, acc_w: int = 24) -> None:
    """Raise ``ValueError`` if a group's accumulator may overflow: every term adds less than 2^16."""
    most = (1 << (acc_w - 17)) // TERMS[dtype] * 4
    if group > most:
        raise ValueError(f"group = {group}: type {dtype} has {TERMS[dtype]} terms, ACC_W = {acc_w} holds groups up to {most}")


class Model:
    """Control registers alone: term number, stages A and B, finished group, dequantiser's bits, output."""

    def __init__(self, p: Params) -> None:
        self.p = p
        self.a = self.a_last = self.b = self.b_last = self.done = self.out = False
        self.term = self.left = 0

    def step(self, cfg: Mapping[str, int], offers: Mapping[str, Beat | None], sinks: Mapping[str, bool]) -> dict[str, bool]:
        idle, s = self.left == 0, offers["s"]
        adv = not self.done or idle
        last_term = self.term == TERMS[in_use(cfg["dtype"])] - 1
        says = {"s": adv and last_term, "out": self.out}
        load = self.done and idle
        final = self.left == 1 and (not self.out or sinks["out"])
        self.out = final or (self.out and not sinks["out"])
        if load:
            self.left = self.p["D_W"] - 1
        elif final or self.left > 1:
            self.left -= 1
        if adv:
            self.done = self.b and self.b_last
            self.b, self.b_last = self.a, self.a_last
            self.a, self.a_last = s is not None, s is not None and last_term and bool(s["last"])
            if s is not None:
                self.term = 0 if last_term else self.term + 1
        return says

    def state(self) -> dict[str, int]:
        return {"term": self.term, "done": int(self.done), "left": self.left, "out": int(self.out)}


def bins(p: Params) -> list[str]:
    steps = [f"type {t}/term {k}" for t in range(8) for k in range(TERMS[in_use(t)])]
    return [*steps, *(f"distance {d}" for d in range(FURTHEST + 1)), *(f"special value in lane {i}" for i in range(4)),
            *(f"special value {i}" for i in range(4)), "jam of products", "jam of the accumulator", "jam of a step",
            "cancelled to zero, then more", "no lane counts", "nothing in a group", "illegal activation",
            "dequantiser busy at hand-over", "one quad", "many quads", "stall: result waits, next complete",
            "gap between terms"]


UNIT = Unit(
    name="bitmod_unit", law="E", text="FP16 activations times weights of mixed types, one power-of-two term a cycle",
    parameters={
        "ACC_W": Parameter(24, (20, 24), "accumulator [bit]: holds 2^(ACC_W-17) terms"),
        "D_W": Parameter(8, (3, 4, 8), "scale of a group [bit], unsigned"),
    },
    cycles=cycles, model=Model,
    fast=({}, SHORT), thorough=({"D_W": 4},),
    illegal=(Illegal({"ACC_W": 17}, "bitmod_unit_requires_ACC_W_at_least_18"),
             Illegal({"D_W": 2}, "bitmod_unit_requires_D_W_at_least_3")),
    mutants=(
        Mutant("jam of products dropped", "p[0] = p[0] | (|(full & ~(14'h3fff << d_q[n*4 +: 4])));", "", file="bitmod_pe"),
        Mutant("jam of the accumulator dropped", "far[0] | lost}", "far[0]}", file="bitmod_pe"),
        Mutant("shift not clamped", "gap[3:0] | {4{|gap[5:4]}};", "gap[3:0];", file="bitmod_pe"),
        Mutant("bsig ignored", "e_max + {3'd0, t_bsig};", "e_max;", file="bitmod_pe"),
        Mutant("Booth digit 100 read as -1", "(digit == 3'b011) | (digit == 3'b100)", "(digit == 3'b011)",
               file="bitmod_term_gen"),
        Mutant("Booth digit 111 is not zero", "one | two};", "one | two | (&digit)};", file="bitmod_term_gen"),
        Mutant("leading term stays in the remainder", "mag[2] & !mag[1], mag[0]};", "mag[2] & !mag[1], |mag};",
               file="bitmod_term_gen"),
        Mutant("scale lowest bit first", "bits_q   <= scale_q[D_W-2:0];",
               "bits_q   <= {scale_q[0], scale_q[D_W-2:1]};", file="bitmod_pe"),
        Mutant("hand-over without waiting", "wire adv     = !done_q | idle;", "wire adv     = 1'b1;", file="bitmod_pe"),
        Mutant("exponent of the smaller operand", "exp_q <= lead ? b_exp_q : base_exp;", "exp_q <= lead ? base_exp : b_exp_q;",
               file="bitmod_pe"),
        Mutant("zero accumulator keeps its exponent", "(above | (base == {ACC_W{1'b0}}))", "(above | fresh_q)",
               file="bitmod_pe"),
        Mutant("special values in the wrong order", "step[0] ? special[7:4] : special[3:0];",
               "step[0] ? special[3:0] : special[7:4];", file="bitmod_term_gen"),
        Mutant("output overwritten", "(!ending | !out_valid_q | out_ready)", "1'b1", file="bitmod_pe"),
        Mutant("quad taken on its first term", "assign s_ready = ready & last_step;", "assign s_ready = ready;"),
        Mutant("illegal type not flagged", "(bad | illegal)", "bad"),
        Mutant("illegal activation not flagged", "(bad | illegal)", "illegal"),
    ),
    bins=bins,
    survivors={
        "bitmod_pe: off-by-one: wire [5:0] e01 = (e[0 +: 6] > e[6 +: 6]) ? e[0 +: 6] : e[6 +: 6]; -> "
        "wire [5:0] e01 = (e[0 +: 6] >= e[6 +: 6]) ? e[0 +: 6] : e[6 +: 6];": "of two equal exponents either is the larger",
        "bitmod_pe: off-by-one: wire [5:0] e23 = (e[12 +: 6] > e[18 +: 6]) ? e[12 +: 6] : e[18 +: 6]; -> "
        "wire [5:0] e23 = (e[12 +: 6] >= e[18 +: 6]) ? e[12 +: 6] : e[18 +: 6];": "of two equal exponents either is the larger",
        "bitmod_pe: off-by-one: wire [5:0] e_max = (e01 > e23) ? e01 : e23; -> "
        "wire [5:0] e_max = (e01 >= e23) ? e01 : e23;": "of two equal exponents either is the larger",
        "bitmod_pe: off-by-one: wire above = b_exp_q > base_exp; -> wire above = b_exp_q >= base_exp;":
            "at equal exponents nothing is shifted, whichever operand leads",
    },
    macs_per_cycle=lambda p, cfg: 4 / TERMS[cfg["dtype"]],
    formats={"W4xFP16": ("default", {"dtype": 4}), "W6xFP16": ("default", {"dtype": 1}), "W8xFP16": ("default", {"dtype": 0})},
    published={"default": {"ge": 4640, "ff": 230, "lut": 843, "dsp": 0}},
)
