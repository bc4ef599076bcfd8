"""A sweep drawn: its front, the knee, parallel coordinates, and a heat map."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sim.figures import BG, FG, MUTED, STYLE, png, svg
from sim.palette import BLUE, OTHER, RED, SKY
from sim.sweep.front import front as nondominated
from sim.sweep.front import knee, losses
from sim.sweep.page import quantity
from sim.sweep.view import View, interval, short


def front_figure(view: View) -> Figure:
    """All points by the two objectives that conflict most, the front's members on a line, their intervals, and the knee."""
    (x, y), c = _pair(view), view.columns
    fig, ax = _sweep_axes(view, "the front")
    front = slice(0, view.n_front)
    ax.scatter(c[x][view.n_front:], c[y][view.n_front:], s=9, color=OTHER, alpha=0.35, lw=0, label="feasible")
    two = {k: view.objectives[k] for k in (x, y)}
    edge = nondominated({k: c[k][front] for k in two}, two)
    some = edge[np.unique(np.linspace(0, len(edge) - 1, 12).astype(int))]       # more crosses would hide the points
    spans = [interval(view.columns, k) for k in (x, y)]
    errors = [None if s is None else np.abs(np.stack(s)[:, some] - c[k][some]) for k, s in zip((x, y), spans, strict=True)]
    ax.errorbar(c[x][some], c[y][some], xerr=errors[0], yerr=errors[1], fmt="none", ecolor=SKY, elinewidth=1.0, alpha=0.9,
                zorder=2, label="80 % interval (some)")
    ax.plot(c[x][front][edge], c[y][front][edge], color=BLUE, lw=1.2, zorder=3)
    ax.scatter(c[x][front], c[y][front], s=26, color=BLUE, edgecolors=BG, lw=0.7, zorder=4, label="front")
    if view.n_front > 2:
        at = knee({k: c[k][front] for k in view.objectives}, view.objectives)
        ax.scatter([c[x][at]], [c[y][at]], s=95, marker="D", color=RED, edgecolors=BG, zorder=5, label="knee of all objectives")
    _scales(ax, view, x, y)
    ax.legend(framealpha=0.85, edgecolor="none", fontsize=8)
    return fig


def knee_figure(view: View) -> Figure:
    """What one objective costs in the other: the front with both on a scale from its worst (1) to its best (0)."""
    (x, y), n = _pair(view), view.n_front
    two = {k: view.objectives[k] for k in (x, y)}
    members = {k: view.columns[k][:n] for k in two}
    edge = nondominated(members, two)
    chosen = {k: v[edge] for k, v in members.items()}
    far = {k: losses(v, view.objectives[k]) for k, v in chosen.items()}
    fig, ax = _sweep_axes(view, "the knee")
    ax.plot(far[x], far[y], "o-", color=BLUE, ms=4.5, lw=1.2)
    at = knee(chosen, two)
    ax.plot([0, far[x][at]], [0, far[y][at]], color=MUTED, lw=0.8, ls="--")
    ax.plot(far[x][at], far[y][at], "D", ms=9, color=RED, mec=BG)
    said = f"knee: {_value(chosen[x][at], x, view)} and {_value(chosen[y][at], y, view)}"
    ax.annotate(said, (far[x][at], far[y][at]), (10, 8), textcoords="offset points", fontsize=9,
                bbox={"fc": BG, "ec": "none", "alpha": 0.8})
    ax.set(xlabel=f"{x}: 0 best, 1 worst of the front", ylabel=f"{y}: 0 best, 1 worst of the front")
    ax.grid(visible=True)
    return fig


