"""Fits in several processes give what one process gives, to the last bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.validate.test_study import ELEMENTWISE, _elementwise, _made
from validate import fit_elementwise, parallel
from validate.study import Study


@pytest.fixture
def studies(tmp_path: Path) -> list[Study]:
    problem, table = _made(_elementwise, fit_elementwise, ELEMENTWISE, tmp_path, noise=0.05)
    table.columns["variant"] = np.where(table["cols"] > 4096, "add", "relu").astype(object)
    return [Study(problem, table), Study(problem, table)]


def test_two_processes_fit_what_one_does(studies: list[Study]) -> None:
    one, two = studies
    parallel.run([one], workers=1)
    parallel.run([two], workers=2)
    assert [s.model_dump() for s in one.sets()] == [s.model_dump() for s in two.sets()]
    for name in ("own_pred", "far_pred", "own_regime", "far_regime"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert np.isfinite(two.far_pred).any()


def test_variants_are_all_there_and_the_largest_comes_first(studies: list[Study]) -> None:
    variants = studies[0].variants()
    rows = [int((studies[0].table["variant"] == v).sum()) for v in variants]
    assert rows == sorted(rows, reverse=True)
    assert sum(rows) == len(studies[0].table)
