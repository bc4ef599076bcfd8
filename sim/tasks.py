"""Tasks: what the closed form and the event engine both run.

A task holds its engines (exclusive), moves its flows (bytes over shared memories and links) and begins when all tasks
it comes after have ended. It lasts ``delay_ps`` and then the longer of ``time_ps`` and its slowest flow. Time is whole
picoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

PS = 1e12

Labels = Mapping[str, str | int | float]
NO_LABELS: Labels = MappingProxyType({})


class Resource(NamedTuple):
    """Something that tasks contend for.

    ``engine``: ``amount`` servers, each held by one task at a time, first come first served within a priority.
    ``shared``: a memory or a link that gives ``amount`` bytes per second, shared max-min fairly by the flows on it.
    ``buffer``: ``amount`` of space (bytes or slots) that tasks take when they start and give back when one ends.
    """

    name: str
    kind: Literal["engine", "shared", "buffer"]
    amount: float
    group: str = ""                   # the device it belongs to, for timelines


class Flow(NamedTuple):
    """``nbytes`` over all of the shared resources named at one rate, at most ``cap`` [B/s]."""

    nbytes: float
    over: tuple[str, ...]
    cap: float = float("inf")


class Task(NamedTuple):
    """One piece of work. ``after`` are indices of earlier tasks. Smaller ``priority`` goes first where tasks wait.

    ``takes`` and ``gives`` are (buffer, amount): space taken before the task may queue for its engines, and given back
    when it ends. ``labels`` say what it is (op, class, layer, phase, bound ...) and mean nothing to the engines.
    """

    name: str
    engines: tuple[str, ...] = ()
    time_ps: int = 0
    delay_ps: int = 0
    flows: tuple[Flow, ...] = ()
    after: tuple[int, ...] = ()
    priority: int = 0
    takes: tuple[tuple[str, float], ...] = ()
    gives: tuple[tuple[str, float], ...] = ()
    joules: float = 0.0
    labels: Labels = NO_LABELS


@dataclass(frozen=True)
class TaskGraph:
    """Tasks in an order in which every task comes after those it waits for, and the resources they use."""

    resources: tuple[Resource, ...]
    tasks: tuple[Task, ...]
    seed: int = 0

    def check(self) -> None:
        """Raise ``ValueError`` with one line naming the task or resource, what was found and what would be right."""
        known = check_resources(self.resources)
        for i, task in enumerate(self.tasks):
            check_task(i, task, known)


def picoseconds(seconds: float) -> int:
    """Whole picoseconds, to the nearest."""
    return round(seconds * PS)


def check_resources(resources: Iterable[Resource]) -> dict[str, Resource]:
    """Resources by name. Raises ``ValueError`` for a name used twice, an unknown kind and an amount that is not above 0."""
    known: dict[str, Resource] = {}
    for r in resources:
        if r.name in known:
            raise ValueError(f"resource {r.name!r}: named twice")
        if r.kind not in ("engine", "shared", "buffer"):
            raise ValueError(f"resource {r.name!r}: kind must be engine, shared or buffer, found {r.kind!r}")
        if not (r.amount > 0 and np.isfinite(r.amount)) or (r.kind == "engine" and r.amount % 1):
            unit = {"engine": "a whole number of servers", "shared": "a rate [B/s]", "buffer": "a capacity"}[r.kind]
            raise ValueError(f"resource {r.name!r}: amount must be {unit} above 0, found {r.amount:g}")
        known[r.name] = r
    return known


def check_task(i: int, task: Task, known: Mapping[str, Resource]) -> None:
    """Raise ``ValueError`` for a task that cannot be run; ``i`` is its index."""
    where = f"task {i} ({task.name!r})"
    for name in ("time_ps", "delay_ps"):
        value = getattr(task, name)
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{where}: {name}: must be a whole number of at least 0, found {value!r}")
    for j in task.after:
        if j < 0:
            raise ValueError(f"{where}: after: there is no task {j}")
        if j >= i:
            raise ValueError(f"{where}: after: task {j} does not come before it; tasks must be in an order without cycles")
    _check_use(where, "engines", task.engines, "engine", known)
    for name, nbytes in (*task.takes, *task.gives):
        _check_use(where, "takes/gives", (name,), "buffer", known)
        if nbytes < 0 or not np.isfinite(nbytes):
            raise ValueError(f"{where}: {name}: must be at least 0, found {nbytes:g}")
        if nbytes > known[name].amount:
            raise ValueError(f"{where}: wants {nbytes:g} of {name!r}, which holds {known[name].amount:g}")
    seen: set[str] = set()
    for flow in task.flows:
        _check_use(where, "flow", flow.over, "shared", known)
        if not flow.nbytes >= 0 or not np.isfinite(flow.nbytes) or not flow.cap > 0:
            raise ValueError(f"{where}: flow over {', '.join(flow.over)}: needs at least 0 bytes and a cap above 0, "
                             f"found {flow.nbytes:g} B, {flow.cap:g} B/s")
        if not flow.over or seen & set(flow.over) or len(set(flow.over)) < len(flow.over):
            raise ValueError(f"{where}: flows: each crosses at least one resource, and no two of a task the same one; found "
                             f"{', '.join(flow.over) or 'none'}")
        seen |= set(flow.over)


def _check_use(where: str, field_name: str, names: Sequence[str], kind: str, known: Mapping[str, Resource]) -> None:
    for name in names:
        if name not in known or known[name].kind != kind:
            near = get_close_matches(name, [k for k, r in known.items() if r.kind == kind], n=3, cutoff=0.3)
            raise ValueError(f"{where}: {field_name}: no {kind} resource {name!r}"
                             + (f"; nearest: {', '.join(near)}" if near else ""))
