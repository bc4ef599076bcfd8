"""Event simulation of consecutive steps: a query and techniques, to plans, to tasks, to a schedule and its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sim.estimate import compose
from sim.kernel import Run, run
from sim.plan.block import Plan
from sim.plan.board import Board, board
from sim.plan.lower import LINK_HIGH, LINK_LOW, LINK_SHARE, Detail, Lowered, lower
from sim.plan.network import plain
from sim.plan.storage import READ_HIGH, READ_LOW
from sim.query import Query, Setting, resolve
from sim.tasks import PS
from sim.techniques.technique import Technique, apply_all

#: Steps of which the interval and the physical limit are found; those of a longer run are in proportion to its own steps.
SAMPLE = 8


@dataclass(frozen=True)
class Simulated:
    """``step_s``: time of one step once things run steadily, ``lo_s``/``hi_s`` its 80 % interval; ``metrics`` under the
    names of ``whatif``, each with its interval in ``intervals``."""

    setting: Setting
    plans: tuple[Plan, ...]
    lowered: Lowered
    run: Run
    step_s: float
    lo_s: float
    hi_s: float
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    @property
    def board(self) -> Board:
        return self.plans[0].board


def simulate(query: Query, techniques: Sequence[Technique] = (), *, phase: str = "decode", steps: int = 0, seed: int = 0,
             detail: Detail = "block", record: bool = False,
             progress: Callable[[int, int], None] | None = None) -> Simulated:
    """Simulate ``steps`` decode steps at the mean context of the output, or one prefill of the whole batch.

    ``steps`` 0: one prefill, or four decode steps of which the first only fills the pipelines. ``progress`` is called with
    plans made of those to make, then with tasks ended of all tasks, of this run and of those for its interval.
    Raises ``ValueError`` for what cannot be run and ``DoesNotFitError`` for a plan that exceeds a memory.
    """
    several = [f"{k} {getattr(query, k)}" for k in ("tp", "pp", "dp", "ep") if getattr(query, k) != 1]
    if several:
        raise ValueError(f"simulate: one device of each part of a system, found {', '.join(several)}; parallel devices: "
                         f"perfboard whatif")
    setting = resolve(query)
    n = steps or (4 if phase == "decode" else 1)
    plans = []
    for s in range(n):
        plans.append(plan_of(setting, techniques, phase=phase, step=s, seed=seed))
        if progress:
            progress(s + 1, n)
    lowered = lower(plans, detail=detail)
    done = run(lowered.graph, record=record, progress=progress)
    step = step_seconds(lowered, done)
    lo, hi = _interval(plans, lowered, step, detail, progress) if done.done else (float("nan"), float("nan"))
    metrics, intervals = _metrics(*whole_steps(plans, lowered, done), step, min(step, lo), max(step, hi))
    if np.isnan(lo):
        done, intervals = done._replace(done=False), {}
    return Simulated(setting, tuple(plans), lowered, done, step, min(step, lo), max(step, hi), metrics, intervals)


def plan_of(setting: Setting, techniques: Sequence[Technique], *, phase: str, step: int = 0, seed: int = 0) -> Plan:
    """The plan of one step with all techniques applied. Raises ``ValueError``."""
    q = setting.query
    lengths = {"q_len": 1.0, "kv_len": q.isl + q.osl / 2} if phase == "decode" else {"q_len": float(q.isl - q.prefix),
                                                                                    "kv_len": float(q.isl)}
    first = plain(setting.spec, board(setting.system), phase=phase, batch=float(q.batch), step=step, seed=seed,
                  framework=q.framework, **lengths)
    return apply_all(first, techniques)


def step_seconds(lowered: Lowered, done: Run) -> float:
    """Time of a step once the first one is through; of the only one where there is one."""
    ends = [int(done.end[i]) for i in lowered.ends if done.end[i] >= 0]
    if not ends:
        return float("nan")
    return (ends[-1] - ends[0]) / (len(ends) - 1) / PS if len(ends) > 1 else ends[0] / PS


def whole_steps(plans: Sequence[Plan], lowered: Lowered, done: Run) -> tuple[Sequence[Plan], Lowered, Run]:
    """What an interrupted run leaves: the steps that had ended, without the tasks of later ones."""
    n = sum(bool(done.end[i] >= 0) for i in lowered.ends)
    if n == len(plans):
        return plans, lowered, done
    cut = lowered.ends[n - 1] + 1 if n else 0
    left = replace(lowered.graph, tasks=lowered.graph.tasks[:cut])
    ready, start, end = done.ready[:cut], done.start[:cut], done.end[:cut]
    return plans[:n], Lowered(left, lowered.ends[:n], lowered.pieces), done._replace(
        ready=ready, start=start, end=end, makespan_ps=max(end.tolist(), default=0))


class Sample(NamedTuple):
    """The first steps of a run, and by what a time of theirs is to be multiplied to be one of the whole run's mean step."""

    plans: Sequence[Plan]
    lowered: Lowered
    scale: float

    def step(self, *, detail: Detail = "block", pace: Mapping[str, float] | None = None, ideal: bool = False,
             progress: Callable[[int, int], None] | None = None) -> float:
        """Time of a step with other paces or at the limits (see ``lower``). Raises ``KeyboardInterrupt``. [s]"""
        other = lower(self.plans, detail=detail, pace=pace, ideal=ideal, known=self.lowered)
        done = run(other.graph, progress=progress)
        if not done.done:
            raise KeyboardInterrupt
        return self.scale * step_seconds(other, done)


