"""``perfboard calibrate import``: others' measurement files into a directory of tables; what cannot be true is reported."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from sim.output import format_option, note, print_rows
from validate.import_checks import reasons
from validate.import_formats import COLUMNS, Batch, Given, columns_of, reader_of
from validate.import_serving import aiperf, from_json, silicon_sample

REJECTS = ("table", "file", "line", "reason", "row")
_SUFFIXES = (".parquet", ".csv", ".json", ".jsonl", ".json.gz")


@click.command("import")
@click.argument("sources", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path), default=Path("measured"), show_default=True,
              help="Directory of the tables; rows are added to those that are there.")
@click.option("--device", default="", metavar="NAME", help="Device of the rows, where the files do not say.")
@click.option("--framework", default="", metavar="NAME", help="Software that issued the kernels, where the files do not say.")
@format_option
def import_(sources: tuple[Path, ...], output: Path, device: str, framework: str, fmt: str) -> int:
    """Read measurement files (or all in a directory) of other projects into our tables.

    Known: aiconfigurator-core Parquet and silicon_sample.csv, vidur mlp.csv and network CSV, NeuSight CSV, vLLM bench
    JSON, AIPerf profile_export.jsonl, InferenceX agg JSON, PyTorch profiler Chrome traces. Rows that cannot be true, or
    that no table has columns for, are counted by reason and kept in rejects.csv.
    """
    kept: Counter[str] = Counter()
    refused: Counter[tuple[str, str]] = Counter()
    given = Given(device, framework)
    for path in _files(sources):
        for batch in _read(path, given):
            why = _reasons(batch)
            _write(output, batch, why == "", kept)
            _reject(output, path, batch, why, refused)
    rows: list[list[Any]] = [[t, n, "taken"] for t, n in sorted(kept.items())]
    rows += [[t, n, r] for (t, r), n in sorted(refused.items())]
    print_rows(("table", "rows", "outcome"), rows, fmt, right=("rows",))
    if refused:
        note(f"{sum(refused.values())} rows refused: see {output / 'rejects.csv'}")
    if not kept:
        raise ValueError(f"{', '.join(map(str, sources))}: no row of any known layout")
    return 0


def _files(sources: Sequence[Path]) -> Iterator[Path]:
    for source in sources:
        if source.is_dir():
            yield from sorted(p for p in source.rglob("*") if p.is_file() and p.name.endswith(_SUFFIXES))
        else:
            yield source


def _read(path: Path, given: Given) -> Iterator[Batch]:
    if path.name.endswith(".jsonl"):
        yield from aiperf(path, given)
    elif path.name.endswith((".json", ".json.gz")):
        yield from from_json(path, given)
    elif path.name.endswith((".parquet", ".csv")):
        columns = columns_of(path)
        if "silicon_ttft_ms" in columns:
            yield from silicon_sample(path, columns, given)
        elif reader := reader_of(columns):
            yield from reader(path, columns, given)
        else:
            n = len(next(iter(columns.values()), ()))
            yield Batch("", columns, np.arange(n) + 2, f"{path.name}: columns of no known layout")
    else:
        raise ValueError(f"{path}: not a kind of file that is known; known: {', '.join(_SUFFIXES)}")


def _reasons(batch: Batch) -> NDArray[Any]:
    n = len(batch.lines)
    if batch.reason:
        return np.full(n, batch.reason, dtype=object)
    if "device" in batch.columns:
        nowhere = batch.columns["device"].astype(str) == ""
        if nowhere.any():
            raise ValueError("the file does not say on which device it was measured; name it with --device")
    return reasons(batch.table, batch.columns)


def _write(output: Path, batch: Batch, good: NDArray[np.bool_], kept: Counter[str]) -> None:
    if not good.any():
        return
    names = COLUMNS[batch.table]
    cells = [[_cell(v) for v in batch.columns[c][good]] if c in batch.columns else [""] * int(good.sum()) for c in names]
    path = output / f"{batch.table}.csv"
    output.mkdir(parents=True, exist_ok=True)
    there: set[tuple[str, ...]] = set()
    if path.exists():
        with path.open(newline="", encoding="utf-8") as f:
            header, *rows = list(csv.reader(f))
        if tuple(header) != names:
            raise ValueError(f"{path}: columns are {','.join(header)}; expected {','.join(names)} (name another --output)")
        there = {tuple(r) for r in rows}
    with path.open("a", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        if not path.stat().st_size:
            writer.writerow(names)
        new = [r for r in zip(*cells, strict=True) if r not in there]
        writer.writerows(new)
    kept[batch.table] += len(new)


def _reject(output: Path, path: Path, batch: Batch, why: NDArray[Any], refused: Counter[tuple[str, str]]) -> None:
    bad = np.flatnonzero(why != "")
    if not len(bad):
        return
    output.mkdir(parents=True, exist_ok=True)
    rejects = output / "rejects.csv"
    new = not rejects.exists()
    with rejects.open("a", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        if new:
            writer.writerow(REJECTS)
        for i in bad:
            row = " ".join(f"{k}={_cell(v[i])}" for k, v in batch.columns.items() if len(v) == len(why) and _cell(v[i]))
            writer.writerow([batch.table, path.name, int(batch.lines[i]), why[i], row])
            refused[batch.table or "-", str(why[i])] += 1


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.0f}" if value.is_integer() else f"{value:.6g}"
    return str(value)
