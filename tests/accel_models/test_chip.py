"""Areas and prices of chips that do not exist."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models.chip import chip, die_price, ge_per_mac, node_of
from accel_models.registry import list_devices, load_device
from accel_models.silicon import area, cells, sram_area
from accel_models.units import KINDS
from rtl.harness.figures import stored


def _of_units(name: str) -> bool:
    engine = load_device(name).matrix
    return engine is not None and engine.kind in KINDS


WITH_DIE = [n for n in list_devices() if load_device(n).area.die and load_device(n).area.process and not _of_units(n)]
MADE = [n for n in list_devices() if _of_units(n) and load_device(n).area.process and not load_device(n).area.die]


@pytest.mark.parametrize("name", WITH_DIE)
def test_nothing_changed_is_the_published_die(name: str) -> None:
    found = chip(load_device(name))
    die = load_device(name).area.die
    assert die is not None
    assert float(found.area) == pytest.approx(die.value * 1e6)
    assert float(found.area_lo) == pytest.approx(float(found.area))
    assert float(found.area_hi) == pytest.approx(float(found.area))
    assert float(found.sram + found.multipliers + found.phy + found.rest) == pytest.approx(float(found.area))
    assert min(float(x) for x in found) >= 0


@pytest.mark.parametrize("name", MADE)
def test_a_chip_of_units_is_its_arrays_buffers_and_vector_engine(name: str) -> None:
    found = chip(load_device(name))
    assert float(found.sram + found.multipliers + found.phy + found.rest) == pytest.approx(float(found.area))
    assert min(found.sram, found.multipliers, found.rest) > 0
    assert found.area_lo < found.area < found.area_hi
    assert found.usd_lo < found.usd < found.usd_hi


def test_arrays_of_units_by_hand() -> None:
    found = chip(load_device("edge_int_mac"))
    assert float(found.multipliers) == pytest.approx(float(area(1024 * cells("base_mac_dp", {"L": 16}).ge, node=28)))
    assert float(found.sram) == pytest.approx(float(sram_area(2 * 2**20, node=28)))


def test_lookup_arrays_of_a_gpu_come_on_top_of_its_die() -> None:
    with_arrays, without = chip(load_device("a100_lut4x")), chip(load_device("a100_sxm4_80gb"))
    tile, table = cells("lut_mpgemm_tile", {"T_W": 8}).ge, cells("lut_table_gen", {"Q": 1, "A_W": 16}).ge
    assert float(with_arrays.area - without.area) == pytest.approx(float(area(108 * 16 * (tile + 2 * table), node=7)))


@given(n=st.integers(1, 256), m=st.integers(1, 8), k=st.integers(2, 6), units=st.integers(1, 200))
def test_more_of_an_array_is_larger(n: int, m: int, k: int, units: int) -> None:
    base, key = load_device("edge_lut"), "engine.matrix.figure."
    at = {f"{key}tile_n": n, f"{key}tile_m": m, f"{key}group": k, "engine.matrix.units": units}
    here = chip(base, at)
    for axis, v in at.items():
        more = chip(base, at | {axis: v + 1})
        assert more.area > 0.98 * here.area, axis            # a synthesised build beside a modelled one
        assert chip(base, at | {axis: 2 * v}).area > here.area, axis


@given(l2=st.floats(1e6, 1e9), units=st.floats(1, 400), bandwidth=st.floats(1e11, 2e13))
def test_more_of_anything_is_larger_and_dearer(l2: float, units: float, bandwidth: float) -> None:
    base = load_device("h100_sxm")
    at = {"memory.l2.capacity": l2, "engine.matrix.units": units, "memory.hbm.bandwidth": bandwidth}
    here = chip(base, at)
    for key, v in at.items():
        more = chip(base, at | {key: 1.1 * v})
        assert more.area > here.area, key
        assert more.usd > here.usd, key


def test_a_cache_of_40_mb_takes_what_its_bits_take() -> None:
    base = load_device("a100_sxm4_80gb")
    two = chip(base, {"memory.l2.capacity": np.array([40e6, 80e6])}).area
    assert two[1] - two[0] == pytest.approx(40e6 * 8 * 1.7e-7)


def test_arrays_broadcast_and_the_interval_opens_with_the_change() -> None:
    found = chip(load_device("h100_sxm"), {"engine.matrix.units": np.array([[66.0], [132.0]]),
                                           "memory.l2.capacity": np.array([50e6, 100e6, 200e6])})
    assert found.area.shape == found.usd.shape == (2, 3)
    assert np.all(found.area_hi - found.area_lo >= 0)
    assert found.area_hi[1, 2] - found.area_lo[1, 2] > found.area_hi[1, 1] - found.area_lo[1, 1]


def test_price_of_a_die_by_hand() -> None:
    """A 10 x 10 mm die on a 300 mm wafer: 640 dies at most; at 0.1 defects per cm2 about nine in ten are good."""
    price = float(die_price(100.0, wafer_usd=10_000.0, defects_per_mm2=0.001, clustering=3.0))
    dies = np.pi * 300**2 / 400 - np.pi * 300 / np.sqrt(200)
    assert price == pytest.approx(10_000 / (dies * (1 + 0.1 / 3) ** -3))
    assert 14 < price < 19
    assert die_price(800.0, wafer_usd=10_000.0, defects_per_mm2=0.001, clustering=3.0) > 8 * price


@pytest.mark.parametrize(("text", "node"), [("TSMC 4N", "5"), ("7 nm", "7"), ("TSMC N6", "7"), ("TSMC 12FFN", "16"),
                                            ("Samsung 8LPP", "7"), ("TSMC 16 nm", "16"), ("TSMC N5 + N6", "5"), ("28 nm", "28"),
                                            ("TSMC 40 nm", "45"), ("28", "28"), ("22.0", "28")])
def test_nodes_as_vendors_write_them(text: str, node: str) -> None:
    assert node_of(text) == node


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match=r"no node in 'SMIC N\+1'; write it as '7 nm'"):
        node_of("SMIC N+1")
    with pytest.raises(ValueError, match=r"epyc_9654: area: needs \[area\] die and process"):
        chip(load_device("epyc_9654"))


def test_a_file_may_state_the_areas_of_its_own_parts() -> None:
    base = load_device("h100_sxm")
    raw = base.model_dump()
    raw["area"]["figure"] = {"mm2_per_mac": {"value": 1e-3, "kind": "assumed", "note": "a test"},
                             "sram_mm2_per_bit": {"value": 2.5e-7, "kind": "assumed", "note": "a test"}}
    own = type(base).model_validate(raw)
    macs = base.engine["matrix"].rate["bf16"].value / 2 / base.engine["matrix"].clock.value  # type: ignore[union-attr]
    assert float(chip(own).multipliers) == pytest.approx(macs * 1e-3)
    assert float(chip(own).sram) == pytest.approx(2 * float(chip(base).sram))
    raw["area"]["figure"] = {"mm2_per_mcu": {"value": 1, "kind": "assumed", "note": "a test"}}
    with pytest.raises(ValueError, match=r"h100_sxm: area.figure.mm2_per_mcu: no such part; known: mm2_per_mac, "):
        chip(type(base).model_validate(raw))


def test_gates_of_multipliers_are_those_that_were_synthesised() -> None:
    found = stored()
    builds = {"fp16": ("base_fp16_mac", "AM 10", 1), "int8": ("base_mac_dp", "16x(8x8)", 16),
              "int4": ("base_mac_dp", "4x(8x4)", 4)}
    for fmt, (unit, build, macs) in builds.items():
        assert ge_per_mac(fmt) == pytest.approx(found[unit, build]["ge"] / macs, rel=0.01), fmt