def parallel_figure(view: View) -> Figure:
    """Every varied parameter and objective as an axis, every point as a line; the front in colour."""
    names = [*view.parameters, *view.objectives]
    fig, ax = _sweep_axes(view, "all axes", width=max(7.4, 1.25 * len(names)))
    heights, ends = [], []
    for k in names:
        v = view.columns[k]
        if v.dtype.kind in "iuf":
            low, high = float(np.nanmin(v)), float(np.nanmax(v))
            logs = low > 0 and high / low > 20
            g = np.log(v.astype(float)) if logs else v.astype(float)
            heights.append((g - np.nanmin(g)) / max(float(np.nanmax(g) - np.nanmin(g)), 1e-300))
            ends.append((_value(low, k, view), _value(high, k, view)))
        else:
            kinds, place = np.unique(v.astype(str), return_inverse=True)
            heights.append((place + 0.5) / len(kinds))
            ends.append((", ".join(kinds[:3]), ""))
    table, x = np.stack(heights, axis=1), np.arange(len(names))
    every = max((view.n - view.n_front) // 500, 1)
    for row in table[view.n_front::every]:
        ax.plot(x, row, color=OTHER, lw=0.5, alpha=0.12)
    shade = matplotlib.colormaps["viridis"](table[:view.n_front, -len(view.objectives)])
    for row, colour in zip(table[:view.n_front], shade, strict=True):
        ax.plot(x, row, color=colour, lw=1.3, alpha=0.9)
    for i, (low_text, high_text) in enumerate(ends):
        ax.axvline(i, color=MUTED, lw=0.8)
        ax.annotate(low_text, (i, 0), (0, -12), textcoords="offset points", ha="center", fontsize=7.5, color=MUTED)
        ax.annotate(high_text, (i, 1), (0, 6), textcoords="offset points", ha="center", fontsize=7.5, color=MUTED)
    ax.set(ylim=(-0.02, 1.02), yticks=[], xlim=(-0.4, len(names) - 0.6))
    ax.set_xticks(x, [_wrapped(short(k)) for k in names], fontsize=8, color=FG)
    ax.tick_params(axis="x", length=0, pad=16)
    ax.spines[["left", "bottom"]].set_visible(False)
    return fig


def heat_figure(view: View) -> Figure:
    """The best first objective over the two parameters that move it most."""
    goal, direction = next(iter(view.objectives.items()))
    a, b = _movers(view, goal)
    (xs, i), (ys, j) = _cells(view.columns[a]), _cells(view.columns[b])
    worst = np.inf if direction == "min" else -np.inf
    grid = np.full((len(ys), len(xs)), worst)
    (np.minimum if direction == "min" else np.maximum).at(grid, (j, i), view.columns[goal].astype(float))
    grid[~np.isfinite(grid)] = np.nan
    fig, ax = _sweep_axes(view, f"best {goal}")
    seen = ax.imshow(grid, origin="lower", aspect="auto", cmap="viridis")
    ax.set_xticks(range(len(xs)), [_value(v, a, view) for v in xs], rotation=30, ha="right", fontsize=7.5)
    ax.set_yticks(range(len(ys)), [_value(v, b, view) for v in ys], fontsize=7.5)
    ax.set(xlabel=short(a), ylabel=short(b))
    bar = fig.colorbar(seen, ax=ax, pad=0.02)
    bar.set_label(f"{goal} [{view.units.get(goal, '')}]")
    if grid.size <= 150:
        for row, col in np.ndindex(grid.shape):
            if np.isfinite(grid[row, col]):
                light = (grid[row, col] - np.nanmin(grid)) > 0.55 * np.ptp(grid[np.isfinite(grid)])
                ax.text(col, row, f"{grid[row, col]:.3g}", ha="center", va="center", fontsize=7,
                        color="black" if light else "white")
    return fig


SWEEP: dict[str, Callable[[View], Figure]] = {"front": front_figure, "parallel": parallel_figure, "heat": heat_figure,
                                              "knee": knee_figure}


def sweep_figure(view: View, kind: str, form: str) -> bytes:
    """One of ``SWEEP`` as ``svg`` or ``png``. Raises ``ValueError`` where the sweep has too little to draw."""
    if kind in ("front", "knee") and len(view.objectives) < 2:
        raise ValueError(f"{view.file}: one objective has no front to draw; --kind heat or parallel, or a second objective")
    if kind == "heat" and len(view.parameters) < 2:
        raise ValueError(f"{view.file}: a heat map needs two axes that vary, found {len(view.parameters)}")
    with matplotlib.rc_context(STYLE):
        fig = SWEEP[kind](view)
        return png(fig, dpi=160) if form == "png" else svg(fig, {}, False, f"{kind}: {view.title}").encode()


def _pair(view: View) -> tuple[str, str]:
    """The two objectives that conflict most: most members of the front are on the front of these two alone."""
    n = view.n_front

    def members(pair: tuple[str, str]) -> int:
        return len(nondominated({k: view.columns[k][:n] for k in pair}, {k: view.objectives[k] for k in pair}))

    return max(itertools.combinations(view.objectives, 2), key=members)


def _sweep_axes(view: View, what: str, width: float = 7.4) -> tuple[Figure, Axes]:
    fig = Figure(figsize=(width, 5.2), layout="constrained")
    FigureCanvasAgg(fig)
    ax = fig.add_subplot()
    ax.set_title(f"{view.title}: {what}\n\n", fontsize=11, fontweight="bold", loc="left")
    ax.annotate(view.said(), (0, 1), (0, 20), xycoords="axes fraction", textcoords="offset points", fontsize=8, color=MUTED)
    ax.set_axisbelow(True)
    return fig, ax


def _scales(ax: Axes, view: View, x: str, y: str) -> None:
    for k, which in ((x, "x"), (y, "y")):
        v = view.columns[k].astype(float)
        logs = np.nanmin(v) > 0 and np.nanmax(v) / np.nanmin(v) > 20
        label = f"{k} [{view.units[k]}]" if view.units.get(k) else k
        ax.set(**{f"{which}scale": "log" if logs else "linear", f"{which}label": f"{label} ({view.objectives[k]})"})
    ax.grid(visible=True)


def _value(x: Any, name: str, view: View) -> str:
    return str(x) if isinstance(x, str) else quantity(float(f"{float(x):.4g}"), view.units.get(name, ""))


def _wrapped(name: str) -> str:
    return name.replace(".", ".\n", 2).replace("_", "_\u200b")


def _cells(v: Any) -> tuple[Any, Any]:
    """Values of an axis of a heat map and each point's place; many values are put in twelve bins of equal count."""
    kinds, place = np.unique(v if v.dtype.kind in "iuf" else v.astype(str), return_inverse=True)
    if len(kinds) <= 14:
        return kinds, place.reshape(-1)
    bins = place.reshape(-1) * 12 // len(kinds)
    return np.array([kinds[bins_at] for bins_at in (np.arange(12) * len(kinds) + len(kinds) // 2) // 12]), bins


def _movers(view: View, goal: str) -> list[str]:
    """The two parameters over whose values the mean of a figure varies most."""
    v = view.columns[goal].astype(float)

    def moved(k: str) -> float:
        _, place = _cells(view.columns[k])
        means = np.bincount(place, np.nan_to_num(v)) / np.maximum(np.bincount(place), 1)
        return float(np.var(means[place]))

    return sorted(view.parameters, key=moved, reverse=True)[:2]
