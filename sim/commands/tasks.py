"""``perfboard tasks``: a task graph of one's own, simulated - schedule, bounds, critical path, resources, timeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from sim.blame import blame
from sim.closed_form import bounds, critical_path, earliest
from sim.commands.timeline_options import check_outputs, timeline_options, write_outputs
from sim.kernel import Run, run
from sim.output import as_table, console, format_option, note, print_json, print_rows, show
from sim.schedule_text import Progress, uses_data, uses_table, waits_table
from sim.task_file import read_tasks
from sim.tasks import PS, TaskGraph
from sim.timeline import timeline as timeline_of
from sim.trace_figures import uses


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@timeline_options
@format_option
def tasks(file: Path, timeline: Path | None, figure: Path | None, fmt: str) -> int:
    """Simulate a task graph: engines that tasks hold, memories and links that they share, buffers that they fill.

    FILE is JSON with resources and tasks (perfboard schema tasks). Formats csv and md give the schedule, task by task.

    \b
    perfboard tasks graph.json --timeline graph.pftrace
    """
    check_outputs(timeline, figure)
    graph = read_tasks(file)
    progress = Progress(("tasks",))
    try:
        done = run(graph, record=bool(timeline or figure), progress=progress)
    finally:
        progress.close()
    ended = int((done.end >= 0).sum())
    if (timeline or figure) and ended:
        write_outputs(timeline_of(graph, done), timeline, figure, file.name, f"{ended} tasks")
    if fmt == "json":
        print_json(_data(graph, done))
    elif fmt == "table":
        _show(file, graph, done)
    else:
        print_rows(("task", "ready_s", "start_s", "end_s"), _rows(graph, done), fmt)
    if not done.done:
        note(f"interrupted: {ended:,} of {len(graph.tasks):,} tasks had ended")
        return 130
    return 0


def _rows(graph: TaskGraph, done: Run) -> list[tuple[str, float, float, float]]:
    times = zip(*(np.asarray(x) / PS for x in (done.ready, done.start, done.end)), strict=True)
    return [(task.name, *map(float, t)) for task, t in zip(graph.tasks, times, strict=True) if t[2] >= 0]  # type: ignore[misc]


def _data(graph: TaskGraph, done: Run) -> dict[str, Any]:
    low, serial = bounds(graph)
    return {
        "schema": "perfboard/schedule/1",
        "makespan_s": done.makespan_ps / PS,
        "closed_form": {"without_contention_s": int(earliest(graph)[1].max()) / PS, "lower_bound_s": low / PS,
                        "serial_s": serial / PS, "critical_path": [graph.tasks[i].name for i in critical_path(graph)[1]]},
        "chain_s": [{"resource": a, "why": b, "time_s": t} for (a, b), t in blame(graph, done).items()],
        "resources": uses_data(uses(graph, done, 0, 1)),
        "tasks": [dict(zip(("name", "ready_s", "start_s", "end_s"), row, strict=True)) for row in _rows(graph, done)],
        "complete": done.done,
    }


def _show(file: Path, graph: TaskGraph, done: Run) -> None:
    out = console()
    low, serial = bounds(graph)
    out.print(f"{file.name} · {len(graph.tasks)} tasks on {len(graph.resources)} resources", markup=False)
    out.print(as_table(("all tasks", "time", ""), [
        ("simulated", show(done.makespan_ps / PS, "s"), "to the last end"),
        ("nothing contends", show(int(earliest(graph)[1].max()) / PS, "s"), "each task as soon as those before it have ended"),
        ("busiest or longest", show(low / PS, "s"), "bound: the longest path, or the work of one resource"),
        ("one after another", show(serial / PS, "s"), "bound: no overlap at all")], right=("time",)))
    out.print(waits_table(blame(graph, done), "the run"))
    out.print(uses_table(uses(graph, done, 0, 1), "the run"))
    out.print(" try      --timeline graph.pftrace · --figure graph.svg · --format csv (every task)", markup=False)
