"""``perfboard simulate``: a step as events on a board - what runs where, what waits for what, and what a timeline shows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from sim.commands.options import hardware_names, query_from, query_options
from sim.commands.timeline_options import check_outputs, timeline_options, write_outputs
from sim.output import FIGURES, as_csv, as_markdown, as_table, console, format_option, note, print_json, print_rows, show
from sim.plan.block import DoesNotFitError
from sim.schedule_text import Progress, uses_data, uses_table, waits_table
from sim.simulate import Simulated
from sim.simulate import simulate as run_simulation
from sim.tasks import PS
from sim.techniques import TECHNIQUES
from sim.techniques.technique import Technique, parse
from sim.timeline import timeline as timeline_of
from sim.trace_figures import Figures, figures

#: Figures of simulations beside those of ``whatif``.
_FIGURES = FIGURES | {"tokens_per_s": ("tokens/s", ""), "prompt_tokens_per_s": ("prompt tokens/s", ""),
                      "avg_power_w": ("power of the board", "W")}


def _list_techniques(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        rows = [(n, t.stage, settings_of(t), summary_of(t))
                for n, t in sorted(TECHNIQUES.items())]
        print_rows(("technique", "stage", "settings (= default)", "what it does"), rows, "table")
        ctx.exit(0)


def summary_of(technique: type[Technique]) -> str:
    """The first sentence of what its class says."""
    return " ".join((technique.__doc__ or "").split("\n\n")[0].split()).replace("``", "`").partition(". ")[0].rstrip(".:")


def settings_of(technique: type[Technique]) -> str:
    return ", ".join(name if f.is_required() else f"{name}={'+'.join(f.default) if isinstance(f.default, tuple) else f.default}"
                     for name, f in technique.model_fields.items())


@click.command()
@query_options
@click.option("-t", "--technique", "techniques", multiple=True, metavar="NAME:KEY=VALUE,...",
              help="Change the plan: offload:via=stream, speculate:draft=...,length=4,accepted=2.8. Repeatable.")
@click.option("--techniques", "listed", is_flag=True, is_eager=True, expose_value=False, callback=_list_techniques,
              help="List all techniques with their settings, and stop.")
@click.option("--phase", type=click.Choice(["decode", "prefill"]), default="decode", show_default=True)
@click.option("--steps", type=click.IntRange(min=0), default=0,
              help="Decode steps (default 4; the first only fills pipelines).")
@click.option("--seed", type=int, default=0, show_default=True, help="Of traces that techniques draw.")
@click.option("--level", type=click.Choice(["block", "op"]), default="block", show_default=True,
              help="A task per half layer, or per operation.")
@timeline_options
@format_option
def simulate(techniques: tuple[str, ...], phase: str, steps: int, seed: int, level: Any, timeline: Path | None,
             figure: Path | None, fmt: str, **values: Any) -> int:
    """Event simulation of a step: engines, memories and links as tasks that contend and overlap, with a timeline.

    \b
    perfboard simulate -m llama-2-13b --hw pc_high --isl 128 -t offload:via=stream --timeline step.pftrace
    perfboard simulate -m llama-2-7b --hw pc_low --isl 128 \\
        -t offload:via=there,layers=20 -t offload:to=flash,layers=30 --figure step.svg
    """
    names = hardware_names(values["hw"])
    if len(names) > 1:
        raise ValueError(f"--hw: simulate takes one system, found {len(names)}: {', '.join(names)}")
    check_outputs(timeline, figure)
    chosen = [parse(text, TECHNIQUES) for text in techniques]
    progress = Progress(("plans", "tasks", "tasks at the interval's fast end", "tasks at its slow end"))
    try:
        result = run_simulation(query_from(values, names[0]), chosen, phase=phase, steps=steps, seed=seed, detail=level,
                                record=bool(timeline or figure), progress=progress)
    except DoesNotFitError as error:
        note(f"does not fit: {error}")
        return 1
    finally:
        progress.close()
    found = figures(result) if result.metrics else None
    graph, done = result.lowered.graph, result.run
    if (timeline or figure) and (done.end >= 0).any():
        plan = result.plans[0]
        write_outputs(timeline_of(graph, done, result.lowered.ends), timeline, figure,
                      f"{result.setting.spec.name} on {result.setting.system.name}",
                      f"{plan.phase}, batch {plan.batch:g}, {' → '.join(plan.history) or 'everything on the first engine'}")
    if found:
        _print(result, found, fmt)
    if not done.done:
        steps_done = sum(int(done.end[i]) >= 0 for i in result.lowered.ends)
        note(f"interrupted: {int((done.end >= 0).sum()):,} of {len(graph.tasks):,} tasks and {steps_done:,} of "
             f"{len(result.plans):,} steps had ended" + ("; the figures are of these steps" if found else ""))
        return 130
    if found and math.isnan(found.limit_s):
        note("interrupted: the physical limit is missing")
        return 130
    return 0


def _print(r: Simulated, f: Figures, fmt: str) -> None:
    if fmt == "json":
        print_json(_data(r, f))
    elif fmt == "table":
        _show(r, f)
    else:
        rows = [(k, v, *r.intervals.get(k, (None, None))) for k, v in r.metrics.items()]
        click.echo(as_csv(("metric", "value", "lo", "hi"), rows) if fmt == "csv"
                   else as_markdown(("metric", "value", "lo", "hi"), rows), nl=fmt != "csv")


def _data(r: Simulated, f: Figures) -> dict[str, Any]:
    q, plan = r.setting.query, r.plans[-1]
    return {
        "schema": "perfboard/simulation/1",
        "config": {"model": r.setting.spec.name, "hw": r.setting.system.name, "batch": q.batch, "isl": q.isl, "osl": q.osl,
                   "phase": plan.phase, "steps": len(r.plans), "seed": plan.seed, "techniques": list(plan.history)},
        "metrics": {k: {"value": v, "lo": r.intervals.get(k, (None, None))[0], "hi": r.intervals.get(k, (None, None))[1]}
                    for k, v in r.metrics.items()},
        "closed_form": {"without_contention_s": f.alone_s, "lower_bound_s": f.lower_s, "serial_s": f.serial_s,
                        "makespan_s": r.run.makespan_ps / PS},
        "limit_s": f.limit_s,
        "memory_bytes": plan.resident(),
        "resources": uses_data(f.resources),
        "chain_s": [{"resource": a, "why": b, "time_s": t} for (a, b), t in f.chain.items()],
        "tasks": len(r.lowered.graph.tasks),
        "complete": r.run.done,
    }


def _show(r: Simulated, f: Figures) -> None:
    q, plan, out = r.setting.query, r.plans[-1], console()
    steps = f"{len(r.plans)} step{'s' if len(r.plans) > 1 else ''}, {len(r.lowered.graph.tasks)} tasks"
    out.print(f"{r.setting.spec.name} on {r.setting.system.name} · {plan.phase} · batch {q.batch} · prompt {q.isl} · "
              f"output {q.osl} · {steps}", markup=False)
    out.print(f" plan     {' → '.join(plan.history) or 'everything on the first engine, in its memory'}", markup=False)
    for tier, kinds in plan.resident().items():
        room = r.board.tier(tier).capacity
        parts = " · ".join(f"{k} {v / 2**30:.2f}" for k, v in kinds.items() if v >= 2**20)
        out.print(f" {tier:8} {parts or 'less than 0.01'} GiB{f' of {room / 2**30:.1f}' if room == room else ''}", markup=False)
    rows = []
    for key, value in r.metrics.items():
        label, dimension = _FIGURES[key]
        span = [show(x, dimension) for x in r.intervals.get(key, ())]
        rows.append((label, show(value, dimension), " .. ".join(span)))
    out.print(as_table(("figure", "simulated", "80 % interval"), rows, right=("simulated",)))
    out.print(as_table(("one step", "time", ""), [
        ("simulated", show(r.step_s, "s"), ""),
        ("nothing contends", show(f.alone_s, "s"), "the same tasks, each as soon as what it needs is there"),
        ("busiest or longest", show(f.lower_s, "s"), "bound: the critical path, or the work of one resource"),
        ("one after another", show(f.serial_s, "s"), "bound: no overlap at all"),
        ("physical limit", show(f.limit_s, "s"), "every op and copy at its peak, in this plan")],
        right=("time",), title="Events and closed form"))
    out.print(waits_table(f.chain, "a step"))
    out.print(uses_table(f.resources, "a step"))
    for text in r.setting.notes:
        out.print(f" note     {text}", markup=False)
    out.print(" try      --timeline step.pftrace · --figure step.svg · --level op · --phase prefill · --techniques",
              markup=False)

