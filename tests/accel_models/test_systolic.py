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
size = st.integers(1, 11)
side = st.integers(1, 5)


@settings(max_examples=150, deadline=None)
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
