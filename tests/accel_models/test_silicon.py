"""Cells, area and energy from our own synthesis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models import technology
from accel_models.silicon import (
    TERMS,
    activity,
    area,
    cell_area,
    cells,
    energy_per_cycle,
    modelled,
    resolved,
    sram_area,
    sram_energy_per_byte,
    toggle_energy,
    work_energy,
)
from rtl.harness.builds import synthesised
from rtl.harness.figures import stored
from rtl.harness.registry import names

#: Unit -> parameters that make it larger.
SIZES = {"base_fp16_mac": ("AM",), "base_mac_dp": ("L", "A_W", "B_W"), "bitserial_mac": ("LANES", "A_W", "BPC"),
         "btc_popcount_gemm": ("MT", "NT", "KW"), "lut_mpgemm_tile": ("M", "N", "K", "T_W", "ACC_W"),
         "lut_table_gen": ("K", "A_W"), "shift_mac": ("L", "A_W"), "ternary_acc": ("L", "NO", "A_W"),
         "sparse_dsp_chain": ("D", "M"), "flash_page_gemv": ("COLS", "NMAC"), "bitmod_unit": ("ACC_W", "D_W")}


@pytest.mark.parametrize("unit", names())
def test_a_synthesised_build_has_its_own_figures(unit: str) -> None:
    for (name, _), row in stored().items():
        if name == unit:
            found = cells(unit, row["parameters"])
            assert (float(found.ge), float(found.ff)) == (row["ge"], row["ff"]), row["build"]
            assert bool(found.synthesised)
            assert float(found.spread) == 1.0


@pytest.mark.parametrize("unit", sorted(TERMS))
def test_formulas_meet_the_builds_they_are_fitted_to(unit: str) -> None:
    for _, row in synthesised(unit):
        p = resolved(unit, row["parameters"])
        assert float(modelled(unit, p)) == pytest.approx(row["ge"], rel=0.09), row["parameters"]
        assert float(modelled(unit, p, "ff")) == pytest.approx(row["ff"], rel=0.15), row["parameters"]


@pytest.mark.parametrize("unit", sorted(TERMS))
def test_what_was_not_synthesised_is_modelled_and_says_so(unit: str) -> None:
    name = SIZES[unit][0]
    values = sorted({p[name] for p, _ in synthesised(unit)})
    found = cells(unit, {name: np.array([values[0], 0.5 * (values[0] + values[1]) + 0.1])})
    assert not found.synthesised[1]
    assert 1.0 < float(found.spread[1]) < 1.3
    assert 0 < float(found.ff[1]) < float(found.ge[1])


@pytest.mark.parametrize(("unit", "parameter"), [(u, p) for u, ps in SIZES.items() for p in ps])
@given(v=st.integers(2, 200))
def test_more_of_a_parameter_is_more_cells(unit: str, parameter: str, v: int) -> None:
    top = {"K": 8, "BPC": 8, "AM": 40}.get(parameter, 200)
    at = min(v, top)
    here, more = cells(unit, {parameter: at}), cells(unit, {parameter: 2 * at})
    assert more.ge > here.ge
    assert np.all(np.isfinite([here.ge, here.ff, here.toggles]))


def test_arrays_are_their_elements() -> None:
    n, k = np.array([[16], [64], [100]]), np.array([2.0, 3.0, 4.0, 6.0])
    found = cells("lut_mpgemm_tile", {"N": n, "K": k})
    assert found.ge.shape == found.ff.shape == found.synthesised.shape == found.spread.shape == (3, 4)
    for i, j in np.ndindex(3, 4):
        one = cells("lut_mpgemm_tile", {"N": int(n[i, 0]), "K": float(k[j])})
        assert float(one.ge) == pytest.approx(float(found.ge[i, j]))
        assert bool(one.synthesised) == bool(found.synthesised[i, j])


def test_what_does_not_exist_is_said() -> None:
    with pytest.raises(ValueError, match="no unit 'lut_tile'; did you mean"):
        cells("lut_tile", {})
    with pytest.raises(ValueError, match="base_mac_dp: no parameter 'lanes'; has L, A_W, B_W, ACC_W"):
        cells("base_mac_dp", {"lanes": 4})
    with pytest.raises(ValueError, match="nbit_unpack: no area between its synthesised builds, which are LANES=16 B=2; def"):
        cells("nbit_unpack", {"LANES": 7})


def test_area_by_hand() -> None:
    """A NAND2 of 0.49 um2 at 28 nm; 71 % of the density is reached; alike in chip areas of multipliers."""
    assert cell_area("28 nm") == pytest.approx(0.49e-6, rel=0.01)
    assert float(area(1e6, node=28)) == pytest.approx(0.69, rel=0.01)
    areas = [float(area(1e6, node=n)) for n in (28, 16, "TSMC N7", "4N")]
    assert areas == sorted(areas, reverse=True)


def test_energy_by_hand() -> None:
    """Half of C V^2 of 3.04 inputs of 1.599 fF at 0.9 V is 1.97 fJ; a flip-flop's clock changes twice."""
    assert toggle_energy(45) == pytest.approx(1.97e-15, rel=0.01)
    assert float(energy_per_cycle(1000, node=45, activity=0.5)) == pytest.approx(500 * toggle_energy(45))
    assert float(energy_per_cycle(0, node=28, ff=10)) == pytest.approx(20 * toggle_energy(28))
    assert float(energy_per_cycle(1000, node=28)) == pytest.approx(1000 * technology.common()["activity"] * toggle_energy(28))
    mac = cells("base_fp16_mac", {})
    assert float(work_energy(mac, node=28)) == pytest.approx((float(mac.ge) * activity("base_fp16_mac") + 2 * 67)
                                                             * toggle_energy(28))
    energies = [toggle_energy(n) for n in (45, 28, 16, 7, 5)]
    assert energies == sorted(energies, reverse=True)


def test_memories_by_hand() -> None:
    """512 KiB at 28 nm: 4.19 million bits of 0.127 um2 and as much again of periphery, 1.03 mm2. 10, 20 and 100 pJ for eight
    bytes of 8, 32 and 1024 KiB at 45 nm are published."""
    assert float(sram_area(512 * 1024, node=28)) == pytest.approx(1.03, rel=0.01)
    published = np.array([10.0, 20.0, 100.0]) * 1e-12 / 8
    assert sram_energy_per_byte(np.array([8, 32, 1024]) * 1024, node=45) == pytest.approx(published, rel=0.05)


@given(small=st.floats(1e3, 1e6), factor=st.floats(1.0, 100.0), node=st.sampled_from(technology.nodes()))
def test_larger_memories_cost_more(small: float, factor: float, node: str) -> None:
    assert sram_area(small * factor, node=node) >= sram_area(small, node=node)
    assert sram_energy_per_byte(small * factor, node=node) >= sram_energy_per_byte(small, node=node)


def test_every_node_has_every_factor() -> None:
    tables = technology.raw()["node"].values()
    assert len({frozenset(t) for t in tables}) == 1
    for table in (*tables, technology.raw()["common"]):
        for name, q in table.items():
            assert q["value"] > 0, name
            assert q.get("source") or q.get("note"), name
            assert q["kind"] in ("datasheet", "measured", "fitted", "assumed", "derived"), name


def test_activity_is_the_simulated_one() -> None:
    assert activity("base_mac_dp") == 0.2808
    assert activity("nbit_unpack") == technology.common()["activity"]
    assert all(0.05 < activity(u) < 0.5 for u in TERMS)
