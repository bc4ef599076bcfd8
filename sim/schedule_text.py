"""Tables of a schedule for people, and progress while it is made; shared by the commands that simulate."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.table import Table

from accel_models.quantity import format_quantity
from sim.output import as_table, show
from sim.trace_figures import Use

#: Seconds before progress is shown, and between two lines of it where stderr is no terminal.
PATIENCE, BETWEEN = 2.0, 10.0
#: Rows of the table of waits; what is beyond is summed up.
ROWS = 12


class Progress:
    """Progress of several stages on stderr, once they have taken some seconds. Call it (done, of all); a stage that counts
    from the start again, or to another number, is the next."""

    def __init__(self, stages: Sequence[str]) -> None:
        self.stages, self.at, self.before = stages, 0, (0, -1)
        self.begun = self.said = time.perf_counter()
        self.open = False

    def __call__(self, done: int, total: int) -> None:
        if done < self.before[0] or total != self.before[1] > 0:
            self.at += 1
        self.before = done, total
        now = time.perf_counter()
        if now - self.begun < PATIENCE or (not sys.stderr.isatty() and now - self.said < BETWEEN):
            return
        self.said = now
        text = f"{self.stages[min(self.at, len(self.stages) - 1)]}: {done:,} of {total:,}, {now - self.begun:.0f} s"
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K {text}", err=True, nl=False)
            self.open = True
        else:
            click.echo(text, err=True)

    def close(self) -> None:
        """Leave the line of progress empty."""
        if self.open:
            click.echo("\r\x1b[K", err=True, nl=False)


def waits_table(chain: Mapping[tuple[str, str], float], what: str) -> Table:
    """Where the time went: the chain of tasks that the end waited for."""
    total = sum(chain.values()) or 1.0
    most = sorted(chain.items(), key=lambda x: -x[1])
    rows = [(a, b, show(t, "s"), f"{100 * t / total:.1f} %") for (a, b), t in most[:ROWS] if t > total / 1000]
    if rest := sum(t for _, t in most[len(rows):]):
        rows.append((f"{len(most) - len(rows)} more", "", show(rest, "s"), f"{100 * rest / total:.1f} %"))
    return as_table(("waited for", "because of", "time", "share"), rows, right=("time", "share"),
                    title=f"Critical path of {what}")


def uses_table(used: Sequence[Use], what: str) -> Table:
    """How much of each resource was used, and its bubbles."""
    rows = [(u.name, u.device, f"{100 * u.used:.1f} %", _rate(u.rate), f"{u.bubbles:.3g}", _time(u.idle_s), _time(u.longest_s))
            for u in used if u.used > 5e-4]
    columns = ("in use", "mean rate", "bubbles", "idle", "longest")
    return as_table(("resource", "of", *columns), rows, right=columns, title=f"Resources in {what}")


def _rate(x: float) -> str:
    return "" if math.isnan(x) else format_quantity(float(f"{x:.3g}"), "bytes/s")


def _time(x: float) -> str:
    return show(x, "s") if x else "0"


def uses_data(used: Sequence[Use]) -> list[dict[str, Any]]:
    return [u._asdict() for u in used]
