"""``perfboard validate``: how wrong the models are, on measured rows that no fit has seen."""

from __future__ import annotations

import click

from sim.output import format_option, print_rows
from validate.scores import COLUMNS, stored, table


@click.command()
@click.option("--op", default="", help="One op class only: gemm, attention, moe, elementwise, collective, energy.")
@click.option("--by", type=click.Choice(("class", "device", "framework", "regime", "all")), default="class", show_default=True,
              help="How fine the table is.")
@format_option
def validate(op: str, by: str, fmt: str) -> None:
    """Errors of every fitted model on held-back shapes and on devices left out of the fit (generated with the fits)."""
    scores = [s for s in stored() if not op or s["op"] == op]
    if not scores:
        raise ValueError(f"--op: unknown op class {op!r}; known: {', '.join(sorted({s['op'] for s in stored()}))}")
    if by == "all":
        print_rows(COLUMNS, [[s[c] for c in COLUMNS] for s in scores], fmt, right=COLUMNS[6:])
        return
    extra = {"class": (), "device": ("device",), "framework": ("device", "framework"), "regime": ("regime",)}[by]
    keys = ("op", "variant", *(k for k in extra if k != "regime"))
    rows = []
    for split in ("held-back shapes", "unseen device"):
        for regime in sorted({s["regime"] for s in scores} - {"all"}) if by == "regime" else ["all"]:
            for r in table(scores, keys, split, regime):
                rows.append([*(r[k] for k in keys), *([regime] if by == "regime" else []), split, r["n"],
                             *(_percent(r.get(c)) for c in ("mape", "bias", "roofline_mape"))])
    columns = (*keys, *(["regime"] if by == "regime" else []), "split", "rows", "error_percent", "bias_percent",
               "roofline_percent")
    print_rows(columns, sorted(rows, key=lambda r: [str(x) for x in r[:len(columns) - 4]]), fmt, right=columns[-4:])


def _percent(x: float | None) -> float | None:
    return None if x is None else round(100 * x, 1)
