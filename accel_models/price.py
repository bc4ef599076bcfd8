"""Price the ops of a graph on bound hardware: stack ops of one kind, one call for each kind and family of devices.

Axes of every result: devices first, then those of the workload's arrays. Formulas see only arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from accel_models.bind import Hardware, take
from accel_models.columns import Priced, Stack, eager, power_interval
from accel_models.cost.terms import Array, Cost
from accel_models.families import Pricer, family, problems
from accel_models.families.general import PRICERS, fitted_as
from accel_models.fitted_store import fitted_on
from accel_models.kernels import kernels
from workloads.ops import LABEL, NUMBERS, Op


def price(ops: Sequence[Op], hw: Hardware, *, framework: str = "", n_axes: int = 0, paired: bool = False) -> list[Priced]:
    """Price every op once (``repeat`` is the caller's); ops of one kind and shape go through in one call.

    ``n_axes``: axes of the workload, where it has more than any of these ops; results are aligned to them, so that
    arrays of different ops broadcast. ``paired``: the first axis of the ops' arrays is that of the devices (device i runs
    shape i) and not counted in ``n_axes``; all devices must be of one family. Raises ``ValueError`` for a device that cannot
    be what its file says.
    """
    if wrong := next(filter(None, problems(hw)), ""):
        raise ValueError(wrong)
    issued = [kernels(op) for op in ops]
    if all(len(parts) == 1 for parts in issued):
        return _price([parts[0] for parts in issued], hw, framework, n_axes, paired)
    axes = max([n_axes, *(len(_shape(op)) - paired for op in ops)])
    each = iter(_price([part for parts in issued for part in parts], hw, framework, axes, paired))
    return [_together([(part, next(each)) for part in parts]) for parts in issued]


def _together(parts: Sequence[tuple[Op, Priced]]) -> Priced:
    """Several kernels as one op: times add up, and so do their deviations (one class, which errs as one)."""
    if len(parts) == 1:
        return parts[0][1]
    counts = [np.asarray(op.repeat, dtype=np.float64) for op, _ in parts]
    priced = [p for _, p in parts]
    zero = np.zeros(())
    cost = Cost(*(sum((n * term for n, term in zip(counts, terms, strict=True)), zero)
                  for terms in zip(*(p.cost for p in priced), strict=True)))
    lo, hi = (sum((n * p.cost.time * f for n, p, f in zip(counts, priced, side, strict=True)), zero) / cost.time
              for side in ([p.lo for p in priced], [p.hi for p in priced]))
    joules = sum((n * p.energy for n, p in zip(counts, priced, strict=True)), zero)
    order = ("fitted", "transferred", "assumed")
    return Priced(cost, lo, hi, joules, tuple(max(s, key=order.index) for s in zip(*(p.source for p in priced),
                                                                                   strict=True)))


def _price(ops: Sequence[Op], hw: Hardware, framework: str, n_axes: int, paired: bool) -> list[Priced]:
    """``price`` of ops that are one kernel each. Devices of different families go apart: other formulas."""
    families = [family(kind, name[2]) for kind, name in zip(hw.engine, hw.identity, strict=True)]
    if all(f is families[0] for f in families):
        return _alike(ops, hw, families[0], framework, n_axes, paired)
    if paired:
        raise ValueError("paired devices must be of one family of engines")
    axes = max([n_axes, *(len(_shape(op)) for op in ops)])
    parts = [(places := [i for i, f in enumerate(families) if f is chosen],
              _alike(ops, take(hw, places), chosen, framework, axes, paired))
             for chosen in {id(f): f for f in families}.values()]
    return [_merged([(places, done[i]) for places, done in parts], len(hw)) for i in range(len(ops))]


def _merged(parts: Sequence[tuple[list[int], Priced]], n_devices: int) -> Priced:
    """Results of several groups of devices in one, each device at its place."""
    def join(arrays: Sequence[Array]) -> Array:
        shape = np.broadcast_shapes(*(a.shape[1:] for a in arrays))
        out = np.empty((n_devices, *shape))
        for (places, _), a in zip(parts, arrays, strict=True):
            out[places] = a
        return out

    cost = Cost(*(join(terms) for terms in zip(*(p.cost for _, p in parts), strict=True)))
    source = {place: p.source[j] for places, p in parts for j, place in enumerate(places)}
    lo, hi, joules = (join([getattr(p, f) for _, p in parts]) for f in ("lo", "hi", "energy"))
    return Priced(cost, lo, hi, joules, tuple(source[i] for i in range(n_devices)))


def _alike(ops: Sequence[Op], hw: Hardware, pricers: Mapping[type[Op], Pricer], framework: str, n_axes: int,
           paired: bool) -> list[Priced]:
    """``price`` of ops that are one kernel each, on devices of one family."""
    out: list[Priced | None] = [None] * len(ops)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, op in enumerate(ops):
        label = LABEL.get(type(op))
        own = type(op) in pricers and not _calibrated(op, hw)
        groups.setdefault((type(op), _shape(op), getattr(op, label) if label else "", own), []).append(i)
    axes = max([n_axes, *(len(shape) - paired for _, shape, *_ in groups)])
    for (kind, *_, own), members in groups.items():
        chosen = [ops[i] for i in members]
        fields = {f: _stack([getattr(op, f) for op in chosen], axes, paired) for f in NUMBERS[kind]}
        with np.errstate(over="ignore"):        # the share 1 / (1 + x^2) of a cache that is not there is 0, as meant
            stack = (pricers if own else PRICERS)[kind](chosen, fields, hw, framework)
        parts = (_rows(a, len(members), axes) for a in (*stack.cost, stack.lo, stack.hi, stack.energy))
        for i, (*cost, lo, hi, joules), source in zip(members, zip(*parts, strict=False), stack.sources, strict=True):
            out[i] = Priced(Cost(*cost), lo, hi, joules, source)
    return [p for p in out if p is not None]


def _calibrated(op: Op, hw: Hardware) -> bool:
    """Was the general formula fitted on these very devices (by ``perfboard calibrate``)? It then knows them better than
    their family does."""
    for name, native in {(identity[0], native) for identity, native in zip(hw.identity, hw.native, strict=True)}:
        found = fitted_as(op, native)
        if found is None or not fitted_on(*found, name):
            return False
    return True


def _shape(op: Op) -> tuple[int, ...]:
    """Common shape of an op's numbers; most are plain numbers, which cost nothing to pass over."""
    found = {np.shape(v) for f in NUMBERS[type(op)] if not isinstance(v := getattr(op, f), float | int)} - {()}
    return np.broadcast_shapes(*found) if len(found) > 1 else found.pop() if found else ()


def _stack(values: Sequence[Any], n_axes: int, paired: bool) -> Array:
    """(ops, 1, *axes): the second axis is the devices', one long unless ``paired``. A number alike in all ops stays one
    entry long."""
    if all(isinstance(v, float | int) or np.ndim(v) == 0 for v in values):
        numbers = [float(v) for v in values]
        same = numbers.count(numbers[0]) == len(numbers)
        return np.array(numbers[:1] if same else numbers).reshape((-1, 1) + (1,) * n_axes)
    if all(v is values[0] for v in values):
        values = values[:1]
    arrays = [np.asarray(v, dtype=np.float64) for v in values]
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    padded = (1,) * (n_axes + paired - len(shape)) + shape
    stacked = np.stack([np.broadcast_to(a, shape).reshape(padded) for a in arrays])
    return stacked if paired else stacked[:, None]


def _rows(a: Array, n_ops: int, n_axes: int) -> Iterable[Array]:
    """Each op's part of a stacked result, its leading axis the devices'."""
    if a.ndim < n_axes + 2:
        return repeat(a, n_ops)
    return a if len(a) == n_ops else repeat(a[0], n_ops)


__all__ = ["Priced", "Stack", "eager", "power_interval", "price"]
