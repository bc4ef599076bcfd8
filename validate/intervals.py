"""80 % intervals: learned on one half of the unseen rows, tested on the other.

Rows that a fit has not seen are split once more, by shape family and a fixed hash: the *calibration half* gives the
factors ``lo`` and ``hi``, the *test half* gives the coverage that is reported. For devices left out of a fit the factors
that are tested on one chip come from the other left-out chips. Factors are split-conformal quantiles with the
finite-sample rank, every chip weighing the same where several stand for one that was never measured.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from validate.fit import interval
from validate.measured import Table

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Fewest rows from which an interval is read; below that the next wider class of rows is taken.
ENOUGH = 12
#: Fewest chips that speak for one that was never measured; below that the next wider class is taken.
ENOUGH_CHIPS = 3
Factors = tuple[dict[str, float], dict[str, float]]


def calibration_half(table: Table, family: Sequence[str]) -> Mask:
    """Fixed split of the held-back shape families: True gives intervals, False tests them."""
    keys = zip(*(table[k] for k in family), strict=True)
    text = ("|".join(f"{v:g}" if isinstance(v, float) else str(v) for v in key) for key in keys)
    return np.array([zlib.crc32(f"half|{t}".encode()) // 7 % 2 == 0 for t in text], dtype=bool)


def factors(log: Array, regimes: NDArray[np.object_], classes: Sequence[Mask], chips: NDArray[np.object_] | None = None
            ) -> Factors:
    """Factors per regime and for "all", each from the narrowest class of rows that is large enough.

    ``log`` is ln(measured / predicted), NaN where a row may not be used; ``classes`` go from narrow to wide, the widest
    serves "all" alone. With ``chips`` every chip weighs the same.
    """
    lo: dict[str, float] = {}
    hi: dict[str, float] = {}
    seen = np.isfinite(log)
    known = sorted({str(r) for r in regimes[seen & classes[-2]]})
    for name in ["all", *known]:
        kind = seen if name == "all" else seen & (regimes == name)
        candidates = [c & kind for c in (classes if name == "all" else classes[:-1])]
        chosen = next((c for c in candidates if _enough(c, chips)), candidates[-1] if name == "all" else None)
        if chosen is not None and chosen.any():
            low, high = interval(log[chosen]) if chips is None else among_chips(log[chosen], chips[chosen])
            # A bias of left-out chips must not push the prediction out of its own interval.
            lo[name], hi[name] = _round(min(low, 1.0)), _round(max(high, 1.0))
    return lo, hi


def _enough(chosen: Mask, chips: NDArray[np.object_] | None) -> bool:
    return bool(chosen.sum() >= ENOUGH and (chips is None or len(set(chips[chosen])) >= ENOUGH_CHIPS))


def among_chips(log: Array, chips: NDArray[np.object_], coverage: float = 0.8) -> tuple[float, float]:
    """Factors that hold ``coverage`` of the rows of one more chip: quantiles with equal weight for every chip, the next
    chip standing beside them with infinite scores (weighted conformal; Tibshirani et al., arXiv 1904.06019)."""
    _, inverse, counts = np.unique(chips.astype(str), return_inverse=True, return_counts=True)
    weight = 1.0 / counts[inverse]
    order = np.argsort(log)
    share = np.cumsum(weight[order]) / (weight.sum() + CHIP_ALLOWANCE)
    tail = (1.0 - coverage) / 2
    high = log[order][min(int(np.searchsorted(share, 1.0 - tail)), len(log) - 1)]
    # From above the same way: the share of what lies at or above.
    back = np.cumsum(weight[order][::-1]) / (weight.sum() + CHIP_ALLOWANCE)
    low = log[order][::-1][min(int(np.searchsorted(back, 1.0 - tail)), len(log) - 1)]
    return float(np.exp(low)), float(np.exp(high))


#: How much of one chip's weight is set at infinity for the chip that comes: its rows move together, but not as one row.
CHIP_ALLOWANCE = 0.25


def covered(log: Array, regimes: NDArray[np.object_], found: Factors) -> Mask:
    """Whether each measured value lies in the interval that its prediction carries."""
    lo, hi = (np.array([side.get(str(r), side.get("all", 1.0)) for r in regimes]) for side in found)
    inside: Mask = (log >= np.log(lo) - 1e-12) & (log <= np.log(hi) + 1e-12)
    return inside


def width(found: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Ratio of the upper to the lower end, over all regimes."""
    return other.get("all", 1.0) / found.get("all", 1.0)


def _round(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")
