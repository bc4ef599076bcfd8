"""Cost of fused attention: a prefill kernel (FlashAttention tiles) and a decode kernel (split-KV, FlashDecoding).

Prefill: each of ``batch * heads * ceil(q / TQ)`` tiles walks over the keys its rows may see, in waves over the
processors [Dao, FlashAttention-2, arXiv:2307.08691]. Decode: the queries that share a KV head are packed in one tile,
the KV cache is cut in pieces until the machine is full, and partial results are reduced [Dao et al., Flash-Decoding].
Both take the cheapest of a few tile heights or splits, on one more axis.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_models.cost.terms import Array, Cost, as_floats, smooth_max

#: Query rows of a prefill tile that are offered.
TILE_Q = np.array([64.0, 128.0])
#: Decode: pieces of the KV cache, each on the matrix engine (queries packed) and on the vector engine (one by one).
PIECES = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
SPLIT = np.concatenate([PIECES, PIECES])
MATRIX = np.repeat([True, False], len(PIECES))
#: Rows of a matrix instruction, most query rows of a decode tile, shortest piece of the KV cache a split leaves.
MMA_ROWS, MAX_ROWS, MIN_PIECE = 16.0, 64.0, 64.0
#: Added to a candidate that the library does not have. [s]
NEVER = 1e6
#: Elements times candidates evaluated at once; keeps temporaries in cache.
CHUNK = 4096


def variant(phase: str, q: str, kv: str) -> str:
    """Name of the fitted variant for a phase ("prefill", "decode") and the formats of Q and of the cache."""
    def narrow(fmt: str) -> bool:
        return fmt.startswith(("fp8", "mxfp8", "int8"))

    if phase == "prefill" and narrow(q):
        return "prefill_fp8"
    return f"{phase}_fp8kv" if narrow(kv) else phase


def attention_prefill(batch: ArrayLike, q_len: ArrayLike, kv_len: ArrayLike, n_heads: ArrayLike, n_kv_heads: ArrayLike,
                      head_dim: ArrayLike, v_head_dim: ArrayLike, window: ArrayLike = 0.0, *,
                      kv_elements: ArrayLike | None = None, bytes_q: ArrayLike = 2.0, bytes_kv: ArrayLike = 2.0,
                      causal: ArrayLike = 1.0, peak: ArrayLike, vector_peak: ArrayLike, n_units: ArrayLike,
                      dram_bandwidth: ArrayLike, l2_bandwidth: ArrayLike, l2_capacity: ArrayLike,
                      warm: ArrayLike = 0.0, appends: ArrayLike = 0.0, launch: ArrayLike = 0.0,
                      efficiency: ArrayLike = 0.8, tile_loss: ArrayLike = 16.0, softmax_ops: ArrayLike = 20.0,
                      overlap: ArrayLike = 0.7, fill: ArrayLike = 64.0,
                      start: ArrayLike = 2e-6, tail_share: ArrayLike = 0.7,
                      dram_efficiency: ArrayLike = 0.85, l2_efficiency: ArrayLike = 0.7, append: ArrayLike = 1.0,
                      packs: ArrayLike = 1.0, window_packs: ArrayLike = 1.0, window_skip: ArrayLike = 1.0,
                      sharpness: ArrayLike = 2.0, overhead: ArrayLike = 8e-6) -> Cost:
    """Time of one fused attention over many new tokens per sequence, earlier context included.

    Parameters
    ----------
    batch, q_len, kv_len : array_like   Sequences; new tokens of each; whole context with the new tokens. [-]
    n_heads, n_kv_heads, head_dim, v_head_dim : array_like  Query and KV heads here, width of Q and K, width of V. [-]
    window : array_like                 Positions seen, 0 = all. [-]
    kv_elements : array_like            Cached elements per token; default n_kv_heads (head_dim + v_head_dim). [-]
    bytes_q, bytes_kv : array_like      Per element of Q and O, of the cache. [B]
    causal : array_like                 1: a token sees itself and earlier ones; 0: all (encoder). [-]
    peak, vector_peak : array_like      Matrix rate of the multiplied format and vector rate, dense. [FLOP/s]
    n_units : array_like                Processors (SM, CU, core). [-]
    dram_bandwidth, l2_bandwidth, l2_capacity : array_like  [B/s, B/s, B]
    warm : array_like                   1: operands were touched just before and stay in L2 as far as they fit. [-]
    launch : array_like                 What the host or graph adds per call, beside ``overhead``. [s]
    others : fitted, see ``accel_models/fitted/attention.toml``.

    All arguments broadcast. FLOP count: 2 (head_dim + v_head_dim) per visible (query, key) pair and head.
    """
    kv = _elements(kv_elements, n_kv_heads, head_dim, v_head_dim)
    return _in_chunks(_prefill, len(TILE_Q), as_floats(
        batch, q_len, kv_len, n_heads, n_kv_heads, head_dim, v_head_dim, window, kv, bytes_q, bytes_kv, causal, appends,
        peak, vector_peak, n_units, dram_bandwidth, l2_bandwidth, l2_capacity, warm, launch, efficiency, tile_loss,
        softmax_ops, overlap, fill, start, tail_share, dram_efficiency, l2_efficiency, append, packs, window_packs,
        window_skip, sharpness, overhead))


def attention_decode(batch: ArrayLike, q_len: ArrayLike, kv_len: ArrayLike, n_heads: ArrayLike, n_kv_heads: ArrayLike,
                     head_dim: ArrayLike, v_head_dim: ArrayLike, window: ArrayLike = 0.0, *,
                     kv_elements: ArrayLike | None = None, bytes_q: ArrayLike = 2.0, bytes_kv: ArrayLike = 2.0,
                     causal: ArrayLike = 1.0, peak: ArrayLike, vector_peak: ArrayLike, n_units: ArrayLike,
                     dram_bandwidth: ArrayLike, l2_bandwidth: ArrayLike, l2_capacity: ArrayLike,
                     warm: ArrayLike = 0.0, launch: ArrayLike = 0.0, efficiency: ArrayLike = 0.4,
                     vector_efficiency: ArrayLike = 0.3, vector_path: ArrayLike = 0.0, vector_slots: ArrayLike = 4.0,
                     pack_limit: ArrayLike = np.inf, pad_rows: ArrayLike = 32.0,
                     start: ArrayLike = 1e-6, slots: ArrayLike = 2.0, flight: ArrayLike = 0.5,
                     dram_efficiency: ArrayLike = 0.85, l2_efficiency: ArrayLike = 0.5,
                     resident_share: ArrayLike = 1.0, tail_share: ArrayLike = 0.5, max_split: ArrayLike = np.inf,
                     window_packs: ArrayLike = 1.0, window_skip: ArrayLike = 1.0,
                     sharpness: ArrayLike = 3.0, split_cost: ArrayLike = 2e-6, overhead: ArrayLike = 6e-6) -> Cost:
    """Time of one fused attention of one or a few new tokens per sequence against its cache.

    Arguments as in :func:`attention_prefill`; ``causal`` is accepted for symmetry and changes nothing, since the few
    new tokens see (nearly) the whole context. ``resident_share``: part of L2 that a repeated cache can keep.
    """
    kv = _elements(kv_elements, n_kv_heads, head_dim, v_head_dim)
    return _in_chunks(_decode, len(SPLIT), as_floats(
        batch, q_len, kv_len, n_heads, n_kv_heads, head_dim, v_head_dim, window, kv, bytes_q, bytes_kv, causal, peak,
        vector_peak, n_units, dram_bandwidth, l2_bandwidth, l2_capacity, warm, launch, efficiency, vector_efficiency,
        vector_path, vector_slots, pack_limit, pad_rows, start, slots, flight, dram_efficiency, l2_efficiency,
        resident_share, tail_share, max_split, window_packs, window_skip, sharpness, split_cost, overhead))


def _elements(kv_elements: ArrayLike | None, n_kv_heads: ArrayLike, head_dim: ArrayLike,
              v_head_dim: ArrayLike) -> Array:
    if kv_elements is not None:
        return np.asarray(kv_elements, dtype=np.float64)
    heads, d, dv = as_floats(n_kv_heads, head_dim, v_head_dim)
    return heads * (d + dv)


def _in_chunks(kernel: Callable[..., Cost], candidates: int, given: tuple[Array, ...]) -> Cost:
    """Evaluate ``kernel`` on a last axis of candidates, a few thousand elements at a time."""
    shape = np.broadcast_shapes(*(a.shape for a in given))
    size = int(np.prod(shape, dtype=np.int64))
    step = CHUNK // candidates
    if size <= step:
        return kernel(*(a[..., None] for a in given))
    flat = [a if a.ndim == 0 else np.broadcast_to(a, shape).reshape(-1) for a in given]
    parts = [kernel(*(a[..., None] if a.ndim == 0 else a[i:i + step, None] for a in flat))
             for i in range(0, size, step)]
    return Cost(*(np.concatenate([np.broadcast_to(p, parts[i].time.shape) for i, p in enumerate(c)]).reshape(shape)
                  for c in zip(*parts, strict=True)))


def _seen(first: Array, last: Array, limit: Array) -> Array:
    """Mean of min(x, limit) for x spread evenly over [first, last]: keys a row sees, averaged over rows."""
    first = np.minimum(first, last)
    knee = np.minimum(np.maximum(limit, first), last)
    width = np.maximum(last - first, 1e-9)
    mean = (0.5 * (knee - first) * (knee + first) + (last - knee) * knee) / width
    return np.minimum(np.where(last - first < 1e-6, last, mean), limit)


def _prefill(batch: Array, q: Array, kv: Array, heads: Array, kv_heads: Array, d: Array, dv: Array, window: Array,
             elements: Array, bytes_q: Array, bytes_kv: Array, causal: Array, appends: Array, peak: Array,
             vector_peak: Array, n_units: Array, dram_bw: Array, l2_bw: Array, l2_cap: Array, warm: Array,
             launch: Array, efficiency: Array, tile_loss: Array, softmax_ops: Array, overlap: Array, fill: Array,
             start: Array, tail_share: Array, dram_eff: Array, l2_eff: Array, append: Array, packs: Array,
             window_packs: Array, window_skip: Array, sharpness: Array, overhead: Array) -> Cost:
    """All arguments end in an axis of length 1 on which the tile heights lie."""
    some = (batch > 0) & (q > 0) & (kv > 0) & (heads > 0)
    limit = np.where(window > 0, np.minimum(window, kv), kv)
    past = np.maximum(kv - q, 0.0)
    pairs = q * (causal * _seen(past + 1.0, kv, limit) + (1.0 - causal) * limit)
    # A single new token leaves a tile nearly empty; there the heads of one KV head share it, as in decode.
    shared = packs * np.where(window > 0, window_packs, 1.0)
    pack = np.where(q <= 1.0, np.power(heads / np.maximum(kv_heads, 1.0), shared), 1.0)
    rows = np.minimum(TILE_Q, np.maximum(q, 1.0))
    walked = window_skip * np.minimum(limit + rows - 1.0, kv) + (1.0 - window_skip) * kv
    length = causal * _seen(past + rows, kv, walked) + (1.0 - causal) * walked
    tiles = batch * heads / pack * np.ceil(q * pack / TILE_Q)
    full = tiles / n_units
    waves = np.maximum(full + tail_share * (np.ceil(full) - full), 1.0)
    matmul = 2.0 * TILE_Q * (d + dv) * n_units / (peak * efficiency) * (1.0 + tile_loss / TILE_Q)
    softmax = TILE_Q * softmax_ops * n_units / vector_peak
    per_key = np.maximum(matmul, softmax) + (1.0 - overlap) * np.minimum(matmul, softmax)
    compute = np.maximum(waves * ((length + fill) * per_key + start), (walked + fill) * per_key + start)
    dram_rate = dram_bw * dram_eff
    l2_rate = np.maximum(l2_bw * l2_eff, dram_rate)
    qo = batch * q * heads * (d + dv) * bytes_q
    cache = batch * np.minimum(kv, limit + q) * elements * bytes_kv
    resident = warm / (1.0 + ((qo + cache) / np.maximum(l2_cap, 1.0)) ** 4)
    stream = (qo + cache) * ((1.0 - resident) / dram_rate + resident / l2_rate)
    reread = tiles * length * (d + dv) * bytes_kv / l2_rate
    memory = np.maximum(stream, reread)
    written = appends * batch * q * elements * (bytes_q + bytes_kv)
    busy = smooth_max(compute, memory, sharpness) + append * written / dram_rate
    flops = 2.0 * batch * heads * pairs * (d + dv)
    return _cheapest(busy, compute, memory, launch + overhead, flops, qo + cache + written, some)


def _decode(batch: Array, q: Array, kv: Array, heads: Array, kv_heads: Array, d: Array, dv: Array, window: Array,
            elements: Array, bytes_q: Array, bytes_kv: Array, causal: Array, peak: Array, vector_peak: Array,
            n_units: Array, dram_bw: Array, l2_bw: Array, l2_cap: Array, warm: Array, launch: Array, efficiency: Array,
            vector_efficiency: Array, vector_path: Array, vector_slots: Array, pack_limit: Array, pad_rows: Array,
            start: Array, slots: Array, flight: Array,
            dram_eff: Array, l2_eff: Array, resident_share: Array, tail_share: Array, max_split: Array,
            window_packs: Array, window_skip: Array, sharpness: Array, split_cost: Array, overhead: Array) -> Cost:
    """All arguments end in an axis of length 1 on which the (path, split) pairs lie."""
    some = (batch > 0) & (q > 0) & (kv > 0) & (heads > 0)
    seen = np.where(window > 0, np.minimum(kv, window + q - 1.0), kv)
    span = window_skip * seen + (1.0 - window_skip) * kv
    group = q * heads / np.maximum(kv_heads, 1.0)
    # Some kernels give up packing under a window (FlashAttention-2's "ngroups swapped"): a tile per query head.
    packed = np.power(group, np.where(window > 0, window_packs, 1.0))
    tall = np.maximum(np.ceil(packed / MAX_ROWS), 1.0)
    blocks = batch * np.where(MATRIX, kv_heads * tall * group / np.maximum(packed, 1e-9), heads * q)
    # Fractional pieces, so that a longer cache is never cheaper for being cut once more.
    pieces = np.minimum(np.minimum(SPLIT, max_split), np.maximum(span / MIN_PIECE, 1.0))
    tiles = np.maximum(blocks * pieces, 1.0)
    split = tiles / np.maximum(blocks, 1.0)
    resident_tiles = n_units * np.where(MATRIX, slots, vector_slots)
    full = tiles / resident_tiles
    waves = np.maximum(full + tail_share * (np.ceil(full) - full), 1.0)
    rows = np.maximum(np.ceil(packed / tall / MMA_ROWS) * MMA_ROWS, pad_rows)
    per_key = 2.0 * (d + dv) * np.where(MATRIX, rows / (peak * efficiency), 1.0 / (vector_peak * vector_efficiency))
    compute = waves * (span / split * per_key * resident_tiles + start)
    dram_rate = dram_bw * dram_eff
    l2_rate = np.maximum(l2_bw * l2_eff, dram_rate)
    qo = batch * q * heads * (d + dv) * bytes_q
    cache = batch * span * elements * bytes_kv
    resident = warm / (1.0 + (cache / np.maximum(l2_cap * resident_share, 1.0)) ** 4)
    stream = (qo + cache) * ((1.0 - resident) / dram_rate + resident / l2_rate)
    reread = cache * np.where(MATRIX, tall * group / np.maximum(packed, 1e-9), group) / l2_rate
    memory = np.maximum(stream, reread) * (1.0 + flight * n_units / tiles)
    partial = np.where(split > 1.0, split_cost + batch * q * heads * (split + 1.0) * dv * 4.0 / l2_rate, 0.0)
    busy = smooth_max(compute, memory, sharpness) + partial
    # A library with a vector kernel takes it for one head per KV head and beyond what its matrix kernel packs.
    vector = (vector_path > 0) & ((group <= 1.0) | (group > pack_limit))
    busy = np.where(vector == MATRIX, NEVER, 0.0) + busy
    flops = 2.0 * batch * q * heads * seen * (d + dv)
    nbytes = qo + batch * seen * elements * bytes_kv
    return _cheapest(busy, compute, memory, launch + overhead, flops, nbytes, some)


def _cheapest(busy: Array, compute: Array, memory: Array, fixed: Array, flops: Array, nbytes: Array,
              some: NDArray[np.bool_]) -> Cost:
    """The best candidate on the last axis, with its own terms; no work is no time but the launch."""
    busy, compute, memory = np.broadcast_arrays(busy, compute, memory)
    choice = np.argmin(busy, axis=-1)[..., None]
    best, comp, mem = (np.take_along_axis(a, choice, axis=-1)[..., 0] * some[..., 0] for a in (busy, compute, memory))
    zero = np.zeros_like(best)
    start = fixed[..., 0] + zero
    return Cost(time=start + best, compute=comp, memory=mem, link=zero, launch=start,
                tail=np.maximum(best - np.maximum(comp, mem), 0.0), flops=flops[..., 0] + zero,
                nbytes=nbytes[..., 0] + zero)
