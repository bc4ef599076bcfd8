"""``perfboard validate``: how wrong the models are, on measured rows that no fit has seen."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from sim.output import format_option, print_rows
from validate.scores import COLUMNS, SEEN, SUMMARY, UNSEEN, stored, summary_rows, table

_BY = {"class": (), "device": ("device",), "framework": ("device", "framework"), "regime": ("regime",)}


@click.command()
@click.option("--op", default="", help="One op class only: gemm, attention, moe, elementwise, collective, energy.")
@click.option("--by", type=click.Choice((*_BY, "all")), default="class", show_default=True, help="How fine the table is.")
@click.option("--data", "directory", default=None, type=click.Path(path_type=Path),
              help="Score the parameters that are in use on the held-back rows of these tables (gemm.csv, ...); no refit.")
@click.option("--plots", default=None, type=click.Path(path_type=Path),
              help="Write plots into this directory; of the bundled reference sample without --data.")
@format_option
def validate(op: str, by: str, directory: Path | None, plots: Path | None, fmt: str) -> None:
    """Errors of every fitted model on held-back shapes and on devices left out of the fit (generated with the fits)."""
    if directory is not None or plots is not None:
        _rescore(op, by, directory, plots, fmt)
        return
    scores = [s for s in stored() if not op or s["op"] == op]
    if not scores:
        raise ValueError(f"--op: unknown op class {op!r}; known: {', '.join(sorted({s['op'] for s in stored()}))}")
    if by == "all":
        print_rows(COLUMNS, [[s[c] for c in COLUMNS] for s in scores], fmt, right=COLUMNS[6:])
        return
    if by == "class" and fmt == "table":
        print_rows(SUMMARY, summary_rows(scores), fmt, right=SUMMARY[1:])
        return
    keys = ("op", "variant", *(k for k in _BY[by] if k != "regime"))
    rows = []
    for split in (SEEN, UNSEEN):
        for regime in sorted({s["regime"] for s in scores} - {"all"}) if by == "regime" else ["all"]:
            for r in table(scores, keys, split, regime):
                rows.append([*(r[k] for k in keys), *([regime] if by == "regime" else []), split, r["n"],
                             *(_percent(r.get(c)) for c in ("mape", "bias", "coverage", "three_mape", "roofline_mape"))])
    columns = (*keys, *(["regime"] if by == "regime" else []), "split", "rows", "error_percent", "bias_percent",
               "coverage_percent", "three_constants_percent", "roofline_percent")
    print_rows(columns, sorted(rows, key=lambda r: [str(x) for x in r[:len(columns) - 6]]), fmt, right=columns[-6:])


def _rescore(op: str, by: str, directory: Path | None, plots: Path | None, fmt: str) -> None:
    """Predict held-back rows anew. The modules load here: SciPy and matplotlib take a second that a table does not need."""
    rows: Any = import_module("validate.rows")
    if op and op not in rows.TABLES:
        raise ValueError(f"--op: no measured table of {op!r}; known: {', '.join(rows.TABLES)}")
    if directory is not None and not directory.is_dir():
        raise ValueError(f"--data: {directory}: not a directory (expected one with gemm.csv, attention.csv, ...)")
    p = rows.predict(directory or rows.SAMPLE, (op,) if op else tuple(rows.TABLES))
    keys = ("op", "variant", *_BY.get(by, ("device", "framework", "regime")))
    lines = []
    for label, mask in rows.by(p, *keys):
        f = rows.figures(p, mask)
        lines.append([*(label[k] or "not predicted" for k in keys), int(mask.sum()), int(f["n"]),
                      *(_percent(f[c]) if f["n"] else None for c in ("mape", "bias", "coverage", "roofline_mape"))])
    columns = (*keys, "rows", "predicted", "error_percent", "bias_percent", "coverage_percent", "roofline_percent")
    print_rows(columns, lines, fmt, right=columns[-6:])
    if plots is not None:
        for path in _plots().draw(p, plots):
            click.echo(f"wrote {path}", err=True)


def _plots() -> Any:
    try:
        return import_module("validate.plots")
    except ModuleNotFoundError as error:
        raise ValueError(f"--plots: needs {error.name}; pip install 'perfboard[plots]'") from None


def _percent(x: float | None) -> float | None:
    return None if x is None else round(100 * x, 1)