def sample(plans: Sequence[Plan], lowered: Lowered, step: float, detail: Detail = "block") -> Sample:
    """The steps of a run that are simulated again for its interval and its limit: all of a short one."""
    if len(plans) <= SAMPLE:
        return Sample(plans, lowered, 1.0)
    first = Sample(plans[:SAMPLE], lowered, 1.0)
    return first._replace(scale=step / first.step(detail=detail))


def _interval(plans: Sequence[Plan], lowered: Lowered, step: float, detail: Detail,
              progress: Callable[[int, int], None] | None) -> tuple[float, float]:
    """Time of a step with everything as fast and as slow as it may be; NaN if interrupted. [s]"""
    try:
        few = sample(plans, lowered, step, detail)
        fast, slow = (few.step(detail=detail, pace=pace, progress=progress) for pace in paces(lowered, few.plans))
    except KeyboardInterrupt:                       # what the run itself gave is there already
        return float("nan"), float("nan")
    return fast, slow


def paces(lowered: Lowered, plans: Sequence[Plan]) -> tuple[dict[str, float], dict[str, float]]:
    """How much faster and slower each engine (80 % interval of the sum of its ops), all copies and all reads may be."""
    fast, slow = {"copies": LINK_SHARE / LINK_HIGH}, {"copies": LINK_SHARE / LINK_LOW}
    if any(p.board.tier(m.src).storage for p in plans for b in p.blocks for m in b.moves if m.nbytes > 0):
        fast["reads"], slow["reads"] = READ_LOW, READ_HIGH
    engines: dict[str, list[tuple[int, str]]] = {}
    for s, plan in enumerate(plans):
        for block in plan.blocks:
            engines.setdefault(block.engine, []).append((s, block.name))
    for engine, keys in engines.items():
        pieces = [p for key in keys for p in lowered.pieces[key] if p.seconds > 0]
        if pieces:
            times = [np.full(np.shape(p.priced.cost.time), p.seconds) for p in pieces]
            total = np.sum(times, axis=0)
            lo, hi = compose([p.op for p in pieces], [p.priced for p in pieces], times, total)
            fast[engine], slow[engine] = float(np.ravel(lo / total)[0]), float(np.ravel(hi / total)[0])
    return fast, slow


def _metrics(plans: Sequence[Plan], lowered: Lowered, done: Run, step: float, lo: float,
             hi: float) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    if not plans:                                   # interrupted before any step had ended
        return {}, {}
    plan = plans[-1]
    gained = plan.batch * plan.yields
    joules = _joules(plans, lowered, done)
    if plan.phase == "prefill":
        metrics = {"ttft_s": step, "prompt_tokens_per_s": plan.tokens / step, "j_per_input_token": joules / plan.tokens}
        return metrics, {"ttft_s": (lo, hi), "prompt_tokens_per_s": (plan.tokens / hi, plan.tokens / lo)}
    metrics = {"tpot_s": step / plan.yields, "tokens_per_s": gained / step, "tokens_per_s_per_user": plan.yields / step,
               "j_per_output_token": joules / gained, "avg_power_w": joules / step}
    return metrics, {"tpot_s": (lo / plan.yields, hi / plan.yields), "tokens_per_s": (gained / hi, gained / lo),
                     "tokens_per_s_per_user": (plan.yields / hi, plan.yields / lo)}


def _joules(plans: Sequence[Plan], lowered: Lowered, done: Run) -> float:
    """Energy of a mean step: what tasks draw while they run, and idle power of the engines for the rest. NaN where a
    device states no power."""
    graph = lowered.graph
    total = sum(t.joules for t in graph.tasks)
    busy = dict.fromkeys(plans[0].board.engines, 0.0)
    for task, start, end in zip(graph.tasks, done.start, done.end, strict=True):
        for name in task.engines:
            if name in busy:
                busy[name] += float(end - start) / PS
    span = float(done.end.max()) / PS
    devices = {e.device.name: e for e in plans[0].board.engines.values()}
    for device, engine in devices.items():
        mine = sum(t for n, t in busy.items() if plans[0].board.engines[n].device.name == device)
        total += float(engine.hardware.idle[0]) * max(span - mine, 0.0)
    return total / len(plans)
