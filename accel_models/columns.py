"""What every pricer shares: fitted parameters and hardware figures as columns, intervals and energy attached to a cost.

Axes of every array: ops first (absent where all ops are alike), then devices, then those of the workload's arrays.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from accel_models import fitted_store
from accel_models.bind import Hardware
from accel_models.cost.energy import energy, transfer
from accel_models.cost.terms import REGIMES, Array, Cost, regime


class Priced(NamedTuple):
    """Cost of one run of an op; ``lo``/``hi`` multiply its time to an 80 % interval.

    ``energy`` is what the device draws meanwhile [J], idle power included. ``source`` says for each device whether the
    parameters were fitted there, transferred or assumed.
    """

    cost: Cost
    lo: Array
    hi: Array
    energy: Array
    source: tuple[str, ...]


class Fitted(NamedTuple):
    """Parameters of one op class on all bound devices, arrays of shape (devices,), and where they come from.

    ``lo``/``hi`` have shape (regimes, devices), in the order of ``REGIMES``.
    """

    values: dict[str, Array]
    lo: Array
    hi: Array
    source: tuple[str, ...]


class Stack(NamedTuple):
    """``Priced`` of several ops at once: arrays (ops, devices, *axes), or of fewer axes where all ops are alike."""

    cost: Cost
    lo: Array
    hi: Array
    energy: Array
    sources: tuple[tuple[str, ...], ...]


@cache
def defaults(function: Callable[..., Any]) -> dict[str, float]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: float(p.default) for p in parameters if isinstance(p.default, float | int)}


@lru_cache(maxsize=4096)
def fitted(op: str, function: Callable[..., Any], variants: tuple[str, ...], devices: tuple[tuple[str, str, str], ...],
           framework: str) -> Fitted:
    """Parameters of ``function`` for each (device, generation), one variant each. A value that a set does not
    hold keeps the function's default; a variant that was never fitted anywhere is ``assumed``."""
    cells = list(zip(variants, devices, strict=True))
    known = {cell: look_up(op, *cell, framework) for cell in set(cells)}         # thousands of variants of one device
    found = [known[cell] for cell in cells]
    names = sorted({n for f in found for n in f.params.values})
    default = defaults(function)
    values = {n: np.array([f.params.values.get(n, default.get(n, 0.0)) for f in found]) for n in names}

    def factors(side: str) -> Array:
        tables: list[dict[str, float]] = [getattr(f.params, side) for f in found]
        return np.array([[t.get(r, t.get("all", 1.0)) for t in tables] for r in REGIMES])

    return Fitted(values, factors("lo"), factors("hi"), tuple(f.source for f in found))


class Sets(NamedTuple):
    """``Fitted`` of several ops: values (ops, devices), or (devices,) if all agree; factors (regimes, ops, devices)."""

    values: dict[str, Array]
    lo: Array
    hi: Array
    sources: tuple[tuple[str, ...], ...]


@lru_cache(maxsize=4096)
def sets(op: str, function: Callable[..., Any], variants: tuple[tuple[str, ...], ...],
          devices: tuple[tuple[str, str, str], ...], framework: str) -> Sets:
    """Parameters of several ops, each of its own variant on each device."""
    each = [fitted(op, function, v, devices, framework) for v in variants]
    if len(set(variants)) == 1:
        only = each[0]
        return Sets(only.values, only.lo[:, None], only.hi[:, None], (only.source,) * len(each))
    default = defaults(function)
    values: dict[str, Array] = {}
    for name in sorted({n for f in each for n in f.values}):
        rows = [f.values.get(name, np.full(len(devices), default.get(name, 0.0))) for f in each]
        values[name] = rows[0] if all(np.array_equal(r, rows[0]) for r in rows) else np.stack(rows)
    return Sets(values, np.stack([f.lo for f in each], axis=1), np.stack([f.hi for f in each], axis=1),
                 tuple(f.source for f in each))


#: Outside the sizes that a set was fitted on its interval widens: per factor e of distance, by this share of its
#: logarithmic width (assumed: no row lies outside its own set's range, so none can say; half as much again at 7 times).
OUTSIDE = 0.25


@lru_cache(maxsize=4096)
def _ranges(op: str, names: tuple[str, ...], variants: tuple[tuple[str, ...], ...],
            devices: tuple[tuple[str, str, str], ...], framework: str) -> tuple[tuple[Array, Array], ...]:
    """Least and largest size of the fitted rows by column: arrays (ops, devices), or (devices,) where variants agree."""
    rows = variants[:1] if len(set(variants)) == 1 else variants
    known = {cell: look_up(op, *cell, framework).params.range for row in rows for cell in set(zip(row, devices, strict=True))}
    sets = [[known[cell] for cell in zip(row, devices, strict=True)] for row in rows]
    sides = [np.array([[[s.get(n, (0.0, np.inf))[i] for s in row] for row in sets] for n in names]) for i in (0, 1)]
    return tuple((lo[0], hi[0]) if len(rows) == 1 else (lo, hi) for lo, hi in zip(*sides, strict=True))


