"""Fits of elementwise kernels, collectives and experts: known parameters come back from rows made with them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from accel_models.fitted_store import FittedFile, load
from validate import fit_collective, fit_elementwise, fit_moe
from validate.measured import Table
from validate.study import Problem, Study, Values, chip, errors, write

ELEMENTWISE = {"efficiency": 0.8, "l2_efficiency": 0.5, "l2_share": 0.6, "unit_rate": 2e10, "row_blocks": 3.0,
               "row_time": 2e-7, "passes": 0.05, "overhead": 2.2e-6, "eager_overhead": 1.5e-5}
COLLECTIVE = {"efficiency": 0.75, "congestion": 0.1, "step_time": 3e-6, "ramp": 0.4, "fast_efficiency": 0.2,
              "fast_step_time": 1e-6, "overhead": 8e-6, "gather_share": 0.8, "exchange_time": 4e-6,
              "exchange_share": 0.7, "p2p_share": 1.0, "arrival": 1e-6}
MOE = {"efficiency": 0.7, "tile_loss": 15.0, "dram_efficiency": 0.9, "l2_efficiency": 0.4, "l2_share": 0.8,
       "reread": 0.2, "flight": 0.2, "tail_share": 0.5, "fill": 150.0, "sharpness": 2.5, "passes": 1.5,
       "expert_time": 2e-8, "overhead": 3e-5}


def _write(rows: dict[str, list[object]], path: Path) -> None:
    lines = [",".join(rows), *(",".join(str(v) for v in r) for r in zip(*rows.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")


def _elementwise(rng: np.random.Generator, n: int, path: Path) -> None:
    rows, cols = rng.integers(1, 60_000, n), rng.choice([1024, 4096, 8192, 16384], n)
    device = np.array(["a100_80gb", "h200_sxm", "l40s"])[np.arange(n) % 3]
    framework = np.where(np.arange(n) % 2 == 0, "torch", "kernels")
    _write({"source": ["made"] * n, "device": list(device), "framework": list(framework), "op": ["add"] * n,
            "rows": list(rows), "cols": list(cols), "dtype": ["bf16"] * n, "bytes_rw": list(rows * cols * 6),
            "time_s": [1.0] * n}, path / "elementwise.csv")


def _collective(rng: np.random.Generator, n: int, path: Path) -> None:
    device = np.array(["a100_sxm4_80gb", "h200_sxm"])[np.arange(n) % 2]
    kinds = np.array(["all_reduce", "all_gather", "reduce_scatter", "alltoall"])[(np.arange(n) // 2) % 4]
    _write({"source": ["made"] * n, "device": list(device), "framework": ["nccl"] * n, "op": list(kinds),
            "n_devices": list(rng.choice([2, 4, 8], n)), "devices_per_node": [8] * n, "link": ["nvswitch"] * n,
            "dtype": ["fp16"] * n, "bytes": list(2 ** rng.integers(9, 31, n)), "time_s": [1.0] * n},
           path / "collective.csv")


def _moe(rng: np.random.Generator, n: int, path: Path) -> None:
    shapes = np.array([(4096, 14336, 2, 8), (2048, 768, 8, 128), (7168, 2048, 8, 256), (5120, 8192, 1, 16),
                       (3072, 1024, 8, 256), (6144, 2048, 8, 256)])[rng.integers(0, 6, n)]
    device = np.array(["a100_sxm4_80gb", "h200_sxm", "l40s"])[np.arange(n) % 3]
    _write({"source": ["made"] * n, "device": list(device), "framework": ["made"] * n, "kernel": ["k"] * n,
            "dtype_a": ["bf16"] * n, "dtype_w": ["bf16"] * n, "n_tokens": list(2 ** rng.integers(0, 15, n)),
            "hidden": list(shapes[:, 0]), "inter": list(shapes[:, 1]), "topk": list(shapes[:, 2]),
            "n_experts": list(shapes[:, 3]), "tp": list(rng.choice([1, 2, 4], n)),
            "distribution": list(np.where(rng.random(n) < 0.5, "balanced", "power_law_1.2")), "time_s": [1.0] * n},
           path / "moe.csv")


CASES = [
    pytest.param(_elementwise, fit_elementwise, ELEMENTWISE, id="elementwise"),
    pytest.param(_collective, fit_collective, COLLECTIVE, id="collective"),
    pytest.param(_moe, fit_moe, MOE, id="moe"),
]


def _made(make: Callable[..., None], module: object, values: Values, path: Path, noise: float) -> tuple[Problem, Table]:
    rng = np.random.default_rng(7)
    make(rng, 240, path)
    table: Table = module.table(path)  # type: ignore[attr-defined]
    problem: Problem = module.PROBLEM  # type: ignore[attr-defined]
    time = problem.bind(table)(values).time
    table.columns["time_s"] = time * np.exp(noise * rng.standard_normal(len(table)))
    return problem, table


@pytest.mark.parametrize(("make", "module", "values"), CASES)
def test_rows_made_with_known_values_are_predicted_on_unseen_shapes_and_devices(
        make: Callable[..., None], module: object, values: Values, tmp_path: Path) -> None:
    problem, table = _made(make, module, values, tmp_path, noise=0.02)
    scores = Study(problem, table).run().scores()
    assert {s["split"] for s in scores} == {"held-back shapes", "unseen device"}
    for s in scores:
        if s["regime"] == "all":
            assert s["mape"] < 0.08, s  # type: ignore[operator]
            assert s["mape"] < s["roofline_mape"], s  # type: ignore[operator]


def test_a_fit_sees_no_held_back_row(tmp_path: Path) -> None:
    problem, table = _made(_elementwise, fit_elementwise, ELEMENTWISE, tmp_path, noise=0.0)
    first = Study(problem, table).run()
    table.columns["time_s"] = np.where(first.held, table["time_s"] * 3.0, table["time_s"])
    second = Study(problem, table).run()
    assert first.held.any()
    assert [s.values for s in first.sets()] == [s.values for s in second.sets()]
    worst = [s["mape"] for s in second.scores() if s["split"] == "held-back shapes" and s["regime"] == "all"]
    assert min(worst) > 0.5  # type: ignore[type-var, operator]


def test_the_written_file_is_deterministic_and_follows_the_schema(tmp_path: Path) -> None:
    problem, table = _made(_elementwise, fit_elementwise, ELEMENTWISE, tmp_path, noise=0.05)
    paths = [tmp_path / "a.toml", tmp_path / "b.toml"]
    for p in paths:
        write(Study(problem, table).run(), p)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    file = FittedFile.model_validate(tomllib.loads(paths[0].read_text()))
    keys = [(s.variant, s.device, s.generation if not s.device else "", s.framework) for s in file.set]
    assert len(keys) == len(set(keys))
    assert ("add", "", "", "") in keys
    assert ("add", "", "hopper", "") in keys
    assert ("add", "h200_sxm", "", "torch") in keys
    for s in file.set:
        assert all(float(f"{v:.4g}") == v for v in s.values.values())
        assert s.lo["all"] <= 1.0 <= s.hi["all"]


def test_eager_overhead_is_told_from_kernel_time(tmp_path: Path) -> None:
    problem, table = _made(_elementwise, fit_elementwise, ELEMENTWISE, tmp_path, noise=0.01)
    sets = {(s.device, s.framework): s.values for s in Study(problem, table).run().sets()}
    assert sets["l40s", "torch"]["overhead"] == pytest.approx(1.72e-5, rel=0.15)
    assert sets["l40s", ""]["overhead"] < 5e-6


def test_chips_are_one_whatever_their_memory() -> None:
    assert {chip("a100_pcie_40gb"), chip("a100_sxm4_80gb")} == {"a100"}
    assert chip("rtx_4090") != chip("rtx_pro_6000_server")


def test_error_figures() -> None:
    e = errors(np.array([1.1, 0.9, 2.0]), np.ones(3), np.full(3, 0.5))
    assert e == {"n": 3, "mape": 0.4, "median": 0.1, "bias": 0.1, "roofline_mape": 0.5}


@pytest.mark.parametrize("op", ["elementwise", "collective", "moe"])
def test_shipped_files_are_sound(op: str) -> None:
    file = load(op)
    assert file.formula.startswith(f"accel_models.cost.{op}.")
    pools = [s for s in file.set if not s.device and not s.generation and not s.framework]
    assert {s.variant for s in pools} == {s.variant for s in file.set}
    for s in file.set:
        assert all(0.0 < s.lo[r] <= 1.0 <= s.hi[r] for r in s.lo), (s.variant, s.device, s.framework)
        assert "all" in s.lo
        assert s.lo["all"] < s.hi["all"]
        assert all(np.isfinite(v) for v in s.values.values())
