"""``perfboard whatif``: one model on one system - how fast, how hungry, how dear, why, and what would change it."""

from __future__ import annotations

import math
from typing import Any

import click

from accel_models.families import other_way
from accel_models.quantity import format_quantity
from accel_models.units import KINDS
from sim.answer import Answer, answer
from sim.area import area_mm2
from sim.commands.options import changes, hardware_names, query_from, query_options
from sim.fit_memory import smallest_change
from sim.output import FIGURES, as_csv, as_markdown, as_table, console, delta, format_option, note, print_json, show
from sim.query import Query, resolve
from sim.roofline import Ceiling, ceiling
from workloads.formats import get_format
from workloads.ops import Gemm, Moe

#: Formats of weights and activations to recommend to who asked for some that the arrays do not take.
_WEIGHTS, _ACTIVATIONS = ("int4_g128", "pot3", "int2_g128", "int8"), ("int8", "fp16", "int4")
DETAILS = ("summary", "memory", "ops", "energy", "source", "all")

@click.command()
@query_options
@click.option("--vs", "versus", multiple=True, metavar="'KEY=VALUE ...'",
              help="Compare with the same question changed: --vs 'hw=b200_sxm quant=fp8'. Repeatable.")
@click.option("--detail", type=click.Choice(DETAILS), default="summary", show_default=True, help="How much to show.")
@click.option("--show-config", is_flag=True, help="Print every value with its origin (flag, environment, built-in), and stop.")
@format_option
@click.pass_context
def whatif(ctx: click.Context, /, versus: tuple[str, ...], detail: str, show_config: bool, fmt: str, **values: Any) -> int:
    """One model on one system: memory, TTFT, TPOT, throughput, energy, cost, what limits it, what would help.

    \b
    perfboard whatif -m llama-3.1-8b --hw h200_sxm --bs 64 --isl 2048 --osl 512
    perfboard whatif -m llama-3.1-70b --hw h100_sxm,b200_sxm --tp 4 --quant fp8
    perfboard whatif -m mixtral-8x7b-v0.1 --hw h200_sxm --vs 'memory.hbm.bandwidth=9.6TB/s' --vs quant=w4a16
    """
    if show_config:
        return _show_config(ctx, fmt)
    queries = [query_from(values, name) for name in hardware_names(values["hw"])]
    for text in versus:
        queries.append(queries[0].changed(changes(text)))
    answers = [answer(resolve(q)) for q in queries]
    if fmt == "json":
        print_json(answers[0].data if len(answers) == 1 else [a.data for a in answers])
    elif len(answers) == 1:
        _one(answers[0], detail, fmt)
    else:
        _several(answers, fmt)
    misfits = [a for a in answers if not a.fits]
    for a in misfits:
        note(f"does not fit: {a.setting.device.name}: {smallest_change(a.setting)}")
    return 1 if misfits else 0


def _show_config(ctx: click.Context, fmt: str) -> int:
    origin = {"COMMANDLINE": "flag", "ENVIRONMENT": "environment", "DEFAULT": "built-in", "DEFAULT_MAP": "file"}
    rows = []
    for name, value in ctx.params.items():
        source = ctx.get_parameter_source(name)
        rows.append((name, str(value), origin.get(source.name if source else "DEFAULT", "built-in")))
    if fmt == "json":
        print_json({n: {"value": v, "origin": o} for n, v, o in rows})
    else:
        _emit(("value", "is", "origin"), rows, fmt)
    return 0


# -- one answer -------------------------------------------------------------------------------------------------------

