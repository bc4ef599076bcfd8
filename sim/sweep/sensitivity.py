"""Which parameters move which figure: Sobol indices, and where an axis has its knee.

Closed-form sweeps are asked anew, at points made for the purpose; those by event simulation are read from the rows of the
store. Both are shares of the variance of a figure over the space, each axis uniform (in its logarithm where it says so).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.sweep.evaluate import Evaluator
from sim.sweep.front import Columns
from sim.sweep.sample import sobol
from sim.sweep.space import Axis, Space

Array = NDArray[np.float64]
#: Resamplings of the interval.
BOOT = 200


class Index(NamedTuple):
    """Of one figure and axis: share of the variance by the axis alone (``first``) and with all its interactions
    (``total``), each with an 80 % interval from resampling (NaN where none)."""

    figure: str
    axis: str
    first: float
    first_lo: float
    first_hi: float
    total: float
    total_lo: float
    total_hi: float


class Knee(NamedTuple):
    """Along one axis, all else at a reference: ``at`` is where the figure bends most, ``before`` and ``after`` how much it
    changes per doubling of the axis on either side [-]."""

    figure: str
    axis: str
    at: float
    before: float
    after: float


def designed(space: Space, evaluator: Evaluator, figures: Sequence[str], n: int, seed: int = 0) -> tuple[list[Index], int]:
    """Indices by n (d + 2) evaluations: first order after Saltelli et al., Comput. Phys. Commun. 181 (2010), table 2 (b),
    total after Jansen (1999), ibid. (f). A row of the design is left out where one of its points has no figure. Also how
    many rows were left."""
    axes = space.axes
    cube = sobol(n, 2 * len(axes), seed)
    a, b = cube[:, :len(axes)], cube[:, len(axes):]
    blocks = [a, b, *(np.where(np.arange(len(axes)) == i, b, a) for i in range(len(axes)))]
    points = np.concatenate(blocks)
    columns, good = space.complete({x.name: x.at(points[:, i]) for i, x in enumerate(axes)})
    results = evaluator(space, columns)
    found, kept = [], n
    for name in figures:
        y = np.where(good, results.figures[name], np.nan).reshape(len(axes) + 2, n)
        y = y[:, np.isfinite(y).all(axis=0)]
        kept = min(kept, y.shape[1])
        found += _indices(name, [x.name for x in axes], y, seed)
    return found, kept


def _indices(name: str, axes: Sequence[str], y: Array, seed: int) -> list[Index]:
    """``y``: figures of the blocks A, B, A with column i from B, shape (d + 2, n)."""
    n = y.shape[1]
    if n < 2:
        return [Index(name, x, *[np.nan] * 6) for x in axes]
    picks = np.random.default_rng(seed).integers(0, n, (BOOT, n))
    first, total = _shares(y[:, None, :])
    boots = _shares(y[:, picks])
    lo, hi = (np.quantile(np.stack(boots), q, axis=2) for q in (0.1, 0.9))
    return [Index(name, x, float(first[i, 0]), float(lo[0, i]), float(hi[0, i]), float(total[i, 0]), float(lo[1, i]),
                  float(hi[1, i])) for i, x in enumerate(axes)]


def _shares(y: Array) -> tuple[Array, Array]:
    """First and total shares, shape (d, resamplings); of a figure that does not vary 0."""
    a, b, mixed = y[0], y[1], y[2:]
    both = np.concatenate([a, b], axis=-1)
    middle, var = both.mean(axis=-1, keepdims=True), both.var(axis=-1)
    flat = var <= 1e-24 * np.maximum(middle[..., 0] ** 2, 1e-300)
    var = np.where(flat, 1.0, var)
    first = ((b - middle) * (mixed - a)).mean(axis=-1) / var
    total = 0.5 * ((a - mixed) ** 2).mean(axis=-1) / var
    return np.where(flat, 0.0, first), np.where(flat, 0.0, total)


def given(rows: Columns, axes: Sequence[str], figures: Sequence[str]) -> list[Index]:
    """The same from finished rows: the variance of means over each value of an axis, and what is left when all other axes
    are fixed (NaN unless rows fill a grid)."""
    found = []
    for name in figures:
        fine = np.isfinite(rows[name].astype(float))
        y = rows[name][fine].astype(float)
        codes = {x: np.unique(rows[x][fine].astype(str), return_inverse=True)[1].reshape(-1) for x in axes}
        whole = len(y) == np.prod([float(c.max() + 1) for c in codes.values()]) if len(y) else False
        var = float(y.var()) or 1.0
        for x in axes:
            first = float(_means(codes[x], y).var()) / var
            rest = np.zeros(len(y), dtype=np.int64)
            for other in (k for k in axes if k != x):
                rest = rest * (int(codes[other].max()) + 1) + codes[other]
            total = 1 - float(_means(rest, y).var()) / var if whole else np.nan
            found.append(Index(name, x, first, np.nan, np.nan, total, np.nan, np.nan))
    return found


def _means(code: NDArray[np.intp] | NDArray[np.int64], y: Array) -> Array:
    """Of each row the mean over the rows that share its code."""
    _, code = np.unique(code, return_inverse=True)
    code = code.reshape(-1)
    return np.asarray((np.bincount(code, y) / np.bincount(code))[code])


def profile(space: Space, evaluator: Evaluator, axis: Axis, at: Mapping[str, object], figures: Sequence[str],
            n: int = 33) -> tuple[Array, dict[str, Array]]:
    """Values along one axis, all other axes ``at`` a reference, and the figures there; NaN where there is no point."""
    values = np.unique(axis.at((np.arange(n) + 0.5) / n)) if axis.continuous else np.unique(axis.values)
    fixed = {a.name: np.array([at[a.name]] * len(values)) for a in space.axes}
    columns, good = space.complete({**fixed, axis.name: values})
    results = evaluator(space, columns)
    return values.astype(float), {f: np.where(good, results.figures[f], np.nan) for f in figures}


def knee(figure: str, axis: str, x: Array, y: Array) -> Knee | None:
    """Where a curve lies farthest from the line between its ends, both axes logarithmic where positive; None for a curve
    with fewer than four points, or one that is straight or flat to 2 %."""
    fine = np.isfinite(y) & (x > 0) & (y > 0)
    x, y = x[fine], y[fine]
    if len(x) < 4:
        return None
    u, v = np.log2(x), np.log2(y)
    if np.ptp(v) < np.log2(1.02):
        return None
    chord = v[0] + (v[-1] - v[0]) * (u - u[0]) / (u[-1] - u[0])
    i = int(np.argmax(np.abs(v - chord)))
    if abs(v[i] - chord[i]) < 0.02 * np.ptp(v) or i in (0, len(x) - 1):
        return None
    before, after = ((v[j] - v[k]) / (u[j] - u[k]) for j, k in ((i, 0), (len(x) - 1, i)))
    return Knee(figure, axis, float(x[i]), float(2**before - 1), float(2**after - 1))
