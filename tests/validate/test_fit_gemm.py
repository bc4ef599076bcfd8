"""The fit of matrix products on rows made by the formula itself: values come back, files repeat, errors are unseen."""

from __future__ import annotations

import csv
import inspect
import tomllib
from pathlib import Path

import numpy as np
import pytest

from accel_models.cost.gemm import gemm
from accel_models.fitted_store import FittedFile
from validate import fit_gemm
from validate.fit import mape
from validate.study import Study, chip, fit_rows, hardware, write

COLUMNS = ("source", "device", "framework", "op", "dtype_a", "dtype_w", "quant", "m", "n", "k", "batch", "time_s")
TRUE = {"efficiency": 0.8, "step_time": 1.4e-9, "fill": 150.0, "dram_efficiency": 0.75, "overhead": 4.5e-6,
        "split_time": 2.2e-6, "tail_share": 0.5}


def row(device: str, m: int, n: int, k: int, framework: str = "trtllm-1.3.0rc20", **more: object) -> dict[str, object]:
    return {"source": "aiconfigurator", "device": device, "framework": framework, "op": "linear", "dtype_a": "bf16",
            "dtype_w": "bf16", "quant": "none", "m": m, "n": n, "k": k, "batch": 1, "time_s": 1.0} | more


def save(path: Path, rows: list[dict[str, object]]) -> None:
    with (path / "gemm.csv").open("w", newline="", encoding="utf-8") as f:
        out = csv.DictWriter(f, COLUMNS)
        out.writeheader()
        out.writerows(rows)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two devices timed by the formula with ``TRUE``, in three per cent of noise."""
    path = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(3)
    shapes = [(int(m), int(n), int(k)) for m in (1, 8, 64, 128, 512, 2048) for n in (512, 2048, 4096, 8192)
              for k in (512, 4096, 11008)]
    rows = [row(d, *s) for d in ("a100_sxm4_80gb", "h200_sxm") for s in shapes]
    save(path, rows)
    t = fit_gemm.table(path)
    times = fit_gemm.bind(t)(TRUE).time * np.exp(0.03 * rng.standard_normal(len(t)))
    save(path, [r | {"time_s": float(s)} for r, s in zip(rows, times, strict=True)])
    return path


@pytest.fixture(scope="module")
def study(directory: Path) -> Study:
    return fit_gemm.study(directory).run()


def test_values_come_back(directory: Path) -> None:
    t = fit_gemm.table(directory)
    found = fit_rows(fit_gemm.PROBLEM, t)
    assert mape(fit_gemm.bind(t)(found.values).time, t["time_s"]) < 0.04
    assert found.values["dram_efficiency"] == pytest.approx(TRUE["dram_efficiency"], rel=0.05)
    assert found.values["efficiency"] == pytest.approx(TRUE["efficiency"], rel=0.1)


def test_errors_are_those_of_unseen_rows(study: Study) -> None:
    scores = [s for s in study.scores() if s["regime"] == "all"]
    assert {(s["device"], s["split"]) for s in scores} == {
        (d, p) for d in ("a100_sxm4_80gb", "h200_sxm") for p in ("held-back shapes", "unseen device")}
    for s in scores:
        assert float(str(s["mape"])) < 0.06 < float(str(s["roofline_mape"]))
    held = [s for s in scores if s["split"] == "held-back shapes"]
    assert sum(int(str(s["n"])) for s in held) == study.held.sum() < len(study.table)


def test_own_fits_do_not_see_held_back_times(directory: Path, study: Study, tmp_path: Path) -> None:
    t = fit_gemm.table(directory)
    rows = [row(str(d), int(m), int(n), int(k)) | {"time_s": s * (5.0 if h else 1.0)}
            for d, m, n, k, s, h in zip(t["device"], t["m"], t["n"], t["k"], t["time_s"], study.held, strict=True)]
    save(tmp_path, rows)
    spoiled = fit_rows(fit_gemm.PROBLEM, fit_gemm.table(tmp_path).where(~study.held), pool=True)
    clean = study.pooled("none")
    assert clean is not None
    assert spoiled.values == pytest.approx(clean.values)


def test_file_is_read_back_and_repeats(study: Study, directory: Path, tmp_path: Path) -> None:
    write(study, tmp_path / "a.toml")
    again = Study(fit_gemm.PROBLEM, fit_gemm.table(directory)).run()
    write(again, tmp_path / "b.toml")
    text = (tmp_path / "a.toml").read_bytes()
    assert text == (tmp_path / "b.toml").read_bytes()
    file = FittedFile.model_validate(tomllib.loads(text.decode()))
    assert {(s.device, s.generation) for s in file.set if not s.framework} >= {("", ""), ("", "hopper"), ("", "ampere")}
    assert all("eager_overhead" not in s.values for s in file.set)


def test_copies_follow_the_collectors(tmp_path: Path) -> None:
    """RTX PRO 6000 has 128 MiB of L2: 2 copies of 64 MiB fit exactly, 5 of 32 MiB do not, 6 of 21 MiB just fit."""
    d = "rtx_pro_6000_server"
    save(tmp_path, [row(d, 1, 8192, 4096), row(d, 1, 4096, 4096), row(d, 1, 2560, 4096), row(d, 1, 65536, 4096),
                    row(d, 1, 2560, 4096, "vllm-0.24.0"), row(d, 1, 4096, 4096, "vllm-0.24.0"),
                    row(d, 1, 4096, 4096, "trtllm-1.0.0")])
    resident = fit_gemm.table(tmp_path)["resident"]
    np.testing.assert_allclose(resident.round(), [1, 1, 1, 0, 1, 0, 0])


def test_framework_time_is_kept_apart(tmp_path: Path) -> None:
    save(tmp_path, [row("v100_pcie_32gb", 64, 512, 512, "torch-2.1.0", dtype_a="fp32", dtype_w="fp32"),
                    row("v100_pcie_32gb", 64, 512, 512, "pytorch-cublas")])
    t = fit_gemm.table(tmp_path)
    assert list(t["variant"]) == ["fp32", "none"]
    assert list(t["issue"]) == ["eager", "kernel"]
    plain = fit_gemm.bind(t)({"overhead": 3e-6}).time
    issued = fit_gemm.bind(t)({"overhead": 3e-6, "eager_overhead": 3e-5}).time
    np.testing.assert_allclose(issued - plain, [3e-5, 0.0], atol=1e-12)
    assert fit_gemm.fold({"overhead": 3e-6, "eager_overhead": 3e-5}, "kernel") == {"overhead": 3e-6}
    assert fit_gemm.fold({"overhead": 3e-6, "eager_overhead": 3e-5}, "eager")["overhead"] == pytest.approx(3.3e-5)


@pytest.mark.parametrize("variant", fit_gemm.KINDS)
def test_parameters_are_arguments_of_the_formula_and_few(variant: str) -> None:
    names = [p.name for p in fit_gemm.parameters(variant)]
    known = inspect.signature(gemm).parameters
    framework = ("eager_overhead", "bias_time")           # its own time, of the software and not of the chip
    assert all(n in known for n in names if n != "eager_overhead")
    assert len([n for n in names if n not in framework]) <= 12


def test_one_layer_that_is_run_alone_goes_through_all_its_matrices(directory: Path) -> None:
    t = fit_gemm.table(directory)
    t.columns["model"] = np.where(np.arange(len(t)) % 2, "dense", "other").astype(object)
    t.columns["op"] = np.array(["mlp_up", "mlp_down", "lm_head"] * len(t), dtype=object)[:len(t)]
    t.columns["device"] = np.full(len(t), "one", dtype=object)
    t.columns["framework"] = np.full(len(t), "one", dtype=object)
    weights = np.where(t["op"] == "mlp_up", 4e8, np.where(t["op"] == "mlp_down", 2e8, 1e9))
    half = np.arange(len(t)) % 5 == 0
    layer = fit_gemm._layer(t, np.where(half, weights / 2, weights))
    body = t["op"] != "lm_head"
    np.testing.assert_allclose(layer[body & ~half], 6e8)
    np.testing.assert_allclose(layer[body & half], 3e8)                 # the same split for all
    assert np.all(layer[~body] >= weights[~body] / 2)


def test_roofline_is_a_bound_of_peaks_alone(study: Study) -> None:
    t = study.table
    hw = hardware(t, "dram_bandwidth")["dram_bandwidth"]
    assert np.all(study.roofline >= t["n"] * t["k"] * 2 / hw)
    assert np.median(study.roofline / t["time_s"]) < 0.9
    assert {chip(str(d)) for d in t["device"]} == {"a100", "h200"}
