"""Price the ops of a graph on bound hardware: stack ops of one kind, look up their fitted parameters, one call each.

Axes of every result: devices first, then those of the workload's arrays. Formulas see only arrays; this file alone
knows which fitted set serves which op, format and device.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from accel_models import fitted_store
from accel_models.bind import Hardware
from accel_models.cost.attention import attention_decode, attention_prefill
from accel_models.cost.attention import variant as attention_variant
from accel_models.cost.collective import BORROWS as LINK_BORROWS
from accel_models.cost.collective import collective
from accel_models.cost.elementwise import BORROWS as KIND_BORROWS
from accel_models.cost.elementwise import elementwise
from accel_models.cost.energy import energy, transfer
from accel_models.cost.gemm import gemm
from accel_models.cost.moe import BORROWS as MOE_BORROWS
from accel_models.cost.moe import moe
from accel_models.cost.scan import scan
from accel_models.cost.terms import REGIMES, Array, Cost, regime
from accel_models.kernels import Multiply, kernels
from accel_models.kernels import multiply as multiply
from workloads.formats import get_format
from workloads.ops import Attention, Collective, Elementwise, Gemm, Moe, Op, Scan


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


class _Stack(NamedTuple):
    """``Priced`` of several ops at once: arrays (ops, devices, *axes), or of fewer axes where all ops are alike."""

    cost: Cost
    lo: Array
    hi: Array
    energy: Array
    sources: tuple[tuple[str, ...], ...]


def price(ops: Sequence[Op], hw: Hardware, *, framework: str = "", n_axes: int = 0) -> list[Priced]:
    """Price every op once (``repeat`` is the caller's); ops of one kind and shape go through in one call.

    ``n_axes``: axes of the workload, where it has more than any of these ops; results are aligned to them, so that
    arrays of different ops broadcast.
    """
    issued = [kernels(op) for op in ops]
    if all(len(parts) == 1 for parts in issued):
        return _price([parts[0] for parts in issued], hw, framework, n_axes)
    axes = max([n_axes, *(len(_shape(op)) for op in ops)])
    each = iter(_price([part for parts in issued for part in parts], hw, framework, axes))
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


def _price(ops: Sequence[Op], hw: Hardware, framework: str, n_axes: int) -> list[Priced]:
    """``price`` of ops that are one kernel each."""
    out: list[Priced | None] = [None] * len(ops)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, op in enumerate(ops):
        label = _LABEL.get(type(op))
        groups.setdefault((type(op), _shape(op), getattr(op, label) if label else ""), []).append(i)
    axes = max([n_axes, *(len(shape) for _, shape, _ in groups)])
    for (kind, *_), members in groups.items():
        chosen = [ops[i] for i in members]
        fields = {f: _stack([getattr(op, f) for op in chosen], axes) for f in _SHAPES[kind]}
        with np.errstate(over="ignore"):        # the share 1 / (1 + x^2) of a cache that is not there is 0, as meant
            stack = _PRICERS[kind](chosen, fields, hw, framework)
        parts = (_rows(a, len(members), axes) for a in (*stack.cost, stack.lo, stack.hi, stack.energy))
        for i, (*cost, lo, hi, joules), source in zip(members, zip(*parts, strict=False), stack.sources, strict=True):
            out[i] = Priced(Cost(*cost), lo, hi, joules, source)
    return [p for p in out if p is not None]


#: Fields that are numbers (stacked), and the label on which ops must agree to be priced together: another formula.
_SHAPES: dict[type[Op], tuple[str, ...]] = {
    Gemm: ("m", "n", "k", "batch", "resident"),
    Moe: ("tokens", "hidden", "inter", "topk", "n_experts", "n_local", "skew", "dealt", "resident"),
    Attention: ("batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim", "v_head_dim", "kv_elements", "window",
                "resident"),
    Scan: ("batch", "q_len", "flops_per_token", "state_elements", "io_elements"),
    Elementwise: ("rows", "cols", "bytes_read", "bytes_written"),
    Collective: ("nbytes", "n_devices"),
}
_LABEL: dict[type[Op], str] = {Attention: "phase", Collective: "kind"}


def _shape(op: Op) -> tuple[int, ...]:
    """Common shape of an op's numbers; most are plain numbers, which cost nothing to pass over."""
    found = {np.shape(v) for f in _SHAPES[type(op)] if not isinstance(v := getattr(op, f), float | int)} - {()}
    return np.broadcast_shapes(*found) if len(found) > 1 else found.pop() if found else ()


def _stack(values: Sequence[Any], n_axes: int) -> Array:
    """(ops, 1, *axes): the second axis is the devices'. A number alike in all ops stays one entry long."""
    if all(isinstance(v, float | int) or np.ndim(v) == 0 for v in values):
        numbers = [float(v) for v in values]
        same = numbers.count(numbers[0]) == len(numbers)
        return np.array(numbers[:1] if same else numbers).reshape((-1, 1) + (1,) * n_axes)
    if all(v is values[0] for v in values):
        values = values[:1]
    arrays = [np.asarray(v, dtype=np.float64) for v in values]
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    padded = (1,) * (n_axes - len(shape)) + shape
    return np.stack([np.broadcast_to(a, shape).reshape(padded) for a in arrays])[:, None]


def _rows(a: Array, n_ops: int, n_axes: int) -> Iterable[Array]:
    """Each op's part of a stacked result, its leading axis the devices'."""
    if a.ndim < n_axes + 2:
        return repeat(a, n_ops)
    return a if len(a) == n_ops else repeat(a[0], n_ops)


# -- fitted parameters ----------------------------------------------------------------------------------------------

@cache
def _defaults(function: Callable[..., Any]) -> dict[str, float]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: float(p.default) for p in parameters if isinstance(p.default, float | int)}


