"""Golden model of ``bfp_align``, from the specification: exact fixed-point values, one rounding. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtl.lut_table_gen.golden import rne_shift

Ints = NDArray[np.int64]
#: Unit of ``fp16_fixed``: 2^-24, the smallest subnormal.
UNIT_EXP = -24


def fp16_fixed(codes: ArrayLike) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """(value in units of 2^-24, biased exponent, was infinity or NaN) of binary16 codes, any shape.

    Infinities and NaNs read as +-65504. The exponent of zeros and subnormals is 1.
    """
    c = np.asarray(codes, dtype=np.int64)
    field, fraction = c >> 10 & 31, c & 1023
    bad = field == 31
    e: Ints = np.clip(field, 1, 30)
    magnitude = (np.where(bad, 1023, fraction) + 1024 * (field > 0)) << (e - 1)
    return np.where(c >> 15 & 1 == 1, -magnitude, magnitude), e, np.asarray(bad)


def bfp_align(codes: ArrayLike, n: int) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """(mantissas int[..., B], exponent E int[...], whether a value was infinity or NaN [...]) of blocks int[..., B].

    m = x 2^((n - 2) - (E - 15)) rounded half to even and clamped to +-(2^(n-1) - 1); value = m 2^((E - 15) - (n - 2)).
    """
    x, e, bad = fp16_fixed(codes)
    top = e.max(axis=-1)
    down = ((top - 15) - (n - 2) - UNIT_EXP)[..., None]       # mantissas are x / 2^down
    m = rne_shift(x << np.maximum(-down, 0), np.maximum(down, 0))
    most = (1 << (n - 1)) - 1
    return np.clip(m, -most, most), top, np.asarray(bad.any(axis=-1))
