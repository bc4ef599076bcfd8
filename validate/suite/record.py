"""Where measured rows go: one CSV a table, appended row by row, so that an interrupted run continues where it stopped.

A row is known again by all its columns but the time and the power. A line cut short by a crash is dropped and measured
again. ``runs.csv`` logs spread, repeats, clock and how each point was issued; ``meta.json`` says on what.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from validate.suite.host import Sample
from validate.suite.plan import COLUMNS, Point

SOURCE = "perfboard"
_RESULTS = ("time_s", "power_w")
RUNS = ("table", "point", "time_s", "low_s", "high_s", "repeats", "copies", "power_w", "clock_hz", "celsius", "status")

Key = tuple[str, ...]


class Record:
    """The tables of one directory. ``device`` is the key that rows are written under."""

    def __init__(self, directory: Path, device: str) -> None:
        self.directory, self.device = directory, device
        directory.mkdir(parents=True, exist_ok=True)
        self.done = {key for table in COLUMNS for key in self._stored(table)}
        self._repair(directory / "runs.csv", len(RUNS))
        self.skipped: dict[str, str] = {}

    def has(self, point: Point, framework: str) -> bool:
        return self._key(point.table, self._row(point, framework)) in self.done

    def add(self, point: Point, framework: str, sample: Sample, *, copies: int, watts: float = math.nan,
            clock: float = math.nan, celsius: float = math.nan) -> None:
        row = self._row(point, framework) | {"time_s": f"{sample.time:.5g}", "power_w": _cell(watts)}
        _append(self.directory / f"{point.table}.csv", COLUMNS[point.table], [row[c] for c in COLUMNS[point.table]])
        self.done.add(self._key(point.table, row))
        _append(self.directory / "runs.csv", RUNS,
                [point.table, label(point), f"{sample.time:.5g}", f"{sample.low:.5g}", f"{sample.high:.5g}",
                 str(sample.repeats), str(copies), _cell(watts), _cell(clock), _cell(celsius), "measured"])

    def skip(self, point: Point, reason: str) -> None:
        """A point that was not timed: the reason stands in ``meta.json``, no row is made up."""
        what = " ".join(str(dict(point.fields).get(k, "")) for k in ("op", "dtype_a", "quant")).strip()
        self.skipped[f"{point.kind}: {what}".strip()] = reason

    def meta(self, facts: Mapping[str, Any]) -> None:
        """Write ``meta.json``: facts of this run; those of earlier runs into the same tables stay listed."""
        path = self.directory / "meta.json"
        earlier: list[Any] = []
        if path.exists():
            try:
                earlier = json.loads(path.read_text(encoding="utf-8"))["runs"]
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{path}: not a meta.json of this suite; move it away or name another --out") from None
        runs = [*earlier, {**facts, "device": self.device, "skipped": self.skipped}]
        path.write_text(json.dumps({"schema": "perfboard/measured/1", "runs": runs}, indent=2) + "\n", encoding="utf-8")

    def _row(self, point: Point, framework: str) -> dict[str, str]:
        return {k: str(v) for k, v in point.fields} | {"source": SOURCE, "device": self.device, "framework": framework}

    @staticmethod
    def _key(table: str, row: Mapping[str, str]) -> Key:
        return (table, *(row[c] for c in COLUMNS[table] if c not in _RESULTS))

    def _stored(self, table: str) -> list[Key]:
        path, columns = self.directory / f"{table}.csv", COLUMNS[table]
        rows = self._repair(path, len(columns))
        if not rows:
            return []
        if tuple(rows[0]) != columns:
            raise ValueError(f"{path}: columns are {','.join(rows[0])}; expected {','.join(columns)} (name another --out)")
        return [self._key(table, dict(zip(columns, r, strict=True))) for r in rows[1:]]

    @staticmethod
    def _repair(path: Path, width: int) -> list[list[str]]:
        """Rows of a CSV; a last line that a crash cut short is taken off the file."""
        if not path.exists():
            return []
        text = path.read_text(encoding="utf-8")
        whole = text[:text.rfind("\n") + 1]
        if whole != text:
            path.write_text(whole, encoding="utf-8")
        rows = list(csv.reader(whole.splitlines()))
        if bad := next((i for i, r in enumerate(rows, 1) if len(r) != width), 0):
            raise ValueError(f"{path}:{bad}: {len(rows[bad - 1])} cells, expected {width}; mend or remove the line")
        return rows


def label(point: Point) -> str:
    return " ".join(f"{k}={v}" for k, v in point.fields if v != "")


def _cell(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else ""


def _append(path: Path, columns: tuple[str, ...], cells: list[str]) -> None:
    new = not path.exists() or path.stat().st_size == 0
    with path.open("a", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        if new:
            writer.writerow(columns)
        writer.writerow(cells)
