"""Where chunks are evaluated: in this process, in a pool of processes, or on a Dask cluster.

Each takes tasks as they are asked for, keeps a few in flight and gives results in the order in which they are ready. A
worker that dies takes its task with it: the task is given out again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: How often a task that takes its worker down is tried.
TRIES = 3
#: How long a scheduler may take to answer.
CONNECT = "10s"


class Executor(Protocol):
    """Runs one function on many tasks."""

    def run(self, function: Callable[[T], R], tasks: Iterator[T]) -> Iterator[tuple[T, R]]:
        """Results as they come. Raises what the function raises; ``ValueError`` for a task that kills its workers."""
        ...


class Here:
    """In this process, one after another."""

    def run(self, function: Callable[[T], R], tasks: Iterator[T]) -> Iterator[tuple[T, R]]:
        for task in tasks:
            yield task, function(task)


class Pool:
    """``jobs`` processes. Ctrl-C reaches the main process alone, which then decides."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs

    def run(self, function: Callable[[T], R], tasks: Iterator[T]) -> Iterator[tuple[T, R]]:
        pool = self._pool()
        waiting: dict[Future[R], tuple[T, int]] = {}
        again: list[tuple[T, int]] = []
        try:
            while True:
                while len(waiting) < self.jobs + 1 and (task := _next(again, tasks)) is not None:
                    waiting[pool.submit(function, task[0])] = task
                if not waiting:
                    return
                ready, _ = wait(waiting, return_when=FIRST_COMPLETED)
                done = [(waiting.pop(f), f) for f in ready]
                if any(isinstance(f.exception(), BrokenProcessPool) for _, f in done):
                    # All futures of a broken pool are lost; what ended before stays.
                    done += [(waiting.pop(f), f) for f in list(waiting)]
                    pool.shutdown(wait=False, cancel_futures=True)
                    pool = self._pool()
                for task, future in done:
                    if isinstance(future.exception(), BrokenProcessPool):
                        again.append(_once_more(task))
                    else:
                        yield task[0], future.result()
        finally:
            _stop(pool)

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.jobs, initializer=_worker, initargs=(os.getpid(),))


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers at once: what they are at is not wanted any more."""
    workers = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()


def _worker(parent: int) -> None:
    """Leave Ctrl-C to the main process, and end with it: after a kill -9 nobody else would tell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _next(again: list[tuple[T, int]], tasks: Iterator[T]) -> tuple[T, int] | None:
    if again:
        return again.pop()
    task = next(tasks, None)
    return None if task is None else (task, 1)


def _once_more(task: tuple[T, int]) -> tuple[T, int]:
    if task[1] >= TRIES:
        raise ValueError(f"a chunk took its worker down {TRIES} times; what is finished is safe")
    return task[0], task[1] + 1


class Dask:
    """A Dask cluster that runs already: ``dask://host:port`` of its scheduler. Its workers need perfboard and, for models
    and devices of your own, the same files. Dask itself moves the tasks of a worker that is lost to others."""

    def __init__(self, address: str) -> None:
        # An optional part, and slow to import: only a sweep that asks for a cluster pays for it.
        from distributed import Client
        try:
            self.client: Any = Client(address.replace("dask://", "tcp://"), timeout=CONNECT, set_as_default=False)
        except OSError as error:
            raise ValueError(f"--executor {address}: no scheduler answers there ({error})") from None

    def run(self, function: Callable[[T], R], tasks: Iterator[T]) -> Iterator[tuple[T, R]]:
        from distributed import as_completed
        waiting: dict[Any, T] = {}
        ready: Any = as_completed([], loop=self.client.loop)
        try:
            while True:
                while len(waiting) < 2 * max(sum(self.client.nthreads().values()), 1):
                    task = next(tasks, None)
                    if task is None:
                        break
                    future = self.client.submit(function, task, pure=False, retries=TRIES)
                    waiting[future] = task
                    ready.add(future)
                if not waiting:
                    return
                future = next(ready)
                yield waiting.pop(future), future.result()
        finally:
            self.client.cancel(list(waiting))
            self.client.close()


def executor(name: str, jobs: int) -> Executor:
    """``name``: empty for processes on this machine, or ``dask://host:port``. Raises ``ValueError``, and ``ImportError``
    where Dask is not installed."""
    if name.startswith("dask://"):
        return Dask(name)
    if name:
        raise ValueError(f"--executor {name!r}: expected dask://host:port")
    if jobs < 1:
        raise ValueError(f"-j {jobs}: at least one process")
    return Pool(jobs) if jobs > 1 else Here()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
