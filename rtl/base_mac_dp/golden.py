"""Golden model of ``base_mac_dp``: integer dot product. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def mac_dot(a: ArrayLike, w: ArrayLike) -> NDArray[np.int64]:
    """Sum of products over the last axis, int64; the unit's output is this modulo 2^ACC_W."""
    total: NDArray[np.int64] = (np.asarray(a, dtype=np.int64) * np.asarray(w, dtype=np.int64)).sum(axis=-1)
    return total
