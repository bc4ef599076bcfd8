"""Cost of a dense matrix product on a tiled many-processor engine: C[m,n] += A[m,k] W[k,n].

The library's kernel is taken to be the best of a fixed set of output tiles (TM, TN), each without and with a split of
k that fills the machine. All terms come from the chosen candidate, so a bottleneck is read off and not guessed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, Cost, as_floats, smooth_max

#: Output tiles offered (rows, columns); each is tried whole and with a machine-filling split of k.
TILES = np.array([(16, 32), (16, 64), (16, 128), (32, 64), (64, 64), (64, 128), (128, 64), (128, 128), (256, 64),
                  (64, 256), (128, 256), (256, 128)], dtype=np.float64)
TILE_M = np.concatenate([TILES[:, 0], TILES[:, 0]])
TILE_N = np.concatenate([TILES[:, 1], TILES[:, 1]])
SPLIT = np.concatenate([np.zeros(len(TILES)), np.ones(len(TILES))])
#: Shortest piece of k a split leaves, and the most pieces [elements, -].
MIN_PIECE, MAX_SPLIT = 256.0, 16.0
#: Elements of the candidate axis times shapes evaluated at once; keeps temporaries in cache.
CHUNK = 4096


def gemm(m: ArrayLike, n: ArrayLike, k: ArrayLike, batch: ArrayLike = 1.0, *, bytes_a: ArrayLike = 2.0,
         bytes_w: ArrayLike = 2.0, bytes_out: ArrayLike = 2.0, peak: ArrayLike, vector_peak: ArrayLike,
         n_units: ArrayLike, dram_bandwidth: ArrayLike, l2_bandwidth: ArrayLike, l2_capacity: ArrayLike,
         resident: ArrayLike = 0.0, dequant_ops: ArrayLike = 0.0, quant_kernels: ArrayLike = 0.0,
         quant_bytes: ArrayLike = 0.0, launch: ArrayLike = 0.0, efficiency: ArrayLike = 0.85,
         tile_loss: ArrayLike = 16.0, dram_efficiency: ArrayLike = 0.85, l2_efficiency: ArrayLike = 0.6,
         flight: ArrayLike = 0.2, tail_share: ArrayLike = 0.7, fill: ArrayLike = 128.0, sharpness: ArrayLike = 3.0,
         split_cost: ArrayLike = 1.0, overhead: ArrayLike = 3e-6, quant_time: ArrayLike = 2e-6) -> Cost:
    """Time of ``batch`` independent products on one device.

    Parameters
    ----------
    m, n, k, batch : array_like       Shape of C, length of the sum, number of products. [-]
    bytes_a, bytes_w, bytes_out : array_like  Per element as the product reads and writes them, scales included. [B]
    peak, vector_peak : array_like    Matrix rate of the multiplied format and vector rate, dense. [FLOP/s]
    n_units : array_like              Processors (SM, CU, core). [-]
    dram_bandwidth, l2_bandwidth, l2_capacity : array_like  [B/s, B/s, B]
    resident : array_like             Share of W that is in L2 when the call starts. [-]
    dequant_ops : array_like          Vector operations to unpack one weight element. [-]
    quant_kernels, quant_bytes : array_like  Kernels that quantise A first, and bytes they move per element of A.
    launch : array_like               What the host or graph adds per call, beside ``overhead``. [s]
    others : fitted, see ``accel_models/fitted/gemm.toml``.

    All arguments broadcast. Candidates are evaluated on the last axis, in chunks.
    """
    given = as_floats(m, n, k, batch, bytes_a, bytes_w, bytes_out, peak, vector_peak, n_units, dram_bandwidth,
                      l2_bandwidth, l2_capacity, resident, dequant_ops, quant_kernels, quant_bytes, launch, efficiency,
                      tile_loss, dram_efficiency, l2_efficiency, flight, tail_share, fill, sharpness, split_cost,
                      overhead, quant_time)
    shape = np.broadcast_shapes(*(a.shape for a in given))
    size = int(np.prod(shape, dtype=np.int64))
    if size <= CHUNK:
        return _chunk(*(a[..., None] for a in given))
    flat = [a if a.ndim == 0 else np.broadcast_to(a, shape).reshape(-1) for a in given]
    parts = [_chunk(*(a[..., None] if a.ndim == 0 else a[i:i + CHUNK, None] for a in flat))
             for i in range(0, size, CHUNK)]
    return Cost(*(np.concatenate([np.broadcast_to(p, parts[i].time.shape) for i, p in enumerate(c)]).reshape(shape)
                  for c in zip(*parts, strict=True)))


def _chunk(m: Array, n: Array, k: Array, batch: Array, bytes_a: Array, bytes_w: Array, bytes_out: Array, peak: Array,
           vector_peak: Array, n_units: Array, dram_bw: Array, l2_bw: Array, l2_cap: Array, resident: Array,
           dequant_ops: Array, quant_kernels: Array, quant_bytes: Array, launch: Array, efficiency: Array,
           tile_loss: Array, dram_eff: Array, l2_eff: Array, flight: Array, tail_share: Array, fill: Array,
           sharpness: Array, split_cost: Array, overhead: Array, quant_time: Array) -> Cost:
    """All arguments end in an axis of length 1 on which the candidates lie."""
    some = (m > 0) & (n > 0) & (k > 0) & (batch > 0)
    blocks = np.ceil(m / TILE_M) * np.ceil(n / TILE_N) * batch
    most = np.minimum(np.floor(k / MIN_PIECE), MAX_SPLIT)
    split = np.where(SPLIT > 0, np.clip(np.floor(n_units / np.maximum(blocks, 1.0)), 1.0, np.maximum(most, 1.0)), 1.0)
    tiles = blocks * split
    piece = np.ceil(k / split)
    full = tiles / n_units
    waves = np.maximum(full + tail_share * (np.ceil(full) - full), 1.0)
    unit_peak = peak / n_units * efficiency / (1.0 + tile_loss * (1.0 / TILE_M + 1.0 / TILE_N))
    unpack = dequant_ops * n_units / vector_peak * TILE_N
    ideal = 2.0 * TILE_M * TILE_N / unit_peak + unpack
    compute = waves * ideal * (piece + fill)
    dram_rate = dram_bw * dram_eff
    l2_rate = np.maximum(l2_bw * l2_eff, dram_rate)
    weights = n * k * bytes_w * batch
    acts = (m * k * bytes_a + m * n * bytes_out) * batch
    stream = (weights * (1.0 - resident) + acts) / dram_rate + weights * resident / l2_rate
    memory = stream * (1.0 + flight * n_units / np.maximum(tiles, 1.0))
    partial = np.where(split > 1.0, m * n * batch * (split + 1.0) * 4.0 / l2_rate + split_cost * 1e-6, 0.0)
    busy = smooth_max(compute, memory, sharpness) + partial
    choice = np.argmin(busy, axis=-1)[..., None]

    def pick(a: Array) -> Array:
        return np.take_along_axis(np.broadcast_to(a, busy.shape), choice, axis=-1)[..., 0] * some[..., 0]

    quantise = quant_kernels * quant_time + m * k * batch * quant_bytes / dram_rate
    fixed = (launch + overhead + quantise)[..., 0]
    gemm_time, comp, mem = pick(busy), pick(compute), pick(memory)
    zero = np.zeros_like(gemm_time)
    return Cost(time=fixed + gemm_time, compute=comp, memory=mem, link=zero, launch=fixed + zero,
                tail=np.maximum(gemm_time - np.maximum(comp, mem), 0.0), flops=(2.0 * m * n * k * batch)[..., 0] + zero,
                nbytes=(weights + acts + m * k * batch * quant_bytes)[..., 0] + zero)
