"""Cycle contract and handshake-level model of ``pq_score``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtl.harness.unit import Beat, Illegal, Mutant, Parameter, Params, Unit, clog2

TESTED = {"queries": (1, 3), "tokens": (1, 32), "subvectors": (2, 16), "lanes": (1, 4), "bits": (1, 6)}
SMALL = {"M": 3, "B": 2, "LANES": 2, "T_W": 4}


def table_cycles(*, subvectors: Any, lanes: Any, bits: Any) -> Any:
    """Edges in which a query's tables are loaded: ceil(m / lanes) 2^b, one entry of ``lanes`` tables an edge. Broadcasts."""
    return -(-subvectors // lanes) * 2**bits


def score_cycles(tokens: Any, *, subvectors: Any, lanes: Any) -> Any:
    """T of n tokens from the last table entry to the last score [edges]: n ceil(m / lanes) + 2. Broadcasts."""
    return tokens * -(-subvectors // lanes) + 2


def cycles(queries: Any, tokens: Any, *, subvectors: Any, lanes: Any, bits: Any) -> Any:
    """T of queries of equally many tokens, from the first table entry to the last score [edges]. Broadcasts.

    Each query loads its tables as soon as the last code of the one before is gone: load, codes, and 2 once for the last score.
    """
    per_query = table_cycles(subvectors=subvectors, lanes=lanes, bits=bits) + score_cycles(
        tokens, subvectors=subvectors, lanes=lanes) - 2
    return queries * per_query + 1


class Model:
    """Control registers alone: tables loaded, group, entry, stage 1, output."""

    def __init__(self, p: Params) -> None:
        self.groups, self.entries = -(-p["M"] // p["LANES"]), 1 << p["B"]
        self.full = self.s1 = self.s1_last = self.out = False
        self.group = self.entry = 0

    def step(self, cfg: Mapping[str, int], offers: Mapping[str, Beat | None], sinks: Mapping[str, bool]) -> dict[str, bool]:
        adv = not self.out or sinks["out"]
        says = {"tbl": adv and not self.full, "s": adv and self.full, "out": self.out}
        last, s = self.group == self.groups - 1, offers["s"] if says["s"] else None
        if adv:
            self.out = self.s1 and self.s1_last
            self.s1, self.s1_last = s is not None, last
        row_done = False
        if says["tbl"] and offers["tbl"] is not None:
            self.entry = (self.entry + 1) % self.entries
            row_done = self.entry == 0
        if row_done or s is not None:
            self.group = (self.group + 1) % self.groups
        if last and (row_done or (s is not None and s["last"])):
            self.full = row_done
        return says

    def state(self) -> dict[str, int]:
        return {"full": int(self.full), "group": self.group, "entry": self.entry, "s1": int(self.s1), "out": int(self.out)}


def bins(p: Params) -> list[str]:
    """Codes of 16 or fewer entries one by one, of more by their top four bits."""
    groups, kinds = -(-p["M"] // p["LANES"]), min(p["B"], 4)
    codes = [f"sub-vector {j}/code {c}" for j in range(p["M"]) for c in range(1 << kinds)]
    parts = ["last flag within a token", "gap in a token"] if groups > 1 else []
    return [*codes, *parts, "lowest score", "highest score", "one token", "many tokens", "next query's tables",
            "stall: score waits, next in stage 1", "stall: tables wait for a score", "stall: codes before tables",
            "gap in a table"]


UNIT = Unit(
    name="pq_score", law="R", text="scores of product-quantised keys: sums of table entries",
    parameters={
        "M": Parameter(8, (2, 3, 4, 5, 8, 16), "sub-vectors of a key"),
        "B": Parameter(4, (1, 2, 3, 4, 6), "code [bit]"),
        "LANES": Parameter(4, (1, 2, 4), "codes per beat"),
        "T_W": Parameter(8, (4, 8, 12, 16), "table entry [bit], signed"),
        "ACC_W": Parameter(lambda p: p["T_W"] + clog2(p["M"]), (5, 6, 11, 16, 24), "score [bit]"),
    },
    cycles=cycles, model=Model,
    fast=({}, SMALL),
    thorough=({"M": 4, "B": 3, "T_W": 12, "ACC_W": 24}, {"M": 2, "B": 6, "LANES": 1}, {"M": 5, "B": 1, "LANES": 2, "T_W": 4},
              {"M": 16, "T_W": 16}),
    illegal=(Illegal({"LANES": 0}, "pq_score_requires_LANES_at_least_1"),
             Illegal({"M": 3}, "pq_score_requires_M_at_least_LANES"),
             Illegal({"B": 0}, "pq_score_requires_B_at_least_1"), Illegal({"T_W": 1}, "pq_score_requires_T_W_at_least_2"),
             Illegal({"ACC_W": 10}, "pq_score_requires_ACC_W_to_hold_M_entries")),
    mutants=(
        Mutant("code negates", ".idx({1'b0, s_code[g*B +: B]})", ".idx({s_code[g*B + B-1], s_code[g*B +: B]})"),
        Mutant("shifted by one", ".s1_sh(1'b0)", ".s1_sh(1'b1)"),
        Mutant("entry added without its sign", "total + sum;", "total + $unsigned(sum);"),
        Mutant("lane 0 twice", "sum   = sums[k*LANE_W +: LANE_W];", "sum   = sums[(k & (LANES-2))*LANE_W +: LANE_W];"),
        Mutant("code of the neighbour", "s_code[g*B +: B]", "s_code[(g^1)*B +: B]"),
        Mutant("tables of group 0 alone", "if (group_q == c[CW-1:0]) row =", "if (c == 0) row ="),
        Mutant("first flag stuck", "s1_first_q <= group_q == {CW{1'b0}};", "s1_first_q <= 1'b1;"),
        Mutant("sum goes on from token to token", "s1_first_q <= group_q == {CW{1'b0}};", "s1_first_q <= 1'b0;"),
        Mutant("score after every beat", "s1_last_q  <= last_group;", "s1_last_q  <= 1'b1;"),
        Mutant("last flag of any beat", "if (s_fire & last_group & s_last)", "if (s_fire & s_last)"),
        Mutant("last flag ignored", "if (s_fire & last_group & s_last) full_q <= 1'b0;", ""),
        Mutant("codes one entry early", "row_done   = tbl_fire & (&entry_q);", "row_done   = tbl_fire & (&(entry_q | 1'b1));"),
        Mutant("codes while tables load", "s_ready   = full_q & adv;", "s_ready   = adv;"),
        Mutant("table loads while codes come", "tbl_ready = !full_q & adv;", "tbl_ready = adv;"),
        Mutant("table moves while the output waits", "tbl_ready = !full_q & adv;", "tbl_ready = !full_q;"),
        Mutant("adv without out_ready", "wire adv        = !out_valid_q | out_ready;", "wire adv        = !out_valid_q;"),
    ),
    bins=bins,
    uses=("lut_dot/lut_lane.v",),
    survivors={
        "pq_score: off-by-one: for (n = 0; n < C*ENTRIES; n = n + 1) -> for (n = 0; n <= C*ENTRIES; n = n + 1)":
            "a place behind the last entry of the tables: nothing is written there",
        "pq_score: off-by-one: for (g = 0; g < LANES; g = g + 1) begin : g_lane -> "
        "for (g = 0; g <= LANES; g = g + 1) begin : g_lane": "the sum of a lane too many goes nowhere",
        "pq_score: constant: lut_lane #(.K(B+1), .T_W(T_W), .SH_W(1), .ACC_W(LANE_W)) lane ( -> "
        "lut_lane #(.K(B+1), .T_W(T_W), .SH_W(0), .ACC_W(LANE_W)) lane (": "the amount of the shift is tied to 0 at any width",
    },
    waived={f"tbl_q[{i}]": "of tables up to 256 bits, the widest that are counted, these are of the padding: 0"
            for i in range(48, 64)} | {"idx[6]": "the lane's negation is tied off", "s1_sh[0]": "its shift is tied off",
                                       "lut_lane.v:41 sum[0]": "the carry of its negation"},
    synth={"8x4x4": {}, "8x4x4 T16": {"T_W": 16}, "16x4x4": {"M": 16}},
)
