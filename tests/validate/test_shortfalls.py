"""Targets that are not met: each has its classes of rows, a reason, and what data would settle it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.validate.test_study import ELEMENTWISE, _elementwise, _made
from validate import fit_elementwise, shortfalls
from validate.end_to_end import stored as whole_stored
from validate.scores import WHOLE, stored_targets
from validate.study import Study
from validate.targets import TARGETS, missed


def test_every_target_that_is_not_met_has_a_reason_and_classes() -> None:
    known, classes = shortfalls.reasons(), shortfalls.stored()
    short = [t for t in stored_targets() if t["target"] is not None and t["mape"] > t["target"]]
    for t in short:
        assert (t["what"], t["split"]) in known
        assert any((c["what"], c["split"]) == (t["what"], t["split"]) for c in classes)
    assert {(c["what"], c["split"]) for c in classes} == {(t["what"], t["split"]) for t in short}
    for what, _, wanted in WHOLE:
        done = next(w for w in whole_stored() if (w["what"], w["group"]) == (what, "all"))
        assert done["mape"] <= wanted or (what, "fitted devices") in known


def test_no_reason_speaks_of_a_target_that_does_not_exist() -> None:
    names = {t.what for t in TARGETS} | {w[0] for w in WHOLE}
    assert {what for what, _ in shortfalls.reasons()} <= names
    for r in shortfalls.reasons().values():
        assert len(r.why) > 80
        assert r.data.endswith((".", ")"))


def test_the_classes_are_those_that_lift_the_error(tmp_path: Path) -> None:
    problem, table = _made(_elementwise, fit_elementwise, ELEMENTWISE, tmp_path, noise=0.02)
    study = Study(problem, table).run()
    assert missed(study) == []
    slow = study.held & (table["device"] == "l40s") & (table["bytes_rw"] > 1e8)
    table.columns["time_s"] = np.where(slow, 4.0 * table["time_s"], table["time_s"])
    found = [m for m in missed(study) if m.split == "held-back shapes"]
    assert found
    assert (found[0].device, found[0].size) == ("l40s", "bytes_rw > 1e+08")
    assert found[0].bias == pytest.approx(-0.75, abs=0.05)
    assert [m.excess for m in found] == sorted((m.excess for m in found), reverse=True)


def test_a_met_target_is_not_spoken_of() -> None:
    met = {"what": "MoE layer", "split": "unseen device", "mape": 0.1, "target": 0.2}
    assert "MoE" not in shortfalls.section([met], [])
    assert "### MoE layer, unseen device: 30.0 % for 20 %" in shortfalls.section([{**met, "mape": 0.3}], [])
