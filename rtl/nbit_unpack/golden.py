"""Golden model of ``nbit_unpack``: codes of b bits as integers. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def widen(codes: ArrayLike, b: int, signed: bool) -> NDArray[np.int64]:
    """int64 of the shape of ``codes`` (unsigned, b bits): two's complement if ``signed``."""
    c = np.asarray(codes, dtype=np.int64)
    value: NDArray[np.int64] = c - ((c >> (b - 1)) << b) * int(signed)
    return value