def widening(op: str, variants: tuple[tuple[str, ...], ...], col: Columns, framework: str, **sizes: Array) -> Array:
    """Exponent on the interval of each op: 1 inside the fitted range, more with the log distance outside it."""
    ratio = np.ones(())
    for (lo, hi), x in zip(_ranges(op, tuple(sizes), variants, col.hw.identity, framework), sizes.values(), strict=True):
        ratio = np.maximum(ratio, np.maximum(col(lo) / np.maximum(x, col(np.minimum(lo, 1.0))), x / col(hi)))
    return 1.0 + OUTSIDE * np.log(ratio)


#: 80 % interval of a formula that nothing was measured for: within a factor of two, a judgement and no fit.
UNMEASURED = 2.0


#: Mark behind a variant that stands for a kernel which nobody measured.
BORROWED = "~"


def _borrowed(op: str, variant: str, device: tuple[str, str, str], framework: str) -> fitted_store.Found:
    """The nearest kernel's parameters for one that was never measured: ``assumed``, and in every regime as unsure as the
    nearest kernel is over all regimes on a device that was left out of its fit."""
    found = look_up(op, variant, device, framework)
    if found.source == "assumed":
        return found
    try:
        pool = fitted_store.lookup(op, variant, "-", "-", "").params
    except KeyError:
        pool = fitted_store.ParameterSet(values={}, lo={"all": 1 / UNMEASURED}, hi={"all": UNMEASURED})
    lo = {r: min(s.get(r, s.get("all", 1.0)) for s in (found.params.lo, pool.lo, {"all": pool.lo.get("all", 1.0)}))
          for r in (*REGIMES, "all")}
    hi = {r: max(s.get(r, s.get("all", 1.0)) for s in (found.params.hi, pool.hi, {"all": pool.hi.get("all", 1.0)}))
          for r in (*REGIMES, "all")}
    return fitted_store.Found(params=found.params.model_copy(update={"lo": lo, "hi": hi}), source="assumed")


def look_up(op: str, variant: str, device: tuple[str, str, str], framework: str) -> fitted_store.Found:
    """A set for one device. All sets were fitted on GPUs: for another kind of device, and for a variant that nobody
    measured, the answer is ``assumed`` and its interval at least that of an unmeasured formula."""
    name, generation, kind = device
    if variant.endswith(BORROWED):
        return _borrowed(op, variant.removesuffix(BORROWED), device, framework)
    blank = fitted_store.ParameterSet(values={})
    try:
        found = _issued(fitted_store.lookup(op, variant, name, generation, framework), op, variant, framework)
        if found.source == "fitted" or kind == "gpu":
            return found
        values = found.params.values
        lo, hi = min(found.params.lo.get("all", 1.0), 1 / UNMEASURED), max(found.params.hi.get("all", 1.0), UNMEASURED)
    except (KeyError, FileNotFoundError):
        values, lo, hi = {}, 1 / UNMEASURED, UNMEASURED
    wide = blank.model_copy(update={"values": values, "lo": {"all": lo}, "hi": {"all": hi}})
    return fitted_store.Found(params=wide, source="assumed")


def _issued(found: fitted_store.Found, op: str, variant: str, framework: str) -> fitted_store.Found:
    """Kernels of an eager framework wait for the host, whatever they compute: a set that was measured otherwise takes
    the fixed time of the eager pool (of plain products, where the op itself was never measured eagerly)."""
    if not eager(framework) or eager(found.params.framework) or op not in ("gemm", "attention", "elementwise", "moe"):
        return found
    pool = _eager_pool(op, variant) or _eager_pool("gemm", "none")
    if pool is None:
        return found
    own, fixed = found.params.values, pool.values["overhead"]
    values = own | {"overhead": max(own.get("overhead", 0.0), fixed)} | ({"quant_time": fixed} if op == "gemm" else {})
    lo, hi = (side | {"launch": other.get("launch", other.get("all", 1.0))}
              for side, other in ((found.params.lo, pool.lo), (found.params.hi, pool.hi)))
    params = found.params.model_copy(update={"values": values, "lo": lo, "hi": hi})
    return fitted_store.Found(params=params, source="transferred" if found.source == "fitted" else found.source)


@cache
def _eager_pool(op: str, variant: str) -> fitted_store.ParameterSet | None:
    """The pool of eager measurements of all devices, if there is one."""
    try:
        found = fitted_store.lookup(op, variant, "-", "-", "eager").params
    except (KeyError, FileNotFoundError):
        return None
    return found if eager(found.framework) and "overhead" in found.values else None


def eager(framework: str) -> bool:
    """Whether kernels are issued one by one by the host ("eager", "torch-2.1", "hf"), not replayed from a graph."""
    return framework.split("-")[0].split(" ")[0].lower() in ("eager", "torch", "hf")


