"""Figures by matplotlib (extra 'plots'): the style of all, the roofline, and figures against batch size.

Colours are those of Okabe and Ito (distinct under every common colour blindness). Text stays text in SVG. For a page,
foreground and background become CSS variables (``--fg``, ``--bg``, ``--muted``, ``--line``), so that it can be dark.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from html import escape
from itertools import product
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from sim.curves import Curve
from sim.palette import CLASS_COLOURS, LINE_COLOURS, OTHER
from sim.roofline import VECTOR, Ceiling, Point, Roofline, hover, rate_text

FG, BG, MUTED, LINE = "#1a1a19", "#fefefd", "#66665f", "#dcdcd6"
_VARIABLES = {FG: "var(--fg)", BG: "var(--bg)", MUTED: "var(--muted)", LINE: "var(--line)"}
MARKERS = {"prefill": "o", "decode": "D"}
#: An op is labelled from this share of its step on, and never more than so many of a phase.
LABEL_SHARE, LABELS = 0.025, 6
STYLE: Any = {
    "font.family": "sans-serif", "font.size": 9.0, "svg.fonttype": "none", "svg.hashsalt": "perfboard",
    "text.color": FG,
    "axes.edgecolor": MUTED, "axes.labelcolor": FG, "xtick.color": MUTED, "ytick.color": MUTED, "figure.facecolor": BG,
    "axes.facecolor": BG, "savefig.facecolor": BG, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.8, "grid.color": LINE, "grid.linewidth": 0.6,
}


# -- roofline ---------------------------------------------------------------------------------------------------------

def roofline_svg(data: Roofline, *, inline: bool = False) -> str:
    """The roofline as SVG text. ``inline``: a fragment for a page, themed, with ``data-tip`` on every point."""
    tips = {f"point-{i}": hover(p) for i, p in enumerate(data.points)}
    with matplotlib.rc_context(STYLE):
        return svg(_roofline(data, titled=not inline), tips, inline, "Roofline")


def roofline_png(data: Roofline, dpi: int = 160) -> bytes:
    with matplotlib.rc_context(STYLE):
        buffer = io.BytesIO()
        _roofline(data, titled=True).savefig(buffer, format="png", dpi=dpi, metadata={"Software": "perfboard"})
        return buffer.getvalue()


def _roofline(data: Roofline, *, titled: bool) -> Figure:
    top = 0.875 if titled else 0.975
    fig = Figure(figsize=(7.4, 5.7 if titled else 5.2))
    FigureCanvasAgg(fig)
    ax = fig.add_axes((0.105, 0.195, 0.875, top - 0.195))
    x0, x1, y0, y1 = data.window()
    ax.set(xscale="log", yscale="log", xlim=(10**x0, 10**x1), ylim=(10**y0, 10**y1),
           xlabel="arithmetic intensity [FLOP per byte]", ylabel="achieved [FLOP/s]")
    decades = [10.0**e for e in range(math.ceil(y0), math.floor(y1) + 1)]
    ax.set_yticks(decades, [rate_text("compute", d).replace("FLOP/s", "").replace(" ", "") for d in decades])
    steps = [10.0**e for e in range(math.ceil(x0), math.floor(x1) + 1)]
    ax.set_xticks(steps, [f"{s:g}" for s in steps])
    ax.minorticks_off()
    ax.grid(visible=True)
    ax.set_axisbelow(True)
    taken = _draw_ceilings(ax, data)
    _draw_points(ax, data)
    _label_points(ax, data, taken)
    _legend(fig, data)
    if titled:
        title = f"{data.model} on {data.device}"
        fig.text(0.015, 0.965, title, fontsize=min(12.0, 12 * 64 / len(title)), fontweight="bold", va="center")
        fig.text(0.015, 0.92, data.workload, color=MUTED, va="center")
    return fig


def _draw_ceilings(ax: Axes, data: Roofline) -> list[Bbox]:
    """Lines with their names on them; returns the boxes that the names take. [display units]"""
    (x0, x1), compute, memory = ax.get_xlim(), data.flat(), data.of("memory")
    dots = _marker_boxes(ax, data)
    taken: list[Bbox] = []
    top = max(c.rate for c in compute)
    slanted = [ax.plot([x0, top / m.rate], [x0 * m.rate, top], color=FG, lw=1.2, zorder=2,
                       ls=":" if len(memory) > 1 and i == 0 else "-")[0] for i, m in enumerate(memory)]
    for c in compute:
        ax.plot([c.rate / memory[0].rate, x1], [c.rate] * 2, color=FG, lw=1.2, zorder=2,
                ls="--" if c.name == VECTOR else "-")
        taken.append(_name_compute(ax, c, c.rate / memory[-1].rate, [*dots, *taken], topmost=c.rate == top))
    for i, (m, line) in enumerate(zip(memory, slanted, strict=True)):
        taken += _name_memory(ax, m, above=i == 0, top=top, solid=[*dots, *taken],
                              lines=_line_boxes(ax, apart=line))
    return taken


def _name_compute(ax: Axes, c: Ceiling, ridge: float, avoid: Sequence[Bbox], *, topmost: bool) -> Bbox:
    """The name on its flat line, as far right as nothing is in its way; over or under the markers where there is no such
    place."""
    text = ax.annotate(f"{c.name} {rate_text('compute', c.rate)}", (ax.get_xlim()[1], c.rate), (-2, 2),
                       textcoords="offset points", ha="right", va="bottom", fontsize=8, zorder=3)
    first, scale = text.get_window_extent(), ax.figure.dpi / 72
    least = ax.transData.transform((ridge, c.rate))[0]
    for apart, below, back in product((0, 6, 12, 18), (False, True), range(0, 400, 6)):
        drop = (first.height + (4 + apart) * scale) if below else -apart * scale
        box = Bbox.from_bounds(first.x0 - back * scale, first.y0 - drop, first.width, first.height)
        if (box.x0 > least or (topmost and apart and not below)) and not any(box.overlaps(b) for b in avoid):
            text.set_position((-2 - back, 2 - drop / scale))
            return box
    return first


def _name_memory(ax: Axes, m: Ceiling, *, above: bool, top: float, solid: Sequence[Bbox],
                 lines: Sequence[Bbox]) -> list[Bbox]:
    """The name along its slanted line, about half way up where nothing is in its way; boxes that cover it."""
    (x0, _), (y0, _) = ax.get_xlim(), ax.get_ylim()
    low, high = math.log10(max(x0, y0 / m.rate)), math.log10(top / m.rate)
    (ax0, ay0), (ax1, ay1) = ax.transData.transform([(1.0, m.rate), (10.0, 10 * m.rate)])
    angle, scale = math.atan2(ay1 - ay0, ax1 - ax0), ax.figure.dpi / 72
    name = f"{m.name} {rate_text('memory', m.rate)}"
    half = int(2.5 * len(name)) + 2                       # [pt], of text of 8 pt

    def cover(x: float, side: int) -> list[Bbox]:
        cx, cy = ax.transData.transform((x, x * m.rate))
        along = [(cx + scale * (d * math.cos(angle) - 8 * side * math.sin(angle)),
                  cy + scale * (d * math.sin(angle) + 8 * side * math.cos(angle))) for d in range(-half, half + 1, 5)]
        return [Bbox.from_bounds(px - 5 * scale, py - 5 * scale, 10 * scale, 10 * scale) for px, py in along]

    own = 1 if above else -1
    middle_first = sorted((n / 40 for n in range(5, 34)), key=lambda share: abs(share - 0.45))
    places = [(10 ** (low + share * (high - low)), side) for side in (own, -own) for share in middle_first]
    x, side = min(places, key=lambda at: 10 * _hits(cover(*at), solid) + _hits(cover(*at), lines))
    ax.annotate(name, (x, x * m.rate),
                (-3 * side * math.sin(angle), 3 * side * math.cos(angle)), textcoords="offset points",
                rotation=math.degrees(angle), rotation_mode="anchor", ha="center", va="bottom" if side > 0 else "top",
                fontsize=8, zorder=3)
    return cover(x, side)


def _hits(some: Sequence[Bbox], others: Sequence[Bbox]) -> int:
    """How many pairs of boxes overlap."""
    a = np.array([b.extents for b in some]).reshape(-1, 1, 4)
    b = np.array([b.extents for b in others]).reshape(1, -1, 4)
    return int(np.sum(np.all((a[..., :2] <= b[..., 2:]) & (b[..., :2] <= a[..., 2:]), axis=-1)))


def _line_boxes(ax: Axes, *, apart: Line2D | None = None) -> list[Bbox]:
    """Small boxes all along the drawn ceilings (one ``apart``), which names had better not cross."""
    out: list[Bbox] = []
    for line in ax.get_lines():
        if line is apart:
            continue
        (xa, ya), (xb, yb) = ax.transData.transform(line.get_xydata())
        n = max(int(math.hypot(xb - xa, yb - ya) / 5), 1)
        out += [Bbox.from_bounds(xa + (xb - xa) * t / n - 1, ya + (yb - ya) * t / n - 1, 2, 2) for t in range(n + 1)]
    return out


def _marker_boxes(ax: Axes, data: Roofline) -> list[Bbox]:
    out = []
    for p in data.points:
        (x, y), r = ax.transData.transform((p.intensity_flop_per_byte, p.flop_per_s)), _radius(p) * ax.figure.dpi / 72
        out.append(Bbox.from_extents(x - r, y - r, x + r, y + r))
    return out


def _area(p: Point) -> float:
    """Marker area [pt^2], in proportion to the share of the step, above a least size that stays visible."""
    return 14.0 + 900.0 * p.share_of_step


def _radius(p: Point) -> float:
    return math.sqrt(_area(p)) / 2


def _draw_points(ax: Axes, data: Roofline) -> None:
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    for i, p in enumerate(data.points):
        if not (x0 <= p.intensity_flop_per_byte <= x1 and y0 <= p.flop_per_s <= y1):
            continue
        ax.scatter([p.intensity_flop_per_byte], [p.flop_per_s], s=_area(p), marker=MARKERS[p.phase], gid=f"point-{i}",
                   color=CLASS_COLOURS.get(p.op_class, OTHER), edgecolors=BG, linewidths=0.8, alpha=0.9,
                   zorder=4 - 0.001 * (200 - i))


def _label_points(ax: Axes, data: Roofline, taken: list[Bbox]) -> None:
    """Names of the ops that matter, each at the nearest free place; a thin line leads back where that is not near."""
    scale, frame, lines = ax.figure.dpi / 72, ax.get_window_extent(), _line_boxes(ax)
    boxes = [*taken, *_marker_boxes(ax, data)]
    groups = _clusters(ax, data)
    names: list[Bbox] = []
    for members in groups:
        p = members[0][0]
        _, x, y = members[0]
        text = ax.annotate(_name(members, data), (p.intensity_flop_per_byte, p.flop_per_s), (0, 0),
                           textcoords="offset points", fontsize=8, ha="center", va="center", zorder=5, linespacing=1.1)
        size = text.get_window_extent()
        reach = x, y, size.width + 4 * scale, size.height + 2 * scale, _radius(p) * scale
        rivals = [(gx, gy, _radius(q) * scale) for g in groups for q, gx, gy in g[:1] if g is not members]
        place = (_free_place(*reach, [*boxes, *lines], frame, names, rivals)
                 or _free_place(*reach, boxes, frame, names, rivals) or _free_place(*reach, boxes, frame, [], []))
        if place is None:
            text.remove()
            continue
        cx, cy, far = place
        text.set_position(((cx - x) / scale, (cy - y) / scale))
        names.append(Bbox.from_bounds(cx - size.width / 2 - 2, cy - size.height / 2 - 1, size.width + 4,
                                      size.height + 2))
        boxes.append(names[-1])
        if far:
            _lead(ax, (x, y), (cx, cy), size)


Spot = tuple[Point, float, float]


def _clusters(ax: Axes, data: Roofline) -> list[list[Spot]]:
    """Ops worth a name; those of one phase whose markers overlap share one. Heaviest first. [display units]"""
    scale, out = ax.figure.dpi / 72, []
    for phase in MARKERS:
        groups: list[list[Spot]] = []
        for p in [p for p in data.points if p.phase == phase and p.share_of_step >= LABEL_SHARE][:LABELS]:
            x, y = ax.transData.transform((p.intensity_flop_per_byte, p.flop_per_s))
            near = next((g for g in groups if
                         math.hypot(g[0][1] - x, g[0][2] - y) < scale * (_radius(g[0][0]) + _radius(p))), None)
            if near is None:
                groups.append([(p, x, y)])
            else:
                near.append((p, x, y))
        out += groups
    return sorted(out, key=lambda g: -g[0][0].share_of_step)


def _name(members: list[Spot], data: Roofline) -> str:
    """Names two a line; the layer's label goes with one that another op of weight in this phase bears too."""
    heavy = [p for p in data.points if p.share_of_step >= LABEL_SHARE]
    names = []
    for p, _, _ in members:
        twins = [q for q in heavy if q.phase == p.phase and q.label == p.label]
        names.append(p.label if len(twins) < 2 else f"{p.op.partition('.')[0]} {p.label}")
    return ",\n".join(", ".join(names[i:i + 2]) for i in range(0, len(names), 2))


