"""Golden model of ``pq_score``, from the specification: sums of table entries that codes select. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


def pq_table(query: ArrayLike, codebook: ArrayLike) -> Ints:
    """Table int[m, 2^b] of a query int[m, d] with centroids int[m, 2^b, d]: the product with every centroid."""
    table: Ints = np.einsum("md,mcd->mc", np.asarray(query, dtype=np.int64), np.asarray(codebook, dtype=np.int64))
    return table


def pq_score(table: ArrayLike, codes: ArrayLike) -> Ints:
    """Scores int[tokens] of codes int[tokens, m] with tables int[m, 2^b]: sum over j of table[j][code_j]."""
    t, c = np.asarray(table, dtype=np.int64), np.asarray(codes, dtype=np.int64)
    scores: Ints = np.take_along_axis(t[None], c[..., None], axis=2)[..., 0].sum(axis=1)
    return scores