@lru_cache(maxsize=4096)
def fitted(op: str, function: Callable[..., Any], variants: tuple[str, ...], devices: tuple[tuple[str, str, str], ...],
           framework: str) -> Fitted:
    """Parameters of ``function`` for each (device, generation), one variant each. A value that a set does not
    hold keeps the function's default; a variant that was never fitted anywhere is ``assumed``."""
    found = [_look_up(op, v, device, framework) for v, device in zip(variants, devices, strict=True)]
    names = sorted({n for f in found for n in f.params.values})
    default = _defaults(function)
    values = {n: np.array([f.params.values.get(n, default.get(n, 0.0)) for f in found]) for n in names}

    def factors(side: str) -> Array:
        tables: list[dict[str, float]] = [getattr(f.params, side) for f in found]
        return np.array([[t.get(r, t.get("all", 1.0)) for t in tables] for r in REGIMES])

    return Fitted(values, factors("lo"), factors("hi"), tuple(f.source for f in found))


class _Sets(NamedTuple):
    """``Fitted`` of several ops: values (ops, devices), or (devices,) if all agree; factors (regimes, ops, devices)."""

    values: dict[str, Array]
    lo: Array
    hi: Array
    sources: tuple[tuple[str, ...], ...]


@lru_cache(maxsize=4096)
def _sets(op: str, function: Callable[..., Any], variants: tuple[tuple[str, ...], ...],
          devices: tuple[tuple[str, str, str], ...], framework: str) -> _Sets:
    """Parameters of several ops, each of its own variant on each device."""
    each = [fitted(op, function, v, devices, framework) for v in variants]
    if len(set(variants)) == 1:
        only = each[0]
        return _Sets(only.values, only.lo[:, None], only.hi[:, None], (only.source,) * len(each))
    default = _defaults(function)
    values: dict[str, Array] = {}
    for name in sorted({n for f in each for n in f.values}):
        rows = [f.values.get(name, np.full(len(devices), default.get(name, 0.0))) for f in each]
        values[name] = rows[0] if all(np.array_equal(r, rows[0]) for r in rows) else np.stack(rows)
    return _Sets(values, np.stack([f.lo for f in each], axis=1), np.stack([f.hi for f in each], axis=1),
                 tuple(f.source for f in each))


#: Outside the sizes that a set was fitted on its interval widens: per factor e of distance, by this share of its
#: logarithmic width (assumed: no row lies outside its own set's range, so none can say; half as much again at 7 times).
OUTSIDE = 0.25


