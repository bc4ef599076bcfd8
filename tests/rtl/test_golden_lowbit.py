"""Golden models of the ternary, bit-serial, power-of-two, bit-plane and tile units against plain products; no simulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtl.bitserial_mac.golden import bitserial_gemv, from_slices, to_slices
from rtl.btc_popcount_gemm.golden import btc_gemm, btc_value, plane_product
from rtl.lut_mpgemm_tile.golden import lut_gemm
from rtl.shift_mac.contract import check_beats, most_beats
from rtl.shift_mac.golden import fp16_product, fp16_step, pot_value, shift_dot, shift_fp16
from rtl.ternary_acc.golden import ternary_gemv, tri2_decode, tri2_encode, trit_pack5, trit_unpack5

SEEDS = st.integers(0, 2**32 - 1)


def test_bytes_of_five_trits() -> None:
    every = np.array([[(c // 3**k) % 3 - 1 for k in range(5)] for c in range(243)])
    assert trit_pack5(every).reshape(-1).tolist() == list(range(243))
    t, bad = trit_unpack5(np.arange(256)[:, None])
    assert np.array_equal(t[:243], every)
    assert not t[243:].any()
    assert bad.reshape(-1).tolist() == [False] * 243 + [True] * 13


def test_two_bit_trits() -> None:
    assert tri2_encode([0, 1, -1]).tolist() == [0, 1, 3]
    t, bad = tri2_decode([0, 1, 2, 3])
    assert t.tolist() == [0, 1, 0, -1]
    assert bad.tolist() == [False, False, True, False]


@given(SEEDS)
def test_ternary_rows_are_sums_of_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, t = rng.integers(-128, 128, 15), rng.integers(-1, 2, (3, 15))
    assert ternary_gemv(a, t).tolist() == [int(a[row > 0].sum() - a[row < 0].sum()) for row in t]


@given(st.integers(1, 8), st.sampled_from([1, 2, 4]), st.booleans(), SEEDS)
def test_slices_go_back_and_give_the_product(wbits: int, bpc: int, signed: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, w = rng.integers(-128, 128, 9), rng.integers(0, 1 << wbits, 9) - (1 << (wbits - 1)) * signed
    slices = to_slices(w, wbits, bpc, signed)
    assert slices.min() >= 0
    assert slices.max() < 1 << bpc
    assert np.array_equal(from_slices(slices, bpc, signed), w)
    assert bitserial_gemv(a, w, wbits, signed) == int(a @ w)


@given(st.integers(2, 4), SEEDS)
def test_shifts_are_products(b: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, code, mask = rng.integers(-128, 128, 9), rng.integers(0, 1 << b, 9), rng.integers(0, 2, 9)
    assert shift_dot(a, code, b, mask) == int((a * pot_value(code, b))[mask == 1].sum())
    assert set(np.abs(pot_value(np.arange(1 << b), b)).tolist()) == {1 << e for e in range(1 << (b - 1))}


@given(st.integers(1, 8), st.integers(1, 8), st.booleans(), SEEDS)
def test_planes_add_up_to_the_product(pa: int, pw: int, bipolar: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, w = rng.integers(0, 1 << pa, (2, 7)), rng.integers(0, 1 << pw, (3, 7))
    planes = sum(plane_product(a >> j & 1, w >> i & 1, i, j, pa, pw, bipolar) for i in range(pw) for j in range(pa))
    assert np.array_equal(planes, btc_gemm(a, w, pa, pw, bipolar))


def test_values_of_codes() -> None:
    assert btc_value([0, 1], 1, True).tolist() == [-1, 1]
    assert btc_value([0, 1], 1, False).tolist() == [0, -1]
    assert btc_value(range(8), 3, True).tolist() == [-7, -5, -3, -1, 1, 3, 5, 7]
    assert btc_value(range(8), 3, False).tolist() == [0, 1, 2, 3, -4, -3, -2, -1]


@given(st.integers(2, 4), st.integers(1, 4), SEEDS)
def test_tile_is_the_product_of_odd_weights(k: int, wbits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, q = rng.integers(-128, 128, (2, 3 * k)), rng.integers(0, 1 << wbits, (5, 3 * k))
    assert np.array_equal(lut_gemm(a, q, wbits, k), a @ (2 * q - ((1 << wbits) - 1)).T)


@pytest.mark.parametrize("shift", range(8))
def test_fp16_products_are_those_of_binary16(shift: int) -> None:
    codes = np.arange(1 << 16)
    with np.errstate(over="ignore", invalid="ignore"):
        due = (codes.astype(np.uint16).view(np.float16) * np.float16(-1) * np.float16(1 << shift)).astype(np.float64)
    found = [fp16_product(int(c), 8 | shift, 4) for c in codes]
    value = np.array([m * 2.0 ** (e - 25) for m, e, _ in found])
    finite = np.isfinite(due)
    assert np.array_equal(value[finite], due[finite])
    assert (np.abs(value[~finite]) == 65504).all()
    assert np.array_equal([flagged for _, _, flagged in found], ~finite)
    assert all(abs(m) >= 1024 or e == 1 for m, e, _ in found)
    assert np.array_equal(np.sign(value[~finite]), np.where(codes[~finite] >> 15, 1, -1))


@given(st.integers(1, 16), st.integers(1, 40), SEEDS)
def test_fp16_sums_keep_their_bound(lanes: int, beats: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = (rng.normal(size=(beats, lanes)) * 2.0 ** rng.integers(-20, 4, (beats, lanes))).astype(np.float16)
    code, mask = rng.integers(0, 16, (beats, lanes)), rng.integers(0, 2, (beats, lanes))
    exact = float((a.astype(np.float64) * pot_value(code, 4) * mask).sum())
    bits = a.view(np.uint16).astype(np.int64)
    steps = [fp16_step(x.tolist(), c.tolist(), 4, on.tolist())[0] for x, c, on in zip(bits, code, mask, strict=True)]
    m, e = shift_fp16(steps)
    top = max((s.exp for s in steps if s), default=0)
    assert abs(m * 2.0 ** (e - 28) - exact) <= beats * (lanes + 1) * 2.0 ** (top - 28)
    assert max((abs(s.total) for s in steps if s), default=0) < lanes << 14


def test_beats_of_an_accumulator() -> None:
    assert (most_beats(16, 32), most_beats(3, 24)) == (8192, 128)
    check_beats(8192, 16)
    with pytest.raises(ValueError, match=r"beats = 8193: ACC_W = 32 holds 8192"):
        check_beats(8193, 16)