def _one(a: Answer, detail: str, fmt: str) -> None:
    if fmt != "table":
        _emit(("metric", "value", "lo", "hi"), [(k, m["value"], m["lo"], m["hi"]) for k, m in a.data["metrics"].items()], fmt)
        return
    out = console()
    out.print(_headline(a), markup=False)
    out.print(_memory_line(a), markup=False)
    out.print(as_table(("figure", "estimate", "80 % interval", "limit (SOL)", "reached", "limited by"), _figures(a),
                       right=("estimate", "limit (SOL)", "reached")))
    for phase in a.data["time_by_class_s"]:
        out.print(as_table(("op class", "time", "share", "compute", "memory", "link", "launch", "tail", "parameters"),
                           _classes(a, phase), title=f"Where the time of {_step_name(a, phase)} goes",
                           right=("time", "share", "compute", "memory", "link", "launch", "tail")))
    if helped := _elasticities(a):
        out.print(as_table(("+1 % of", *a.data["elasticity"]), helped, title="What would help (change of the step's time)",
                           right=tuple(a.data["elasticity"])))
    if detail in ("memory", "all"):
        out.print(as_table(("memory", "bytes", ""), _memory_rows(a), right=("bytes",), title="Memory per device"))
    if detail in ("ops", "all"):
        out.print(as_table(("phase", "op", "count", "time", "bound", "source"), _ops(a), right=("count", "time"),
                           title="Operations"))
    if detail in ("energy", "all"):
        out.print(as_table(("energy", "value"), _energy(a), right=("value",), title="Energy"))
    if detail in ("source", "all"):
        out.print(as_table(("rests on", "because"), _assumptions(a), title="Assumed or transferred"))
    else:
        out.print(_assumed_line(a), markup=False)
    for kind, text in a.data["units"].items():
        out.print(f" {kind:<12} {text}", markup=False)
    for text in a.data["notes"]:
        out.print(f" note     {text}", markup=False)
    out.print(f" try      {_taken(a)}--detail ops|memory|energy|source|all · --set memory.main.bandwidth=6TB/s · "
              "--vs quant=w4a16 · perfboard roofline", markup=False)


def _taken(a: Answer) -> str:
    """A ``--quant`` whose products the arrays of an accelerator take, where they do not take those asked for."""
    device, hw = a.setting.device, a.estimate.hardware
    if device.matrix is None or device.matrix.kind not in KINDS or device.kind == "gpu":
        return ""
    asked = {(op.a, op.w) for op in a.estimate.prefill.ops if isinstance(op, Gemm | Moe) and get_format(op.w).bits < 16}
    left = [w for x, w in asked if not other_way(get_format(x), get_format(w), hw)[0] > 0]
    fitting = (f"{w}/{x}" for w in (*left, *_WEIGHTS) for x in _ACTIVATIONS
               if left and other_way(get_format(x), get_format(w), hw)[0] > 0)
    found = next(fitting, "")
    return f"--quant {found} (its arrays multiply that) · " if found else ""


def _headline(a: Answer) -> str:
    m, q, d = a.data["model"], a.setting.query, a.setting.device
    active = f" ({m['n_active_params'] / 1e9:.3g} B active)" if m["n_active_params"] != m["n_params"] else ""
    fmt = q.quant or m["weights"]
    roof = _roof(a)
    return (f"{m['name']} · {fmt} · {m['n_params'] / 1e9:.3g} B params{active}   on   {a.setting.system.name} · "
            f"{a.setting.parallel.label()} · {format_quantity(float(a.estimate.hardware.dram_bandwidth[0]), 'bytes/s')} · "
            f"{_rate(roof)} {roof.name} dense · "
            f"{a.data['memory_bytes']['capacity'] / 2**30:.1f} GiB\n"
            f" batch {q.batch} · prompt {q.isl} · output {q.osl}" + (f" · prefix {q.prefix}" if q.prefix else "")
            + "".join(f" · {k}={v}" for k, v in q.sets) + f"   ({d.title})")


def _roof(a: Answer) -> Ceiling:
    """What most of the prefill's operations run at."""
    flops: dict[Ceiling, float] = {}
    for op, row in zip(a.estimate.prefill.ops, a.data["ops"], strict=False):
        if getattr(op, "a", ""):
            roof = ceiling(op, a.estimate.hardware)
            flops[roof] = flops.get(roof, 0.0) + row["flops"] * row["count"]
    return max(flops, key=lambda f: flops[f], default=Ceiling("bf16", "compute", a.estimate.hardware.rate_table["bf16"][0]))


def _rate(roof: Ceiling) -> str:
    text = format_quantity(roof.rate, "ops/s")
    return text if roof.name.startswith("int") else text.replace("OP/s", "FLOP/s")


def _memory_line(a: Answer) -> str:
    m = a.data["memory_bytes"]
    g = {k: f"{v / 2**30:.2f} GiB" for k, v in m.items() if k != "fits"}
    per_token = m["kv_per_sequence"] / (a.setting.query.isl + a.setting.query.osl)
    fits = "fits" if m["fits"] else "DOES NOT FIT"
    room = "" if math.isnan(m["max_concurrency"]) else f" · max concurrency {m['max_concurrency']:.0f}"
    return (f" memory   weights {g['weights']} · KV {g['kv']} ({per_token / 1024:.4g} KiB/token)"
            f" · activations {g['activations']} · runtime {g['runtime']} · used {g['used']} of "
            f"{m['capacity'] / 2**30:.1f}: {fits}{room}")


