"""The space of a sweep as numbered points: point i -> the values of all parameters, for many i at once.

A grid is never built whole: a point's number in mixed radix names the value on every axis, those axes first on which
arrays must be cut (model, formats, split, device). Samples are drawn once and sorted in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_models.registry import load_system
from sim.sweep import parameters as par
from sim.sweep.experiment import Experiment, Range
from sim.sweep.expression import Expression, parse
from sim.sweep.sample import METHODS

Column = NDArray[Any]
Columns = dict[str, Column]
#: Points that are looked at in one go.
BLOCK = 1 << 17
#: Most points a grid may have: their numbers must stay exact and a day must suffice.
MOST = 10**10


class Axis(NamedTuple):
    """An axis: its ``values``, or for sampling alone a range of which any value may be drawn."""

    name: str
    values: Column
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @property
    def continuous(self) -> bool:
        return len(self.values) == 0

    def at(self, u: NDArray[np.float64]) -> Column:
        """Values for numbers of [0, 1)."""
        if not self.continuous:
            return self.values[np.minimum((u * len(self.values)).astype(np.int64), len(self.values) - 1)]
        top = self.high + 1 if self.whole else self.high
        found = self.low * (top / self.low) ** u if self.log else self.low + u * (top - self.low)
        return np.minimum(np.floor(found), self.high).astype(np.int64) if self.whole else found


@dataclass(frozen=True)
class Space:
    """All points of an experiment. ``file`` names it in messages. Build with ``space(...)``."""

    experiment: Experiment
    file: str
    axes: tuple[Axis, ...]
    base: dict[str, Any]
    devices: tuple[str, ...]
    models: tuple[str, ...]
    derived: dict[str, Expression]             # parameters, in order
    figures: dict[str, Expression]             # figures, in order, after the estimate
    when: dict[str, Expression]
    limits: tuple[Expression, ...]             # constraints on parameters: points outside are no points
    outcomes: tuple[Expression, ...]           # constraints on figures: points outside are infeasible
    _aliases: dict[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> list[str]:
        """Names of the columns of ``columns``: axes first, then derived parameters."""
        return [a.name for a in self.axes] + [n for n in self.derived if n not in {a.name for a in self.axes}]

    @cached_property
    def size(self) -> int:
        """Points before constraints."""
        sample = self.experiment.sweep.drawn
        return sample.n if sample else math.prod(len(a.values) for a in self.axes)

    @cached_property
    def _drawn(self) -> Columns:
        """A sample's axes, sorted so that points which share model, split and device lie together."""
        sample = self.experiment.sweep.drawn
        assert sample is not None
        cube = METHODS[sample.method](sample.n, len(self.axes), sample.seed)
        found = {a.name: a.at(cube[:, i]) for i, a in enumerate(self.axes)}
        apart = [found[a.name] for a in self.axes if cuts(a.name)]
        if apart:
            codes = [np.unique(c, return_inverse=True)[1] for c in apart]
            order = np.lexsort(codes[::-1])
            found = {k: v[order] for k, v in found.items()}
        return found

    def columns(self, index: NDArray[np.int64]) -> tuple[Columns, NDArray[np.bool_]]:
        """Parameters of these points, and which of them are points: constraints met, no point twice.

        An axis whose condition does not hold keeps the base value (NaN for a number of the device: as its file says).
        """
        if self.experiment.sweep.drawn:
            return self.complete({k: v[index] for k, v in self._drawn.items()})
        place: Columns = {}
        rest = index
        for axis in reversed(self.axes):
            rest, place[axis.name] = np.divmod(rest, len(axis.values))
        return self.complete({a.name: a.values[place[a.name]] for a in self.axes}, place)

    def complete(self, axes: Columns, place: Columns | None = None) -> tuple[Columns, NDArray[np.bool_]]:
        """All parameters for values of the axes, and which of them are points; ``place``: of each value on its axis."""
        out = dict(axes)
        n = len(next(iter(out.values())))
        good = np.ones(n, dtype=bool)
        for name, condition in self.when.items():
            holds = self._holds(condition, out, n)
            out[name] = self._unless(name, holds, out[name])
            if place:
                good &= holds | (place[name] == 0)
        for name, formula in self.derived.items():
            out[name] = self._typed(name, np.broadcast_to(formula(self._known(formula, out)), n))
        for limit in self.limits:
            good &= self._holds(limit, out, n)
        return out, good

    def blocks(self) -> Iterator[NDArray[np.int64]]:
        """All point numbers, block by block."""
        for start in range(0, self.size, BLOCK):
            yield np.arange(start, min(start + BLOCK, self.size))

    def name(self, text: str) -> str:
        """The column that a name in an expression means."""
        return self._aliases.get(text, par.canonical(text))

    def _holds(self, condition: Expression, columns: Columns, n: int) -> NDArray[np.bool_]:
        return np.broadcast_to(np.asarray(condition(self._known(condition, columns)), dtype=bool), n)

    def _known(self, formula: Expression, columns: Columns) -> dict[str, Any]:
        return {n: columns[c] if (c := self.name(n)) in columns else self.base_column(c, columns) for n in formula.names}

    def base_column(self, name: str, columns: Columns) -> Any:
        """What a parameter is where no axis changes it: as the experiment says, else as the device's file says."""
        if name in self.base:
            given = self.base[name]
            return par.value(given, par.kind(name, self.devices, self.file), name) if par.is_hardware(name) else given
        if par.is_hardware(name):
            if "hardware" not in columns:
                return _number(str(self.base["hardware"]), name)
            which, place = np.unique(columns["hardware"], return_inverse=True)
            return np.array([_number(str(d), name) for d in which])[place]
        raise ValueError(f"{self.file}: {name!r} is no parameter of this experiment")

    def _unless(self, name: str, holds: NDArray[np.bool_], column: Column) -> Column:
        if par.is_hardware(name) or name.startswith("var."):
            return np.where(holds, column.astype(np.float64), np.nan)
        return np.where(holds, column, self.base[name])

    def _typed(self, name: str, column: Column) -> Column:
        if par.kind(name, self.devices, self.file).type is int:
            with np.errstate(invalid="ignore"):
                return np.round(column.astype(np.float64)).astype(np.int64)
        return column


