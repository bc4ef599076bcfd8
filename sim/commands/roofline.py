"""``perfboard roofline``: every op of a query under its ceilings - text plot and table, figure, page, or data."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from sim.answer import answer
from sim.cli import MissingExtra
from sim.commands.options import hardware_names, query_from, query_options
from sim.fit_memory import smallest_change
from sim.output import as_csv, as_markdown, as_table, console, format_option, note, print_json
from sim.page import roofline_page
from sim.query import resolve
from sim.roofline import Point, Roofline, intensity_text, rate_text
from sim.roofline import roofline as build

SUFFIXES = (".svg", ".png", ".html")
COLUMNS = ("", "phase", "op", "FLOP/B", "FLOP/s", "of its roof", "roof", "of step", "bound", "parameters")
WIDTH, HEIGHT = 100, 24


@click.command()
@query_options
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write a figure: .svg, .png, or .html (hover names each op).")
@click.option("--phase", type=click.Choice(("both", "prefill", "decode")), default="both", show_default=True,
              help="Ops of which step.")
@format_option
def roofline(output: Path | None, phase: str, fmt: str, **values: Any) -> int:
    """Every op of prefill and decode: FLOP per byte against FLOP/s, under the ceilings of formats and memories.

    \b
    perfboard roofline -m llama-3.1-8b --hw h200_sxm --bs 64 --isl 2048 --osl 512
    perfboard roofline -m llama-3.1-8b --hw h100_sxm --quant fp8 -o roofline.html
    """
    names = hardware_names(values["hw"])
    if len(names) > 1:
        raise ValueError(f"--hw: a roofline is of one device, got {len(names)}: {', '.join(names)}; several: perfboard "
                         f"report")
    if output and output.suffix.lower() not in SUFFIXES:
        raise ValueError(f"-o {output}: ending {output.suffix or 'missing'}, expected one of {', '.join(SUFFIXES)}")
    a = answer(resolve(query_from(values, names[0])), elasticities=False)
    data = _only(build(a), phase)
    if output:
        write(data, output)
        note(f"wrote {output}")
    if fmt == "json":
        print_json(data.data())
    elif fmt in ("csv", "md"):
        rows = [list(p.values()) for p in data.data()["points"]]
        columns = list(data.data()["points"][0]) if rows else []
        click.echo(as_csv(columns, rows).rstrip("\n") if fmt == "csv" else as_markdown(columns, rows))
    elif not output:
        _print(data)
    if not a.fits:
        note(f"does not fit: {a.setting.device.name}: {smallest_change(a.setting)}")
    return 0 if a.fits else 1


def figures(module: str = "sim.figures") -> Any:
    """A drawing module. Loaded when a figure is wanted: matplotlib is optional and slow to import."""
    try:
        return import_module(module)
    except ModuleNotFoundError as e:
        if (e.name or "").split(".")[0] != "matplotlib":
            raise
        raise MissingExtra("plots", "drawing a figure") from None


def write(data: Roofline, path: Path) -> None:
    """Draw to SVG, PNG or HTML by the ending of ``path``."""
    draw = figures()
    if path.suffix.lower() == ".html":
        path.write_text(roofline_page(data, draw.roofline_svg(data, inline=True)), encoding="utf-8")
    elif path.suffix.lower() == ".svg":
        path.write_text(draw.roofline_svg(data), encoding="utf-8")
    else:
        path.write_bytes(draw.roofline_png(data))


def _only(data: Roofline, phase: str) -> Roofline:
    if phase == "both":
        return data
    return Roofline(data.model, data.device, data.workload, tuple(p for p in data.points if p.phase == phase),
                    data.ceilings, {k: v for k, v in data.off.items() if k == phase})


# -- terminal ---------------------------------------------------------------------------------------------------------

def _print(data: Roofline) -> None:
    out = console()
    out.print(f"{data.model} on {data.device}\n{data.workload}", markup=False)
    for line in plot(data):
        out.print(line, markup=False, no_wrap=True, overflow="crop")
    right = ("FLOP/B", "FLOP/s", "of its roof", "of step")
    out.print(as_table(COLUMNS, [row(p) for p in _by_phase(data)], right=right))
    ridges = ", ".join(f"{c}/{m} {i:.3g}" for c, m, i in data.ridges())
    out.print(f" ceilings {', '.join(f'{c.name} {rate_text(c.kind, c.rate)}' for c in data.ceilings)}", markup=False)
    out.print(f" ridges   {ridges} FLOP/B", markup=False)
    for phase, share in data.off.items():
        if share >= 0.0005:
            out.print(f" note     {100 * share:.1f} % of {phase} does no FLOPs (links) and is not shown", markup=False)


def _by_phase(data: Roofline) -> list[Point]:
    return sorted(data.points, key=lambda p: p.phase != "prefill")        # stable: the greatest share stays first


def row(p: Point) -> tuple[str, ...]:
    """One line of the op table."""
    return (p.key, p.phase, p.op, intensity_text(p), rate_text("compute", p.flop_per_s),
            f"{100 * p.share_of_roof:.3g} %", p.roof_name, f"{100 * p.share_of_step:.1f} %", p.bound, p.source)


def plot(data: Roofline, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """The roofline in characters, both axes logarithmic; letters are the keys of the table below it."""
    x0, x1, y0, y1 = data.window()
    left = 9
    cols = width - left - 2                              # a blank in front, and the axis

    def column(x: float) -> int:
        return round((math.log10(x) - x0) / (x1 - x0) * (cols - 1))

    def line(y: float) -> int:
        return round((y1 - math.log10(y)) / (y1 - y0) * (height - 1))

    grid = [[" "] * cols for _ in range(height)]
    at = [10 ** (x0 + (x1 - x0) * c / (cols - 1)) for c in range(cols)]
    _ceilings(grid, data, at, line)
    for p in reversed(data.points):                      # the greatest share last, so that it stays on top
        r, c = line(p.flop_per_s), column(p.intensity_flop_per_byte)
        if 0 <= r < height and 0 <= c < cols:
            grid[r][c] = p.key
    _names(grid, data, at, line)
    ticks = {line(10.0**e): rate_text("compute", 10.0**e).replace("FLOP/s", "").replace(" ", "") for e in
             range(math.ceil(y0), math.floor(y1) + 1)}
    lines = [f"{'FLOP/s':>{left}}"]
    lines += [f"{ticks.get(r, ''):>{left - 1}} {'┤' if r in ticks else '│'}{''.join(grid[r])}".rstrip()
              for r in range(height)]
    axis, text = ["─"] * cols, [" "] * (cols + 8)
    for e in range(math.ceil(x0), math.floor(x1) + 1):
        c = column(10.0**e)
        axis[c] = "┬"
        for i, ch in enumerate(f"{10.0**e:g}"):
            text[c + i] = ch
    lines.append(" " * left + "└" + "".join(axis))
    lines.append(" " * (left + 1) + "".join(text)[:cols - 7].rstrip() + "  FLOP/B")
    return [" " + x for x in lines]


def _ceilings(grid: list[list[str]], data: Roofline, at: list[float], line: Callable[[float], int]) -> None:
    """Slanted memory lines up to the fastest compute ceiling, flat compute lines from their first ridge on."""
    memory = data.of("memory")
    for m in memory:
        for c, i in enumerate(at):
            if i * m.rate <= data.of("compute")[0].rate and 0 <= line(i * m.rate) < len(grid):
                grid[line(i * m.rate)][c] = "·"
    for k in data.flat():
        for c, i in enumerate(at):
            if i * memory[0].rate >= k.rate:
                grid[line(k.rate)][c] = "─"


def _names(grid: list[list[str]], data: Roofline, at: list[float], line: Callable[[float], int]) -> None:
    """Names of the ceilings where they hide no point: at the right end of flat lines, half way up slanted ones."""
    cols, memory = len(at), data.of("memory")
    for k in data.flat():
        text, r = f" {k.name} {rate_text('compute', k.rate)} ", line(k.rate)
        spots = [(row, c) for row, free in ((r, "─"), (r + 1, " "), (r - 1, " ")) if 0 <= row < len(grid)
                 for c in range(cols - len(text) - 2, 0, -1) if set(grid[row][c:c + len(text)]) == {free}]
        if spots:
            _write(grid, *spots[0], text)
    for m in memory:
        cells = [(line(i * m.rate), c) for c, i in enumerate(at) if i * m.rate <= data.of("compute")[0].rate]
        middle = cells[len(cells) // 2][1]
        sides = (-len(m.name) - 3, 4) if m is memory[0] else (4, -len(m.name) - 3)
        for shift in sides:
            free = [(r, c + shift) for r, c in cells if 0 < r < len(grid) - 1 and c + shift > 0
                    and grid[r][c + shift - 1:c + shift + len(m.name) + 1] == [" "] * (len(m.name) + 2)]
            if free:
                _write(grid, *min(free, key=lambda rc: abs(rc[1] - middle)), m.name)
                break


def _write(grid: list[list[str]], r: int, c: int, text: str) -> None:
    for i, ch in enumerate(text):
        if 0 <= r < len(grid) and 0 <= c + i < len(grid[0]):
            grid[r][c + i] = ch
