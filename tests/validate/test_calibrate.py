"""Fits of a user's own rows: known parameters come back, what rows cannot tell is refused, overlays are found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from accel_models import columns, fitted_store
from accel_models.fitted_store import lookup
from sim.cli import main
from validate import fit_elementwise, fit_gemm
from validate.calibrate import fit_table, overlay_sets, write_overlay
from validate.calibrate_fit import KEPT, fit_one, standard_errors
from validate.fit import Parameter
from validate.suite.plan import COLUMNS

GEMM = {"efficiency": 0.7, "step_time": 6e-9, "fill": 60.0, "tail_share": 0.5, "dram_efficiency": 0.7, "l2_efficiency": 0.3,
        "sharpness": 3.0, "split_time": 3e-6, "overhead": 6e-6, "throttle": 0.3, "gemv_rows": 1.0, "gemv_fixed": 1.0,
        "gemv_gain": 1.0, "split_from": 0.0}


def _write(table: str, rows: list[dict[str, object]], path: Path) -> None:
    lines = [",".join(COLUMNS[table]), *(",".join(str(r.get(c, "")) for c in COLUMNS[table]) for r in rows)]
    (path / f"{table}.csv").write_text("\n".join(lines) + "\n")


def _products(path: Path, device: str, ms, shapes, noise: float = 0.02, only_cold: bool = False) -> None:
    """Rows whose times are the formula's with GEMM's values, and some scatter."""
    same = {"source": "perfboard", "device": device, "framework": "made-1.0", "op": "linear", "dtype_a": "bf16",
            "dtype_w": "bf16", "dtype_acc": "fp32", "quant": "none", "batch": 1, "time_s": 1.0}
    rows = [same | {"m": m, "n": n, "k": k, "cache": cache}
            for m in ms for n, k in shapes for cache in (("cold",) if only_cold else ("cold", "warm"))]
    _write("gemm", rows, path)
    time = fit_gemm.bind(fit_gemm.table(path))(GEMM).time * np.exp(np.random.default_rng(1).normal(0, noise, len(rows)))
    for row, t in zip(rows, time, strict=True):
        row["time_s"] = float(t)
    _write("gemm", rows, path)


SHAPES = [(n, k) for n in (512, 1024, 2048, 4096, 8192, 16384) for k in (1024, 4096, 8192)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("made")
    _products(path, "l40s", (1, 4, 16, 64, 128, 512, 2048, 8192), SHAPES)
    return path


@pytest.fixture(scope="module")
def own(made):
    found, digest = fit_table("gemm", made)
    assert len(found) == 1
    assert len(digest) == 64
    return found[0]


def test_known_parameters_come_back_within_their_errors(own):
    assert own.source == "fitted"                                       # the l40s came with the package
    assert own.before > 0.1
    assert own.after < 0.04
    verdicts = {v.name: v for v in own.verdicts}
    for name in ("efficiency", "dram_efficiency", "overhead"):
        v = verdicts[name]
        assert v.status == "fitted"
        assert abs(np.log(v.value / GEMM[name])) < max(4 * v.stderr, 0.1), name
    assert abs(np.log(verdicts["efficiency"].start / GEMM["efficiency"])) > 0.05


def test_the_interval_holds_and_is_as_wide_as_the_scatter(own):
    assert 0.9 < own.made.lo["all"] <= 1.0 <= own.made.hi["all"] < 1.15


def test_what_the_rows_cannot_tell_keeps_its_value_and_this_is_said(tmp_path):
    _products(tmp_path, "l40s", (1, 2, 3, 4, 5, 6, 7, 8), [(256, k) for k in (256, 320, 384, 448, 512, 576, 640, 704)],
              only_cold=True)
    one = fit_table("gemm", tmp_path)[0][0]                             # tiny products: overhead and little else
    kept = {v.name for v in one.verdicts if v.status == KEPT}
    assert {"efficiency", "dram_efficiency", "throttle", "sharpness"} <= kept
    for v in one.verdicts:
        if v.status == KEPT:
            assert v.value == v.start
    if one.made:
        assert not kept & set(one.made.stderr)


def test_few_rows_and_no_held_back_rows_are_refused(made):
    rows = fit_gemm.table(made)
    some = fit_one(fit_gemm.PROBLEM, rows.where(np.arange(len(rows)) < 4))
    assert some.made is None
    assert "rows" in some.refused


def test_a_fit_that_helps_nothing_is_not_written(tmp_path):
    """Times that no formula explains: the error on held-back rows cannot fall, or only by chance."""
    rng = np.random.default_rng(3)
    rows = [{"source": "x", "device": "l40s", "framework": "made", "op": "relu", "rows": r, "cols": c, "dtype": "fp16",
             "bytes_rw": r * c * 4, "time_s": float(10 ** rng.uniform(-6, -1))}
            for r in (1, 64, 4096) for c in range(128, 2048, 64)]
    _write("elementwise", rows, tmp_path)
    one = fit_table("elementwise", tmp_path)[0][0]
    assert one.made is None or one.made.hi["all"] > 2.0


def test_one_of_two_parameters_that_trade_is_undetermined():
    x = np.linspace(1, 2, 50)

    class _Line:
        def __init__(self, v):
            self.time = x * v["a"] * v["b"]

    free = [Parameter("a", 1.0, 0.1, 10.0), Parameter("b", 1.0, 0.1, 10.0)]
    both = standard_errors(_Line, x, free, {"a": 1.0, "b": 1.0})
    assert min(both.values()) > 0.5
    assert standard_errors(_Line, x, free[:1], {"a": 1.0, "b": 1.0})["a"] < 0.01


def test_bounds_of_a_linear_parameter_count_as_share_of_its_range():
    x = np.linspace(1, 2, 50)

    class _Line:
        def __init__(self, v):
            self.time = 1.0 + x * v["s"]

    error = standard_errors(_Line, 1.0 + 0.5 * x, [Parameter("s", 0.5, 0.0, 1.0, linear=True)], {"s": 0.5})
    assert 0 < error["s"] < 0.05


# -- overlays --------------------------------------------------------------------------------------------------------------

def _forget():
    for function in (lookup, fitted_store._index, fitted_store._parse, columns.fitted, columns.sets):
        function.cache_clear()


@pytest.fixture
def overlay(own, tmp_path, monkeypatch):
    write_overlay("gemm", overlay_sets([own]), "0" * 64, tmp_path, tmp_path / "fitted")
    monkeypatch.setenv("PERFBOARD_FITTED", str(tmp_path / "fitted"))
    _forget()
    yield tmp_path / "fitted"
    monkeypatch.undo()
    _forget()


def test_an_overlay_is_a_fitted_file_with_the_hash_of_its_rows(overlay):
    file = fitted_store.FittedFile.model_validate(tomllib.loads((overlay / "gemm.toml").read_text()))
    assert file.data_sha256 == "0" * 64
    assert [s.framework for s in file.set] == ["made-1.0", ""]


@pytest.mark.usefixtures("overlay")
def test_look_ups_find_the_overlay_where_it_fits_and_the_shipped_sets_elsewhere(own):
    mine = own.made.values["overhead"]
    assert lookup("gemm", "none", "l40s", "ada", "made-1.0").params.values["overhead"] == mine
    assert lookup("gemm", "none", "l40s", "ada").params.values["overhead"] == mine
    shipped = lookup("gemm", "none", "l40s", "ada", overlays=False).params
    assert shipped.values["overhead"] != mine
    other = lookup("gemm", "none", "h200_sxm", "hopper")
    assert other == lookup("gemm", "none", "h200_sxm", "hopper", overlays=False)
    assert lookup("attention", "decode", "l40s", "ada") == lookup("attention", "decode", "l40s", "ada", overlays=False)


def test_a_missing_overlay_directory_is_said(monkeypatch):
    monkeypatch.setenv("PERFBOARD_FITTED", "/nowhere/at/all")
    _forget()
    with pytest.raises(ValueError, match="PERFBOARD_FITTED: /nowhere/at/all: not a directory"):
        lookup("gemm", "none", "l40s", "ada")
    _forget()


# -- the command, and this machine ---------------------------------------------------------------------------------------

def _cli(*args, **env):
    return subprocess.run([sys.executable, "-m", "sim.cli", *map(str, args)], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"OMP_NUM_THREADS": "1"} | env, check=False)


def _measured_and_fitted(data, out, seconds):
    done = _cli("calibrate", "measure", "--backend", "numpy", "--seconds", seconds, "--only", "gemm,copy,elementwise",
                "--out", data)
    assert done.returncode == 0, done.stderr
    fit = _cli("calibrate", "fit", "--data", data, "--device-file", data / "device.toml", "-o", out, "--format", "json")
    assert fit.returncode in (0, 1), fit.stderr              # 1: too few rows for any set
    return next(f for f in json.loads(fit.stdout)["fits"] if f["op"] == "gemm")


def test_measure_fit_and_use_on_this_cpu(tmp_path):
    data, out = tmp_path / "data", tmp_path / "fitted"
    gemm = _measured_and_fitted(data, out, 6)
    if gemm["outcome"] != "written" or gemm["rows"] < 20 or gemm["after_percent"] >= 0.7 * gemm["before_percent"]:
        gemm = _measured_and_fitted(data, out, 20)        # a busy machine: measure on, as its user would
    few = gemm["outcome"] != "written" or gemm["rows"] < 20
    if few and os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1):
        pytest.skip(f"this machine is too busy to measure itself: load {os.getloadavg()[0]:.1f}, {gemm['outcome']}")
    assert gemm["outcome"] == "written"
    assert gemm["after_percent"] < 0.7 * gemm["before_percent"]
    assert gemm["rows"] >= 20
    (data / "ask.csv").write_text("m,n,k,dtype_a,cache\n256,1024,1024,fp32,warm\n")
    ask = ("predict", "--hw", data / "device.toml", data / "ask.csv")
    without, used = _cli(*ask), _cli("--fitted", out, *ask)
    assert ",transferred," in without.stdout                # the formulas of CPUs, fitted on other CPUs
    assert ",fitted," in used.stdout


def test_a_device_file_with_another_name_is_one_error(made, capsys, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\ntitle = "Mine"\nbase = "l40s"\n')
    with pytest.raises(SystemExit) as caught:
        main(["calibrate", "fit", "--data", str(made), "--device-file", str(file), "-o", str(tmp_path / "o")])
    assert caught.value.code == 2
    assert "no rows of device 'mine'" in capsys.readouterr().err


def test_nothing_to_fit_is_an_error(tmp_path, capsys):
    for args, message in ((["--op", "gem"], "--op gem: no such fit"), ([], "no rows to fit")):
        with pytest.raises(SystemExit) as caught:
            main(["calibrate", "fit", "--data", str(tmp_path), *args])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


def test_elementwise_rows_of_the_suite_are_read_by_their_fit(tmp_path):
    _write("elementwise", [{"source": "perfboard", "device": "l40s", "framework": "cupy-14", "op": "reduce", "rows": 4,
                            "cols": 128, "dtype": "fp16", "bytes_rw": 1032, "time_s": 2e-6}], tmp_path)
    assert len(fit_elementwise.table(tmp_path)) == 1
