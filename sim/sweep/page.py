"""One self-contained page of a sweep: scatter, parallel coordinates, heat map and the front as a table, with hover and
filter, offline. What is shown stands in the address, so that a view can be sent on."""

from __future__ import annotations

import json
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from accel_models.quantity import format_quantity
from sim.page import Cell, Number, page, says, table
from sim.sweep.view import View, interval, short

SCRIPT = "explore.html"


def sweep_page(view: View) -> str:
    """The whole document. Nothing is loaded from anywhere."""
    title = f"Sweep: {view.title}"
    fragment = resources.files("sim.sweep").joinpath(SCRIPT).read_text(encoding="utf-8")
    rests = "".join(f"<li>{escape(text)}</li>" for text in view.rests_on)
    body = (f"<h1>{escape(title)}</h1><p>{escape(view.file)}: {escape(_goals(view))}. {escape(view.said())}</p>"
            + Template(fragment).substitute(data=_data(view), front=front_table(view))
            + (f"<h2>What areas and prices rest on</h2><ul class=muted>{rests}</ul>" if rests else ""))
    return page(title, body)


def _goals(view: View) -> str:
    return ", ".join(f"{d} {n}" for n, d in view.objectives.items())


def _data(view: View) -> str:
    """Columns as JSON that no text in it can end early."""
    columns = [{"name": n, "short": short(n), "unit": view.units.get(n, ""), "goal": view.objectives.get(n, ""),
                "axis": n in view.parameters or n in view.objectives, "values": [_plain(x) for x in v.tolist()]}
               for n, v in view.columns.items() if not n.endswith(("_lo", "_hi"))]
    data = {"columns": columns, "front": view.n_front, "n": view.n}
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _plain(x: Any) -> Any:
    if isinstance(x, float):
        return float(f"{x:.6g}") if np.isfinite(x) else None
    return x


def front_table(view: View) -> str:
    """Members of the front: objectives with their interval, what differs among the members, what sets each apart."""
    n = view.n_front
    differ = [p for p in view.parameters if len(np.unique(view.columns[p][:n].astype(str))) > 1]
    names = [*view.objectives, *differ]
    rows: list[list[Cell]] = []
    for i in range(n):
        cells = [_cell(view, name, i) for name in names]
        rows.append([Number(str(i + 1), i + 1), *cells, view.apart[i]])
    heads = ["#", *(f"{short(k)} [{view.units[k]}]" if k in view.objectives and k in view.units else short(k) for k in names),
             "what sets it apart"]
    return table(heads, rows, sortable=True, right=heads[:-1]) + says(
        "± is half the 80 % interval. A click on a column head sorts; rows that the filters rule out are hidden.")


def _cell(view: View, name: str, i: int) -> Cell:
    value = view.columns[name][i]
    if isinstance(value, str):
        return value
    x = float(value)
    if np.isnan(x):
        return ""
    if name in view.objectives:
        span = interval(view.columns, name)
        text = f"{x:.4g}"
        if span and np.isfinite(span[0][i]) and x:
            text += f" ±{50 * float(span[1][i] - span[0][i]) / abs(x):.0f} %"
        return Number(text, x)
    return Number(quantity(x, view.units.get(name, "")), x)


def quantity(x: float, unit: str) -> str:
    """A number with its base unit, with a prefix where it is one of bytes, rates or time."""
    known = {"B": "bytes", "B/s": "bytes/s", "OP/s": "ops/s", "s": "s", "Hz": "Hz", "W": "W", "m^2": "m2"}
    return format_quantity(float(f"{x:.4g}"), known[unit]) if unit in known else f"{x:.5g}"
