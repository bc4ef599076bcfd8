"""The measuring suite: what it plans, how it times and records, on this machine's CPU; the command around it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from accel_models.registry import load_device
from sim.cli import main
from validate import measure
from validate.measured import read
from validate.suite import machine
from validate.suite.host import NumpyBackend, Sample, UnsupportedError, clocked
from validate.suite.plan import CLASSES, COLUMNS, Point, points, spread
from validate.suite.power import Nvml, Reading, Sampler
from validate.suite.record import Record

COPY = Point("copy", "micro", (("op", "copy"), ("dtype", "fp32"), ("bytes", 4096), ("stride", 1), ("count", 1),
                               ("cache", "cold")), 4096.0, 4096.0)


# -- the plan ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_the_plan_covers_every_part_and_gives_each_table_its_columns(kind):
    plan = points(kind)
    assert {p.kind for p in plan} == set(CLASSES)
    for p in plan:
        given_later = {"source", "device", "framework", "time_s", "power_w"}
        assert {k for k, _ in p.fields} == set(COLUMNS[p.table]) - given_later
    assert len(set(plan)) == len(plan)


def test_a_gpu_plan_has_all_formats_and_crosses_from_one_row_to_compute_bound():
    gemm = [p for p in points("gpu") if p.kind == "gemm"]
    assert {p["dtype_a"] for p in gemm} == {"fp16", "bf16", "tf32", "fp32", "int8", "fp8"}
    intensity = [p.work / p.footprint for p in gemm if p["dtype_a"] == "bf16"]
    assert min(intensity) < 2.0
    assert max(intensity) > 1000.0


@pytest.mark.parametrize("kind", ["gpu", "cpu"])
def test_a_tenth_of_the_plan_spans_the_sizes_of_every_large_part(kind):
    plan = points(kind)
    first = plan[:len(plan) // 10]
    for part in ("gemm", "elementwise"):
        whole, begun = ([np.log(p.work) for p in some if p.kind == part] for some in (plan, first))
        assert np.ptp(begun) >= 0.8 * np.ptp(whole)


@given(st.integers(1, 300))
def test_spread_keeps_every_point_once(n):
    made = [Point("copy", "micro", (("bytes", i),), float(i), 1.0) for i in range(n)]
    out = spread(made)
    assert sorted(p.work for p in out) == [float(i) for i in range(n)]
    assert out[0].work == 0.0
    assert out[-1 if n == 1 else 1].work == n - 1


def test_an_unknown_part_is_refused():
    with pytest.raises(ValueError, match=r"--only gem: not a part of the suite; parts: launch, copy"):
        points("cpu", ["gem"])


# -- timing ------------------------------------------------------------------------------------------------------------

class _Clock:
    """Time that passes only when a call is made."""

    def __init__(self):
        self.now, self.calls = 0.0, []

    def __call__(self):
        return self.now

    def call(self, name, seconds):
        def run():
            self.calls.append(name)
            self.now += seconds
        return run


def test_clocked_is_the_median_and_goes_round_the_copies():
    clock = _Clock()
    sample = clocked([clock.call(i, 0.001) for i in range(4)], 0.02, clock=clock)
    assert sample.time == pytest.approx(0.001)
    assert clock.calls[:6] == [0, 1, 2, 3, 0, 1]


def test_clocked_repeats_a_short_call_and_a_long_one_three_times_only():
    clock = _Clock()
    short = clocked([clock.call("x", 1e-6)], 0.01, clock=clock)
    assert short.repeats == 25
    assert len(clock.calls) >= 25 * 100
    assert clocked([clock.call("y", 2.0)], 0.01, clock=clock).repeats == 3


class _Backend:
    """A machine whose every call takes a microsecond of its own clock."""

    name, machine, cache_bytes, memory_bytes = "numpy", "cpu", 1e6, 1e9
    most_copies = {"": 64}                                                                     # noqa: RUF012

    def __init__(self, clock, stop_after=None):
        self.clock, self.left = clock, stop_after

    def framework(self, point):
        return "fake-1"

    def prepare(self, point, copies):
        if point.kind == "link":
            raise UnsupportedError("no link here")
        return [lambda: None] * copies

    def time(self, calls, seconds):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left = None if self.left is None else self.left - 1
        self.clock.now += 1.0
        return Sample(1e-6, 1e-6, 1e-6, 3)

    def describe(self):
        return {"device_name": "Fake", "cores": 1, "memory_bytes": 1e9, "cache_bytes": 1e6, "clock_hz": 1e9}


def test_a_run_keeps_to_its_budget_and_goes_on_where_it_stopped(tmp_path):
    plan, clock = points("cpu"), _Clock()
    assert measure.run(_Backend(clock), Record(tmp_path, "d"), plan, 20.0, None, clock=clock) == 20
    again = Record(tmp_path, "d")
    assert len(again.done) == 20
    measure.run(_Backend(clock), again, plan, 30.0, None, clock=clock)
    assert len(again.done) == 50
    with (tmp_path / "runs.csv").open() as f:
        assert len(list(csv.DictReader(f))) == 50
    assert set(again.skipped.values()) == {"no link here"}


def test_cold_points_rotate_beyond_the_cache_and_small_ones_are_called_what_they_are():
    backend = _Backend(_Clock())
    assert measure.copies_of(COPY, backend) == 64
    assert measure.as_measured(COPY, backend)["cache"] == "warm"        # 64 x 4 KiB stay in a cache of 1 MB
    large = Point("copy", "micro", COPY.fields, 1.0, 3e5)
    assert measure.copies_of(large, backend) * large.footprint > 2.5 * backend.cache_bytes
    assert measure.as_measured(large, backend)["cache"] == "cold"
    assert measure.copies_of(large.with_cache("warm"), backend) == 1
    with pytest.raises(UnsupportedError, match="memory"):
        measure.copies_of(Point("copy", "micro", COPY.fields, 1.0, 1e10), backend)


# -- records -----------------------------------------------------------------------------------------------------------

def test_a_line_cut_short_is_measured_again_and_other_columns_are_refused(tmp_path):
    record = Record(tmp_path, "d")
    record.add(COPY, "fake-1", Sample(1e-3, 1e-3, 1e-3, 3), copies=1)
    other = COPY.with_cache("warm")
    record.add(other, "fake-1", Sample(2e-3, 1e-3, 3e-3, 3), copies=1, watts=100.0)
    path = tmp_path / "micro.csv"
    path.write_text(path.read_text()[:-12])                             # the power was not yet on the disk
    again = Record(tmp_path, "d")
    assert again.has(COPY, "fake-1")
    assert not again.has(other, "fake-1")
    again.add(other, "fake-1", Sample(2e-3, 1e-3, 3e-3, 3), copies=1, watts=100.0)
    table = read("micro", tmp_path)
    assert list(table["time_s"]) == [1e-3, 2e-3]
    assert np.isnan(table["power_w"][0])                                # blank: nothing was read
    assert table["power_w"][1] == 100.0
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"micro\.csv:1: 2 cells, expected 11"):
        Record(tmp_path, "d")


# -- power -------------------------------------------------------------------------------------------------------------

class _Library:
    """What libnvidia-ml does, as far as it is called."""

    def nvmlInit_v2(self):                                                                     # noqa: N802
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus, handle):                                   # noqa: N802
        self.bus = bus
        return 0

    def __getattr__(self, name):
        values = {"nvmlDeviceGetPowerUsage": 350_000, "nvmlDeviceGetClockInfo": 1980, "nvmlDeviceGetTemperature": 51}

        def call(*args):
            if name == "nvmlSystemGetDriverVersion":
                args[0].value = b"580.1"
            elif name in values:
                args[-1]._obj.value = values[name]
            else:
                return 3                                                # NVML_ERROR_NOT_SUPPORTED
            return 0
        return call


def test_nvml_figures_are_si_and_what_a_board_does_not_tell_is_not_a_number():
    nvml = Nvml(_Library(), "0000:0F:00.0")
    assert nvml.read() == Reading(350.0, 1.98e9, 51.0)
    facts = nvml.describe()
    assert facts["driver"] == "580.1"
    assert np.isnan(facts["power_limit_w"])


def test_the_sampler_averages_while_the_block_runs_and_leaves_out_what_ran_before():
    readings = iter([Reading(50.0, 1e9, 40.0)] * 2 + [Reading(300.0, 2e9, 50.0)] * 10_000)
    with Sampler(lambda: next(readings), period=0.001, settle=0.002) as power:
        while len(power.samples) < 6:
            pass
    assert power.mean("watts") == 300.0
    with Sampler(None) as none:
        pass
    assert np.isnan(none.mean("watts"))


# -- the real CPU ------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A short run of everything on this machine."""
    out = tmp_path_factory.mktemp("measured")
    command = [sys.executable, "-m", "validate.measure", "--backend", "numpy", "--seconds", "4", "--out", str(out)]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=60,
                            check=False)
    assert result.returncode == 0, result.stderr
    return out


