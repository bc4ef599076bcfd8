"""``perfboard sweep study``: bundled studies, run and concluded."""

from __future__ import annotations

from pathlib import Path

import click

from sim.commands.sweep_place import current
from sim.output import note, print_json, print_rows
from sim.sweep.executors import Here, Pool, cores
from sim.sweep.page import sweep_page
from sim.sweep.run import Run, read
from sim.sweep.study import STUDIES, text_of
from sim.sweep.view import view


@click.command()
@click.argument("name", required=False, default="")
@click.option("-o", "--out", default="", metavar="DIR", help="Folder of store, page and conclusion; default: run/NAME.")
@click.option("-j", "--jobs", type=click.IntRange(min=1), default=None, metavar="N",
              help="Processes of an event-simulated study; by default one a core.")
@click.option("--format", "fmt", type=click.Choice(("table", "json")), default="table", show_default=True)
def study(name: str, out: str, jobs: int | None, fmt: str) -> int:
    """Run a bundled study and write its conclusion; without NAME, list them. What is finished is not computed again.

    \b
    perfboard sweep study                      # which there are
    perfboard sweep study hbm_stacks           # into run/hbm_stacks: store, sweep.html, conclusion.md
    """
    if not name:
        print_rows(("study", "question"), [(k, s.title) for k, s in STUDIES.items()], fmt)
        return 0
    folder = Path(out or f"run/{name}")
    text = text_of(name)
    made = read(text, f"{name}.toml")
    simulated = made.experiment.sweep.evaluator != "closed"
    workers = Pool(jobs or cores()) if simulated and (jobs or cores()) > 1 else Here()
    with Run(made, text, folder / "sweep.sqlite") as work:
        progress = work.go(workers)
        stamps = current(made, work.store)
        rows = work.store.load(stamps=stamps, status="ok")
        shown = view(made, work.store, stamps)
    said = STUDIES[name].conclude(rows)
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    (folder / "sweep.html").write_text(sweep_page(shown), encoding="utf-8")
    points = [*said, *(f"Assumed: {text}" for text in shown.rests_on)]
    lines = [f"# {STUDIES[name].title}", "", shown.said(), "", *(f"- {text}" for text in points)]
    (folder / "conclusion.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if fmt == "json":
        print_json({"study": name, "title": STUDIES[name].title, "points": progress.total, "conclusion": said})
    else:
        click.echo(STUDIES[name].title)
        for sentence in said:
            click.echo(f" - {sentence}")
    note(f"{progress.total:,} points ({progress.done:,} new, {progress.rate:,.0f} pts/s); page and conclusion in {folder}/")
    return 0