def _figures(a: Answer) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key, metric in a.data["metrics"].items():
        if key not in FIGURES or metric["value"] is None or math.isnan(metric["value"]):
            continue
        label, dimension = FIGURES[key]
        span = f"{show(metric['lo'], dimension)} .. {show(metric['hi'], dimension)}" if metric["lo"] is not None else ""
        phase = {"ttft_s": "prefill", "tpot_s": "decode"}.get(key)
        limit = a.data["limits"].get(phase) if phase else None
        rows.append((label, show(metric["value"], dimension), span, show(limit["sol_s"], "s") if limit else "",
                     f"{100 * limit['sol_share']:.0f} %" if limit else "", _why(a, phase, limit) if limit and phase else ""))
    if a.data["units"] and (area := area_mm2(a)):
        rows.append(("area", show(area[0], "mm2"), f"{show(area[1], 'mm2')} .. {show(area[2], 'mm2')}", "", "", ""))
    return rows


def _why(a: Answer, phase: str, limit: dict[str, Any]) -> str:
    work = f"{limit['flops'] / 1e12:.3g} TFLOP" if phase == "prefill" else f"{limit['bytes'] / 1e9:.2f} GB per step"
    ridge = _roof(a).rate / a.estimate.hardware.dram_bandwidth[0]
    return (f"{_largest(a, phase)}   ({work}; intensity {limit['intensity_flop_per_byte']:.0f}, "
            f"ridge {ridge:.0f} FLOP/B)")


def _largest(a: Answer, phase: str) -> str:
    total: dict[str, float] = {}
    for row in a.data["time_by_class_s"][phase].values():
        for r, t in row.items():
            total[r] = total.get(r, 0.0) + t
    return max(total, key=lambda r: total[r])


def _step_name(a: Answer, phase: str) -> str:
    q = a.setting.query
    if a.estimate.decode is None:
        return f"one pass ({_many(q.batch, 'input')} of {q.isl} tokens)"
    return f"prefill (one prompt of {q.isl} tokens)" if phase == "prefill" else \
        f"one decode step ({_many(q.batch, 'sequence')} at {q.isl + q.osl // 2} tokens)"


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _classes(a: Answer, phase: str) -> list[tuple[str, ...]]:
    table = a.data["time_by_class_s"][phase]
    whole = sum(sum(row.values()) for row in table.values())
    rows = []
    for name, row in sorted(table.items(), key=lambda kv: -sum(kv[1].values())):
        t = sum(row.values())
        rows.append((name, show(t, "s"), f"{100 * t / whole:.1f} %",
                     *(f"{100 * v / whole:.1f}" if v > 0.0005 * whole else "" for v in row.values()),
                     a.data["sources"][phase][name]))
    return rows


def _elasticities(a: Answer) -> list[tuple[str, ...]]:
    table = a.data["elasticity"]
    keys = {k for phase in table.values() for k, v in phase.items() if abs(v) >= 0.005}
    order = sorted(keys, key=lambda k: min(phase.get(k, 0.0) for phase in table.values()))
    return [(k, *(f"{phase.get(k, 0.0):+.2f} %" for phase in table.values())) for k in order]


def _memory_rows(a: Answer) -> list[tuple[str, ...]]:
    return [(k, f"{v:.0f}" if k == "max_concurrency" else f"{v:,.0f}", "" if k == "max_concurrency" else f"{v / 2**30:.2f} GiB")
            for k, v in a.data["memory_bytes"].items() if k != "fits"]


def _ops(a: Answer) -> list[tuple[str, ...]]:
    return [(op["phase"], op["name"], f"{op['count']:g}", show(op["time_s"], "s"), op["bound"], op["source"])
            for op in a.data["ops"]]


def _energy(a: Answer) -> list[tuple[str, str]]:
    names = {"j_per_output_token": "J", "avg_power_w": "W", "prefill_power_w": "W", "decode_power_w": "W"}
    return [(k, show(a.data["metrics"][k]["value"], u)) for k, u in names.items() if k in a.data["metrics"]]