def test_every_part_measures_something_real_here(measured):
    micro, gemm, other = (read(t, measured) for t in ("micro", "gemm", "gemm_formats"))
    if len(micro) < 3 and os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1):
        pytest.skip(f"this machine is too busy to measure itself: load {os.getloadavg()[0]:.1f}")
    for table in (micro, gemm, other, read("attention", measured), read("elementwise", measured)):
        assert len(table) >= 3
        assert (table["time_s"] > 1e-8).all()
        assert (table["time_s"] < 5.0).all()
    assert {"copy", "launch_eager"} <= set(micro["op"])
    assert len(set(other["quant"])) >= 4                                # the low-bit twins
    flops = 2 * gemm["m"] * gemm["n"] * gemm["k"] * gemm["batch"] / gemm["time_s"]
    assert 1e9 < flops.max() < 1e13
    assert gemm["time_s"][np.argmax(gemm["m"] * gemm["n"] * gemm["k"])] > 5 * gemm["time_s"].min()


def test_meta_says_on_what_with_which_versions_and_what_could_not_be_done(measured):
    run = json.loads((measured / "meta.json").read_text())["runs"][0]
    assert run["backend"] == "numpy"
    assert run["versions"]["numpy"] == np.__version__
    assert run["threads"] == "1"
    assert run["rows"] == sum(len(read(t, measured)) for t in COLUMNS if (measured / f"{t}.csv").exists())
    assert any("link" in k for k in run["skipped"])