@lru_cache(maxsize=4096)
def _ranges(op: str, names: tuple[str, ...], variants: tuple[tuple[str, ...], ...],
            devices: tuple[tuple[str, str, str], ...], framework: str) -> tuple[tuple[Array, Array], ...]:
    """Least and largest size of the fitted rows by column: arrays (ops, devices), or (devices,) where variants agree."""
    rows = variants[:1] if len(set(variants)) == 1 else variants
    sets = [[_look_up(op, v, d, framework).params.range for v, d in zip(row, devices, strict=True)] for row in rows]
    sides = [np.array([[[s.get(n, (0.0, np.inf))[i] for s in row] for row in sets] for n in names]) for i in (0, 1)]
    return tuple((lo[0], hi[0]) if len(rows) == 1 else (lo, hi) for lo, hi in zip(*sides, strict=True))


def _beyond(op: str, variants: tuple[tuple[str, ...], ...], col: _Columns, framework: str, **sizes: Array) -> Array:
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
    found = _look_up(op, variant, device, framework)
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


def _look_up(op: str, variant: str, device: tuple[str, str, str], framework: str) -> fitted_store.Found:
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


class _Columns:
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

    def fitted(self, found: Fitted | _Sets) -> dict[str, Any]:
        scaled = {k: v * self.hw.launch_scale if k == "overhead" else v for k, v in found.values.items()}
        return {k: self(v) for k, v in scaled.items()}

    def rates(self, formats: Sequence[Sequence[str]]) -> Array:
        """Matrix rates of one format per op and device."""
        known = {row: self.hw.rates(row).tolist() for row in dict.fromkeys(map(tuple, formats))}
        return self.table([known[tuple(row)] for row in formats])


def _priced(cost: Cost, found: _Sets, rates: Array, col: _Columns, energy_set: str = "bf16", *,
            beyond: Array | float = 1.0) -> _Stack:
    """Attach intervals by regime, and energy. ``cost`` is (ops, devices, *axes), ``rates`` of the formats used."""
    which = np.broadcast_to(regime(cost), np.shape(cost.time))
    hw = col.hw
    device = np.arange(len(hw)).reshape((-1, *col.tail))
    op = np.arange(found.lo.shape[1]).reshape((-1, 1, *col.tail))
    # One set serves all formats: energy per operation goes with the power limit over the rate of the format.
    cells = fitted("energy", transfer, (energy_set,) * len(hw), hw.identity, "")
    per = transfer(col.fitted(cells), peak=rates, **col.common("dram_bandwidth", "tdp"))
    joules = energy(cost.time, cost.flops, cost.nbytes, j_per_op=per.j_per_op, j_per_byte=per.j_per_byte,
                    idle_power=np.maximum(per.idle_power, col(hw.idle)), tdp=col(hw.tdp))
    lo, hi = found.lo[which, op, device], found.hi[which, op, device]
    if np.any(np.asarray(beyond) > 1.0):
        lo, hi = lo**beyond, hi**beyond
    return _Stack(cost, lo, hi, joules.total, found.sources)


def power_interval(hw: Hardware) -> tuple[Array, Array]:
    """Factors (devices,) on a predicted power to its 80 % interval, given the time. Where the energies are transferred
    no power was ever compared, so the factors are those of an unmeasured formula."""
    cells = fitted("energy", transfer, ("bf16",) * len(hw), hw.identity, "")
    own = np.array([s == "fitted" for s in cells.source])
    return np.where(own, cells.lo[0], 1 / UNMEASURED), np.where(own, cells.hi[0], UNMEASURED)


_MEMORY = ("dram_bandwidth", "l2_bandwidth", "l2_capacity", "n_units")


# -- one pricer per kind of op ----------------------------------------------------------------------------------------

def _ways(ops: Sequence[Gemm] | Sequence[Moe], hw: Hardware) -> list[tuple[Multiply, ...]]:
    """How each op multiplies on each device."""
    found = {(a, w): tuple(multiply(a, w, native) for native in hw.native) for a, w in {(op.a, op.w) for op in ops}}
    return [found[op.a, op.w] for op in ops]


def _product(ops: Sequence[Gemm] | Sequence[Moe], ways: list[tuple[Multiply, ...]], col: _Columns) -> dict[str, Any]:
    """Arguments that dense and grouped products share, all that follows from formats and devices."""
    return {"bytes_a": col.table([[w.bytes_a for w in row] for row in ways]),
            "bytes_w": col.each([get_format(op.w).nbytes for op in ops]),
            "bytes_out": col.each([get_format(op.out).nbytes for op in ops]),
            "dequant_ops": col.table([[w.dequant_ops for w in row] for row in ways]),
            "peak": _peak(ways, col), "vector_peak": col(col.hw.vector_rate),
            **col.common(*_MEMORY)}


