"""Cost of memory-bound kernels: norm, softmax, activation, rope, add, embedding, sampling, KV append, quantise ...

One kernel moves its bytes once, from DRAM or, when they were touched a moment ago and fit, from L2. The rate is reached
only with enough bytes in flight: a processor draws at most ``unit_rate``, and a kernel that gives one row to one block
keeps no more processors busy than it has rows. What a row costs beside its bytes (reduction, index look-up) is
``row_time``; a fixed ``overhead`` is what an empty call takes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, Cost, as_floats, smooth_max

#: How sharply a working set falls out of L2 as it outgrows it: the hit share is 1 / (1 + (bytes/capacity)^4).
L2_KNEE = 4.0

#: Kind that has measured rows -> itself; kind without -> the measured kind whose access pattern is nearest.
BORROWS = {
    "add": "add", "rmsnorm": "rmsnorm", "add_rmsnorm": "add_rmsnorm", "layernorm": "layernorm", "softmax": "softmax",
    "silu_mul": "silu_mul", "gelu": "gelu", "relu": "relu", "rope": "rope", "embedding": "embedding",
    "quantise": "quantise",
    "add_layernorm": "add_rmsnorm",   # the same fused residual add, row reduction and two results
    "sampling": "softmax",            # row-wise maximum and sum over the vocabulary
    "kv_append": "embedding",         # rows copied to indexed places
    "conv1d": "rope",                 # short stencil along a row: several reads of near elements, one write
    "gate_mul": "silu_mul",           # activation of one operand times the other
    # Names of measured tables: the same traffic pattern and nearly no arithmetic.
    "mul": "add", "div": "add", "pow": "add",
    "add_scalar": "relu", "mul_scalar": "relu", "div_scalar": "relu", "pow_scalar": "relu",
    "tanh": "gelu", "rmsnorm_per_head": "rmsnorm", "quantise_dynamic": "quantise_dynamic",
    "fp8_static_quantize": "quantise", "fp8_amax_scale_and_quantize": "quantise_dynamic",
}
#: Share of the least traffic that is read, by fitted kind; 1/2 where not listed (one operand, one result of its size).
READ_SHARE = {"add": 2 / 3, "silu_mul": 2 / 3, "quantise": 2 / 3, "quantise_dynamic": 2 / 3}


def elementwise(rows: ArrayLike, cols: ArrayLike, bytes_read: ArrayLike, bytes_written: ArrayLike, *,
                dram_bandwidth: ArrayLike, l2_bandwidth: ArrayLike, l2_capacity: ArrayLike, n_units: ArrayLike,
                launch: ArrayLike = 0.0, efficiency: ArrayLike = 0.85, l2_efficiency: ArrayLike = 0.5,
                l2_share: ArrayLike = 0.5, unit_rate: ArrayLike = 3e10, row_blocks: ArrayLike = 4.0,
                row_time: ArrayLike = 2e-7, passes: ArrayLike = 0.0, overhead: ArrayLike = 2e-6,
                sharpness: ArrayLike = 4.0) -> Cost:
    """Time of one memory-bound kernel on ``rows`` x ``cols`` elements.

    Parameters
    ----------
    rows, cols : array_like            Rows are the units of work of row-wise kernels. [-]
    bytes_read, bytes_written : array_like  Least traffic, each operand and result once. [B]
    dram_bandwidth, l2_bandwidth : array_like  Peak rates of the device. [B/s]
    l2_capacity : array_like           Size of the last-level cache; 0 is none. [B]
    n_units : array_like               Processors (SMs, CUs, cores). [-]
    launch : array_like                What the host or graph adds per kernel, beside ``overhead``. [s]
    efficiency, l2_efficiency : array_like  Achieved share of each peak. [-]
    l2_share : array_like              Share of L2 that still holds the operands when the kernel starts. [-]
    unit_rate : array_like             What one processor can draw: its bytes in flight over the latency. [B/s]
    row_blocks : array_like            Rows that one processor works on at a time. [-]
    row_time : array_like              What one row takes beside its bytes. [s]
    passes : array_like                Extra passes over the operands, served on chip at the L2 rate. [-]
    overhead : array_like              Time of an empty kernel as the framework issues it. [s]
    sharpness : array_like             Overlap of rows in flight with the memory stream (``smooth_max``). [-]

    All arguments broadcast. More bytes, passes or rows of the same width never cost less (the same bytes in more rows
    may: they occupy more processors); more bandwidth, cache or processors never cost more. Holds for streaming access;
    gathers narrower than a memory sector (32 B) cost more than this says.
    """
    rows, cols, read, written = as_floats(rows, cols, bytes_read, bytes_written)
    dram_bandwidth, l2_bandwidth, l2_capacity, n_units, launch = as_floats(
        dram_bandwidth, l2_bandwidth, l2_capacity, n_units, launch)
    efficiency, l2_efficiency, l2_share, unit_rate, row_blocks, row_time, passes, overhead = as_floats(
        efficiency, l2_efficiency, l2_share, unit_rate, row_blocks, row_time, passes, overhead)
    nbytes = read + written
    dram_rate = dram_bandwidth * efficiency
    l2_rate = np.maximum(l2_bandwidth * l2_efficiency, dram_rate)
    hit = _hit_share(nbytes, l2_capacity * l2_share)
    memory = nbytes * (hit / l2_rate + (1.0 - hit) / dram_rate)
    reread = passes * read / l2_rate
    # A row occupies one of n_units * row_blocks slots, each drawing its part of what a processor can draw.
    slots = np.minimum(np.maximum(rows, 1e-30), n_units * row_blocks)
    flight = (rows * row_time + nbytes * row_blocks / unit_rate) / slots
    busy = smooth_max(memory + reread, np.where(rows > 0, flight, 0.0), sharpness)
    fixed = launch + overhead
    return Cost(time=fixed + busy, compute=reread, memory=memory, link=np.zeros_like(memory), launch=fixed,
                tail=np.maximum(busy - memory - reread, 0.0), flops=rows * cols, nbytes=nbytes)


def _hit_share(nbytes: Array, capacity: Array) -> Array:
    """Share of the traffic that L2 serves: near 1 for a working set that fits, falling with a fixed knee."""
    ratio = nbytes / np.maximum(capacity, 1e-300)
    return 1.0 / (1.0 + np.minimum(ratio, 1e60) ** L2_KNEE)
