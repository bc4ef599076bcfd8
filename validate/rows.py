"""Rows of measured tables through the ordinary path of ``perfboard predict``, with the shipped parameters: no refit.

Serves the gate (on the reference sample beside this file), ``perfboard validate --data`` and its plots.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.predict import ADDED, Counts, added_names, predict_rows
from validate import fit_attention, fit_collective, fit_elementwise, fit_gemm, fit_moe
from validate.intervals import calibration_half
from validate.measured import Table, held_out
from validate.study import Problem

Array = NDArray[np.float64]
#: The reference sample that comes with the package.
SAMPLE = Path(str(resources.files("validate"))) / "measured"
#: Table -> its reader with class columns, and the fit whose held-back families apply.
TABLES: dict[str, tuple[Callable[[Path], Table], Problem]] = {
    "gemm": (fit_gemm.table, fit_gemm.PROBLEM), "attention": (fit_attention.table, fit_attention.PROBLEM),
    "moe": (fit_moe.table, fit_moe.PROBLEM), "elementwise": (fit_elementwise.table, fit_elementwise.PROBLEM),
    "collective": (fit_collective.table, fit_collective.PROBLEM),
}


class Predicted(NamedTuple):
    """Measured rows and what is predicted for them; NaN where nothing is. Times in seconds."""

    op: NDArray[np.object_]
    variant: NDArray[np.object_]
    device: NDArray[np.object_]
    framework: NDArray[np.object_]
    regime: NDArray[np.object_]
    measured: Array
    predicted: Array
    lo: Array
    hi: Array
    roofline: Array


def header_of(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as f:
        return next(csv.reader(f))


def cells(t: Table, header: Sequence[str]) -> list[list[str]]:
    """The rows of a table as text, blanks where a number is missing."""
    columns = [[str(v) if isinstance(v, str) else "" if np.isnan(v) else f"{v:.10g}" for v in t[c]] for c in header]
    return [list(r) for r in zip(*columns, strict=True)]


def held_back(name: str, directory: Path, *, test_half: bool = False) -> Table:
    """Rows of one table that no fit has seen (``test_half``: and no interval)."""
    read, problem = TABLES[name]
    t = read(directory)
    mask = held_out(t, problem.family)
    return t.where(mask & ~calibration_half(t, problem.family)) if test_half else t.where(mask)


def predict(directory: Path, names: Sequence[str] = tuple(TABLES)) -> Predicted:
    """Predict the held-back rows of the tables that a directory has. Raises ``ValueError`` where it has none."""
    found = [_table(n, held_back(n, directory), header_of(directory / f"{n}.csv")) for n in names
             if (directory / f"{n}.csv").is_file()]
    if not found:
        raise ValueError(f"{directory}: has none of {', '.join(f'{n}.csv' for n in names)}")
    joined: list[Any] = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    return Predicted(*joined)


def _table(name: str, t: Table, header: list[str]) -> Predicted:
    added = added_names(header)
    at = {a: len(header) + i for i, a in enumerate(ADDED)}
    assert len(added) == len(at)
    rows = list(predict_rows(header, cells(t, header), Counts()))

    def number(column: str) -> Array:
        return np.array([float(r[at[column]] or "nan") for r in rows], dtype=np.float64)

    bound = np.array([r[at["bound"]] for r in rows], dtype=object)
    return Predicted(np.full(len(t), name, dtype=object), t["variant"], t["device"], t["framework"], bound, t["time_s"],
                     number("pred_s"), number("pred_lo_s"), number("pred_hi_s"), number("roofline_s"))


def figures(p: Predicted, mask: NDArray[np.bool_]) -> dict[str, float]:
    """Error, bias and coverage of a class of rows, over those that got a prediction."""
    m = mask & np.isfinite(p.predicted)
    off = p.predicted[m] / p.measured[m] - 1.0
    inside = (p.measured[m] >= p.lo[m]) & (p.measured[m] <= p.hi[m])
    if not m.any():
        return {"n": 0.0, "mape": np.nan, "median": np.nan, "bias": np.nan, "roofline_mape": np.nan, "coverage": np.nan}
    return {"n": float(m.sum()), "mape": float(np.mean(np.abs(off))), "median": float(np.median(np.abs(off))),
            "bias": float(np.median(off)), "coverage": float(np.mean(inside)),
            "roofline_mape": float(np.mean(np.abs(p.roofline[m] / p.measured[m] - 1.0)))}


def by(p: Predicted, *keys: str) -> list[tuple[Mapping[str, str], NDArray[np.bool_]]]:
    """Classes of rows by some of ``Predicted``'s text columns, in sorted order."""
    labels = list(zip(*(getattr(p, k) for k in keys), strict=True))
    return [(dict(zip(keys, label, strict=True)), np.array([x == label for x in labels])) for label in sorted(set(labels))]
