"""Golden model of ``lut_table_gen``: symmetric tables of signed sums, exact or quantised. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


def lut_table(a: ArrayLike, k: int) -> Ints:
    """Half table of K activations: int64[..., 2^(K-1)] from int[..., K].

    Entry i is -a[K-1] + sum over j < K-1 of sigma_j(i) a[j], sigma_j(i) = +1 if bit j of i is set, else -1.
    """
    a = np.asarray(a, dtype=np.int64)
    bits = (np.arange(1 << (k - 1))[:, None] >> np.arange(k - 1)) & 1
    signs = np.concatenate([2 * bits - 1, np.full((1 << (k - 1), 1), -1)], axis=1)
    table: Ints = a @ signs.T
    return table


def rne_shift(t: ArrayLike, e: ArrayLike) -> Ints:
    """t / 2^e rounded half to even, on the two's complement value."""
    t, e = np.asarray(t, dtype=np.int64), np.asarray(e, dtype=np.int64)
    down = t >> e
    rest, half = t - (down << e), (np.int64(1) << e) >> 1
    up = (rest > half) | ((rest == half) & (down & 1 == 1) & (e > 0))
    rounded: Ints = down + up
    return rounded


def lut_table_quant(table: ArrayLike, qw: int) -> tuple[Ints, Ints]:
    """Entries in ``qw`` bits and one exponent per table: (q[..., E], e[...]).

    The largest magnitude of a symmetric table is the sum of the magnitudes of its activations; e makes it fit.
    """
    t = np.asarray(table, dtype=np.int64)
    largest = np.abs(t).max(axis=-1)
    bitlen = np.array([int(v).bit_length() for v in largest.reshape(-1)], dtype=np.int64).reshape(largest.shape)
    e = np.maximum(0, bitlen - (qw - 1))
    top = (1 << (qw - 1)) - 1
    q: Ints = np.clip(rne_shift(t, e[..., None]), -top, top)
    return q, e
