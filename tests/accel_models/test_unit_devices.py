"""Invented devices made of units: shapes from published figures, arrays of equal synthesised area, and what they answer."""

import json
from pathlib import Path

import pytest

from accel_models.bind import bind
from accel_models.chip import chip
from accel_models.families import peak
from accel_models.registry import load_device
from sim.api import whatif
from workloads.formats import get_format

FIGURES = Path(__file__).resolve().parents[2] / "rtl" / "figures.json"
#: Device of the edge family -> (unit, build) of one instance, and how many an array has.
BUILT = {
    "edge_int_mac": [("base_mac_dp", "16x(8x8)", "rows")],
    "edge_mac": [("base_fp16_mac", "AM 23", "rows")],
    "edge_bit_serial": [("bitserial_mac", "BPC 2", "rows")],
    "edge_popcount": [("btc_popcount_gemm", "2x4x128", "")],
    "edge_shift": [("shift_mac", "16, B 3", "rows")],
    "edge_lut": [("lut_mpgemm_tile", "ACC 24", ""), ("lut_table_gen", "A8", "generators")],
}


def gates(name: str) -> float:
    """Gate equivalents of a device's arrays, by the builds that stand in ``figures.json``."""
    stored = {(r["unit"], r["build"]): r["ge"] for r in json.loads(FIGURES.read_text(encoding="utf-8"))}
    device = load_device(name)
    array: float = sum(stored[unit, build] * (device.get(f"engine.matrix.figure.{count}") if count else 1.0)
                for unit, build, count in BUILT[name])
    return float(array * device.get("engine.matrix.units"))


@pytest.mark.parametrize("name", BUILT)
def test_arrays_of_the_edge_family_take_the_same_area(name: str) -> None:
    assert gates(name) == pytest.approx(gates("edge_int_mac"), rel=0.012)


@pytest.mark.parametrize("name", [n for n in BUILT if n != "edge_int_mac"])
def test_the_edge_family_differs_in_its_arrays_alone(name: str) -> None:
    one, other = load_device("edge_int_mac").parameters(), load_device(name).parameters()
    assert {k: v for k, v in one.items() if not k.startswith("engine.matrix")} \
        == {k: v for k, v in other.items() if not k.startswith("engine.matrix")}
    assert one["engine.matrix.clock"] == other["engine.matrix.clock"]


@pytest.mark.parametrize(("name", "times", "density", "area"),
                         [("a100_lut4x", 4, 61.84e12, 0.187), ("a100_lut8x", 8, 61.95e12, 0.373)])
def test_lookup_arrays_of_an_a100_have_the_published_rate(name: str, times: float, density: float, area: float) -> None:
    """Twice published: as a multiple of the fp16 rate, and as density by area of an SM. [op/s/mm2, mm2]"""
    hw = bind([load_device(name)])
    two_bits = float(peak(get_format("int8"), get_format("ternary2"), hw)[0])
    assert two_bits == pytest.approx(times * 312e12, rel=0.01)
    assert two_bits / 108 == pytest.approx(density * area, rel=0.01)
    assert float(peak(get_format("int8"), get_format("int1"), hw)[0]) == pytest.approx(2 * two_bits)
    assert float(peak(get_format("fp16"), get_format("fp16"), hw)[0]) == 312e12


@pytest.mark.parametrize(("name", "weights", "macs"), [
    ("edge_int_mac", "int4", 16384), ("edge_bit_serial", "int8", 2304 * 16 / 4), ("edge_bit_serial", "int2", 2304 * 16),
    ("edge_popcount", "int2", 546 * 1024 / 16), ("edge_shift", "pot3", 2944 * 16), ("edge_lut", "int4", 92 * 512 / 4)])
def test_rates_of_the_edge_family(name: str, weights: str, macs: float) -> None:
    """Multiply-accumulates a cycle at 1 GHz: those of all arrays over the turns of the weights."""
    assert float(peak(get_format("int8"), get_format(weights), bind([load_device(name)]))[0]) == pytest.approx(2e9 * macs)


@pytest.mark.parametrize(("name", "weights"), [("edge_lut", "int4"), ("edge_bit_serial", "int4"), ("edge_shift", "pot3")])
def test_wide_activations_need_wide_units(name: str, weights: str) -> None:
    """Floats go to the vector engine unless the units are built for 16 bits, which takes more gates."""
    narrow, w = load_device(name), get_format(weights)
    wide = narrow.with_value("engine.matrix.figure.act_bits", 16)
    beside = narrow.get("engine.vector.rate.fp16")
    assert float(peak(get_format("bf16"), w, bind([narrow]))[0]) == pytest.approx(beside)
    rates = [float(peak(get_format(a), w, bind([wide]))[0]) for a in ("bf16", "int8")]
    assert rates[0] == rates[1] == float(peak(get_format("int8"), w, bind([narrow]))[0])
    assert float(chip(wide).multipliers) > float(chip(narrow).multipliers)


def test_lookups_are_asked_like_any_device() -> None:
    fast, slow = (whatif("1bitLLM/bitnet_b1_58-3B", hw, quant="ternary2/int8", batch=1, isl=1024, osl=64).data["metrics"]
                  for hw in ("a100_lut8x", "a100_sxm4_80gb"))
    assert fast["ttft_s"]["value"] < 0.75 * slow["ttft_s"]["value"]
    assert fast["tpot_s"]["value"] == pytest.approx(slow["tpot_s"]["value"], rel=0.1)      # weights stream either way


def test_rates_that_follow_from_a_contract_cannot_be_stated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"edge_lut: engine.matrix.rate.int8: follows from the shape .* engine.matrix.units"):
        load_device("edge_lut").with_value("engine.matrix.rate.int8", "1 TOP/s")
    (tmp_path / "mine.toml").write_text('name = "mine"\ntitle = "t"\nbase = "edge_int_mac"\n[engine.matrix]\n'
                                        'rate.int8 = { value = "1 TOP/s", kind = "assumed", note = "x" }\n')
    with pytest.raises(ValueError, match=r"mine.toml: engine.matrix.rate.int8: follows from the shape"):
        load_device(tmp_path / "mine.toml")
    assert load_device("a100_lut4x").with_value("engine.matrix.rate.fp16", "300 TFLOP/s").rate("fp16") == 3e14
