"""Pieces of a self-contained HTML page: frame, tables, bars, badges. Every text is escaped; nothing is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template

from sim.palette import text_on
from sim.roofline import Roofline, intensity_text, plain, rate_text


@dataclass(frozen=True)
class Raw:
    """HTML that is already escaped."""

    html: str


@dataclass(frozen=True)
class Number:
    """A cell that reads ``text`` and sorts by ``value``."""

    text: str
    value: float


Cell = str | Raw | Number


def page(title: str, body: str) -> str:
    """The whole document."""
    text = resources.files("sim").joinpath("page.html").read_text(encoding="utf-8")
    return Template(text).substitute(title=escape(title), body=body)


def says(text: str) -> str:
    """The sentence under a chart that says what it shows."""
    return f'<p class="says">{escape(text)}</p>'


def badge(kind: str, share: str = "") -> str:
    """Where a figure comes from: measured, fitted, transferred, assumed (or datasheet, derived)."""
    return f'<span class="badge {escape(kind)}">{escape(f"{kind} {share}".strip())}</span>'


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, sortable: bool = False,
          right: Sequence[str] = ()) -> str:
    """A table that scrolls sideways where it is too wide; columns named in ``right`` hold figures."""
    def attribute(column: str) -> str:
        return ' class="n"' if column in right else ""

    head = "".join(f"<th{attribute(c)}>{escape(c)}</th>" for c in columns)
    cells = ("".join(_cell(x, attribute(c)) for c, x in zip(columns, row, strict=True)) for row in rows)
    body = "\n".join(f"<tr>{row}</tr>" for row in cells)
    kind = ' class="sort"' if sortable else ""
    return f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _cell(x: Cell, attribute: str) -> str:
    if isinstance(x, Raw):
        return f"<td{attribute}>{x.html}</td>"
    if isinstance(x, Number):
        return f'<td{attribute} data-v="{x.value:.8g}">{escape(x.text)}</td>'
    long = ' class="long"' if len(x) > 22 and not attribute else attribute
    return f"<td{long}>{escape(x)}</td>"


@dataclass(frozen=True)
class Segment:
    """One part of a stacked bar; ``text`` is its value as people read it."""

    name: str
    value: float
    text: str
    colour: str


def stack(parts: Sequence[Segment], whole: float, *, mark: float | None = None, shares: bool = True) -> str:
    """A stacked bar of length ``whole``, its key below; ``mark`` draws a dashed line at that value."""
    spans, key = [], []
    for p in parts:
        share = p.value / whole if whole > 0 else 0.0
        if p.value <= 0:
            continue
        said = f"{p.text}, {100 * share:.1f} %" if shares else p.text
        inside = escape(p.name) if 100 * share > 1.1 * len(p.name) + 2 else ""
        spans.append(f'<span{"" if inside else " class=thin"} style="width:{100 * share:.3f}%;background:{p.colour};'
                     f'color:{text_on(p.colour)}" data-tip="{escape(f"{p.name}: {said}")}">{inside}</span>')
        key.append(f'<li><s style="background:{p.colour}"></s>{escape(p.name)} {escape(said)}</li>')
    line = f'<i style="left:{100 * mark / whole:.3f}%"></i>' if mark is not None and whole > 0 else ""
    return f'<div class="stack">{"".join(spans)}{line}</div><ul class="key">{"".join(key)}</ul>'


@dataclass(frozen=True)
class Bar:
    """A bar from zero to ``value`` with an interval line; one row."""

    name: str
    value: float
    lo: float
    hi: float
    text: str
    colour: str


def bars(rows: Sequence[Bar]) -> str:
    """Horizontal bars on one scale, with interval lines."""
    top = max((max(b.value, b.hi) for b in rows), default=0.0) or 1.0
    lines = []
    for b in rows:
        lines.append(f'<div class="name">{escape(b.name)}</div>'
                     f'<div class="track" data-tip="{escape(f"{b.name}: {b.text}")}">'
                     f'<b style="left:0;width:{100 * b.value / top:.2f}%;background:{b.colour}"></b>'
                     f'<u style="left:{100 * b.lo / top:.2f}%;width:{100 * (b.hi - b.lo) / top:.2f}%"></u></div>'
                     f"<div>{escape(b.text)}</div>")
    return f'<div class="bars">{"".join(lines)}</div>'


def tornado(rows: Sequence[tuple[str, Sequence[float]]], series: Sequence[tuple[str, str]]) -> str:
    """Bars to both sides of zero, one per series in each row; values in percent."""
    values = [v for _, vs in rows for v in vs]
    low, high = min(*values, 0.0), max(*values, 0.0)
    span = (high - low) or 1.0
    lines = []
    for name, vs in rows:
        marks = "".join(f'<b style="left:{100 * (min(v, 0) - low) / span:.2f}%;width:{100 * abs(v) / span:.2f}%;'
                        f'background:{colour}"></b>' for v, (_, colour) in zip(vs, series, strict=True))
        text = " / ".join(f"{v:+.2f} %" if abs(v) >= 0.005 else "0 %" for v in vs)
        tip = "\n".join(f"{s}: {v:+.3f} %" for v, (s, _) in zip(vs, series, strict=True))
        kind = "track two" if len(vs) > 1 else "track"
        lines.append(f'<div class="name">{escape(name)}</div><div class="{kind}" data-tip="{escape(tip)}">{marks}'
                     f'<i style="left:{100 * -low / span:.2f}%"></i></div><div>{text}</div>')
    key = "".join(f'<li><s style="background:{c}"></s>{escape(s)}</li>' for s, c in series)
    return f'<ul class="key">{key}</ul><div class="bars">{"".join(lines)}</div>'


# -- the roofline's own page ------------------------------------------------------------------------------------------

OP_COLUMNS = ("phase", "op", "shape", "count", "time", "of step", "FLOP/B", "FLOP/s", "of its roof", "roof", "bound",
              "parameters")
_RIGHT = ("count", "time", "of step", "FLOP/B", "FLOP/s", "of its roof")


def op_table(data: Roofline) -> str:
    """Every op that does FLOPs; a click on a header sorts."""
    rows = [(p.phase, p.op, p.shape, Number(f"{p.count:g}", p.count), Number(_seconds(p.time_s), p.time_s),
             Number(f"{100 * p.share_of_step:.1f} %", p.share_of_step),
             Number(intensity_text(p), p.intensity_flop_per_byte),
             Number(rate_text("compute", p.flop_per_s), p.flop_per_s),
             Number(f"{100 * p.share_of_roof:.1f} %", p.share_of_roof),
             p.roof_name, p.bound, Raw(badge(p.source))) for p in data.points]
    return table(OP_COLUMNS, rows, sortable=True, right=_RIGHT)


def _seconds(t: float) -> str:
    scale, unit = next(((s, u) for s, u in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")) if t >= s), (1e-9, "ns"))
    return f"{t / scale:.3g} {unit}"


def roofline_figure(data: Roofline, svg: str) -> str:
    """The drawing and its sentence."""
    text = ("Each marker is one operation: how many FLOPs it does per byte that it asks of memory, and how many per "
            "second it reaches; lines are what the device could do at most. Point at a marker for its shape, work, "
            "time and limit.")
    off = [f"{100 * share:.1f} % of {phase}" for phase, share in data.off.items() if share >= 0.0005]
    more = f" Not drawn, as it does no FLOPs: {', '.join(off)} (links)." if off else ""
    return f'<div class="figure">{svg}</div>{says(text + more)}'


def roofline_page(data: Roofline, svg: str) -> str:
    """One self-contained file: figure, ridges, table."""
    title = f"{data.model} on {data.device}"
    ridges = [(c, m, Number(plain(i), i)) for c, m, i in data.ridges()]
    body = (f"<h1>{escape(title)}</h1><p>{escape(data.workload)}</p>{roofline_figure(data, svg)}"
            f"<h2>Operations</h2>{op_table(data)}{says('A click on a column head sorts by it.')}"
            f"<h2>Ridge points</h2>{table(('compute', 'memory', 'FLOP/B'), ridges, right=('FLOP/B',))}"
            f"{says('The intensity from which on the compute ceiling, and not the memory, is the lower one.')}")
    return page(f"Roofline: {title}", body)


