"""``perfboard report``: one HTML file with everything about one question, or several side by side; opens offline."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from sim.answer import Answer, answer
from sim.commands.options import changes, hardware_names, query_from, query_options
from sim.commands.roofline import figures
from sim.curves import batch_curve
from sim.fit_memory import smallest_change
from sim.output import note
from sim.page import page
from sim.query import Query, resolve
from sim.roofline import roofline
from sim.sections import Part, article, comparison, short_name

#: Option of each field of a query, for the command that makes the page again.
_OPTIONS = {"batch": "--bs", "isl": "--isl", "osl": "--osl", "prefix": "--prefix", "quant": "--quant",
            "gemm_quant": "--gemm-quant-mode", "moe_quant": "--moe-quant-mode", "kv_quant": "--kvcache-quant-mode",
            "fmha_quant": "--fmha-quant-mode", "tp": "--tp", "pp": "--pp", "dp": "--dp", "ep": "--ep", "etp": "--etp",
            "utilization": "--gpu-memory-utilization", "framework": "--framework"}


@click.command()
@query_options
@click.option("--vs", "versus", multiple=True, metavar="'KEY=VALUE ...'",
              help="And the same question changed: --vs 'hw=b200_sxm quant=fp8'. Repeatable.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="File to write [default: MODEL-DEVICE.html].")
def report(versus: tuple[str, ...], output: Path | None, **values: Any) -> int:
    """Figures with intervals, memory, time, roofline, what would help, batch curves, operations, sources: one file.

    \b
    perfboard report -m llama-3.1-8b --hw h200_sxm --bs 64 --isl 2048 --osl 512 -o report.html
    perfboard report -m llama-3.1-70b --hw h100_sxm,b200_sxm --tp 4 --vs quant=fp8
    """
    if output and output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"-o {output}: ending {output.suffix or 'missing'}, expected .html")
    figures()                                    # refuses early where drawing is not possible
    queries = [query_from(values, name) for name in hardware_names(values["hw"])]
    for text in versus:
        queries.append(queries[0].changed(changes(text)))
    answers = [answer(resolve(q)) for q in queries]
    path = output or Path(f"{_slug(answers[0].setting.spec.name)}-{_slug(answers[0].setting.system.name)}.html")
    path.write_text(build(answers, command_line(queries[0], values["hw"], versus)), encoding="utf-8")
    note(f"wrote {path}")
    misfits = [a for a in answers if not a.fits]
    for a in misfits:
        note(f"does not fit: {a.setting.device.name}: {smallest_change(a.setting)}")
    return 1 if misfits else 0


def build(answers: list[Answer], command: str) -> str:
    """The page on one answer, or a comparison followed by a page part on each."""
    parts = [_part(a, answers[0]) for a in answers]
    curves = [p.curve for p in parts if p.curve]
    devices = dict.fromkeys(a.setting.device.title for a in answers)
    title = f"{answers[0].setting.spec.name} on {', '.join(devices)}"
    articles = [article(p) for p in parts]
    if len(parts) == 1:
        body = articles[0]
    else:
        overlay = figures().batch_svg(curves, None) if curves else ""
        body = comparison(parts, overlay) + "".join(f"<article>{text}</article>" for text in articles)
    return page(title, body + _provenance(answers, command))


def _part(a: Answer, base: Answer) -> Part:
    draw, name, roof = figures(), short_name(a, base), roofline(a)
    curve = batch_curve(a.setting, name, a.data["memory_bytes"]["max_concurrency"])
    svg = draw.batch_svg([curve], float(a.setting.query.batch)) if curve else ""
    return Part(name, a, roof, draw.roofline_svg(roof, inline=True), curve, svg)


def _provenance(answers: list[Answer], command: str) -> str:
    files = ", ".join(dict.fromkeys(a.setting.device.name for a in answers))
    models = ", ".join(dict.fromkeys(a.setting.spec.source or a.setting.spec.name for a in answers))
    return (f'<footer class="muted"><p>perfboard {escape(version("perfboard"))} · {datetime.now(UTC):%Y-%m-%d} · '
            f"devices {escape(files)} · model {escape(models)}</p><p><code>{escape(command)}</code></p></footer>")


def command_line(query: Query, hw: str, versus: tuple[str, ...]) -> str:
    """The command that makes the page again; options at their defaults are left out."""
    plain = Query(model="", hw="")
    words = ["perfboard", "report", "-m", query.model, "--hw", hw]
    for name, option in _OPTIONS.items():
        if getattr(query, name) != getattr(plain, name):
            words += [option, str(getattr(query, name))]
    words += [w for k, v in query.sets for w in ("--set", f"{k}={v}")]
    words += [w for text in versus for w in ("--vs", text)]
    return shlex.join(words)


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text.rpartition("/")[2]).strip("-")
