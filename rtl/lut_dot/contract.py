"""Cycle contract and handshake-level model of ``lut_dot``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtl.harness.unit import Beat, Illegal, Mutant, Parameter, Params, Unit

TESTED = {"results": (1, 5), "groups": (1, 16), "wbits": (1, 8)}


def cycles(results: Any, groups: Any, *, wbits: Any) -> Any:
    """T from the first table transfer to the last result [edges]: D G W + 2. All arguments broadcast.

    Tested over ``TESTED``. Holds while tables arrive at least every ``wbits`` edges.
    """
    return results * groups * wbits + 2


def clamped(wbits: int, w_max: int) -> int:
    """Width in use for a configured one."""
    return min(max(wbits, 1), w_max)


class Model:
    """Control registers alone: table present, plane number, stage 1, output."""

    def __init__(self, p: Params) -> None:
        self.p = p
        self.tv = self.s1 = self.s1_last = self.out = False
        self.plane = 0

    def step(self, cfg: Mapping[str, int], offers: Mapping[str, Beat | None], sinks: Mapping[str, bool]) -> dict[str, bool]:
        adv = not self.out or sinks["out"]
        w_ready = self.tv and adv
        w = offers["w"] if w_ready else None
        last_plane = self.plane == clamped(cfg["wbits"], self.p["W_MAX"]) - 1
        done = w is not None and last_plane
        says = {"tbl": not self.tv or done, "w": w_ready, "out": self.out}
        self.tv = (self.tv and not done) or (offers["tbl"] is not None and says["tbl"])
        if adv:
            self.out = self.s1 and self.s1_last
            self.s1 = w is not None
        if w is not None:
            self.s1_last = done and bool(w["last"])
            self.plane = 0 if done else self.plane + 1
        return says

    def state(self) -> dict[str, int]:
        return {"tv": int(self.tv), "plane": self.plane, "s1": int(self.s1), "out": int(self.out)}


def bins(p: Params) -> list[str]:
    places = [f"W{w}/{place}" for w in range(1, p["W_MAX"] + 1) for place in ("last", "first", "middle")[:w]]
    signs = [f"negate {n}/plane {i}" for n in (0, 1) for i in range(p["W_MAX"])]
    legal = ["width 0", "width W_MAX"] + (["width above W_MAX"] if p["W_MAX"] + 1 < 1 << p["PW"] else [])
    return [*places, *(f"idx {i}" for i in range(1 << p["K"])), *signs, *legal, "stall: no table",
            "stall: result waits, next in stage 1", "table load with last plane"]


UNIT = Unit(
    name="lut_dot", law="R", text="lookup dot product, bit-serial weights",
    parameters={
        "K": Parameter(4, (2, 3, 4, 5), "activations per table"),
        "T_W": Parameter(11, (6, 8, 11), "table entry [bit]; A_W + clog2(K) + 1 for exact tables"),
        "W_MAX": Parameter(4, (2, 3, 4, 8), "widest weight [bit]"),
        "PW": Parameter(3, (2, 3, 4), "bits of cfg_wbits, hold W_MAX"),
        "SH_W": Parameter(3, (1, 3, 4), "bits of the shift, hold W_MAX-1 + largest exponent"),
        "ACC_W": Parameter(32, (12, 24, 32), "accumulator [bit], wraps"),
    },
    cycles=cycles, model=Model,
    fast=({}, {"K": 2, "T_W": 6, "W_MAX": 2, "PW": 2, "SH_W": 1, "ACC_W": 12}),
    thorough=({"K": 3, "ACC_W": 24}, {"K": 5, "T_W": 8, "W_MAX": 8, "PW": 4, "SH_W": 4, "ACC_W": 24},
              {"K": 4, "T_W": 8, "W_MAX": 3, "PW": 2, "SH_W": 4, "ACC_W": 24}),
    illegal=(Illegal({"K": 1}, "lut_dot_requires_K_at_least_2"), Illegal({"W_MAX": 0}, "lut_dot_requires_W_MAX_at_least_1"),
             Illegal({"PW": 2}, "lut_dot_requires_PW_to_hold_W_MAX"),
             Illegal({"SH_W": 1}, "lut_dot_requires_SH_W_to_hold_W_MAX_minus_1"),
             Illegal({"ACC_W": 10}, "lut_dot_requires_ACC_W_at_least_T_W")),
    mutants=(
        Mutant("no negate", "neg_q <= idx[K-1];", "neg_q <= 1'b0;", file="lut_lane"),
        Mutant("shift by p+1", "plane_wide[SH_W-1:0] + exp_q;", "plane_wide[SH_W-1:0] + exp_q + 1'b1;"),
        Mutant("first flag stuck", "s1_first_q <= fresh_q;", "s1_first_q <= 1'b1;"),
        Mutant("w_last ignored", "s1_last_q  <= last_plane & w_last;", "s1_last_q  <= last_plane;"),
        Mutant("table register loaded one edge early", "assign tbl_ready = !tv_q | done;",
               "assign tbl_ready = !tv_q | (w_fire & (plane_q + ONE == wbits - ONE)) | done;"),
        Mutant("plane counter wraps late", "wire last_plane = plane_q == wbits - ONE;", "wire last_plane = plane_q == wbits;"),
        Mutant("exponent not added", "plane_wide[SH_W-1:0] + exp_q;", "plane_wide[SH_W-1:0];"),
        Mutant("adv without out_ready", "wire adv        = !out_valid_q | out_ready;", "wire adv        = !out_valid_q;"),
    ),
    bins=bins,
    waived={"plane_q[3]": "plane numbers go to W_MAX - 1; the bit is needed where W_MAX is not a power of two",
            "plane_wide": "the counter widened to the shift amount: its upper bits are 0 by the elaboration check"},
    macs_per_cycle=lambda p, cfg: p["K"] / cfg["wbits"],
    formats={f"W{w}A8": ("ACC 24", {"wbits": w}) for w in (1, 2, 4)},
    sizes={"default": "ACC 24"},
    synth={"default": {}, "ACC 24": {"ACC_W": 24}},
    published={"default": {"ge": 1494, "ff": 148, "lut": 133, "dsp": 0}},
)
