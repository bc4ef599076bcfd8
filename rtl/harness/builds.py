"""Further builds of units, synthesised for their gate equivalents alone: what areas between the builds of
``figures.json`` are fitted to. Kept in ``builds.json``, which ``python -m validate.fit_cells --synth`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from rtl.harness.registry import ROOT, kept_in, load, names

PATH = ROOT / "builds.json"


@cache
def synthesised(unit: str) -> tuple[tuple[dict[str, int], Mapping[str, Any]], ...]:
    """Every synthesised build of a unit: (all its parameters, its row). A build that both files hold comes once."""
    found: dict[tuple[tuple[str, int], ...], tuple[dict[str, int], Mapping[str, Any]]] = {}
    known = load(unit)
    for path in (PATH, kept_in(known)):
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        for row in (r for r in rows if r["unit"] == known.name):
            full = known.resolve(row["parameters"])
            found[tuple(sorted(full.items()))] = full, row
    if not found:
        raise ValueError(f"{unit}: no build of it is synthesised; perfboard rtl synth {unit} --write")
    return tuple(found.values())


def store(rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the further builds, all of them, sorted; units that are gone are left out."""
    known = set(names())
    kept = sorted((r for r in rows if r["unit"] in known), key=lambda r: (r["unit"], sorted(r["parameters"].items())))
    PATH.write_text("[\n" + ",\n".join(json.dumps(r) for r in kept) + "\n]\n", encoding="utf-8")
    synthesised.cache_clear()
