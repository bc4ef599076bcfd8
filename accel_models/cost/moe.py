"""Cost of a mixture-of-experts layer: routing, permutation, grouped matrix products, activation, combination.

The rows that meet in one expert decide: each expert that is hit reads its weights once, and its rows are rounded up to
whole tiles. How loads spread over experts is a quantile function (even, random, or a truncated power law), sampled on
one extra axis; the tile height is chosen on another. Then as in a plain matrix product: tiles in waves over the
processors, compute and memory overlapping as a smooth maximum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, Cost, as_floats, smooth_max

#: Tile heights (rows) that grouped kernels offer; the width is fixed, the choice hardly matters for wide experts.
TILE_M = np.array([16.0, 32.0, 64.0, 128.0])
TILE_N = 128.0
#: Midpoint quantiles at which the load of experts is sampled.
QUANTILES = (np.arange(12) + 0.5) / 12

#: Kernel class, as the fitted sets of matrix products name it, or weight format -> the fitted variant here that
#: resembles it most (same multiply rate, same unpacking).
BORROWS = {
    "none": "bf16", "fp32": "bf16", "bf16": "bf16", "fp16": "bf16",
    "fp8": "fp8", "fp8_dynamic": "fp8", "int8": "fp8", "int8_smoothquant": "fp8", "int8_w8a8_dynamic": "fp8",
    "fp8_block128": "fp8_block128", "mxfp8": "fp8_block128",
    "nvfp4": "nvfp4", "nvfp4_g16": "nvfp4",
    "mxfp4": "w4a16", "int4": "w4a16", "int4_weight_only": "w4a16", "int8_weight_only": "w4a16", "w4a16": "w4a16",
}


def expert_load(tokens: ArrayLike, topk: ArrayLike, n_experts: ArrayLike, skew: ArrayLike) -> Array:
    """Mean rows per expert at each of ``QUANTILES`` (a last axis is added), summing to tokens * topk over experts.

    ``skew`` 0: even. ``skew`` > 0: loads follow a power law with this exponent, truncated to [1, 0.8 tokens] when there
    are more assignments than experts, else to [0.01, 2], the recipe of aiconfigurator's ``power_law_logits_v3``.
    """
    tokens, topk, n_experts, skew = (a[..., None] for a in as_floats(tokens, topk, n_experts, skew))
    pairs = tokens * topk
    power = 1.0 - skew
    power = np.where(np.abs(power) < 1e-6, 1e-6, power)
    span = np.where(pairs > n_experts, np.maximum(0.8 * tokens, 1.0), 200.0)
    law = (1.0 + QUANTILES * (span**power - 1.0)) ** (1.0 / power)
    shape = np.where(skew > 0, law / law.mean(axis=-1, keepdims=True), 1.0)
    return shape * pairs / n_experts


def moe(tokens: ArrayLike, hidden: ArrayLike, inter: ArrayLike, topk: ArrayLike, n_experts: ArrayLike,
        n_local: ArrayLike, *, gated: ArrayLike = True, bytes_a: ArrayLike = 2.0, bytes_w: ArrayLike = 2.0,
        bytes_out: ArrayLike = 2.0, peak: ArrayLike, vector_peak: ArrayLike, n_units: ArrayLike,
        dram_bandwidth: ArrayLike, l2_bandwidth: ArrayLike, l2_capacity: ArrayLike, dequant_ops: ArrayLike = 0.0,
        launch: ArrayLike = 0.0, skew: ArrayLike = 0.0, dealt: ArrayLike = 0.0, imbalance: ArrayLike = 1.0,
        repeated: ArrayLike = 0.0, efficiency: ArrayLike = 0.75, tile_loss: ArrayLike = 24.0,
        dram_efficiency: ArrayLike = 0.8, l2_efficiency: ArrayLike = 0.5, l2_share: ArrayLike = 1.0,
        reread: ArrayLike = 0.3,
        flight: ArrayLike = 0.3, tail_share: ArrayLike = 0.6, fill: ArrayLike = 256.0, sharpness: ArrayLike = 2.5,
        passes: ArrayLike = 2.0, pair_time: ArrayLike = 0.0, expert_time: ArrayLike = 1e-8,
        overhead: ArrayLike = 2e-5) -> Cost:
    """Time of the routed experts of one layer on one device, from the router's scores to the combined output.

    Parameters
    ----------
    tokens, hidden, inter, topk, n_experts : array_like  As in ``workloads.ops.Moe``; ``inter`` of this device. [-]
    n_local : array_like              Experts held here (expert parallelism); they get n_local/n_experts of the load.
    gated : array_like of bool        Three matrices per expert, else two.
    bytes_a, bytes_w, bytes_out : array_like  Per element of activations, weights, output. [B]
    peak, vector_peak : array_like    Matrix and vector rates of the device. [FLOP/s]
    n_units : array_like              Processors. [-]
    dram_bandwidth, l2_bandwidth, l2_capacity : array_like  [B/s, B/s, B]
    dequant_ops : array_like          Vector operations to unpack one weight element. [-]
    launch : array_like               What the host or graph adds per call, beside ``overhead``. [s]
    skew : array_like                 Exponent of the power law of expert loads; 0 is even (``expert_load``). [-]
    dealt : array_like                1: loads are exactly their means (a benchmark's dealing); 0: tokens choose at
                                      random, an expert is hit with 1 - (1 - load/tokens)^tokens. [-]
    imbalance : array_like            Load of this device relative to the mean of its expert-parallel group. [-]
    repeated : array_like             1 where a benchmark repeats the same layer, so that L2 may still hold the weights
                                      of the call before; 0 in a model, where other layers ran in between. [-]
    efficiency, tile_loss : array_like  Share of the peak, efficiency / (1 + tile_loss (1/TM + 1/TN)). [-, rows]
    dram_efficiency, l2_efficiency : array_like  Achieved share of each rate. [-]
    l2_share : array_like             Share of L2 that holds weights between repeated calls. [-]
    reread : array_like               Share of the weights that each further row of tiles fetches from DRAM again. [-]
    flight : array_like               Weight columns (of tile width) per processor at which half the DRAM rate is
                                      reached. [-]
    tail_share : array_like           Share of the last, partly filled wave that is charged. [-]
    fill : array_like                 Start and end of one tile, in elements of k. [-]
    sharpness : array_like            Overlap of compute and memory (``smooth_max``). [-]
    passes : array_like               How often rows are moved by permutation and combination. [-]
    pair_time, expert_time : array_like  Routing cost per (token, expert) pair and per local expert. [s]
    overhead : array_like             Fixed time of all kernels of the layer. [s]

    All arguments broadcast. More bandwidth or peak never costs more. More tokens never cost less with ``skew`` 0; with
    a power law the law itself changes where pairs pass ``n_experts``, and a few percent less can result there.
    """
    tokens, hidden, inter, topk, n_experts, n_local = as_floats(tokens, hidden, inter, topk, n_experts, n_local)
    gates = 1.0 + np.asarray(gated, dtype=np.float64)
    bytes_a, bytes_w, bytes_out, dequant_ops = as_floats(bytes_a, bytes_w, bytes_out, dequant_ops)
    peak, vector_peak, n_units, dram_bw, l2_bw, l2_cap = as_floats(
        peak, vector_peak, n_units, dram_bandwidth, l2_bandwidth, l2_capacity)
    launch, overhead, pair_time, expert_time, passes = as_floats(launch, overhead, pair_time, expert_time, passes)
    load = expert_load(tokens, topk, n_experts, skew) * np.asarray(imbalance, dtype=np.float64)[..., None]
    hit, tiles_m = _hits_and_tiles(load, tokens, np.asarray(dealt, dtype=np.float64))
    hit, tiles_m = hit * n_local, tiles_m * n_local[..., None]
    pairs = load.mean(axis=-1) * n_local
    weights = hidden * inter * (gates + 1.0)
    dram_rate = dram_bw * np.asarray(dram_efficiency, dtype=np.float64)
    l2_rate = np.maximum(l2_bw * np.asarray(l2_efficiency, dtype=np.float64), dram_rate)

    # Moves of rows by permutation and combination; they stay in L2 while they fit.
    moved = pairs * hidden * (bytes_a + bytes_out) * passes
    at_l2 = 1.0 / (1.0 + (moved / np.maximum(l2_cap, 1e-300)) ** 2)
    move_time = moved * (at_l2 / l2_rate + (1.0 - at_l2) / dram_rate)

    held = l2_cap * np.asarray(l2_share, dtype=np.float64) * np.asarray(repeated, dtype=np.float64)
    resident = 1.0 / (1.0 + np.minimum(hit * weights * bytes_w / np.maximum(held, 1e-30), 1e60) ** 4)
    engine = _Engine(*(a[..., None] for a in as_floats(
        peak / n_units, vector_peak / n_units, n_units, dram_rate, l2_rate, resident, bytes_w, dequant_ops, efficiency,
        tile_loss, reread, flight, tail_share, fill, sharpness)))
    up = _grouped(engine, tiles_m, hit, pairs, inter * gates, hidden, bytes_a, bytes_a)
    down = _grouped(engine, tiles_m, hit, pairs, hidden, inter, bytes_a, bytes_out)
    total = up[0] + down[0]
    choice = np.argmin(total, axis=-1)[..., None]

    def pick(a: Array) -> Array:
        return np.take_along_axis(np.broadcast_to(a, total.shape), choice, axis=-1)[..., 0]

    fixed = launch + overhead + expert_time * n_local
    routing = pair_time * pairs
    gemm, compute, memory = pick(total), pick(up[1] + down[1]), pick(up[2] + down[2])
    nbytes = hit * weights * bytes_w + moved + pairs * (hidden + inter) * (bytes_a + bytes_out)
    return Cost(time=fixed + routing + move_time + gemm, compute=compute, memory=memory + move_time,
                link=np.zeros_like(gemm), launch=fixed + routing,
                tail=np.maximum(gemm - np.maximum(compute, memory), 0.0), flops=2.0 * pairs * weights, nbytes=nbytes)


def _hits_and_tiles(load: Array, tokens: Array, dealt: Array) -> tuple[Array, Array]:
    """Share of experts hit, and mean tiles per expert for each of ``TILE_M`` (last axis), from loads by quantile."""
    even = np.minimum(load, 1.0)
    chance = -np.expm1(-load)
    share = np.where(dealt[..., None] > 0, even, chance)
    rows = (load / np.maximum(share, 1e-300))[..., None, :] / TILE_M[:, None]
    filled = np.where(dealt[..., None, None] > 0, np.ceil(rows), np.maximum(1.0, rows + 0.5))
    return share.mean(axis=-1), (share[..., None, :] * filled).mean(axis=-1)


class _Engine(NamedTuple):
    """What both products share, each with a last axis of one for the tile heights; rates per processor where said."""

    unit_peak: Array
    unit_vector: Array
    n_units: Array
    dram_rate: Array
    l2_rate: Array
    resident: Array
    bytes_w: Array
    dequant_ops: Array
    efficiency: Array
    tile_loss: Array
    reread: Array
    flight: Array
    tail_share: Array
    fill: Array
    sharpness: Array


def _grouped(e: _Engine, tiles_m: Array, hit: Array, pairs: Array, n: Array, k: Array, bytes_in: Array,
             bytes_out: Array) -> tuple[Array, Array, Array]:
    """(time, compute, memory) of one grouped product [n, k] per expert for every tile height (last axis)."""
    hit, pairs, n, k, bytes_in, bytes_out = (a[..., None] for a in (hit, pairs, n, k, bytes_in, bytes_out))
    tiles = tiles_m * np.ceil(n / TILE_N)
    full = tiles / e.n_units
    waves = full + e.tail_share * (np.ceil(full) - full)
    rate = e.unit_peak * e.efficiency / (1.0 + e.tile_loss * (1.0 / TILE_M + 1.0 / TILE_N))
    compute = waves * (2.0 * TILE_M * TILE_N * (k + e.fill) / rate + e.dequant_ops * TILE_N * k / e.unit_vector)
    fetches = hit + e.reread * np.maximum(tiles_m - hit, 0.0)
    weights = fetches * n * k * e.bytes_w * (e.resident / e.l2_rate + (1.0 - e.resident) / e.dram_rate)
    rows = pairs * (k * bytes_in + n * bytes_out) / e.dram_rate
    # Distinct weight columns are what keeps memory busy: further rows of tiles ask for the same bytes.
    streams = hit * np.ceil(n / TILE_N)
    started = tiles > 0
    memory = (weights + rows) * (1.0 + e.flight * e.n_units / np.where(started, streams, np.inf))
    return smooth_max(compute, memory, e.sharpness) * started, compute, memory
