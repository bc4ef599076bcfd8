"""What the fits of elementwise kernels, collectives and mixtures of experts have in common.

A ``Problem`` says how rows of one measured table become a cost; everything else is the same for all three: a pool over
all devices, a pool per engine generation, a set per device and framework. Each level starts from the one above and is
drawn to it by a weak prior, so that a set with few rows changes only what they determine. Intervals come from rows
that the fit has not seen: held-back shapes for a device's own set, whole left-out chips for the pools.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_models.bind import Hardware, bind
from accel_models.cost.terms import REGIMES, Array, Cost
from accel_models.cost.terms import regime as regime_index
from accel_models.fitted_store import FittedFile, ParameterSet
from accel_models.registry import load_device
from validate.fit import Fit, Parameter, fit, mape
from validate.intervals import ENOUGH as ENOUGH
from validate.intervals import Factors, calibration_half, covered, factors
from validate.measured import Table, data_dir, held_out

Values = Mapping[str, float]
Predict = Callable[[Values], Cost]
Labels = NDArray[Any]

#: Weight of one parameter's prior beside one row's residual: a factor e away from the prior costs as much as one row
#: that is 15 % off, so some ten rows suffice to overrule it.
PRIOR_WEIGHT = 0.15
DATE = "2026-11-21"
#: Where fitted files lie in the source tree.
OUT = Path(str(resources.files("accel_models.fitted")))


@dataclass(frozen=True)
class Problem:
    """One op's fit. Besides the measured columns its table has ``variant`` (class of kernels with parameters of its
    own), ``generation`` (of the device), ``issue`` (how the call was made, see ``fold``) and ``apart``: empty, or the
    framework whose rows stay out of the common pools because its software is not what a new device would run.
    """

    op: str
    formula: str
    source: str
    family: tuple[str, ...]                                   # columns that keep a shape family together
    parameters: Callable[[str, bool], tuple[Parameter, ...]]  # of a variant; True: for a pool
    bind: Callable[[Table], Predict]                          # rows -> cost as a function of the fitted values
    roofline: Callable[[Table], Array]                        # peak rates alone [s]
    fold: Callable[[Values, str], dict[str, float]]           # values as one issue class sees them
    serving: str                                              # the issue class that a model in production sees
    ranges: tuple[str, ...]                                   # columns whose span is recorded
    grid: Callable[[Table], Sequence[dict[str, float]]] = lambda t: ({},)     # settings to try in turn
    prior: float = PRIOR_WEIGHT                               # how strongly a pool of all holds to the start
    kin_prior: float = PRIOR_WEIGHT                           # how strongly a generation holds to the pool of all
    own_prior: float = PRIOR_WEIGHT                           # how strongly a device holds to its generation


@dataclass
class Fitted:
    """Values before folding, with what the optimiser said of them."""

    values: dict[str, float]
    stderr: dict[str, float]
    n_rows: int


def chip(device: str) -> str:
    """The silicon behind a device name: variants of memory or form factor are not independent evidence."""
    parts = device.split("_")
    return "_".join(parts[:2]) if parts[0] == "rtx" else parts[0]


def fit_rows(problem: Problem, rows: Table, start: Values | None = None, *, pool: bool = False,
             prior: float = PRIOR_WEIGHT) -> Fitted:
    """Fit one variant's parameters to rows, from ``start`` (a fit one level up) or from the parameters' own start.

    In a pool every chip weighs the same, however many rows it has.
    """
    parameters = problem.parameters(str(rows["variant"][0]), pool)
    begin = {p.name: (start or {}).get(p.name, p.init) for p in parameters}
    begun = [Parameter(p.name, float(np.clip(begin[p.name], p.lo, p.hi)), p.lo, p.hi, p.linear) for p in parameters]
    weight = np.ones(len(rows))
    if pool:
        chips = np.array([chip(d) for d in rows["device"]])
        names, inverse, counts = np.unique(chips, return_inverse=True, return_counts=True)
        weight = np.sqrt(len(rows) / len(names) / counts[inverse])
    predict = problem.bind(rows)
    best: tuple[float, Fit, dict[str, float]] | None = None
    for fixed in problem.grid(rows):
        found = _with_prior(predict, rows["time_s"], begun, weight, fixed, prior)
        score = float(np.sum(weight * np.minimum(np.abs(found.residuals[:len(rows)]), 0.5)))
        if best is None or score < best[0]:
            best = score, found, fixed
    assert best is not None, "a grid holds at least one setting"
    _, found, fixed = best
    return Fitted({**found.values, **fixed}, found.stderr, len(rows))


def _with_prior(predict: Predict, measured: Array, parameters: Sequence[Parameter], weight: Array,
                fixed: Values, prior: float) -> Fit:
    def extended(values: Values) -> Array:
        drift = [(values[p.name] - p.init) / (p.hi - p.lo) if p.linear else np.log(values[p.name] / p.init)
                 for p in parameters]
        return np.concatenate([predict({**values, **fixed}).time, np.exp(drift)])

    target = np.concatenate([measured, np.ones(len(parameters))])
    return fit(extended, target, parameters,
               weight=np.concatenate([weight, np.full(len(parameters), prior)]))


class Part(NamedTuple):
    """What the fits of one variant add to a study: pools, own sets, and values of the rows in ``mask``."""

    mask: NDArray[np.bool_]
    pool: dict[tuple[str, str, str, str], Fitted]
    own: dict[tuple[str, str, str], Fitted]
    rows: tuple[Labels, ...]


@dataclass
class Study:
    """All fits of one op, and the predictions they give on rows they have not seen."""

    problem: Problem
    table: Table

    def __post_init__(self) -> None:
        self.held = held_out(self.table, self.problem.family)
        self.pool: dict[tuple[str, str, str, str], Fitted] = {}
        self.own: dict[tuple[str, str, str], Fitted] = {}
        n = len(self.table)
        self.own_pred, self.far_pred = np.full(n, np.nan), np.full(n, np.nan)
        self.own_regime, self.far_regime = np.full(n, "", dtype=object), np.full(n, "", dtype=object)
        self.roofline = self.problem.roofline(self.table)
        self.chips = np.array([chip(str(d)) for d in self.table["device"]], dtype=object)
        #: Held-back rows that give the intervals of fitted sets; the other held-back rows test them.
        self.calibration = calibration_half(self.table, self.problem.family)

    # -- fits -----------------------------------------------------------------------------------------------------

    def pooled(self, variant: str, generation: str = "", without: str = "", apart: str = "") -> Fitted | None:
        """Fit over all training rows of a variant, of one generation, or all but one chip. None where none is left."""
        key = (variant, generation, without, apart)
        if key not in self.pool:
            t = self.table
            mask = (t["variant"] == variant) & (t["apart"] == apart) & ~self.held
            if generation:
                mask &= t["generation"] == generation
            if without:
                mask &= np.array([chip(d) != without for d in t["device"]])
            if not mask.any():
                return None
            above = self.pooled(variant, "", without, apart) if generation else None
            self.pool[key] = fit_rows(self.problem, t.where(mask), above.values if above else None, pool=True,
                                      prior=self.problem.kin_prior if above else self.problem.prior)
        return self.pool[key]

    def transferred(self, variant: str, device: str, generation: str, apart: str) -> Fitted | None:
        """What a look-up gives for a chip never measured: its generation's pool without it, else everybody's."""
        return (self.pooled(variant, generation, chip(device), apart)
                or self.pooled(variant, "", chip(device), apart))

    def variants(self) -> list[str]:
        """Classes of kernels, those with most rows first. No fit of one needs anything of another."""
        names, counts = np.unique(self.table["variant"].astype(str), return_counts=True)
        return [str(names[i]) for i in np.argsort(-counts, kind="stable")]

    def run(self) -> Study:
        for variant in self.variants():
            self.fit_variant(variant)
        return self

    def fit_variant(self, variant: str) -> Part:
        """Every fit of one class of kernels, and what they predict of rows they have not seen."""
        t = self.table
        mine = t["variant"] == variant
        for device, apart in sorted(set(zip(t["device"][mine], t["apart"][mine], strict=True))):
            here = mine & (t["device"] == device) & (t["apart"] == apart)
            generation = str(t["generation"][here][0])
            start = self.pooled(variant, generation, apart=apart) or self.pooled(variant, apart=apart)
            for framework in [*sorted(set(t["framework"][here])), ""]:
                mask = here & (t["framework"] == framework) if framework else here
                if (framework or not apart) and (mask & ~self.held).any():
                    own = fit_rows(self.problem, t.where(mask & ~self.held), start.values if start else None,
                                   prior=self.problem.own_prior if start else self.problem.prior)
                    self.own[variant, device, framework] = own
                    if framework:
                        self._predict(mask & self.held, own, self.own_pred, self.own_regime)
            far = self.transferred(variant, device, generation, apart)
            if far:
                self._predict(here, far, self.far_pred, self.far_regime)
        return Part(mine, {k: v for k, v in self.pool.items() if k[0] == variant},
                    {k: v for k, v in self.own.items() if k[0] == variant},
                    tuple(a[mine] for a in (self.own_pred, self.own_regime, self.far_pred, self.far_regime)))

    def take(self, part: Part) -> None:
        """Put in what another process has fitted."""
        self.pool |= part.pool
        self.own |= part.own
        for mine, theirs in zip((self.own_pred, self.own_regime, self.far_pred, self.far_regime), part.rows, strict=True):
            mine[part.mask] = theirs

    def _predict(self, mask: NDArray[np.bool_], fitted: Fitted, times: Array, regimes: Labels) -> None:
        if mask.any():
            cost = self.problem.bind(self.table.where(mask))(fitted.values)
            times[mask], regimes[mask] = cost.time, regime(cost)

    # -- what comes of them ---------------------------------------------------------------------------------------

    def sets(self) -> Iterator[ParameterSet]:
        """Parameter sets in a fixed order: pools first, then devices."""
        t = self.table
        for variant in sorted(set(t["variant"])):
            mine = t["variant"] == variant
            for apart in sorted(set(t["apart"][mine])):
                yield from self._pool_sets(variant, apart, mine & (t["apart"] == apart))
            for device in sorted(set(t["device"][mine])):
                yield from self._device_sets(variant, device, mine & (t["device"] == device))

    def _pool_sets(self, variant: str, apart: str, mine: NDArray[np.bool_]) -> Iterator[ParameterSet]:
        """A pool serves chips never measured: its interval is that of all left-out chips."""
        t, serving = self.table, self.problem.serving
        names = {apart: apart} if apart else {i: "" if i == serving else i for i in (serving, *sorted(set(t["issue"])))}
        generations = [] if apart else sorted(set(t["generation"][mine]))
        for generation in ["", *generations]:
            pool = self.pooled(variant, generation, apart=apart)
            for issue, name in names.items():
                if pool and (name in ("", apart) or (t["issue"][mine] == issue).any()):
                    alike = mine if apart else mine & (t["issue"] == issue)
                    yield self._set(variant, "", generation, name, serving if apart else issue, pool, alike,
                                    self.far_pred, self.far_regime)

    def _device_sets(self, variant: str, device: str, here: NDArray[np.bool_]) -> Iterator[ParameterSet]:
        t, serving = self.table, self.problem.serving
        generation, frameworks = str(t["generation"][here][0]), sorted(set(t["framework"][here]))
        for framework in frameworks:
            mask = here & (t["framework"] == framework)
            own, issue = self.own.get((variant, device, framework)), str(t["issue"][mask][0])
            if own:
                yield self._set(variant, device, generation, framework, issue, own, mask, self.own_pred,
                                self.own_regime)
        common = here & (t["apart"] == "")
        issues = set(t["issue"][common])
        if (len(frameworks) > 1 or issues != {serving}) and (own := self.own.get((variant, device, ""))):
            # Where no row was issued as in production, the fixed time is borrowed: so is the interval.
            seen = serving in issues
            pred, reg = (self.own_pred, self.own_regime) if seen else (self.far_pred, self.far_regime)
            rows = common & (t["issue"] == serving)
            yield self._set(variant, device, generation, "", serving, own, rows, pred, reg)

    def _set(self, variant: str, device: str, generation: str, framework: str, issue: str, fitted: Fitted,
             rows: NDArray[np.bool_], pred: Array, regimes: Labels) -> ParameterSet:
        t = self.table
        values = self.problem.fold(fitted.values, issue)
        lo, hi = self._far_factors(variant, issue, rows) if pred is self.far_pred else self._own_factors(
            variant, issue, rows)
        test = rows & np.isfinite(pred)
        return ParameterSet(
            variant=variant, device=device, generation=generation, framework=framework,
            values={k: _round(v) for k, v in sorted(values.items())},
            stderr={k: _round(v, 2) for k, v in sorted(fitted.stderr.items()) if k in values and np.isfinite(v)},
            n_rows=fitted.n_rows, mape=_round(mape(pred[test], t["time_s"][test])) if test.any() else 0.0, lo=lo, hi=hi,
            range={c: (float(t[c][rows].min()), float(t[c][rows].max())) for c in self.problem.ranges if rows.any()})

    # -- intervals ------------------------------------------------------------------------------------------------

    def log_ratio(self, pred: Array) -> Array:
        """ln(measured / predicted), NaN where there is no prediction."""
        out: Array = np.log(self.table["time_s"] / np.where(np.isfinite(pred), pred, np.nan))
        return out

    def _classes(self, variant: str, issue: str, rows: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
        """From narrow to wide: the rows themselves, those of the variant issued alike, all issued alike, all."""
        t = self.table
        apart = str(t["apart"][rows][0]) if rows.any() else ""
        alike = (t["issue"] == issue) & (t["apart"] == apart)
        return [rows, (t["variant"] == variant) & alike, alike, np.ones(len(t), dtype=bool)]

    def _own_factors(self, variant: str, issue: str, rows: NDArray[np.bool_]) -> Factors:
        """Of a device's own set: from the calibration half of the held-back families."""
        log = np.where(self.calibration, self.log_ratio(self.own_pred), np.nan)
        return factors(log, self.own_regime, self._classes(variant, issue, rows))

    def _far_factors(self, variant: str, issue: str, rows: NDArray[np.bool_], without: str = "") -> Factors:
        """Of a pool, which serves chips never measured: from left-out chips, all but ``without``."""
        log = np.where(self.chips != without, self.log_ratio(self.far_pred), np.nan)
        return factors(log, self.far_regime, self._classes(variant, issue, rows), self.chips)

    def coverage(self) -> dict[str, Array]:
        """By split, for each row: 1 inside its interval, 0 outside, NaN if it tests none."""
        t, n = self.table, len(self.table)
        own, far = np.full(n, np.nan), np.full(n, np.nan)
        for (device, framework, variant), mask in self.groups(np.isfinite(self.own_pred)):
            rows = (t["variant"] == variant) & (t["device"] == device) & (t["framework"] == framework)
            found = self._own_factors(variant, str(t["issue"][mask][0]), rows)
            test = mask & ~self.calibration
            own[test] = covered(self.log_ratio(self.own_pred)[test], self.own_regime[test], found)
        keys = list(zip(t["variant"], t["issue"], t["apart"], self.chips, strict=True))
        for key in sorted({k for k, ok in zip(keys, np.isfinite(self.far_pred), strict=True) if ok}):
            variant, issue, apart, left_out = key
            alike = (t["variant"] == variant) & (t["issue"] == issue) & (t["apart"] == apart)
            test = alike & (self.chips == left_out) & np.isfinite(self.far_pred)
            found = self._far_factors(variant, issue, alike, left_out)
            far[test] = covered(self.log_ratio(self.far_pred)[test], self.far_regime[test], found)
        return {"held-back shapes": own, "unseen device": far}

    def scores(self, three: Mapping[str, Array] | None = None) -> list[dict[str, object]]:
        """Errors and coverage per device, framework, variant and regime on rows the fit has not seen; ``three`` are the
        predictions of the baseline by split."""
        out = []
        tested = self.coverage()
        for split, pred, regimes in (("held-back shapes", self.own_pred, self.own_regime),
                                     ("unseen device", self.far_pred, self.far_regime)):
            for (device, framework, variant), mask in self.groups(np.isfinite(pred)):
                for name in ["all", *sorted(set(regimes[mask]))]:
                    part = mask if name == "all" else mask & (regimes == name)
                    out.append({"op": self.problem.op, "device": device, "framework": framework, "variant": variant,
                                "regime": name, "split": split}
                               | errors(pred[part], self.table["time_s"][part], self.roofline[part])
                               | _more(self.table["time_s"][part], tested[split][part],
                                       three[split][part] if three else None))
        return out

    def groups(self, mask: NDArray[np.bool_]) -> Iterator[tuple[tuple[str, str, str], NDArray[np.bool_]]]:
        t = self.table
        keys = [(str(d), str(f), str(v)) for d, f, v in zip(t["device"], t["framework"], t["variant"], strict=True)]
        for key in sorted({k for k, m in zip(keys, mask, strict=True) if m}):
            yield key, mask & np.array([k == key for k in keys])