def test_a_cpu_without_a_file_gets_one_that_loads_and_is_marked_measured(measured):
    device = load_device(measured / "device.toml")
    assert device.kind == "cpu"
    assert device.main.bandwidth.kind == "measured"
    assert 1e9 < device.main.bandwidth.value < 1e12
    assert device.matrix.units.value == 1.0                             # one thread was measured
    assert device.name == read("gemm", measured)["device"][0]


@pytest.mark.parametrize(("reported", "name"), [("NVIDIA H200", "h200_sxm"), ("NVIDIA GeForce RTX 4090", "rtx_4090"),
                                                ("AMD EPYC 9654", "epyc_9654"), ("Brand New 9000", "")])
def test_names_that_drivers_report_find_their_device_file(reported, name):
    found = machine.known_name(reported)
    assert found in (name, "")
    if reported != "NVIDIA H200":                                       # "H200" alone leaves SXM or NVL open
        assert found == name


def test_numpy_times_what_it_has_and_says_what_it_has_not():
    backend = NumpyBackend()
    done = set()
    for point in points("cpu"):
        if point.kind in done or point.footprint > 1e6 or point.work > 1e7:
            continue
        done.add(point.kind)
        if point.kind == "link":
            with pytest.raises(UnsupportedError, match="no link"):
                backend.prepare(point, 1)
        else:
            for call in backend.prepare(point, 1):
                call()
    assert done == set(CLASSES)


# -- the command -------------------------------------------------------------------------------------------------------

def _code(args):
    with pytest.raises(SystemExit) as caught:
        main(args)
    return caught.value.code


def test_without_cupy_the_gpu_is_an_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)                      # as where it is not installed
    monkeypatch.delitem(sys.modules, "validate.suite.cuda", raising=False)
    assert _code(["calibrate", "measure", "--backend", "cupy", "--out", str(tmp_path)]) == 4
    assert "pip install 'perfboard[gpu]'" in capsys.readouterr().err


def test_ctrl_c_keeps_the_rows_exits_130_and_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(measure, "choose", lambda name: _Backend(_Clock(), stop_after=7))
    assert _code(["calibrate", "measure", "--out", str(tmp_path), "--only", "copy,gemm"]) == 130
    said = capsys.readouterr().err
    assert "interrupted after 7 points" in said
    assert f"perfboard calibrate measure --out {tmp_path}" in said
    assert "--only copy,gemm" in said
    assert len(Record(tmp_path, "fake").done) == 7
    assert json.loads((tmp_path / "meta.json").read_text())["runs"][0]["rows"] == 7


def test_help_names_the_parts():
    result = CliRunner().invoke(measure.measure, ["--help"])
    assert all(part in result.output for part in CLASSES)


def test_a_record_needs_a_directory_it_can_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Record(Path(tmp_path / "file"), "d")