Spot3 = tuple[float, float, float]


def _apart(box: Bbox, x: float, y: float) -> float:
    """Distance of a point from a box."""
    return math.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))


def _free_place(x: float, y: float, width: float, height: float, radius: float, boxes: Sequence[Bbox], frame: Bbox,
                names: Sequence[Bbox], rivals: Sequence[Spot3]) -> tuple[float, float, bool] | None:
    """Centre of the first free box on rings around (x, y); True where it lies apart from its point.

    A line back to the point may cross none of ``names``; without one, no marker of ``rivals`` (x, y, radius) may be
    nearer to the name than its own.
    """
    for gap in (2, 8, 16, 26, 38, 52, 68, 86, 106, 128, 152):
        for turn in (0, 180, 90, 270, 45, 315, 135, 225, 20, 340, 160, 200, 65, 295, 115, 245):
            a = math.radians(turn)
            across, up = math.cos(a), math.sin(a)
            cx = x + (radius + gap) * across + width / 2 * math.copysign(min(abs(across) * 1.5, 1), across)
            cy = y + (radius + gap) * up + height / 2 * math.copysign(min(abs(up) * 1.5, 1), up)
            box = Bbox.from_bounds(cx - width / 2, cy - height / 2, width, height)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if not inside or any(box.overlaps(b) for b in boxes):
                continue
            far = gap > 8
            own = _apart(box, x, y) - radius
            if far and any(b.contains(x + t / 20 * (cx - x), y + t / 20 * (cy - y)) for b in names for t in range(21)):
                continue
            if not far and any(_apart(box, rx, ry) - r < own for rx, ry, r in rivals):
                continue
            return cx, cy, far
    return None


