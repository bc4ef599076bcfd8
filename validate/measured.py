"""Measured tables: read as columns, where they lie (``--data DIR`` or ``PERFBOARD_DATA``), through one schema.

A directory holds ``gemm.csv``, ``attention.csv``, ... one row a measured point, times in seconds. The package carries
only a compact reference sample of the same form in ``validate/measured/``.
"""

from __future__ import annotations

import csv
import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]

_TEXT = {"source", "device", "framework", "op", "model", "dtype", "dtype_a", "dtype_w", "dtype_acc", "dtype_q", "dtype_kv",
         "quant", "cache", "phase", "kernel", "distribution", "link", "component", "parallelism", "condition", "measured",
         "precision", "gemm_quant", "moe_quant", "run"}


@dataclass(frozen=True)
class Table:
    """Columns of equal length: text columns as object arrays, numbers as float64 (blank is NaN)."""

    name: str
    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, key: str) -> Column:
        return self.columns[key]

    def where(self, mask: Column) -> Table:
        return Table(self.name, {k: v[mask] for k, v in self.columns.items()})

    def groups(self, *keys: str) -> Iterator[tuple[tuple[str, ...], Table]]:
        """Split by the values of text columns, in sorted order."""
        rows = list(zip(*(self.columns[k] for k in keys), strict=True))
        for value in sorted(set(rows)):
            yield value, self.where(np.array([r == value for r in rows]))

    def digest(self) -> str:
        """SHA-256 over all cells, so that a fit can name exactly the rows it rests on."""
        h = hashlib.sha256()
        for key in sorted(self.columns):
            h.update(key.encode())
            h.update("\n".join(map(str, self.columns[key])).encode())
        return h.hexdigest()


def data_dir(given: str | None = None) -> Path:
    """The directory of the full tables. Raises ``FileNotFoundError`` with what to set when there is none."""
    text = given or os.environ.get("PERFBOARD_DATA", "")
    if not text:
        raise FileNotFoundError("no measured tables named: pass --data DIR or set PERFBOARD_DATA to a directory with "
                                "gemm.csv, ...")
    path = Path(text)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: not a directory (expected one with gemm.csv, attention.csv, ...)")
    return path


def read(name: str, directory: Path) -> Table:
    """Read ``<directory>/<name>.csv``. Raises ``FileNotFoundError`` or ``ValueError`` naming file, line and column."""
    path = directory / f"{name}.csv"
    with path.open(newline="", encoding="utf-8") as f:
        reader = csv.reader(f)
        header = next(reader)
        rows = list(reader)
    columns: dict[str, Column] = {}
    for i, key in enumerate(header):
        cells = [r[i] for r in rows]
        if key in _TEXT:
            columns[key] = np.array(cells, dtype=object)
            continue
        try:
            columns[key] = np.array([float(c) if c else np.nan for c in cells])
        except ValueError:
            bad = next(j for j, c in enumerate(cells) if c and not _is_number(c))
            raise ValueError(f"{path}:{bad + 2}: {key}: {cells[bad]!r} is not a number") from None
    return Table(name, columns)


def held_out(table: Table, family: Sequence[str], share: float = 0.3) -> NDArray[np.bool_]:
    """Fixed split: True for rows kept away from every fit. Whole shape families go together.

    A family is the tuple of the named columns (for a GEMM ``("n", "k")``: all m of one weight shape); the choice is
    the CRC-32 of that tuple, so it is the same on every machine, for every device, and when rows are added.
    """
    keys = zip(*(table[k] for k in family), strict=True)
    marks = [zlib.crc32("|".join(f"{v:g}" if isinstance(v, float) else str(v) for v in key).encode()) % 1000 for key in keys]
    return np.array(marks) < 1000 * share


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
