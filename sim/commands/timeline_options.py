"""``--timeline`` and ``--figure``: a schedule as a file for a timeline viewer, and as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sim.commands.roofline import figures as drawing
from sim.output import note
from sim.timeline import Timeline, until
from sim.timeline_files import check_path, whole_file, write_timeline

F = TypeVar("F", bound=Callable[..., Any])
PICTURES = (".svg", ".png")


def timeline_options(function: F) -> F:
    path = click.Path(dir_okay=False, path_type=Path)
    for option in (click.option("--figure", type=path, metavar="FILE", help="Draw the last step: .svg or .png."),
                   click.option("--timeline", type=path, metavar="FILE",
                                help="Write .pftrace (Perfetto), or .json / .json.gz (Chrome); open it at ui.perfetto.dev.")):
        function = option(function)
    return function


def check_outputs(timeline: Path | None, figure: Path | None) -> None:
    """Raise, before anything is run, for what could not be written: ``ValueError``, or ``MissingExtra`` without the
    library that draws."""
    if timeline:
        check_path(timeline, "--timeline")
    if figure:
        check_path(figure, "--figure", PICTURES)
        drawing("sim.timeline_figure")


def write_outputs(data: Timeline, timeline: Path | None, figure: Path | None, title: str, subtitle: str) -> None:
    """Write what is asked for, each file whole or not at all."""
    if timeline:
        write_timeline(data, timeline)
        note(f"timeline: {timeline}; open it at ui.perfetto.dev")
    if figure:
        since, end = until(data)
        module = drawing("sim.timeline_figure")
        draw = module.timeline_svg if figure.suffix.lower() == ".svg" else module.timeline_png
        with whole_file(figure) as file:
            file.write(draw(data, since, end, title, subtitle))
        note(f"figure: {figure}")
