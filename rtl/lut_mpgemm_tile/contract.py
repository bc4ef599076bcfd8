"""Cycle contract and handshake-level model of ``lut_mpgemm_tile``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtl.harness.unit import Beat, Illegal, Mutant, Parameter, Params, Unit

TESTED = {"tiles": (1, 5), "groups": (1, 16), "wbits": (1, 4), "m": (1, 3)}
SMALL = {"N": 4}
SUMMED = {"N": 2, "K": 3, "P": 3, "T_W": 8, "W_MAX": 3, "PW": 2, "SH_W": 2, "ACC_W": 24}
NARROW = {"M": 3, "N": 2, "K": 2, "T_W": 6, "W_MAX": 2, "PW": 2, "SH_W": 2, "ACC_W": 12}


def cycles(tiles: Any, groups: Any, *, wbits: Any, m: Any) -> Any:
    """T from the first table transfer to the last row [edges]: D (G W + M - 1) + 2. All arguments broadcast.

    ``m`` is the parameter M. Holds while tables arrive at least every ``wbits`` edges.
    """
    return tiles * (groups * wbits + m - 1) + 2


def gemm_cycles(m: Any, n: Any, k: Any, *, rows: Any, columns: Any, group: Any, wbits: Any, tables: Any = 1) -> Any:
    """T of a product [m, k] x [k, n] [edges]: one tile after the other, as long as tables come in time.

    All arguments broadcast; ``rows``, ``columns``, ``group`` and ``tables`` are the parameters M, N, K and P. Padding counts
    as work.
    """
    return cycles(-(-m // rows) * -(-n // columns), -(-k // (group * tables)), wbits=wbits, m=rows)


def clamped(wbits: int, w_max: int) -> int:
    """Width in use for a configured one."""
    return min(max(wbits, 1), w_max)


class Model:
    """Control registers alone: tables present, plane number, stage 1, output row."""

    def __init__(self, p: Params) -> None:
        self.p = p
        self.tv = self.s1 = self.s1_last = self.out = False
        self.plane = self.row = 0

    def step(self, cfg: Mapping[str, int], offers: Mapping[str, Beat | None], sinks: Mapping[str, bool]) -> dict[str, bool]:
        last_row = self.row == self.p["M"] - 1
        adv = not self.out or (sinks["out"] and last_row)
        w_ready = self.tv and adv
        w = offers["w"] if w_ready else None
        done = w is not None and self.plane == clamped(cfg["wbits"], self.p["W_MAX"]) - 1
        says = {"tbl": not self.tv or done, "w": w_ready, "out": self.out}
        self.tv = (self.tv and not done) or (offers["tbl"] is not None and says["tbl"])
        if self.out and sinks["out"]:
            self.row = 0 if last_row else self.row + 1
        if adv:
            self.out = self.s1 and self.s1_last
            self.s1 = w is not None
        if w is not None:
            self.s1_last = done and bool(w["last"])
            self.plane = 0 if done else self.plane + 1
        return says

    def state(self) -> dict[str, int]:
        return {"tv": int(self.tv), "plane": self.plane, "s1": int(self.s1), "out": int(self.out), "row": self.row}


def bins(p: Params) -> list[str]:
    places = [f"W{w}/{place}" for w in range(1, p["W_MAX"] + 1) for place in ("last", "first", "middle")[:w]]
    limits = ["width 0", "width W_MAX"] + (["width above W_MAX"] if p["W_MAX"] + 1 < 1 << p["PW"] else [])
    drain = ["next tile waits behind a drain", "table loads during a drain"] if p["M"] > 1 else []
    rows = ["rows with different exponents"] if p["M"] > 1 else []
    return [*places, *limits, *drain, *rows, *(f"idx {i}" for i in range(1 << p["K"])),
            *(f"stall: row {r}" for r in range(p["M"])), "stall: no table", "table load with last plane"]


UNIT = Unit(
    name="lut_mpgemm_tile", law="R", text="matrix tile of lookup lanes, bit-serial weights",
    parameters={
        "M": Parameter(2, (1, 2, 3), "rows of the result"),
        "N": Parameter(64, (1, 2, 4, 16, 64), "columns of weights"),
        "K": Parameter(4, (2, 3, 4), "activations per table"),
        "P": Parameter(1, (1, 2, 3, 4), "tables of a row, summed before one accumulator"),
        "T_W": Parameter(11, (6, 8, 11), "table entry [bit]; A_W + clog2(K) + 1 for exact tables"),
        "W_MAX": Parameter(4, (2, 3, 4), "widest weight [bit]"),
        "PW": Parameter(3, (2, 3), "bits of cfg_wbits, hold W_MAX"),
        "SH_W": Parameter(3, (2, 3, 4), "bits of the shift, hold W_MAX-1 + largest exponent"),
        "ACC_W": Parameter(32, (12, 24, 32), "accumulator [bit], wraps"),
    },
    cycles=cycles, model=Model,
    fast=(SMALL, NARROW, SUMMED),
    thorough=({"N": 8, "P": 4, "ACC_W": 24}, {"M": 1, "N": 2, "K": 2, "P": 2, "T_W": 6, "SH_W": 2, "ACC_W": 12},
              {"N": 16, "T_W": 8, "SH_W": 4, "ACC_W": 24}, {"M": 1, "N": 1, "K": 3}, {}),
    illegal=(Illegal({"M": 0}, "lut_mpgemm_tile_requires_M_at_least_1"),
             Illegal({"N": 0}, "lut_mpgemm_tile_requires_N_at_least_1"),
             Illegal({"N": 4, "K": 1}, "lut_mpgemm_tile_requires_K_at_least_2"),
             Illegal({"N": 4, "W_MAX": 0}, "lut_mpgemm_tile_requires_W_MAX_at_least_1"),
             Illegal({"N": 4, "PW": 2}, "lut_mpgemm_tile_requires_PW_to_hold_W_MAX"),
             Illegal({"N": 4, "SH_W": 1}, "lut_mpgemm_tile_requires_SH_W_to_hold_W_MAX_minus_1"),
             Illegal({"N": 4, "P": 0}, "lut_mpgemm_tile_requires_P_at_least_1"),
             Illegal({"N": 4, "ACC_W": 10}, "lut_mpgemm_tile_requires_ACC_W_at_least_T_W"),
             Illegal({"N": 4, "P": 2, "ACC_W": 12}, "lut_mpgemm_tile_requires_ACC_W_to_hold_a_sum")),
    mutants=(
        Mutant("row counter not reset", "last_row ? {MW{1'b0}} : row_q + 1'b1;", "row_q + !last_row;"),
        Mutant("drain releases one row early", "(out_ready & last_row);", "(out_ready & (row_q + 1'b1 >= LAST_ROW));"),
        Mutant("one lane wired to the neighbour's index", "codes = w_idx[n*P*K +: P*K];",
               "codes = w_idx[((n == 1) ? 0 : n)*P*K +: P*K];"),
        Mutant("table 0 for all tables of a row", "tbl[(p*ENTRIES + i)*T_W +: T_W];", "tbl[i*T_W +: T_W];",
               SUMMED, "lut_sum_lane"),
        Mutant("sign of table 0 for all", "entry = {T_W{idx[p*K + K-1]}};", "entry = {T_W{idx[K-1]}};", SUMMED, "lut_sum_lane"),
        Mutant("negation without its one", "+ {{(S_W-1){1'b0}}, idx[p*K + K-1]};", ";", SUMMED, "lut_sum_lane"),
        Mutant("sum not sign-extended", "wire signed [ACC_W-1:0] wide = sum_q;",
               "wire [ACC_W-1:0] wide = {{(ACC_W-S_W){1'b0}}, sum_q};", SUMMED, "lut_sum_lane"),
        Mutant("exponents of row 0 for all rows", "exp_q[m*SH_W +: SH_W];", "exp_q[0 +: SH_W];"),
        Mutant("tables of row 0 for all rows", "tables = tbl_q[m*TBL +: TBL];", "tables = tbl_q[0 +: TBL];"),
        Mutant("first flag stuck", "s1_first_q <= fresh_q;", "s1_first_q <= 1'b1;"),
        Mutant("w_last ignored", "s1_last_q  <= last_plane & w_last;", "s1_last_q  <= last_plane;"),
        Mutant("adv without out_ready", "!out_valid_q | (out_ready & last_row);", "!out_valid_q;"),
        Mutant("rows leave in reverse", "if (row_q == r) row", "if (row_q == M - 1 - r) row"),
        Mutant("last on every row", "assign out_last  = last_row;", "assign out_last  = 1'b1;"),
        Mutant("no flag", "& (zero | wide)) err_q", "& 1'b0) err_q"),
    ),
    bins=bins, uses=("lut_dot/lut_lane.v",),
    survivors={"lut_sum_lane: sign: wire signed [ACC_W-1:0] wide = sum_q; -> wire [ACC_W-1:0] wide = sum_q;":
               "the sum is signed and so extended, whatever takes it"},
    macs_per_cycle=lambda p, cfg: p["M"] * p["N"] * p["K"] * p["P"] / cfg["wbits"],
    # FP16: activations as block floating point of 16 bits, tables rounded to 8 (``lut_table_gen`` with Q = 1).
    formats={f"W{w}{a}": (build, {"wbits": w}) for a, build in (("A8", "ACC 24"), ("xFP16", "8-bit tables"))
             for w in (1, 2, 4)},
    sizes={"2x64x4": "ACC 24", "4 tables": "ACC 24", "4 tables of 8 bit": "8-bit tables"},
    synth={"2x64x4": {}, "ACC 24": {"ACC_W": 24}, "8-bit tables": {"T_W": 8, "SH_W": 4},
           "4 tables": {"N": 16, "P": 4, "ACC_W": 24}, "4 tables of 8 bit": {"N": 16, "P": 4, "T_W": 8, "SH_W": 4}},
    published={"2x64x4": {"ge": 113131, "ff": 5767, "lut": 16741, "dsp": 0},
               "ACC 24": {"ge": 96898, "ff": 4743, "lut": 14177, "dsp": 0},
               "8-bit tables": {"ge": 108018, "ff": 5339, "lut": 16319, "dsp": 0}},
)
