import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from accel_models.registry import list_devices, list_systems, load_device
from sim.commands.hw import hw, implausible


def run(*args: str) -> Result:
    return CliRunner().invoke(hw, args)


def rows_of(*args: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(run(*args, "--format", "csv").stdout)))


def test_show_json_is_si_with_unit_and_source() -> None:
    data = json.loads(run("show", "h200_sxm", "--format", "json").stdout)
    figure = data["parameters"]["memory.hbm.bandwidth"]
    assert (figure["value"], figure["unit"], figure["kind"]) == (4.8e12, "B/s", "datasheet")
    assert figure["source"].startswith("https://")
    assert data["assumed"] == load_device("h200_sxm").assumed()


def test_show_table_tells_notes_apart_from_the_result() -> None:
    result = run("show", "a100_sxm4_80gb")
    assert result.exit_code == 0
    assert "2.039 TB/s" in result.stdout
    assert "312 TFLOP/s" in result.stdout
    assert "fp8" not in result.stdout
    assert "fp8, fp4 computed in bf16" in result.stderr


def test_engines_made_of_units_tell_their_kind_and_what_they_multiply() -> None:
    said = run("show", "edge_lut").stderr
    assert "engine.matrix: kind lut" in said
    assert "int8 x int4 23.55 TOP/s, int8 x int3 31.4 TOP/s, int8 x int2 47.1 TOP/s" in said
    assert "on the vector engine bf16, fp8, int8" in said
    assert "products" not in run("show", "h200_sxm").stderr
    rows = {r["parameter"]: r for r in rows_of("diff", "edge_lut", "edge_int_mac")}
    assert (rows["engine.matrix.kind"]["edge_lut"], rows["engine.matrix.kind"]["edge_int_mac"]) == ("lut", "int_mac")
    assert float(rows["products int8 x int2"]["ratio"]) == pytest.approx(16 * 64 * 16 / (92 * 2 * 64 * 4 / 2), rel=1e-3)
    assert rows["products int8 x int8"]["edge_lut"] == ""
    assert not [r for r in rows_of("diff", "h200_sxm", "h100_sxm") if "kind" in r["parameter"]]


def test_show_system() -> None:
    assert "8 x h100_sxm" in run("show", "dgx_h100").stdout
    data = json.loads(run("show", "dgx_h100_2n", "--format", "json").stdout)
    assert data["network"]["bandwidth_bytes_per_s"] == 5e10
    assert data["parts"][0]["devices_in_domain"] == 8


def test_list() -> None:
    rows = rows_of("list")
    assert [r["name"] for r in rows] == [*list_devices(), *list_systems()]
    by_name = {r["name"]: r for r in rows}
    assert float(by_name["h100_sxm"]["bandwidth_gb_per_s"]) == 3350
    assert {r["kind"] for r in rows_of("list", "--kind", "fpga")} == {"fpga"}
    assert len(json.loads(run("list", "--kind", "system", "--format", "json").stdout)) == len(list_systems())


def test_new_writes_a_file_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("new", "mine", "--from", "h200_sxm", "--set", "hw.mem_bw=6TB/s",
                 "--set", "link.nvlink.bandwidth=1.8TB/s bidir")
    assert result.stdout == "mine.toml\n"
    device = load_device("./mine.toml")
    assert (device.base, device.get("hw.mem_bw"), device.get("link.nvlink.bandwidth")) == ("h200_sxm", 6e12, 9e11)
    assert device.get("power.tdp") == 700
    ratios = {r["parameter"]: float(r["ratio"]) for r in rows_of("diff", "h200_sxm", "./mine.toml")}
    assert ratios == {"memory.main.bandwidth": 1.25, "link.nvlink.bandwidth": 2.0}
    assert run("check", "mine.toml").exit_code == 0


@pytest.mark.parametrize("base", ["a100_sxm4_40gb", "./first.toml"])
def test_new_from_a_derived_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    monkeypatch.chdir(tmp_path)
    run("new", "first", "--from", "a100_sxm4_40gb", "--set", "power.tdp=300 W")
    assert run("new", "second", "--from", base, "--set", "overhead.launch=9us").exit_code == 0
    expected = load_device(base).parameters() | {"overhead.launch": 9e-6}
    assert load_device("./second.toml").parameters() == pytest.approx(expected)


@pytest.mark.parametrize(("args", "message"), [
    (("show", "h100"), "Did you mean h100_sxm or h100_pcie?"),
    (("new", "x", "--from", "h100_sxm", "--set", "hw.mem_bw"), "expected KEY=VALUE"),
    (("new", "x", "--from", "h100_sxm", "--set", "hw.mem_bw=700 W"), "is a unit of W"),
    (("new", "x", "--from", "h100_sxm", "--set", "memory.hbm.speed=1"), "nearest: memory.hbm"),
    (("diff", "h100_sxm", "nothing"), "unknown hardware 'nothing'"),
])
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert isinstance(result.exception, ValueError)     # the command line turns it into exit code 2
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_a_name_without_its_path_is_told_where_the_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("new", "my_x", "--from", "t4")
    assert "The file here is --hw ./my_x.toml." in str(run("show", "my_x").exception)


def test_new_does_not_overwrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("new", "x", "--from", "t4")
    assert "--force" in str(run("new", "x", "--from", "t4").exception)
    assert run("new", "x", "--from", "t4", "--force").exit_code == 0


def test_check_reports_every_file(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('name = "g"\ntitle = "G"\nbase = "t4"\n')
    bad.write_text('name = "b"\ntitle = "B"\nbase = "t4"\n[memory.gddr]\nbandwith = 1\n')
    result = run("check", str(good), str(bad), "--format", "json")
    assert result.exit_code == 2
    assert [r["status"] for r in json.loads(result.stdout)] == ["ok", "error"]
    assert "did you mean 'bandwidth'?" in json.loads(result.stdout)[1]["message"]


def test_slips_of_unit_are_doubted() -> None:
    device = load_device("h100_sxm")
    assert implausible(device) == []
    assert "capacity" in implausible(device.with_value("memory.hbm.capacity", "8 MB"))[0]
    assert "rate.fp8" in implausible(device.with_value("engine.matrix.rate.fp8", "2 TFLOP/s"))[0]


def test_shipped_devices_are_plausible() -> None:
    assert {n: implausible(load_device(n)) for n in list_devices() if implausible(load_device(n))} == {}
