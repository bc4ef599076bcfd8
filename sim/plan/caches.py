"""Caches of neurons or experts: what each step misses under a policy, all layers at once."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.plan.traces import Active

Policy = Literal["window", "lru", "frequency", "score", "pinned", "chance"]


class Misses(NamedTuple):
    """Per step and layer (steps, layers): items used, items used that were not there, items kept afterwards. ``kept``
    (steps, layers, items): what was there when the step began."""

    used: NDArray[np.int64]
    missed: NDArray[np.int64]
    resident: NDArray[np.int64]
    kept: Active


def simulate_cache(trace: Active, policy: Policy, *, capacity: int = 0, window: int = 5, decay: float = 0.3) -> Misses:
    """Run a trace (steps, layers, items) through a cache of each layer.

    ``window``: what the last ``window`` steps used stays, however much that is (LLM in a flash). ``lru``: the ``capacity``
    items used last. ``frequency``: those used most often so far. ``score``: those with the highest running score, in which
    the last step counts with the share ``decay`` (HybriMoE). ``pinned``: the first ``capacity`` items, those most active
    on average, for good. ``chance``: ``capacity`` items chosen without regard to activity, for good. What a step uses is
    fetched and kept for it even beyond the capacity.
    Raises ``ValueError`` for a policy or a size that makes no sense.
    """
    steps, layers, items = trace.shape
    if policy != "window" and not 0 <= capacity <= items:
        raise ValueError(f"cache: capacity: must be between 0 and the {items} items of a layer, found {capacity}")
    if policy == "window" and window < 1:
        raise ValueError(f"cache: window: must be at least 1 step, found {window}")
    worth = np.zeros((layers, items))
    there: Active = np.zeros((layers, items), bool)
    if policy in ("pinned", "chance"):
        there[:, _fixed(items, capacity, policy)] = True
    kept = np.empty_like(trace)
    resident = np.empty((steps, layers), np.int64)
    for s in range(steps):
        kept[s] = there
        worth = _worth(worth, trace[s], s, policy, decay)
        there = _keep(there, trace, s, worth, policy, capacity, window)
        resident[s] = there.sum(axis=1)
    missed = (trace & ~kept).sum(axis=2)
    return Misses(trace.sum(axis=2), missed, resident, kept)


def _worth(worth: NDArray[np.float64], used: Active, step: int, policy: Policy, decay: float) -> NDArray[np.float64]:
    """How much each item is worth keeping, after the step."""
    if policy == "lru":
        return np.where(used, step + 1.0, worth)
    if policy == "frequency":
        return worth + used
    return (1 - decay) * worth + decay * used


def _keep(there: Active, trace: Active, step: int, worth: NDArray[np.float64], policy: Policy, capacity: int,
          window: int) -> Active:
    if policy in ("pinned", "chance"):
        return there
    if policy == "window":
        recent: Active = np.asarray(trace[max(step - window + 1, 0):step + 1].any(axis=0))
        return recent
    candidates = there | trace[step]
    if capacity == 0:
        return np.zeros_like(there)
    # The best of what is there or was just fetched; ties go to the item that is more active on average (a lower index).
    rank = np.where(candidates, worth + _TIE * np.arange(worth.shape[1], 0, -1) / worth.shape[1], -1.0)
    best = np.argpartition(-rank, capacity - 1, axis=1)[:, :capacity]
    chosen = np.zeros_like(there)
    np.put_along_axis(chosen, best, True, axis=1)
    found: Active = chosen & candidates
    return found


#: Below what separates two counts or steps, above the rounding of a score.
_TIE = 1e-6


def _fixed(items: int, capacity: int, policy: Policy) -> NDArray[np.int64]:
    """Items that stay for good: the first ones, or as many spread evenly over all degrees of activity."""
    if policy == "pinned":
        return np.arange(capacity)
    return np.asarray((np.arange(capacity) + 0.5) * items / max(capacity, 1), np.int64)
