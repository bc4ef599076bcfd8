"""How much work an op is, whatever the hardware: operations, stored bytes that must be read, streamed bytes.

The compulsory part (weights and cache once each) gives the physical limit of a step; the rest can stay on chip.
"""

from __future__ import annotations

from functools import singledispatch
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workloads.formats import get_format
from workloads.ops import Attention, Collective, Elementwise, Gemm, Moe, Op, Scan

Array = NDArray[np.float64]


class Work(NamedTuple):
    """Work of one run of an op: multiplications and additions [op], bytes of weights, cache and activations [B]."""

    flops: Array
    weight_bytes: Array
    cache_bytes: Array
    stream_bytes: Array
    link_bytes: Array


def visible_pairs(q_len: ArrayLike, kv_len: ArrayLike, window: ArrayLike = 0.0, causal: bool = True) -> Array:
    """(query, key) pairs of one sequence and head: queries are the last ``q_len`` of ``kv_len`` positions.

    Position p (from 1) sees min(p, window) keys when causal, min(kv_len, window) otherwise; window 0 is unlimited.
    """
    q, kv, w = (np.asarray(x, dtype=np.float64) for x in (q_len, kv_len, window))
    w = np.where(w > 0, w, kv)
    if not causal:
        return q * np.minimum(kv, w)
    past = kv - q
    ramp = np.clip(np.minimum(w, kv) - past, 0.0, q)      # queries that still see everything before them
    return ramp * past + ramp * (ramp + 1) / 2 + (q - ramp) * np.minimum(w, kv)


def experts_hit(tokens: ArrayLike, topk: ArrayLike, n_experts: ArrayLike) -> Array:
    """Expected share of experts that at least one token picks, choices uniform and independent over tokens."""
    t, k, e = (np.asarray(x, dtype=np.float64) for x in (tokens, topk, n_experts))
    return -np.expm1(t * np.log1p(-np.minimum(k / e, 1 - 1e-12)))


@singledispatch
def work(op: Op) -> Work:
    """Work of one run of ``op``. Raises ``TypeError`` for an op of unknown kind."""
    raise TypeError(f"no work count for ops of kind {type(op).__name__}")


def _zero() -> Array:
    return _ZERO


def _f(x: ArrayLike) -> Array:
    """As float64; a single number as NumPy's scalar, with which one design point is several times faster."""
    found: Array = np.asarray(x, dtype=np.float64)[()]
    return found


_ZERO = _f(0.0)


def _kept(weight: str) -> float:
    """Share of the products that N:M sparse weights leave to be done, by an engine that can skip the others."""
    kept, of = get_format(weight).sparsity
    return kept / of


@work.register
def _(op: Gemm) -> Work:
    m, n, k, b = _f(op.m), _f(op.n), _f(op.k), _f(op.batch)
    w_bytes = b * n * k * get_format(op.w).nbytes
    io = b * m * (k + n) * get_format(op.out).nbytes
    flops = 2 * b * m * n * k * _kept(op.w)
    return Work(flops, w_bytes if op.static else _zero(), _zero() if op.static else w_bytes, io, _zero())


@work.register
def _(op: Moe) -> Work:
    matrices = 3.0 if op.gated else 2.0
    rows = _f(op.tokens) * _f(op.topk) * _f(op.n_local) / _f(op.n_experts)
    expert = matrices * _f(op.hidden) * _f(op.inter)
    hit = _f(op.n_local) * experts_hit(op.tokens, op.topk, op.n_experts)
    io = (2 * _f(op.tokens) * _f(op.hidden) + 2 * rows * (_f(op.hidden) + _f(op.inter))) * get_format(op.out).nbytes
    return Work(2 * rows * expert * _kept(op.w), hit * expert * get_format(op.w).nbytes, _zero(), io, _zero())


@work.register
def _(op: Attention) -> Work:
    pairs = visible_pairs(op.q_len, op.kv_len, op.window, op.causal)
    flops = 2 * _f(op.batch) * _f(op.n_heads) * pairs * (_f(op.head_dim) + _f(op.v_head_dim))
    w = _f(op.window)
    seen = np.where(w > 0, np.minimum(_f(op.kv_len), w + _f(op.q_len) - 1), _f(op.kv_len))
    cache = _f(op.batch) * seen * _f(op.kv_elements) * get_format(op.kv).nbytes
    io = _f(op.batch) * _f(op.q_len) * _f(op.n_heads) * (_f(op.head_dim) + _f(op.v_head_dim)) * get_format(op.q).nbytes
    return Work(flops, _zero(), cache, io, _zero())


@work.register
def _(op: Scan) -> Work:
    tokens = _f(op.batch) * _f(op.q_len)
    state = 2 * _f(op.batch) * _f(op.state_elements) * get_format(op.state).nbytes
    return Work(tokens * _f(op.flops_per_token), _zero(), state,
                tokens * _f(op.io_elements) * get_format(op.act).nbytes, _zero())


@work.register
def _(op: Elementwise) -> Work:
    return Work(_f(op.rows) * _f(op.cols), _zero(), _zero(), _f(op.bytes_read) + _f(op.bytes_written), _zero())


@work.register
def _(op: Collective) -> Work:
    n, size = _f(op.n_devices), _f(op.nbytes)
    # Bytes that each device must at least send: (n-1)/n of the buffer, twice for an all-reduce. NCCL-tests' "busbw".
    share = 1.0 if op.kind == "send_recv" else (n - 1) / n * (2.0 if op.kind == "all_reduce" else 1.0)
    return Work(_zero(), _zero(), _zero(), _zero(), size * share)
