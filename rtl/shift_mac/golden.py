"""Golden model of ``shift_mac``: power-of-two weights without zero, integer or FP16 activations. Integers only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtl.base_fp16_mac.golden import fp16_value
from rtl.bitmod_unit.contract import FURTHEST
from rtl.bitmod_unit.golden import Step, accumulate, shift_jam

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


def fp16_product(a: int, code: int, b: int) -> tuple[int, int, bool]:
    """(significand, biased exponent, flagged): binary16 code times the weight, again a binary16 number.

    value = significand * 2^(exponent - 25), |significand| < 2048, exponent 1 to 30. Above 65504: that, flagged; infinities
    and NaNs as well.
    """
    (m, e, bad), shift = fp16_value(a), code & ((1 << (b - 1)) - 1)
    negative, m, e = (m < 0 or (m == 0 and a >> 15 == 1)) != bool(code >> (b - 1)), abs(m), e + 25 + shift
    while e > 1 and m < 1024:
        m, e = 2 * m, e - 1
    over = bad or e > 30
    m, e = (2047, 30) if over else (m, e)
    return (-m if negative else m), e, over


def fp16_step(a: Sequence[int], code: Sequence[int], b: int, mask: Sequence[int]) -> tuple[Step | None, bool]:
    """One beat aligned and summed as in ``bitmod_unit`` (``None`` where no lane counts), and whether a product is flagged."""
    products = [fp16_product(x, c, b) for x, c, on in zip(a, code, mask, strict=True) if on]
    lanes = [(m, e) for m, e, _ in products if m]
    flagged = any(over for _, _, over in products)
    if not lanes:
        return None, flagged
    top = max(e for _, e in lanes)
    d = tuple(min(FURTHEST, top - e) for _, e in lanes)
    total = sum((-1 if m < 0 else 1) * shift_jam(abs(m) << 3, x) for (m, _), x in zip(lanes, d, strict=True))
    jam = any((abs(m) << 3) & ((1 << x) - 1) for (m, _), x in zip(lanes, d, strict=True))
    return Step(top, total, d, jam), flagged


def shift_fp16(beats: Iterable[Step | None]) -> tuple[int, int]:
    """(mantissa, exponent) of a result from its beats: value = mantissa * 2^(exponent - 28)."""
    m = e = 0
    for step in beats:
        m, e, _ = accumulate(m, e, step)
    return m, e
