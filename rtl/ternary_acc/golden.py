"""Golden model of ``ternary_acc``: ternary weights, their two codings, dot products. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
POWERS = 3 ** np.arange(5)


def ternary_gemv(a: ArrayLike, t: ArrayLike) -> Ints:
    """int64[NO] from activations int[K] and ternary weights int[NO, K]; the unit's output is this modulo 2^ACC_W."""
    y: Ints = np.asarray(t, dtype=np.int64) @ np.asarray(a, dtype=np.int64)
    return y


def tri2_encode(t: ArrayLike) -> Ints:
    """Two-bit codes of ternary weights: 0 -> 00, +1 -> 01, -1 -> 11."""
    return np.asarray(t, dtype=np.int64) & 3


def tri2_decode(codes: ArrayLike) -> tuple[Ints, NDArray[np.bool_]]:
    """(weights, illegal) of two-bit codes; the illegal code 10 stands for 0."""
    c = np.asarray(codes, dtype=np.int64)
    return np.where(c == 3, -1, np.where(c == 1, 1, 0)), c == 2


def trit_pack5(t: ArrayLike) -> NDArray[np.uint8]:
    """Bytes uint8[..., k] of ternary weights int[..., 5k]: sum of (t_k + 1) 3^k over five."""
    v = np.asarray(t, dtype=np.int64)
    code: NDArray[np.uint8] = ((v.reshape(*v.shape[:-1], -1, 5) + 1) * POWERS).sum(-1).astype(np.uint8)
    return code


def trit_unpack5(codes: ArrayLike) -> tuple[Ints, NDArray[np.bool_]]:
    """(weights int64[..., 5k], illegal bool[..., k]) of bytes [..., k]; codes above 242 stand for five zeros."""
    c = np.asarray(codes, dtype=np.int64)
    bad = c > 242
    digits = c[..., None] // POWERS % 3 - 1
    t: Ints = np.where(bad[..., None], 0, digits).reshape(*c.shape[:-1], -1)
    return t, bad
