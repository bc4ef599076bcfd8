"""Lint gate (Verilator and Icarus, nothing but the stated waivers) and parameter sets that must stop elaboration."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from rtl.harness import toolchain
from rtl.harness.registry import sources
from rtl.harness.unit import Illegal, Params, Unit

#: Warnings of Verilator that stay off, with the reason.
WAIVERS = {
    "DECLFILENAME": "a unit's file is named after its module; helper modules are read from elsewhere",
    "WIDTHEXPAND": "Verilog-2005 arithmetic on parameters is 32 bits wide; the widths that matter are asserted by the bench",
    "WIDTHTRUNC": "the same, in the other direction",
    "BLKSEQ": "combinational loops over lanes assign variables in always @*",
    "UNUSEDSIGNAL": "upper bits of an index variable are not used",
    "CMPCONST": "a check of a configured width is constant where the port cannot hold more than the limit",
    "UNUSEDPARAM": "a width may be a parameter of the interface alone",
}
LANGUAGE = ("--default-language", "1364-2005")


def lint_verilator(files: Sequence[Path], top: str, params: Params) -> str:
    """Warnings of ``verilator --lint-only -Wall`` beside the waivers; empty when clean."""
    code, text = toolchain.run_text([str(toolchain.verilator()), "--lint-only", "-Wall", *LANGUAGE,
                                     *(f"-Wno-{w}" for w in WAIVERS), "--top-module", top,
                                     *(f"-G{k}={v}" for k, v in params.items()), *map(str, files)])
    text = "\n".join(line for line in text.splitlines() if not line.startswith("- "))      # its report of work done
    return text.strip() or (f"verilator ended with code {code}" if code else "")


def lint_icarus(files: Sequence[Path], top: str, params: Params) -> str:
    """Warnings of ``iverilog -g2005 -Wall``; empty when clean, or where Icarus is not installed."""
    tool = toolchain.iverilog()
    if tool is None:
        return ""
    done = subprocess.run([tool, "-g2005", "-Wall", "-Wno-timescale", "-tnull", "-s", top,
                           *(f"-P{top}.{k}={v}" for k, v in params.items()), *map(str, files)],
                          text=True, capture_output=True, check=False, timeout=120)
    return (done.stdout + done.stderr).strip()


def lint(unit: Unit, params: Params) -> str:
    """All warnings of a unit with these parameters; empty when clean."""
    files = sources(unit)
    return "\n".join(t for t in (lint_verilator(files, unit.name, params), lint_icarus(files, unit.name, params)) if t)


def stops(unit: Unit, bad: Illegal) -> str:
    """Why an illegal parameter set does not stop elaboration with its message; empty when it does."""
    files = sources(unit)
    log = lint_verilator(files, unit.name, bad.params)
    found = [("verilator", log)]
    if toolchain.iverilog():
        found.append(("icarus", lint_icarus(files, unit.name, bad.params)))
    return "; ".join(f"{tool}: {dict(bad.params)} does not say {bad.message!r}: {text[:300]!r}"
                     for tool, text in found if bad.message not in text)
