"""The in-flash core's address code and golden model against plain arithmetic; its page as published, on the Verilog."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtl.flash_page_gemv.contract import gemm_cycles, page_cycles
from rtl.flash_page_gemv.golden import columns, flash_encode, flash_gemv, secded_decode, secded_encode, vote
from rtl.harness.registry import load
from rtl.harness.run import verify

AW = 14


def test_columns_are_those_of_the_specification() -> None:
    assert columns(AW) == (3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19)


@given(st.integers(0, (1 << AW) - 1))
def test_one_wrong_bit_is_corrected_and_two_are_found(addr: int) -> None:
    word = addr | secded_encode(addr, AW) << AW
    for flips in [(), *combinations(range(AW + 6), 1), *combinations(range(AW + 6), 2)]:
        wrong = word ^ sum(1 << b for b in flips)
        found, fixed, bad = secded_decode(wrong & ((1 << AW) - 1), wrong >> AW, AW)
        assert (fixed, bad) == (len(flips) == 1, len(flips) == 2)
        assert bad or found == addr


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.2))
def test_without_errors_it_is_the_product(seed: int, frac: float) -> None:
    rng = np.random.default_rng(seed)
    page, x = rng.integers(-128, 128, 256), rng.integers(-128, 128, 16)
    thr, entries = flash_encode(page, frac, 8)
    y, *counts = flash_gemv(page & 255, x, [thr] * 9, entries, 16, 8, 2)
    assert y.tolist() == (page.reshape(-1, 16) @ x).tolist()
    assert counts == [0, 0, 0]


@given(st.integers(0, 2**32 - 1))
def test_wrong_high_bits_of_small_weights_are_zeroed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    page = np.clip(rng.normal(0, 8, 256).round(), -60, 60).astype(np.int64)
    page[:3] = 100, -120, 127
    thr, entries = flash_encode(page, 3 / 256, 8)
    raw, hit = page & 255, np.unique(rng.integers(3, 256, 5))
    raw[hit] ^= 64                                                # beyond the threshold in either sign
    right = page.copy()
    right[hit] = 0
    y, fixed, drop, zero = flash_gemv(raw, np.ones(16, dtype=np.int64), [thr] * 9, entries, 16, 8, 2)
    beyond = np.abs((raw[hit] + 128) % 256 - 128) > thr
    assert (fixed, drop, zero) == (0, 0, int(beyond.sum()))
    if beyond.all():
        assert y.tolist() == right.reshape(-1, 16).sum(axis=1).tolist()


def test_five_of_nine_copies_decide() -> None:
    assert vote([7] * 5 + [0xF8] * 4) == 7
    assert vote([7] * 4 + [0xF8] * 5) == 0xF8


def test_cycles() -> None:
    assert page_cycles(16384, macs=2, entries=np.array([0, 1, 163])).tolist() == [8194, 8196, 8358]
    assert gemm_cycles(1, 256, np.array([256, 300]), cores=2, page=16384, cols=256, macs=2).tolist() == [2 * 8322, 4 * 8322]
    assert gemm_cycles(1, 128, 256, cores=2, page=16384, cols=256, macs=2, t_read=10000) == 10000


@pytest.mark.rtl
def test_a_whole_page_takes_what_the_contract_says() -> None:
    """16 384 weights, 163 protected: 8358 edges from the command, and 128 before it for the vector."""
    out = verify(load("flash_page_gemv"), {}, tests="contract")
    assert not out.failed, out.failed
    took = [(r["work"]["entries"], r["rtl"]) for r in out.record["cycles"]]      # each from reset, then behind another job
    assert took == [(163, 8358 + 128)] * 2 + [(0, 8194 + 128)] * 2
