"""Results of campaigns, kept as data beside the units, what is missing in them, and the page that shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtl.harness import figures
from rtl.harness.build import locked
from rtl.harness.registry import ROOT, fingerprint, load, names
from rtl.harness.toolchain import cache_dir

PAGE = ROOT / "RESULTS.md"
#: Generated faults that every unit meets, or all there are.
FAULTS = 25
MUTATION = ("unit", "listed", "generated", "of_possible", "survived_with_reason", "survived", "by_kind")
COVERAGE = ("unit", "bins", "line", "branch", "toggle", "toggle_share", "not_reached_without_reason")

Record = Mapping[str, Any]


def path(kind: str) -> Path:
    """The file of a kind: "mutation" or "coverage"."""
    return ROOT / f"{kind}.json"


def records(kind: str) -> dict[str, Record]:
    """Unit -> what was last found about it; units that are gone are left out."""
    stored = json.loads(path(kind).read_text(encoding="utf-8")) if path(kind).exists() else []
    return {r["unit"]: r for r in stored if r["unit"] in names()}


def store(kind: str, new: Record) -> None:
    """Put a record in place of that of the same unit, and write the page."""
    with locked(cache_dir() / "results"):
        kept = {**records(kind), new["unit"]: new}
        path(kind).write_text("[\n" + ",\n".join(json.dumps(kept[u]) for u in sorted(kept)) + "\n]\n", encoding="utf-8")
        PAGE.write_text(page(), encoding="utf-8")


# -- what is missing -------------------------------------------------------------------------------------------------

def gaps(mutation: Mapping[str, Record], coverage: Mapping[str, Record]) -> list[str]:
    """One line for everything that a unit owes; empty when all listed and enough generated faults were noticed."""
    return [f"{n}: {what}" for n in names() for what in (*_fault_gaps(n, mutation.get(n)), *_coverage_gaps(n, coverage.get(n)))]


def _fault_gaps(name: str, r: Record | None) -> list[str]:
    if r is None:
        return ["no faults were put into it"]
    judged = sum(total for _, total in r["generated"].values())
    found = [f"survives without a reason: {key}" for key in unexplained(r)]
    if r["verilog"] != fingerprint(load(name)):
        found.append("its Verilog has changed since faults were put into it")
    if r["listed"][1] != len(load(name).mutants):
        found.append(f"{r['listed'][1]} of {len(load(name).mutants)} listed faults were put in")
    if judged < FAULTS and judged + r["not_compiled"] < r["possible"]:
        found.append(f"{judged} generated faults of {r['possible']} possible ones, fewer than {FAULTS}")
    return found


def _coverage_gaps(name: str, r: Record | None) -> list[str]:
    if r is None:
        return ["no coverage was measured"]
    found = [] if r["verilog"] == fingerprint(load(name)) else ["its Verilog has changed since coverage was measured"]
    return found if r["bins"][0] == r["bins"][1] > 0 else [*found, f"bins reached: {r['bins'][0]} of {r['bins'][1]}"]


def unexplained(r: Record) -> list[str]:
    """Survivors for which the unit gives no reason."""
    return [key for key in r["survivors"] if key not in load(r["unit"]).survivors]


# -- the page --------------------------------------------------------------------------------------------------------

def fault_row(r: Record) -> list[Any]:
    """One row for a reader: killed/judged."""
    killed, judged = (sum(x[i] for x in r["generated"].values()) for i in (0, 1))
    bare = len(unexplained(r))
    kinds = ", ".join(f"{k} {a}/{b}" for k, (a, b) in r["generated"].items())
    return [r["unit"], "/".join(map(str, r["listed"])), f"{killed}/{judged}", r["possible"], len(r["survivors"]) - bare, bare,
            kinds]


def coverage_row(r: Record) -> list[Any]:
    shares = ["/".join(map(str, r[k])) for k in ("bins", "line", "branch", "toggle")]
    return [r["unit"], *shares, f"{r['toggle'][0] / max(r['toggle'][1], 1):.4f}", r["open"]]


def _table(columns: Sequence[str], lines: Sequence[Sequence[Any]]) -> list[str]:
    head = [c.replace("_", " ") for c in columns]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head),
            *("| " + " | ".join(str(x) for x in line) + " |" for line in lines)]


def _reasons(mutation: Mapping[str, Record]) -> list[list[str]]:
    """Survivors of the stored campaigns with their reasons."""
    return [[n, f"`{key.replace('|', chr(92) + '|')}`", load(n).survivors[key]]
            for n, r in sorted(mutation.items()) for key in r["survivors"] if key in load(n).survivors]


def page() -> str:
    """The page of results as Markdown."""
    mutation, coverage = records("mutation"), records("coverage")
    missing = gaps(mutation, coverage)
    area = sorted(((f, n, b, f"{v:.0f}", f"{r:.2f}" if r else "-") for f, n, b, v, r in figures.against_baselines()),
                  key=lambda r: (r[0], float(r[3])))
    return "\n".join([
        "# Results of the hardware units", "",
        "Generated; `perfboard rtl verify --mutants N --write`, `verify --coverage --write` and `synth --write` bring it up to",
        "date. `perfboard rtl compare` shows cycles; every test run asserts them.", "",
        *(["Missing:", "", *(f"- {line}" for line in missing), ""] if missing else []),
        "## Faults put into the Verilog", "",
        f"Killed of judged. Each unit meets all its listed faults and at least {FAULTS} generated ones, or all there are of",
        "those; one that does not compile is not counted. The reasons of survivors stand in the table after this one.", "",
        *_table(MUTATION, [fault_row(r) for r in mutation.values()]), "",
        "Survivors, and why no test can see them:", "", *_table(("unit", "fault", "reason"), _reasons(mutation)), "",
        "## Coverage over all parameter sets", "", "Reached of those there are.", "",
        *_table(COVERAGE, [coverage_row(r) for r in coverage.values()]), "",
        "## Area per multiply-accumulate per cycle", "",
        "Gate equivalents of synthesised units; last column: the baseline's figure over the unit's at the same format.", "",
        *_table(("format", "unit", "build", "GE per MAC/cycle", "baseline over unit"), area), ""])
