"""The CPU fit: its table, that the stored parameters are what it finds, and how well held-back rows are predicted."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from accel_models import fitted_store
from accel_models.families import FAMILIES
from validate.fit import mape
from validate.fit_cpu import PARAMETERS, TAKES, _row, fit_rows, predicted, rows, text, using

STORED = {k: v for s in fitted_store.load("cpu").set for k, v in s.values.items()}


def _error(part: str) -> float:
    chosen = [r for r in rows() if r.part == part]
    return mape(predicted(chosen, STORED), np.array([1.0 / r.per_s for r in chosen]))


def test_the_stored_fit_is_of_this_table_and_covers_every_kernel() -> None:
    stored = fitted_store.load("cpu")
    assert stored.data_sha256 == hashlib.sha256(text().encode()).hexdigest(), "run: python -m validate.fit_cpu --out ..."
    assert {s.variant for s in stored.set} == set(TAKES)
    for s in stored.set:
        assert set(s.values) == set(TAKES[s.variant])
        assert s.lo["all"] <= 1.0 <= s.hi["all"]


def test_fitting_again_finds_the_stored_values_inside_their_bounds() -> None:
    found = fit_rows([r for r in rows() if r.part == "fit"])
    assert not found.undetermined
    for p in PARAMETERS:
        assert found.values[p.name] == pytest.approx(STORED[p.name], rel=0.02)
        assert p.lo * 1.01 < found.values[p.name] < p.hi * 0.99


def test_devices_of_the_fit_are_not_among_the_rows_held_back() -> None:
    seen = {r.device for r in rows() if r.part == "fit"}
    assert not seen & {r.device for r in rows() if r.part != "fit"}
    assert {len({r.framework for r in rows() if r.device == d}) for d in seen} == {2}


def test_errors_stay_where_they_were() -> None:
    """11 % on the rows of the fit, 15 % on those held back; a roofline of the weights' bytes errs by several times that."""
    assert _error("fit") < 0.13
    assert _error("held") < 0.18


def test_table_look_up_gains_more_the_fewer_the_bits() -> None:
    one_core = {(r.framework[:4], r.quant): r.per_s for r in rows() if r.device == "apple_m2_ultra.cpu" and r.threads == 1
                and r.quant in ("q2_k", "q4_0", "int2_g128z", "int4_g128") and r.per_s != 6.49}
    with using(STORED):
        model = {(r.framework[:4], r.quant): r.rate() for r in rows() if r.device == "apple_m2_ultra.cpu"
                 and r.threads == 1 and (r.framework[:4], r.quant) in one_core and r.per_s != 6.49}
    for rates in (one_core, model):
        assert rates["tmac", "int2_g128z"] / rates["llam", "q2_k"] > 1.8 * rates["tmac", "int4_g128"] / rates["llam", "q4_0"]


def test_trial_parameters_do_not_stay() -> None:
    before = FAMILIES["cpu_simd"]
    with pytest.raises(KeyError), using({}):
        rows()[0].rate()
    assert FAMILIES["cpu_simd"] is before


def test_a_wrong_row_is_named() -> None:
    bad = {"phase": "train", "part": "fit"}
    with pytest.raises(ValueError, match=r"cpu_kernels.csv: line 7: phase: found 'train', expected decode, prefill, product"):
        _row(7, bad)
