"""The fit finds the parameters that made the rows, keeps families whole, and knows what each library does."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from accel_models.fitted_store import ParameterSet
from validate import fit_attention as fa
from validate.measured import held_out
from validate.study import Study, fit_rows

COLUMNS = ["source", "device", "framework", "model", "phase", "batch", "q_len", "kv_len", "n_heads", "n_kv_heads",
           "head_dim", "window", "dtype_q", "dtype_kv", "time_s", "power_w"]


def rows(path: Path, phase: str, framework: str = "vllm-1", device: str = "h200_sxm", kv: str = "bf16") -> Path:
    """A table of shapes; times are set later."""
    with (path / "attention.csv").open("w", newline="", encoding="utf-8") as f:
        out = csv.writer(f)
        out.writerow(COLUMNS)
        for i, batch in enumerate([1, 2, 4, 8, 16, 32, 64, 128]):
            for length in (16, 256, 2048, 8192, 32768):
                for heads, kv_heads in ((8, 8), (32, 8), (64, 1)):
                    q = 1 if phase == "decode" else min(length, 8192)
                    out.writerow(["aiconfigurator", device, framework, "", phase, batch, q, max(length, q), heads,
                                  kv_heads, 128 if i % 2 else 64, 0, "bf16", kv, 1e-5, ""])
    return path


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_known_parameters_are_found_again(tmp_path: Path, phase: str) -> None:
    t = fa.table(rows(tmp_path, phase))
    truth = {p.name: p.init for p in fa.parameters(phase)} | {"overhead": 2.2e-5, "efficiency": 0.55}
    t.columns["time_s"] = fa.bind(t)(truth).time * np.exp(np.random.default_rng(0).normal(0, 0.02, len(t)))
    found = fit_rows(fa.PROBLEM, t)
    assert found.values["overhead"] == pytest.approx(2.2e-5, rel=0.15)
    off = fa.bind(t)(found.values).time / t["time_s"] - 1
    assert np.mean(np.abs(off)) < 0.04


def test_families_are_held_back_whole(tmp_path: Path) -> None:
    t = fa.table(rows(tmp_path, "decode"))
    held = held_out(t, ("family",))
    assert 0 < held.sum() < len(t)
    for family in set(t["family"]):
        assert len(set(held[t["family"] == family])) == 1


def test_library_traits_follow_the_framework_and_the_generation(tmp_path: Path) -> None:
    trt = fa.traits(fa.table(rows(tmp_path, "decode", framework="trtllm-1.0")))
    assert np.all(trt["pack_limit"] == 32.0)
    assert np.all(trt["vector_path"] == 1.0)
    ada = fa.table(rows(tmp_path, "decode", device="l40s"))
    assert np.all(fa.traits(ada)["window_packs"] == 0.0)
    assert np.all(fa.traits(ada)["vector_path"] == 0.0)
    assert np.all(fa.traits(fa.table(rows(tmp_path, "decode")))["window_packs"] == 1.0)
    folded = fa.fold({"append": 1.0, "overhead": 1e-5, "start": 1e-6, "efficiency": 0.9, "overhead_trtllm": 2.0,
                      "efficiency_trtllm": 5.0}, "trtllm")
    assert folded["overhead"] == pytest.approx(2e-5)
    assert folded["efficiency"] == 1.0
    assert folded["packs"] == 0.0
    assert not [k for k in folded if k.endswith("_trtllm")]


def test_the_study_writes_sets_and_scores(tmp_path: Path) -> None:
    t = fa.table(rows(tmp_path, "decode"))
    t.columns["time_s"] = fa.bind(t)({}).time
    study = Study(fa.PROBLEM, t).run()
    sets = list(study.sets())
    assert all(isinstance(s, ParameterSet) for s in sets)
    assert ("decode", "", "") in {(s.variant, s.device, s.generation) for s in sets}
    mine = [s for s in study.scores() if s["regime"] == "all" and s["split"] == "held-back shapes"]
    assert mine
    assert all(float(str(s["mape"])) < 0.1 for s in mine)


def test_a_repeated_prefill_writes_its_keys_to_the_cache(tmp_path: Path) -> None:
    t = fa.table(rows(tmp_path, "prefill", kv="fp8"))
    assert set(t["variant"]) == {"prefill_fp8kv"}
    few, many = fa.bind(t)({"append": 0.1}).time, fa.bind(t)({"append": 5.0}).time
    assert np.all(many > few)
