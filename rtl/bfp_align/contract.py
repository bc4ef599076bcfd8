"""Cycle contract and handshake-level model of ``bfp_align``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtl.harness.unit import Beat, Illegal, Mutant, Parameter, Params, Unit

TESTED = {"blocks": (1, 16), "block": (2, 64), "lanes": (1, 8)}
SMALL = {"B": 7, "LANES": 2, "N": 4}
ONE_BEAT = {"B": 3, "LANES": 3, "N": 12}


def cycles(blocks: Any, *, block: Any, lanes: Any) -> Any:
    """T of n blocks from the first beat in to the last beat out [edges]: (n + 1) ceil(block / lanes) + 2. Broadcasts.

    Both passes over one block take 2 ceil(block / lanes) + 2; every further block one more pass (II).
    """
    return (blocks + 1) * -(-block // lanes) + 2


class Model:
    """Control registers alone: places of the next write and read, valid of each stage."""

    def __init__(self, p: Params) -> None:
        self.beats = -(-p["B"] // p["LANES"])
        self.wr = self.rd = 0
        self.s1 = self.s1_last = self.s2 = self.s3 = self.out = False

    def step(self, cfg: Mapping[str, int], offers: Mapping[str, Beat | None], sinks: Mapping[str, bool]) -> dict[str, bool]:
        adv = not self.out or sinks["out"]
        says = {"s": adv, "out": self.out}
        if adv:
            reading = (self.s1 and self.s1_last) or self.rd > 0
            self.out, self.s3, self.s2 = self.s3, self.s2, reading
            self.rd = (self.rd + reading) % self.beats
            self.s1, self.s1_last = offers["s"] is not None, self.wr == self.beats - 1
            self.wr = (self.wr + self.s1) % self.beats
        return says

    def state(self) -> dict[str, int]:
        return {"wr": self.wr, "rd": self.rd, "reading": int((self.s1 and self.s1_last) or self.rd > 0), "s1": int(self.s1),
                "s2": int(self.s2), "s3": int(self.s3), "out": int(self.out)}


def bins(p: Params) -> list[str]:
    lanes = [f"largest in lane {i}" for i in range(p["LANES"])]
    count = -(-p["B"] // p["LANES"])
    beats = [*(f"largest in beat {i}" for i in range(count)), *(["gap in a block"] if count > 1 else [])]
    # of mantissas -1, 0, 1 the only tie that goes up is 1.5, which is clamped
    rounded = ["exact", "down", "up", "tie down", "to zero", *(["tie up"] if p["N"] > 2 else []),
               *(["clamp"] if p["N"] < 12 else [])]
    kinds = ["zero", "-0", "subnormal", "infinity", "-infinity", "NaN", "-NaN", "all zero"]
    return [*lanes, *beats, *(f"E {e}" for e in range(1, 31)), *(f"distance {d}" for d in range(30)),
            *(f"{r}/{s}" for r in rounded for s in "+-"), *kinds, "stall: all stages full", "stall: nothing behind",
            "place read and written at one edge", "next block waits for its beats"]


UNIT = Unit(
    name="bfp_align", law="R", text="FP16 blocks as integers with one exponent: block floating point",
    parameters={
        "B": Parameter(32, (3, 7, 32, 64), "values of a block"),
        "LANES": Parameter(8, (1, 2, 3, 8), "values per beat"),
        "N": Parameter(16, (2, 4, 8, 12, 13, 16), "mantissa [bit], signed"),
    },
    cycles=cycles, model=Model,
    fast=({}, SMALL),
    thorough=(ONE_BEAT, {"N": 8}, {"B": 64, "LANES": 8, "N": 4}, {"B": 3, "LANES": 1, "N": 13}, {"B": 7, "LANES": 3, "N": 2}),
    illegal=(Illegal({"LANES": 0}, "bfp_align_requires_LANES_at_least_1"),
             Illegal({"B": 4, "LANES": 8}, "bfp_align_requires_B_at_least_LANES"),
             Illegal({"N": 1}, "bfp_align_requires_N_at_least_2")),
    mutants=(
        Mutant("round half up", "y[F] & (q[0] | sticky)", "y[F]", SMALL),
        Mutant("round half down", "y[F] & (q[0] | sticky)", "y[F] & sticky", SMALL),
        Mutant("truncated", "up     = y[F] & (q[0] | sticky) & !(&q);", "up     = 1'b0;", SMALL),
        Mutant("no clamp", " & !(&q);", ";", SMALL),
        Mutant("sticky of the bits shifted out missing", " | (|(x & ~({(V_W+1){1'b1}} << s3_below_q[j*5 +: 5])));", ";", SMALL),
        Mutant("sticky of the bits below missing", "sticky = (|(y & LOW)) | ", "sticky = ", SMALL),
        Mutant("+ 1 of the negation missing", "s3_sign_q[j] ^ up};", "up};"),
        Mutant("exponent of subnormals 0", " | {4'd0, !normal});", ");"),
        Mutant("exponent of an empty block 0", "s1_last_q ? 5'd1 : most;", "s1_last_q ? 5'd0 : most;"),
        Mutant("hidden bit always", "sig[k*11 +: 11] = {normal,", "sig[k*11 +: 11] = {1'b1,"),
        Mutant("infinity as 65536", "finite[i*16 +: 15] = 15'h7bff;", ""),
        Mutant("infinity without its sign", "finite[i*16 +: 15] = 15'h7bff;", "finite[i*16 +: 16] = 16'h7bff;"),
        Mutant("NaN not flagged", "illegal = 1'b1;", "illegal = !(|s_data[i*16 +: 10]);"),
        Mutant("flag without a transfer", "if (illegal) err_q <= 1'b1;\n            end",
               "end\n            if (illegal) err_q <= 1'b1;"),
        Mutant("exponent of the last beat alone", "if (full) exp_q <= most;", "if (full) exp_q <= s1_top_q;"),
        Mutant("exponent of the block before counts on", "run_q <= s1_last_q ? 5'd1 : most;", "run_q <= most;"),
        Mutant("exponent follows the next block", "if (full) exp_q <= most;", "if (s1_valid_q) exp_q <= most;"),
        Mutant("pass 2 one beat short", "s2_valid_q  <= reading;", "s2_valid_q  <= reading & (rd_q != LAST);"),
        Mutant("pass 2 one beat early", "full    = s1_valid_q & s1_last_q;", "full    = s_fire & (wr_q == LAST);"),
        Mutant("adv without out_ready", "adv     = !out_valid_q | out_ready;", "adv     = !out_valid_q;"),
    ),
    bins=bins,
    survivors={
        "bfp_align: off-by-one: for (i = 0; i < LANES; i = i + 1) begin -> for (i = 0; i <= LANES; i = i + 1) begin":
            "a lane too many lies outside every vector: nothing is written there",
        "bfp_align: off-by-one: if (field[(i+s)*5 +: 5] > field[i*5 +: 5]) field[i*5 +: 5] = field[(i+s)*5 +: 5]; -> "
        "if (field[(i+s)*5 +: 5] >= field[i*5 +: 5]) field[i*5 +: 5] = field[(i+s)*5 +: 5];":
            "of two equal exponents either is the larger",
    },
    waived={"x[0]": "the bit appended below a significand is 0 until the shift",
            "store_q[2][": "of stores up to 256 bits, the widest that are counted, this beat holds padding: 0",
            "store_q[3][": "of stores up to 256 bits, the widest that are counted, this beat holds padding: 0"},
    synth={"32x16": {}, "32x8": {"N": 8}, "32x4": {"N": 4}},
)
