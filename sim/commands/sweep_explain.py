"""``perfboard sweep explain``: which parameters move which objective, and where the knees are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np

from sim.commands.sweep_place import current, place_of, store_argument
from sim.output import format_option, note, print_json, print_rows
from sim.sweep.front import Columns, front
from sim.sweep.front import knee as compromise
from sim.sweep.page import quantity
from sim.sweep.run import evaluator, read
from sim.sweep.sensitivity import Index, Knee, designed, given, knee, profile
from sim.sweep.space import Space
from sim.sweep.store import Store
from sim.sweep.view import short, units


@click.command()
@store_argument
@format_option
@click.option("-n", "--points", type=click.IntRange(min=8, max=1 << 16), default=256, show_default=True,
              help="Base points; n x (axes + 2) are evaluated.")
@click.option("--seed", type=int, default=0, show_default=True)
def explain(sweep: Path, out: str, fmt: str, points: int, seed: int) -> int:
    """Share of each objective's variance that an axis makes (Sobol indices), and where axes stop paying."""
    found = place_of(sweep, out)
    made = read(found.text, found.file)
    with Store.open(found.store) as store:
        stamps = current(made, store)
        rows = store.load(stamps=stamps, status="ok")
    if not len(rows["status"]):
        raise ValueError(f"{found.store}: no feasible point of this state of the code: run the sweep first")
    objectives = made.experiment.sweep.objectives
    at = _reference(rows, objectives)
    if made.experiment.sweep.evaluator == "closed":
        indices, kept = designed(made, evaluator(made), list(objectives), points, seed)
        how = f"{points * (len(made.axes) + 2):,} points made for it; {kept} of {points} rows could be used"
        knees = _knees(made, at, list(objectives))
    else:
        indices = given(rows, [a.name for a in made.axes], list(objectives))
        how = f"{len(rows['status']):,} finished rows"
        knees = []
    _print(indices, knees, units(made), fmt)
    note(f"Sobol indices by {how}. Knees with all else as at the knee of the front." if knees else f"Sobol indices by {how}.")
    return 0


def _reference(rows: Columns, objectives: Mapping[str, str]) -> dict[str, object]:
    """The member of the front that compromises best."""
    places = front(rows, objectives)
    i = places[compromise({k: rows[k][places] for k in objectives}, objectives)]
    return {k: v[i] for k, v in rows.items()}


def _knees(made: Space, at: dict[str, object], figures: list[str]) -> list[Knee]:
    found = []
    for axis in made.axes:
        if not axis.continuous and axis.values.dtype.kind not in "iuf":
            continue
        x, curves = profile(made, evaluator(made), axis, at, figures)
        found += [k for f in figures if (k := knee(f, axis.name, x, curves[f])) is not None]
    return found


def _print(indices: list[Index], knees: list[Knee], unit: dict[str, str], fmt: str) -> None:
    if fmt == "json":
        print_json({"indices": [i._asdict() for i in indices], "knees": [k._asdict() for k in knees]})
        return
    indices = sorted(indices, key=lambda i: ([x.figure for x in indices].index(i.figure), -_size(i)))
    print_rows(("objective", "parameter", "alone", "with interactions"),
               [(i.figure, short(i.axis), _share(i.first, i.first_lo, i.first_hi), _share(i.total, i.total_lo, i.total_hi))
                for i in indices], fmt, right=("alone", "with interactions"))
    if knees:
        print_rows(("objective", "parameter", "knee at", "per doubling before", "after"),
                   [(k.figure, short(k.axis), quantity(float(f"{k.at:.3g}"), unit.get(k.axis, "")), f"{100 * k.before:+.0f} %",
                     f"{100 * k.after:+.0f} %") for k in knees], fmt, right=("knee at", "per doubling before", "after"))


def _size(i: Index) -> float:
    return i.first if np.isnan(i.total) else i.total


def _share(x: float, lo: float, hi: float) -> str:
    if np.isnan(x):
        return "-"
    return f"{100 * max(x, 0):.0f} %" + ("" if np.isnan(lo) else f"  ({100 * max(lo, 0):.0f} .. {100 * max(hi, 0):.0f})")
