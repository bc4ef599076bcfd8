"""One point of a sweep by event simulation: its model, device, workload and techniques, each setting of which may be an
axis (``technique.NAME.FIELD``)."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np

from sim.plan.block import DoesNotFitError
from sim.query import Query
from sim.simulate import Simulated, simulate
from sim.sweep import parameters as par
from sim.sweep.space import Space
from sim.techniques import TECHNIQUES
from sim.techniques.technique import Technique, make

#: Figures that a simulated decode step gives, and those of a prefill, which is run only where one is asked for.
DECODE = ("tpot_s", "tokens_per_s_per_user", "tokens_per_s_per_gpu", "j_per_output_token", "avg_power_w", "used_bytes",
          "capacity_bytes", "n_devices")
PREFILL = ("ttft_s", "e2el_s")
_SAME = {"tokens_per_s_per_gpu": "tokens_per_s"}


def check(space: Space, names: list[str]) -> None:
    """Raise ``ValueError`` for figures that a simulation does not give, and settings that it does not take."""
    sweep, where = space.experiment.sweep, space.file
    for name in names:
        plain = name.removesuffix("_lo").removesuffix("_hi")
        if plain not in (*DECODE, *PREFILL, *space.figures):
            near = difflib.get_close_matches(plain, [*DECODE, *PREFILL], n=2, cutoff=0.3) or list(DECODE[:3])
            raise ValueError(f'{where}: sweep: evaluator = "events" gives no {name!r}; nearest: {", ".join(near)}')
    for name in (a.name for a in space.axes):
        if name in ("deployment.tp", "deployment.pp", "deployment.dp", "deployment.ep"):
            raise ValueError(f'{where}: sweep: {name}: evaluator = "events" simulates one device; parallel devices: "closed"')
    for t in space.experiment.techniques:
        make(t["use"], {k: v for k, v in t.items() if k != "use"}, TECHNIQUES)
    if sweep.drawn is None and space.size:
        columns, _ = space.columns(np.arange(min(space.size, 1)))
        techniques(space, {k: v[0] for k, v in columns.items()})


def techniques(space: Space, point: Mapping[str, Any]) -> list[Technique]:
    """The experiment's techniques with the settings of a point. Raises ``ValueError``."""
    made = []
    for t in space.experiment.techniques:
        name = t["use"]
        settings = {k: v for k, v in t.items() if k != "use"}
        prefix = f"technique.{name}."
        own = {k.removeprefix(prefix): v for k, v in point.items() if k.startswith(prefix)}
        made.append(make(name, {**settings, **{k: _plain(name, k, v) for k, v in own.items()}}, TECHNIQUES))
    return made


def _plain(name: str, setting: str, value: Any) -> Any:
    found = value.item() if isinstance(value, np.generic) else value
    annotation = TECHNIQUES[name].model_fields[setting].annotation
    return round(found) if annotation is int and isinstance(found, float) else found


def question(space: Space, point: Mapping[str, Any]) -> Query:
    """The query of a point; units and clocks are set before what they scale."""
    q = par.query(space.base, {k: v for k, v in point.items() if not (par.is_hardware(k) or k.startswith("technique."))})
    numbers = {k.removeprefix("hardware."): v for k, v in point.items() if par.is_hardware(k) and not np.isnan(v)}
    first = sorted(numbers, key=lambda k: (not k.endswith((".units", ".clock")), k))
    return q.changed({k: repr(float(numbers[k])) for k in first})


def simulated(space: Space, point: Mapping[str, Any]) -> Mapping[str, float]:
    """Figures of one point, with ``fits``. Raises ``ValueError`` for one that cannot be."""
    given = space.experiment.simulation
    query, chosen = question(space, point), techniques(space, point)
    wanted = {*space.experiment.sweep.objectives, *space.experiment.sweep.keep,
              *(n for e in (*space.figures.values(), *space.outcomes) for n in e.names)}
    slo = space.experiment.slo
    try:
        step = simulate(query, chosen, steps=given.steps, seed=given.seed)
        found = _decode(step)
        if slo.ttft or slo.request_latency or any(n.startswith(("ttft_s", "e2el_s")) for n in wanted):
            first = simulate(query, chosen, phase="prefill", seed=given.seed)
            found |= _named("ttft_s", first.metrics["ttft_s"], first.intervals.get("ttft_s"))
            steps = max(query.osl - 1, 0)
            found |= {f"e2el_s{side}": found[f"ttft_s{side}"] + steps * found[f"tpot_s{side}"] for side in ("", "_lo", "_hi")}
    except DoesNotFitError:
        return {"fits": False}
    return found


def _decode(step: Simulated) -> dict[str, float]:
    found: dict[str, float] = {"n_devices": 1.0}
    for name in DECODE[:5]:
        key = _SAME.get(name, name)
        if key in step.metrics:
            found |= _named(name, step.metrics[key], step.intervals.get(key))
    home = next(iter(step.board.engines.values())).home
    found["used_bytes"] = sum(step.plans[-1].resident().get(home, {}).values())
    found["capacity_bytes"] = step.board.tier(home).capacity
    return found


def _named(name: str, value: float, span: tuple[float, float] | None) -> dict[str, float]:
    lo, hi = span or (np.nan, np.nan)
    return {name: value, f"{name}_lo": lo, f"{name}_hi": hi}
