"""Intervals: nominal coverage on exchangeable rows and on new chips, and the reader of whole steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from accel_models.bind import bind
from accel_models.price import price
from accel_models.registry import load_device
from validate import end_to_end
from validate.baselines import predict
from validate.command import validate
from validate.intervals import among_chips, calibration_half, covered, factors
from validate.measured import Table, held_out
from validate.scores import SEEN, UNSEEN, stored, table
from workloads.ops import Gemm


def test_factors_hold_their_share_of_new_rows() -> None:
    rng = np.random.default_rng(1)
    everywhere, regimes = np.ones(400, dtype=bool), np.full(400, "memory", dtype=object)
    hits = []
    for _ in range(40):
        found = factors(rng.normal(0, 0.2, 400), regimes, [everywhere] * 4)
        hits.append(covered(rng.normal(0, 0.2, 400), regimes, found).mean())
    assert 0.78 < np.mean(hits) < 0.83


def test_chips_weigh_the_same_however_many_rows_they_have() -> None:
    log = np.concatenate([np.zeros(1000), np.full(10, 0.5), np.full(10, -0.5)])
    chips = np.array(["a"] * 1000 + ["b"] * 10 + ["c"] * 10, dtype=object)
    lo, hi = among_chips(log, chips)
    assert lo == pytest.approx(np.exp(-0.5))
    assert hi == pytest.approx(np.exp(0.5))


def test_the_halves_are_fixed_and_independent_of_what_is_held_back() -> None:
    t = Table("gemm", {"n": np.arange(4000.0), "k": np.full(4000, 64.0)})
    half, held = calibration_half(t, ("n", "k")), held_out(t, ("n", "k"))
    assert (calibration_half(t, ("n", "k")) == half).all()
    assert 0.45 < half[held].mean() < 0.55


def test_stored_coverage_is_near_nominal_overall_and_in_every_regime() -> None:
    timed = [s for s in stored() if s["op"] != "energy"]
    for split in (SEEN, UNSEEN):
        assert 0.74 <= table(timed, (), split)[0]["coverage"] <= 0.86
        for regime in {s["regime"] for s in timed} - {"all"}:
            for r in table(timed, (), split, regime):
                assert r["n_cover"] < 100 or 0.65 <= r["coverage"] <= 0.92, (split, regime, r)


def test_intervals_widen_outside_the_fitted_range_and_only_there() -> None:
    hw = bind([load_device("h200_sxm")])
    m = np.array([64.0, 4096.0, 1e9])
    priced = price([Gemm(name="x", m=m, n=4096, k=4096)], hw)[0]
    width = np.broadcast_to(np.log(priced.hi / priced.lo), (1, 3))[0]
    alone = price([Gemm(name="x", m=4096.0, n=4096, k=4096)], hw)[0]
    assert width[1] == pytest.approx(np.log(alone.hi / alone.lo).item())
    assert width[2] > 1.5 * width[1]


def test_three_constants_are_a_roofline_and_a_fixed_time() -> None:
    got = predict({"of_peak": 0.5, "of_bandwidth": 0.25, "fixed": 1.0}, np.array([1.0, 0.0]), np.array([0.1, 2.0]))
    assert got == pytest.approx([3.0, 9.0])


def test_serving_points_without_queueing_are_the_quietest_of_each_series() -> None:
    row = {"model": "m", "framework": "f", "input_len": "1", "output_len": "1", "tp": "1", "moe_tp": "1", "moe_ep": "1",
           "pp": "1", "attention_dp": ""}
    rows = [row | {"concurrency": c} for c in ("8", "2", "64")] + [row | {"concurrency": "32", "tp": "2"}]
    assert [r["concurrency"] for r in end_to_end.quiet(rows)] == ["2"]


def test_rows_without_a_prediction_are_counted_with_their_reason(tmp_path: Path) -> None:
    (tmp_path / "end_to_end.csv").write_text(
        "source,device,framework,model,phase,component,batch,seq,n_devices,parallelism,dtype,time_s\n"
        "made,t4,torch-2.1.0-cu121,bert_large,prefill,total,8,512,1,none,fp32,0.7\n"
        "made,t4,torch-2.1.0-cu121,bert_large,train_step,total,8,512,1,none,fp32,0.7\n")
    found = end_to_end.score(end_to_end.forwards(tmp_path))
    assert [(f["group"], f["n"]) for f in found] == [("all", 1), ("not modelled", 1), ("bert_large", 1)]
    assert found[0]["mape"] < 0.4


def test_the_command_scores_a_directory_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = CliRunner().invoke(validate, ["--plots", str(tmp_path / "p"), "--op", "moe"])
    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == ["coverage.png", "predicted_measured.png", "residual_size.png"]
    with pytest.raises(ValueError, match="not a directory"):
        CliRunner().invoke(validate, ["--data", str(tmp_path / "none")], catch_exceptions=False)
