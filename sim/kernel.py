"""The event engine: tasks on engines, shared memories and links, and bounded buffers, on a SimPy clock.

A task that all tasks before it have left takes its space in buffers, then its engines, each all at once; whoever waits
first is served first, and nobody overtakes on a resource, so that no task starves. All that happens in one picosecond is
one SimPy event: what ends, ends first; then waiting tasks start, the best of all that are ready first; then the rates
of shared resources are set anew, once. The only file that knows SimPy. No process is a generator: at a million tasks
a plain call an instant is what costs least.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from simpy import Environment, Event
from simpy.events import NORMAL

from sim.fair_share import Link, Stream, connected, fair_rates
from sim.tasks import Resource, Task, TaskGraph, check_resources, check_task

Ints = npt.NDArray[np.int64]

#: Tasks between two reports of progress.
REPORT = 2**14
#: Share of a buffer by which sums of fractions of bytes may miss its capacity.
SLACK = 1e-9


class Steps(NamedTuple):
    """A step function: ``values[i]`` holds from ``times_ps[i]`` to the next. It begins with 0 at 0."""

    times_ps: Ints
    values: npt.NDArray[np.float64]


class Run(NamedTuple):
    """When each task was ready (all before it ended), started and ended. [ps] -1: it has not ended.

    ``counters``, if recorded: per shared resource its total rate [B/s], per buffer the space taken. ``done`` is False
    if the run was interrupted; what had ended is kept.
    """

    ready: Ints
    start: Ints
    end: Ints
    makespan_ps: int
    counters: Mapping[str, Steps]
    done: bool


def run(graph: TaskGraph, *, record: bool = False, progress: Callable[[int, int], None] | None = None) -> Run:
    """Simulate all tasks; ``progress(tasks ended, tasks)`` is called about every ``REPORT`` tasks and at the end.

    Raises ``ValueError`` for a graph that cannot be run, and if tasks are left that can never go on.
    """
    graph.check()
    total = len(graph.tasks)
    ready, start, end = [-1] * total, [-1] * total, [-1] * total

    def note(live: _Live, now: int) -> None:
        i = live.index
        ready[i], start[i], end[i] = live.ready, live.start, now

    kernel = Kernel(graph.resources, graph.tasks, note, window=total + 1, record=record)
    kernel.progress = progress and (lambda ended: progress(ended, total))
    done, collects = True, gc.isenabled()
    gc.disable()                                   # nothing here refers in circles, and looking for it takes a third
    try:
        kernel.run()
    except KeyboardInterrupt:
        done = False
    finally:
        if collects:
            gc.enable()
    return Run(np.array(ready, np.int64), np.array(start, np.int64), np.array(end, np.int64), max(0, max(end, default=0)),
               kernel.counters(), done)


def stream(resources: Iterable[Resource], tasks: Iterable[Task], *, sink: Callable[[int, Task, int, int], None],
           window: int = 100_000) -> int:
    """Simulate tasks as they come, at most ``window`` at a time; ``sink(index, task, start, end)`` gets each as it ends.

    A task is drawn when there is room, and is ready then at the earliest. Nothing is kept of those that ended, so that
    memory grows with ``window`` alone. Returns the makespan [ps]. Raises ``ValueError`` for a task that cannot run.
    """
    known = check_resources(resources)

    def checked() -> Iterator[Task]:
        for i, task in enumerate(tasks):
            check_task(i, task, known)
            yield task

    kernel = Kernel(known.values(), checked(), lambda live, now: sink(live.index, live.task, live.start, now), window=window)
    kernel.run()
    return kernel.now


class _Pool:
    """An engine (servers) or a buffer (space): what is free of it and who waits, best first."""

    __slots__ = ("amount", "free", "name", "queue")

    def __init__(self, name: str, amount: float) -> None:
        self.name, self.amount, self.free = name, amount, amount
        self.queue: list[tuple[int, int, int, _Live]] = []           # (priority, ready, index, task)


_Wants = tuple[tuple[_Pool, float], ...]


class _Live:
    """A task from its admission to its end. ``wants``: what it waits for in a queue, and later the engines it holds."""

    __slots__ = ("before", "delayed", "followers", "index", "parts", "ready", "start", "task", "wants")

    def __init__(self, index: int, task: Task) -> None:
        self.index, self.task = index, task
        self.before = 0                                              # tasks that must end first
        self.followers: list[_Live] | None = None
        self.ready = self.start = -1
        self.wants: _Wants = ()
        self.parts = 1                                               # timers and flows that must end first
        self.delayed = False                                         # its flows begin when its timer ends


class Kernel:
    """One simulation. ``ended(task, now)`` is called as each task ends; ``tasks`` are admitted while fewer than ``window``
    are alive."""

    def __init__(self, resources: Iterable[Resource], tasks: Iterable[Task], ended: Callable[[_Live, int], None], *,
                 window: int, record: bool = False) -> None:
        resources = tuple(resources)
        self.now = self.admitted = 0
        self.progress: Callable[[int], None] | None = None
        self._env = Environment()
        self._tick = Event(self._env).succeed()                      # one event for all instants; the first is 0
        self._callbacks: list[Callable[[Event], None]] = [self._instant]
        self._feed, self._window, self._ended = iter(tasks), window, ended
        self._engines = {r.name: _Pool(r.name, int(r.amount)) for r in resources if r.kind == "engine"}
        self._buffers = {r.name: _Pool(r.name, r.amount) for r in resources if r.kind == "buffer"}
        self._links = {r.name: Link(r.name, r.amount) for r in resources if r.kind == "shared"}
        self._wants: dict[tuple[str, ...], _Wants] = {(): ()}        # engines of a task: few different ones
        self._live: dict[int, _Live] = {}
        self._agenda: dict[int, list[_Live | Stream]] = {}           # what ends (or begins to flow) when
        self._due: list[_Live | Stream] = []                         # the same for this instant
        self._freed: list[_Pool] = []                                # engines whose queue may move
        self._vacated: list[_Pool] = []                              # the same for buffers
        self._stirred: dict[Link, None] = {}                         # links whose flows changed
        self._tracks = {r.name: ([0], [0.0]) for r in resources if r.kind != "engine"} if record else None
        self._report = REPORT

    def run(self) -> None:
        """To the end of all tasks. Raises ``ValueError`` if some can never end."""
        self._tick.callbacks = self._callbacks
        self._env.run()
        if self._live:
            raise ValueError(self._stuck())
        if self.progress:
            self.progress(self.admitted)

    def counters(self) -> dict[str, Steps]:
        return {name: Steps(np.array(times, np.int64), np.array(values, np.float64)) for name, (times, values)
                in (self._tracks or {}).items()}

    # -- an instant -------------------------------------------------------------------------------------------------

    def _instant(self, event: Event) -> None:
        event.callbacks = self._callbacks                            # SimPy takes them away; the event serves again
        self.now = now = int(self._env.now)
        self._due = self._agenda.pop(now, self._due)
        if self._window:
            self._admit()
        while True:
            while self._due or self._vacated:                        # tasks without engines end here and free others,
                self._settle()                                       # so that all who are ready now are weighed together
            self._grant(self._freed, self._start)
            if not self._due and self._stirred:
                self._share()
            if not self._due:
                break
        if self._tracks:
            for pool in self._buffers.values():
                self._track(pool.name, pool.amount - pool.free)
        if self.progress and self.admitted - len(self._live) >= self._report:
            self._report += REPORT
            self.progress(self.admitted - len(self._live))

    def _settle(self) -> None:
        """End what is due, admit and ready what follows."""
        due, self._due = self._due, []
        for item in due:
            if isinstance(item, _Live):
                live = item
            elif item.end == self.now:
                item.leave()
                self._stirred.update(dict.fromkeys(item.over))
                live = item.owner
            else:                                                    # its rate has changed since
                continue
            live.parts -= 1
            if not live.parts:
                if live.delayed:
                    self._move(live)
                else:
                    self._end(live)
        if self._window:
            self._admit()
        if self._vacated:
            self._grant(self._vacated, self._enqueue)

    def _at(self, time: int, item: _Live | Stream) -> None:
        if time == self.now:
            self._due.append(item)
        elif time in self._agenda:
            self._agenda[time].append(item)
        else:
            self._agenda[time] = [item]
            self._env.schedule(self._tick, NORMAL, time - self.now)

    # -- a task, from its admission to its end ------------------------------------------------------------------------

    def _admit(self) -> None:
        alive = self._live
        while len(alive) < self._window:
            task = next(self._feed, None)
            if task is None:
                self._window = 0                                     # none are left
                return
            live = alive[self.admitted] = _Live(self.admitted, task)
            self.admitted += 1
            for j in task.after:
                before = alive.get(j)
                if before is not None:                               # else it has ended
                    live.before += 1
                    if before.followers is None:
                        before.followers = [live]
                    else:
                        before.followers.append(live)
            if not live.before:
                self._ready(live)

    def _ready(self, live: _Live) -> None:
        live.ready = self.now
        takes = live.task.takes
        if not takes:
            self._enqueue(live)
            return
        live.wants = _together(self._buffers, takes)
        for pool, _ in live.wants:
            heappush(pool.queue, (0, live.ready, live.index, live))
            self._vacated.append(pool)

    def _enqueue(self, live: _Live) -> None:
        """Wait for the engines, or start without."""
        task = live.task
        engines = task.engines
        if not engines:
            live.wants = ()
            self._start(live)
            return
        wants = self._wants.get(engines)
        if wants is None:
            wants = self._wants[engines] = _together(self._engines, [(name, 1) for name in engines])
        live.wants = wants
        entry = (task.priority, live.ready, live.index, live)
        for pool, _ in wants:
            heappush(pool.queue, entry)
            self._freed.append(pool)

    def _grant(self, moved: list[_Pool], then: Callable[[_Live], None]) -> None:
        """Serve queues that may have moved: the first in all of its queues for which there is enough."""
        while moved:
            pool = moved.pop()
            queue = pool.queue
            while queue:
                live = queue[0][3]
                for other, need in live.wants:
                    if other.free < need or other.queue[0][3] is not live:
                        break
                else:
                    for other, need in live.wants:
                        other.free -= need
                        heappop(other.queue)
                        if other is not pool:
                            moved.append(other)
                    then(live)
                    continue
                break

    def _start(self, live: _Live) -> None:
        live.start = now = self.now
        task = live.task
        if not task.flows:
            self._at(now + task.delay_ps + task.time_ps, live)
        elif task.delay_ps:
            live.delayed = True
            self._at(now + task.delay_ps, live)
        else:
            self._move(live)

    def _move(self, live: _Live) -> None:
        """Begin all flows, and the time beside them."""
        live.delayed = False
        live.parts = 1
        for flow in live.task.flows:
            if flow.nbytes > 0:
                live.parts += 1
                moving = Stream(flow, tuple(self._links[name] for name in flow.over), live)
                moving.join()
                self._stirred.update(dict.fromkeys(moving.over))
        self._at(self.now + live.task.time_ps, live)

    def _end(self, live: _Live) -> None:
        task = live.task
        for pool, servers in live.wants:
            pool.free += servers
            self._freed.append(pool)
        for name, amount in task.gives:
            pool = self._buffers[name]
            pool.free += amount
            if pool.free > pool.amount * (1 + SLACK):
                raise ValueError(f"task {live.index} ({task.name!r}): gives back {amount:g} of {name!r}, "
                                 f"of which only {amount - pool.free + pool.amount:g} is taken")
            self._vacated.append(pool)
        del self._live[live.index]
        self._ended(live, self.now)
        for follower in live.followers or ():
            follower.before -= 1
            if not follower.before:
                self._ready(follower)

    # -- shared resources ---------------------------------------------------------------------------------------------

    def _share(self) -> None:
        """Set the rates of all flows that can feel the changes of this instant. Of each group only the first end is put
        on the agenda: it changes the rates of the others, or at least looks at them again."""
        stirred, self._stirred = self._stirred, {}
        for links, flows in connected(stirred):
            if flows:
                for flow, rate in zip(flows, fair_rates(links, flows), strict=True):
                    flow.move_at(rate, self.now)
                first = min(flow.end for flow in flows)
                for flow in flows:
                    if flow.end == first and flow.due != first:
                        flow.due = first
                        self._at(first, flow)
            if self._tracks:
                for link in links:
                    self._track(link.name, sum(flow.rate for flow in link.flows))

    def _track(self, name: str, value: float) -> None:
        assert self._tracks is not None
        times, values = self._tracks[name]
        if times[-1] == self.now:
            values[-1] = value
        elif values[-1] != value:
            times.append(self.now)
            values.append(value)

    def _stuck(self) -> str:
        """Why nothing goes on: the first in a queue for which there is not enough."""
        for live in self._live.values():
            for pool, need in live.wants:
                if pool.queue and pool.queue[0][3] is live and pool.free < need:
                    return (f"task {live.index} ({live.task.name!r}): waits for ever for {need:g} of {pool.name!r}, of which "
                            f"{pool.free:g} of {pool.amount:g} is free and nothing that runs gives any back"
                            + (f"; tasks beyond the window of {self._window} might" if self._window else ""))
        raise AssertionError("tasks are left, and none of them waits")


def _together(pools: Mapping[str, _Pool], wanted: Iterable[tuple[str, float]]) -> _Wants:
    """What is wanted of each pool, each pool once."""
    total: Counter[str] = Counter()
    for name, amount in wanted:
        total[name] += amount                                        # type: ignore[assignment]
    return tuple((pools[name], amount) for name, amount in total.items())
