"""Golden model of ``lut_dot``, from the specification: odd-integer weights, one bit-plane at a time. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtl.lut_table_gen.golden import lut_table, lut_table_quant

Ints = NDArray[np.int64]


def wrapped(value: ArrayLike, width: int) -> Ints:
    """Two's complement value modulo 2^width."""
    v = np.asarray(value, dtype=np.int64)
    return ((v + (1 << (width - 1))) & ((1 << width) - 1)) - (1 << (width - 1))


def lut_encode(q: ArrayLike, wbits: int, k: int) -> Ints:
    """Indices of each bit-plane: int[N, G, wbits] from codes q: int[N, Ktot].

    Plane p of a group holds bit p of its K codes. With the top bit set the index is {1, ~rest}, else {0, rest}: the
    inversion is done here, so that the hardware only negates.
    """
    q = np.asarray(q, dtype=np.int64)
    groups = q.reshape(q.shape[0], -1, k)
    bits = (groups[:, :, None, :] >> np.arange(wbits)[:, None]) & 1          # [N, G, wbits, K]
    low = bits[..., :-1] ^ bits[..., -1:]
    idx: Ints = (low << np.arange(k - 1)).sum(-1) | (bits[..., -1] << (k - 1))
    return idx


def lut_planes(table: ArrayLike, exp: int, idx: ArrayLike, k: int) -> int:
    """What the planes of one group add: sum over p of (+/-)T[idx_low] << (p + exp), planes LSB first."""
    t, i = np.asarray(table, dtype=np.int64), np.asarray(idx, dtype=np.int64)
    value = t[i & ((1 << (k - 1)) - 1)]
    signed = np.where(i >> (k - 1) == 1, -value, value)
    return int((signed << (np.arange(len(i)) + exp)).sum())


def lut_dot(a: ArrayLike, q: ArrayLike, wbits: int, k: int, quant: int | None = None, acc_w: int = 32) -> int:
    """Dot product of activations int[Ktot] with weight codes int[Ktot] (value 2q - (2^W - 1)) through tables of K.

    ``quant``: table entries in that many bits with one exponent per table, or ``None`` for exact ones.
    """
    tables = lut_table(np.asarray(a).reshape(-1, k), k)
    exps = np.zeros(len(tables), dtype=np.int64)
    if quant is not None:
        tables, exps = lut_table_quant(tables, quant)
    idx = lut_encode(np.asarray(q)[None], wbits, k)[0]
    return int(wrapped(sum(lut_planes(t, int(e), i, k) for t, e, i in zip(tables, exps, idx, strict=True)), acc_w))
