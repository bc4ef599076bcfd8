"""Golden model of ``sparse_dsp_chain``: N:M sparse dot products of two tokens. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


def in_use(cfg_n: int, cfg_split: int, m: int) -> tuple[int, int]:
    """(weights kept of m, segments) for a configuration: illegal ones are read as dense and as 4."""
    return cfg_n if cfg_n in (1, 2) else m, 1 << min(cfg_split, 2)


def positions(x: ArrayLike, n: int, m: int) -> Ints:
    """Positions int[L] in the window of the weights with indices int[L]: n of each block of m, all in order if n = m."""
    index = np.asarray(x, dtype=np.int64)
    lane = np.arange(index.size)
    return lane if n == m else lane // n * m + index


def sparse_nm_dot(a: ArrayLike, w: ArrayLike, x: ArrayLike, n: int, m: int, segments: int) -> Ints:
    """int64[2, 4]: what one beat adds to each token's segments.

    Windows a: int[2, >= L m / n] of two tokens, weights int[L] (-128 is read as -127) with indices int[L]; weight i belongs
    to segment i // (L / segments), segments beyond are 0. The unit's output is the sum over beats modulo 2^ACC_W.
    """
    value = np.maximum(np.asarray(w, dtype=np.int64), -127)
    products = np.asarray(a, dtype=np.int64)[:, positions(x, n, m)] * value
    sums = np.zeros((2, 4), dtype=np.int64)
    sums[:, :segments] = products.reshape(2, segments, -1).sum(axis=2)
    return sums