def _label(way: Multiply, variant: str) -> str:
    return variant + BORROWED if way.borrowed else variant


def _peak(ways: list[tuple[Multiply, ...]], col: _Columns) -> Array:
    """Rate of each product: that of its format over the passes, mixed harmonically where two formats share k."""
    peak = col.rates([[w.compute for w in row] for row in ways])
    if any(w.passes != 1.0 for row in ways for w in row):
        peak = peak / col.table([[w.passes for w in row] for row in ways])
    if any(w.mix for row in ways for w in row):
        mix = col.table([[w.mix for w in row] for row in ways])
        other = col.rates([[w.mixed for w in row] for row in ways])
        peak = 1.0 / ((1.0 - mix) / peak + mix / np.where(mix > 0, other, np.inf))
    return peak


def _gathers(ops: Sequence[Gemm], hw: Hardware) -> list[list[float]]:
    """Bytes fetched from L2 per weight: of codebooks that exceed the scratchpad of a processor."""
    found = [get_format(op.w) for op in ops]
    return [[f.gather if f.codebook > size else 0.0 for size in hw.smem_per_unit.tolist()] for f in found]


def _gemm(ops: Sequence[Gemm], f: dict[str, Array], hw: Hardware, framework: str) -> _Stack:
    col = _Columns(hw, f["m"].ndim - 2)
    ways = _ways(ops, hw)
    variants = tuple(tuple(_label(w, w.variant) for w in row) for row in ways)
    found = _sets("gemm", gemm, variants, hw.identity, framework)
    beyond = _beyond("gemm", variants, col, framework, **{k: f[k] for k in ("m", "n", "k", "batch")})
    static = col.each([float(op.static) for op in ops])
    given = _product(ops, ways, col)
    m = f["m"]
    if any(w.rows != 1.0 for row in ways for w in row):
        rows = col.table([[w.rows for w in row] for row in ways])
        m, given["bytes_out"] = m * rows, given["bytes_out"] / rows
    known = col.fitted(found)
    if any(w.step != 1.0 for row in ways for w in row):
        step, default = col.table([[w.step for w in row] for row in ways]), _defaults(gemm)
        known["step_time"] = known.get("step_time", default["step_time"]) * step
        known["fill"] = known.get("fill", default["fill"]) / step       # start and end of a tile take the time they took
    cost = gemm(m, f["n"], f["k"], f["batch"], gather_bytes=col.table(_gathers(ops, hw)),
                resident=static * f["resident"] + (1.0 - static),
                quant_kernels=col.table([[w.quant_kernels for w in row] for row in ways]),
                quant_bytes=col.table([[w.quant_bytes for w in row] for row in ways]), **given, **known)
    return _priced(cost, found, given["peak"], col, beyond=beyond)


def _moe(ops: Sequence[Moe], f: dict[str, Array], hw: Hardware, framework: str) -> _Stack:
    col = _Columns(hw, f["tokens"].ndim - 2)
    ways = _ways(ops, hw)
    variants = tuple(tuple(_label(w, MOE_BORROWS[w.variant]) for w in row) for row in ways)
    found = _sets("moe", moe, variants, hw.identity, framework)
    given = _product(ops, ways, col)
    if any(w.rows != 1.0 for row in ways for w in row):     # planes of A: rows in a product, here passes and bytes
        rows = col.table([[w.rows for w in row] for row in ways])
        given["peak"], given["bytes_a"] = given["peak"] / rows, given["bytes_a"] * rows
    formula: Callable[..., Cost] = moe
    cost = formula(*(f[k] for k in _SHAPES[Moe][:6]), skew=f["skew"], dealt=f["dealt"], repeated=f["resident"],
                   gated=col.each([float(op.gated) for op in ops]), **given, **col.fitted(found))
    beyond = _beyond("moe", variants, col, framework, n_tokens=f["tokens"], hidden=f["hidden"], topk=f["topk"],
                     n_experts=f["n_experts"])
    return _priced(cost, found, given["peak"], col, beyond=beyond)


