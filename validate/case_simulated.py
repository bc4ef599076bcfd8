"""A side of a case whose plan is simulated: techniques on a board, through the same path as ``perfboard simulate``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from sim.blame import blame
from sim.estimate import Z80
from sim.kernel import run
from sim.plan.lower import Lowered, lower
from sim.query import Query
from sim.simulate import Simulated, paces, simulate, step_seconds
from sim.tasks import PS
from sim.techniques import TECHNIQUES
from sim.techniques.technique import Technique, make
from validate.case import Quantity, Side
from validate.case_outcome import Deviation, Outcome, query_of


class _Phase(NamedTuple):
    """One simulated phase: the time of a step, how each resource sways it (log, at one standard deviation), its terms."""

    result: Simulated
    step_s: float
    limit_s: float
    sway: dict[str, float]
    terms: dict[tuple[str, str], float]


def evaluate_simulated(side: Side, quantity: Quantity) -> Outcome:
    """Figure, limit, deviations and terms of one side. Raises ``ValueError`` for a quantity that no simulation gives."""
    chosen, query = techniques(side), query_of(side)
    phases: dict[Quantity, tuple[tuple[str, float], ...]] = {
        "tpot": (("decode", 1.0),), "tokens_per_s": (("decode", 1.0),), "ttft": (("prefill", 1.0),),
        "prompt_rate": (("prefill", 1.0),), "e2el": (("prefill", 1.0), ("decode", query.osl - 1.0)),
        "throughput": (("prefill", 1.0), ("decode", query.osl - 1.0)),
        "energy": (("decode", 1.0),), "prompt_energy": (("prefill", 1.0),)}
    if quantity not in phases:
        raise ValueError(f"quantity: a side with techniques has no {quantity!r}; it has {', '.join(phases)}")
    parts = [(n * share, _phase(asked, chosen, phase, side.steps, side.seed)) for phase, n in phases[quantity]
             for share, asked in _stretches(query, phase, side.contexts)]
    if "energy" in quantity:
        return _energy(parts[0][1], quantity, query)
    busy = sum(n * p.step_s / _yields(p) for n, p in parts)
    limit = sum(n * p.limit_s / _yields(p) for n, p in parts)
    sways: dict[str, float] = {}
    terms: dict[tuple[str, str], float] = {}
    for n, p in parts:
        for name, size in p.sway.items():
            sways[name] = sways.get(name, 0.0) + size * n * p.step_s / _yields(p) / busy
        for key, t in p.terms.items():
            terms[key] = terms.get(key, 0.0) + n * t / _yields(p)
    scale = {"tokens_per_s": float(query.batch), "prompt_rate": parts[0][1].result.plans[-1].tokens,
             "throughput": float(query.batch * query.osl)}.get(quantity)
    spread = tuple(Deviation(name, f"{side.hw} {name} {side.framework} {side.set or ''}", size, False)
                   for name, size in sways.items())
    return Outcome(scale / busy if scale else busy, scale / limit if scale else limit, spread, 0.0, terms, busy,
                   -1 if scale else +1, sum(n * _tasks(p) / _yields(p) for n, p in parts), "assumed", query.batch)


def _stretches(query: Query, phase: str, contexts: int) -> Iterator[tuple[float, Query]]:
    """The output in equal parts, each decoded at its own mean context: (share of the steps, the question)."""
    n = min(max(contexts, 1), query.osl) if phase == "decode" else 1
    ends = [round(query.osl * i / n) for i in range(n + 1)] if phase == "decode" else [0, query.osl]
    for start, end in pairwise(ends):
        yield (end - start) / query.osl, replace(query, isl=query.isl + start, osl=end - start)


def techniques(side: Side) -> tuple[Technique, ...]:
    """The techniques of a side, made from its tables. Raises ``ValueError`` with one line."""
    found = []
    for table in side.techniques:
        if "use" not in table:
            raise ValueError(f"techniques: each table names its technique in 'use', found {', '.join(table) or 'nothing'}")
        found.append(make(str(table["use"]), {k: v for k, v in table.items() if k != "use"}, TECHNIQUES))
    return tuple(found)


def _yields(p: _Phase) -> float:
    plan = p.result.plans[-1]
    return plan.yields if plan.phase == "decode" else 1.0


def _tasks(p: _Phase) -> float:
    """Tasks of one step."""
    return len(p.result.lowered.graph.tasks) / len(p.result.plans)


def _phase(query: Query, chosen: tuple[Technique, ...], phase: str, steps: int, seed: int) -> _Phase:
    return _cached(query, chosen, phase, steps if phase == "decode" else 0, seed)


@lru_cache(maxsize=512)
def _cached(query: Query, chosen: tuple[Technique, ...], phase: str, steps: int, seed: int) -> _Phase:
    result = simulate(query, chosen, phase=phase, steps=steps, seed=seed)
    fast, slow = paces(result.lowered, result.plans)
    sway = {name: math.log(_step(result, {name: slow[name]}) / _step(result, {name: fast[name]})) / (2 * Z80) for name in slow}
    ideal = lower(result.plans, ideal=True, known=result.lowered)
    ends = [int(result.run.end[i]) for i in result.lowered.ends]
    since = ends[0] if len(ends) > 1 else 0
    found = blame(result.lowered.graph, result.run, since)
    steps_seen = max(len(ends) - 1, 1)
    terms = {key: t / steps_seen for key, t in found.items()}
    missing = result.step_s - sum(terms.values())
    if missing > 1 / PS:
        terms["wait", ""] = terms.get(("wait", ""), 0.0) + missing
    return _Phase(result, result.step_s, step_seconds(ideal, run(ideal.graph)), sway, terms)


def _step(result: Simulated, pace: dict[str, float]) -> float:
    changed: Lowered = lower(result.plans, pace=pace, known=result.lowered)
    return step_seconds(changed, run(changed.graph))


def _energy(p: _Phase, quantity: Quantity, query: Query) -> Outcome:
    """Energy errs by the factor of an unmeasured formula."""
    value = p.result.metrics["j_per_output_token" if quantity == "energy" else "j_per_input_token"]
    return Outcome(value, math.nan, (Deviation("energy", f"{query.hw}", math.log(2.0) / Z80, False),), 0.0, {}, 1.0, 1, 0.0,
                   "energy", query.batch)
