"""A side of a case whose plan is simulated: techniques on a board, through the same path as ``perfboard simulate``.

What a side errs by is found by running it again with each engine, all copies and all reads at their fast and slow ends, and
shared out over the kinds of work done there, by their own intervals (``_kinds``). Between two sides of a ratio the error of
one kind of work on one engine is taken to be the same and cancels, whatever its amount; that of other kinds has the
correlation of other kernels (``case_verdict.RHO_TRANSFERRED``). One kind of work are ops of one class, in the same formats,
bound by the same term, dense or sparse, of one framework; moves of one pattern (in order or scattered, size and number of
requests). That errors of one kind do not change with shape is an assumption: no measured row says how far they do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sim.blame import blame
from sim.estimate import Z80, op_class
from sim.plan.block import Block, Move
from sim.plan.lower import Piece
from sim.query import Query
from sim.simulate import Sample, Simulated, paces, sample, simulate
from sim.tasks import PS
from sim.techniques import TECHNIQUES
from sim.techniques.technique import Technique, make
from validate.case import Quantity, Side
from validate.case_outcome import Deviation, Outcome, query_of


class _Kind(NamedTuple):
    """A kind of work that errs by itself: errors of one ``group`` move together on one side, whatever their ``label``."""

    group: str
    label: str


class _Phase(NamedTuple):
    """One simulated phase: the time of a step, how each kind of work sways it (log, at one standard deviation), its terms."""

    result: Simulated
    step_s: float
    limit_s: float
    sway: dict[_Kind, float]
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
        return _energy(parts[0][1], quantity, side)
    busy = sum(n * p.step_s / _yields(p) for n, p in parts)
    limit = sum(n * p.limit_s / _yields(p) for n, p in parts)
    sways: defaultdict[_Kind, float] = defaultdict(float)
    terms: dict[tuple[str, str], float] = {}
    for n, p in parts:
        for kind, size in p.sway.items():
            sways[kind] += size * n * p.step_s / _yields(p) / busy
        for key, t in p.terms.items():
            terms[key] = terms.get(key, 0.0) + n * t / _yields(p)
    scale = {"tokens_per_s": float(query.batch), "prompt_rate": parts[0][1].result.plans[-1].tokens,
             "throughput": float(query.batch * query.osl)}.get(quantity)
    spread = tuple(Deviation(kind.group, f"{side.hw} {side.set or ''} {kind.label}", size, False)
                   for kind, size in sways.items())
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
    few = sample(result.plans, result.lowered, result.step_s)
    fast, slow = paces(result.lowered, few.plans)
    sway: dict[_Kind, float] = {}
    for name in slow:
        whole = math.log(few.step(pace={name: slow[name]}) / few.step(pace={name: fast[name]})) / (2 * Z80)
        sway |= {kind: whole * share for kind, share in _kinds(few, name).items()}
    ends = [int(result.run.end[i]) for i in result.lowered.ends]
    since = ends[0] if len(ends) > 1 else 0
    found = blame(result.lowered.graph, result.run, since)
    steps_seen = max(len(ends) - 1, 1)
    terms = {key: t / steps_seen for key, t in found.items()}
    missing = result.step_s - sum(terms.values())
    if missing > 1 / PS:
        terms["wait", ""] = terms.get(("wait", ""), 0.0) + missing
    return _Phase(result, result.step_s, few.step(ideal=True), sway, terms)


# -- kinds of work ----------------------------------------------------------------------------------------------------

def _kinds(few: Sample, name: str) -> dict[_Kind, float]:
    """What each kind of work on an engine (or of "copies", or "reads") has of its sway: shares whose sums by group have
    squares that add up to 1, in proportion to time and width of interval."""
    found = _moved(few, name) if name in ("copies", "reads") else _computed(few, name)
    groups: defaultdict[str, float] = defaultdict(float)
    for kind, size in found.items():
        groups[kind.group] += size
    whole = math.hypot(*groups.values())
    return {kind: size / whole for kind, size in found.items()} if whole else {}


def _computed(few: Sample, engine: str) -> dict[_Kind, float]:
    """Absolute deviation of an engine's ops by kind."""
    found: defaultdict[_Kind, float] = defaultdict(float)
    for s, plan in enumerate(few.plans):
        for block in plan.blocks:
            if block.engine == engine:
                framework = plan.framework if block.framework is None else block.framework
                for p in few.lowered.pieces[s, block.name]:
                    width = float(np.ravel(np.log(p.priced.hi / p.priced.lo))[0])
                    found[_kind(engine, framework, block, p)] += p.seconds * width
    return found


def _kind(engine: str, framework: str, block: Block, piece: Piece) -> _Kind:
    op, name = piece.op, op_class(piece.op)
    formats = [str(getattr(op, n)) for n in ("a", "w", "q", "kv") if hasattr(op, n)]
    sparse = block.neurons is not None and not block.neurons.whole
    return _Kind(f"{engine} {name}",
                 " ".join((engine, framework, name, *formats, piece.bound, "sparse" if sparse else "dense")))


def _moved(few: Sample, name: str) -> dict[_Kind, float]:
    """Bytes over links, or read from storage, by the pattern of the moves. Results sent between engines come in one piece."""
    found: defaultdict[_Kind, float] = defaultdict(float)
    for plan in few.plans:
        for block in plan.blocks:
            for m in block.moves:
                if plan.board.tier(m.src).storage == (name == "reads"):
                    found[_Kind(name, f"{name} {m.src}>{m.dst} {_pattern(m)}")] += m.nbytes
    return found if sum(found.values()) else {_Kind(name, f"{name} of results"): 1.0}


def _pattern(m: Move) -> str:
    return f"{'scattered' if m.scattered else 'in order'} {m.chunk:.0f} B {m.depth:g} deep {m.cores:g} cores"


def _energy(p: _Phase, quantity: Quantity, side: Side) -> Outcome:
    """Energy errs by the factor of an unmeasured formula, the same on two sides that do the same kinds of work."""
    value = p.result.metrics["j_per_output_token" if quantity == "energy" else "j_per_input_token"]
    most: dict[str, _Kind] = {}                      # of each group the kind that sways it most
    for kind in sorted(p.sway, key=p.sway.__getitem__):
        most[kind.group] = kind
    kernel = "; ".join([f"{side.hw} {side.set or ''}", *sorted(k.label for k in most.values())])
    return Outcome(value, math.nan, (Deviation("energy", kernel, math.log(2.0) / Z80, False),), 0.0, {}, 1.0, 1, 0.0,
                   "energy", p.result.setting.query.batch)