def _lead(ax: Axes, start: tuple[float, float], end: tuple[float, float], size: Bbox) -> None:
    """A thin line from a point to the edge of its name's box. [display units]"""
    dx, dy = end[0] - start[0], end[1] - start[1]
    cut = 1 - min((size.width / 2 + 2) / max(abs(dx), 1e-9), (size.height / 2 + 1) / max(abs(dy), 1e-9), 1)
    xy = ax.transData.inverted().transform([start, (start[0] + cut * dx, start[1] + cut * dy)])
    ax.add_line(Line2D(xy[:, 0], xy[:, 1], color=MUTED, lw=0.6, zorder=3.5))


def _legend(fig: Figure, data: Roofline) -> None:
    phases = [p for p in MARKERS if any(x.phase == p for x in data.points)]
    shapes = [Line2D([], [], ls="", marker=MARKERS[p], color=MUTED, label=p) for p in phases]
    classes = dict.fromkeys(p.op_class for p in data.points)
    colours = [Line2D([], [], ls="", marker="s", color=CLASS_COLOURS.get(c, OTHER), label=c) for c in classes]
    fig.legend(handles=[*shapes, *colours], loc="lower left", bbox_to_anchor=(0.095, 0.035), ncol=8, frameon=False,
               fontsize=8, handletextpad=0.2, columnspacing=1.3)
    fig.text(0.105, 0.022, "Area of a marker: share of its step's time. Dashed: vector units.", fontsize=7.5,
             color=MUTED, va="center")


