"""Results on stdout in the asked form: table for people, json, csv or md for machines; nothing else goes there."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

FORMATS = ("table", "json", "csv", "md")

#: Figure -> (label, dimension or unit, factor for display).
FIGURES: dict[str, tuple[str, str]] = {
    "ttft_s": ("TTFT", "s"), "tpot_s": ("TPOT", "s"), "e2el_s": ("request latency", "s"),
    "tokens_per_s_per_gpu": ("tokens/s/device", ""), "tokens_per_s_per_user": ("tokens/s/user", ""),
    "j_per_output_token": ("J/token", ""), "avg_power_w": ("power per device", "W"),
    "usd_per_m_output_tokens": ("$/M output tokens", ""), "j_per_input_token": ("J/input token", ""),
    "usd_per_m_input_tokens": ("$/M input tokens", ""),
}

format_option = click.option("--format", "fmt", type=click.Choice(FORMATS), default="table", show_default=True,
                             envvar="PERFBOARD_FORMAT",
                             help="Form of the result on stdout.")


def console() -> Console:
    """Console on stdout; honours NO_COLOR; as wide as needed when the output is not a terminal."""
    wide = None if sys.stdout.isatty() else 160
    return Console(highlight=False, soft_wrap=False, width=wide)


def note(text: str) -> None:
    """A remark on stderr, apart from the result."""
    click.echo(text, err=True)


def print_json(data: Any) -> None:
    """Standard JSON: NaN and infinities become null, keys keep their order."""
    click.echo(json.dumps(_clean(data), indent=2, ensure_ascii=False, allow_nan=False))


def print_rows(columns: Sequence[str], rows: Sequence[Sequence[Any]], fmt: str, *, title: str = "",
               right: Sequence[str] = ()) -> None:
    """One table in any of the forms. Cells may be text or numbers; JSON and CSV keep numbers as they are."""
    if fmt == "json":
        print_json([dict(zip(columns, r, strict=True)) for r in rows])
    elif fmt == "csv":
        click.echo(as_csv(columns, rows), nl=False)
    elif fmt == "md":
        click.echo(as_markdown(columns, rows))
    else:
        console().print(as_table(columns, rows, title=title, right=right))


def as_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "", right: Sequence[str] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    for c in columns:
        table.add_column(escape(c), justify="right" if c in right else "left", overflow="fold")
    for r in rows:
        table.add_row(*(escape(_text(x)) for x in r))
    return table


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


def as_markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_text(x).replace("|", "\\|") for x in r) + " |" for r in rows]
    return "\n".join(lines)


def _text(x: Any) -> str:
    if x is None:
        return ""
    if isinstance(x, float) and 1e4 <= abs(x) < 1e9:
        return f"{x:.0f}"                       # 12037, not 1.204e+04
    return f"{x:.4g}" if isinstance(x, float) else str(x)


def _clean(x: Any) -> Any:
    if isinstance(x, Mapping):
        return {str(k): _clean(v) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return [_clean(v) for v in x]
    if hasattr(x, "tolist"):
        return _clean(x.tolist())
    if isinstance(x, float) and (x != x or x in (float("inf"), float("-inf"))):
        return None
    return x


def show(value: float | None, dimension: str) -> str:
    """A figure with its unit, three digits."""
    if value is None or math.isnan(value):
        return "-"
    if dimension == "s" and 1000 <= value < 1e9:
        return f"{value:,.0f} s"
    if dimension == "s":
        scale, unit = next(((s, u) for s, u in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")) if value >= s), (1e-9, "ns"))
        return f"{value / scale:.3g} {unit}"
    text = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{text} {dimension}".strip()


def delta(value: float | None, base: float | None, dimension: str, place: int) -> str:
    """A figure with its change against that at place 0, as a factor from ten times on."""
    if value is None or math.isnan(value):
        return "-"
    text = show(value, dimension)
    if place == 0 or not base or math.isnan(base):
        return text
    return f"{text} ({value / base:.3g} x)" if value >= 10 * base else f"{text} ({100 * (value / base - 1):+.0f} %)"
