"""Cycle contract and handshake-level model of ``flash_page_gemv``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rtl.flash_page_gemv.golden import secded_decode
from rtl.harness.unit import Beat, Illegal, Mutant, Parameter, Params, Unit, clog2

TESTED = {"pages": (1, 3), "entries": (0, 163), "page": (48, 16384), "cols": (8, 256), "macs": (2, 4)}
SMALL = {"PAGE": 64, "AW": 14, "COLS": 16, "CAW": 4}
WIDE = {"PAGE": 128, "AW": 7, "COLS": 8, "CAW": 3, "NMAC": 4, "NW": 2, "ACC_W": 18}
PART = {"PAGE": 48, "AW": 6, "COLS": 8, "CAW": 3}


def page_cycles(page: Any, *, macs: Any, entries: Any = 0) -> Any:
    """T of a page from its command to the last row [edges]: page / macs + entries + 2 + [entries > 0]. Broadcasts.

    ``page`` weights of one byte, ``entries`` protected ones. Holds while protected weights and beats are there in time.
    """
    return -(-page // macs) + entries + 2 + (entries > 0)


def cycles(pages: Any, entries: Any, *, page: Any, cols: Any, macs: Any) -> Any:
    """T of pages with equally many protected weights, from the first beat of the first vector to the last row [edges].

    Each page takes its vector, cols / macs edges, as soon as the last beat of the one before is gone. Broadcasts.
    """
    return pages * (cols // macs + page_cycles(page, macs=macs, entries=entries) - 1) + 1


def gemm_cycles(m: Any, n: Any, k: Any, *, cores: Any, page: Any, cols: Any, macs: Any, entries: Any = 0,
                t_read: Any = 0) -> Any:
    """T of m products with a matrix [n, k] on ``cores`` cores, its pages read anew for each product [edges]. Broadcasts.

    ``t_read``: edges in which a page comes from the cells; of reading and computing the longer one counts.
    """
    pages = -(-n * -(-k // cols) * cols // page)
    return m * -(-pages // cores) * np.maximum(cols // macs + page_cycles(page, macs=macs, entries=entries), t_read)


class Model:
    """Control registers alone: vector, page, beat, head of the protected weights (its address), stage 1, output."""

    def __init__(self, p: Params) -> None:
        self.p, self.beats, self.row = p, p["PAGE"] // p["NMAC"], p["COLS"] // p["NMAC"]
        self.full = self.busy = self.drain = self.s1 = self.s1_last = self.out = False
        self.loaded = self.beat = self.todo = 0
        self.head: tuple[int, bool] | None = None          # its beat, whether it cannot be corrected

    def place(self) -> str:
        """Where the head lies: before the beat in turn, in it, beyond it; "none" without a head."""
        if self.head is None:
            return "none"
        beat, bad = self.head
        return "before" if self.drain or bad or beat < self.beat else "here" if beat == self.beat else "beyond"

    def step(self, cfg: Mapping[str, int], offers: Mapping[str, Beat | None], sinks: Mapping[str, bool]) -> dict[str, bool]:
        place, adv = self.place(), not self.out or sinks["out"]
        pop = place == "before" or (place == "here" and offers["d"] is not None)
        clear = place == "beyond" or (place == "none" and not self.todo)
        says = {"x": not self.busy and not self.full, "h": not self.busy and self.full, "out": self.out,
                "e": self.busy and self.todo > 0 and (place == "none" or pop),
                "d": self.busy and not self.drain and clear and adv}
        took = {s: offers[s] if says[s] else None for s in ("x", "h", "e", "d")}
        if adv:
            self.out = self.s1 and self.s1_last
            self.s1, self.s1_last = took["d"] is not None, self.beat % self.row == self.row - 1
        last = took["d"] is not None and self.beat == self.beats - 1
        if (self.drain or last) and not self.todo and (place == "none" or pop):
            self.busy = self.drain = False
        elif last:
            self.drain = True
        self._take(took, pop)
        return says

    def _take(self, took: Mapping[str, Beat | None], pop: bool) -> None:
        """Beats that move at this edge."""
        if took["x"] is not None:
            self.loaded = (self.loaded + 1) % self.row
            self.full = not self.loaded
        if took["d"] is not None:
            self.beat += 1
        if pop:
            self.head = None
        if (e := took["e"]) is not None:
            self.todo, aw = self.todo - 1, self.p["AW"]
            addr, _, bad = secded_decode(e["data"] & ((1 << aw) - 1), e["data"] >> aw & 63, aw)
            self.head = addr // self.p["NMAC"], bad
        if (h := took["h"]) is not None:
            self.full, self.busy, self.beat, self.todo = False, True, 0, h["ne"]

    def state(self) -> dict[str, int]:
        return {"busy": int(self.busy), "place": ("none", "before", "here", "beyond").index(self.place()), "todo": self.todo,
                "drain": int(self.drain), "s1": int(self.s1), "out": int(self.out), "beat": self.beat}


def bins(p: Params) -> list[str]:
    beyond = ["dropped: beyond the page"] if p["PAGE"] < 1 << p["AW"] else []
    return [*beyond, "one wrong bit in the address", "one wrong bit in the check bits", "dropped: not correctable",
            "dropped: stale", *(f"wrong copy: {c}" for c in ("read", "first", "second")),
            *(f"repaired: lane {i}" for i in range(p["NMAC"])), *(f"zeroed in a beat: {n}" for n in range(3)),
            "at the threshold", "-128", "no protected weight", "two in a beat", "adjacent beats", "first weight", "last weight",
            "same weight twice", *(f"threshold: {n} bad copies" for n in (0, 4)), "repair waits for the page",
            "page waits for protected weights", "repair while the output stalls", "stall: result waits, next in stage 1"]


UNIT = Unit(
    name="flash_page_gemv", law="E", text="in-flash core: a page of INT8 weights times a vector, outliers protected",
    parameters={
        "PAGE": Parameter(16384, (48, 64, 128, 16384), "weights of a page"),
        "AW": Parameter(lambda p: clog2(p["PAGE"]), (6, 7, 14), "address of a weight [bit]"),
        "COLS": Parameter(256, (8, 16, 256), "weights of a row, 2^CAW"),
        "CAW": Parameter(lambda p: clog2(p["COLS"]), (3, 4, 8), "bits of a weight's place in its row"),
        "NMAC": Parameter(2, (2, 4), "weights per beat, 2^NW"),
        "NW": Parameter(lambda p: clog2(p["NMAC"]), (1, 2), "bits of a weight's place in its beat"),
        "ACC_W": Parameter(32, (18, 32), "accumulator [bit], wraps"),
    },
    cycles=cycles, model=Model,
    fast=(SMALL, WIDE), thorough=(PART,),
    illegal=(Illegal({"NMAC": 1, "NW": 0}, "flash_page_gemv_requires_NMAC_at_least_2"),
             Illegal({"NMAC": 4, "NW": 1}, "flash_page_gemv_requires_NMAC_equal_2_to_NW"),
             Illegal({"COLS": 200}, "flash_page_gemv_requires_COLS_equal_2_to_CAW"),
             Illegal({"COLS": 4, "CAW": 2, "NMAC": 4, "NW": 2}, "flash_page_gemv_requires_two_beats_per_row"),
             Illegal({"PAGE": 16000}, "flash_page_gemv_requires_PAGE_of_whole_rows"),
             Illegal({"AW": 13}, "flash_page_gemv_requires_AW_to_hold_PAGE"),
             Illegal({"AW": 27}, "flash_page_gemv_requires_AW_at_most_26"),
             Illegal({"ACC_W": 15}, "flash_page_gemv_requires_ACC_W_at_least_16")),
    mutants=(
        Mutant("majority of two", "| (head_copy_q[7:0] & head_copy_q[15:8]);", ";"),
        Mutant("threshold >=", "(mag > thr_q);", "(mag >= thr_q);"),
        Mutant("stale test dropped", "head_bad_q | (head_beat < beat_q);", "head_bad_q;"),
        Mutant("repair not cleared", "if (d_fire) patched_q[n] <= 1'b0;", "if (1'b0) patched_q[n] <= 1'b0;"),
        Mutant("row boundary one beat late", "s1_last_q  <= &beat_q[RW-1:0];", "s1_last_q  <= beat_q[RW-1:0] == {RW{1'b0}};"),
        Mutant("parity ignored", "wire      odd = ^{raw, chk};", "wire      odd = |syndrome;", file="flash_address"),
        Mutant("parity bit ignored", "wire      odd = ^{raw, chk};", "wire      odd = ^{raw, chk[4:0]};", file="flash_address"),
        Mutant("two wrong bits corrected", "odd ? !known : |syndrome;", "!known;", file="flash_address"),
        Mutant("address compare drops the low bit", "here      = !stale & (head_beat == beat_q);",
               "here      = !stale & (head_beat[BW-1:1] == beat_q[BW-1:1]);"),
        Mutant("four copies carry the threshold", "votes > 4'd4;", "votes > 4'd3;"),
        Mutant("-128 is 0", "(d_data[i*8 +: 8] ^ {8{d_data[i*8 + 7]}}) + {7'd0, d_data[i*8 + 7]};",
               "((d_data[i*8 +: 8] ^ {8{d_data[i*8 + 7]}}) + {7'd0, d_data[i*8 + 7]}) & 8'h7f;"),
        Mutant("rest not drained", "drain_q <= last_beat;", "drain_q <= 1'b0;"),
        Mutant("beat taken before the head is known", "!stale & !here : none_left;", "!stale & !here : 1'b1;"),
        Mutant("repair without a beat", "patch     = head_q & here & d_valid;", "patch     = head_q & here;"),
        Mutant("adv without out_ready", "adv       = !out_valid_q | out_ready;", "adv       = !out_valid_q;"),
    ),
    bins=bins,
    survivors={"flash_page_gemv: sign: reg signed [15:0] product; -> reg [15:0] product;":
               "the sign of a product comes from its operands, and the product is extended bit by bit"},
    waived={**{f"{name}[{i}]": "upper half of a counter: 256 events and more" for i in range(8, 16)
               for name in ("cnt_fixed", "cnt_drop", "cnt_zero", "fixed_q", "drop_q", "zero_q")},
            **{f"{name}[{i}]": "only the page as published is so long; it runs in a test of its own" for i in range(5, 14)
               for name in ("beat_q", "todo_q", "h_ne")}},
    macs_per_cycle=lambda p, cfg: p["NMAC"],
    formats={"W8A8": ("COLS 64", {})},
    synth={"COLS 64": {"COLS": 64, "CAW": 6}},
    published={"COLS 64": {"ge": 8955, "ff": 709, "lut": 1013, "dsp": 2}},
)
