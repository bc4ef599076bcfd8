"""A matrix product played on the golden model of ``sparse_dsp_chain``: right, and in as many beats as ``gemm_cycles`` says."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from rtl.sparse_dsp_chain.contract import UNIT, cycles, gemm_cycles
from rtl.sparse_dsp_chain.golden import Ints, sparse_nm_dot


def pruned(rng: np.random.Generator, n: int, k: int, block: int, kept: int) -> tuple[Ints, Ints]:
    """Weights int[n, k] with ``kept`` of each block, and the indices int[n, k kept / block] of those kept."""
    order = np.sort(np.argsort(rng.random((n, k // block, block)), axis=2)[:, :, :kept], axis=2)
    keep = np.zeros((n, k // block, block), dtype=np.int64)
    np.put_along_axis(keep, order, 1, axis=2)
    return rng.integers(-127, 128, (n, k)) * keep.reshape(n, k), order.reshape(n, -1)


def play(a: Ints, w: Ints, index: Ints, *, lanes: int, block: int, kept: int, segments: int) -> tuple[Ints, int]:
    """int64[2, segments] of two rows a: int[2, k] and as many columns w: int[segments, k]; and the beats it took."""
    per, each = lanes // segments, index.shape[1]
    total, beats = np.zeros((2, 4), dtype=np.int64), 0
    for first in range(0, each, per):
        window = np.zeros((2, lanes * block), dtype=np.int64)
        values, x = np.zeros((2, lanes), dtype=np.int64)
        for s, j in product(range(segments), range(min(per, each - first))):
            d, i = s * per + j, first + j
            start = i // kept * block
            x[d], values[d] = index[s, i], w[s, start + index[s, i]]
            if kept == block:
                window[:, d] = a[:, i]
            else:
                window[:, d // kept * block:(d // kept + 1) * block] = a[:, start:start + block]
        total, beats = total + sparse_nm_dot(window, values, x, kept, block, segments), beats + 1
    return total[:, :segments], beats


@pytest.mark.parametrize("segments", [1, 2, 4])
@pytest.mark.parametrize(("lanes", "block", "kept"), [(8, 4, 1), (8, 4, 2), (8, 4, 4), (4, 8, 2), (4, 2, 1), (8, 2, 2)])
def test_products_take_the_beats_of_the_contract(lanes: int, block: int, kept: int, segments: int) -> None:
    rng = np.random.default_rng(lanes + block + kept)
    m, n, k = 4, 8, 5 * block
    a = rng.integers(-128, 128, (m, k))
    w, index = pruned(rng, n, k, block, kept)
    y, total = np.zeros((m, n), dtype=np.int64), 0
    for r, c in product(range(0, m, 2), range(0, n, segments)):
        part, beats = play(a[r:r + 2], w[c:c + segments], index[c:c + segments], lanes=lanes, block=block, kept=kept,
                           segments=segments)
        y[r:r + 2, c:c + segments], total = part, total + beats
    assert np.array_equal(y, a @ w.T)
    assert gemm_cycles(m, n, k, lanes=lanes, block=block, kept=kept, segments=segments) == cycles(total)


def test_sparsity_saves_what_it_leaves_out() -> None:
    """Everything broadcasts; in long rows 1:4 takes a quarter of the beats of dense."""
    kept = np.array([1, 2, 4])
    t = gemm_cycles(np.array([[2], [64]]), 16, 4096, lanes=8, block=4, kept=kept, segments=1)
    assert ((t - 2) * 4 == (t[:, 2:] - 2) * kept).all()
    assert UNIT.macs_per_cycle is not None
    assert [UNIT.macs_per_cycle(UNIT.resolve({}), {"n": int(n)}) for n in kept] == [64, 32, 16]
