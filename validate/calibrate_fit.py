"""Fit a device's own parameters to its measured rows, and refuse what the rows cannot determine.

The formula, its parameters and their bounds are those of the fits that came with the package (``validate.fit_*``); the
start is what a look-up gives for this device today ("transferred" where it was never measured). A parameter is
determined if the rows alone, without any prior, place it within ``LIMIT``; those that are not keep the value of the start,
one by one, the worst first, since one of two that trade against each other may be fixed and the other is then known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_models import fitted_store
from accel_models.cost.terms import REGIMES, Array
from accel_models.cost.terms import regime as regime_index
from accel_models.fitted_store import ParameterSet
from validate.fit import Parameter, fit, interval, mape
from validate.measured import Table, held_out
from validate.study import ENOUGH, Predict, Problem

#: Standard error from the rows alone (ln, or share of the range for linear parameters) above which one is refused.
LIMIT = 0.5
#: Standard error beyond which the rows do not feel a parameter at all.
BLIND = 100.0
#: A value within this share of the range from a bound stands at it.
AT_BOUND = 1e-3
#: Fewest rows to fit to, for every parameter that is left free at the end.
ROWS_PER_PARAMETER = 3
#: Interval of a set whose unseen rows are too few to tell: within a factor of two, a judgement.
UNKNOWN = 2.0


class Verdict(NamedTuple):
    """One parameter: where it started, where it ended, how well the rows alone place it, and what became of it."""

    name: str
    start: float
    value: float
    stderr: float
    status: str                       # "fitted" | "at bound" | "undetermined: kept"


class Own(NamedTuple):
    """What a fit of one variant on one device and framework came to."""

    variant: str
    device: str
    framework: str
    generation: str
    n_fit: int
    n_held: int
    before: float                     # error on held-back rows with what a look-up gives today
    after: float
    source: str                       # of the start
    verdicts: tuple[Verdict, ...]
    refused: str                      # empty, or why no set is written
    made: ParameterSet | None


def fit_devices(problem: Problem, table: Table) -> Iterator[Own]:
    """Every variant, device and framework of a table."""
    keys = sorted(set(zip(table["variant"], table["device"], table["framework"], strict=True)))
    for variant, device, framework in keys:
        here = (table["variant"] == variant) & (table["device"] == device) & (table["framework"] == framework)
        yield fit_one(problem, table.where(here))


def fit_one(problem: Problem, rows: Table) -> Own:
    """One variant on one device with one framework: fit on what is not held back, judge on what is."""
    variant, device, framework = (str(rows[c][0]) for c in ("variant", "device", "framework"))
    generation, issue = str(rows["generation"][0]), str(rows["issue"][0])
    start, source = starting(problem, variant, device, generation, framework)
    held = held_out(rows, problem.family)
    train, test = rows.where(~held), rows.where(held)
    before = _error(problem, test, start.values) if len(test) else np.nan

    def refuse(why: str) -> Own:
        return Own(variant, device, framework, generation, len(train), len(test), before, np.nan, source, (), why, None)

    if len(train) < 2 * ROWS_PER_PARAMETER:
        return refuse(f"only {len(train)} rows to fit to")
    if not len(test):
        return refuse("no held-back rows to judge by: measure more shapes")
    values, verdicts = _determined(problem, train, start.values)
    after = _error(problem, test, values)
    if not any(v.status != KEPT for v in verdicts):
        return refuse("the rows determine no parameter")
    if not after < before:
        return refuse(f"the error on held-back rows does not fall ({100 * before:.1f} -> {100 * after:.1f} %)")
    lo, hi = _intervals(problem, test, values)
    made = ParameterSet(
        variant=variant, device=device, generation=generation, framework=framework, n_rows=len(train),
        values={k: _round(v) for k, v in sorted(problem.fold(values, issue).items())},
        stderr={v.name: _round(v.stderr, 2) for v in verdicts if v.status == "fitted"}, mape=_round(after), lo=lo, hi=hi,
        range={c: (float(rows[c].min()), float(rows[c].max())) for c in problem.ranges})
    return Own(variant, device, framework, generation, len(train), len(test), before, after, source, tuple(verdicts), "",
               made)


def starting(problem: Problem, variant: str, device: str, generation: str, framework: str) -> tuple[ParameterSet, str]:
    """What a look-up gives today; the formula's own start where the variant was never fitted."""
    own = {p.name: p.init for p in problem.parameters(variant, False)}
    try:
        found = fitted_store.lookup(problem.op, variant, device, generation, framework, overlays=False)
    except (KeyError, FileNotFoundError):
        return ParameterSet(values=own), "never fitted"
    return found.params.model_copy(update={"values": own | found.params.values}), found.source


KEPT = "undetermined: kept"


def _determined(problem: Problem, rows: Table, start: Mapping[str, float]) -> tuple[dict[str, float], list[Verdict]]:
    """Values after fitting what the rows determine, and a verdict on every parameter."""
    free = list(problem.parameters(str(rows["variant"][0]), False))
    names = {p.name: p for p in free}
    fixed = {k: v for k, v in start.items() if k not in names}
    fixed |= _best_setting(problem, rows, free, fixed, start)
    kept: dict[str, float] = {}
    predict = problem.bind(rows)
    while True:
        values = _solve(predict, rows["time_s"], free, {**fixed, **kept}, start, problem.own_prior)
        errors = standard_errors(predict, rows["time_s"], free, values)
        worst = max(errors, key=lambda name: errors[name], default="")
        enough = len(rows) >= ROWS_PER_PARAMETER * len(free)
        if not worst or (errors[worst] <= LIMIT and enough):
            break
        # What the rows do not feel at all goes at once.
        gone = {name for name, e in errors.items() if e > BLIND} or {worst}
        free = [p for p in free if p.name not in gone]
        kept |= {name: float(start[name]) for name in gone}
    verdicts = []
    used = problem.fold(values, str(rows["issue"][0]))       # an eager call's share means nothing to bare kernels
    for name, p in ((n, p) for n, p in names.items() if n in used):
        status = KEPT if name in kept else "at bound" if _at_bound(p, values[name]) else "fitted"
        verdicts.append(Verdict(name, float(start[name]), float(values[name]), errors.get(name, np.inf), status))
    return values, verdicts


