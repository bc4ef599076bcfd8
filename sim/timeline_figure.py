"""A step drawn: engines, copies, and the use of memories and links over time."""

from __future__ import annotations

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sim.figures import BG, FG, LINE, MUTED, STYLE, png, svg
from sim.palette import LINE_COLOURS, OTHER
from sim.timeline import Counter, Timeline, Track

#: Colour of a slice by what its task does: part of the network, or what is moved.
_SLICE_COLOURS = {"mixer": LINE_COLOURS[4], "ffn": LINE_COLOURS[0], "experts": LINE_COLOURS[3], "weights": LINE_COLOURS[2],
                  "neurons": LINE_COLOURS[2], "kv": LINE_COLOURS[1], "result": LINE_COLOURS[5]}


#: Colour of the share of a bandwidth that is in use, and the share of the time below which a row is left out.
_LEVEL, SELDOM = "#9fb4c7", 0.002


def timeline_svg(data: Timeline, since: int, until: int, title: str, subtitle: str) -> bytes:
    """What each engine and copy queue did between two times [ns], and how much of each memory and link was used."""
    with matplotlib.rc_context(STYLE):
        return svg(_timeline(data, since, until, title, subtitle), {}, False, title).encode()


def timeline_png(data: Timeline, since: int, until: int, title: str, subtitle: str) -> bytes:
    with matplotlib.rc_context(STYLE):
        return png(_timeline(data, since, until, title, subtitle), dpi=160)


def _timeline(data: Timeline, since: int, until: int, title: str, subtitle: str) -> Figure:
    until = max(until, since + 1)                        # [ns]; a graph may take no time at all
    levels = {c.resource for c in data.counters if c.unit}
    all_rows = [x for x in data.order if (x.unit if isinstance(x, Counter) else x.resource not in {"steps", *levels})]
    devices = list(dict.fromkeys(x.process for x in all_rows))
    rows = sorted((x for x in all_rows if _in_use(x, since, until) >= SELDOM), key=lambda x: devices.index(x.process))
    high = 1.45 + 0.3 * len(rows)
    fig = Figure(figsize=(9.0, high))
    FigureCanvasAgg(fig)
    ax = fig.add_axes((0.155, 0.85 / high, 0.68, 1 - 1.42 / high))
    scale, unit = next((x for x in ((1e9, "s"), (1e6, "ms"), (1e3, "us")) if until - since >= x[0]), (1.0, "ns"))
    ax.set(xlim=(0, (until - since) / scale), ylim=(max(len(rows), 1), 0), xlabel=f"time [{unit}]")
    doing: dict[str, None] = {}
    for at, row in enumerate(rows):
        if isinstance(row, Counter):
            _draw_level(ax, row, at, since, until, scale)
        else:
            doing |= _draw_slices(ax, row, at, since, until, scale)
    names = [r.resource if isinstance(r, Counter) else r.name for r in rows]
    ax.set_yticks([at + 0.5 for at in range(len(rows))], names, color=FG)
    for at, row in enumerate(rows):
        if at == 0 or rows[at - 1].process != row.process:
            ax.axhline(at, xmax=1.2, color=LINE, lw=0.8, clip_on=False)
            ax.annotate(row.process, (1, at), (4, -4), xycoords=("axes fraction", "data"), textcoords="offset points",
                        va="top", fontsize=8, color=MUTED, annotation_clip=False)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=True, axis="x")
    ax.set_axisbelow(True)
    meaning: dict[str, list[str]] = {}
    for what in doing:
        meaning.setdefault(_SLICE_COLOURS.get(what, OTHER), []).append(what)
    meaning[_LEVEL] = ["share of bandwidth in use"]
    handles = [Line2D([], [], ls="", marker="s", color=c, label=", ".join(what)) for c, what in meaning.items()]
    fig.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.14, 0.16 / high), ncol=8, frameon=False, fontsize=8,
               handletextpad=0.2)
    fig.text(0.015, 1 - 0.2 / high, title, fontsize=11, fontweight="bold", va="center")
    fig.text(0.015, 1 - 0.41 / high, subtitle, color=MUTED, va="center")
    left = [x.resource if isinstance(x, Counter) else x.name for x in all_rows if 0 < _in_use(x, since, until) < SELDOM]
    if left:
        fig.text(0.155, 0.1 / high, f"in use for less than {100 * SELDOM:g} % of the time: {', '.join(left)}", fontsize=7.5,
                 color=MUTED, va="center")
    return fig


def _in_use(row: Track | Counter, since: int, until: int) -> float:
    """Share of the time in which a track is busy or a counter is not 0."""
    spans = ([(a, b) for a, b, level in _levels(row, until) if level] if isinstance(row, Counter) else
             [(s.start, s.end) for s in row.slices])
    return sum(max(min(b, until) - max(a, since), 0) for a, b in spans) / max(until - since, 1)


def _levels(row: Counter, until: int) -> list[tuple[int, int, float]]:
    """(from, to, value) of a counter."""
    times = [*(t for t, _ in row.points), until]
    return [(t, times[i + 1], value) for i, (t, value) in enumerate(row.points)]


def _draw_slices(ax: Axes, row: Track, at: int, since: int, until: int, scale: float) -> dict[str, None]:
    bars: dict[str, list[tuple[float, float]]] = {}
    for s in row.slices:
        a, b = max(s.start, since), min(s.end, until)
        if a < b:
            what = str(s.args.get("what") or s.args.get("part") or s.kind)
            bars.setdefault(what, []).append(((a - since) / scale, (b - a) / scale))
    # An edge shows where one ends and the next begins, unless there are so many that nothing but edges would be seen.
    edge = 0.4 if sum(map(len, bars.values())) < 40 + 160 * _in_use(row, since, until) else 0.0
    for what, spans in bars.items():
        ax.broken_barh(spans, (at + 0.14, 0.72), facecolors=_SLICE_COLOURS.get(what, OTHER), edgecolors=BG, linewidth=edge)
    return dict.fromkeys(bars)


def _draw_level(ax: Axes, row: Counter, at: int, since: int, until: int, scale: float) -> None:
    seen = [(max(a, since), min(b, until), level / row.top) for a, b, level in _levels(row, until) if b > since and a < until]
    x = [t for a, b, _ in seen for t in ((a - since) / scale, (b - since) / scale)]
    y = [at + 0.86 - 0.72 * level for _, _, level in seen for _ in range(2)]
    ax.fill_between(x, y, at + 0.86, color=_LEVEL, lw=0)
    ax.plot([0, (until - since) / scale], [at + 0.14] * 2, color=LINE, lw=0.6, ls=":")
