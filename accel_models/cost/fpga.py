"""Cost of work on an FPGA design: multiplier or adder arrays fed by memory channels through ports of fabric width.

An *array* stands in each of ``slices`` regions of the part and is made of units of ``rtl``: chains of multipliers that
serve two rows at a time and skip what an N:M sparse weight leaves out (``sparse_dsp_chain``), or lanes that add, subtract
or skip (``ternary_acc``). All units of an array run alike, so that its cycles are those of one of them, and these are the
unit's contract: ``array_cycles``. In matrix mode ``tile_m`` rows x ``tile_n`` outputs x ``tile_k`` terms are taken a beat,
in vector mode the rows of one unit x ``vector_n`` outputs x ``tile_k`` terms. Weights and cache stream from memory;
activations stay on chip as far as the buffer holds them.

Source of the form: FlightLLM (arXiv:2401.03868) and its published profile.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, Cost, as_floats
from rtl.sparse_dsp_chain import contract as sparse_dsp_chain
from rtl.ternary_acc import contract as ternary_acc

#: What one block of on-chip memory holds: 288 Kb of an UltraRAM, 18 Kb of a block RAM (AMD UG573). [B]
URAM_BYTES, BRAM18_BYTES = 288 * 1024 / 8, 18 * 1024 / 8


class Resources(NamedTuple):
    """What a design takes of a part, each a count of blocks."""

    dsp: Array
    lut: Array
    ff: Array
    uram: Array
    bram18: Array


class Built(NamedTuple):
    """What one unit of an array takes of a part, as synthesised."""

    dsp: ArrayLike
    lut: ArrayLike
    ff: ArrayLike


class Instructions(NamedTuple):
    """Instruction stream: entries and bytes that one step fetches, bytes stored for all lengths served."""

    entries: Array
    fetched: Array
    stored: Array


def channel_rate(*, dram_bandwidth: ArrayLike, channels: ArrayLike = 1.0, port_rate: ArrayLike = np.inf) -> Array:
    """What one memory channel gives [B/s]: its share of the peak, or what its port into the fabric takes.

    A port moves its width once a clock of the fabric: 32 B at 225 MHz are 7.2 GB/s of an HBM channel's 14.4 GB/s (AMD
    PG276: 256-bit ports). The STREAM copy of 377.4 GB/s with 32 ports at 370 MHz is 99.6 % of that product.
    """
    dram_bandwidth, channels, port_rate = as_floats(dram_bandwidth, channels, port_rate)
    return np.minimum(dram_bandwidth / channels, port_rate)


def stream_time(nbytes: ArrayLike, *, dram_bandwidth: ArrayLike, channels: ArrayLike = 1.0,
                channels_used: ArrayLike = np.inf, port_rate: ArrayLike = np.inf, load_bytes: ArrayLike = 8192.0,
                load_gap: ArrayLike = 0.0, pattern: ArrayLike = 1.0) -> Array:
    """Time to move ``nbytes`` spread evenly over the channels. [s]

    Parameters
    ----------
    dram_bandwidth : array_like   Peak of all ``channels`` together. [B/s]
    channels, channels_used : array_like  There are, and the design is wired to. [-]
    port_rate : array_like        Width times clock of one port. [B/s]
    load_bytes : array_like       What one load takes from one channel. [B]
    load_gap : array_like         Idle time of a channel between two loads (issue, row change, latency not hidden). [s]
    pattern : array_like          Share of that rate left by the access pattern (1: each port its own channel). [-]
    """
    nbytes, load_bytes, load_gap, pattern, channels_used = as_floats(nbytes, load_bytes, load_gap, pattern, channels_used)
    rate = channel_rate(dram_bandwidth=dram_bandwidth, channels=channels, port_rate=port_rate)
    each = nbytes / np.minimum(channels_used, np.asarray(channels, dtype=np.float64))
    found: Array = (each / rate + each / load_bytes * load_gap) / pattern
    return found


def array_cycles(m: ArrayLike, n: ArrayLike, k: ArrayLike, *, chains: ArrayLike = 1.0, tile_m: ArrayLike = 1.0,
                 tile_n: ArrayLike = 1.0, tile_k: ArrayLike = 1.0, vector_n: ArrayLike = 1.0, kept: ArrayLike = 1.0,
                 block: ArrayLike = 1.0) -> Array:
    """Cycles of an array for (m, k) times (k, n), ``n`` the outputs of its region: the units' contracts, in the faster mode.

    Parameters
    ----------
    chains : array_like         1: chains of ``tile_k`` multipliers for two rows; 0: ``tile_k`` adder lanes for one row. [-]
    tile_m, tile_n, tile_k, vector_n : array_like  Shape of a beat in the two modes. [-]
    kept, block : array_like    N and M of N:M sparse weights: chains take no beat for what they leave out; adder lanes take
                                one for every weight. Rows are padded to whole tiles, k to whole beats. [-]

    The contract of the chain is proven for one or two of 2, 4 or 8 and for dense weights (all of a block); for other N:M it
    is the same formula.
    """
    m, n, k, chains, tile_m, tile_n, tile_k, vector_n, kept, block = as_floats(
        m, n, k, chains, tile_m, tile_n, tile_k, vector_n, kept, block)
    sparse = {"lanes": tile_k, "block": block, "kept": kept, "segments": 1.0}
    # One chain of matrix mode takes two of the tile's rows and one of its outputs; one of vector mode, all rows in pairs.
    matrix = sparse_dsp_chain.gemm_cycles(2.0 * np.ceil(m / tile_m), n / tile_n, k, **sparse)
    vector = sparse_dsp_chain.gemm_cycles(m, n / vector_n, k, **sparse)
    rows = ternary_acc.gemm_cycles(np.ceil(m / tile_m), n, k, lanes=tile_k, outputs=tile_n)
    row = ternary_acc.gemm_cycles(m, n, k, lanes=tile_k, outputs=vector_n)
    found: Array = np.where(chains > 0, np.minimum(matrix, vector), np.minimum(rows, row))
    return found


def array_gemm(m: ArrayLike, n: ArrayLike, k: ArrayLike, batch: ArrayLike = 1.0, *, clock: ArrayLike,
               dram_bandwidth: ArrayLike, slices: ArrayLike = 1.0, tile_m: ArrayLike = 1.0, tile_n: ArrayLike = 1.0,
               tile_k: ArrayLike = 1.0, vector_n: ArrayLike = 1.0, chains: ArrayLike = 1.0, taken: ArrayLike = 1.0,
               multipliers: ArrayLike = 1.0, rate_share: ArrayLike = 1.0, kept: ArrayLike = 1.0, block: ArrayLike = 1.0,
               efficiency: ArrayLike = 1.0, bytes_a: ArrayLike = 1.0, bytes_w: ArrayLike = 1.0,
               bytes_out: ArrayLike = 1.0, buffer_bytes: ArrayLike = np.inf, channels: ArrayLike = 1.0,
               channels_used: ArrayLike = np.inf, port_rate: ArrayLike = np.inf, load_bytes: ArrayLike = 8192.0,
               load_gap: ArrayLike = 0.0, pattern: ArrayLike = 1.0, sync: ArrayLike = 0.0) -> Cost:
    """Time of ``batch`` products of (m, k) activations with (n, k) stored weights.

    Parameters
    ----------
    clock : array_like                 Of the array. [Hz]
    slices : array_like                Regions with an array each; outputs are dealt over them. [-]
    tile_m, tile_n, tile_k, vector_n, chains, kept, block : array_like  Of an array and its beats: ``array_cycles``.
    taken, multipliers : array_like    1 where the array takes this format of weights; where it does not (0), so many
                                       multipliers of a region do the product. [-]
    rate_share : array_like            Share of the rate that this number format leaves (1/4: four passes). [-]
    efficiency : array_like            Share of beats that an array really does, all regions working together. [-]
    bytes_a, bytes_w, bytes_out : array_like  Per element, metadata included (``bytes_w``: per dense element). [B]
    buffer_bytes : array_like          On-chip room for activations; 0 sends every input and output through memory. [B]
    sync : array_like                  Barrier among loads, array and stores, once an op. [s]

    All arguments broadcast; those of ``stream_time`` have its meaning. Loads run ahead of the array by one load, so that
    the first load and the last computation overlap nothing. More work never costs less; faster parts never cost more.
    """
    m, n, k, batch, clock, slices, tile_m, taken, multipliers, rate_share, kept, block, efficiency = as_floats(
        m, n, k, batch, clock, slices, tile_m, taken, multipliers, rate_share, kept, block, efficiency)
    bytes_a, bytes_w, bytes_out, buffer_bytes, sync = as_floats(bytes_a, bytes_w, bytes_out, buffer_bytes, sync)
    by_array = array_cycles(m, np.ceil(n / slices), k, chains=chains, tile_m=tile_m, tile_n=tile_n, tile_k=tile_k,
                            vector_n=vector_n, kept=kept, block=block)
    cycles = np.where(taken > 0, by_array, m * np.ceil(n / slices) * k / multipliers)
    compute = batch * cycles / (rate_share * clock * efficiency)
    held = m * (k * bytes_a + n * bytes_out)
    # Activations that do not fit are processed in groups of rows, and weights stream once for each group.
    rows = np.maximum(buffer_bytes / np.maximum(k * bytes_a + n * bytes_out, 1e-300), tile_m)
    weights = batch * n * k * bytes_w * np.maximum(np.ceil(m / np.maximum(rows, 1.0)), 1.0)
    spilled = batch * np.where(held > buffer_bytes, held, 0.0)
    wires = {"dram_bandwidth": dram_bandwidth, "channels": channels, "channels_used": channels_used,
             "port_rate": port_rate, "load_bytes": load_bytes, "load_gap": load_gap}
    memory = stream_time(weights, pattern=pattern, **wires)
    # What leaves the chip is waited for: the op cannot start before its input is there, nor the next before its output.
    through = stream_time(spilled, pattern=pattern, **wires) + np.where(spilled > 0, 2.0, 0.0) * load_gap
    return _overlapped(compute, memory, through, weights, sync, flops=2.0 * batch * m * n * k * kept / block,
                       nbytes=weights + spilled, channels=channels, channels_used=channels_used, load_bytes=load_bytes)


def array_attention(batch: ArrayLike, q_len: ArrayLike, kv_len: ArrayLike, n_heads: ArrayLike, head_dim: ArrayLike,
                    v_head_dim: ArrayLike, window: ArrayLike = 0.0, *, clock: ArrayLike, dram_bandwidth: ArrayLike,
                    kv_elements: ArrayLike = 1.0, causal: ArrayLike = 1.0, slices: ArrayLike = 1.0,
                    tile_m: ArrayLike = 1.0, tile_n: ArrayLike = 1.0, tile_k: ArrayLike = 1.0, vector_n: ArrayLike = 1.0,
                    chains: ArrayLike = 1.0, taken: ArrayLike = 1.0, multipliers: ArrayLike = 1.0,
                    lanes: ArrayLike = 1.0, softmax_passes: ArrayLike = 2.0, rate_share: ArrayLike = 1.0,
                    efficiency: ArrayLike = 1.0, bytes_kv: ArrayLike = 1.0,
                    channels: ArrayLike = 1.0, channels_used: ArrayLike = np.inf, port_rate: ArrayLike = np.inf,
                    load_bytes: ArrayLike = 8192.0, load_gap: ArrayLike = 0.0, pattern: ArrayLike = 1.0,
                    sync: ArrayLike = 0.0) -> Cost:
    """Time of attention: scores, softmax and weighted sum one after another, heads dealt over the regions.

    ``lanes`` elements a clock and region go through the softmax unit, ``softmax_passes`` times. ``kv_elements`` are read
    from memory for each cached position (workloads.ops.Attention). A causal prompt computes blocks of ``tile_m`` rows:
    half a block beyond the diagonal. Other arguments as in ``array_gemm``; all broadcast.
    """
    batch, q, kv, n_heads, head_dim, v_head_dim, window, clock, kv_elements, causal, slices = as_floats(
        batch, q_len, kv_len, n_heads, head_dim, v_head_dim, window, clock, kv_elements, causal, slices)
    tile_m, taken, multipliers, lanes, softmax_passes, rate_share, efficiency, bytes_kv = as_floats(
        tile_m, taken, multipliers, lanes, softmax_passes, rate_share, efficiency, bytes_kv)
    seen = np.where(window > 0, np.minimum(kv, window + q - 1.0), kv)
    block = np.minimum(tile_m, q)
    per_row = np.where(causal > 0, np.minimum(seen, np.maximum(seen - (q - block) / 2.0, 0.0)), seen)
    heads = np.ceil(n_heads / slices)

    def products(terms: Array, outputs: Array) -> Array:
        by_array = array_cycles(q, outputs, terms, chains=chains, tile_m=tile_m, tile_n=tile_n, tile_k=tile_k,
                                vector_n=vector_n)
        return np.where(taken > 0, by_array, q * outputs * terms / multipliers)

    # Scores: head_dim terms an output, one output a position; weighted sum: positions are the terms.
    each = (products(head_dim, per_row) + products(per_row, v_head_dim)) / rate_share
    softmax = q * per_row * softmax_passes / lanes
    compute = batch * heads * (each + softmax) / (clock * efficiency)
    nbytes = batch * seen * kv_elements * bytes_kv
    memory = stream_time(nbytes, dram_bandwidth=dram_bandwidth, channels=channels, channels_used=channels_used,
                         port_rate=port_rate, load_bytes=load_bytes, load_gap=load_gap, pattern=pattern)
    flops = 2.0 * batch * n_heads * q * per_row * (head_dim + v_head_dim)
    return _overlapped(compute, memory, np.zeros(()), nbytes, as_floats(sync)[0], flops=flops, nbytes=nbytes,
                       channels=channels, channels_used=channels_used, load_bytes=load_bytes)


def array_stream(rows: ArrayLike, cols: ArrayLike, nbytes: ArrayLike = 0.0, *, clock: ArrayLike,
                 dram_bandwidth: ArrayLike, passes: ArrayLike = 1.0, lanes: ArrayLike = 1.0, slices: ArrayLike = 1.0,
                 efficiency: ArrayLike = 1.0, channels: ArrayLike = 1.0, channels_used: ArrayLike = np.inf,
                 port_rate: ArrayLike = np.inf, load_bytes: ArrayLike = 8192.0, load_gap: ArrayLike = 0.0,
                 pattern: ArrayLike = 1.0, sync: ArrayLike = 0.0) -> Cost:
    """Time of work element by element (norm, activation, rotary embedding, recurrence) on ``lanes`` a clock and region.

    ``passes`` times over ``rows`` x ``cols`` elements; ``nbytes`` are those that leave or enter the chip, none where the
    operands are on it. Other arguments as in ``array_gemm``; all broadcast.
    """
    rows, cols, nbytes, clock, passes, lanes, slices, efficiency, sync = as_floats(
        rows, cols, nbytes, clock, passes, lanes, slices, efficiency, sync)
    compute = rows * cols * passes / (lanes * slices * clock * efficiency)
    memory = stream_time(nbytes, dram_bandwidth=dram_bandwidth, channels=channels, channels_used=channels_used,
                         port_rate=port_rate, load_bytes=load_bytes, load_gap=load_gap, pattern=pattern)
    return _overlapped(compute, memory, np.zeros(()), nbytes, sync, flops=rows * cols * passes, nbytes=nbytes,
                       channels=channels, channels_used=channels_used, load_bytes=load_bytes)


def _overlapped(compute: Array, memory: Array, through: Array, streamed: Array, sync: Array, *, flops: Array,
                nbytes: Array, channels: ArrayLike, channels_used: ArrayLike, load_bytes: ArrayLike) -> Cost:
    """Loads and computation two deep: the longer of the two, and one load's (or one load's work's) time of the other."""
    channels, channels_used, load_bytes = as_floats(channels, channels_used, load_bytes)
    loads = np.maximum(streamed / (np.minimum(channels, channels_used) * load_bytes), 1.0)
    tail = np.minimum(compute, memory) / loads + through
    zero = np.zeros(np.broadcast_shapes(*(np.shape(x) for x in (compute, memory, tail, sync, flops, nbytes))))
    return Cost(time=sync + np.maximum(compute, memory) + tail + zero, compute=compute + zero, memory=memory + zero,
                link=zero, launch=sync + zero, tail=tail + zero, flops=flops + zero, nbytes=nbytes + zero)


