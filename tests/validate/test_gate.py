"""The accuracy gate: the reference sample through the ordinary path of ``perfboard predict``."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from validate import gate
from validate.measured import held_out
from validate.rows import SAMPLE, TABLES, Predicted, header_of, predict


@pytest.fixture(scope="module")
def sample() -> Predicted:
    return predict(SAMPLE)


def test_no_regime_is_predicted_worse_than_stored(sample: Predicted) -> None:
    assert gate.worse(gate.measure(sample), gate.stored()) == []


def test_the_sample_is_small_and_says_where_its_rows_come_from() -> None:
    rows = 0
    for name in TABLES:
        header = header_of(SAMPLE / f"{name}.csv")
        assert {"source", "device", "condition"} <= set(header)
        with (SAMPLE / f"{name}.csv").open(newline="") as f:
            for row in csv.DictReader(f):
                rows += 1
                assert row["source"]
                assert row["device"]
                assert row["condition"]
    assert 1500 < rows <= 2000


@pytest.mark.parametrize("name", sorted(TABLES))
def test_no_fit_has_seen_a_row_of_the_sample(name: str) -> None:
    read, problem = TABLES[name]
    assert held_out(read(SAMPLE), problem.family).all()


def test_coverage_of_the_sample_is_near_its_nominal_level(sample: Predicted) -> None:
    inside = (sample.measured >= sample.lo) & (sample.measured <= sample.hi)
    assert 0.74 <= inside[np.isfinite(sample.predicted)].mean() <= 0.90


def test_a_worse_error_is_seen(sample: Predicted) -> None:
    slower = sample._replace(predicted=sample.predicted * 1.3)
    said = gate.worse(gate.measure(slower), gate.stored())
    assert any("all, all: error" in s for s in said)
    assert any("gemm, compute: error" in s for s in said)


def test_a_regime_that_vanishes_is_seen(sample: Predicted) -> None:
    moved = sample._replace(regime=np.where((sample.op == "moe") & (sample.regime == "memory"), "compute", sample.regime))
    said = [s for s in gate.worse(gate.measure(moved), gate.stored()) if "no row" in s]
    assert said == [s for s in said if s.startswith("moe, memory: no row is predicted any more")]
    assert len(said) == 1


@pytest.mark.parametrize("op", [*sorted(TABLES), "all"])
def test_one_lost_prediction_is_seen(op: str, sample: Predicted) -> None:
    first = int(np.flatnonzero((sample.op == op) | (op == "all"))[0])
    lost = sample._replace(predicted=np.where(np.arange(len(sample.op)) == first, np.nan, sample.predicted))
    n = next(int(r["n"]) for r in gate.stored() if (r["op"], r["regime"]) == (op, "all"))
    assert f"{op}: {n - 1} rows predicted, {n} before" in gate.worse(gate.measure(lost), gate.stored())


@pytest.mark.parametrize("width", [0.6, 1.6])
def test_a_coverage_that_moves_either_way_is_seen(width: float, sample: Predicted) -> None:
    lo = sample.predicted * (sample.lo / sample.predicted) ** width
    hi = sample.predicted * (sample.hi / sample.predicted) ** width
    said = gate.worse(gate.measure(sample._replace(lo=lo, hi=hi)), gate.stored())
    assert any("all, all: coverage" in s for s in said)
    assert any("gemm, memory: coverage" in s for s in said)
    assert not any("error" in s or "rows" in s for s in said)


def test_a_coverage_may_drift_by_the_stated_amount_and_no_more() -> None:
    then = [{"op": "gemm", "regime": "all", "n": 1000.0, "mape": 0.1, "coverage": 0.80}]
    drift = [-gate.DRIFT - 0.002, -gate.DRIFT, 0.0, gate.DRIFT, gate.DRIFT + 0.002]
    said = [bool(gate.worse([{**then[0], "coverage": 0.80 + d}], then)) for d in drift]
    assert said == [True, False, False, False, True]


def test_getting_better_is_no_fault() -> None:
    then = [{"op": "gemm", "regime": "all", "n": 1000.0, "mape": 0.1, "coverage": 0.80}]
    assert gate.worse([{**then[0], "mape": 0.09, "n": 1001.0}], then) == []
