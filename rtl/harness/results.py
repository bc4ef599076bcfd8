"""Results of campaigns, kept as data beside the units, and the page that shows them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rtl.harness import figures
from rtl.harness.registry import ROOT, load, names

#: Kind -> columns of its rows; the first column names the unit.
KINDS: dict[str, tuple[str, ...]] = {
    "mutation": ("unit", "kind", "killed", "survivors"),
    "coverage": ("unit", "bins", "line", "branch", "toggle", "toggle_share", "waived"),
}
PAGE = ROOT / "RESULTS.md"


def path(kind: str) -> Path:
    return ROOT / f"{kind}.json"


def rows(kind: str) -> list[list[Any]]:
    """Stored rows of a kind, units that are gone left out."""
    if not path(kind).exists():
        return []
    return [r for r in json.loads(path(kind).read_text(encoding="utf-8")) if r[0] in names()]


def store(kind: str, new: Sequence[Sequence[Any]]) -> None:
    """Put rows in place of all of the same units, and write the page."""
    fresh = {r[0] for r in new}
    kept = sorted([r for r in rows(kind) if r[0] not in fresh] + [list(r) for r in new], key=lambda r: str(r[:2]))
    path(kind).write_text("[\n" + ",\n".join(json.dumps(r) for r in kept) + "\n]\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")


MUTATION = ("unit", "kind", "killed", "survived_with_reason", "survived")


def told(mutation: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows of ``mutation`` with survivors counted: those with a written reason and those without."""
    found = []
    for unit, kind, killed, survivors in mutation:
        reasons = sum(key in load(unit).survivors for key in survivors) if unit in names() else 0
        found.append([unit, kind, killed, reasons, len(survivors) - reasons])
    return found


def _table(columns: Sequence[str], lines: Sequence[Sequence[Any]]) -> list[str]:
    head = [c.replace("_", " ") for c in columns]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(str(x) for x in line) + " |" for line in lines)]


def page() -> str:
    """The page of results as Markdown."""
    area = sorted(((f, n, b, f"{v:.0f}", f"{r:.2f}" if r else "-") for f, n, b, v, r in figures.against_baselines()),
                  key=lambda r: (r[0], float(r[3])))
    reasons = [(n, key, why) for n in names() for key, why in load(n).survivors.items()]
    reason_rows = [(n, f"`{k.replace('|', chr(92) + '|')}`", why) for n, k, why in reasons]
    return "\n".join([
        "# Results of the hardware units", "",
        "Generated; `perfboard rtl verify --mutants N --write`, `verify --coverage --write` and `synth --write` bring it up to",
        "date. `perfboard rtl compare` shows cycles; every test run asserts them.",
        "", "## Faults put into the Verilog", "", *_table(MUTATION, told(rows("mutation"))), "",
        "Faults that no test can see, and why:", "", *_table(("unit", "fault", "reason"), reason_rows), "",
        "## Coverage over all parameter sets", "", *_table(KINDS["coverage"], rows("coverage")), "",
        "## Area per multiply-accumulate per cycle", "",
        "Gate equivalents of synthesised units; last column: the baseline's figure over the unit's at the same format.", "",
        *_table(("format", "unit", "build", "GE per MAC/cycle", "baseline over unit"), area), ""])
