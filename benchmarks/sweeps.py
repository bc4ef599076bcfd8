"""Sweeps of a million points: how fast points are evaluated, rows are written, and a sweep is taken up again."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from sim.sweep.evaluate import Results, closed
from sim.sweep.executors import Here
from sim.sweep.run import Run, chunk_size, read

#: A decode step of a 70 B model on four devices; every point has hardware of its own.
HEAD = """version = 1
model = "llama-3.1-70b"
hardware = { base = "h200_sxm" }
workload = { isl = 2048, osl = 256 }
deployment = { tp = 4 }
"""
GRID = """[sweep.range]
"hardware.memory.hbm.bandwidth" = { from = "2 TB/s", to = "10 TB/s", n = 50 }
"hardware.memory.l2.capacity" = { from = "25 MB", to = "400 MB", n = 20, scale = "log" }
"hardware.engine.matrix.units" = { from = 60, to = 260, n = %d }
"workload.concurrency" = { from = 4, to = 80, n = 20 }
"""
SAMPLE = """[sweep.range]
"hardware.memory.hbm.bandwidth" = { from = "2 TB/s", to = "10 TB/s" }
"hardware.memory.l2.capacity" = { from = "25 MB", to = "400 MB", scale = "log" }
"hardware.engine.matrix.units" = { from = 60, to = 260, integer = true }
"workload.concurrency" = { from = 4, to = 80 }
"workload.isl" = { from = 128, to = 8000 }
[sweep.sample]
method = "lhs"
n = %d
"""
OBJECTIVES = """[sweep.objectives]
tokens_per_s_per_gpu = "max"
j_per_output_token = "min"
"""


def experiment(kind: str, n: int) -> str:
    """The text of an experiment of n points: a ``grid`` (n a multiple of 20,000), or a ``sample``."""
    return HEAD + (GRID % (n // 20_000) if kind == "grid" else SAMPLE % n) + OBJECTIVES


def points(kind: str, n: int) -> dict[str, float]:
    """Points per CPU second of one process, evaluation alone."""
    space = read(experiment(kind, max(n, 20_000)), "x.toml")
    size = min(chunk_size(space), n)
    start = time.process_time()
    for at in range(0, n, size):
        columns, _ = space.columns(np.arange(at, min(at + size, n)))
        closed(space, columns)
    return {"points_per_s": n / (time.process_time() - start)}


def rows(n: int) -> dict[str, float]:
    """Rows per CPU second into a store, chunk by chunk, figures made up; and that many keys read again. [/s, s]"""
    text = experiment("grid", max(n, 20_000))
    space = read(text, "x.toml")
    draw, spent = np.random.default_rng(0), 0.0
    with tempfile.TemporaryDirectory() as folder, Run(space, text, Path(folder, "sweep.sqlite")) as run:
        for chunk in range(-(-n // run.size)):
            task = run.points(chunk)
            m = len(task.keys)
            made = Results(np.zeros(m, dtype=np.int8), [""] * m, {f: draw.random(m) for f in run.store.figures})
            start = time.process_time()
            run.store.add(task.keys, task.stamps, task.columns, made, (run.identity.space, chunk))
            spent += time.process_time() - start
        written = len(run.store.done(list(run.stamps.values())))
    return {"rows_per_s": written / spent, "rows": written}


def whole(kind: str, n: int, folder: str) -> dict[str, float]:
    """A sweep from its text to its finished store in this process alone: CPU time and points."""
    text = experiment(kind, n)
    start = time.process_time()
    with Run(read(text, "x.toml"), text, Path(folder, "sweep.sqlite")) as run:
        done = run.go(Here()).done
    return {"cpu_s": time.process_time() - start, "points": done}