def _number(device: str, name: str) -> float:
    main = load_system(device).main
    return main.get(par.key(main, name))


def cuts(name: str) -> bool:
    """Whether points that differ in this parameter cannot share an array call."""
    return not (par.is_hardware(name) or name in par.WORKLOAD or name.startswith("var."))


def space(experiment: Experiment, file: str) -> Space:
    """Check all of a sweep's names and values. Raises ``ValueError`` in one line."""
    sweep, base = experiment.sweep, par.base_values(experiment)
    given: dict[str, list[Any] | Range] = {**{k: list(v) for k, v in sweep.grid.items()}, **sweep.range}
    devices = _choices("hardware", given, base)
    models = _choices("model", given, base)
    for device in devices:
        load_system(device)
    base = {_short(k, devices): v for k, v in base.items()}
    for k in filter(par.is_hardware, base):
        par.value(base[k], par.kind(k, devices, f"{file}: hardware"), f"{file}: hardware.{k.removeprefix('hardware.')}")
    par.check_model_keys(base, models, devices[0], f"{file}: model")
    aliases = {k: _short(k, devices) for k in {*given, *sweep.when, *sweep.derived}}
    axes = [_axis(aliases[k], v, devices, file, sampled=sweep.drawn is not None) for k, v in given.items()]
    names = [a.name for a in axes]
    if len(set(names)) < len(names):
        raise ValueError(f"{file}: sweep: {next(n for n in names if names.count(n) > 1)!r} is an axis twice")
    par.check_model_keys({a.name: a.values[0] for a in axes if not a.continuous}, models, devices[0], f"{file}: sweep")
    axes.sort(key=lambda a: not cuts(a.name))
    formulas = {k: parse(str(v), f"{file}: sweep.derived.{k}") for k, v in sweep.derived.items()}
    for k in formulas:
        if par.is_parameter(k):
            par.kind(aliases[k], devices, f"{file}: sweep.derived")
    conditions = [parse(t, f"{file}: sweep.constraints") for t in sweep.constraints]
    for e in (*formulas.values(), *conditions):
        aliases |= {n: _short(n, devices) for n in e.names if par.is_parameter(n)}
    on_parameters = [all(par.is_parameter(n) for n in e.names) for e in conditions]
    made = Space(
        experiment, file, tuple(axes), base, devices, models,
        derived={aliases[k]: e for k, e in formulas.items() if par.is_parameter(k)},
        figures={k: e for k, e in formulas.items() if not par.is_parameter(k)},
        when={aliases[k]: parse(v, f"{file}: sweep.when.{k}") for k, v in sweep.when.items()},
        limits=tuple(e for e, p in zip(conditions, on_parameters, strict=True) if p),
        outcomes=tuple(e for e, p in zip(conditions, on_parameters, strict=True) if not p), _aliases=aliases)
    _check(made)
    return made


