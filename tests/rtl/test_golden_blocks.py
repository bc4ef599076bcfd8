"""Golden models of block alignment and of product-quantised scores against plain arithmetic; no simulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtl.bfp_align.contract import cycles as align_cycles
from rtl.bfp_align.golden import bfp_align, fp16_fixed
from rtl.pq_score.contract import cycles as pq_cycles
from rtl.pq_score.contract import score_cycles, table_cycles
from rtl.pq_score.golden import pq_score, pq_table

EVERY = np.arange(1 << 16)
HALVES = EVERY.astype(np.uint16).view(np.float16).astype(np.float64)
SEEDS = st.integers(0, 2**32 - 1)


def test_every_code_is_its_value_or_the_largest() -> None:
    x, _, bad = fp16_fixed(EVERY)
    assert np.array_equal(bad, ~np.isfinite(HALVES))
    assert np.array_equal(x[~bad] * 2.0**-24, HALVES[~bad])
    assert np.array_equal(x[bad] * 2.0**-24, np.where(EVERY[bad] >> 15 == 1, -65504.0, 65504.0))


@pytest.mark.parametrize("n", [2, 4, 8, 11, 12, 13, 16])
def test_every_code_alone_and_below_every_exponent(n: int) -> None:
    codes = EVERY[np.isfinite(HALVES)]
    for lead in (0, 1 << 10, 5 << 10, 16 << 10, 30 << 10):
        m, e, bad = bfp_align(np.stack([codes, np.full_like(codes, lead)], axis=1), n)
        largest = np.maximum(np.maximum(np.abs(HALVES[codes]), HALVES[lead]), 2.0**-14)
        assert np.array_equal(e, np.frexp(largest)[1] + 14)
        exact = HALVES[codes] * 2.0 ** (n - 2 - (e - 15))
        most = (1 << (n - 1)) - 1
        assert np.array_equal(m[:, 0], np.clip(np.rint(exact), -most, most))
        assert np.all(np.abs(m[:, 0] - exact) <= np.where(np.abs(np.rint(exact)) > most, 1.0, 0.5))
        assert not bad.any()


@given(st.integers(2, 16), SEEDS)
def test_a_block_of_one_more_bit_is_never_further_off(n: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 0x7C00, (4, 32))
    x = HALVES[codes]
    off = []
    for bits in (n, n + 1):
        m, e, _ = bfp_align(codes, bits)
        off.append(np.abs(m * 2.0 ** ((e[:, None] - 15) - (bits - 2)) - x))
    assert np.all(off[1].max(axis=1) <= off[0].max(axis=1))


@given(st.integers(1, 9), st.integers(1, 6), st.integers(1, 4), SEEDS)
def test_scores_are_products_with_the_decoded_keys(m: int, b: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    query, codebook = rng.integers(-128, 128, (m, d)), rng.integers(-128, 128, (m, 1 << b, d))
    codes = rng.integers(0, 1 << b, (7, m))
    keys = np.stack([codebook[np.arange(m), c].reshape(-1) for c in codes])
    assert np.array_equal(pq_score(pq_table(query, codebook), codes), keys @ query.reshape(-1))


def test_contracts_as_specified() -> None:
    assert align_cycles(1, block=32, lanes=8) == 2 * 4 + 2
    assert np.diff(align_cycles(np.arange(1, 9), block=33, lanes=8)).tolist() == [5] * 7
    assert score_cycles(np.array([1, 10]), subvectors=np.array([[8], [9]]), lanes=4).tolist() == [[4, 22], [5, 32]]
    assert table_cycles(subvectors=64, lanes=1, bits=8) == 64 * 256
    one = pq_cycles(1, 10, subvectors=8, lanes=4, bits=4)
    assert one == table_cycles(subvectors=8, lanes=4, bits=4) - 1 + score_cycles(10, subvectors=8, lanes=4)
