"""The figure of ``perfboard rtl compare``: gate equivalents per multiply-accumulate per cycle, by format (extra 'plots')."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from rtl.harness.figures import BASELINES, Density, against_baselines
from sim.figures import FG, LINE, MUTED, STYLE, png, svg
from sim.palette import LINE_COLOURS, OTHER

SHAPES = ("o", "s", "D", "^", "v", "<", "X", "p", "*", "h", ">", "d")
SIZES = {"*": 10.0, "X": 7.5, "D": 6.0, "s": 6.0}      #: of shapes that look smaller or larger than a circle of 7 points
ROW = 0.34                       #: height of one format [inch]


def area_figure(rows: Sequence[Density], form: str) -> bytes:
    """All formats of ``rows`` as "svg" or "png". Raises ``ValueError`` where there is nothing to draw."""
    if not rows:
        raise ValueError("nothing to draw: no unit asked for multiplies and is synthesised (perfboard rtl synth --write)")
    with matplotlib.rc_context(STYLE):
        fig = _figure(rows)
        return png(fig, dpi=160) if form == "png" else svg(fig, tips(rows), False, "Area by format").encode()


def tips(rows: Sequence[Density]) -> dict[str, str]:
    """Id of each mark -> what an SVG shows when the pointer rests on it."""
    return {_gid(d): f"{d.unit}, {d.build}: {d.format}, {d.ge_per_mac:.3g} GE"
            + (f", {d.ratio:.2f} times as dense as the smallest multiplier" if d.ratio else "")
            for d in rows if d.unit not in BASELINES}


def _gid(d: Density) -> str:
    return re.sub(r"[^\w.-]", "-", f"mark-{d.format}-{d.unit}-{d.build}")


def family(fmt: str) -> tuple[str, float, str]:
    """Sorting key of a format: activations, bits of a weight, name. "W2A8" -> ("A8", 2, ...)."""
    weights = re.match(r"(?:W|POT)([\d.]+)", fmt)
    acts = re.search(r"(?:x|A)(FP16|\d+)", fmt)
    return f"A{acts[1]}" if acts else "", float(weights[1]) if weights else 0.0, fmt


def styles(rows: Sequence[Density]) -> dict[str, tuple[str, str]]:
    """Unit -> colour and shape, the same in every figure whichever units it shows; a user's own comes after the others."""
    units = sorted({d.unit for d in against_baselines()} - set(BASELINES))
    units += sorted({d.unit for d in rows} - set(units) - set(BASELINES))
    return dict(zip(units, zip(cycle(LINE_COLOURS), cycle(SHAPES), strict=False), strict=False))


def _figure(rows: Sequence[Density]) -> Figure:
    order = sorted({d.format for d in rows}, key=family, reverse=True)
    shown = sorted({d.unit for d in rows} - set(BASELINES))
    foot = 0.62 + 0.24 * -(-(len(shown) + 2) // 4)
    height = 0.75 + ROW * len(order) + foot
    fig = Figure(figsize=(7.4, height))
    FigureCanvasAgg(fig)
    ax = fig.add_axes((0.135, foot / height, 0.835, ROW * len(order) / height))
    values = [d.ge_per_mac for d in rows]
    ax.set(xscale="log", xlim=(min(values) / 1.9, max(values) * 1.35), ylim=(-0.5, len(order) - 0.5))
    ax.set_xlabel("gate equivalents per multiply-accumulate per cycle", labelpad=3)
    ax.set_yticks(range(len(order)), order)
    ax.tick_params(axis="y", length=0, labelcolor=FG)
    _round_ticks(ax)
    look = styles(rows)
    for y, fmt in enumerate(order):
        _row(ax, y, [d for d in rows if d.format == fmt], look)
    _families(ax, order)
    _legend(fig, shown, look)
    fig.text(0.015, 1 - 0.2 / height, "Cells that one multiply-accumulate per cycle takes", fontsize=12, fontweight="bold",
             va="center")
    fig.text(0.015, 1 - 0.45 / height, "by format (weights x activations); shaded: larger than the smallest multiplier unit",
             color=MUTED, va="center")
    return fig


def _round_ticks(ax: Axes) -> None:
    low, high = ax.get_xlim()
    ticks = [m * 10.0**e for e in range(5) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()
    ax.grid(visible=True, axis="x")
    ax.set_axisbelow(True)


def _row(ax: Axes, y: int, rows: Sequence[Density], look: Mapping[str, tuple[str, str]]) -> None:
    """Marks of one format; the baseline as a bar with what is larger shaded; how much smaller the smallest unit is."""
    base = next((d.ge_per_mac * d.ratio for d in rows if d.ratio), None)
    if base:
        right = ax.get_xlim()[1]
        ax.add_patch(Rectangle((base, y - 0.42), right - base, 0.84, color=LINE, alpha=0.55, lw=0, zorder=1))
        ax.plot([base, base], [y - 0.42, y + 0.42], color=FG, lw=2.2, solid_capstyle="butt", zorder=3)
    for d in rows:
        if d.unit in look:
            colour, shape = look[d.unit]
            ax.plot(d.ge_per_mac, y, color=colour, marker=shape, ms=SIZES.get(shape, 7.0), mec="white", mew=0.7, zorder=4,
                    gid=_gid(d))
    gain, least = max(((d.ratio or 0.0, d.ge_per_mac) for d in rows), default=(0.0, 0.0))
    if gain >= 1.05:
        ax.annotate(f"{gain:.2g}x smaller", (least, y), (-7, 0), textcoords="offset points", ha="right",
                    va="center", fontsize=7.5, color=MUTED)


def _families(ax: Axes, order: Sequence[str]) -> None:
    """A line between formats of different activations."""
    for y in range(1, len(order)):
        if family(order[y])[0] != family(order[y - 1])[0]:
            ax.axhline(y - 0.5, color=MUTED, lw=0.8)


def _legend(fig: Figure, units: Sequence[str], look: Mapping[str, tuple[str, str]]) -> None:
    marks: list[Any] = [Line2D([], [], color=c, marker=s, ls="", ms=SIZES.get(s, 7.0), mec="white", mew=0.7, label=u)
                        for u in units for c, s in (look[u],)]
    marks.append(Line2D([], [], color=FG, marker="|", ls="", ms=10, mew=2.2, label="smallest multiplier unit"))
    marks.append(Rectangle((0, 0), 1, 1, color=OTHER, alpha=0.3, lw=0, label="larger than it"))
    fig.legend(handles=marks, loc="lower left", bbox_to_anchor=(0.01, 0.0), ncols=4, frameon=False, fontsize=8,
               handletextpad=0.4, columnspacing=1.4)
