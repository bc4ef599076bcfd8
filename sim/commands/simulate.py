"""``perfboard simulate``: a step as events on a board - what runs where, what waits for what, and what a timeline shows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from sim.commands.options import hardware_names, query_from, query_options
from sim.output import FIGURES, as_csv, as_markdown, as_table, console, format_option, note, print_json, print_rows, show
from sim.plan.block import DoesNotFitError
from sim.simulate import Simulated
from sim.simulate import simulate as run_simulation
from sim.tasks import PS
from sim.techniques import TECHNIQUES
from sim.techniques.technique import Technique, parse
from sim.timeline import write_timeline
from sim.trace_figures import Figures, figures

#: Figures of simulations beside those of ``whatif``.
_FIGURES = FIGURES | {"tokens_per_s": ("tokens/s", ""), "prompt_tokens_per_s": ("prompt tokens/s", ""),
                      "avg_power_w": ("power of the board", "W")}


def _list_techniques(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        rows = [(n, t.stage, _settings(t), (t.__doc__ or "").split("\n")[0]) for n, t in sorted(TECHNIQUES.items())]
        print_rows(("technique", "stage", "settings (= default)", "what it does"), rows, "table")
        ctx.exit(0)


def _settings(technique: type[Technique]) -> str:
    return ", ".join(name if f.is_required() else f"{name}={f.default}" for name, f in technique.model_fields.items())


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
@click.option("--timeline", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write .pftrace (Perfetto), or .json / .json.gz (Chrome); open it at ui.perfetto.dev.")
@format_option
def simulate(techniques: tuple[str, ...], phase: str, steps: int, seed: int, level: Any, timeline: Path | None, fmt: str,
             **values: Any) -> int:
    """Event simulation of a step: engines, memories and links as tasks that contend and overlap, with a timeline.

    \b
    perfboard simulate -m llama-2-13b --hw pc_high --isl 128 -t offload:via=stream --timeline step.pftrace
    perfboard simulate -m llama-2-13b --hw pc_high --isl 128 -t offload:via=there
    """
    names = hardware_names(values["hw"])
    if len(names) > 1:
        raise ValueError(f"--hw: simulate takes one system, found {len(names)}: {', '.join(names)}")
    chosen = [parse(text, TECHNIQUES) for text in techniques]
    begun = time.perf_counter()
    try:
        result = run_simulation(query_from(values, names[0]), chosen, phase=phase, steps=steps, seed=seed, detail=level,
                                record=timeline is not None, progress=_progress(begun))
    except DoesNotFitError as error:
        note(f"does not fit: {error}")
        return 1
    found = figures(result)
    if timeline:
        write_timeline(result, timeline)
        note(f"timeline: {timeline} ({len(result.lowered.graph.tasks)} tasks); open it at ui.perfetto.dev")
    if fmt == "json":
        print_json(_data(result, found))
    elif fmt == "table":
        _show(result, found)
    else:
        rows = [(k, v, *result.intervals.get(k, (None, None))) for k, v in result.metrics.items()]
        click.echo(as_csv(("metric", "value", "lo", "hi"), rows) if fmt == "csv"
                   else as_markdown(("metric", "value", "lo", "hi"), rows), nl=fmt != "csv")
    if not result.run.done:
        note("interrupted: the figures are of what had ended")
        return 130
    return 0


def _progress(begun: float) -> Any:
    """Progress on stderr once a run has taken two seconds."""
    def show_progress(ended: int, total: int) -> None:
        spent = time.perf_counter() - begun
        if spent > 2.0:
            click.echo(f"\r {ended:,}/{total:,} tasks  {100 * ended / total:.0f} %  {ended / spent:,.0f} tasks/s", err=True,
                       nl=ended == total)
    return show_progress


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
        "utilisation": f.used,
        "chain_s": [{"resource": a, "why": b, "time_s": t} for (a, b), t in f.chain.items()],
        "tasks": len(r.lowered.graph.tasks),
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
        out.print(f" {tier:8} {parts or 'less than 0.01'} GiB of {room / 2**30:.1f}", markup=False)
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
    total = sum(f.chain.values()) or 1.0
    out.print(as_table(("waited for", "because of", "time", "share"), [
        (a, b, show(t, "s"), f"{100 * t / total:.1f} %") for (a, b), t in sorted(f.chain.items(), key=lambda x: -x[1])
        if t > total / 1000], right=("time", "share"), title="What the end of a step waited for"))
    out.print(as_table(("resource", "in use", "idle"), [
        (name, f"{100 * u:.1f} %", f"{100 * max(1 - u, 0):.1f} %") for name, u in f.used.items() if u > 5e-4],
        right=("in use", "idle"), title="Resources"))
    out.print(" try      --timeline step.pftrace · --level op · --phase prefill · perfboard simulate --techniques",
              markup=False)

