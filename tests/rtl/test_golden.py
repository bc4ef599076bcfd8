"""Golden models against oracles that know nothing of their unit's way of computing; no simulator."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtl.base_fp16_mac.golden import fp16_mac
from rtl.lut_dot.golden import lut_dot, lut_encode
from rtl.lut_table_gen.golden import lut_table, lut_table_quant
from rtl.nbit_unpack.golden import widen

CODES = st.integers(0, 0xFFFF).filter(lambda c: (c >> 10) & 31 != 31)


@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_lookup_is_the_dot_product_of_odd_weights(k: int, wbits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, q = rng.integers(-128, 128, 3 * k), rng.integers(0, 1 << wbits, 3 * k)
    assert lut_dot(a, q, wbits, k) == int(a @ (2 * q - ((1 << wbits) - 1)))


@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_half_a_table_is_enough(k: int, seed: int) -> None:
    a = np.random.default_rng(seed).integers(-128, 128, k)
    table = lut_table(a, k)
    for code in range(1 << k):
        signs = [1 if code >> j & 1 else -1 for j in range(k)]
        i = int(lut_encode([[s > 0 for s in signs]], 1, k)[0, 0, 0])
        low = table[i & ((1 << (k - 1)) - 1)]
        assert (-low if i >> (k - 1) else low) == a @ signs


@given(st.integers(4, 16), st.integers(0, 2**32 - 1))
def test_rounded_tables_are_within_half_a_step(a_w: int, seed: int) -> None:
    a = np.random.default_rng(seed).integers(-(1 << (a_w - 1)), 1 << (a_w - 1), (5, 4))
    table = lut_table(a, 4)
    q, e = lut_table_quant(table, 8)
    error, step = np.abs(table - (q << e[:, None])), (1 << e)[:, None]
    assert np.all(error <= np.where(np.abs(q) == 127, step, step / 2))
    assert np.all(np.abs(table).max(axis=-1) == np.abs(a).sum(axis=-1))


@given(st.lists(st.tuples(CODES, CODES), min_size=1, max_size=12))
def test_fp16_sums_are_numpys(pairs: list[tuple[int, int]]) -> None:
    total = np.float32(0)
    for a, w in pairs:
        x, y = (np.float32(np.uint16(c).view(np.float16)) for c in (a, w))
        total = np.float32(total + x * y)
    assert fp16_mac(pairs, 23) == int(total.view(np.uint32))


def test_widened_codes() -> None:
    assert widen([0, 1, 2, 3], 2, True).tolist() == [0, 1, -2, -1]
    assert widen([0, 1, 2, 3], 2, False).tolist() == [0, 1, 2, 3]
