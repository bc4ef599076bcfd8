"""Golden model of ``shift_mac``: power-of-two weights without zero. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


def pot_value(code: ArrayLike, b: int) -> Ints:
    """Weights that codes {sign, exponent} of b bits stand for: (-1)^sign 2^exponent."""
    c = np.asarray(code, dtype=np.int64)
    value: Ints = (1 - 2 * (c >> (b - 1))) << (c & ((1 << (b - 1)) - 1))
    return value


def shift_dot(a: ArrayLike, code: ArrayLike, b: int, mask: ArrayLike) -> int:
    """Sum of activations int[K] shifted and signed by codes int[K] where ``mask`` bool[K] holds; the unit's output is this
    modulo 2^ACC_W."""
    c, x = np.asarray(code, dtype=np.int64), np.asarray(a, dtype=np.int64)
    moved = x << (c & ((1 << (b - 1)) - 1))
    return int(np.where(c >> (b - 1) == 1, -moved, moved)[np.asarray(mask, dtype=bool)].sum())
