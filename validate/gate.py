"""The accuracy gate: on the reference sample no figure departs from the stored ones without being stored anew.

``python -m validate.gate --data DIR`` draws the sample anew from the full tables and stores its figures;
without ``--data`` it stores the figures of the sample as it is. The sample holds rows that neither a fit nor an
interval has seen, spread over tables, devices, formats and regimes by a hash.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from validate.measured import Table
from validate.rows import SAMPLE, TABLES, Predicted, by, cells, figures, header_of, held_back, predict

GATE = Path(str(resources.files("validate"))) / "gate.csv"
COLUMNS = ("op", "regime", "n", "mape", "coverage")
#: Rows of the sample by table; 1960 in all.
QUOTA = {"gemm": 760, "attention": 420, "moe": 160, "elementwise": 460, "collective": 160}
#: What rounding of the stored figures may hide; no allowance for getting worse.
ROUNDING = 5e-4
#: How far a coverage may leave its stored figure, up or down: as a share, and in rows where a class is small.
DRIFT, DRIFT_ROWS = 0.02, 2.0
#: How each source timed, for the sample's ``condition`` column.
CONDITION = {
    "vidur": "sum of GPU kernel times (torch profiler), median of 20",
    "neusight": "one eager call between CUDA events, best 5 of 25, launch inside",
    "neusight_graph": "one eager call between CUDA events, best 5 of 25, launch inside",
    "llmcompass": "wall clock around a torch call and a synchronise, median",
    "llmservingsim": "layer profiler, kernel time, one-layer model",
    "aiconfigurator": "CUDA-graph replay, 6 or more runs",
}


def draw(directory: Path, out: Path = SAMPLE) -> int:
    """Write the reference sample and return its number of rows."""
    out.mkdir(exist_ok=True)
    total = 0
    for name, quota in QUOTA.items():
        t = held_back(name, directory, test_half=True)
        header = header_of(directory / f"{name}.csv")
        t = t.where(_spread(t, cells(t, header), quota))
        t.columns["condition"] = np.array([CONDITION.get(str(s), "as published") for s in t["source"]], dtype=object)
        with (out / f"{name}.csv").open("w", newline="", encoding="utf-8") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow([*header, "condition"])
            writer.writerows(cells(t, [*header, "condition"]))
        total += len(t)
    return total


def _spread(t: Table, rows: list[list[str]], quota: int) -> Any:
    """Rows in turn from every (device, framework, class), each class in the order of a hash."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for i in sorted(range(len(t)), key=lambda i: zlib.crc32("|".join(rows[i]).encode())):
        groups.setdefault((str(t["variant"][i]), str(t["device"][i]), str(t["framework"][i])), []).append(i)
    turns = sorted((turn, key, i) for key, members in groups.items() for turn, i in enumerate(members))
    mask = np.zeros(len(t), dtype=bool)
    mask[[i for _, _, i in turns[:quota]]] = True
    return mask


def measure(p: Predicted) -> list[dict[str, Any]]:
    """Figures of the sample by table and regime, and over all; rows without a prediction lower ``n``."""
    classes = [({"op": k["op"], "regime": k["regime"]}, m) for k, m in by(p, "op", "regime") if k["regime"]]
    classes += [({"op": k["op"], "regime": "all"}, m) for k, m in by(p, "op")]
    classes += [({"op": "all", "regime": k["regime"]}, m) for k, m in by(p, "regime") if k["regime"]]
    found = [k | figures(p, m) for k, m in [*classes, ({"op": "all", "regime": "all"}, p.op != "")]]
    return [{c: f[c] if isinstance(f[c], str) else round(float(f[c]), 4) for c in COLUMNS} for f in found]


def stored(path: Path = GATE) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as f:
        return [{k: v if k in COLUMNS[:2] else float(v) for k, v in r.items()} for r in csv.DictReader(f)]


def worse(now: Iterable[dict[str, Any]], then: Iterable[dict[str, Any]]) -> list[str]:
    """What departs from the stored figures, a line each: a regime that vanished, rows that lost their prediction, a larger
    error, a coverage that moved (either way: an interval that became wider hides as much as one that became narrower).

    Rows may move from one regime of a table to another; that none is lost counts over all regimes.
    """
    have = {(r["op"], r["regime"]): r for r in now}
    out = []
    for old in then:
        op, regime = old["op"], old["regime"]
        new = have.get((op, regime), {"n": 0.0})
        if new["n"] == 0 < old["n"]:
            out.append(f"{op}, {regime}: no row is predicted any more, {old['n']:.0f} before")
            continue
        if regime == "all" and new["n"] < old["n"]:
            out.append(f"{op}: {new['n']:.0f} rows predicted, {old['n']:.0f} before")
        if new["mape"] > old["mape"] + ROUNDING:
            out.append(f"{op}, {regime}: error {new['mape']:.2%}, {old['mape']:.2%} before")
        if abs(new["coverage"] - old["coverage"]) > max(DRIFT, DRIFT_ROWS / old["n"]) + ROUNDING:
            out.append(f"{op}, {regime}: coverage {new['coverage']:.1%}, {old['coverage']:.1%} before")
    return out


def store(path: Path = GATE) -> None:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(measure(predict(SAMPLE, tuple(TABLES))))


def main() -> None:
    """Command line: draw (with ``--data``) and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=None, help="directory of the full tables: draw the sample anew")
    options = parser.parse_args()
    if options.data:
        print(f"{draw(options.data)} rows in {SAMPLE.name}/")
    store()


if __name__ == "__main__":
    main()
