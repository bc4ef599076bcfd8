"""What a simulation says beside its schedule: the same tasks in closed form, the chain that set the time, use of resources."""

from __future__ import annotations

from typing import NamedTuple

from sim.blame import blame, utilisation
from sim.closed_form import bounds, earliest
from sim.kernel import run
from sim.plan.lower import lower
from sim.simulate import Simulated, step_seconds
from sim.tasks import PS, TaskGraph


class Figures(NamedTuple):
    """Seconds of one step, steady: ``alone_s`` if nothing contended, ``lower_s``/``serial_s`` bounds, ``limit_s`` physical.
    ``chain``: seconds a step waited for each (resource, why). ``used``: share of the time each resource was in use."""

    alone_s: float
    lower_s: float
    serial_s: float
    limit_s: float
    chain: dict[tuple[str, str], float]
    used: dict[str, float]


def figures(result: Simulated) -> Figures:
    """All of it, of the steps after the first (of the only one where there is one)."""
    graph, ends = result.lowered.graph, [int(result.run.end[i]) for i in result.lowered.ends]
    since, steps = (ends[0], len(ends) - 1) if len(ends) > 1 else (0, 1)
    _, alone = earliest(graph)
    there = [int(alone[i]) for i in result.lowered.ends]
    first = TaskGraph(graph.resources, graph.tasks[:result.lowered.ends[0] + 1])
    low, serial = bounds(graph)
    low_first, serial_first = bounds(first) if len(ends) > 1 else (0, 0)
    ideal = lower(result.plans, ideal=True)
    chain = {k: t / steps for k, t in blame(graph, result.run, since).items()}
    return Figures(alone_s=(there[-1] - there[0]) / steps / PS if len(ends) > 1 else there[0] / PS,
                   lower_s=(low - low_first) / steps / PS, serial_s=(serial - serial_first) / steps / PS,
                   limit_s=step_seconds(ideal, run(ideal.graph)), chain=chain,
                   used=utilisation(graph, result.run, since))
