"""The Pareto front of many points, and what sets its members apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]


def front(columns: Mapping[str, NDArray[Any]], objectives: Mapping[str, str]) -> NDArray[np.intp]:
    """Places of the points that no other point beats: none is at least as good in all objectives and better in one.

    ``objectives``: figure -> "min" or "max". Equal points are all kept; points that lack a figure (NaN) are left out.
    In the order of the first objective, best first.
    """
    cost = np.stack([np.asarray(columns[k], dtype=np.float64) * (1 if d == "min" else -1) for k, d in objectives.items()],
                    axis=1)
    places = np.flatnonzero(~np.isnan(cost).any(axis=1))
    # A point that beats another has the smaller sum of ranks, so the first that is left is beaten by none of the rest.
    ranks = np.stack([np.unique(c, return_inverse=True)[1].reshape(-1) for c in cost[places].T], axis=1)
    order = np.argsort(ranks.sum(axis=1), kind="stable")
    places, ranks = places[order], ranks[order].astype(np.int64)
    kept: list[NDArray[np.intp]] = []
    while len(places):
        first = ranks[0]
        equal = (ranks == first).all(axis=1)
        kept.append(places[equal])
        left = (ranks < first).any(axis=1)
        places, ranks = places[left], ranks[left]
    found = np.concatenate(kept) if kept else np.array([], dtype=np.intp)
    return found[np.lexsort(cost[found].T[::-1])]


def knee(columns: Mapping[str, NDArray[Any]], objectives: Mapping[str, str]) -> int:
    """Place of the member of a front that lies nearest the ideal point, each objective on a scale from its worst (1) to
    its best (0) on the front, logarithmic where all are positive."""
    far = sum(losses(columns[k], d) ** 2 for k, d in objectives.items())
    return int(np.argmin(far))


def losses(values: NDArray[Any], direction: str) -> NDArray[np.float64]:
    """How far each member of a front is from its best (0) to its worst (1), logarithmic where all are positive."""
    v = np.asarray(values, dtype=np.float64) * (1 if direction == "min" else -1)
    scaled = np.sign(v[0]) * np.log(np.abs(v)) if np.all(v > 0) or np.all(v < 0) else v
    return np.asarray((scaled - scaled.min()) / max(float(np.ptp(scaled)), 1e-300))


def distinctions(columns: Mapping[str, NDArray[Any]], objectives: Mapping[str, str]) -> list[str]:
    """For each member of a front, in the order of ``front``: what it is best at, the knee, or what the step from the member
    before it gains and gives."""
    n = len(next(iter(columns.values())))
    said: list[list[str]] = [[] for _ in range(n)]
    for k, d in objectives.items():
        v = np.asarray(columns[k], dtype=np.float64)
        said[int(np.argmin(v) if d == "min" else np.argmax(v))].append(f"best {k}")
    if n > 2:
        said[knee(columns, objectives)].append("knee")
    for i in range(1, n):
        if not said[i]:
            said[i].append(_step(columns, objectives, i))
    return [", ".join(s) for s in said]


def _step(columns: Mapping[str, NDArray[Any]], objectives: Mapping[str, str], i: int) -> str:
    parts = []
    for k in objectives:
        before, here = float(columns[k][i - 1]), float(columns[k][i])
        if before > 0 and abs(here / before - 1) >= 0.005:
            parts.append(f"{100 * (here / before - 1):+.0f} % {k}")
    return ", ".join(parts) or "as the one before"