def _attention(ops: Sequence[Attention], f: dict[str, Array], hw: Hardware, framework: str) -> _Stack:
    col = _Columns(hw, f["batch"].ndim - 2)
    formula: Callable[..., Cost] = attention_decode if ops[0].phase == "decode" else attention_prefill
    formats = [get_format(op.q).compute for op in ops]
    kernels = tuple(tuple(attention_variant(op.phase, op.q if fmt in native else "", op.kv) for native in hw.native)
                    for op, fmt in zip(ops, formats, strict=True))
    found = _sets("attention", formula, kernels, hw.identity, framework)
    peak = col.rates([(fmt,) * len(hw) for fmt in formats])
    cost = formula(*(f[k] for k in _SHAPES[Attention][:7]), f["window"], kv_elements=f["kv_elements"],
                   warm=f["resident"], bytes_q=col.each([max(get_format(op.q).nbytes, 2.0) for op in ops]),
                   bytes_kv=col.each([get_format(op.kv).nbytes for op in ops]),
                   causal=col.each([float(op.causal) for op in ops]),
                   peak=peak, vector_peak=col(hw.vector_rate), **col.common(*_MEMORY), **col.fitted(found))
    beyond = _beyond("attention", kernels, col, framework,
                     **{k: f[k] for k in ("batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim")})
    return _priced(cost, found, peak, col, "attention_bf16", beyond=beyond)


def _scan(ops: Sequence[Scan], f: dict[str, Array], hw: Hardware, framework: str) -> _Stack:
    col = _Columns(hw, f["batch"].ndim - 2)
    peak = col.rates([(get_format(op.act).compute,) * len(hw) for op in ops])
    found = _sets("scan", scan, tuple((op.phase,) * len(hw) for op in ops), hw.identity, framework)
    cost = scan(*(f[k] for k in _SHAPES[Scan]), bytes_act=col.each([get_format(op.act).nbytes for op in ops]),
                bytes_state=col.each([get_format(op.state).nbytes for op in ops]),
                decode=col.each([float(op.phase == "decode") for op in ops]),
                peak=peak, vector_peak=col(hw.vector_rate), **col.common("dram_bandwidth", "n_units"))
    return _priced(cost, found, peak, col)


def _elementwise(ops: Sequence[Elementwise], f: dict[str, Array], hw: Hardware, framework: str) -> _Stack:
    col = _Columns(hw, f["rows"].ndim - 2)
    variants = tuple((KIND_BORROWS[op.kind],) * len(hw) for op in ops)
    found = _sets("elementwise", elementwise, variants, hw.identity, framework)
    formula: Callable[..., Cost] = elementwise
    cost = formula(*(f[k] for k in _SHAPES[Elementwise]), **col.common(*_MEMORY), **col.fitted(found))
    beyond = _beyond("elementwise", variants, col, framework, bytes_rw=f["bytes_read"] + f["bytes_written"])
    return _priced(cost, found, col(hw.rate_table["fp32"]), col, beyond=beyond)


def _collective(ops: Sequence[Collective], f: dict[str, Array], hw: Hardware, framework: str) -> _Stack:
    col = _Columns(hw, f["nbytes"].ndim - 2)
    # Sets of a link inside a node know nothing of the network: where a group crosses it, they are no more than borrowed.
    variants = tuple(tuple(v + BORROWED if v != "internode" and np.max(op.n_devices) > domain else v
                           for v, domain in zip((LINK_BORROWS[k] for k in hw.link_class), hw.domain, strict=True))
                     for op in ops)
    found = _sets("collective", collective, variants, hw.identity, framework)
    cost = collective(f["nbytes"], f["n_devices"], kind=ops[0].kind, bandwidth=col(hw.link_bandwidth),
                      devices_per_node=col(hw.domain), internode_bandwidth=col(hw.network_bandwidth),
                      **col.fitted(found))
    beyond = _beyond("collective", variants, col, framework, bytes=f["nbytes"], n_devices=f["n_devices"])
    return _priced(cost, found, col(hw.rate_table["fp32"]), col, beyond=beyond)


_PRICERS: dict[type[Op], Callable[[Any, dict[str, Array], Hardware, str], _Stack]] = {
    Gemm: _gemm, Moe: _moe, Attention: _attention, Scan: _scan, Elementwise: _elementwise, Collective: _collective,
}
