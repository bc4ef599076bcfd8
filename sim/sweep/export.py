"""A store's rows as a Parquet or CSV file, written beside its place and then moved there, so that it is whole or absent."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim.sweep.front import Columns


def _csv(columns: Columns, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(columns)
        lists = [["" if x != x else x for x in c.tolist()] for c in columns.values()]       # NaN: an empty cell
        writer.writerows(zip(*lists, strict=True))


def _parquet(columns: Columns, path: Path) -> None:
    import pyarrow as pa  # an optional part
    import pyarrow.parquet as pq
    table: Any = pa.table({k: pa.array(v, from_pandas=True) for k, v in columns.items()})       # NaN: null
    pq.write_table(table, path, compression="zstd")


WRITERS: dict[str, Callable[[Columns, Path], None]] = {".csv": _csv, ".parquet": _parquet}


def export(columns: Columns, path: Path) -> None:
    """Write all columns; the form is that of the file's ending. Raises ``ValueError`` for another ending and
    ``ImportError`` where Parquet's library is not installed."""
    if path.suffix not in WRITERS:
        raise ValueError(f"{path}: expected a name that ends in {' or '.join(WRITERS)}")
    beside = path.with_name(path.name + ".part")
    try:
        WRITERS[path.suffix](columns, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
