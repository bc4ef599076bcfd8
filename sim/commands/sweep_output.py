"""``perfboard sweep plot`` and ``page``: drawings of a sweep, and one page to explore it."""

from __future__ import annotations

from pathlib import Path

import click

from sim.commands.roofline import figures
from sim.commands.sweep_place import current, place_of, stale_option, store_argument
from sim.output import note
from sim.sweep.page import sweep_page
from sim.sweep.run import read
from sim.sweep.store import Store
from sim.sweep.view import MOST, View, view

KINDS = ("front", "parallel", "heat", "knee")


def shown(sweep: Path, out: str, stale: bool, most: int = MOST) -> View:
    """What there is to show of a sweep. Raises ``ValueError``."""
    found = place_of(sweep, out)
    made = read(found.text, found.file)
    with Store.open(found.store) as store:
        stamps = None if stale else current(made, store)
        if stamps is not None and not any(stamp in stamps for stamp, _ in store.counts()) and store.counts():
            raise ValueError(f"{found.store}: all rows are stale (model, device or code changed): run the sweep again, or take "
                             f"them with --stale")
        return view(made, store, stamps, most)


@click.command()
@store_argument
@click.option("-f", "--file", required=True, type=click.Path(path_type=Path), metavar="FILE.svg|FILE.png")
@click.option("--kind", type=click.Choice(KINDS), default="front", show_default=True)
@stale_option
def plot(sweep: Path, out: str, file: Path, kind: str, stale: bool) -> int:
    """Draw the front, all axes in parallel, a heat map, or the knee (extra 'plots')."""
    form = file.suffix.removeprefix(".")
    if form not in ("svg", "png"):
        raise ValueError(f"{file}: expected a name that ends in .svg or .png")
    file.write_bytes(figures("sim.sweep.figure").sweep_figure(shown(sweep, out, stale), kind, form))
    note(f"{kind} drawn to {file}")
    return 0


@click.command()
@store_argument
@click.option("-f", "--file", type=click.Path(path_type=Path), default=None, metavar="FILE.html",
              help="Default: sweep.html beside the store.")
@click.option("--most", type=click.IntRange(min=1), default=MOST, show_default=True, help="Points embedded at most.")
@stale_option
def page(sweep: Path, out: str, file: Path | None, most: int, stale: bool) -> int:
    """One self-contained page: scatter, parallel coordinates, heat map and table, with hover and filters, offline."""
    found = shown(sweep, out, stale, most)
    file = file or place_of(sweep, out).store.with_name("sweep.html")
    file.write_text(sweep_page(found), encoding="utf-8")
    note(f"{found.said()} Page: {file}")
    return 0