# -- against batch size -----------------------------------------------------------------------------------------------

def batch_svg(curves: Sequence[Curve], asked: float | None) -> str:
    """TPOT and tokens/s per device against batch, with 80 % bands; ``asked`` is marked on the first curve."""
    with matplotlib.rc_context(STYLE):
        below = 0.22 * math.ceil(len(curves) / 2) if len(curves) > 1 else 0.0       # [in] for the names
        high = 3.3 + below
        fig = Figure(figsize=(7.4, high))
        FigureCanvasAgg(fig)
        axes = [fig.add_axes((x, (0.51 + below) / high, 0.385, 2.43 / high)) for x in (0.085, 0.6)]
        charts = (("tpot", "time per output token [ms]"), ("rate", "tokens/s per device"))
        for ax, (name, label) in zip(axes, charts, strict=True):
            for i, c in enumerate(curves):
                middle, lo, hi = getattr(c, name)
                colour = LINE_COLOURS[i % len(LINE_COLOURS)]
                ax.fill_between(c.batch, lo, hi, color=colour, alpha=0.2, lw=0)
                ax.plot(c.batch, middle, color=colour, lw=1.6, ls=("-", "--", "-.", ":")[i % 4], label=c.label)
                if i == 0 and asked is not None and asked in c.batch:
                    at = middle[list(c.batch).index(asked)]
                    ax.plot([asked], [at], "o", ms=6, color=colour, mec=BG)
            ax.set(xscale="log", yscale="log", xlabel="sequences in flight (batch)")
            ax.set_title(label, fontsize=9, loc="left")
            ax.set_xticks(_powers(curves), [f"{t:g}" for t in _powers(curves)])
            _plain_ticks(ax)
            ax.grid(visible=True)
            ax.minorticks_off()
        if len(curves) > 1:
            fig.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="lower left", ncol=2,
                       bbox_to_anchor=(0.07, 0.0), borderaxespad=0.2)
        return svg(fig, {}, True, "Against batch size")


