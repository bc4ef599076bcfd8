"""Why a target is not met: the classes of rows that lift the error (generated), a reason and what data would settle it.

Reasons are data (``shortfalls.toml``): each holds for the targets and the split that it names.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

HERE = Path(str(resources.files("validate")))
CLASSES, REASONS = HERE / "shortfalls.csv", HERE / "shortfalls.toml"
COLUMNS = ("what", "split", "device", "framework", "variant", "size", "n", "mape", "bias", "excess")
_NUMBERS = COLUMNS[6:]


class Reason(BaseModel):
    """Why some targets are out of reach on one split, and the data that would settle it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    what: tuple[str, ...]
    split: str
    why: str
    data: str


def reasons() -> dict[tuple[str, str], Reason]:
    """By (target, split)."""
    with REASONS.open("rb") as f:
        found = [Reason.model_validate(r) for r in tomllib.load(f)["reason"]]
    return {(w, r.split): r for r in found for w in r.what}


def stored() -> list[dict[str, Any]]:
    with CLASSES.open(newline="", encoding="utf-8") as f:
        return [{k: float(v) if k in _NUMBERS else v for k, v in r.items()} for r in csv.DictReader(f)]


def section(targets: Sequence[Mapping[str, Any]], classes: Sequence[Mapping[str, Any]]) -> str:
    """Of each target not met the reason, and the classes that add most; ``targets`` as ``scores.stored_targets``."""
    lines = ["What a class adds: the points of mean error above the target that its rows account for.", ""]
    known = reasons()
    said: set[int] = set()
    for t in targets:
        if t["target"] is None or t["mape"] <= t["target"]:
            continue
        reason = known.get((t["what"], t["split"]))
        lines += [f"### {t['what']}, {t['split']}: {100 * t['mape']:.1f} % for {100 * t['target']:.0f} %", ""]
        if reason and id(reason) not in said:
            said.add(id(reason))
            lines += [reason.why, "", f"Would settle it: {reason.data}", ""]
        elif reason:
            lines += ["The same reason as above.", ""]
        mine = [c for c in classes if (c["what"], c["split"]) == (t["what"], t["split"])]
        if mine:
            lines += ["| device | library | kernel | size | rows | error | bias | adds |", "|---|---|---|---|" + 4 * "---:|"]
            lines += ["| " + " | ".join((c["device"], c["framework"], c["variant"], c["size"], f"{c['n']:.0f}",
                                         f"{100 * c['mape']:.1f} %", f"{100 * c['bias']:+.1f} %", f"{100 * c['excess']:.1f}"))
                      + " |" for c in mine] + [""]
    return "\n".join(lines).rstrip()
