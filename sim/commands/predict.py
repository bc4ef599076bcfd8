"""``perfboard predict``: a table of operations (CSV) in, the same table with predicted time, interval and bound out."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import click

from accel_models.registry import load_device
from sim.output import note
from sim.predict import Counts, added_names, predict_rows

CHUNK = 50_000


@click.command()
@click.argument("table", type=click.Path(allow_dash=True), default="-")
@click.option("-o", "--output", type=click.Path(dir_okay=False, writable=True), default="-",
              help="File to write [stdout].")
@click.option("--hw", "device", default="", metavar="DEVICE", help="Device of rows that name none.")
def predict(table: str, output: str, device: str) -> int:
    """Predict every row of TABLE (CSV with a header; '-' is stdin).

    Columns are those of the measured tables: op, device, shapes (m,n,k,batch; q_len,kv_len,n_heads,n_kv_heads,head_dim;
    n_tokens,hidden,inter,topk,n_experts; rows,cols,bytes_rw; bytes,n_devices), formats (dtype_a,dtype_w,quant),
    framework, cache. Other columns pass through. Added: pred_s, pred_lo_s, pred_hi_s (80 % interval), bound,
    roofline_s, source, note (pred_source, pred_note where the table has such columns). No row is dropped; exit
    code 1 if some row got no prediction (the count and reasons are on stderr).
    """
    if device:
        load_device(device)                     # a slip in --hw is one error, not one a row
    if table != "-" and output != "-" and Path(output).exists() and Path(output).samefile(table):
        raise ValueError(f"--output {output}: is the table itself; name another file")
    counts = Counts()
    with _open(table, sys.stdin, "r", "utf-8-sig") as f, _open(output, sys.stdout, "w", "utf-8") as g:
        writer = csv.writer(g, lineterminator="\n")
        try:
            writer.writerows(_predicted(f, table, counts, device))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{table}: after {counts.rows} rows: {error}; expected CSV in UTF-8") from None
    for reason, n in sorted(counts.reasons.items(), key=lambda kv: -kv[1]):
        note(f"{n} of {counts.rows} rows not predicted: {reason}")
    return 1 if counts.reasons else 0


def _open(path: str, standard: TextIO, mode: str, encoding: str) -> AbstractContextManager[Any]:
    return nullcontext(standard) if path == "-" else open(path, mode, newline="", encoding=encoding)


def _predicted(f: TextIO, name: str, counts: Counts, device: str) -> Iterator[list[str]]:
    reader = csv.reader(f)
    header = next(reader, None)
    if not header:
        raise ValueError(f"{name}: empty; expected a CSV table with a header, e.g. op,device,m,n,k,dtype_a")
    yield [*header, *added_names(header)]
    show = sys.stderr.isatty()
    rows = (row for row in reader if row)       # blank lines are no rows
    while chunk := list(islice(rows, CHUNK)):
        yield from predict_rows(header, chunk, counts, device=device)
        if show:
            print(f"\r{counts.rows:,} rows", end="", file=sys.stderr, flush=True)
    if show:
        print(file=sys.stderr)
