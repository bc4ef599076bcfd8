"""Figures of synthesis, kept as data with the tool's version, and what they say per multiply-accumulate and format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rtl.harness.registry import FIGURES, home, kept_in, load, names
from rtl.harness.synth import Area, synthesise
from rtl.harness.unit import Params, Unit

BEGIN, END = "<!-- synthesis: begin -->", "<!-- synthesis: end -->"
#: What the other units are compared with, by format: integer and floating-point multiply-accumulate units.
BASELINES = ("base_mac_dp", "base_fp16_mac")
#: Formats that no multiplier takes as they are -> the baselines' format that does their products: 5 trits in 8 bits are
#: ternary weights; of N:M sparse weights a multiplier does all; of 2^e up to 8 (128), 4 (8) bits hold all but the largest.
MULTIPLIED_AS = {"W1.6A8": "W2A8", "W8A8 1:4": "W8A8", "W8A8 2:4": "W8A8", "POT3A8": "W4A8", "POT4A8": "W8A8",
                 "POT3xFP16": "W4xFP16", "POT4xFP16": "W8xFP16"}
#: Columns of one row of figures.
COLUMNS = ("unit", "build", "parameters", "ge", "sequential_ge", "ff", "depth", "lut", "lut6", "fpga_ff", "dsp", "carry",
           "bram", "fpga_depth", "ge_reference", "ge_ratio")


def measure(unit: Unit, label: str, params: Params, *, fpga: bool = True) -> dict[str, Any]:
    """Both flows of one build of a unit as one row."""
    ge = synthesise(unit, params, "ge")
    row: dict[str, Any] = {"unit": unit.name, "build": label, "parameters": dict(params), "tool": ge.tool, "ge": ge.ge,
                           "sequential_ge": ge.sequential_ge, "ff": ge.ff, "depth": ge.depth, "cells": ge.cells}
    if fpga:
        x: Area = synthesise(unit, params, "fpga")
        row |= {"lut": x.lut, "lut6": x.lut6, "fpga_ff": x.ff, "dsp": x.dsp, "carry": x.carry, "bram": x.bram,
                "fpga_depth": x.depth}
    if reference := unit.published.get(label, {}).get("ge"):
        row |= {"ge_reference": reference, "ge_ratio": round(ge.ge / reference, 3)}
    return row


@cache
def stored(path: Path = FIGURES) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(unit, build) -> row, as kept in ``figures.json``; ``path``: that of a user's own unit."""
    if not path.exists():
        return {}
    return {(r["unit"], r["build"]): r for r in json.loads(path.read_text(encoding="utf-8"))}


def of(unit: Unit) -> dict[str, Mapping[str, Any]]:
    """Build -> stored row of a unit."""
    return {build: row for (name, build), row in stored(kept_in(unit)).items() if name == unit.name}


def store(unit: Unit, rows: list[dict[str, Any]]) -> None:
    """Put rows in place of those of the same builds; builds and units that are gone are left out."""
    path = kept_in(unit)
    kept = {**stored(path), **{(unit.name, r["build"]): r for r in rows}}
    known = {(u.name, label) for u in ([unit] if path != FIGURES else map(load, names())) for label in u.synth}
    text = ",\n".join(json.dumps(kept[k]) for k in sorted(kept) if k in known)
    path.write_text(f"[\n{text}\n]\n", encoding="utf-8")
    stored.cache_clear()


def per_mac(unit: Unit) -> dict[str, float]:
    """Format -> GE per multiply-accumulate per cycle of the unit's build for it, where figures are stored."""
    found: dict[str, float] = {}
    for fmt, label, macs in builds(unit):
        found.setdefault(fmt, of(unit)[label]["ge"] / macs)
    return found


def builds(unit: Unit) -> Iterator[tuple[str, str, float]]:
    """(format, build, multiply-accumulates per cycle) with stored figures; the build that ``formats`` names comes first."""
    for fmt, (label, cfg) in unit.formats.items():
        for build in (label, *(size for size, like in unit.sizes.items() if like == label)):
            if unit.macs_per_cycle and build in of(unit):
                yield fmt, build, unit.macs_per_cycle(unit.resolve(unit.synth[build]), cfg)


class Density(NamedTuple):
    """One build of a unit at one format. ``ge_per_mac``: GE per multiply-accumulate per cycle; ``ratio``: that of the
    smallest baseline over it, ``None`` where no baseline takes the format."""

    format: str
    unit: str
    build: str
    ge_per_mac: float
    ratio: float | None


def against_baselines(own: Sequence[Unit] = ()) -> list[Density]:
    """Every unit, build and format with figures against the smallest build of a baseline that takes the format; ``own``:
    units outside the package."""
    every = [(fmt, u.name, build, of(u)[build]["ge"] / macs) for u in (*map(load, names()), *own)
             for fmt, build, macs in builds(u)]
    base: dict[str, float] = {}
    for fmt, n, _, v in every:
        if n in BASELINES:
            base[fmt] = min(v, base.get(fmt, v))
    least = {fmt: base.get(MULTIPLIED_AS.get(fmt, fmt)) for fmt, *_ in every}
    return [Density(fmt, n, build, v, b / v if (b := least[fmt]) else None) for fmt, n, build, v in every]


SHOWN = {"build": "build", "parameters": "parameters", "ge": "GE", "sequential_ge": "of it sequential", "ff": "FF",
         "depth": "path [cells]", "lut": "LUT", "lut6": "of it LUT6", "dsp": "DSP", "carry": "CARRY", "bram": "BRAM",
         "fpga_depth": "FPGA path [cells]", "ge_reference": "reference GE", "ge_ratio": "ratio"}


def table(unit: Unit) -> str:
    """Stored figures of a unit as Markdown."""
    rows = [of(unit)[label] for label in unit.synth if label in of(unit)]
    if not rows:
        return "`perfboard rtl synth` gives the figures."
    tools = sorted({str(r["tool"]) for r in rows})
    lines = [f"Yosys {', '.join(tools)}: gate equivalents (NAND2 = 1) with `harness/ge.lib`; LUT, DSP, CARRY and BRAM of "
             "UltraScale+ after synthesis.", "", "| " + " | ".join(SHOWN.values()) + " |", "|" + "---|" * len(SHOWN)]
    for r in rows:
        words = {**r, "parameters": " ".join(f"{k}={v}" for k, v in r["parameters"].items()) or "default"}
        cells = [f"{v:.0f}" if isinstance(v, float) and k != "ge_ratio" else str(v) for k in SHOWN for v in [words.get(k, "")]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def readme(unit: Unit) -> str:
    """The unit's README with its table of figures brought up to date."""
    text = (home(unit) / "README.md").read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    return f"{head}{BEGIN}\n\n{table(unit)}\n\n{END}{rest.split(END, 1)[1]}"