def errors(pred: Array, measured: Array, roofline: Array) -> dict[str, object]:
    """Figures of one class of rows; all but ``n`` are fractions, ``bias`` is the median of predicted/measured - 1."""
    off = pred / measured - 1.0
    return {"n": len(off), "mape": _round(float(np.mean(np.abs(off)))), "median": _round(float(np.median(np.abs(off)))),
            "bias": _round(float(np.median(off))), "roofline_mape": _round(mape(roofline, measured))}


def _more(measured: Array, tested: Array, three: Array | None) -> dict[str, object]:
    """Error of the three-constant fit, rows that test the interval, and the share of them inside."""
    n = int(np.isfinite(tested).sum())
    base = None if three is None or not np.isfinite(three).any() else _round(float(np.nanmean(np.abs(three / measured - 1))))
    return {"three_mape": base, "n_cover": n, "coverage": _round(float(np.nanmean(tested))) if n else None}


def regime(cost: Cost) -> Labels:
    """Name of the largest exclusive share of each row's time."""
    return np.broadcast_to(np.array(REGIMES, dtype=object)[regime_index(cost)], cost.time.shape)


def _round(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


# -- files --------------------------------------------------------------------------------------------------------


def write(study: Study, path: Path) -> None:
    """Write the fitted file; the same rows give the same bytes."""
    p = study.problem
    file = FittedFile(op=p.op, formula=p.formula, source=p.source, data_sha256=study.table.digest(), date=DATE,
                      set=tuple(study.sets()))
    write_file(file, path)


def write_file(file: FittedFile, path: Path) -> None:
    lines = [f"{k} = {_text(getattr(file, k))}" for k in ("op", "formula", "source", "data_sha256", "date")]
    for s in file.set:
        lines += ["", "[[set]]"]
        lines += [f"{k} = {_text(getattr(s, k))}" for k in ("variant", "device", "generation", "framework")]
        lines += [f"n_rows = {s.n_rows}", f"mape = {s.mape!r}"]
        lines += [f"{k} = {_inline(getattr(s, k))}" for k in ("values", "stderr", "lo", "hi", "range") if getattr(s, k)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _inline(table: Mapping[str, float | tuple[float, float]]) -> str:
    def cell(v: float | tuple[float, float]) -> str:
        return f"[{v[0]!r}, {v[1]!r}]" if isinstance(v, tuple) else repr(v)
    return "{ " + ", ".join(f"{k} = {cell(v)}" for k, v in table.items()) + " }"


# -- hardware of the rows -----------------------------------------------------------------------------------------


def known_rows(t: Table) -> Table:
    """Rows with a positive time on a device that has a file, with their ``generation``; others are named, dropped."""
    known = {str(d): _generation(str(d)) for d in sorted(set(t["device"]))}
    for name in (d for d, g in known.items() if not g):
        print(f"{t.name}: rows of {name!r} left out: no device of that name", file=sys.stderr)
    out = t.where(np.array([bool(known[d]) for d in t["device"]]) & (t["time_s"] > 0))
    out.columns["apart"] = np.full(len(out), "", dtype=object)
    out.columns["generation"] = np.array([known[d] for d in out["device"]], dtype=object)
    return out


def _generation(device: str) -> str:
    try:
        return load_device(device).generation
    except ValueError:
        return ""


def hardware(t: Table, *names: str) -> dict[str, Array]:
    """Columns of device figures, one value per row."""
    return {n: np.array([getattr(_bound(str(d)), n)[0] for d in t["device"]]) for n in names}


def rate(t: Table, formats: Sequence[str]) -> Array:
    """Dense matrix rate of each row's device in each row's format, after fallback. [FLOP/s]"""
    return np.array([_bound(str(d)).rates([f])[0] for d, f in zip(t["device"], formats, strict=True)])


@cache
def _bound(name: str) -> Hardware:
    return bind([load_device(name)])


def main(study: Callable[[Path], Study], path: Path) -> None:
    """Command line of a fit: read ``--data DIR`` (or ``PERFBOARD_DATA``), write ``path``, print the errors."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=None, help="directory of the measured tables")
    parser.add_argument("--out", type=Path, default=path, help="file to write")
    options = parser.parse_args()
    done = study(data_dir(options.data)).run()
    write(done, options.out)
    print(report(done.scores()))


def report(scores: Sequence[Mapping[str, object]]) -> str:
    """The error table as text, one line per class of rows over all regimes."""
    lines = [f"{'device':20} {'framework':20} {'variant':17} {'split':16} {'n':>5} "
             f"{'mape':>7} {'median':>7} {'bias':>7} roofline"]
    for s in scores:
        if s["regime"] == "all":
            lines.append(f"{s['device']:20} {s['framework']:20.20} {s['variant']:17} {s['split']:16} {s['n']:5} "
                         f"{s['mape']:7.3f} {s['median']:7.3f} {s['bias']:7.3f} {s['roofline_mape']:8.3f}")
    for split in ("held-back shapes", "unseen device"):
        chosen = [s for s in scores if s["regime"] == "all" and s["split"] == split]
        n = np.array([float(str(s["n"])) for s in chosen])
        if n.sum():
            mean = float(np.sum(n * np.array([float(str(s["mape"])) for s in chosen])) / n.sum())
            lines.append(f"{split}: mean error {mean:.3f} over {int(n.sum())} rows")
    return "\n".join(lines)
