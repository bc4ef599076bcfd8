"""Golden model of ``lut_mpgemm_tile``: products through tables, one bit-plane at a time. Integer numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from rtl.lut_dot.golden import Ints, lut_encode, wrapped
from rtl.lut_table_gen.golden import lut_table, lut_table_quant


def tile_planes(tables: ArrayLike, exps: ArrayLike, idx: ArrayLike, k: int) -> Ints:
    """What the planes of one group add: int64[M, N].

    Tables int[M, 2^(k-1)] with exponents int[M], indices int[N, planes], planes LSB first: (+/-)T[idx_low] << (p + exp).
    """
    t, e, i = (np.asarray(x, dtype=np.int64) for x in (tables, exps, idx))
    value = t[:, i & ((1 << (k - 1)) - 1)] * np.where(i >> (k - 1) == 1, -1, 1)        # [M, N, planes]
    total: Ints = (value << (np.arange(i.shape[1]) + e[:, None, None])).sum(axis=2)
    return total


def lut_gemm(a: ArrayLike, q: ArrayLike, wbits: int, k: int, quant: int | None = None, acc_w: int = 32) -> Ints:
    """int64[M, N]: activations int[M, Ktot] times weight codes int[N, Ktot] (value 2q - (2^wbits - 1)), modulo 2^acc_w.

    ``quant``: table entries in that many bits with one exponent per table, or ``None`` for exact ones.
    """
    x = np.asarray(a, dtype=np.int64)
    tables = lut_table(x.reshape(x.shape[0], -1, k), k)                                # [M, G, 2^(k-1)]
    exps = np.zeros(tables.shape[:2], dtype=np.int64)
    if quant is not None:
        tables, exps = lut_table_quant(tables, quant)
    idx = lut_encode(q, wbits, k)
    return wrapped(sum(tile_planes(tables[:, g], exps[:, g], idx[:, g], k) for g in range(idx.shape[1])), acc_w)