def _powers(curves: Sequence[Curve]) -> list[float]:
    top = max(float(c.batch[-1]) for c in curves)
    every = 1 if top <= 64 else 2
    return [2.0**e for e in range(0, math.floor(math.log2(max(top, 2))) + 1, every)]


def _plain_ticks(ax: Axes) -> None:
    """Round figures 1, 2, 5 within the limits, written out."""
    lo, hi = ax.get_ylim()
    ticks = [d * 10.0**e for e in range(math.floor(math.log10(lo)), math.ceil(math.log10(hi)) + 1) for d in (1, 2, 5)]
    ticks = [t for t in ticks if lo <= t <= hi]
    if len(ticks) > 7:
        ticks = [t for t in ticks if f"{t:e}"[0] == "1"]
    ax.set_yticks(ticks, [f"{t:,.0f}" if t >= 1 else f"{t:g}" for t in ticks])


# -- SVG --------------------------------------------------------------------------------------------------------------

def svg(fig: Figure, tips: dict[str, str], inline: bool, name: str) -> str:
    buffer = io.StringIO()
    fig.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    for gid, tip in tips.items():
        said = (f'<g id="{gid}" data-tip="{escape(tip)}" tabindex="0">' if inline else
                f'<g id="{gid}"><title>{escape(tip)}</title>')
        text = text.replace(f'<g id="{gid}">', said)
    if not inline:
        return text
    text = text[text.index("<svg"):]
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: m.group(0) if m.group(1) in used else "", text)
    for size in ("width", "height"):                     # the page sets them
        text = re.sub(rf'(<svg[^>]*?) {size}="[^"]*"', r"\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(name)}"', 1)


def panels(n: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Empty panels side by side (sizes of the whole in inches), for plots of other packages."""
    fig = Figure(figsize=(width, height), layout="tight")
    return fig, [fig.add_subplot(1, n, i + 1) for i in range(n)]


def png(fig: Figure, dpi: int = 110) -> bytes:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi, metadata={"Software": "perfboard"})
    return buffer.getvalue()
