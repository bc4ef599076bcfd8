"""Memory only: what a model needs on a device, the largest batch and context, and the smallest change that would fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accel_models.bind import bind
from sim.estimate import memory
from sim.query import Query, Setting, resolve


def fits(query: Query) -> bool:
    """Does this question fit in memory? False as well where it cannot be asked at all (a split that is impossible)."""
    try:
        setting = resolve(query)
    except ValueError:
        return False
    return bool(np.all(budget(setting)["fits"]))


def budget(setting: Setting) -> dict[str, np.ndarray]:
    """Bytes by kind on one device of the setting (see ``sim.estimate.memory``), scalars."""
    hardware = bind([setting.device], setting.system)
    if np.isnan(hardware.dram_capacity[0]):
        raise ValueError(f"{setting.device.name}: memory.{setting.device.main_memory}.capacity: not known; "
                         f"set it, e.g. --set memory.main.capacity=16GB")
    return {k: np.asarray(v).reshape(-1)[0] for k, v in
            memory(setting.spec, hardware, setting.workload, setting.parallel, 0).items()}


def smallest_change(setting: Setting) -> str:
    """What would make it fit, each on its own and each the smallest of its kind; one line."""
    q = setting.query
    found = []
    room = int(np.nan_to_num(budget(setting)["max_concurrency"]))
    if room >= 1:
        found.append(f"--bs {room}")
    quants = ("fp8", "w4a16", "w3a16", "w2a16")
    if name := next((n for n in quants if n != q.quant.lower() and fits(replace(q, quant=n))), ""):
        found.append(f"--quant {name}")
    if tp := next((t for t in (2, 4, 8, 16, 32, 64) if t > q.tp and fits(replace(q, tp=t))), 0):
        found.append(f"--tp {tp}")
    shorter = next((n for n in (q.isl >> i for i in range(1, 12)) if n > q.prefix and fits(replace(q, isl=n))), 0)
    if shorter and not room:
        found.append(f"--isl {shorter}")
    m = budget(setting)
    short = (float(m["weights"]) + float(m["kv"]) - float(m["budget"])) / 2**30
    needs = f"weights and KV exceed their share by {short:.1f} GiB"
    if not found:
        return f"{needs}; no batch, split or format tried here would fit"
    return f"{needs}; would fit with {' or '.join(found)}"


def largest_context(setting: Setting) -> int:
    """Longest prompt that fits at this batch and output length, at most what the model allows; 0 if none."""
    q, limit = setting.query, setting.spec.max_context or 2**20
    low, high = q.prefix, limit - (q.osl if setting.spec.causal else 0)
    if high <= low or not fits(replace(q, isl=low + 1)):
        return 0
    while low < high:                                  # invariant: low fits, high + 1 does not or is not allowed
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(replace(q, isl=middle)) else (low, middle - 1)
    return low


def smallest_tp(setting: Setting) -> int:
    """Fewest tensor-parallel ranks with which it fits; 0 if none up to 64 does."""
    return next((t for t in (1, 2, 4, 8, 16, 32, 64) if fits(replace(setting.query, tp=t))), 0)
