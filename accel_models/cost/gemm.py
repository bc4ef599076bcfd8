"""Cost of a dense matrix product on a tiled many-processor engine: C[m,n] += A[m,k] W[k,n].

The library's kernel is taken to be the best of a fixed set of output tiles (TM, TN), each without a split of k and
with splits that fill the machine once or twice, or, for one row, a matrix-vector kernel. All terms come from the
chosen candidate, so a bottleneck is read off and not guessed.

For a tile, time per element of k is the arithmetic at ``efficiency`` of a processor's peak, plus ``step_time`` (the
loads, barriers and latencies of the k loop that no tile size shrinks), plus unpacking of packed weights; ``fill``
elements of k are added for start and end. Tiles run in waves over the processors; ``tail_share`` of the last, partly
filled wave is charged (the rest overlaps with what the scheduler finds to do). Memory moves every operand once: what
is ``resident``, and activations while they fit, at L2 rate, the rest at DRAM rate, less when few tiles keep few bytes
in flight (Little's law). Long products run at a lower, sustained clock (``throttle``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_models.cost.terms import Array, Cost, as_floats, smooth_max

#: Output tiles offered (rows, columns). Finer sets fit no better on measured rows: libraries have few good kernels.
TILES = ((16, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 128))
#: Tiles per processor that a split of k aims at; 0 is no split.
FILLS = (0, 1, 2)
TILE_M = np.array([t[0] for t in TILES] * len(FILLS), dtype=np.float64)
TILE_N = np.array([t[1] for t in TILES] * len(FILLS), dtype=np.float64)
AIM = np.repeat(np.array(FILLS, dtype=np.float64), len(TILES))
#: Shortest piece of k that a split leaves, and the most pieces [elements, -].
MIN_PIECE, MAX_SPLIT = 256.0, 32.0
#: Share of the vector rate that a matrix-vector kernel reaches; of weight only where it takes many rows (assumed).
GEMV_RATE = 0.5
#: Rows of an operand that one processor's tiles span when a wave lies on the output as a square.
PANEL = 128.0
#: Widest load of a thread [B].
WORD = 16.0
#: Shapes evaluated at once; with the candidate axis the temporaries then stay in cache.
CHUNK = 1024


def residency(footprint: ArrayLike, capacity: ArrayLike) -> Array:
    """Share of a cyclically reused ``footprint`` [B] that is still in a cache of ``capacity`` [B].

    A cache that drops the least recently used line keeps all of a loop that fits and almost nothing of one that does
    not: measured weight-rotation benchmarks fall from L2 to DRAM rate between 1.00 and 1.09 of the capacity.
    """
    footprint, capacity = as_floats(footprint, capacity)
    ratio = np.minimum(footprint / np.maximum(capacity * 1.03, 1.0), 10.0)
    kept: Array = 1.0 / (1.0 + np.power(ratio, 60.0))
    return kept


def gemm(m: ArrayLike, n: ArrayLike, k: ArrayLike, batch: ArrayLike = 1.0, *, bytes_a: ArrayLike = 2.0,
         bytes_w: ArrayLike = 2.0, bytes_out: ArrayLike = 2.0, peak: ArrayLike, vector_peak: ArrayLike,
         n_units: ArrayLike, dram_bandwidth: ArrayLike, l2_bandwidth: ArrayLike, l2_capacity: ArrayLike,
         resident: ArrayLike = 0.0, dequant_ops: ArrayLike = 0.0, gather_bytes: ArrayLike = 0.0,
         quant_kernels: ArrayLike = 0.0, quant_bytes: ArrayLike = 0.0,
         launch: ArrayLike = 0.0, efficiency: ArrayLike = 0.9,
         step_time: ArrayLike = 1e-9, fill: ArrayLike = 110.0, tail_share: ArrayLike = 0.3,
         dram_efficiency: ArrayLike = 0.83, l2_efficiency: ArrayLike = 0.45, flight: ArrayLike = 0.02,
         sharpness: ArrayLike = 4.0, split_time: ArrayLike = 1.6e-6, overhead: ArrayLike = 3e-6,
         gemv_gain: ArrayLike = 1.05, gemv_fixed: ArrayLike = 1.0, gemv_rows: ArrayLike = 1.0,
         throttle: ArrayLike = 0.1, settle: ArrayLike = 1e-3, quant_time: ArrayLike = 2e-6,
         quant_passes: ArrayLike = 1.0, reach: ArrayLike = 1e9, reach_loss: ArrayLike = 0.0,
         split_from: ArrayLike = 0.0, ragged_loss: ArrayLike = 0.0,
         bias_time: ArrayLike = 0.0) -> Cost:
    """Time of ``batch`` independent products on one device.

    Parameters
    ----------
    m, n, k, batch : array_like       Shape of C, length of the sum, number of products. [-]
    bytes_a, bytes_w, bytes_out : array_like  Per element as the product reads and writes them, scales included. [B]
    peak, vector_peak : array_like    Matrix rate of the multiplied format and vector rate, dense. [FLOP/s]
    n_units : array_like              Processors (SM, CU, core). [-]
    dram_bandwidth, l2_bandwidth, l2_capacity : array_like  [B/s, B/s, B]
    resident : array_like             Share of W that is in L2 when the call starts (``residency``). [-]
    dequant_ops : array_like          Vector operations to unpack one weight element. [-]
    gather_bytes : array_like         Table entries fetched from L2 for one weight element, in whole sectors. [B]
    quant_kernels, quant_bytes : array_like  Kernels that quantise A first, and bytes they move per element of A.
    launch : array_like               What the host or graph adds per call, beside ``overhead``. [s]
    efficiency : array_like           Share of ``peak`` that a tile's arithmetic reaches. [-]
    step_time : array_like            Time per element of k of any tile, beside its arithmetic. [s]
    fill : array_like                 Start and end of a tile, in elements of k. [-]
    tail_share : array_like           Share of the last, partly filled wave that is charged. [-]
    dram_efficiency, l2_efficiency : array_like  Achieved share of each rate. [-]
    flight : array_like               Tiles per processor at which half the memory rate is reached. [-]
    sharpness : array_like            Overlap of compute and memory (``smooth_max``). [-]
    split_time : array_like           Fixed cost of adding up a split of k. [s]
    overhead : array_like             Fixed time of a kernel. [s]
    gemv_fixed, gemv_gain : array_like  Fixed time and DRAM rate of the matrix-vector kernel over the tiled one's. [-]
    gemv_rows : array_like            Most rows that the library's matrix-vector kernel takes. [-]
    throttle, settle : array_like     How much longer arithmetic takes once the clock has settled, and the length of
                                      a product (at peak) at which half of that has come about. [-, s]
    split_from : array_like           Least k / n at which the library splits k at all. [-]
    reach, reach_loss : array_like    Addresses that a wave may span before translation look-aside misses show, and
                                      how much longer arithmetic then takes (long rows on old chips). [B, -]
    ragged_loss : array_like          How much longer arithmetic takes where m or k is no multiple of 16 bytes of A, so that
                                      operands cannot be loaded in whole words (single products; old chips). [-]
    bias_time : array_like            Time of the kernel that an eager framework puts before a single product, which lays
                                      the bias into C. [s]
    quant_time, quant_passes : array_like  Fixed time of one quantising kernel, and traffic over ``quant_bytes``: a
                                      scale found at run time reads A twice. [s, -]

    All arguments broadcast; the result has their common shape. More bandwidth or peak never costs more. More rows
    never cost less except for the step where a split of k is given up (a few percent), and with ``ragged_loss`` where they
    fill a word. An empty product costs its fixed time.
    """
    given = as_floats(m, n, k, batch, bytes_a, bytes_w, bytes_out, peak, vector_peak, n_units, dram_bandwidth,
                      l2_bandwidth, l2_capacity, resident, dequant_ops, quant_kernels, quant_bytes, launch, efficiency,
                      step_time, fill, tail_share, dram_efficiency, l2_efficiency, flight, sharpness, split_time,
                      overhead, gemv_gain, gemv_fixed, gemv_rows, throttle, settle, quant_time, quant_passes,
                      reach, reach_loss, split_from, ragged_loss, bias_time, gather_bytes)
    shape = np.broadcast_shapes(*(a.shape for a in given))
    size = int(np.prod(shape, dtype=np.int64))
    if size <= CHUNK:
        small = _chunk(*(a[..., None] for a in given))
        return Cost(*(np.broadcast_to(a, shape)[()] for a in small))
    # Columns of length one stay so: a term pays only for the axes it has.
    flat = [a.reshape(1, 1) if a.size == 1 else np.broadcast_to(a, shape).reshape(-1, 1) for a in given]
    out = np.empty((8, size))
    for i in range(0, size, CHUNK):
        part = _chunk(*(a if a.size == 1 else a[i:i + CHUNK] for a in flat))
        for row, values in zip(out, part, strict=True):
            row[i:i + CHUNK] = values
    return Cost(*(row.reshape(shape)[()] for row in out))


def _chunk(m: Array, n: Array, k: Array, batch: Array, bytes_a: Array, bytes_w: Array, bytes_out: Array, peak: Array,
           vector_peak: Array, n_units: Array, dram_bw: Array, l2_bw: Array, l2_cap: Array, resident: Array,
           dequant_ops: Array, quant_kernels: Array, quant_bytes: Array, launch: Array, efficiency: Array,
           step_time: Array, fill: Array, tail_share: Array, dram_eff: Array, l2_eff: Array, flight: Array,
           sharpness: Array, split_time: Array, overhead: Array, gemv_gain: Array, gemv_fixed: Array,
           gemv_rows: Array, throttle: Array, settle: Array, quant_time: Array,
           quant_passes: Array, reach: Array, reach_loss: Array, split_from: Array,
           ragged_loss: Array, bias_time: Array, gather_bytes: Array) -> tuple[Array, ...]:
    """Terms of ``Cost`` for arguments that end in an axis of length 1, on which the candidates lie."""
    a, w, c = m * k * batch * bytes_a, n * k * batch * bytes_w, m * n * batch * bytes_out
    flops = 2.0 * m * n * k * batch
    ratio = ((a + c) / np.maximum(l2_cap, 1.0)) ** 4
    warm = 1.0 / (1.0 + ratio * ratio)
    dram_rate = dram_bw * dram_eff
    l2_rate = np.maximum(l2_bw * l2_eff, dram_rate)
    some = flops > 0
    from_l2 = (w * resident + (a + c) * warm + n * k * batch * gather_bytes) / l2_rate * some
    from_dram = (w * (1.0 - resident) + (a + c) * (1.0 - warm)) / dram_rate * some
    nominal = flops / peak
    side = PANEL * np.sqrt(n_units)
    spread = (k * (bytes_a * np.minimum(m, side) + bytes_w * np.minimum(n, side)) / reach) ** 2
    word = WORD / bytes_a
    ragged = ((np.mod(m, word) > 0) | (np.mod(k, word) > 0)) & (batch <= 1.0)
    missed = (1.0 + reach_loss * spread / (1.0 + spread)) * (1.0 + ragged_loss * ragged)

    # Per candidate.
    blocks = np.ceil(m / TILE_M) * np.ceil(n / TILE_N) * batch
    most = np.where(k < split_from * n, 1.0, np.clip(np.floor(k / MIN_PIECE), 1.0, MAX_SPLIT))
    split = np.clip(np.floor(n_units * AIM / np.maximum(blocks, 1.0)), 1.0, most)
    tiles = blocks * split
    full = tiles / n_units
    waves = np.maximum(full + tail_share * (np.ceil(full) - full), np.minimum(tiles, 1.0))
    # Only a chip that is busy throughout runs into its power limit; power goes with the third power of the clock.
    active = full / np.maximum(np.ceil(full), 1.0)
    slower = missed * (1.0 + throttle * active * active * active * (nominal / (nominal + settle)))
    arithmetic = 2.0 / (peak * efficiency) * (TILE_M * TILE_N) + dequant_ops / vector_peak * TILE_N
    compute = waves * (n_units * arithmetic + step_time) * (k / split + fill) * (slower * some)
    memory = (from_l2 + from_dram) * (1.0 + flight * n_units / np.maximum(tiles, 1.0))
    busy = smooth_max(compute, memory, sharpness)
    busy = busy + ((split > 1.0) & some) * (m * n * batch * 4.0 / l2_rate * (split + 1.0) + split_time)

    choice = np.argmin(busy, axis=-1)[..., None]
    tiled, comp, mem = (_chosen(a, choice, busy.shape) for a in (busy, compute, memory))

    # Few rows: a matrix-vector kernel on the vector units streams W without tiles.
    few = (m <= gemv_rows)[..., 0]
    gemv_mem = (from_l2 + from_dram / gemv_gain)[..., 0]
    gemv_comp = (flops / (GEMV_RATE * vector_peak))[..., 0]
    gemv = np.maximum(gemv_mem, gemv_comp)
    tiled_fixed, gemv_total = overhead[..., 0], (overhead * gemv_fixed)[..., 0]
    use = few & (gemv + gemv_total < tiled + tiled_fixed)
    moved = m * k * batch * quant_bytes * quant_passes
    quant = (quant_kernels * quant_time + moved * (warm / l2_rate + (1.0 - warm) / dram_rate))[..., 0]
    product = np.where(use, gemv, tiled)
    comp, mem = np.where(use, gemv_comp, comp), np.where(use, gemv_mem, mem)
    fixed = np.where(use, gemv_total, tiled_fixed) + (launch + bias_time * (batch <= 1.0))[..., 0] + quant
    tail = np.maximum(product - np.maximum(comp, mem), 0.0)
    return (product + fixed, comp, mem, np.zeros_like(product), fixed, tail, flops[..., 0], (a + w + c + moved)[..., 0])


def _chosen(values: Array, choice: NDArray[np.intp], shape: tuple[int, ...]) -> Array:
    """The chosen candidate of every shape; ``values`` may lack axes of ``shape``."""
    whole = values if values.shape == shape else np.broadcast_to(values, shape)
    picked: Array = np.take_along_axis(whole, choice, axis=-1)[..., 0]
    return picked
