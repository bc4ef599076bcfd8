"""Figures of synthesis, kept as data with the tool's version, and what they say per multiply-accumulate and format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from rtl.harness.registry import ROOT, home, load, names
from rtl.harness.synth import Area, synthesise
from rtl.harness.unit import Params, Unit

BEGIN, END = "<!-- synthesis: begin -->", "<!-- synthesis: end -->"
PATH = ROOT / "figures.json"
#: What the other units are compared with, by format: integer and floating-point multiply-accumulate units.
BASELINES = ("base_mac_dp", "base_fp16_mac")
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
def stored() -> dict[tuple[str, str], Mapping[str, Any]]:
    """(unit, build) -> row, as kept in ``figures.json``."""
    if not PATH.exists():
        return {}
    return {(r["unit"], r["build"]): r for r in json.loads(PATH.read_text(encoding="utf-8"))}


def store(rows: list[dict[str, Any]]) -> None:
    """Put rows in place of those of the same unit and build."""
    kept = {**stored(), **{(r["unit"], r["build"]): r for r in rows}}
    known = {(n, label) for n in names() for label in load(n).synth}
    text = ",\n".join(json.dumps(kept[k]) for k in sorted(kept) if k in known)
    PATH.write_text(f"[\n{text}\n]\n", encoding="utf-8")
    stored.cache_clear()


def per_mac(unit: Unit) -> dict[str, float]:
    """Format -> GE per multiply-accumulate per cycle, where figures are stored."""
    found: dict[str, float] = {}
    for fmt, (label, cfg) in unit.formats.items():
        row = stored().get((unit.name, label))
        if row and unit.macs_per_cycle:
            found[fmt] = row["ge"] / unit.macs_per_cycle(unit.resolve(unit.synth[label]), cfg)
    return found


def against_baselines() -> list[tuple[str, str, str, float, float | None]]:
    """(format, unit, build, GE per MAC/cycle, baseline's over the unit's) for every unit and format with figures."""
    base = {fmt: v for n in BASELINES if n in names() for fmt, v in per_mac(load(n)).items()}
    return [(fmt, n, load(n).formats[fmt][0], v, base[fmt] / v if fmt in base else None)
            for n in names() for fmt, v in per_mac(load(n)).items()]


SHOWN = {"build": "build", "parameters": "parameters", "ge": "GE", "sequential_ge": "of it sequential", "ff": "FF",
         "depth": "path [cells]", "lut": "LUT", "lut6": "of it LUT6", "dsp": "DSP", "carry": "CARRY", "bram": "BRAM",
         "fpga_depth": "FPGA path [cells]", "ge_reference": "reference GE", "ge_ratio": "ratio"}


def table(unit: Unit) -> str:
    """Stored figures of a unit as Markdown."""
    rows = [stored()[unit.name, label] for label in unit.synth if (unit.name, label) in stored()]
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
