"""Task graphs as JSON files: resources and tasks as people write them, in any order, by name.

    {"resources": [{"name": "core", "kind": "engine"}, {"name": "bus", "kind": "shared", "amount": "16 GB/s"}],
     "tasks": [{"name": "load", "flows": [{"nbytes": "1 MiB", "over": ["bus"]}]},
               {"name": "multiply", "engines": ["core"], "time": "80 us", "after": ["load"]}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from accel_models.device import Strict
from accel_models.device_file import one_line
from accel_models.quantity import parse
from sim.tasks import Flow, Resource, Task, TaskGraph, picoseconds

#: A number in the base unit (s, B, B/s), or text with a unit ("80 us", "1 MiB", "16 GB/s").
Amount = float | str
_DIMENSION = {"engine": "count", "shared": "bytes/s", "buffer": "bytes"}


class ResourceEntry(Strict):
    """``amount``: servers of an engine (1), bytes per second of what is shared, space of a buffer. ``group``: its device."""

    name: str
    kind: Literal["engine", "shared", "buffer"]
    amount: Amount = 1
    group: str = ""


class FlowEntry(Strict):
    """Bytes over all of the shared resources named at one rate, at most ``cap`` bytes per second."""

    nbytes: Amount
    over: tuple[str, ...]
    cap: Amount | None = None


class TaskEntry(Strict):
    """A task holds its ``engines``, lasts ``delay`` and then the longer of ``time`` and its slowest flow, and begins when
    all tasks of ``after`` have ended. ``takes`` and ``gives``: space of buffers. Smaller ``priority`` goes first."""

    name: str
    engines: tuple[str, ...] = ()
    time: Amount = 0
    delay: Amount = 0
    flows: tuple[FlowEntry, ...] = ()
    after: tuple[str, ...] = ()
    priority: int = 0
    takes: Mapping[str, Amount] = Field(default_factory=dict)
    gives: Mapping[str, Amount] = Field(default_factory=dict)
    labels: Mapping[str, str | int | float] = Field(default_factory=dict)


class TaskFile(Strict):
    """A task graph. Tasks are named once each and may stand in any order."""

    resources: tuple[ResourceEntry, ...]
    tasks: tuple[TaskEntry, ...] = Field(min_length=1)


def read_tasks(path: Path) -> TaskGraph:
    """The task graph of a file. Raises ``ValueError`` with one line: file, resource or task, what was found, what would be
    right; ``OSError`` for a file that cannot be read."""
    try:
        entry = TaskFile.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    except ValidationError as error:
        raise ValueError(one_line(error, str(path), TaskFile)) from None
    try:
        return _graph(entry)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _graph(entry: TaskFile) -> TaskGraph:
    amounts = [parse(r.amount, _DIMENSION[r.kind], where=f"resource {r.name!r}: amount") for r in entry.resources]
    resources = tuple(Resource(r.name, r.kind, x, r.group) for r, x in zip(entry.resources, amounts, strict=True))
    tasks = _in_order(entry.tasks)
    place = {task.name: i for i, task in enumerate(tasks)}
    graph = TaskGraph(resources, tuple(_task(task, place) for task in tasks))
    graph.check()
    return graph


def _task(entry: TaskEntry, place: Mapping[str, int]) -> Task:
    where = f"task {entry.name!r}"

    def read(value: Amount, dimension: str, field: str) -> float:
        return parse(value, dimension, where=f"{where}: {field}")

    flows = tuple(Flow(read(f.nbytes, "bytes", "flows: nbytes"), f.over,
                       float("inf") if f.cap is None else read(f.cap, "bytes/s", "flows: cap")) for f in entry.flows)
    takes, gives = (tuple((name, read(amount, "bytes", f"{field}: {name}")) for name, amount in given.items())
                    for field, given in (("takes", entry.takes), ("gives", entry.gives)))
    labels: dict[str, Any] = dict(entry.labels)
    if flows:
        labels.setdefault("nbytes", sum(f.nbytes for f in flows))
    time, delay = picoseconds(read(entry.time, "s", "time")), picoseconds(read(entry.delay, "s", "delay"))
    return Task(entry.name, entry.engines, time, delay, flows,
                tuple(place[name] for name in entry.after), entry.priority, takes, gives, labels=labels)


def _in_order(tasks: Sequence[TaskEntry]) -> list[TaskEntry]:
    """Each after those it waits for, else as in the file. Raises ``ValueError`` for names used twice, unknown ones and
    circles."""
    index: dict[str, int] = {}
    for i, task in enumerate(tasks):
        if task.name in index:
            raise ValueError(f"task {task.name!r}: named twice; after refers to tasks by name")
        index[task.name] = i
    waits: list[set[int]] = []
    followers: list[list[int]] = [[] for _ in tasks]
    for i, task in enumerate(tasks):
        for name in task.after:
            if name not in index:
                near = get_close_matches(name, index, n=2, cutoff=0.5)
                raise ValueError(f"task {task.name!r}: after: there is no task {name!r}"
                                 + (f" (did you mean {near[0]!r}?)" if near else ""))
            followers[index[name]].append(i)
        waits.append({index[name] for name in task.after})
    free = [i for i, before in enumerate(waits) if not before]
    heapify(free)
    order: list[int] = []
    while free:
        here = heappop(free)
        order.append(here)
        for i in dict.fromkeys(followers[here]):
            waits[i].discard(here)
            if not waits[i]:
                heappush(free, i)
    if len(order) < len(tasks):
        raise ValueError(f"tasks wait for each other in a circle: {' after '.join(_circle(tasks, waits))}")
    return [tasks[i] for i in order]


def _circle(tasks: Sequence[TaskEntry], waits: Sequence[set[int]]) -> list[str]:
    """Names around one circle, the first one again at the end."""
    way = [next(i for i, before in enumerate(waits) if before)]
    while (following := min(waits[way[-1]])) not in way:
        way.append(following)
    way = [*way[way.index(following):], following]
    return [repr(tasks[i].name) for i in way]