def _solve(predict: Predict, measured: Array, free: Sequence[Parameter], fixed: Mapping[str, float],
           start: Mapping[str, float], prior: float, starts: int = 4) -> dict[str, float]:
    """Least squares over the free parameters, drawn weakly to the start (``prior`` per factor of e)."""
    if not free:
        return dict(fixed)
    begun = [Parameter(p.name, float(np.clip(start[p.name], p.lo, p.hi)), p.lo, p.hi, p.linear) for p in free]

    def extended(values: Mapping[str, float]) -> Array:
        drift = [(values[p.name] - p.init) / (p.hi - p.lo) if p.linear else np.log(values[p.name] / p.init)
                 for p in begun]
        return np.concatenate([predict({**fixed, **values}).time, np.exp(drift)])

    found = fit(extended, np.concatenate([measured, np.ones(len(begun))]), begun,
                weight=np.concatenate([np.ones(len(measured)), np.full(len(begun), 0.2 * prior)]), starts=starts)
    return {**fixed, **found.values}


def standard_errors(predict: Predict, measured: Array, free: Sequence[Parameter],
                    values: Mapping[str, float]) -> dict[str, float]:
    """Standard error of each free parameter from the rows alone: ln, or share of the range for linear ones.

    From the slopes of ln(time) at the fit. The scatter is taken robustly, and as 2 % at the least: rows that agree better
    than their clock can tell would otherwise "determine" anything.
    """
    base = np.log(predict(values).time)
    slopes = []
    for p in free:
        step = 0.01 * (p.hi - p.lo) if p.linear else 0.01
        x = values[p.name]
        up, down = np.clip([x + step, x - step] if p.linear else [x * np.exp(step), x * np.exp(-step)], p.lo, p.hi)
        width = (up - down) / (p.hi - p.lo) if p.linear else np.log(up / down)
        change = np.log(predict({**values, p.name: float(up)}).time / predict({**values, p.name: float(down)}).time)
        slopes.append(change / width)
    if not slopes:
        return {}
    jac = np.stack(slopes, axis=1)
    scatter = max(1.4826 * float(np.median(np.abs(base - np.log(measured)))), 0.02)
    information = jac.T @ jac + 1e-9 * np.eye(len(free))
    error = scatter * np.sqrt(np.diag(np.linalg.inv(information)))
    return {p.name: float(e) for p, e in zip(free, error, strict=True)}


def _best_setting(problem: Problem, rows: Table, free: Sequence[Parameter], fixed: Mapping[str, float],
                  start: Mapping[str, float]) -> dict[str, float]:
    """The discrete setting (rows of a matrix-vector kernel ...) with which a fit of all parameters suits the rows best."""
    settings = [dict(s) for s in problem.grid(rows)]
    if "gemv_rows" in settings[0]:              # a library may have a matrix-vector kernel where others had none
        settings += [s | {"gemv_rows": n} for s in settings for n in (0.0, 1.0)]
    settings = [s for i, s in enumerate(settings) if s not in settings[:i]]
    if len(settings) == 1:
        return settings[0]
    predict, measured = problem.bind(rows), np.log(rows["time_s"])

    def off(setting: Mapping[str, float]) -> float:
        values = _solve(predict, rows["time_s"], free, {**fixed, **setting}, start, problem.own_prior, starts=1)
        return float(np.mean(np.minimum(np.abs(np.log(predict(values).time) - measured), 0.5)))

    return min(settings, key=off)


def _at_bound(p: Parameter, value: float) -> bool:
    x, lo, hi = (value, p.lo, p.hi) if p.linear else (np.log(value), np.log(p.lo), np.log(p.hi))
    return bool(min(x - lo, hi - x) < AT_BOUND * (hi - lo))


def _error(problem: Problem, rows: Table, values: Mapping[str, float]) -> float:
    return mape(problem.bind(rows)(values).time, rows["time_s"])


def _intervals(problem: Problem, rows: Table, values: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Factors of the 80 % interval from held-back rows, by regime where there are enough."""
    cost = problem.bind(rows)(values)
    log = np.log(rows["time_s"] / cost.time)
    which: NDArray[Any] = np.broadcast_to(regime_index(cost), cost.time.shape)
    if len(rows) < ENOUGH:
        widest = max(UNKNOWN, float(np.exp(np.max(np.abs(log)))))
        return {"all": _round(1.0 / widest)}, {"all": _round(widest)}
    lo, hi = {}, {}
    for name, mask in [("all", which >= 0), *((r, which == i) for i, r in enumerate(REGIMES))]:
        if mask.sum() >= ENOUGH:
            low, high = interval(log[mask])
            lo[name], hi[name] = _round(min(low, 1.0)), _round(max(high, 1.0))
    return lo, hi


def _round(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")
