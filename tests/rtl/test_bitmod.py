"""BitMoD's golden model and contract against plain arithmetic; no simulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtl.bitmod_unit.contract import TERMS, check_group, cycles, gemm_cycles, in_use, term_cycles
from rtl.bitmod_unit.golden import bitmod_exact, bitmod_group, value_of

SPECIAL = (0x07, 0x0F, 0x35, 0xB7)
HALF = {4: (0, 1, 2, 3, 4, 6, 8, 12), 5: (0, 2, 4, 8)}


@pytest.mark.parametrize("dtype", [0, 1, 2])
def test_integers_are_their_value(dtype: int) -> None:
    n = {0: 256, 1: 64, 2: 16}[dtype]
    assert [value_of(c, dtype, SPECIAL, 0) for c in range(n)] == [c - n if c >= n // 2 else c for c in range(n)]


@pytest.mark.parametrize("dtype", [4, 5])
def test_floats_are_their_value(dtype: int) -> None:
    mags = HALF[dtype]
    got = [value_of(c, dtype, SPECIAL, 0) for c in range(2 * len(mags))]
    assert got == [m / 2 for m in mags] + [8.0] + [-m / 2 for m in mags[1:]]
    assert [2 * value_of(len(mags), dtype, SPECIAL, s) for s in range(4)] == [16, -16, 10, 14]


@given(st.sampled_from(sorted(TERMS)), st.integers(1, 32), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_error_of_a_group_is_bounded(dtype: int, quads: int, scale: int, seed: int) -> None:
    """Below 5 units of 2^(E - 28) per step and unit of scale, E the last exponent unless the sum cancelled to zero."""
    rng = np.random.default_rng(seed)
    act = np.abs(rng.normal(size=4 * quads)).astype(np.float16).view(np.uint16).astype(int).tolist()
    top = {0: 128, 1: 32, 2: 8, 4: 8, 5: 4}[dtype]
    codes = rng.integers(1, top, 4 * quads).tolist()              # one sign: no cancellation
    man, exp = bitmod_group(act, codes, dtype, SPECIAL, 0, scale)
    unit = 2.0 ** (exp - 28 - (in_use(dtype) >= 4))
    assert abs(man * unit - bitmod_exact(act, codes, dtype, SPECIAL, 0, scale)) <= 5 * quads * TERMS[dtype] * unit * scale


def test_one_product_is_exact() -> None:
    for code in range(256):
        man, exp = bitmod_group([0x3C00], [code], 0, SPECIAL, 0, 3)
        assert man * 2.0 ** (exp - 28) == 3 * (code - 256 if code > 127 else code)


def test_part_quads_are_filled() -> None:
    assert bitmod_group([0x3C00] * 3, [7] * 3, 2, SPECIAL, 0, 1) == bitmod_group([0x3C00] * 4, [7, 7, 7, 0], 2, SPECIAL, 0, 1)


def test_cycles() -> None:
    quads, terms = np.array([1, 4, 32]), np.array([[4], [2]])
    assert term_cycles(3, quads, terms=terms).tolist() == [[30, 58, 394], [28, 34, 202]]
    assert cycles(3, 32, terms=4) == 394 - 3
    assert gemm_cycles(8, 8, 128, rows=8, cols=8, group=128, terms=2) == 64 + 10
    assert gemm_cycles(8, 8, quads * 8, rows=4, cols=8, group=128, terms=terms).tolist() == [[26, 74, 522], [26, 42, 266]]


def test_groups_that_may_overflow_are_refused() -> None:
    for dtype, most in ((0, 128), (1, 168), (2, 256), (4, 256), (5, 256)):
        check_group(most, dtype)
        with pytest.raises(ValueError, match=f"holds groups up to {most}"):
            check_group(most + 1, dtype)
