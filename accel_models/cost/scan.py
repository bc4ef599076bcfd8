"""Cost of recurrent token mixers (state-space duality, gated delta net, xLSTM): a state instead of a KV cache.

Decode streams the state in and out once per step. Prefill runs the chunked form, small matrix products inside chunks
and a state hand-over between them [Dao and Gu, Transformers are SSMs, arXiv:2405.21060, section 6].

No measured rows of these kernels exist here, so every default is ``assumed``: the memory share is transferred from
fitted elementwise kernels (streaming, no reuse), and the matrix share is about half of what fused attention reaches, as
chunks of 64 to 256 rows are shorter products than attention's. An answer that rests on them must say so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Cost, as_floats, smooth_max


def scan(batch: ArrayLike, q_len: ArrayLike, flops_per_token: ArrayLike, state_elements: ArrayLike,
         io_elements: ArrayLike, *, bytes_act: ArrayLike = 2.0, bytes_state: ArrayLike = 4.0, peak: ArrayLike,
         vector_peak: ArrayLike, n_units: ArrayLike, dram_bandwidth: ArrayLike, decode: ArrayLike = 0.0,
         launch: ArrayLike = 0.0, efficiency: ArrayLike = 0.3, vector_efficiency: ArrayLike = 0.5,
         dram_efficiency: ArrayLike = 0.8, chunk: ArrayLike = 256.0, rows_per_unit: ArrayLike = 16384.0,
         sharpness: ArrayLike = 3.0, overhead: ArrayLike = 3e-6) -> Cost:
    """Time of one recurrent mixer over ``q_len`` new tokens of ``batch`` sequences.

    Parameters
    ----------
    batch, q_len : array_like          Sequences, new tokens of each. [-]
    flops_per_token : array_like       Multiplications and additions of the recurrence per token. [FLOP]
    state_elements : array_like        State of one sequence. [-]
    io_elements : array_like           Elements streamed per token, inputs and outputs. [-]
    bytes_act, bytes_state : array_like  Per element. [B]
    peak, vector_peak : array_like     Matrix rate and vector rate, dense. [FLOP/s]
    n_units : array_like               Processors. [-]
    dram_bandwidth : array_like        [B/s]
    decode : array_like                1: one step on the vector unit; 0: chunked form on the matrix unit. [-]
    chunk : array_like                 Tokens between two state hand-overs; the state moves once per chunk. [-]
    rows_per_unit : array_like         State elements that keep one processor busy; fewer leave processors idle. [-]

    All arguments broadcast.
    """
    (batch, q_len, flops_per_token, state_elements, io_elements, bytes_act, bytes_state, peak, vector_peak, n_units,
     dram_bandwidth, decode, launch, efficiency, vector_efficiency, dram_efficiency, chunk, rows_per_unit, sharpness,
     overhead) = as_floats(
        batch, q_len, flops_per_token, state_elements, io_elements, bytes_act, bytes_state, peak, vector_peak, n_units,
        dram_bandwidth, decode, launch, efficiency, vector_efficiency, dram_efficiency, chunk, rows_per_unit, sharpness,
        overhead)
    tokens = batch * q_len
    handovers = np.ceil(q_len / chunk)
    flops = tokens * flops_per_token
    nbytes = batch * handovers * 2.0 * state_elements * bytes_state + tokens * io_elements * bytes_act
    rate = decode * vector_peak * vector_efficiency + (1.0 - decode) * peak * efficiency
    # Work units: slices of the states of all sequences (decode) times chunks in flight (prefill).
    units = batch * np.maximum(handovers, 1.0) * np.maximum(state_elements / rows_per_unit, 1.0)
    busy_share = np.minimum(np.maximum(units, 1.0) / n_units, 1.0)
    compute = flops / (rate * busy_share)
    memory = nbytes / (dram_bandwidth * dram_efficiency)
    busy = np.where(tokens > 0, smooth_max(compute, memory, sharpness), 0.0)
    zero = np.zeros_like(busy)
    start = launch + overhead + zero
    compute, memory = compute + zero, memory + zero
    return Cost(time=start + busy, compute=compute, memory=memory, link=zero, launch=start,
                tail=np.maximum(busy - np.maximum(compute, memory), 0.0), flops=flops + zero, nbytes=nbytes + zero)
