"""Points to figures: everything of one model, format, split and device in array calls, each point with its own hardware
numbers and workload.

An evaluator is a function ``(space, columns) -> Results``. ``closed`` is the closed form; ``one_by_one`` makes one of a
function of a single point (an event simulation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_models.bind import Hardware, bind, take
from accel_models.families import problems
from accel_models.registry import load_system
from sim import estimate as est
from sim.query import Setting, resolve
from sim.sweep import figures as fig
from sim.sweep import parameters as par
from sim.sweep import silicon
from sim.sweep.events import check as check_events
from sim.sweep.events import simulated
from sim.sweep.hardware import changed, vary
from sim.sweep.refused import apart
from sim.sweep.space import Columns, Space, cuts

Column = NDArray[np.float64]
Places = NDArray[np.intp]

#: Points of one array call: with more of them temporaries leave the cache, and memory grows; with fewer calls cost more.
ROWS = 4096
#: Devices are filled up to a multiple of this, and how much larger than the points a grid may be that holds them.
STEP, SPARSE = 64, 2.0
OK, INFEASIBLE, ERROR = 0, 1, 2
#: Names of a store's own columns.
RESERVED = ("id", "key", "stamp", "status", "error", "t")
STATUS = ("ok", "infeasible", "error")


class Results(NamedTuple):
    """Of each point: ``status`` (index into ``STATUS``), ``error`` (why, else empty) and its figures (NaN where none)."""

    status: NDArray[np.int8]
    error: list[str]
    figures: Columns


Evaluator = Callable[[Space, Columns], Results]


def stored(space: Space) -> list[str]:
    """Figures that a sweep keeps of every point. Raises ``ValueError`` for one that does not exist."""
    sweep, file = space.experiment.sweep, space.file
    needed = [n for e in (*space.figures.values(), *space.outcomes) for n in e.names if not par.is_parameter(n)]
    wanted = list(dict.fromkeys([*sweep.objectives, *sweep.keep, *needed, *space.figures]))
    for name in wanted:
        where = "objectives" if name in sweep.objectives else "keep" if name in sweep.keep else "constraints or derived"
        fig.check(name, space.figures, f"{file}: sweep.{where}")
    for name in space.figures:
        if name in fig.FIGURES or name in RESERVED or not name.isidentifier():
            raise ValueError(f"{file}: sweep.derived: {name!r} is taken, or no name; call it otherwise")
    if sweep.evaluator == "events":
        check_events(space, wanted)
    sides = [f"{n}_{side}" for n in sweep.objectives if n in fig.WITH_INTERVAL for side in ("lo", "hi")]
    limits = ["e2el_s"] if space.experiment.slo.request_latency is not None else []
    return list(dict.fromkeys([*fig.ALWAYS, *limits, *wanted, *sides, *silicon.needed(wanted)]))


def closed(space: Space, columns: Columns) -> Results:
    """The closed form. A point that cannot be asked (a split that does not divide the heads) is an ``error`` with its
    reason; one that does not fit, or misses a limit, is ``infeasible`` and has its figures all the same."""
    n = len(next(iter(columns.values())))
    out = _blank(n, [f for f in stored(space) if f not in space.figures])
    for members in _groups(columns):
        _put(out, members, _group(space, {k: v[members] for k, v in columns.items()}))
    return _judged(space, columns, out)


def one_by_one(function: Callable[[Space, Mapping[str, Any]], Mapping[str, float]]) -> Evaluator:
    """An evaluator of a function of one point, which returns its figures, and may say ``fits`` among them."""
    def run(space: Space, columns: Columns) -> Results:
        n = len(next(iter(columns.values())))
        out = _blank(n, [f for f in stored(space) if f not in space.figures])
        for i in range(n):
            try:
                found = function(space, {k: v[i].item() for k, v in columns.items()})
            except ValueError as error:
                out.status[i], out.error[i] = ERROR, str(error)
                continue
            for name in out.figures:
                out.figures[name][i] = found.get(name, np.nan)
            if not found.get("fits", True):
                out.status[i], out.error[i] = INFEASIBLE, "does not fit in memory"
        return _judged(space, columns, out)
    return run


def _blank(n: int, names: list[str]) -> Results:
    return Results(np.zeros(n, dtype=np.int8), [""] * n, {f: np.full(n, np.nan) for f in names})


def _put(out: Results, places: Places, part: Results) -> None:
    out.status[places] = part.status
    for i, text in zip(places.tolist(), part.error, strict=True):
        out.error[i] = text
    for name, values in part.figures.items():
        out.figures[name][places] = values


def _groups(columns: Columns) -> list[Places]:
    """Places of points that share model, formats, split, framework and device, and lack the same hardware numbers."""
    n = len(next(iter(columns.values())))
    code = np.zeros(n, dtype=np.int64)
    for name, values in columns.items():
        if cuts(name):
            distinct, place = np.unique(values, return_inverse=True)
            code = code * len(distinct) + place.reshape(-1)
        elif par.is_hardware(name) and np.isnan(values).any():
            code = code * 2 + np.isnan(values)
    order = np.argsort(code, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(code[order])) + 1)


def _group(space: Space, columns: Columns) -> Results:
    """Points of one group."""
    n = len(next(iter(columns.values())))
    shared = {k: v[0] for k, v in columns.items() if cuts(k)}
    work = {par.FIELDS[k][0]: np.broadcast_to(np.asarray(columns.get(k, space.base[k]), dtype=np.float64), n)
            for k in par.WORKLOAD}
    out = _blank(n, [f for f in stored(space) if f not in space.figures])
    try:
        setting = _setting(space, tuple(shared.items()))
        numbers = {par.key(setting.device, k): v for k, v in columns.items() if par.is_hardware(k) and not np.isnan(v[0])}
    except ValueError as error:
        return _all_wrong(out, str(error))
    first, place = _distinct(list(numbers.values()), n)
    try:
        hardware = _hardware(setting, {k: v[first] for k, v in numbers.items()})
    except ValueError as error:
        if len(first) == 1:
            return _all_wrong(out, str(error))
        for places, problem in apart(numbers, partial(_refused, setting)):
            part = {k: v[places] for k, v in columns.items()}
            _put(out, places, _all_wrong(_blank(len(places), list(out.figures)), problem) if problem else _group(space, part))
        return out
    wrong = problems(hardware)
    for places, problem in [part for part in _checked(setting, work) for part in _built(part, place, wrong)]:
        if problem:
            out.status[places] = ERROR
            for i in places.tolist():
                out.error[i] = problem
        else:
            _price(setting, hardware, place[places], {k: v[places] for k, v in work.items()}, places, out)
    try:
        main = load_system(setting.query.hw).main
        silicon.put(out.figures, main, setting.device, numbers)
    except ValueError as error:
        return _all_wrong(out, str(error))
    return out


def _all_wrong(out: Results, problem: str) -> Results:
    out.status[:] = ERROR
    out.error[:] = [problem] * len(out.error)
    return out


def _refused(setting: Setting, numbers: Mapping[str, float]) -> str:
    """Why the device cannot have these numbers, or the empty text."""
    try:
        bind([changed(setting.device, numbers)], setting.system)
    except ValueError as error:
        return str(error)
    return ""


def _distinct(columns: Sequence[NDArray[Any]], n: int) -> tuple[Places, Places]:
    """First places of the distinct rows, and which of them each row is."""
    code = np.zeros(n, dtype=np.int64)
    for values in columns:
        _, place = np.unique(values, return_inverse=True)
        _, code = np.unique(code * (int(place.max()) + 1) + place.reshape(-1), return_inverse=True)
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    return first, place.reshape(-1)


def _setting(space: Space, shared: tuple[tuple[str, Any], ...]) -> Setting:
    """What all points of a group share, resolved, with the least workload."""
    question = par.query({**space.base, "workload.isl": 1, "workload.osl": 1, "workload.prefix": 0,
                          "workload.concurrency": 1}, dict(shared))
    return resolve(question)


def _hardware(setting: Setting, numbers: Mapping[str, Column]) -> Hardware:
    return vary(setting.device, setting.system, numbers) if numbers else bind([setting.device], setting.system)


def _checked(setting: Setting, work: Mapping[str, Column]) -> list[tuple[Places, str]]:
    """Places by what is wrong with their workload (nothing: the empty text). Points are halved until a half is right or
    single; sorted by length, since nearly always the long ones are wrong."""
    todo: list[Places] = [np.argsort(work["isl"] + work["osl"], kind="stable")]
    good: list[Places] = []
    found: list[tuple[Places, str]] = []
    while todo:
        places = todo.pop()
        try:
            est.Workload(**{k: v[places] for k, v in work.items()}, utilization=0.9).check(setting.spec)
            good.append(places)
        except ValueError as error:
            if len(places) == 1:
                found.append((places, str(error)))
            else:
                todo += [places[:len(places) // 2], places[len(places) // 2:]]
    return [*([(np.concatenate(good), "")] if good else []), *found]


def _built(part: tuple[Places, str], row: Places, wrong: Sequence[str]) -> list[tuple[Places, str]]:
    """A part of the points cut further: those whose device (``row`` of each point) cannot be built go apart, by reason."""
    places, problem = part
    if problem or not any(wrong):
        return [part]
    texts = np.array(wrong)[row[places]]
    return [(places[texts == text], str(text)) for text in np.unique(texts)]


def _price(setting: Setting, hardware: Hardware, row: Places, work: Mapping[str, Column], places: Places,
           out: Results) -> None:
    """Figures of these points into ``out``; ``row`` is each point's row of ``hardware``.

    Points that fill most of a grid (hardware x lengths x batch sizes) are priced as that grid, where each op pays only for
    the axes that it has; points that share little are priced one by one, each with its own hardware."""
    n = len(places)
    lengths = [work[k] for k in ("isl", "osl", "prefix")]
    (some, device), (length, at), (size, b) = _distinct([row], n), _distinct(lengths, n), _distinct([work["batch"]], n)
    if len(some) * len(length) * len(size) <= SPARSE * n:
        isl, osl, prefix = (v[length][:, None] for v in lengths)
        load = est.Workload(isl=isl, osl=osl, prefix=prefix, batch=work["batch"][size][None, :],
                            utilization=setting.query.utilization)
        e = _ask(setting, hardware, _filled(row[some], STEP), load, paired=False)
        _keep(e, (len(e.hardware), len(length), len(size)), (device, at, b), places, out)
        return
    for start in range(0, n, ROWS):
        here = np.arange(start, min(start + ROWS, n))
        fill = _filled(here, max(1 << (len(here) - 1).bit_length(), STEP))
        load = est.Workload(**{k: v[fill] for k, v in work.items()}, utilization=setting.query.utilization)
        e = _ask(setting, hardware, row[fill], load, paired=True)
        _keep(e, (len(fill),), (np.arange(len(here)),), places[here], out)


def _filled(places: Places, step: int) -> Places:
    """Lengthened to a multiple of ``step``, the last repeated: look-ups of fitted parameters are remembered by the number
    of devices, which should not differ from call to call."""
    n = len(places)
    return places[np.minimum(np.arange(-(-n // step) * step if n > 1 else 1), n - 1)]


def _ask(setting: Setting, hardware: Hardware, rows: Places, load: est.Workload, *, paired: bool) -> est.Estimate:
    return est.estimate(setting.spec, take(hardware, rows.tolist()), load, setting.parallel,
                        framework=setting.query.framework, paired=paired)


def _keep(e: est.Estimate, shape: tuple[int, ...], at: tuple[Places, ...], places: Places, out: Results) -> None:
    """The figures at ``at`` (places on the axes of the estimate, which has this shape) into ``out``."""
    for name in out.figures:
        out.figures[name][places] = np.broadcast_to(fig.figure(name, e, len(shape) - 1), shape)[at]
    fits = np.broadcast_to(e.memory["fits"], shape)[at].astype(bool)
    out.status[places] = np.where(fits, OK, INFEASIBLE)
    for i in places[np.logical_not(fits)].tolist():
        out.error[i] = "does not fit in memory"


def _judged(space: Space, columns: Columns, out: Results) -> Results:
    """Derived figures added, and points outside a limit marked with the first one that they miss."""
    n = len(out.error)
    fields = dict(out.figures)

    def known(names: frozenset[str]) -> dict[str, Any]:
        return {x: fields[x] if x in fields else columns[c] if (c := space.name(x)) in columns
                else space.base_column(c, columns) for x in names}

    for name, formula in space.figures.items():
        fields[name] = np.broadcast_to(np.asarray(formula(known(formula.names)), dtype=np.float64), n)
    for text, met in _limits(space, fields, known):
        missed = (out.status == OK) & ~np.broadcast_to(np.asarray(met, dtype=bool), n)
        out.status[missed] = INFEASIBLE
        for i in np.flatnonzero(missed).tolist():
            out.error[i] = text
    return Results(out.status, out.error, {f: fields[f] for f in stored(space)})


def _limits(space: Space, fields: Columns, known: Callable[[frozenset[str]], dict[str, Any]]) -> list[tuple[str, Any]]:
    slo = space.experiment.slo
    found: list[tuple[str, Any]] = []
    for name, limit in (("ttft_s", slo.ttft), ("tpot_s", slo.tpot), ("e2el_s", slo.request_latency)):
        if limit is not None:
            found.append((f"slo: {name} above {limit:g}", fields[name] <= limit))
    return found + [(f"not {e.text}", e(known(e.names))) for e in space.outcomes]


EVALUATORS: dict[str, Evaluator] = {"closed": closed, "events": one_by_one(simulated)}
