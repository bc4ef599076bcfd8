"""Areas and energies of our synthesised units beside published ones, and what they rest on: ``docs/silicon.md``.

    python -m validate.silicon        writes the page

Published figures are ``validate/silicon.toml``. The load of a gate is fitted to the rows marked ``fit`` (energies at 45 nm);
the others say how wrong areas and energies of this path are.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accel_models import technology
from accel_models.fitted_store import load as fitted
from accel_models.silicon import cell_area, cells, sram_area, sram_energy_per_byte, toggle_energy, work_energy
from rtl.harness.activity import PATH as ACTIVITY

PAGE = Path(__file__).resolve().parents[1] / "docs" / "silicon.md"
#: Sizes of a bank of memory that the page shows. [B]
BANKS = (8192, 65536, 1 << 20)
#: Factors of a node, with the words of the page.
FACTORS = {"logic_per_mm2": ("transistors a mm2", 1e-6, "million"), "toggle_scale": ("energy of a change over 45 nm", 1, ""),
           "sram_cell_mm2": ("bitcell", 1e6, "um2")}


class Compared(NamedTuple):
    """One published figure: theirs, ours, and the row it stands in."""

    row: Mapping[str, Any]
    theirs: float
    ours: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs


def published() -> dict[str, Any]:
    return tomllib.loads(resources.files("validate").joinpath("silicon.toml").read_text(encoding="utf-8"))


def ours(row: Mapping[str, Any]) -> tuple[float, float]:
    """Cells [um2] and energy of a cycle [pJ] of what of ours does the same."""
    found = cells(row["unit"], row["parameters"])
    joules = work_energy(found, node=row["node"])
    return float(found.ge) * row["share"] * cell_area(row["node"]) * 1e6, float(joules) * row["share"] * 1e12


def compared(quantity: str) -> list[Compared]:
    """All rows that publish ``um2`` or ``pj``."""
    at = ("um2", "pj").index(quantity)
    return [Compared(row, row[quantity], ours(row)[at]) for row in published()["row"] if quantity in row]


def typical(found: Iterable[Compared]) -> tuple[float, float]:
    """Geometric mean of ours over published, and the mean factor between them either way."""
    logs = np.log([c.ratio for c in found])
    return float(np.exp(logs.mean())), float(np.exp(np.abs(logs).mean()))


def checks(quantity: str) -> list[Compared]:
    """Rows that nothing was fitted to, and whose node has factors of its own."""
    return [c for c in compared(quantity) if c.row["node"] == "28" or (quantity == "um2" and c.row["node"] == "45")]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows), ""]


def _compared(quantity: str, unit: str) -> list[str]:
    return _table(("what", "node", f"published [{unit}]", f"ours [{unit}]", "ours / published", "ours is", "source",
                   "why they differ"),
                  [(c.row["what"], f"{c.row['node']} nm", f"{c.theirs:g}", _number(c.ours), f"{c.ratio:.2f}",
                    _build(c.row), c.row["source"] + (" (fitted to)" if quantity == "pj" and c.row.get("fit") else ""),
                    c.row["why"]) for c in compared(quantity)])


def _number(value: float) -> str:
    return f"{value:,.{0 if value > 999 else 3 if value < 9 else 1}f}"


def _build(row: Mapping[str, Any]) -> str:
    words = " ".join(f"{k}={v}" for k, v in row["parameters"].items())
    part = "" if row["share"] == 1 else f", 1/{1 / row['share']:.0f} of it"
    return f"`{row['unit']}` {words or 'default'}{part}"


def _between() -> list[str]:
    sets = {s.variant: s for s in fitted("cells").set}
    names = sorted({v.split()[0] for v in sets})
    return _table(("unit", "builds", "terms of its structure", "error on a build left out", "80 % within"),
                  [(f"`{n}`", str(sets[f"{n} ge"].n_rows), ", ".join(f"{k} {v:g}" for k, v in sets[f"{n} ge"].values.items()),
                    f"{100 * sets[f'{n} ge'].mape:.1f} %", f"{sets[f'{n} ge'].hi['all']:.2f}x") for n in names])


def _factors() -> list[str]:
    raw = technology.raw()
    rows = []
    for name in technology.nodes():
        for key, (text, scale, unit) in FACTORS.items():
            q = raw["node"][name][key]
            said = "; ".join(t for t in (raw["sources"].get(q.get("source", ""), q.get("source", "")), q.get("note", "")) if t)
            rows.append((f"{name} nm", text, f"{q['value'] * scale:.4g} {unit}".strip(), q["kind"], said))
    return _table(("node", "factor", "value", "kind", "source"), rows)


def _memories() -> list[str]:
    return _table(("node", "1 MiB of macros [mm2]", *(f"a byte of a bank of {b // 1024} KiB [pJ]" for b in BANKS)),
                  [(f"{n} nm", f"{float(sram_area(1 << 20, node=n)):.3g}",
                    *(f"{1e12 * e:.2f}" for e in sram_energy_per_byte(np.array(BANKS), node=n))) for n in technology.nodes()])


def _activities() -> list[str]:
    rows: list[dict[str, Any]] = json.loads(ACTIVITY.read_text(encoding="utf-8"))
    return _table(("unit", "simulated with", "changes a gate equivalent and cycle", "a flip-flop and cycle"),
                  [(f"`{r['unit']}`", " ".join(f"{k}={v}" for k, v in (r["parameters"] | r["cfg"]).items()) or "default",
                    f"{r['per_ge']:.3f}", f"{r['per_ff']:.3f}") for r in rows])


def fitted_inputs() -> float:
    """Inputs of a NAND2 that a changing output charges, such that the rows marked ``fit`` are met on the geometric mean."""
    return technology.common()["toggle_inputs"] / typical(c for c in compared("pj") if c.row.get("fit"))[0]


def page() -> str:
    """The text of ``docs/silicon.md``."""
    raw = technology.raw()
    area, energy = (typical(checks(q)) for q in ("um2", "pj"))
    lines = [
        "# Area and energy from our own synthesis", "",
        "Generated by `python -m validate.silicon`.", "",
        "Cells of a unit are gate equivalents (one NAND2 each) that Yosys maps it to, without timing "
        "(`rtl/figures.json`, `rtl/builds.json`). Area is their number times the area of a NAND2 at the node, over the share "
        f"of the peak density that whole chips reach ({technology.common()['logic_utilisation']:g}). Energy of a cycle is the "
        "number of outputs that change times what a change costs at the node; clock inputs of flip-flops change twice. "
        "Leakage is not in it. `accel_models/silicon.py` is the code, `accel_models/technology.toml` the factors.", "",
        f"**How wrong.** Against the published areas below: ours / published {area[0]:.2f} on the geometric mean, a factor "
        f"{area[1]:.2f} either way for a single one. Energies that nothing was fitted to: {energy[0]:.2f}, a factor "
        f"{energy[1]:.2f}. Ratios of units synthesised alike are worth more than square millimetres; "
        "[rtl/DENSITY.md](../rtl/DENSITY.md) compares those.", "",
        "## Areas compared", "", "Cells before placement.", "", *_compared("um2", "um2"),
        "## Energies compared", "",
        f"The load of a changing output ({technology.common()['toggle_inputs']:g} inputs of a NAND2, wires included) is "
        "fitted to the rows at 45 nm; the rows at 28 nm are the check. The factor of 7 nm comes from the table that its row is "
        "of.", "",
        *_compared("pj", "pJ"),
        "## Cells between synthesised builds", "",
        "Exact where a build was synthesised. Elsewhere the terms below, cells of one bit or lane each, by least squares on "
        "relative errors (`python -m validate.fit_cells`). Each build was left out once; the last column is the factor that "
        "holds 80 % of those errors.", "", *_between(),
        "## Activity", "",
        "Netlists simulated gate by gate on random operands at full rate, without delays: glitches, which add to it, are in "
        "the fitted load (`python -m rtl.harness.activity`).", "", *_activities(),
        "## Factors by node", "",
        "A change of an output costs " + ", ".join(f"{1e15 * toggle_energy(n):.2f} fJ at {n} nm" for n in technology.nodes())
        + ".", "", *_factors(),
        "Memories, which were compared with nothing beyond the figures they are made from:", "", *_memories(),
        "## Assumed", "", *(f"- {line}" for line in technology.assumptions()), "",
        "## Sources", "", *(f"- **{k}**: {v}" for k, v in (published()["sources"] | raw["sources"]).items()), ""]
    return "\n".join(lines)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"load of a changing output: {fitted_inputs():.2f} NAND2 inputs")
    for quantity in ("um2", "pj"):
        print(quantity, "all {:.2f} factor {:.2f};".format(*typical(compared(quantity))),
              "checks {:.2f} factor {:.2f}".format(*typical(checks(quantity))))


if __name__ == "__main__":
    main()
