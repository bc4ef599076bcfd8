"""Cost of a dense matrix product on systolic arrays with a software-managed scratchpad: NPUs and TPU-like engines.

An array of R x C processing elements holds one operand's tile (*weight-* or *input-stationary*) or the sums of an output
tile (*output-stationary*); the dimension that is left streams through, one element per row and cycle, skewed by one cycle
per row and column. ``array_cycles`` is exact for such an array: ``cost.systolic_array`` moves real data one element per
cycle and needs the same number. Without second registers a tile takes 2R + C + t - 2 cycles (fill, stream of t, drain), as
in SCALE-Sim (Samajdar et al., ISPASS 2020, eq. 3); with them the next tile's fill and the last one's drain hide
behind the stream. A partly filled tile takes as long as a full one: its sums leave through the same rows.

Around the arrays: the cheapest of a set of scratchpad tilings decides how often operands are fetched again from DRAM; with
double buffering loads and arithmetic overlap but for the first block; a graph compiled for a fixed number of rows runs as
often as needed, padded; weights that the software does not keep in the array's own layout are prepared on the way in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, Cost, as_floats

#: What an element of the array keeps: the number of each dataflow in ``dataflow``.
DATAFLOWS = ("weight", "output", "input")
#: Elements along k of one block in flight: long enough for full DRAM bursts (assumed).
BLOCK_K = 256.0
#: Heights of output blocks offered, in rows of the array.
HEIGHTS = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0])
#: What stays in the scratchpad under each tiling: A, W, else blocks of the output.
_STAYS = np.arange(2 + len(HEIGHTS))
#: Bytes of a sum while it is built up.
BYTES_SUM = 4.0


class Cycles(NamedTuple):
    """Cycles of one array: ``total`` = ``stream`` (operands enter) + ``fill`` (loads, skew and drains that nothing hides)."""

    total: Array
    stream: Array
    fill: Array
    tiles: Array


def array_cycles(m: ArrayLike, n: ArrayLike, k: ArrayLike, *, array_rows: ArrayLike, array_cols: ArrayLike,
                 dataflow: ArrayLike = 0.0, shadow: ArrayLike = 1.0) -> Cycles:
    """Cycles of C[m,n] = A[m,k] W[k,n] on one array, from the first element in to the last sum out.

    Parameters
    ----------
    m, n, k : array_like          Shape of the product. [-]
    array_rows, array_cols : array_like  Processing elements R, C. [-]
    dataflow : array_like         Index into ``DATAFLOWS``: over the array lie k x n, m x n or k x m; m, k or n streams.
    shadow : array_like           1: a second register per element takes the next tile in, or the last sums out, meanwhile.

    All arguments broadcast; whole numbers. Exact (``cost.systolic_array``) for m, n, k >= 1; nothing to do takes no cycle.
    """
    m, n, k, rows, cols, dataflow, shadow = as_floats(m, n, k, array_rows, array_cols, dataflow, shadow)
    kind = np.rint(dataflow)
    down, across, stream = (np.where(kind < 1, a, np.where(kind < 2, b, c)) for a, b, c in ((k, m, k), (n, n, m), (m, k, n)))
    tiles = np.ceil(down / rows) * np.ceil(across / cols)
    alone = 2.0 * rows + cols + stream - 2.0
    interval = np.where(shadow > 0.5, np.maximum(stream, rows), alone)
    some = (tiles > 0) & (stream > 0)
    total = np.where(some, (tiles - 1.0) * interval + alone, 0.0)
    return Cycles(total, tiles * stream, total - tiles * stream, tiles)


def systolic(m: ArrayLike, n: ArrayLike, k: ArrayLike, batch: ArrayLike = 1.0, *, bytes_a: ArrayLike = 1.0,
             bytes_w: ArrayLike = 1.0, bytes_out: ArrayLike = 1.0, peak: ArrayLike, n_units: ArrayLike,
             array_rows: ArrayLike, array_cols: ArrayLike, scratchpad: ArrayLike, dram_bandwidth: ArrayLike,
             dataflow: ArrayLike = 0.0, shadow: ArrayLike = 1.0, double_buffer: ArrayLike = 1.0,
             graph_rows: ArrayLike = 0.0, row_quantum: ArrayLike = 1.0, resident: ArrayLike = 0.0,
             dram_efficiency: ArrayLike = 1.0, prepare_time: ArrayLike = 0.0, overhead: ArrayLike = 0.0,
             launch: ArrayLike = 0.0) -> Cost:
    """Time of ``batch`` independent products on a device of ``n_units`` arrays.

    Parameters
    ----------
    m, n, k, batch : array_like       Shape of C, length of the sum, number of products. [-]
    bytes_a, bytes_w, bytes_out : array_like  Per element as stored. [B]
    peak : array_like                 Rate of the multiplied format, all arrays full; sets the cycle time. [FLOP/s]
    n_units, array_rows, array_cols : array_like  Arrays and their sides. [-]
    scratchpad : array_like           Software-managed memory that feeds the arrays. [B]
    dram_bandwidth : array_like       Rate at which the engine reads main memory. [B/s]
    dataflow, shadow : array_like     As for ``array_cycles``.
    double_buffer : array_like        1: loads overlap with arithmetic; 0: one after the other.
    graph_rows : array_like           Rows that a compiled graph takes: m runs in pieces padded to it; 0: any m. [-]
    row_quantum : array_like          Rows are stored in groups of so many and padded to them. [-]
    resident : array_like             Share of W that is on chip when the call starts. [-]
    dram_efficiency : array_like      Achieved share of ``dram_bandwidth``. [-]
    prepare_time : array_like         Vector or scalar work on one weight on its way into the arrays' layout; overlaps
                                      with loads and arithmetic. [s]
    overhead, launch : array_like     Fixed time of one call of the graph, and what the host adds. [s]

    All arguments broadcast. More bandwidth or peak never costs more, more work never less but for the step at which another
    tiling, with a smaller first block, becomes the best (below half a percent). The arrays share one product by its
    columns, its rows or its batch, whichever is fastest. An empty product costs its fixed time.
    """
    given = as_floats(m, n, k, batch, bytes_a, bytes_w, bytes_out, peak, n_units, array_rows, array_cols, scratchpad,
                      dram_bandwidth, dataflow, shadow, double_buffer, graph_rows, row_quantum, resident, dram_efficiency,
                      prepare_time, overhead, launch)
    terms = _candidates(*(a[..., None] for a in given))
    shape = np.broadcast_shapes(*(a.shape for a in given))
    return Cost(*(np.broadcast_to(a, shape)[()] for a in terms))


def _candidates(m: Array, n: Array, k: Array, batch: Array, bytes_a: Array, bytes_w: Array, bytes_out: Array, peak: Array,
                n_units: Array, rows: Array, cols: Array, scratchpad: Array, dram_bandwidth: Array, dataflow: Array,
                shadow: Array, double_buffer: Array, graph_rows: Array, row_quantum: Array, resident: Array,
                dram_efficiency: Array, prepare_time: Array, overhead: Array, launch: Array) -> tuple[Array, ...]:
    """Terms of ``Cost`` for arguments that end in an axis of length 1, on which ways to share and to tile lie."""
    flops = 2.0 * m * n * k * batch
    some = flops > 0
    fixed_shape = graph_rows > 0
    calls = np.where(fixed_shape, np.ceil(m / np.maximum(graph_rows, 1.0)), 1.0)
    padded = np.ceil(np.where(fixed_shape, graph_rows, m) / row_quantum) * row_quantum

    used = _shared(padded, n, k, batch, n_units, rows, cols, dataflow, shadow)
    cycle = 2.0 * rows * cols * n_units / peak
    prepare = n * k * batch * prepare_time
    streaming, engine = (np.maximum(c * cycle, prepare) * some for c in (used.stream, used.total))

    rate = dram_bandwidth * dram_efficiency
    moved, first = _traffic(padded, n, k, bytes_a, bytes_w, bytes_out, rows, cols, scratchpad, resident)
    load, ramp = moved * batch / rate * some, first / rate * some
    low = np.minimum(engine, load)
    busy = np.maximum(engine, load) + np.where(double_buffer > 0.5, np.minimum(low, ramp), low)

    choice = np.argmin(busy, axis=-1)[..., None]
    busy, load, moved = (np.take_along_axis(np.broadcast_to(a, busy.shape), choice, axis=-1) * calls
                         for a in (busy, load, moved * batch * some))
    compute = streaming * calls
    fixed = np.maximum(calls, 1.0) * overhead + launch
    tail = np.maximum(busy - np.maximum(compute, load), 0.0)
    terms = (busy + fixed, compute, load, np.zeros_like(busy), fixed, tail, flops, moved)
    return tuple(a[..., 0] for a in terms)


def _shared(m: Array, n: Array, k: Array, batch: Array, n_units: Array, rows: Array, cols: Array, dataflow: Array,
            shadow: Array) -> Cycles:
    """Cycles of the busiest array where columns, rows or products are dealt evenly to all, whichever is fastest."""
    by = np.arange(3)
    n, m, batch = (np.ceil(x / np.where(by == i, n_units, 1.0)) for i, x in enumerate((n, m, batch)))
    each = array_cycles(m, n, k, array_rows=rows, array_cols=cols, dataflow=dataflow, shadow=shadow)
    ways = np.broadcast_arrays(*(c * batch for c in each))
    best = np.argmin(ways[0], axis=-1)[..., None]
    return Cycles(*(np.take_along_axis(w, best, axis=-1) for w in ways))


def _traffic(m: Array, n: Array, k: Array, bytes_a: Array, bytes_w: Array, bytes_out: Array, rows: Array, cols: Array,
             scratchpad: Array, resident: Array) -> tuple[Array, Array]:
    """Bytes moved by each tiling, and bytes of its first block. Last axis: all of k of some rows of A stay, all of k of
    some columns of W stay, or output blocks of ``HEIGHTS`` stay; the rest streams through in two buffers."""
    a, w, out = m * k * bytes_a, n * k * bytes_w, m * n * bytes_out
    depth = np.minimum(k, BLOCK_K)
    thin_a, thin_w = np.minimum(m, rows) * depth * bytes_a, np.minimum(n, cols) * depth * bytes_w
    tall = np.floor((scratchpad - 2.0 * thin_w) / (k * bytes_a + cols * BYTES_SUM))
    wide = np.floor((scratchpad - 2.0 * thin_a) / (k * bytes_w + rows * BYTES_SUM))
    height = np.minimum(rows * HEIGHTS, m)
    width = np.floor((scratchpad - 2.0 * height * depth * bytes_a) / (height * BYTES_SUM + 2.0 * depth * bytes_w))
    block_m = np.clip(_joined(tall, rows, height), 1.0, np.maximum(m, 1.0))
    block_n = np.clip(_joined(cols, wide, width), 1.0, np.maximum(n, 1.0))
    read_a = np.where(_STAYS == 0, 1.0, np.ceil(n / block_n))
    read_w = np.where(_STAYS == 1, 1.0, np.ceil(m / block_m))
    return (a * read_a + w * read_w * (1.0 - resident) + out, depth * (block_m * bytes_a + block_n * bytes_w))


def _joined(*parts: Array) -> Array:
    """Arrays side by side along their last axis, broadcast along all others."""
    shape = np.broadcast_shapes(*(p.shape[:-1] for p in parts))
    return np.concatenate([np.broadcast_to(p, (*shape, p.shape[-1])) for p in parts], axis=-1)