class Columns:
    """Hardware figures as (devices, 1, ...) arrays, aligned with ops of ``n_axes`` workload axes."""

    def __init__(self, hw: Hardware, n_axes: int) -> None:
        self.tail = (1,) * n_axes
        self.hw = hw

    def __call__(self, values: Any) -> Array:
        """(devices,) or (ops, devices) -> the same with the workload's axes."""
        array = np.asarray(values, dtype=np.float64)
        return array.reshape(array.shape + self.tail) if self.tail else array

    def common(self, *names: str) -> dict[str, Array]:
        return {n: self(getattr(self.hw, n)) for n in names}

    def each(self, values: Sequence[float]) -> Array | float:
        """One number per op -> (ops, 1, ...); a plain number where all are alike."""
        if all(v == values[0] for v in values):
            return values[0]
        return np.array(values, dtype=np.float64).reshape((-1, 1, *self.tail))

    def table(self, rows: Sequence[Sequence[float]]) -> Array:
        """One row of (devices,) numbers per op -> (ops, devices, ...), without the first axis where all are alike."""
        return self(rows[0] if all(r == rows[0] for r in rows) else rows)

    def fitted(self, found: Fitted | Sets) -> dict[str, Any]:
        scaled = {k: v * self.hw.launch_scale if k == "overhead" else v for k, v in found.values.items()}
        return {k: self(v) for k, v in scaled.items()}

    def rates(self, formats: Sequence[Sequence[str]]) -> Array:
        """Matrix rates of one format per op and device."""
        known = {row: self.hw.rates(row).tolist() for row in dict.fromkeys(map(tuple, formats))}
        return self.table([known[tuple(row)] for row in formats])


def priced(cost: Cost, found: Sets, rates: Array, col: Columns, energy_set: str = "bf16", *,
            beyond: Array | float = 1.0, op_j: Array | float = np.nan) -> Stack:
    """Attach intervals by regime, and energy. ``cost`` is (ops, devices, *axes), ``rates`` of the formats used; ``op_j`` the
    energy of each op's operations where its family knows it [J/op], NaN elsewhere."""
    which = np.broadcast_to(regime(cost), np.shape(cost.time))
    hw = col.hw
    device = np.arange(len(hw)).reshape((-1, *col.tail))
    op = np.arange(found.lo.shape[1]).reshape((-1, 1, *col.tail))
    # One set serves all formats: energy per operation goes with the power limit over the rate of the format.
    cells = fitted("energy", transfer, (energy_set,) * len(hw), hw.identity, "")
    per = transfer(col.fitted(cells), peak=rates, **col.common("dram_bandwidth", "tdp"))
    # What a device file states of its parts stands above what other devices lend; what boards draw beside their parts is
    # lent to none that states both.
    own_op, own_byte, idle = col(hw.energy_per_op), col(hw.energy_per_byte), col(hw.idle)
    # Cells that are known draw what they draw: a limit that they exceed is a mistake of the file, and is not met for it.
    limit = np.where(np.isnan(own_op) & ~np.isnan(op_j), np.where(np.isnan(col(hw.tdp)), np.nan, np.inf), col(hw.tdp))
    own_op = np.where(np.isnan(own_op), op_j, own_op)
    lent = np.isnan(own_op) | np.isnan(own_byte)
    joules = energy(cost.time, cost.flops, cost.nbytes, j_per_op=np.where(np.isnan(own_op), per.j_per_op, own_op),
                    j_per_byte=np.where(np.isnan(own_byte), per.j_per_byte, own_byte),
                    idle_power=np.where(lent, np.maximum(per.idle_power, idle), idle), tdp=limit)
    lo, hi = found.lo[which, op, device], found.hi[which, op, device]
    if np.any(np.asarray(beyond) > 1.0):
        lo, hi = lo**beyond, hi**beyond
    return Stack(cost, lo, hi, joules.total, found.sources)


def power_interval(hw: Hardware) -> tuple[Array, Array]:
    """Factors (devices,) on a predicted power to its 80 % interval, given the time. Where the energies are transferred
    no power was ever compared, so the factors are those of an unmeasured formula."""
    cells = fitted("energy", transfer, ("bf16",) * len(hw), hw.identity, "")
    own = np.array([s == "fitted" for s in cells.source])
    return np.where(own, cells.lo[0], 1 / UNMEASURED), np.where(own, cells.hi[0], UNMEASURED)


#: Kernels whose operands lie in memory whatever buffers hold: a table that is looked up, the cache that is appended to.
OFF_CHIP = ("embedding", "kv_append")


def picked(f: Mapping[str, Array]) -> tuple[Array, Array]:
    """Expected number of local experts that some token picked (choices uniform), and the rows that each of them gets."""
    picks = np.minimum(f["topk"] / f["n_experts"], 1.0 - 1e-12)
    hit = f["n_local"] * -np.expm1(f["tokens"] * np.log1p(-picks))
    return hit, f["tokens"] * picks * f["n_local"] / np.maximum(hit, 1e-300)


#: Figures of the memories that most formulas take.
MEMORY = ("dram_bandwidth", "l2_bandwidth", "l2_capacity", "n_units")