def _choices(name: str, given: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[str, ...]:
    found = next((v for k, v in given.items() if par.canonical(k) == name), [base[name]])
    if isinstance(found, Range):
        raise ValueError(f"sweep.range: {name!r} has no order; give its names in [sweep.grid]")
    return tuple(str(v) for v in found)


def _short(text: str, devices: tuple[str, ...]) -> str:
    """The canonical name; of a number of the device the key that all devices agree on, if they do."""
    name = par.canonical(text)
    if not par.is_hardware(name):
        return name
    try:
        keys = {par.key(load_system(d).main, name) for d in devices}
    except ValueError:
        return name
    return f"hardware.{keys.pop()}" if len(keys) == 1 else name


def _axis(name: str, given: list[Any] | Range, devices: tuple[str, ...], file: str, *, sampled: bool) -> Axis:
    where = f"{file}: sweep.{'range' if isinstance(given, Range) else 'grid'}"
    kind = par.kind(name, devices, where)
    if isinstance(given, list):
        return Axis(name, par.values(given, kind, f"{where}.{name}"))
    where = f"{where}.{name}"
    if kind.type is str:
        raise ValueError(f"{where}: names have no order; give them in [sweep.grid]")
    number = par.Kind(float) if kind.type is object else kind
    low, high = (float(v) for v in par.values([given.low, given.high], number, where)) if given.low != given.high else (
        float(par.value(given.low, number, where)),) * 2
    if low > high:
        raise ValueError(f"{where}: from {given.low} to {given.high}: the space is empty")
    if given.scale == "log" and low <= 0:
        raise ValueError(f"{where}: a log range needs bounds above 0, found {given.low!r}")
    whole = given.integer or kind.type is int
    if given.n is None and given.step is None:
        if sampled:
            return Axis(name, np.array([]), low, high, given.scale == "log", whole)
        raise ValueError(f"{where}: give n (how many values) or step")
    return Axis(name, _steps(given, low, high, number, whole, where))


def _steps(given: Range, low: float, high: float, number: par.Kind, whole: bool, where: str) -> Column:
    if given.step is not None:
        if given.n is not None or given.scale == "log":
            raise ValueError(f"{where}: step stands alone: neither n nor scale = \"log\" goes with it")
        step = float(par.value(given.step, number, where))
        if step <= 0:
            raise ValueError(f"{where}: step must be above 0, found {given.step!r}")
        found = low + step * np.arange(int((high - low) / step * (1 + 1e-12)) + 1)
    else:
        make = np.geomspace if given.scale == "log" else np.linspace
        found = make(low, high, given.n or 1)
    return np.unique(np.round(found)).astype(np.int64) if whole else found


def _check(made: Space) -> None:
    """What only the whole can tell: names in expressions, size, and that not everything is ruled out."""
    if made.size > MOST:
        raise ValueError(f"{made.file}: sweep: {made.size:,} points are too many (at most {MOST:,}); use [sweep.sample]")
    for name in made.when:
        if name not in {a.name for a in made.axes}:
            raise ValueError(f"{made.file}: sweep.when: {name!r} is no axis of this sweep")
    few = np.arange(min(made.size, 256))
    for key, formula in (*made.when.items(), *made.derived.items(), *((e.text, e) for e in made.limits)):
        for n in formula.names:
            if not par.is_parameter(n):
                raise ValueError(f"{made.file}: sweep: {formula.text!r}: {n!r} is no parameter (names begin with model, "
                                 f"hardware, deployment, workload or var)")
            column = made.name(n)
            if column.startswith("var.") and column not in made.parameters:
                raise ValueError(f"{made.file}: sweep: {formula.text!r}: {n!r} is neither an axis nor derived")
            if column == key:
                raise ValueError(f"{made.file}: sweep: {formula.text!r} refers to itself")
    try:
        made.columns(few)
    except (ValueError, KeyError) as error:
        raise ValueError(str(error) if made.file in str(error) else f"{made.file}: sweep: {error}") from None
