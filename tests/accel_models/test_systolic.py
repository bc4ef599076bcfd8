"""Systolic arrays: the closed form against data that move cycle by cycle, tilings, fixed shapes, overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.cost.systolic import DATAFLOWS, array_cycles, systolic
from accel_models.cost.systolic_array import simulate

HW: dict[str, Any] = {"peak": 2e12, "n_units": 4, "array_rows": 16, "array_cols": 16, "scratchpad": 1e6,
                      "dram_bandwidth": 5e10}
size = st.integers(1, 9)
side = st.integers(1, 5)


@settings(max_examples=60, deadline=None)
@given(m=size, n=size, k=size, rows=side, cols=side, dataflow=st.sampled_from(DATAFLOWS), shadow=st.booleans(),
       seed=st.integers(0, 99))
def test_the_closed_form_is_what_the_array_needs_and_the_array_multiplies(
        m: int, n: int, k: int, rows: int, cols: int, dataflow: str, shadow: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, w = (rng.integers(-9, 9, s).astype(float) for s in ((m, k), (k, n)))
    run = simulate(a, w, array_rows=rows, array_cols=cols, dataflow=dataflow, shadow=shadow)
    np.testing.assert_array_equal(run.product, a @ w)
    form = array_cycles(m, n, k, array_rows=rows, array_cols=cols, dataflow=DATAFLOWS.index(dataflow), shadow=shadow)
    assert run.cycles == form.total
    assert form.total == form.stream + form.fill


def test_an_unknown_dataflow_is_named() -> None:
    with pytest.raises(ValueError, match="dataflow: 'row', known: weight, output, input"):
        simulate(np.ones((2, 2)), np.ones((2, 2)), array_rows=2, array_cols=2, dataflow="row")


def test_one_full_tile_without_second_registers_takes_the_published_number() -> None:
    # SCALE-Sim: 2R + C + T - 2 cycles a tile.
    assert array_cycles(100, 8, 16, array_rows=16, array_cols=8, shadow=0).total == 2 * 16 + 8 + 100 - 2


def test_nothing_to_do_takes_no_cycle_and_the_fixed_time() -> None:
    assert array_cycles(0, 8, 8, array_rows=4, array_cols=4).total == 0
    cost = systolic(0, 8, 8, **HW, overhead=1e-4)
    assert cost.time == cost.launch == 1e-4


def test_a_stream_fills_the_array_only_when_it_is_long() -> None:
    # Weight-stationary: few rows wait for the next weights; output-stationary streams k, however few the rows.
    def busy(m: float, dataflow: str) -> float:
        used = array_cycles(m, 4096, 4096, array_rows=128, array_cols=128, dataflow=DATAFLOWS.index(dataflow))
        return float(m * 4096 * 4096 / 128**2 / used.total)

    assert busy(8, "weight") == pytest.approx(8 / 128, rel=0.01)
    assert busy(4096, "weight") > 0.99
    assert busy(128, "output") > 0.99
    assert busy(8, "output") == pytest.approx(8 / 128, rel=0.01)     # the other rows of the array hold nothing


def test_large_products_reach_the_peak_and_arrays_share_one_product() -> None:
    one, four = (systolic(4096, 4096, 4096, **HW | {"n_units": u, "peak": 5e11 * u, "scratchpad": 1e9, "dram_bandwidth": 1e15})
                 for u in (1, 4))
    assert one.flops / 5e11 / one.time > 0.99
    assert one.time / four.time == pytest.approx(4.0, rel=0.01)
    narrow = systolic(4096, 16, 4096, **HW | {"scratchpad": 1e9, "dram_bandwidth": 1e15})     # one tile of columns: by rows
    assert narrow.flops / HW["peak"] / narrow.time > 0.9


def test_a_larger_scratchpad_fetches_less_down_to_every_operand_once() -> None:
    nbytes = systolic(2048, 2048, 2048, **HW | {"scratchpad": np.array([3e4, 1e5, 1e6, 1e8])}).nbytes
    assert np.all(np.diff(nbytes) < 0)
    assert nbytes[-1] == 3 * 2048**2
    # Output blocks of 4-byte sums alone: at least 2 m n k / sqrt(S / 4) elements (Hong and Kung), here within a factor of 2.
    assert 2 * 2048**3 / np.sqrt(1e5 / 4) < nbytes[1] < 4 * 2048**3 / np.sqrt(1e5 / 4)


def test_the_thin_operand_stays_and_the_other_streams_past_it_once() -> None:
    small = HW | {"scratchpad": 3.5e5}                       # holds 64 x 4096 of the one, not the sums of 64 x 16384
    for m, n in ((64, 16384), (16384, 64)):
        assert systolic(m, n, 4096, **small).nbytes == m * 4096 + n * 4096 + m * n


def test_double_buffering_hides_the_shorter_of_load_and_compute_but_for_the_first_block() -> None:
    both = systolic(512, 2048, 2048, **HW, double_buffer=np.array([0.0, 1.0]))
    alone, hidden = both.time
    assert hidden < alone
    assert alone - hidden == pytest.approx(min(both.compute[0], both.memory[0]), rel=0.2)
    assert hidden > max(both.compute[1], both.memory[1])


def test_a_graph_of_a_fixed_shape_runs_whole_however_few_rows_it_gets() -> None:
    time = systolic(np.array([1.0, 256.0, 257.0, 512.0]), 2048, 2048, **HW, graph_rows=256, overhead=1e-4).time
    assert time[0] == time[1]
    np.testing.assert_allclose(time[2:], 2 * time[1], rtol=1e-12)


def test_rows_are_padded_to_the_group_that_they_are_stored_in() -> None:
    one, whole = systolic(np.array([65.0, 128.0]), 2048, 2048, **HW, row_quantum=64).time
    assert one == whole


def test_preparing_weights_bounds_a_product_by_their_number_not_by_its_rows() -> None:
    cost = systolic(np.array([32.0, 64.0]), 4096, 4096, **HW | {"peak": 1e14, "dram_bandwidth": 1e12}, prepare_time=1e-10)
    np.testing.assert_allclose(cost.compute, 4096 * 4096 * 1e-10)
    assert cost.time[1] / cost.time[0] < 1.01


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 3000), n=st.integers(1, 3000), k=st.integers(1, 3000), dataflow=st.integers(0, 2),
       double=st.integers(0, 1), more=st.sampled_from(["m", "n", "k", "batch"]))
def test_more_work_never_costs_less_and_nothing_beats_the_peak_or_the_bandwidth(
        m: int, n: int, k: int, dataflow: int, double: int, more: str) -> None:
    work = {"m": m, "n": n, "k": k, "batch": 2}
    fixed: dict[str, Any] = {"dataflow": dataflow, "double_buffer": double}
    cost, larger = (systolic(**w, **HW, **fixed) for w in (work, work | {more: work[more] + 37}))
    assert larger.time >= cost.time * 0.995
    assert cost.time >= cost.flops / HW["peak"] * (1 - 1e-12)
    assert cost.time >= 2 * (m * k + n * k + m * n) / HW["dram_bandwidth"] * (1 - 1e-12)
