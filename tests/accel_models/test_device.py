import re
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models.device import Device
from accel_models.device_file import build, to_toml
from accel_models.registry import list_devices, load_device

FACT = {"value": "3 TB/s", "kind": "datasheet", "source": "brief"}
RATE = {"value": "100 TFLOP/s", "kind": "datasheet", "source": "brief"}
WISH = {"value": "6 TB/s", "kind": "assumed", "note": "why"}


def minimal(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "name": "toy", "title": "Toy", "vendor": "V", "kind": "gpu", "generation": "toy", "main_memory": "hbm",
        "engine": {"matrix": {"kind": "tensor_core", "rate": {"bf16": RATE}}},
        "memory": {"hbm": {"level": "dram", "bandwidth": FACT}},
    }
    return raw | changes


def made(raw: dict[str, Any], bases: dict[str, dict[str, Any]] | None = None) -> Device:
    return build(raw, file="toy.toml", base=(bases or {}).__getitem__)


def test_minimal_file() -> None:
    device = made(minimal())
    assert device.main.bandwidth is not None
    assert device.parameters() == {"engine.matrix.rate.bf16": 1e14, "memory.hbm.bandwidth": 3e12}


@pytest.mark.parametrize(("change", "message"), [
    ({"memory": {"hbm": {"level": "dram", "bandwith": FACT}}},
     "toy.toml: memory.hbm.bandwith: unknown key (did you mean 'bandwidth'?)"),
    ({"powr": {}}, "toy.toml: powr: unknown key (did you mean 'power'?)"),
    ({"power": {"tpd": FACT}}, "toy.toml: power.tpd: unknown key (did you mean 'tdp'?)"),
    ({"power": {"tdp": FACT}}, "toy.toml: power.tdp: '3 TB/s': 'TB/s' is a unit of bytes/s; expected W"),
    ({"power": {"tdp": 700}}, "toy.toml: power.tdp: found 700, expected { value = ..."),
    ({"power": {"tdp": {"value": "700 W", "kind": "datasheet"}}}, "toy.toml: power.tdp: '700 W' names no source"),
    ({"power": {"tdp": {"value": "700 W", "kind": "guess", "source": "x"}}},
     "toy.toml: power.tdp.kind: input should be"),
    ({"main_memory": "gddr"}, "toy.toml: main_memory: 'gddr' is no [memory.*]: hbm"),
    ({"engine": {}}, "toy.toml: engine: a gpu needs at least one rate"),
    ({"memory": {"hbm": {"level": "dram"}}}, "toy.toml: memory.hbm.bandwidth: missing"),
    ({"kind": "toaster"}, "toy.toml: kind: input should be"),
    ({"engine": {"matrix": {"kind": "x", "rate": {"bf61": FACT}}}}, "toy.toml: engine.matrix.rate.bf61"),
])
def test_bad_files_name_file_key_and_remedy(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        made(minimal(**change))
    assert "\n" not in str(error.value)


def test_missing_field_is_named() -> None:
    raw = minimal()
    del raw["vendor"]
    with pytest.raises(ValueError, match=r"toy\.toml: vendor: missing"):
        made(raw)


def test_base_is_laid_under_and_numbers_are_replaced_whole() -> None:
    child = {"name": "c", "title": "C", "base": "toy", "memory": {"hbm": {"bandwidth": WISH}}}
    device = made(child, {"toy": minimal(notes="of the base", aliases=["t"])})
    assert device.get("memory.hbm.bandwidth") == 6e12
    assert device.quantities()["memory.hbm.bandwidth"].source == ""     # nothing of the base's figure survives
    assert (device.vendor, device.notes, device.aliases) == ("V", "", ())
    assert device.assumed() == ["memory.hbm.bandwidth"]


def test_only_one_level_of_base() -> None:
    with pytest.raises(ValueError, match="has a base itself"):
        made({"base": "mid"}, {"mid": {"base": "toy"}, "toy": minimal()})


def test_sources_are_spelt_out() -> None:
    device = made(minimal(sources={"brief": "vendor brief, p. 2"}))
    assert {q.source for q in device.quantities().values()} == {"vendor brief, p. 2"}


def test_with_value() -> None:
    old = load_device("h200_sxm")
    new = old.with_value("memory.hbm.bandwidth", "6 TB/s")
    assert (old.get("memory.main.bandwidth"), new.get("hw.mem_bw")) == (4.8e12, 6e12)
    assert "memory.hbm.bandwidth" in new.assumed()
    assert "was 4.8 TB/s" in new.quantities()["memory.hbm.bandwidth"].note
    assert {k for k in old.parameters() if old.get(k) != new.get(k)} == {"memory.hbm.bandwidth"}


def test_with_value_adds_what_the_file_left_out() -> None:
    old = load_device("gb200")
    assert "overhead.launch" not in old.parameters()
    assert old.with_value("overhead.launch", "3 us").get("overhead.launch") == pytest.approx(3e-6)
    with pytest.raises(ValueError, match=r"overhead\.launch: not given"):
        old.get("overhead.launch")


@pytest.mark.parametrize(("path", "value", "message"), [
    ("memory.hbm.bandwith", "6 TB/s", "no parameter 'memory.hbm.bandwith'; nearest: memory.hbm.bandwidth"),
    ("hw.mem_bw", "700 W", "h200_sxm: memory.hbm.bandwidth: '700 W': 'W' is a unit of W"),
])
def test_with_value_refuses(path: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        load_device("h200_sxm").with_value(path, value)


@pytest.mark.parametrize(("device", "fmt", "used"), [
    ("h200_sxm", "fp8", "fp8"), ("h200_sxm", "int4", "int8"), ("h200_sxm", "fp4", "fp8"),
    ("a100_sxm4_80gb", "fp8", "bf16"),
    ("a100_sxm4_80gb", "int4", "int4"), ("v100_pcie_32gb", "bf16", "fp16"), ("t4", "bf16", "fp16"),
    ("t4", "fp8", "fp16"),
    ("tpu_v4", "fp16", "bf16"), ("p4", "fp16", "fp32"), ("p100_pcie_16gb", "fp16", "fp16"),
    ("arc_pro_b60", "fp8", "bf16"),
    ("b200_sxm", "fp4", "fp4"), ("alveo_u280", "int4", "int8"),
])
def test_fallback(device: str, fmt: str, used: str) -> None:
    found = load_device(device).fallback(fmt)
    assert found.fmt == used
    assert (found.reason == "") == (used == fmt)
    assert "\n" not in found.reason


def test_no_fallback_to_a_narrower_format() -> None:
    with pytest.raises(ValueError, match="no engine rate for bf16"):
        load_device("cambricon_llm_s").rate("bf16")
    with pytest.raises(ValueError, match="unknown compute format 'fp7'"):
        load_device("h200_sxm").rate("fp7")


@pytest.mark.parametrize(("name", "fmt", "tera"), [
    ("rtx_4090", "fp16", 165.2), ("rtx_4090", "fp8", 330.3), ("h100_sxm", "bf16", 989.4),
    ("a100_sxm4_80gb", "bf16", 312),
    ("rtx_3090", "fp16", 71), ("l40s", "fp8", 733), ("mi300x", "bf16", 1307.4), ("b200_sxm", "fp8", 4500),
])
def test_rates_are_dense_with_fp32_accumulate(name: str, fmt: str, tera: float) -> None:
    assert load_device(name).rate(fmt) == pytest.approx(tera * 1e12)


@given(st.sampled_from(list_devices()), st.floats(0.1, 10))
def test_what_is_set_is_got(name: str, factor: float) -> None:
    device = load_device(name)
    for key, value in device.parameters().items():
        assert device.with_value(key, value * factor).get(key) == pytest.approx(value * factor)


@pytest.mark.parametrize("name", ["h200_sxm", "a100_sxm4_40gb", "alveo_u280", "snapdragon_8_gen_3", "gh200_96gb"])
def test_writing_and_reading_back_changes_nothing(name: str) -> None:
    device = load_device(name)
    text = to_toml(device.model_copy(update={"base": ""}))
    again = build(tomllib.loads(text), file="again.toml", base={}.__getitem__)
    assert again.parameters() == pytest.approx(device.parameters())
    assert again.assumed() == device.assumed()
    assert [m.level for m in again.memory.values()] == [m.level for m in device.memory.values()]


def test_more_units_or_a_faster_clock_raise_the_rates_of_that_engine_alone() -> None:
    h200 = load_device("h200_sxm")
    double = h200.with_value("engine.matrix.units", 264)
    assert double.rate("bf16") == pytest.approx(2 * h200.rate("bf16"))
    assert double.engine["matrix"].rate["bf16"].kind == "derived"
    assert double.get("engine.vector.rate.fp32") == h200.get("engine.vector.rate.fp32")
    slow = h200.with_value("engine.vector.clock", "990 MHz")
    assert slow.get("engine.vector.rate.fp32") == pytest.approx(h200.get("engine.vector.rate.fp32") / 2)
    assert slow.rate("bf16") == h200.rate("bf16")


def test_a_key_that_is_not_there_is_named_without_the_prefix_of_who_asks() -> None:
    with pytest.raises(ValueError, match=r"bitmod: no parameter 'engine.matrix.figure.lanes'; nearest: engine.matrix.figure"):
        load_device("bitmod").key("hw.engine.matrix.figure.lanes")
