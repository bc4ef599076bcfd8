"""Fit named parameters of a cost function to measured times: bounded, robust, on log residuals (SciPy's only home)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

Array = NDArray[np.float64]
#: A step that lowers the sum by less than this share ends the search: it moves no error by a tenth of a percent.
FTOL = 1e-6
#: Most evaluations of one search. The cheapest of several tiles has kinks, along which a search can creep for hours.
MOST = 100


@dataclass(frozen=True)
class Parameter:
    """A fitted argument: searched in [lo, hi], on a log scale unless ``linear``; ``init`` is where it starts."""

    name: str
    init: float
    lo: float
    hi: float
    linear: bool = False


@dataclass(frozen=True)
class Fit:
    """Values with their standard errors, relative to the value (log scale) or absolute (``linear``)."""

    values: dict[str, float]
    stderr: dict[str, float]
    residuals: Array                  # ln(predicted / measured) on the rows of the fit
    undetermined: tuple[str, ...]     # the data say nothing about these: at a bound, or error above ``limit``


def fit(predict: Callable[[Mapping[str, float]], Array], measured: Array, parameters: Sequence[Parameter], *,
        weight: Array | None = None, loss_scale: float = 0.1, limit: float = 1.0, starts: int = 1, seed: int = 0) -> Fit:
    """Minimise the robust (soft L1) sum of squared log residuals of ``predict(values)`` against ``measured``.

    Parameters
    ----------
    predict : maps parameter values to predicted times, one per row. [s]
    measured : measured times, positive. [s]
    weight : one factor per row on its residual; default 1.
    loss_scale : residual (ln) beyond which a row counts as an outlier.
    limit : standard error (ln, or share of the range for ``linear``) above which a parameter is "undetermined".
    starts : number of starting points; the first is ``init``, the others are drawn from the bounds with ``seed``.
    """
    lo = np.array([p.lo if p.linear else np.log(p.lo) for p in parameters])
    hi = np.array([p.hi if p.linear else np.log(p.hi) for p in parameters])
    init = np.array([p.init if p.linear else np.log(p.init) for p in parameters])
    w = np.ones_like(measured) if weight is None else weight
    log_measured = np.log(measured)

    def values(x: Array) -> dict[str, float]:
        return {p.name: float(v if p.linear else np.exp(v)) for p, v in zip(parameters, x, strict=True)}

    def residual(x: Array) -> Array:
        return np.asarray(w * (np.log(predict(values(x))) - log_measured), dtype=np.float64)

    rng = np.random.default_rng(seed)
    begin = [np.clip(init, lo + 1e-6 * (hi - lo), hi - 1e-6 * (hi - lo))]
    begin += [lo + (hi - lo) * rng.uniform(0.1, 0.9, len(lo)) for _ in range(starts - 1)]
    best = min((least_squares(residual, x0, bounds=(lo, hi), loss="soft_l1", f_scale=loss_scale, x_scale=hi - lo,
                              diff_step=np.full(len(lo), 1e-3), ftol=FTOL, max_nfev=MOST) for x0 in begin),
               key=lambda r: r.cost)

    dof = max(len(measured) - len(parameters), 1)
    jac = np.asarray(best.jac, dtype=np.float64)
    jtj = jac.T @ jac
    cov = np.linalg.pinv(jtj) * (2 * best.cost / dof)
    err = np.sqrt(np.maximum(np.diag(cov), 0.0))
    blind = np.diag(jtj) < 1e-9 * max(np.diag(jtj).max(), 1e-300)
    wide = err > np.where([p.linear for p in parameters], limit * (hi - lo), limit)
    loose = blind | wide
    return Fit(values=values(best.x),
               stderr={p.name: float(e) for p, e in zip(parameters, err, strict=True)},
               residuals=residual(best.x) / w,
               undetermined=tuple(p.name for p, bad in zip(parameters, loose, strict=True) if bad))


def mape(predicted: Array, measured: Array) -> float:
    """Mean absolute percentage error as a fraction."""
    return float(np.mean(np.abs(predicted / measured - 1.0)))


def interval(log_ratio: Array, coverage: float = 0.8) -> tuple[float, float]:
    """Factors (lo, hi) on a prediction that hold ``coverage`` of ``measured / predicted`` (split-conformal quantiles).

    ``log_ratio`` is ln(measured / predicted) on rows not used for the fit; the finite-sample rank (n+1) is used.
    """
    n = len(log_ratio)
    ordered = np.sort(log_ratio)
    tail = (1 - coverage) / 2
    low = max(int(np.floor((n + 1) * tail)) - 1, 0)
    high = min(int(np.ceil((n + 1) * (1 - tail))) - 1, n - 1)
    return float(np.exp(ordered[low])), float(np.exp(ordered[high]))
