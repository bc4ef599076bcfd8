"""Engines made of verified units (``accel_models.units``): an accelerator of their own, or the multipliers of a GPU.

On its own an engine's time is the contract's cycles beside the memory's bytes (``cost.unit_array``); what its units cannot
multiply runs on the vector engine beside it, and so do norms and softmax. In a device of kind ``gpu`` the kernels stay
what they are and only the rate of products with weights that the units take comes from the contract; the others run at the
rates that the file states. Nothing was measured on such a device: ``assumed``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache, partial
from typing import NamedTuple

import numpy as np

from accel_models.bind import Hardware
from accel_models.columns import OFF_CHIP, Columns, Stack, picked, priced, sets
from accel_models.cost.terms import Array, Cost
from accel_models.cost.unit_array import dealt, product, splits, together
from accel_models.families import general
from accel_models.families.general import Pricer
from accel_models.kernels import Multiply
from accel_models.unit_silicon import Energies, energies
from accel_models.units import COMMON, KINDS
from workloads.formats import Format, get_format
from workloads.ops import Attention, Elementwise, Gemm, Moe, Op, Scan

#: Operations of the vector engine for each score of a softmax: maximum, difference, exponential, sum, division.
SOFTMAX_OPS = 5.0
#: Operations for each element of a pass of an element-wise kernel (mean or maximum first: several passes).
PASSES = {"rmsnorm": 3.0, "add_rmsnorm": 4.0, "layernorm": 4.0, "add_layernorm": 5.0, "softmax": SOFTMAX_OPS, "sampling": 2.0}


class Shape(NamedTuple):
    """Figures of the arrays of one kind on bound devices and their energies (NaN where no node is known), all (devices,)."""

    figures: dict[str, Array]
    energies: Energies


@lru_cache(maxsize=8)
def shape(hw: Hardware, kind: str) -> Shape:
    """Once for all ops that are priced on the same devices."""
    figures = {name: hw.figure(name, default) for name, default in KINDS[kind].figures.items()}
    beside = {name: hw.figure(name, np.nan) for name in COMMON}
    joules = np.full((len(Energies._fields), len(hw)), np.nan)
    for node in set(hw.process) - {""}:
        at = [i for i, name in enumerate(hw.process) if name == node]
        mine, rest = ({name: values[at] for name, values in table.items()} for table in (figures, beside))
        for row, found in zip(joules, energies(kind, mine, rest, node=node), strict=True):
            row[at] = found
    return Shape(figures, Energies(*joules))


def arrays_of(hw: Hardware) -> Array:
    """Arrays of each device, (devices,): in a GPU some in every processor."""
    return np.asarray(hw.n_units * hw.figure("arrays_per_unit", 1.0))


def peak(a: Format, w: Format, hw: Hardware, *, kind: str) -> Array:
    """Rate (devices,) of products of these formats with full tiles, 0 where the units do not take them. [op/s]"""
    figures = shape(hw, kind).figures
    passes = KINDS[kind].passes(a, w, figures)
    return np.nan_to_num(2.0 * KINDS[kind].macs(figures) * arrays_of(hw) * hw.array_clock / passes)


class Work(NamedTuple):
    """Time of some work on the arrays or the vector engine [s], and energy of cells and buffers meanwhile [J] (NaN where no
    node is known)."""

    seconds: Array
    joules: Array

    def then(self, other: Work) -> Work:
        return Work(self.seconds + other.seconds, self.joules + other.joules)


class _Arrays:
    """The arrays of the bound devices, with the axes of a workload."""

    def __init__(self, hw: Hardware, kind: str, n_axes: int) -> None:
        self.hw, self.kind, self.col = hw, KINDS[kind], Columns(hw, n_axes)
        self.flat, joules = shape(hw, kind)
        self.figures = {k: self.col(v) for k, v in self.flat.items()}
        self.joules = Energies(*map(self.col, joules))
        self.units, self.clock = self.col(arrays_of(hw)), self.col(hw.array_clock)
        self.beside = {"dram_bandwidth": self.col(hw.dram_bandwidth), "launch": self.col(hw.launch)}
        self.buffers = {name: self.col(hw.figure(f"{name}_bytes", np.inf)) for name in ("input_buffer", "weight_buffer")}

    def passes(self, a: Sequence[Format], w: Sequence[Format]) -> Array:
        """(ops, devices, ...), NaN where the unit does not take the product."""
        known = {pair: np.broadcast_to(self.kind.passes(*pair_formats, self.flat), (len(self.hw),)).tolist()
                 for pair, pair_formats in {(x.name, y.name): (x, y) for x, y in zip(a, w, strict=True)}.items()}
        return self.col.table([known[x.name, y.name] for x, y in zip(a, w, strict=True)])

    def rate(self, k: Array, passes: Array) -> Array:
        """Of all arrays together, each on full tiles of the result; of products that the units do not take it says nothing.
        [op/s]"""
        down, across = self.kind.tile(self.figures)
        cycles = self.kind.cycles(down, across, k, passes, self.figures)
        return np.asarray(2.0 * down * across * k * self.units * self.clock / cycles)

    def vector(self, operations: Array) -> Work:
        """Operations on the vector engine."""
        return Work(operations / self.col(self.hw.vector_rate), operations * self.joules.vector_op)

    def product(self, m: Array, n: Array, k: Array, batch: Array, passes: Array, bytes_a: Array | float,
                bytes_w: Array | float) -> Work:
        """Products on the arrays, or on the vector engine where the units do not take them.

        Few results leave arrays without a tile: they share the k of others in as many parts as is fastest, and the vector
        engine adds these up. A row of operands comes from its buffer once for all tiles that it meets at a time; arrays
        without work draw nothing.
        """
        taken = ~np.isnan(passes)
        turns, (down, across) = np.where(taken, passes, 1.0), self.kind.tile(self.figures)
        tiles = batch * np.ceil(m / down) * np.ceil(n / across)
        room = self.units / np.maximum(tiles, 1.0)
        part = np.reshape(splits(np.max(np.where(taken, room, 1.0))), (-1,) + (1,) * max(map(np.ndim, (room, k, turns))))
        part = np.where(part <= room, part, 1.0)
        each, deal = np.ceil(k / part), dealt(tiles * part, arrays=self.units)

        def cycles(count: Array) -> Array:
            return self.kind.cycles(down * count, across, each, turns, self.figures)

        longest = cycles(deal.most)
        drawn = deal.with_most * longest + deal.with_less * cycles(np.maximum(deal.most - 1.0, 1.0))
        fed = tiles * part * each * (down * bytes_a * self.joules.input + across * bytes_w * self.joules.weight)
        ways = Work(longest / self.clock, drawn * self.joules.cycle + fed).then(self.vector(batch * m * n * (part - 1.0)))
        seconds, joules = np.broadcast_arrays(*ways)
        best = np.argmin(seconds, axis=0, keepdims=True)
        mine, other = (np.take_along_axis(x, best, axis=0)[0] for x in (seconds, joules)), self.vector(2.0 * batch * m * n * k)
        return Work(*(np.where(taken, x, y) for x, y in zip(mine, other, strict=True)))

    def priced_product(self, ops: Sequence[Gemm] | Sequence[Moe], m: Array, n: Array, k: Array,
                       batch: Array) -> tuple[Cost, Array]:
        """Cost of the products in the formats of these ops, and the joules of cells and buffers."""
        a, w, out = ([get_format(getattr(op, x)) for op in ops] for x in ("a", "w", "out"))
        nbytes = {f"bytes_{name}": self.col.each([x.nbytes for x in found])
                  for name, found in (("a", a), ("w", w), ("out", out))}
        work = self.product(m, n, k, batch, self.passes(a, w), nbytes["bytes_a"], nbytes["bytes_w"])
        return product(m, n, k, batch, compute=work.seconds, **nbytes, **self.beside, **self.buffers), work.joules

    def stack(self, cost: Cost, ops: Sequence[Op], joules: Array) -> Stack:
        """Interval of an unmeasured formula, and energy: what the file states of an operation, else that of the cells."""
        found = sets("units", product, (("contract",) * len(self.hw),) * len(ops), self.hw.identity, "")
        flops = np.maximum(np.asarray(cost.flops), 1.0)
        return priced(cost, found, flops / np.maximum(np.asarray(cost.compute), 1e-30), self.col, op_j=joules / flops)


def _gemm(ops: Sequence[Gemm], f: dict[str, Array], hw: Hardware, framework: str, *, kind: str) -> Stack:
    arrays = _Arrays(hw, kind, f["m"].ndim - 2)
    cost, joules = arrays.priced_product(ops, f["m"], f["n"], f["k"], f["batch"])
    return arrays.stack(cost, ops, joules)


def _moe(ops: Sequence[Moe], f: dict[str, Array], hw: Hardware, framework: str, *, kind: str) -> Stack:
    """Experts that a token picked (choices uniform), each with its share of the rows."""
    arrays = _Arrays(hw, kind, f["tokens"].ndim - 2)
    hit, rows = picked(f)
    wide = f["inter"] * arrays.col.each([1.0 + op.gated for op in ops])
    (up, up_j), (down, down_j) = (arrays.priced_product(ops, rows, n, k, hit)
                                  for n, k in ((wide, f["hidden"]), (f["hidden"], f["inter"])))
    return arrays.stack(Cost(*(x + y for x, y in zip(up, down, strict=True))), ops, up_j + down_j)


def visible(q: Array, kv: Array, window: Array) -> Array:
    """Keys that a query of the last ``q`` of ``kv`` positions sees, on the mean: those before it and itself, no more than the
    last ``window`` (0: all)."""
    most = np.minimum(np.where(window > 0, window, kv), kv)
    ramp = np.clip(most - (kv - q), 0.0, q)                    # queries that still see all before them
    return most - ramp * (most - (kv - q) - (ramp + 1.0) / 2.0) / q


def _attention(ops: Sequence[Attention], f: dict[str, Array], hw: Hardware, framework: str, *, kind: str) -> Stack:
    """Scores, softmax, weighted sum one after another; the queries of a group share a head of keys and values. Scores stay
    on chip. A causal prompt skips what lies beyond the diagonal, or outside a window, where the file says so (figure
    ``causal_skip`` 1); keys that no query sees are not read."""
    arrays = _Arrays(hw, kind, f["batch"].ndim - 2)
    each = arrays.col.each
    q, kv = [get_format(op.q) for op in ops], [get_format(op.kv) for op in ops]
    passes = arrays.passes(q, kv)
    cached = np.where(f["window"] > 0, np.minimum(f["kv_len"], f["window"] + f["q_len"] - 1.0), f["kv_len"])
    skips = each([float(op.causal) for op in ops]) * arrays.col(hw.figure("causal_skip", 1.0))
    seen = cached + skips * (visible(f["q_len"], f["kv_len"], f["window"]) - cached)
    rows, batch = f["q_len"] * f["n_heads"] / f["n_kv_heads"], f["batch"] * f["n_kv_heads"]
    wide, narrow = each([x.nbytes for x in q]), each([x.nbytes for x in kv])
    work = (arrays.product(rows, seen, f["head_dim"], batch, passes, wide, narrow)
            .then(arrays.vector(SOFTMAX_OPS * batch * rows * seen))
            .then(arrays.product(rows, f["v_head_dim"], seen, batch, passes, wide, narrow)))
    heads = f["batch"] * f["n_heads"] * f["q_len"]
    moved = f["batch"] * cached * f["kv_elements"] * narrow + heads * (f["head_dim"] + f["v_head_dim"]) * wide
    flops = 2.0 * batch * rows * seen * (f["head_dim"] + f["v_head_dim"])
    return arrays.stack(together(moved, flops, compute=work.seconds, **arrays.beside), ops, work.joules)


def _elementwise(ops: Sequence[Elementwise], f: dict[str, Array], hw: Hardware, framework: str, *, kind: str) -> Stack:
    """On the vector engine; operands that fit the input buffer are still there."""
    arrays = _Arrays(hw, kind, f["rows"].ndim - 2)
    each = arrays.col.each
    moved = f["bytes_read"] + f["bytes_written"]
    off = np.maximum(each([float(op.kind in OFF_CHIP) for op in ops]), moved > arrays.buffers["input_buffer"])
    operations = f["rows"] * f["cols"] * each([PASSES.get(op.kind, 1.0) for op in ops])
    work = arrays.vector(operations)
    return arrays.stack(together(moved * off, operations, compute=work.seconds, **arrays.beside), ops, work.joules)


def _scan(ops: Sequence[Scan], f: dict[str, Array], hw: Hardware, framework: str, *, kind: str) -> Stack:
    """On the vector engine; the state comes from memory and goes back: before it is asked for again, all other layers
    have had the buffer."""
    arrays = _Arrays(hw, kind, f["batch"].ndim - 2)
    moved = 2.0 * f["batch"] * f["state_elements"] * arrays.col.each([get_format(op.state).nbytes for op in ops])
    operations = f["batch"] * f["q_len"] * f["flops_per_token"]
    work = arrays.vector(operations)
    return arrays.stack(together(moved, operations, compute=work.seconds, **arrays.beside), ops, work.joules)


# -- in a GPU ------------------------------------------------------------------------------------------------------------

def _hosted(ops: Sequence[Gemm], f: dict[str, Array], hw: Hardware, framework: str, *, kind: str) -> Stack:
    """Products in the GPU's own kernels, multiplied by the units where they take the weights: at the rate of full tiles,
    since the kernel's formula deals tiles and fills them up."""
    arrays = _Arrays(hw, kind, f["m"].ndim - 2)
    a, w = [get_format(op.a) for op in ops], [get_format(op.w) for op in ops]
    passes = arrays.passes(a, w)
    taken = np.broadcast_to(~np.isnan(passes), np.broadcast_shapes(passes.shape, (len(ops), len(hw), *arrays.col.tail)))
    ways = [tuple(_as_stored(x) if y.bits < 16 and bool(taken[i, j].all()) else way for j, way in enumerate(row))
            for i, (x, y, row) in enumerate(zip(a, w, general.ways_of(ops, hw), strict=True))]
    return general.gemm_of(ops, f, hw, framework, ways, rate=np.where(taken, arrays.rate(f["k"], passes), np.nan))


def _as_stored(a: Format) -> Multiply:
    """A kernel without unpacking: weights reach the units as they are stored. Never measured; the nearest is the product of
    activations of that width."""
    narrow = a.bits < 16
    quantise = (0.0, 0.0) if a.ready or not narrow else (1.0, 2.0 + a.nbytes)
    return Multiply("int8_smoothquant" if narrow else "none", a.compute, 0.0, a.nbytes, *quantise, borrowed=True)


def _own(kind: str) -> Mapping[type[Op], Pricer]:
    mine: dict[type[Op], Callable[..., Stack]] = {Gemm: _gemm, Moe: _moe, Attention: _attention, Elementwise: _elementwise,
                                                  Scan: _scan}
    return {op: partial(f, kind=kind) for op, f in mine.items()}


@cache
def pricers(kind: str, *, hosted: bool) -> Mapping[type[Op], Pricer]:
    """Of an accelerator of its own, or inside a GPU. ``kind`` is one of ``KINDS``."""
    return {Gemm: partial(_hosted, kind=kind)} if hosted else _own(kind)
