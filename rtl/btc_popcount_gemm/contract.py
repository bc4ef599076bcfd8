"""Cycle contract and handshake-level model of ``btc_popcount_gemm``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtl.harness.unit import Beat, Illegal, Mutant, Parameter, Params, Unit

TESTED = {"tiles": (1, 4), "kwords": (1, 3), "pa": (1, 8), "pw": (1, 8), "mt": (1, 3)}
SMALL = {"MT": 3, "NT": 2, "KW": 5, "P_MAX": 3, "PW": 2, "ACC_W": 12}
#: Pairs (planes of activations, planes of weights) of interest.
PAIRS = ((1, 1), (8, 1), (8, 2), (4, 4), (6, 6), (8, 8))


def cycles(tiles: Any, kwords: Any, *, pa: Any, pw: Any, mt: Any) -> Any:
    """T from the first beat to the last row [edges]: D (KWORDS pa pw + MT - 1) + 1. All arguments broadcast.

    ``kwords`` is ceil(K_total / KW).
    """
    return tiles * (kwords * pa * pw + mt - 1) + 1


def gemm_cycles(m: Any, n: Any, k: Any, *, mt: Any, nt: Any, kw: Any, pa: Any, pw: Any) -> Any:
    """T of a product of activations [m, k] with weights [n, k] [edges]: one tile after the other. All arguments broadcast."""
    return cycles(-(-m // mt) * -(-n // nt), -(-k // kw), pa=pa, pw=pw, mt=mt)


def clamped(planes: int, most: int) -> int:
    """Plane count in use for a configured one."""
    return min(max(planes, 1), most)


def pairs(p: Params) -> list[tuple[int, int]]:
    """Pairs of plane counts to visit: those of interest as far as they fit, the extremes, and unequal ones."""
    top = p["P_MAX"]
    return sorted({x for x in (*PAIRS, (top, top), (1, top), (top, 1), (top, max(1, top - 1))) if max(x) <= top})


class Model:
    """Control registers alone: plane pair, stage 1, output row."""

    def __init__(self, p: Params) -> None:
        self.p = p
        self.s1 = self.s1_last = self.out = False
        self.pair = self.row = 0

    def step(self, cfg: Mapping[str, int], offers: Mapping[str, Beat | None], sinks: Mapping[str, bool]) -> dict[str, bool]:
        last_row = self.row == self.p["MT"] - 1
        adv = not self.out or (sinks["out"] and last_row)
        says = {"s": adv, "out": self.out}
        s = offers["s"] if adv else None
        if self.out and sinks["out"]:
            self.row = 0 if last_row else self.row + 1
        if adv:
            self.out = self.s1 and self.s1_last
            self.s1 = s is not None
        if s is not None:
            done = self.pair == clamped(cfg["pa"], self.p["P_MAX"]) * clamped(cfg["pw"], self.p["P_MAX"]) - 1
            self.s1_last = done and bool(s["last"])
            self.pair = 0 if done else self.pair + 1
        return says

    def state(self) -> dict[str, int]:
        return {"pair": self.pair, "s1": int(self.s1), "out": int(self.out), "row": self.row}


def bins(p: Params) -> list[str]:
    modes = [f"pa {a}, pw {w}, {mode}" for a, w in pairs(p) for mode in ("bipolar", "two's complement")]
    above = ["planes above P_MAX"] if p["P_MAX"] + 1 < 1 << p["PW"] else []
    one = ["one sign plane"] if p["P_MAX"] > 1 else []
    waits = ["next tile waits behind a drain"] if p["MT"] > 1 else []
    return [*modes, "planes 0", *above, *one, *waits, "both sign planes", "one word", "many words",
            *(f"stall: row {r}" for r in range(p["MT"]))]


UNIT = Unit(
    name="btc_popcount_gemm", law="R", text="matrix tile on bit-planes: XNOR or AND, popcount",
    parameters={
        "MT": Parameter(2, (1, 2, 3), "rows of activations"),
        "NT": Parameter(4, (1, 2, 3, 4), "rows of weights"),
        "KW": Parameter(128, (1, 5, 32, 128), "positions of k per beat"),
        "P_MAX": Parameter(8, (1, 3, 5, 8), "most planes of an operand"),
        "PW": Parameter(4, (1, 2, 3, 4), "bits of cfg_pa and cfg_pw, hold P_MAX"),
        "ACC_W": Parameter(32, (8, 12, 32), "accumulator [bit], wraps"),
    },
    cycles=cycles, model=Model,
    fast=(SMALL, {}),
    thorough=({"MT": 1, "NT": 1, "KW": 1, "P_MAX": 1, "PW": 1, "ACC_W": 8},
              {"MT": 1, "NT": 3, "KW": 32, "P_MAX": 5, "PW": 3}),
    illegal=(Illegal({"MT": 0}, "btc_popcount_gemm_requires_MT_at_least_1"),
             Illegal({"NT": 0}, "btc_popcount_gemm_requires_NT_at_least_1"),
             Illegal({"KW": 0}, "btc_popcount_gemm_requires_KW_at_least_1"),
             Illegal({"P_MAX": 0}, "btc_popcount_gemm_requires_P_MAX_at_least_1"),
             Illegal({"PW": 3}, "btc_popcount_gemm_requires_PW_to_hold_P_MAX"),
             Illegal({"ACC_W": 8}, "btc_popcount_gemm_requires_ACC_W_at_least")),
    mutants=(
        Mutant("XOR instead of XNOR", "cfg_bipolar ? ~(", "cfg_bipolar ? ("),
        Mutant("-KW missing", "{count[CW-2:0], 1'b0} - KW", "{count[CW-2:0], 1'b0}"),
        Mutant("minus when both are sign planes", "(last_i ^ last_j);", "(last_i | last_j);"),
        Mutant("minus in bipolar mode", "minus    = !cfg_bipolar & (", "minus    = ("),
        Mutant("plane order swapped", "if (last_j) i_q <=", "if (last_j | !last_i) i_q <="),
        Mutant("plane counts swapped", "wire last_j   = j_q == pa - ONE;", "wire last_j   = j_q == pw - ONE;"),
        Mutant("popcount drops one bit", "for (k = 0; k < KW", "for (k = 1; k < KW"),
        Mutant("shift i only", "{{SH_W+1{1'b0}}, i_q} + j_q;", "{{SH_W+1{1'b0}}, i_q};"),
        Mutant("drain releases one row early", "(out_ready & last_row);", "(out_ready & (row_q + 1'b1 >= LAST_ROW));"),
        Mutant("row counter not reset", "last_row ? {MW{1'b0}} : row_q + 1'b1;", "row_q + !last_row;"),
        Mutant("weights of the next row", "^ s_w[n*KW +: KW])", "^ s_w[((n == 0) ? NT - 1 : n - 1)*KW +: KW])"),
        Mutant("last ignored", "s1_last_q  <= done & s_last;", "s1_last_q  <= done;"),
        Mutant("adv without out_ready", "!out_valid_q | (out_ready & last_row);", "!out_valid_q;"),
        Mutant("one mode flagged alone", "(a_zero | a_many | w_zero | w_many)", "(a_zero | a_many)"),
    ),
    bins=bins,
    macs_per_cycle=lambda p, cfg: p["MT"] * p["NT"] * p["KW"] / (cfg["pa"] * cfg["pw"]),
    formats={"W1A8": ("2x4x128", {"pa": 8, "pw": 1}), "W2A8": ("2x4x128", {"pa": 8, "pw": 2}),
             "W4A8": ("2x4x128", {"pa": 8, "pw": 4}), "W8A8": ("2x4x128", {"pa": 8, "pw": 8}),
             "W4A4": ("2x4x128", {"pa": 4, "pw": 4}), "W1A1": ("2x4x128", {"pa": 1, "pw": 1})},
    synth={"2x4x128": {}},
    published={"2x4x128": {"ge": 17505, "ff": 341, "lut": 3563, "dsp": 0}},
)
