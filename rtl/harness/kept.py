"""Runs of the thorough tier that passed, kept so that an interrupted one goes on where it was.

A kept run holds for the same tools, Verilog, parameters, seeds and Python of its bench and of the harness.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

from rtl.harness import toolchain
from rtl.harness.registry import ROOT, home, sources
from rtl.harness.run import Outcome
from rtl.harness.unit import Params, Unit


def place(unit: Unit, params: Params, simulator: str, seeds: tuple[int, int]) -> Path:
    """The file in which this run is kept, or would be."""
    text = [(p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in (*sources(unit), *_python(home(unit)))]
    what = (toolchain.identity(simulator), unit.name, text, sorted(params.items()), seeds)
    return toolchain.cache_dir() / "passed" / f"{unit.name}-{hashlib.sha256(repr(what).encode()).hexdigest()[:20]}.json"


def _python(folder: Path) -> list[Path]:
    """Python that a bench rests on: its folder, the harness, and the folders of units that these import."""
    todo, seen = [folder, ROOT / "harness"], set[Path]()
    while todo:
        if (here := todo.pop()) not in seen:
            seen.add(here)
            text = "\n".join(p.read_text(encoding="utf-8") for p in here.glob("*.py"))
            todo += [ROOT / name for name in re.findall(r"^from rtl\.(\w+)", text, re.MULTILINE)]
    return sorted(p for f in seen for p in f.glob("*.py"))


def load(file: Path) -> Outcome | None:
    """A kept run; ``None`` if there is none, or one that cannot be read."""
    try:
        return Outcome(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def keep(file: Path, done: Outcome) -> None:
    """Keep a run that passed: whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(asdict(done)), encoding="utf-8")
    part.rename(file)
