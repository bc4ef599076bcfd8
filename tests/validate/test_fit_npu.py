"""The fit of NPU products: what it reproduces, what it holds back, and published figures beside it."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest

from accel_models import fitted_store
from accel_models.fitted_store import FittedFile
from validate import fit_npu
from validate.fit import Parameter
from validate.fitted_text import fitted_text
from validate.measured import read
from validate.rows import SAMPLE


@pytest.fixture(scope="module")
def made() -> tuple[fit_npu.Study, ...]:
    return fit_npu.studies()


def test_two_constants_explain_the_int8_rows_and_one_the_fp16_rows(made: tuple[fit_npu.Study, ...]) -> None:
    int8, fp16 = made
    assert int8.fitted < 0.06
    assert int8.held < 0.10
    assert int8.others < 0.16
    assert fp16.fitted < 0.03
    assert fp16.held < 0.14
    assert fp16.others < 0.12
    roofline = fit_npu.predict(fit_npu.rows("npu", "int8"), {})
    assert np.all(roofline < 0.25 * fit_npu.rows("npu", "int8")["time_s"])       # the plain hardware: 5 to 11 times too fast


def test_the_shipped_file_is_this_fit_of_these_rows(made: tuple[fit_npu.Study, ...]) -> None:
    file = fitted_store.load("systolic")
    assert file.data_sha256 == read("npu_matmul", SAMPLE).digest()
    assert file.set == fit_npu.sets(made)
    again = FittedFile.model_validate(tomllib.loads(fitted_text(file)))
    assert again == file


def test_a_constant_that_the_rows_do_not_show_is_refused() -> None:
    with pytest.raises(ValueError, match="the rows do not determine dram_efficiency; nothing written"):
        fit_npu.study("int8", (fit_npu.OVERHEAD, fit_npu.PREPARE, Parameter("dram_efficiency", 0.8, 0.5, 1.0)), {})


def test_rows_say_nothing_about_m_for_m_times_k_is_the_same_in_all() -> None:
    t = read("npu_matmul", SAMPLE)
    assert len(t) == 18
    assert set(t["m"] * t["k"]) == {131072.0}


def test_padding_of_a_narrow_shape_points_the_measured_way_and_overstates_it(made: tuple[fit_npu.Study, ...]) -> None:
    assert fit_npu.stored_rows(32, 32) == 1024
    assert fit_npu.stored_rows(1024, 1) == 8192
    gains = [fit_npu.shape_gain(made[0].values, n, 2048.0) for n in (2048.0, 5504.0)]
    assert all(fit_npu.MEASURED_SHAPE_GAIN < g < 4.0 for g in gains)


def test_products_alone_are_most_of_three_measured_prefills_and_exceed_none(made: tuple[fit_npu.Study, ...]) -> None:
    # Chunks of 256 rows, four times what the fit saw: the rest of a prefill is float work and waiting on the CPU.
    for model in fit_npu.MEASURED_PREFILLS:
        least, most = (fit_npu.prefill_share(model, made[0].values, n) for n in fit_npu.CHUNKS)
        assert 0.5 < least < most < 1.0, model


def test_the_bare_matrix_unit_bounds_a_measured_prefill_within_a_quarter() -> None:
    assert 1.0 < fit_npu.prefill_bound() / fit_npu.MEASURED_PREFILL < 1.25


def test_the_phones_gpu_follows_weights_too() -> None:
    fixed, each, held = fit_npu.gpu_line()
    assert 5e-4 < fixed < 1.2e-3
    assert each == pytest.approx(2e-10, rel=0.1)
    assert held < 0.15
