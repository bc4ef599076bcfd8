"""Products on arrays beside one memory: what is fetched twice, how tiles are dealt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models.cost.unit_array import dealt, product, splits, traffic

SIZES = st.integers(1, 300)


def moved(m: int, n: int, k: int, buffer_a: float, buffer_w: float) -> float:
    return float(sum(traffic(m, n, k, bytes_a=2, bytes_w=0.5, bytes_out=2, input_buffer=buffer_a, weight_buffer=buffer_w)))


def test_an_operand_that_fits_crosses_once() -> None:
    once = 64 * 96 * 2 + 32 * 96 * 0.5 + 64 * 32 * 2
    assert moved(64, 32, 96, 64 * 96 * 2, 1) == once == moved(64, 32, 96, 1, 32 * 96 * 0.5)
    assert moved(64, 32, 96, 64 * 96 * 2 - 1, 32 * 96 * 0.5 - 1) > once


def test_of_two_that_do_not_fit_the_cheaper_is_fetched_again() -> None:
    """Activations of 1000 B in pieces of 300, weights of 400 B in pieces of 100: weights 4 times or activations 4 times."""
    t = traffic(10, 8, 50, bytes_a=2, bytes_w=1, bytes_out=1, input_buffer=300, weight_buffer=100)
    assert (t.activations, t.weights, t.results) == (1000, 400 * 4, 80)
    t = traffic(10, 8, 50, bytes_a=2, bytes_w=1, bytes_out=1, input_buffer=300, weight_buffer=350)
    assert (t.activations, t.weights) == (1000 * 2, 400)


@given(SIZES, SIZES, SIZES, st.integers(1, 5000), st.integers(1, 5000))
def test_larger_buffers_never_move_more(m: int, n: int, k: int, a: int, w: int) -> None:
    assert moved(m, n, k, 2 * a, w) <= moved(m, n, k, a, w) >= moved(m, n, k, a, 2 * w)
    assert moved(m, n, k, a, w) >= moved(m, n, k, 1e12, 1e12)


@given(st.integers(1, 500), st.integers(1, 60))
def test_tiles_dealt_one_by_one(tiles: int, arrays: int) -> None:
    held = [0] * arrays
    for i in range(tiles):
        held[i % arrays] += 1
    deal = dealt(tiles, arrays=arrays)
    assert deal.most == max(held)
    assert deal.with_most == held.count(max(held))
    assert deal.with_less == (held.count(max(held) - 1) if max(held) > 1 else 0)


def test_parts_to_try_are_none_too_many_and_dense_enough() -> None:
    assert splits(0.3).tolist() == splits(1).tolist() == [1]
    assert splits(11).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 10]
    for most in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 100, 4097):
        found = splits(most)
        assert 0.75 * most < found.max() <= most
        assert np.all(np.diff(found) > 0)
        assert np.all(found[3:] / found[2:-1] <= 4 / 3)


def test_the_longer_of_computing_and_moving_counts() -> None:
    slow, fast = (product(1, 100, 100, compute=t, dram_bandwidth=1e9, launch=1e-6) for t in (1.0, 1e-9))
    assert slow.time == pytest.approx(1.0 + 1e-6)
    assert fast.time == pytest.approx((100 * 100 + 100 + 100) * 2 / 1e9 + 1e-6)
    assert fast.nbytes == (100 * 100 + 100 + 100) * 2
