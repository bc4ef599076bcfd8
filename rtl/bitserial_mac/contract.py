"""Cycle contract and handshake-level model of ``bitserial_mac``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtl.harness.unit import Beat, Illegal, Mutant, Parameter, Params, Unit

TESTED = {"results": (1, 5), "chunks": (1, 16), "wbits": (1, 8), "bpc": (1, 4)}
SMALL = {"LANES": 3, "A_W": 4, "W_MAX": 5, "BPC": 2, "PW": 3, "ACC_W": 12}


def cycles(results: Any, chunks: Any, *, wbits: Any, bpc: Any) -> Any:
    """T from the first activation transfer to the last result [edges]: D C ceil(W / BPC) + 2. All arguments broadcast.

    ``chunks`` is ceil(K_total / LANES). Holds while activations arrive at least every ceil(W / BPC) edges.
    """
    return results * chunks * -(-wbits // bpc) + 2


def gemm_cycles(m: Any, n: Any, k: Any, *, rows: Any, lanes: Any, wbits: Any, bpc: Any) -> Any:
    """T of a product [m, k] x [k, n] on ``rows`` units side by side, one column each [edges]. All arguments broadcast."""
    return cycles(m * -(-n // rows), -(-k // lanes), wbits=wbits, bpc=bpc)


def clamped(wbits: int, w_max: int) -> int:
    """Width in use for a configured one."""
    return min(max(wbits, 1), w_max)


class Model:
    """Control registers alone: activations present, slice number, stage 1, output."""

    def __init__(self, p: Params) -> None:
        self.p = p
        self.av = self.s1 = self.s1_last = self.out = False
        self.slice = 0

    def step(self, cfg: Mapping[str, int], offers: Mapping[str, Beat | None], sinks: Mapping[str, bool]) -> dict[str, bool]:
        adv = not self.out or sinks["out"]
        w_ready = self.av and adv
        w = offers["w"] if w_ready else None
        steps = -(-clamped(cfg["wbits"], self.p["W_MAX"]) // self.p["BPC"])
        done = w is not None and self.slice == steps - 1
        says = {"a": not self.av or done, "w": w_ready, "out": self.out}
        self.av = (self.av and not done) or (offers["a"] is not None and says["a"])
        if adv:
            self.out = self.s1 and self.s1_last
            self.s1 = w is not None
        if w is not None:
            self.s1_last = done and bool(w["last"])
            self.slice = 0 if done else self.slice + 1
        return says

    def state(self) -> dict[str, int]:
        return {"av": int(self.av), "slice": self.slice, "s1": int(self.s1), "out": int(self.out)}


def bins(p: Params) -> list[str]:
    widths = [f"W{w}/{kind}" for w in range(1, p["W_MAX"] + 1) for kind in ("signed", "unsigned")]
    limits = ["width 0", "width W_MAX"] + (["width above W_MAX"] if p["W_MAX"] + 1 < 1 << p["PW"] else [])
    extended = ["last slice wider than the weight"] if p["BPC"] > 1 and p["W_MAX"] > 1 else []
    return [*widths, *limits, *extended, "top bit of the last slice subtracted", "top bit of the last slice added",
            "most negative times most negative", "stall: no activations", "stall: result waits, next in stage 1",
            "activation load with last slice"]


UNIT = Unit(
    name="bitserial_mac", law="R", text="dot product, weights a few bits per cycle",
    parameters={
        "LANES": Parameter(16, (1, 3, 4, 16), "products per slice"),
        "A_W": Parameter(8, (2, 4, 8), "activation [bit], signed"),
        "W_MAX": Parameter(8, (1, 5, 6, 8), "widest weight [bit]"),
        "BPC": Parameter(1, (1, 2, 4), "weight bits per cycle: 1, 2 or 4"),
        "PW": Parameter(4, (1, 3, 4), "bits of cfg_wbits, hold W_MAX"),
        "ACC_W": Parameter(32, (8, 12, 32), "accumulator [bit], wraps"),
    },
    cycles=cycles, model=Model,
    fast=(SMALL, {}),
    thorough=({"BPC": 2}, {"BPC": 4}, {"LANES": 1, "A_W": 2, "W_MAX": 1, "PW": 1, "ACC_W": 8},
              {"LANES": 4, "W_MAX": 6, "BPC": 4, "PW": 3}),
    illegal=(Illegal({"LANES": 0}, "bitserial_mac_requires_LANES_at_least_1"),
             Illegal({"A_W": 1}, "bitserial_mac_requires_A_W_at_least_2"),
             Illegal({"W_MAX": 0}, "bitserial_mac_requires_W_MAX_at_least_1"),
             Illegal({"BPC": 3}, "bitserial_mac_requires_BPC_1_or_2_or_4"),
             Illegal({"PW": 3}, "bitserial_mac_requires_PW_to_hold_W_MAX"),
             Illegal({"ACC_W": 12}, "bitserial_mac_requires_ACC_W_at_least")),
    mutants=(
        Mutant("sign plane added", "wire minus      = cfg_wsigned & last_slice;", "wire minus      = 1'b0;"),
        Mutant("subtraction on every slice", "wire minus      = cfg_wsigned & last_slice;", "wire minus      = cfg_wsigned;"),
        Mutant("shift ignores BPC", "sh     = s1_slice_q << LB;", "sh     = s1_slice_q;", SMALL),
        Mutant("AND replaced by OR", "t   = a & {A_W{w_data[i*BPC + BPC-1]}};", "t   = a | {A_W{w_data[i*BPC + BPC-1]}};"),
        Mutant("lane 0 counted twice", "a   = a_q[i*A_W +: A_W];", "a   = a_q[((i == 1) ? 0 : i)*A_W +: A_W];"),
        Mutant("activation register freed one slice early", "assign a_ready   = !av_q | done;",
               "assign a_ready   = !av_q | w_fire;"),
        Mutant("+1 of the negation missing", "{moved[FILL +: ACC_W], neg_q};", "{moved[FILL +: ACC_W], 1'b0};"),
        Mutant("filled with zeros", "{dot_q, {FILL{neg_q}}};", "{dot_q, {FILL{1'b0}}};"),
        Mutant("last ignored", "s1_last_q  <= last_slice & w_last;", "s1_last_q  <= last_slice;"),
        Mutant("adv without out_ready", "wire adv        = !out_valid_q | out_ready;", "wire adv        = !out_valid_q;"),
        Mutant("one slice too many", "(next << LB) >= wbits;", "(next << LB) > wbits;"),
        Mutant("no flag", "& (zero | wide)) err_q", "& 1'b0) err_q"),
    ),
    bins=bins,
    macs_per_cycle=lambda p, cfg: p["LANES"] / -(-cfg["wbits"] // p["BPC"]),
    formats={"W1A8": ("BPC 1", {"wbits": 1}), "W2A8": ("BPC 2", {"wbits": 2}), "W4A8": ("BPC 4", {"wbits": 4}),
             "W8A8": ("BPC 4", {"wbits": 8})},
    sizes={"4 lanes": "BPC 1"},
    synth={"BPC 1": {}, "BPC 2": {"BPC": 2}, "BPC 4": {"BPC": 4}, "4 lanes": {"LANES": 4}},
    published={"BPC 1": {"ge": 2638, "ff": 187, "lut": 394, "dsp": 0}, "BPC 2": {"ge": 3785, "ff": 187, "lut": 669, "dsp": 0},
               "BPC 4": {"ge": 6281, "ff": 187, "lut": 1305, "dsp": 0}, "4 lanes": {"ge": 1053}},
)