def _assumptions(a: Answer) -> list[tuple[str, str]]:
    known = a.setting.device.quantities()
    rows = [(k, (known[k].note or known[k].source) if k in known else "not in the device file") for k in a.data["assumed"]]
    rows += [(f"{c} ({phase})", f"parameters {s}") for phase, table in a.data["sources"].items()
             for c, s in table.items() if s != "fitted"]
    return rows


def _assumed_line(a: Answer) -> str:
    borrowed = sorted({f"{c} {s}" for table in a.data["sources"].values() for c, s in table.items() if s != "fitted"})
    rests = [*a.data["assumed"], *borrowed]
    return f" rests on assumed values: {', '.join(rests) or 'none'}"


# -- several ----------------------------------------------------------------------------------------------------------

def _several(answers: list[Answer], fmt: str) -> None:
    names = [_short(a, answers[0]) for a in answers]
    rows = []
    for key, (label, dimension) in FIGURES.items():
        values = [a.data["metrics"].get(key, {}).get("value") for a in answers]
        if all(v is None or math.isnan(v) for v in values):
            continue
        base = values[0]
        rows.append((label, *(delta(v, base, dimension, i) for i, v in enumerate(values))))
    memory = [a.data["memory_bytes"] for a in answers]
    rows.append(("memory used / device", *(f"{m['used'] / 2**30:.1f} of {m['capacity'] / 2**30:.1f} GiB" for m in memory)))
    rows.append(("fits", *("yes" if m["fits"] else "NO" for m in memory)))
    for phase in answers[0].data["limits"]:
        rows.append((f"{phase}: limited by", *(_largest(a, phase) if phase in a.data["limits"] else "" for a in answers)))
        rows.append((f"{phase}: share of SOL", *(f"{100 * a.data['limits'][phase]['sol_share']:.0f} %"
                                                 if phase in a.data["limits"] else "" for a in answers)))
        rows.append((f"{phase}: what moved", *(_moved(a, answers[0], phase) for a in answers)))
    if any(a.data["units"] for a in answers):
        areas = [x[0] if (x := area_mm2(a)) else None for a in answers]
        rows.append(("area", *(delta(v, areas[0], "mm2", i) for i, v in enumerate(areas))))
    _emit(("", *names), rows, fmt)
    if fmt == "table":
        for kind in ("proven", "synthesised", "modelled", "assumed"):
            said = ([a.data["units"][kind]] if kind in a.data["units"] else [] for a in answers)
            _each(kind, list(zip(names, said, strict=True)))
        _each("note", [(n, a.data["notes"]) for n, a in zip(names, answers, strict=True)])


def _each(kind: str, texts: list[tuple[str, list[str]]]) -> None:
    """What is said of each of several answers, once where it is said of all."""
    out = console()
    for text in dict.fromkeys(t for _, said in texts for t in said):
        of = [name for name, said in texts if text in said]
        out.print(f" {kind:<12} {'' if len(of) == len(texts) else ', '.join(of) + ': '}{text}", markup=False)


def _short(a: Answer, base: Answer) -> str:
    q, b = a.setting.query, base.setting.query
    parts = [a.setting.system.name]
    parts += [f"{f}={getattr(q, f)}" for f in Query.__dataclass_fields__
              if f not in ("hw", "sets") and a is not base and getattr(q, f) != getattr(b, f)]
    parts += [f"{k}={v}" for k, v in q.sets if (k, v) not in b.sets]
    return " ".join(parts)


def _moved(a: Answer, base: Answer, phase: str) -> str:
    """The two op classes whose time changed most, in percent of the base's step."""
    if a is base or phase not in a.data["time_by_class_s"]:
        return ""
    new, old = ({c: sum(r.values()) for c, r in x.data["time_by_class_s"][phase].items()} for x in (a, base))
    whole = sum(old.values())
    change = {c: (new.get(c, 0.0) - old.get(c, 0.0)) / whole for c in {*new, *old}}
    top = sorted(change, key=lambda c: -abs(change[c]))[:2]
    return ", ".join(f"{c} {100 * change[c]:+.0f} %" for c in top if abs(change[c]) >= 0.005) or "nothing"


def _emit(columns: tuple[str, ...], rows: list[Any], fmt: str) -> None:
    if fmt == "csv":
        click.echo(as_csv(columns, rows), nl=False)
    elif fmt == "md":
        click.echo(as_markdown(columns, rows))
    else:
        console().print(as_table(columns, rows))
