"""Golden model of ``bitserial_mac``: weights as bit-planes and as slices. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


def bitserial_gemv(a: ArrayLike, w: ArrayLike, wbits: int, signed: bool) -> int:
    """Dot product of int[Ktot] activations and weights, one bit-plane at a time; the unit's output is this modulo 2^ACC_W.

    Plane p counts 2^p, the top one of two's complement -2^(wbits-1).
    """
    bits = (np.asarray(w, dtype=np.int64)[None] >> np.arange(wbits)[:, None]) & 1
    place = 1 << np.arange(wbits)
    place[-1] *= -1 if signed else 1
    return int(place @ (bits @ np.asarray(a, dtype=np.int64)))


def to_slices(w: ArrayLike, wbits: int, bpc: int, signed: bool) -> Ints:
    """Slices int[ceil(wbits / bpc), ...] of weights int[...], least significant first; the last one is extended."""
    v, n = np.asarray(w, dtype=np.int64), -(-wbits // bpc)
    value = v if signed else v & ((1 << wbits) - 1)
    slices: Ints = (value[None] >> (bpc * np.arange(n)).reshape(-1, *[1] * v.ndim)) & ((1 << bpc) - 1)
    return slices


def from_slices(slices: ArrayLike, bpc: int, signed: bool) -> Ints:
    """Weights int[...] that slices int[n, ...] stand for: their n bpc bits, two's complement if ``signed``."""
    s = np.asarray(slices, dtype=np.int64)
    width = bpc * len(s)
    code = (s << (bpc * np.arange(len(s))).reshape(-1, *[1] * (s.ndim - 1))).sum(axis=0)
    value: Ints = code - ((code >> (width - 1)) << width) * int(signed)
    return value
