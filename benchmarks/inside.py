"""Measurements inside one fresh process: ``python -m benchmarks.inside NAME OPTIONS`` prints a JSON object."""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from accel_models.bind import Hardware, bind
from accel_models.registry import load_device
from benchmarks import sweeps
from benchmarks.events import streamed_per_second, tasks_per_second
from sim import query
from sim.answer import answer
from sim.estimate import Workload, estimate
from sim.query import Query, load_spec, resolve

DEVICES = ("h200_sxm", "h100_sxm", "a100_sxm4_80gb", "b200_sxm", "l40s", "a40", "h100_pcie", "mi300x")


def _cpu(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


# -- one query --------------------------------------------------------------------------------------------------------

def queries(models: list[str], tp: int, n: int) -> list[Query]:
    """``n`` different questions, so that nothing is answered from a cache."""
    draw = random.Random(20)
    return [Query(model=models[i % len(models)], hw=DEVICES[i % 4], tp=tp, batch=draw.randint(1, 256),
                  isl=draw.randint(64, 8000), osl=draw.randint(16, 2000)) for i in range(n)]


def query_time(models: list[str], tp: int, n: int) -> dict[str, float]:
    """Median CPU time of resolve and answer, elasticities included, with models at hand and with each read anew."""
    asked = queries(models, tp, n)
    for q in queries(models, tp, 4 * len(models)):                     # files read and parsed: not the subject here
        answer(resolve(q))
    at_hand = [_cpu(lambda q=q: answer(resolve(q))) for q in asked]    # type: ignore[misc]

    def anew(q: Query) -> None:
        query._bundled_model.cache_clear()
        answer(resolve(q))

    read = [_cpu(lambda q=q: anew(q)) for q in asked]                  # type: ignore[misc]
    return {"at_hand_s": statistics.median(at_hand), "anew_s": statistics.median(read)}


# -- many points ------------------------------------------------------------------------------------------------------

def _hardware() -> Hardware:
    return bind([load_device(name) for name in DEVICES])


def _axes(n: int, shift: int = 0) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Batch sizes (n, 1) and lengths (1, n)."""
    return 1 + 4 * np.arange(n)[:, None] + shift, 64 + 96 * np.arange(n)[None, :] + 16 * shift


def grid(model: str, n: int) -> dict[str, float]:
    """Points per CPU second of a grid of devices x n batch sizes x n lengths; median of three different grids."""
    spec, hardware = load_spec(model), _hardware()
    works = [Workload(batch=batch, isl=length, osl=128) for batch, length in (_axes(n, shift) for shift in range(3))]
    times = [_cpu(lambda w=w: estimate(spec, hardware, w)) for w in works]        # type: ignore[misc]
    return {"points": len(DEVICES) * n * n, "points_per_s": len(DEVICES) * n * n / statistics.median(times)}


def scattered(model: str, n: int) -> dict[str, float]:
    """The same for n unrelated pairs of batch and length: no figure is shared between points."""
    spec, hardware, draw = load_spec(model), _hardware(), np.random.default_rng(1)
    work = Workload(batch=draw.integers(1, 256, n), isl=draw.integers(64, 6000, n), osl=128)
    return {"points": len(DEVICES) * n, "points_per_s": len(DEVICES) * n / _cpu(lambda: estimate(spec, hardware, work))}


def against_loop(model: str, n: int, looped: int) -> dict[str, float]:
    """Points per second of one array call over those of a loop over points, same function; results must agree."""
    spec, hardware, draw = load_spec(model), _hardware(), np.random.default_rng(2)
    single = [bind([load_device(name)]) for name in DEVICES]
    batch, length = _axes(n)
    fast = _cpu(lambda: estimate(spec, hardware, Workload(batch=batch, isl=length, osl=128))) / (len(DEVICES) * n * n)
    found = estimate(spec, hardware, Workload(batch=batch, isl=length, osl=128)).metrics
    whole = {k: np.broadcast_to(found[k], (len(DEVICES), n, n)) for k in ("ttft_s", "tpot_s")}
    places = [tuple(int(x) for x in draw.integers(0, (len(DEVICES), n, n))) for _ in range(looped)]

    def one(d: int, i: int, j: int) -> float:
        alone = estimate(spec, single[d], Workload(batch=batch[i, 0], isl=length[0, j], osl=128)).metrics
        return max(abs(float(alone[k].item(0)) / float(a[d, i, j]) - 1) for k, a in whole.items())

    start = time.process_time()
    worst = max(one(*place) for place in places)
    slow = (time.process_time() - start) / looped
    return {"ratio": slow / fast, "worst_difference": worst}


NAMES: dict[str, Callable[..., dict[str, float]]] = {
    "query_time": query_time, "grid": grid, "scattered": scattered, "against_loop": against_loop,
    "tasks_per_second": tasks_per_second, "streamed_per_second": streamed_per_second,
    "sweep_points": sweeps.points, "sweep_rows": sweeps.rows, "sweep_whole": sweeps.whole,
}

if __name__ == "__main__":
    print(json.dumps(NAMES[sys.argv[1]](**json.loads(sys.argv[2]))))
