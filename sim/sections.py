"""Sections of the report on one answer, and on several side by side; a sentence under each chart says what it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from accel_models import fitted_store
from sim.answer import Answer
from sim.area import area_mm2
from sim.curves import TOP, Curve
from sim.fit_memory import smallest_change
from sim.output import FIGURES, delta, show
from sim.page import (
    Bar,
    Cell,
    Number,
    Raw,
    Segment,
    badge,
    bars,
    op_table,
    roofline_figure,
    says,
    stack,
    table,
    tornado,
)
from sim.palette import BLUE, CLASS_COLOURS, LINE_COLOURS, MEMORY_COLOURS, ORANGE, OTHER, RESOURCE_COLOURS
from sim.query import Query
from sim.roofline import Roofline, describe, plain
from workloads.ops import Collective

#: Phases that a figure is made of.
RESTS_ON = {"ttft_s": ("prefill",), "tpot_s": ("decode",), "tokens_per_s_per_user": ("decode",)}
CARDS = ("ttft_s", "tpot_s", "tokens_per_s_per_gpu", "j_per_output_token", "usd_per_m_output_tokens")
GIB = 2**30


@dataclass(frozen=True)
class Part:
    """One answer with what was drawn for it; ``batch_svg`` is empty where nothing fits or nothing is decoded."""

    name: str
    answer: Answer
    roof: Roofline
    roof_svg: str
    curve: Curve | None
    batch_svg: str


def article(p: Part) -> str:
    """Everything about one answer."""
    a = p.answer
    roof = f"<h2>Roofline</h2>{roofline_figure(p.roof, p.roof_svg)}"
    return "\n".join((headline(a), asked(a), figures(a), memory(a), times(a), roof,
                      helps(a), batch(p), operations(p), rests(a), notes(a)))


# -- what comes out ---------------------------------------------------------------------------------------------------

def headline(a: Answer) -> str:
    q, s, m = a.setting.query, a.setting.spec, a.data["metrics"]
    cards = "".join(_card(a, k) for k in CARDS if _known(m.get(k)))
    misfit = "" if a.fits else f'<p class="warn"><b>Does not fit.</b> {escape(smallest_change(a.setting))}.</p>'
    where = f"{q.tp * q.pp} x {a.setting.device.title}" if q.tp * q.pp > 1 else a.setting.device.title
    sizes = f"{s.n_params / 1e9:.3g} B parameters"
    sizes += f", {s.n_active_params / 1e9:.3g} B active" if s.n_active_params != s.n_params else ""
    return (f"<h1>{escape(s.name)} on {escape(where)}</h1><p class=muted>{escape(describe(a))} · {escape(sizes)}</p>"
            f'<p class="lead">{escape(_sentence(a))}</p>{misfit}<div class="cards">{cards}</div>')


def _sentence(a: Answer) -> str:
    q, m, lim = a.setting.query, a.data["metrics"], a.data["limits"]
    first = f"A prompt of {q.isl} tokens is read in {show(m['ttft_s']['value'], 's')}"
    if "tpot_s" not in m:
        return f"{first}, {100 * lim['prefill']['sol_share']:.0f} % of what the hardware could do at best."
    share = {phase: f"{100 * lim[phase]['sol_share']:.0f} %" for phase in lim}
    then = f"then each of {q.batch} sequences gets" if q.batch > 1 else "then comes"
    return (f"{first}; {then} a token every {show(m['tpot_s']['value'], 's')}, "
            f"{show(m['tokens_per_s_per_gpu']['value'], '')} tokens/s per device in all. The physical limit is "
            f"reached to {share['prefill']} in prefill and {share['decode']} in decode; most of a decode step is "
            f"limited by {_largest(a, 'decode')}.")


def _known(metric: dict[str, Any] | None) -> bool:
    return metric is not None and metric["value"] is not None and not math.isnan(metric["value"])


def _card(a: Answer, key: str) -> str:
    label, dimension = FIGURES[key]
    m = a.data["metrics"][key]
    span = f"80 %: {show(m['lo'], dimension)} to {show(m['hi'], dimension)}" if m["lo"] is not None else "no interval"
    return (f'<div class="card"><span>{escape(label)}</span><b>{escape(show(m["value"], dimension))}</b>'
            f"<span>{escape(span)}</span>{_badges(a, key)}</div>")


def _largest(a: Answer, phase: str) -> str:
    total = _by_resource(a, phase)
    return max(total, key=lambda r: total[r])


def _by_resource(a: Answer, phase: str) -> dict[str, float]:
    out: dict[str, float] = {}
    for row in a.data["time_by_class_s"][phase].values():
        for r, t in row.items():
            out[r] = out.get(r, 0.0) + t
    return out


def _badges(a: Answer, key: str) -> str:
    """Shares of the time behind a figure by where its parameters come from; for energy, of the energy cells."""
    if key in ("j_per_output_token", "avg_power_w"):
        return badge(_energy_source(a))
    q, m = a.setting.query, a.data["metrics"]
    phases = RESTS_ON.get(key) or tuple(a.data["limits"])
    weight = {"prefill": m["ttft_s"]["value"] * (1 if key == "e2el_s" else q.batch),
              "decode": (q.osl - 1) * m["tpot_s"]["value"] if "tpot_s" in m else 0.0}
    total: dict[str, float] = {}
    for phase in phases:
        rows = [r for r in a.data["ops"] if r["phase"] == phase]
        step = sum(r["time_s"] * r["count"] for r in rows)
        w = weight[phase] if len(phases) > 1 else 1.0
        for r in rows:
            total[r["source"]] = total.get(r["source"], 0.0) + w * r["time_s"] * r["count"] / step
    whole = sum(total.values()) or 1.0
    shown = {s: total[s] / whole for s in ("fitted", "transferred", "assumed") if total.get(s, 0.0) >= 0.005 * whole}
    return " ".join(badge(s, f"{100 * v:.0f} %" if len(shown) > 1 else "") for s, v in shown.items())


def _energy_source(a: Answer) -> str:
    """Where energy per operation and byte comes from; one set serves all formats (see ``accel_models.price``)."""
    device = a.setting.device
    try:
        return str(fitted_store.lookup("energy", "bf16", device.name, device.generation).source)
    except (KeyError, FileNotFoundError):
        return "assumed"


def figures(a: Answer) -> str:
    rows: list[list[Cell]] = []
    for key, (label, dimension) in FIGURES.items():
        m = a.data["metrics"].get(key)
        if not _known(m) or m is None:
            continue
        span = f"{show(m['lo'], dimension)} to {show(m['hi'], dimension)}" if m["lo"] is not None else ""
        phase = {"ttft_s": "prefill", "tpot_s": "decode"}.get(key, "")
        lim = a.data["limits"].get(phase)
        rows.append([label, show(m["value"], dimension), span, show(lim["sol_s"], "s") if lim else "",
                     f"{100 * lim['sol_share']:.0f} %" if lim else "", _why(lim) if lim else "", Raw(_badges(a, key))])
    if a.data["units"] and (area := area_mm2(a)):
        rows.append(["area", show(area[0], "mm2"), f"{show(area[1], 'mm2')} to {show(area[2], 'mm2')}", "", "", "", ""])
    columns = ("figure", "estimate", "80 % interval", "physical limit", "reached", "limit set by", "parameters")
    return ("<h2>Figures</h2>" + table(columns, rows, right=("estimate", "80 % interval", "physical limit", "reached"))
            + says("The physical limit (speed of light) runs every resource at its peak, perfectly overlapped, with "
                   "weights and cache moved exactly once. Badges say what share of the time behind a figure is "
                   "priced with parameters fitted on this device, transferred from others, or assumed."))


def _why(lim: dict[str, Any]) -> str:
    return (f"{lim['sol_bound']} ({lim['flops'] / 1e12:.3g} TFLOP, {lim['bytes'] / 1e9:.3g} GB, "
            f"{plain(lim['intensity_flop_per_byte'])} FLOP/B)")


# -- what was asked ---------------------------------------------------------------------------------------------------

def asked(a: Answer) -> str:
    c, q = a.data["config"], a.setting.query
    rows: list[list[Cell]] = [[k, str(v)] for k, v in c.items() if k != "set"]
    formats = ("gemm_quant", "moe_quant", "kv_quant", "fmha_quant")
    rows += [[f"{f} (number format)", getattr(q, f)] for f in formats if getattr(q, f)]
    rows += [["changed by --set", Raw(f"<code>{escape(k)} = {escape(v)}</code>")] for k, v in c["set"].items()]
    more = "".join(f" · <code>{escape(k)} = {escape(v)}</code>" for k, v in c["set"].items())
    return (f"<details><summary>What was asked: batch {q.batch}, prompt {q.isl}, output {q.osl} tokens{more}</summary>"
            f"{table(('input', 'value'), rows)}</details>")


# -- charts -----------------------------------------------------------------------------------------------------------

def memory(a: Answer) -> str:
    m = a.data["memory_bytes"]
    parts = [Segment(k, m[k] / GIB, f"{m[k] / GIB:.3g} GiB", MEMORY_COLOURS[k]) for k in MEMORY_COLOURS]
    whole = max(m["capacity"], m["used"]) / GIB
    per_token = m["kv_per_sequence"] / (a.setting.query.isl + a.setting.query.osl) / 1024
    fits = "It fits" if a.fits else "It does not fit"
    cache = "" if math.isnan(m["max_concurrency"]) else (
        f": the cache takes {per_token:.4g} KiB per token and {m['max_concurrency']:.0f} sequences of this length have room")
    mark = (m["budget"] + m["runtime"] + m["activations"]) / GIB if m["budget"] > 0 else None
    return ("<h2>Memory of one device</h2>" + stack(parts, whole, mark=mark)
            + says(f"Bytes held on each device against its capacity of {m['capacity'] / GIB:.1f} GiB; weights and "
                   f"cache may take {m['budget'] / GIB:.1f} GiB (dashed line: that plus runtime and activations). "
                   f"{fits}{cache}."))


def times(a: Answer) -> str:
    q, out = a.setting.query, ["<h2>Where the time goes</h2>"]
    names = {"prefill": f"Prefill: one prompt of {q.isl} tokens",
             "decode": f"Decode: one step at batch {q.batch} and {q.isl + q.osl // 2} tokens of context"}
    for phase, by_class in a.data["time_by_class_s"].items():
        sums = {c: sum(row.values()) for c, row in by_class.items()}
        whole = sum(sums.values())
        ordered = sorted(sums, key=lambda c: -sums[c])
        classes = [Segment(c, sums[c], show(sums[c], "s"), CLASS_COLOURS.get(c, OTHER)) for c in ordered]
        resources = [Segment(r, t, show(t, "s"), RESOURCE_COLOURS[r]) for r, t in _by_resource(a, phase).items()]
        out.append(f"<h3>{escape(names[phase])}, {show(whole, 's')}</h3>"
                   f"{stack(classes, whole)}{stack(resources, whole)}")
    out.append(says("One step's time, above by kind of operation and below by what limits it: launch is fixed cost of "
                    "every kernel, tail is ramp-up and partly filled waves; compute and memory overlap, so the time of "
                    "both counts for the longer one."))
    return "".join(out)


def helps(a: Answer) -> str:
    found = a.data["elasticity"]
    keys = {k for phase in found.values() for k, v in phase.items() if abs(v) >= 0.005}
    if not keys:
        return ""
    order = sorted(keys, key=lambda k: -max(abs(phase.get(k, 0.0)) for phase in found.values()))
    colours = {"prefill": BLUE, "decode": ORANGE}
    rows = [(k, [phase.get(k, 0.0) for phase in found.values()]) for k in order]
    return ("<h2>What would help</h2>" + tornado(rows, [(phase, colours[phase]) for phase in found])
            + says(f"Change of a step's time when one hardware parameter grows by 1 % and all else stays "
                   f"({' / '.join(found)}); left of the line is faster. Parameters that change less than 0.005 % "
                   "are left out."))


def batch(p: Part) -> str:
    if not p.batch_svg or p.curve is None:
        return ""
    q, c = p.answer.setting.query, p.curve
    end = f"as many as fit, {c.room}" if c.batch[-1] >= c.room else f"{c.batch[-1]:.0f} ({c.room} would fit)"
    dot = " The dot is what was asked." if float(q.batch) in c.batch else ""
    return (f'<h2>Against batch size</h2><div class="figure">{p.batch_svg}</div>'
            + says(f"Time per output token and tokens/s per device from one sequence in flight to {end}, "
                   f"prompt {q.isl} and output {q.osl} tokens; the band is the 80 % interval.{dot}"))


# -- tables -----------------------------------------------------------------------------------------------------------

def operations(p: Part) -> str:
    rows: list[list[Cell]] = [
        [r["phase"], r["name"], Number(f"{r['count']:g}", r["count"]), Number(show(r["time_s"], "s"), r["time_s"]),
         r["bound"], Raw(badge(r["source"]))] for r in p.answer.data["ops"] if r["flops"] == 0]
    columns = ("phase", "op", "count", "time", "bound", "parameters")
    links = table(columns, rows, sortable=True, right=("count", "time"))
    return (f"<h2>Operations</h2><details open><summary>{len(p.roof.points) + len(rows)} operations</summary>"
            + op_table(p.roof) + (f"<h3>Links: no FLOPs</h3>{links}" if rows else "") + "</details>"
            + says("Time is that of one run; count is runs per step. A click on a column head sorts by it."))


_WHY = {"transferred": "parameters fitted on other devices", "assumed": "nothing was measured for it"}


def rests(a: Answer) -> str:
    """Assumed and transferred values with their reasons, then where every parameter comes from."""
    known = a.setting.device.quantities()
    soft: list[list[Cell]] = []
    for text in a.data["assumed"]:
        key, _, why = text.partition(" (")
        if key.startswith("area."):              # no figure here uses it
            continue
        q = known.get(key)
        reason = (q.note or q.source) if q else why.removesuffix(")")
        soft.append([key, str(q) if q else "", Raw(badge("assumed")), reason])
    for phase, by_class in a.data["sources"].items():
        soft += [[f"{c} in {phase}", "", Raw(badge(s)), _WHY[s]]
                 for c, s in by_class.items() if s != "fitted"]
    every: list[list[Cell]] = [[k, str(q), Raw(badge(q.kind)), q.source + (f" ({q.note})" if q.note else "")]
                               for k, q in known.items()]
    doubts = table(("value", "is", "kind", "because"), soft) if soft else "<p>Nothing assumed or transferred.</p>"
    units = "".join(f"<li><b>{escape(kind)}</b>: {escape(text)}</li>" for kind, text in a.data["units"].items())
    return ("<h2>What it rests on</h2>" + (f"<ul>{units}</ul>" if units else "") + doubts
            + says("Values that nobody measured or published for exactly this device.")
            + f"<details><summary>Where the fitted parameters come from</summary>{_fits(a)}</details>"
            + f"<details><summary>All {len(every)} values of {escape(a.setting.device.title)}, with sources</summary>"
            + table(("value", "is", "kind", "source"), every) + "</details>")


def _fits(a: Answer) -> str:
    kinds = {"collective" if isinstance(op, Collective) else type(op).__name__.lower()
             for step in (a.estimate.prefill, a.estimate.decode) if step for op in step.ops}
    rows: list[list[Cell]] = []
    for kind in sorted(kinds | {"energy"}):
        try:
            f = fitted_store.load(kind)
        except FileNotFoundError:
            rows.append([kind, "", "no fit: parameters of the formula's own defaults", ""])
        else:
            rows.append([kind, f.date, f.source, f.data_sha256[:12]])
    return table(("formula", "fitted", "to", "sha-256 of the rows"), rows)


def notes(a: Answer) -> str:
    texts = a.data["notes"]
    return "<h2>Notes</h2><ul>" + "".join(f"<li>{escape(t)}</li>" for t in texts) + "</ul>" if texts else ""


# -- several ----------------------------------------------------------------------------------------------------------

def short_name(a: Answer, base: Answer) -> str:
    """System and what differs from the first question."""
    q, b = a.setting.query, base.setting.query
    parts = [a.setting.system.name]
    parts += [f"{f}={getattr(q, f)}" for f in Query.__dataclass_fields__
              if f not in ("hw", "sets") and getattr(q, f) != getattr(b, f)]
    return " ".join(parts + [f"{k}={v}" for k, v in q.sets if (k, v) not in b.sets or a is base])


def comparison(parts: Sequence[Part], overlay: str) -> str:
    """Figures side by side, relative to the first."""
    rows: list[list[Cell]] = []
    for key, (label, dimension) in FIGURES.items():
        values = [p.answer.data["metrics"].get(key, {}).get("value") for p in parts]
        if any(v is not None and not math.isnan(v) for v in values):
            rows.append([label, *(delta(v, values[0], dimension, i) for i, v in enumerate(values))])
    held = [p.answer.data["memory_bytes"] for p in parts]
    rows.append(["memory used of each device",
                 *(f"{m['used'] / GIB:.1f} of {m['capacity'] / GIB:.1f} GiB" for m in held)])
    rows.append(["fits", *("yes" if p.answer.fits else "NO" for p in parts)])
    if any(p.answer.data["units"] for p in parts):
        areas = [x[0] if (x := area_mm2(p.answer)) else None for p in parts]
        rows.append(["area", *(delta(v, areas[0], "mm2", i) for i, v in enumerate(areas))])
    for phase in parts[0].answer.data["limits"]:
        rows.append([f"{phase} limited by",
                     *(_largest(p.answer, phase) if phase in p.answer.data["limits"] else "" for p in parts)])
    spec, names = parts[0].answer.setting.spec.name, [p.name for p in parts]
    charts = "".join(_compared(parts, key) for key in ("tpot_s", "tokens_per_s_per_gpu"))
    absent = [p.name for p in parts if p.curve is None]
    missing = f" Not drawn, as fewer than two sequences fit: {', '.join(absent)}." if absent else ""
    curve = (f'<h2>Against batch size</h2><div class="figure">{overlay}</div>'
             + says(f"Each line runs from one sequence to as many as fit (at most {TOP}); bands: 80 % intervals."
                    + missing)
             if overlay else "")
    return (f"<h1>{escape(spec)}: {len(parts)} ways compared</h1>"
            f"<p>First column: {escape(describe(parts[0].answer))}</p>"
            + table(("", *names), rows, right=names) + says("In brackets: change against the first column.")
            + charts + curve)


def _compared(parts: Sequence[Part], key: str) -> str:
    label, dimension = FIGURES[key]
    rows = [Bar(p.name, m["value"], m["lo"], m["hi"], show(m["value"], dimension), LINE_COLOURS[i % len(LINE_COLOURS)])
            for i, p in enumerate(parts) if _known(m := p.answer.data["metrics"].get(key))]
    return f"<h3>{escape(label)}</h3>{bars(rows)}{says('Bar: estimate; thin line: its 80 % interval.')}" if rows else ""
