"""Cost on the cores of a CPU: products by unpack-and-multiply or by table look-up, attention, element-wise work.

SIMD work is counted in *lane bytes*: one instruction on a 16-byte register is 16 of them, and a core executes
``2 * vector_peak / n_units`` a second, since its fp32 rate is two operations in four bytes of each multiply-add pipe.

Unpack and multiply (llama.cpp and kin): every weight is unpacked to a byte and multiplied with activations held in
int8, once for each row of A. Table look-up (T-MAC, arXiv:2407.00088): for each group of ``group`` activations the sums
of all sign patterns are tabled, and a shuffle instruction looks up one bit plane of ``group`` weights a lane; work goes
with the bits of a weight, and building the tables does not depend on n. Weights stream from DRAM at what the cores in
use can draw, or what the memory gives. Every parallel op ends with a barrier, whose time grows with the logarithm of
the threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, Cost, as_floats, smooth_max

#: Bytes that one look-up instruction indexes (TBL of AArch64, PSHUFB of x86): the longest table of byte sums.
REGISTER = 16.0
#: Bytes of a multiply-add pipe that count as one of its two fp32 operations: lane bytes a second over FLOP/s.
LANE_BYTES = 2.0
#: How sharply a working set falls out of the last cache as it outgrows it (as in ``cost.elementwise``).
KNEE = 4.0


class _Cores(NamedTuple):
    used: Array         # cores at work
    lanes: Array        # lane bytes a second of those
    share: Array        # of the rate of all cores
    barrier: Array      # [s]


def _cores(threads: Array, n_units: Array, vector_peak: Array, clock: Array, barrier_cycles: Array) -> _Cores:
    used = np.maximum(np.minimum(threads, n_units), 1e-9)
    share = used / n_units
    return _Cores(used, LANE_BYTES * vector_peak * share, share, barrier_cycles / clock * np.log2(np.maximum(used, 1.0)))


def _stream(nbytes: Array, cores: _Cores, clock: Array, core_bytes: Array, dram_bandwidth: Array, read_share: Array,
            sharpness: Array) -> Array:
    """Time of a stream from DRAM: what each core can draw, and what the memory gives to all of them. [s]"""
    return smooth_max(nbytes / (cores.used * core_bytes * clock), nbytes / (dram_bandwidth * read_share), sharpness)


def unpack_multiply(m: ArrayLike, n: ArrayLike, k: ArrayLike, batch: ArrayLike = 1.0, *, bytes_a: ArrayLike = 2.0,
                    bytes_w: ArrayLike = 2.0, bytes_out: ArrayLike = 4.0, dequant_ops: ArrayLike = 0.0,
                    resident: ArrayLike = 0.0, peak: ArrayLike, vector_peak: ArrayLike, n_units: ArrayLike,
                    dram_bandwidth: ArrayLike, l2_bandwidth: ArrayLike, l2_capacity: ArrayLike,
                    threads: ArrayLike = np.inf, clock: ArrayLike = 3e9, efficiency: ArrayLike = 0.8,
                    convert_ops: ArrayLike = 2.8, reuse: ArrayLike = 1.0, core_bytes: ArrayLike = 8.0,
                    read_share: ArrayLike = 0.8, sharpness: ArrayLike = 4.0, barrier_cycles: ArrayLike = 4e4) -> Cost:
    """Time of C[m,n] = A[m,k] W[k,n], ``batch`` times, on the cores; weights of 16 bits and more need no unpacking.

    Parameters
    ----------
    m, n, k, batch : array_like       Shape; a GEMV has m = 1. [-]
    bytes_a, bytes_w, bytes_out : array_like  Per element, metadata of groups included. [B]
    dequant_ops : array_like          Vector operations that unpack one weight (``Format.dequant_ops``). [-]
    resident : array_like             Share of W touched just before, which the last cache keeps as far as it fits. [-]
    peak : array_like                 Rate of all cores in the format multiplied (int8 dot product, fp32 ...). [op/s]
    vector_peak : array_like          fp32 rate of all cores. [FLOP/s]
    n_units, threads : array_like     Cores there are; cores used (no more than there are). [-]
    dram_bandwidth, l2_bandwidth, l2_capacity : array_like  Main memory; last cache, 0 if none. [B/s, B/s, B]
    clock : array_like                Of a core. [Hz]
    efficiency : array_like           Share of ``peak`` and of the lanes that a kernel reaches. [-]
    convert_ops : array_like          Lane bytes of work for one operation of ``dequant_ops``. [B]
    reuse : array_like                Rows of A that share one unpacking (1: each row unpacks anew, as vec_dot does). [-]
    core_bytes : array_like           Bytes per cycle that one core alone draws from DRAM. [B]
    read_share : array_like           Share of ``dram_bandwidth`` that reading by enough cores reaches. [-]
    sharpness : array_like            Overlap of compute and stream (``smooth_max``). [-]
    barrier_cycles : array_like       Cycles of the barriers of an op per doubling of the threads. [-]

    All arguments broadcast. Holds where A and C are small beside the caches or W (m up to some thousand).
    """
    m, n, k, batch, bytes_a, bytes_w, bytes_out, dequant_ops, resident, peak, vector_peak, n_units = as_floats(
        m, n, k, batch, bytes_a, bytes_w, bytes_out, dequant_ops, resident, peak, vector_peak, n_units)
    dram_bandwidth, l2_bandwidth, l2_capacity, threads, clock, efficiency, convert_ops, reuse = as_floats(
        dram_bandwidth, l2_bandwidth, l2_capacity, threads, clock, efficiency, convert_ops, reuse)
    core_bytes, read_share, sharpness, barrier_cycles = as_floats(core_bytes, read_share, sharpness, barrier_cycles)
    cores = _cores(threads, n_units, vector_peak, clock, barrier_cycles)
    weights = n * k * batch
    unpacked = weights * np.where(m > reuse, m / reuse, np.minimum(m, 1.0))
    compute = (2.0 * m * weights / (peak * cores.share) + unpacked * dequant_ops * convert_ops / cores.lanes) / efficiency
    nbytes = weights * bytes_w + (m * k * bytes_a + m * n * bytes_out) * batch
    memory = _weights(weights * bytes_w * np.minimum(m, 1.0), resident, cores, clock, core_bytes, dram_bandwidth,
                      read_share, l2_bandwidth, l2_capacity, sharpness)
    return _cost(compute, memory, sharpness, cores.barrier, 2.0 * m * weights, nbytes)


def table_lookup(m: ArrayLike, n: ArrayLike, k: ArrayLike, batch: ArrayLike = 1.0, *, bits: ArrayLike = 2.0,
                 bytes_a: ArrayLike = 2.0, bytes_w: ArrayLike = 0.25, bytes_out: ArrayLike = 4.0,
                 resident: ArrayLike = 0.0, vector_peak: ArrayLike, n_units: ArrayLike, dram_bandwidth: ArrayLike,
                 l2_bandwidth: ArrayLike, l2_capacity: ArrayLike, threads: ArrayLike = np.inf, clock: ArrayLike = 3e9,
                 group: ArrayLike = 4.0, lookup_ops: ArrayLike = 4.0, build_ops: ArrayLike = 8.0,
                 core_bytes: ArrayLike = 8.0, read_share: ArrayLike = 0.8, sharpness: ArrayLike = 4.0,
                 barrier_cycles: ArrayLike = 4e4) -> Cost:
    """Time of C[m,n] = A[m,k] W[k,n], ``batch`` times, with weights of ``bits`` planes looked up in tables.

    Arguments as in :func:`unpack_multiply`, and

    bits : array_like        Planes of a weight, each looked up by itself. [-]
    group : array_like       Activations whose sums one table holds: 2^group entries of a byte. [-]
    lookup_ops : array_like  Lane bytes of work for one look-up: unpacking the index, the shuffle, two widening
                             additions make 4 (T-MAC without "fast aggregation"). [B]
    build_ops : array_like   Lane bytes of work for one entry of a table: addition, scaling, rounding to a byte. [B]

    A table longer than a register takes that many more look-ups.
    """
    m, n, k, batch, bits, bytes_a, bytes_w, bytes_out, resident, vector_peak, n_units = as_floats(
        m, n, k, batch, bits, bytes_a, bytes_w, bytes_out, resident, vector_peak, n_units)
    dram_bandwidth, l2_bandwidth, l2_capacity, threads, clock, group, lookup_ops, build_ops = as_floats(
        dram_bandwidth, l2_bandwidth, l2_capacity, threads, clock, group, lookup_ops, build_ops)
    core_bytes, read_share, sharpness, barrier_cycles = as_floats(core_bytes, read_share, sharpness, barrier_cycles)
    cores = _cores(threads, n_units, vector_peak, clock, barrier_cycles)
    weights = n * k * batch
    registers = np.maximum(2.0**group / REGISTER, 1.0)
    lookups = m * weights * bits / group * registers
    entries = m * k * batch / group * 2.0**group
    compute = (lookups * lookup_ops + entries * build_ops) / cores.lanes
    nbytes = weights * bytes_w + (m * k * bytes_a + m * n * bytes_out) * batch
    memory = _weights(weights * bytes_w * np.minimum(m, 1.0), resident, cores, clock, core_bytes, dram_bandwidth,
                      read_share, l2_bandwidth, l2_capacity, sharpness)
    return _cost(compute, memory, sharpness, cores.barrier, 2.0 * m * weights, nbytes)


def attention_on_cores(batch: ArrayLike, q_len: ArrayLike, kv_len: ArrayLike, n_heads: ArrayLike, head_dim: ArrayLike,
                       v_head_dim: ArrayLike, window: ArrayLike = 0.0, *, kv_elements: ArrayLike = 8192.0,
                       bytes_kv: ArrayLike = 2.0, causal: ArrayLike = 1.0, peak: ArrayLike, vector_peak: ArrayLike,
                       n_units: ArrayLike, dram_bandwidth: ArrayLike, threads: ArrayLike = np.inf,
                       clock: ArrayLike = 3e9, efficiency: ArrayLike = 0.8, softmax_ops: ArrayLike = 20.0,
                       core_bytes: ArrayLike = 8.0, read_share: ArrayLike = 0.8, sharpness: ArrayLike = 4.0,
                       barrier_cycles: ArrayLike = 4e4) -> Cost:
    """Time of attention of ``q_len`` new tokens a sequence: two products at ``peak``, softmax at the vector rate.

    Parameters
    ----------
    batch, q_len, kv_len : array_like   Sequences, new tokens of each, whole context with the new tokens. [-]
    n_heads, head_dim, v_head_dim, window : array_like  Query heads, widths of Q and V, positions seen (0: all). [-]
    kv_elements, bytes_kv : array_like  Cached elements per token and their size. [-, B]
    causal : array_like                 1: a token sees itself and earlier ones; 0: all. [-]
    softmax_ops : array_like            fp32 operations per score (exponential, maximum, sum). [-]
    others : as in :func:`unpack_multiply`.
    """
    batch, q_len, kv_len, n_heads, head_dim, v_head_dim, window, kv_elements, bytes_kv, causal = as_floats(
        batch, q_len, kv_len, n_heads, head_dim, v_head_dim, window, kv_elements, bytes_kv, causal)
    peak, vector_peak, n_units, dram_bandwidth, threads, clock, efficiency, softmax_ops = as_floats(
        peak, vector_peak, n_units, dram_bandwidth, threads, clock, efficiency, softmax_ops)
    core_bytes, read_share, sharpness, barrier_cycles = as_floats(core_bytes, read_share, sharpness, barrier_cycles)
    # Sequences times heads are dealt out to the cores; fewer of them leave cores idle.
    cores = _cores(np.minimum(threads, np.maximum(batch * n_heads, 1.0)), n_units, vector_peak, clock, barrier_cycles)
    seen = np.where(window > 0, np.minimum(window, kv_len), kv_len)
    mean = np.maximum(seen - causal * np.minimum(q_len, seen) / 2.0, 1.0)
    pairs = batch * n_heads * q_len * mean
    flops = 2.0 * pairs * (head_dim + v_head_dim)
    compute = (flops / (peak * cores.share) + pairs * softmax_ops / (vector_peak * cores.share)) / efficiency
    nbytes = batch * seen * kv_elements * bytes_kv
    memory = _stream(nbytes, cores, clock, core_bytes, dram_bandwidth, read_share, sharpness)
    return _cost(compute, memory, sharpness, cores.barrier, flops, nbytes)


def elementwise_on_cores(rows: ArrayLike, cols: ArrayLike, bytes_read: ArrayLike, bytes_written: ArrayLike, *,
                         vector_peak: ArrayLike, n_units: ArrayLike, dram_bandwidth: ArrayLike, l2_bandwidth: ArrayLike,
                         l2_capacity: ArrayLike, threads: ArrayLike = np.inf, clock: ArrayLike = 3e9,
                         element_ops: ArrayLike = 8.0, core_bytes: ArrayLike = 8.0, read_share: ArrayLike = 0.8,
                         sharpness: ArrayLike = 4.0, barrier_cycles: ArrayLike = 4e4) -> Cost:
    """Time of norm, softmax, rope, activation ...: ``element_ops`` fp32 operations an element, its bytes moved once.

    Rows are dealt out to the cores (a single row keeps one core busy); the operands of the op before are still in the
    last cache as far as they fit. Arguments as in :func:`unpack_multiply`.
    """
    rows, cols, bytes_read, bytes_written, vector_peak, n_units, dram_bandwidth, l2_bandwidth, l2_capacity = as_floats(
        rows, cols, bytes_read, bytes_written, vector_peak, n_units, dram_bandwidth, l2_bandwidth, l2_capacity)
    threads, clock, element_ops, core_bytes, read_share, sharpness, barrier_cycles = as_floats(
        threads, clock, element_ops, core_bytes, read_share, sharpness, barrier_cycles)
    team = _cores(threads, n_units, vector_peak, clock, barrier_cycles)
    cores = _cores(np.minimum(threads, np.maximum(np.ceil(rows), 1.0)), n_units, vector_peak, clock, barrier_cycles)
    compute = rows * cols * element_ops / (vector_peak * cores.share)
    nbytes = bytes_read + bytes_written
    memory = _weights(nbytes, np.ones(()), cores, clock, core_bytes, dram_bandwidth, read_share, l2_bandwidth,
                      l2_capacity, sharpness)
    return _cost(compute, memory, sharpness, team.barrier, rows * cols * element_ops, nbytes)


def _weights(nbytes: Array, resident: Array, cores: _Cores, clock: Array, core_bytes: Array, dram_bandwidth: Array,
             read_share: Array, l2_bandwidth: Array, l2_capacity: Array, sharpness: Array) -> Array:
    """Time to bring in ``nbytes``: what the last cache still holds at its own rate, the rest from DRAM. [s]"""
    ratio = np.minimum(nbytes / np.maximum(l2_capacity, 1e-300), 1e60)
    hit = resident / (1.0 + ratio**KNEE)
    dram = _stream(nbytes, cores, clock, core_bytes, dram_bandwidth, read_share, sharpness)
    cache = np.minimum(nbytes / np.maximum(l2_bandwidth, dram_bandwidth * read_share), dram)
    return hit * cache + (1.0 - hit) * dram


def _cost(compute: Array, memory: Array, sharpness: Array, barrier: Array, flops: Array, nbytes: Array) -> Cost:
    busy = smooth_max(compute, memory, sharpness) * ((compute > 0) | (memory > 0))
    zero = np.zeros_like(busy)
    return Cost(time=barrier + busy, compute=compute + zero, memory=memory + zero, link=zero, launch=barrier + zero,
                tail=zero, flops=flops + zero, nbytes=nbytes + zero)
