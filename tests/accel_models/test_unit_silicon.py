"""What accelerators of units are made of, and what their figures rest on."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from accel_models.bind import bind
from accel_models.families.units import shape as shape_of
from accel_models.registry import load_device
from accel_models.silicon import area, cells, sram_energy_per_byte, work_energy
from accel_models.unit_silicon import array_cells, engine_cells, rests
from accel_models.units import KINDS, given
from sim.api import whatif

LUT = {"tile_m": 2, "tile_n": 64, "group": 4, "acc_bits": 24, "generators": 2}


def shape(kind: str, known: dict[str, float]) -> dict[str, np.ndarray]:
    return {k: np.asarray(v, dtype=np.float64) for k, v in given(kind, known, where="file").items()}


def test_an_array_is_the_sum_of_its_units() -> None:
    one = array_cells("lut", shape("lut", LUT))
    tile, table = cells("lut_mpgemm_tile", {"M": 2, "N": 64, "K": 4, "ACC_W": 24}), cells("lut_table_gen", {"K": 4})
    assert float(one.ge) == pytest.approx(float(tile.ge + 2 * table.ge))
    assert bool(one.synthesised)
    assert float(one.spread) == 1.0


def test_what_was_not_synthesised_is_said_to_be_modelled() -> None:
    sizes = shape("lut", LUT) | {"tile_n": np.array([48.0, 64.0])}
    found = array_cells("lut", sizes)
    assert found.synthesised.tolist() == [False, True]
    assert found.ge[0] < found.ge[1]
    assert found.spread[0] > 1.0 == found.spread[1]
    assert "modelled" in rests(load_device("edge_lut").with_value("engine.matrix.figure.tile_n", 48))


def test_proven_synthesised_and_assumed_are_told_apart() -> None:
    said = rests(load_device("edge_bit_serial"))
    assert list(said) == ["proven", "synthesised", "assumed"]
    assert "contract of bitserial_mac" in said["proven"]
    assert "clock 1 GHz" in said["assumed"]
    assert "activity" in said["assumed"]
    assert list(rests(load_device("alveo_u280"))) == ["proven"]
    assert rests(load_device("h100_sxm")) == {}


def test_every_kind_has_cells_and_energies() -> None:
    for kind in (k for k in KINDS if "/" not in k):         # other tests may have brought units of their own
        known = {name: 8.0 for name, default in KINDS[kind].figures.items() if default is None}
        assert float(array_cells(kind, shape(kind, known)).ge) > 1000, kind
    assert engine_cells(load_device("h100_sxm")) is None
    one = shape_of(bind([load_device("edge_lut")]), "lut").energies
    assert one.cycle[0] > one.weight[0] > one.vector_op[0] > 0


def test_energies_of_an_engine_by_its_parts() -> None:
    """At 28 nm an fp16 multiply-accumulate takes 0.934 pJ (docs/silicon.md), two operations; a buffer is read bank by bank."""
    device = load_device("bitmod")
    rows, cols, stated = (device.get(f"engine.matrix.figure.{k}") for k in ("rows", "cols", "element_j"))
    own = shape_of(bind([device]), "term_serial").energies
    assert own.cycle[0] == pytest.approx(rows * cols * stated, rel=1e-9, abs=0)
    assert own.vector_op[0] == pytest.approx(0.934e-12 / 2, rel=1e-3, abs=0)
    edge = load_device("edge_lut")
    found, node = shape_of(bind([edge]), "lut").energies, edge.area.process
    assert found.cycle[0] == pytest.approx(work_energy(engine_cells(edge), node=node), rel=1e-9, abs=0)
    for name in ("input", "weight"):
        size = edge.get(f"engine.matrix.figure.{name}_buffer_bytes")
        for banks, device in ((8, edge), (2, edge.with_value("engine.matrix.figure.buffer_banks", 2))):
            assert getattr(shape_of(bind([device]), "lut").energies, name)[0] == \
                pytest.approx(sram_energy_per_byte(size / banks, node=node), rel=1e-9, abs=0)


def test_devices_of_several_nodes_have_each_its_own_energies() -> None:
    names = ["edge_lut", "a100_lut4x", "edge_lut"]
    devices = [load_device(n) for n in names]
    devices[2] = devices[2].model_copy(update={"area": devices[2].area.model_copy(update={"process": ""})})
    together = shape_of(bind(devices), "lut").energies
    for i, d in enumerate(devices):
        alone = shape_of(bind([d]), "lut").energies
        assert [x[i] for x in together] == pytest.approx([x[0] for x in alone], rel=1e-9, abs=0, nan_ok=True)
    assert np.isnan(together.cycle).tolist() == [False, False, True]


def test_what_an_engine_rests_on_counts_all_of_its_arrays() -> None:
    device = load_device("edge_lut").with_value("engine.matrix.figure.tile_n", 48)
    cells_of, text = engine_cells(device), rests(device)["modelled"]
    assert f"{float(cells_of.ge):,.0f} gate equivalents an array" in text
    assert f"{float(area(cells_of.ge * 92, node=device.area.process)):.3g} mm2" in text
    assert f"within {100 * (float(cells_of.spread) - 1):.0f} %" in text
    assert 0 < 100 * (float(cells_of.spread) - 1) < 20


def test_an_answer_says_what_the_units_leave_to_others_and_what_they_draw() -> None:
    a = whatif("llama-2-7b", "edge_bit_serial", quant="w4a8", isl=256, osl=20, sets=(("power.tdp", "20 W"),))
    assert set(a.data["units"]) == {"proven", "synthesised", "assumed"}
    assert "bitserial_mac does not multiply fp16 x fp16: the vector engine does" in a.data["notes"]
    assert any("prefill draws" in note and "above power.tdp of 20 W" in note for note in a.data["notes"])
    assert not any("has no int8 rate" in note for note in a.data["notes"])
    assert "engine.matrix.figure.cols" not in a.data["assumed"]      # of the base's kind of engine, not of this one


def test_estimates_need_no_tool_of_hardware_design() -> None:
    """Cells and contracts are data and formulas: the optional extra ``rtl`` is not there for everybody, and slow to start."""
    code = "import sys, sim.commands.whatif; print({'cocotb', 'cocotb_tools', 'pytest', 'pyverilog'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")
