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


def test_the_gate_sees_a_worse_error_coverage_and_number_of_rows(sample: Predicted) -> None:
    slower = sample._replace(predicted=sample.predicted * 1.3, lo=sample.lo * 1.3, hi=sample.hi * 1.3)
    said = gate.worse(gate.measure(slower), gate.stored())
    assert any("error" in s for s in said)
    assert any("coverage" in s for s in said)
    lost = sample._replace(predicted=np.where(np.arange(len(sample.op)) % 7 == 0, np.nan, sample.predicted))
    assert any("rows predicted" in s for s in gate.worse(gate.measure(lost), gate.stored()))
