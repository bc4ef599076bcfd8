"""What a simulation says beside its schedule: the same tasks in closed form, the chain that set the time, use of resources."""

from __future__ import annotations

from typing import NamedTuple

from sim.blame import blame, gaps, spans, utilisation
from sim.closed_form import bounds, earliest
from sim.kernel import Run
from sim.simulate import Simulated, sample, whole_steps
from sim.tasks import PS, TaskGraph


class Use(NamedTuple):
    """A resource in the time looked at. ``used``: share of what it could do; ``rate`` [B/s] of memories and links.
    ``bubbles`` a step in which nobody used it at all, ``idle_s`` of a step in all of them, and the longest."""

    name: str
    device: str
    used: float
    rate: float
    bubbles: float
    idle_s: float
    longest_s: float


class Figures(NamedTuple):
    """Seconds of one step, steady: ``alone_s`` if nothing contended, ``lower_s``/``serial_s`` bounds, ``limit_s`` physical.
    ``chain``: seconds a step waited for each (resource, why). ``resources``: their use."""

    alone_s: float
    lower_s: float
    serial_s: float
    limit_s: float
    chain: dict[tuple[str, str], float]
    resources: tuple[Use, ...]


def figures(result: Simulated) -> Figures:
    """All of it, of the steps after the first (of the only one where there is one). Of an interrupted run: of the steps
    that had ended, without the physical limit, which would take another run."""
    _, lowered, done = whole_steps(result.plans, result.lowered, result.run)
    graph, ends = lowered.graph, [int(done.end[i]) for i in lowered.ends]
    since, steps = (ends[0], len(ends) - 1) if len(ends) > 1 else (0, 1)
    _, alone = earliest(graph)
    there = [int(alone[i]) for i in lowered.ends]
    first = TaskGraph(graph.resources, graph.tasks[:lowered.ends[0] + 1])
    low, serial = bounds(graph)
    low_first, serial_first = bounds(first) if len(ends) > 1 else (0, 0)
    chain = {k: t / steps for k, t in blame(graph, done, since).items()}
    return Figures(alone_s=(there[-1] - there[0]) / steps / PS if len(ends) > 1 else there[0] / PS,
                   lower_s=(low - low_first) / steps / PS, serial_s=(serial - serial_first) / steps / PS,
                   limit_s=_limit(result) if done.done else float("nan"), chain=chain,
                   resources=uses(graph, done, since, steps))


def uses(graph: TaskGraph, done: Run, since_ps: int, steps: int) -> tuple[Use, ...]:
    """Engines, memories and links that were used at all, from ``since_ps`` to the end."""
    used, busy, until = utilisation(graph, done, since_ps), spans(graph, done), int(done.end.max())
    found = []
    for r in graph.resources:
        if used.get(r.name, 0.0) > 0:
            g = gaps(busy[r.name], since_ps, until)
            found.append(Use(r.name, r.group, used[r.name], used[r.name] * r.amount if r.kind == "shared" else float("nan"),
                             g.number / steps, g.total_ps / steps / PS, g.longest_ps / PS))
    return tuple(found)


def _limit(result: Simulated) -> float:
    """Time of a step at the physical limits of this plan; NaN if interrupted. [s]"""
    try:
        return sample(result.plans, result.lowered, result.step_s).step(ideal=True)
    except KeyboardInterrupt:
        return float("nan")