def multipliers_of(*, slices: ArrayLike, tile_m: ArrayLike, tile_n: ArrayLike, tile_k: ArrayLike, vector_n: ArrayLike,
                   pack: ArrayLike = 1.0) -> Array:
    """Multipliers or adder lanes of all arrays: as many as their larger mode needs, ``pack`` rows on one in matrix mode."""
    slices, tile_m, tile_n, tile_k, vector_n, pack = as_floats(slices, tile_m, tile_n, tile_k, vector_n, pack)
    found: Array = slices * tile_k * np.maximum(tile_m * tile_n / pack, vector_n)
    return found


def resources(macs: ArrayLike, *, unit: Built, unit_macs: ArrayLike, slices: ArrayLike = 1.0, multipliers: ArrayLike = 0.0,
              uram_bytes: ArrayLike = 0.0, bram_bytes: ArrayLike = 0.0) -> Resources:
    """Blocks that ``macs`` multipliers or adder lanes and the buffers of a design take (control, shell and interfaces apart,
    which come on top).

    ``unit`` is what one unit with ``unit_macs`` multipliers or lanes takes. In each of ``slices`` regions ``multipliers`` for
    what adders cannot do, a DSP each, and buffers in ``uram_bytes`` and ``bram_bytes``. [B]
    """
    macs, slices, unit_macs, multipliers, uram_bytes, bram_bytes = as_floats(macs, slices, unit_macs, multipliers, uram_bytes,
                                                                             bram_bytes)
    dsp, lut, ff = (np.ceil(macs / unit_macs * x) for x in as_floats(*unit))
    return Resources(dsp=dsp + np.ceil(slices * multipliers), lut=lut, ff=ff,
                     uram=np.ceil(slices * uram_bytes / URAM_BYTES), bram18=np.ceil(slices * bram_bytes / BRAM18_BYTES))


