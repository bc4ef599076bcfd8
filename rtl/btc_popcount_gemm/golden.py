"""Golden model of ``btc_popcount_gemm``: matrix products of codes as products of bit-planes. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


def btc_value(code: ArrayLike, bits: int, bipolar: bool) -> Ints:
    """Values that unsigned codes stand for: odd integers 2q - (2^bits - 1) if ``bipolar``, else two's complement.

    One bit is -1 and +1 if bipolar, else 0 and -1.
    """
    q = np.asarray(code, dtype=np.int64)
    value: Ints = 2 * q - ((1 << bits) - 1) if bipolar else q - ((q >> (bits - 1)) << bits)
    return value


def btc_gemm(a: ArrayLike, w: ArrayLike, pa: int, pw: int, bipolar: bool) -> Ints:
    """int64[M, N] from codes of activations uint[M, K] and weights uint[N, K]; the unit's output is this modulo 2^ACC_W."""
    y: Ints = btc_value(a, pa, bipolar) @ btc_value(w, pw, bipolar).T
    return y


def plane_product(a: ArrayLike, w: ArrayLike, i: int, j: int, pa: int, pw: int, bipolar: bool) -> Ints:
    """What plane j of the activations, bits [M, K], and plane i of the weights, bits [N, K], add: int64[M, N]."""
    x, y = np.asarray(a, dtype=np.int64), np.asarray(w, dtype=np.int64)
    place = _place(i, pw, bipolar) * _place(j, pa, bipolar)
    product: Ints = place * ((2 * x - 1) @ (2 * y - 1).T if bipolar else x @ y.T)
    return product


def _place(p: int, bits: int, bipolar: bool) -> int:
    return -(1 << p) if p == bits - 1 and not bipolar else 1 << p
