"""The answer to one query as plain data: figures with intervals, limits, reasons, and what they rest on.

The dictionary is the JSON result (schema ``perfboard/result/1``); every key carries its unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from accel_models.bind import bind, perturb
from accel_models.cost.terms import RESOURCES, Cost, attribute
from accel_models.device import Device
from accel_models.families import other_way, synthesised
from accel_models.unit_silicon import rests
from accel_models.units import KINDS, unit_names
from sim import served
from sim.estimate import Estimate, Step, estimate, matrix_format, op_class
from sim.query import Setting
from workloads.formats import get_format
from workloads.model_spec import ModelSpec

SCHEMA = "perfboard/result/1"
#: Figures of a device file that no estimate uses.
UNUSED = ("area.", "price.list")
#: Relative step of an elasticity's finite difference.
STEP = 0.01

_SOL_BOUND = ("compute", "memory", "link")


@dataclass(frozen=True)
class Answer:
    """One estimate at one design point; ``data`` is the JSON result. ``fits`` is False if memory does not suffice."""

    setting: Setting
    estimate: Estimate
    data: dict[str, Any]

    @property
    def fits(self) -> bool:
        return bool(self.data["memory_bytes"]["fits"])


def answer(setting: Setting, *, elasticities: bool = True) -> Answer:
    """Evaluate the device and, as one more array axis, the device with each hardware parameter raised by 1 %."""
    hardware = bind([setting.device], setting.system)
    keys: list[str] = []
    if elasticities:
        hardware, keys = perturb(hardware, STEP)
    result = estimate(setting.spec, hardware, setting.workload, setting.parallel, framework=setting.query.framework)
    terms = {name: _terms(step) for name, step in _steps(result)}
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "config": _config(setting),
        "model": _model(setting),
        "memory_bytes": {k: _first(v) for k, v in result.memory.items()},
        "metrics": {k: _metric(result, k) for k in result.metrics},
        "limits": _limits(result),
        "time_by_class_s": {name: _classes(step, terms[name]) for name, step in _steps(result)},
        "elasticity": {name: _elasticity(step, keys) for name, step in _steps(result)} if keys else {},
        "sources": {name: _sources(step) for name, step in _steps(result)},
        "assumed": _assumed(setting, result),
        "units": grounds(setting.device),
        "notes": [*setting.notes, *_fallbacks(setting, result), *_above_limit(result)],
        "ops": [row for name, step in _steps(result) for row in _ops(name, step, terms[name])],
    }
    q = setting.query
    if beside := served.served(data["metrics"], q.batch, q.osl, q.framework):
        data["served"], data["notes"] = beside, [*data["notes"], served.note(beside)]
    return Answer(setting, result, data)


def grounds(device: Device) -> dict[str, str]:
    """What the figures of an engine made of units rest on (``accel_models.unit_silicon.rests``), those of a design in an FPGA
    with the blocks that it takes of its part."""
    found = rests(device)
    if found and (cells := synthesised(bind([device]))[0]):
        found |= {"synthesised": cells, "assumed": "; ".join([*filter(None, [found.get("assumed")]),
                                                              "placement, wiring and timing: none was done"])}
    return {k: found[k] for k in ("proven", "synthesised", "modelled", "assumed") if k in found}


def _above_limit(result: Estimate) -> list[str]:
    """Power above the limit of a device whose cells are known: they draw what they draw."""
    limit = float(result.hardware.tdp[0])
    found = {name: _first(result.metrics[f"{name}_power_w"]) for name, _ in _steps(result)
             if f"{name}_power_w" in result.metrics}
    return [f"{name} draws {power:.3g} W, above power.tdp of {limit:.3g} W: cooled for that, or clocked lower"
            for name, power in found.items() if power > limit * 1.001]


def _steps(result: Estimate) -> list[tuple[str, Step]]:
    return [("prefill", result.prefill)] + ([("decode", result.decode)] if result.decode else [])


def _first(a: Any) -> Any:
    """The unperturbed device at the only design point."""
    return np.asarray(a).item(0)


def _metric(result: Estimate, name: str) -> dict[str, float | None]:
    lo, hi = result.intervals.get(name, (None, None))
    return {"value": _first(result.metrics[name]), "lo": None if lo is None else _first(lo),
            "hi": None if hi is None else _first(hi)}


def _limits(result: Estimate) -> dict[str, Any]:
    out = {}
    for name, step in _steps(result):
        out[name] = {"sol_s": _first(step.sol), "sol_share": _first(step.sol / step.time),
                     "sol_bound": _SOL_BOUND[int(_first(step.sol_bound))], "flops": _first(step.flops),
                     "bytes": _first(step.nbytes), "intensity_flop_per_byte": _first(step.flops / step.nbytes)}
    return out


def _terms(step: Step) -> Cost:
    """Every term of every op at the only design point, as arrays (ops,): one extraction serves all tables."""
    return Cost(*(np.array([a.item(0) for a in terms]) for terms in zip(*(p.cost for p in step.priced), strict=True)))


def _classes(step: Step, cost: Cost) -> dict[str, dict[str, float]]:
    """``by_class`` at the only design point."""
    count = np.array([_first(op.repeat) for op in step.ops])
    shares = {r: (t * count).tolist() for r, t in attribute(cost).items()}
    out: dict[str, dict[str, float]] = {}
    for i, op in enumerate(step.ops):
        row = out.setdefault(op_class(op), dict.fromkeys(RESOURCES, 0.0))
        for r in RESOURCES:
            row[r] += shares[r][i]
    return out


def _elasticity(step: Step, keys: list[str]) -> dict[str, float]:
    """d ln(time) / d ln(parameter): how many percent one percent more of it buys (negative: faster)."""
    shape = np.broadcast_shapes(step.time.shape, (len(keys) + 1,) + (1,) * (step.time.ndim - 1))
    time = np.broadcast_to(step.time, shape)
    flat = time.reshape(len(keys) + 1, -1)[:, 0]
    change = np.log(flat[1:] / flat[0]) / np.log1p(STEP)
    return {k: float(v) for k, v in sorted(zip(keys, change, strict=True), key=lambda kv: kv[1])}


def _sources(step: Step) -> dict[str, str]:
    """Worst source of each op class: fitted < transferred < assumed."""
    order = ("fitted", "transferred", "assumed")
    out: dict[str, str] = {}
    for op, p in zip(step.ops, step.priced, strict=True):
        name = op_class(op)
        out[name] = max(out.get(name, "fitted"), p.source[0], key=order.index)
    return out


def _ops(phase: str, step: Step, cost: Cost) -> list[dict[str, Any]]:
    columns = {f: getattr(cost, f).tolist() for f in ("time", "nbytes", *RESOURCES)}
    rows = []
    for i, (op, p, w) in enumerate(zip(step.ops, step.priced, step.works, strict=True)):
        terms = {r: columns[r][i] for r in RESOURCES}
        time = columns["time"][i]
        rows.append({
            "name": op.name, "phase": phase, "class": op_class(op), "count": float(_first(op.repeat)),
            **{f: _first(getattr(op, f)) for f in ("m", "n", "k") if hasattr(op, f)},
            "flops": _first(w.flops), "bytes_hbm": columns["nbytes"][i], "time_s": time,
            "lo_s": time * p.lo.item(0), "hi_s": time * p.hi.item(0), "bound": max(terms, key=terms.__getitem__),
            **{f"{r}_s": t for r, t in terms.items()}, "source": p.source[0],
        })
    return rows


def _assumed(setting: Setting, result: Estimate) -> list[str]:
    """Assumed figures of the device that this estimate rests on: no areas, no list price, no rate of other formats."""
    fallback = setting.device.fallback
    used = {fallback(get_format(f).compute).fmt for _, step in _steps(result) for op in step.ops if (f := matrix_format(op))}
    used |= {"fp32"}                                  # of the vector engine, for whatever is no product
    return [k for k in result.hardware.assumed[0]
            if not k.startswith(UNUSED) and (".rate." not in k or k.split(".rate.")[1].split(" ")[0] in used)]


def _fallbacks(setting: Setting, result: Estimate) -> list[str]:
    """Formats of the model that the device cannot multiply natively, and what happens instead."""
    pairs = {(a, getattr(op, "w", "") or getattr(op, "kv", "") or a) for _, step in _steps(result) for op in step.ops
             if (a := matrix_format(op))}
    left = sorted((a, w) for a, w in pairs if not other_way(get_format(a), get_format(w), result.hardware)[0] > 0)
    notes = [reason for f in sorted({get_format(a).compute for a, _ in left}) if (reason := setting.device.fallback(f).reason)]
    engine = setting.device.matrix
    if engine is not None and engine.kind in KINDS and setting.device.kind != "gpu":
        notes += [f"{unit_names(engine.kind)[0]} does not multiply {a} x {w}: the vector engine does" for a, w in left]
    return notes


def _config(setting: Setting) -> dict[str, Any]:
    q = setting.query
    return {"model": setting.spec.name, "hardware": setting.device.name, "system": setting.system.name,
            "batch": q.batch, "isl": q.isl, "osl": q.osl, "prefix": q.prefix, "quant": q.quant or "as published",
            "tp": q.tp, "pp": q.pp, "dp": q.dp, "ep": q.ep, "utilization": q.utilization,
            "framework": q.framework or "best known", "set": dict(q.sets)}


def _weight_format(spec: ModelSpec) -> str:
    """Format that most of the weights are stored in."""
    held: dict[str, float] = {}
    for layer, count in zip(spec.layers, spec.counts, strict=True):
        for part in (layer.mixer, layer.ffn):
            for x in part.linears if part else ():
                held[x.weight] = held.get(x.weight, 0.0) + count * x.n_weights
        if layer.ffn and (e := layer.ffn.experts):
            held[e.weight] = held.get(e.weight, 0.0) + count * e.n_experts * e.n_weights
    return max(held, key=held.__getitem__, default=spec.dtype)


def _model(setting: Setting) -> dict[str, Any]:
    s = setting.spec
    return {"name": s.name, "family": s.family, "n_params": s.n_params, "n_active_params": s.n_active_params,
            "n_layers": s.n_layers, "hidden_size": s.hidden_size, "dtype": s.dtype, "weights": _weight_format(s),
            "kv_format": s.kv_format}