def instruction_stream(nbytes: ArrayLike, *, load_bytes: ArrayLike, channels_per_load: ArrayLike = 1.0,
                       instruction_bytes: ArrayLike = 22.0, lengths: ArrayLike = 1.0, bucket: ArrayLike = 1.0,
                       per_load: ArrayLike = 2.0) -> Instructions:
    """Length of the instruction stream of one step that streams ``nbytes``, and what storing it for each length takes.

    One load instruction fetches ``load_bytes`` from each of ``channels_per_load`` channels, and one computation goes with
    it (``per_load`` 2): 28 and 16 B in FlightLLM's published instruction set (isa.py), 22 B on average. ``lengths``
    sequence lengths are served, each by a stream of its own, or ``bucket`` of them by one (length-adaptive compilation).
    Fetching is no bound, 44 B beside each 64 KiB of weights, and has no term in the time of an op; storing may be one.
    """
    nbytes, load_bytes, channels_per_load, instruction_bytes, lengths, bucket, per_load = as_floats(
        nbytes, load_bytes, channels_per_load, instruction_bytes, lengths, bucket, per_load)
    entries = per_load * np.ceil(nbytes / (load_bytes * channels_per_load))
    fetched = entries * instruction_bytes
    return Instructions(entries, fetched, fetched * np.ceil(lengths / bucket))
