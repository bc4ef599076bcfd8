"""Finds units by folder: every folder of ``rtl/`` that has a ``contract.py`` is one."""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path

from rtl.harness.unit import Unit

ROOT = Path(__file__).resolve().parents[1]
#: Files that make a unit complete; ``{name}`` is the folder's name.
COMPLETE = ("__init__.py", "{name}.v", "golden.py", "contract.py", "bench.py", "README.md")


def names() -> list[str]:
    """Names of all units, sorted."""
    return sorted(p.parent.name for p in ROOT.glob("*/contract.py"))


def load(name: str) -> Unit:
    """The unit of this name. Raises ``ValueError`` if there is none."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names())}"
        raise ValueError(f"no unit {name!r}; {hint}")
    unit: Unit = import_module(f"rtl.{name}.contract").UNIT
    return unit


def sources(unit: Unit) -> list[Path]:
    """Verilog files of a unit: those it uses from elsewhere, sub-modules in its folder, its own last."""
    own = ROOT / unit.name
    parts = sorted(p for p in own.glob("*.v") if p.stem != unit.name)
    return [*(ROOT / used for used in unit.uses), *parts, own / f"{unit.name}.v"]
