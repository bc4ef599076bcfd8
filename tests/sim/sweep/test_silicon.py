"""Area and price of a point's chip."""

import numpy as np
import pytest

from accel_models.chip import assumptions, chip
from accel_models.registry import load_device
from sim.sweep.evaluate import ERROR, closed
from tests.sim.sweep.small import HEAD, made

AREA = """
[sweep.objectives]
area_mm2 = "min"
chip_usd = "min"
scaled_usd_per_m_output_tokens = "min"
"""


def figures(sweep, head=HEAD):
    space = made(sweep, head=head, objectives=AREA)
    columns, good = space.columns(np.arange(space.size))
    assert good.all()
    return columns, closed(space, columns)


def test_an_unchanged_chip_is_the_published_one():
    _, found = figures('[sweep.grid]\n"workload.concurrency" = [1, 8]')
    assert found.figures["area_mm2"] == pytest.approx([814, 814])
    assert found.figures["scaled_usd_per_m_output_tokens"] == pytest.approx(found.figures["usd_per_m_output_tokens"])


@pytest.mark.parametrize("axis", ["memory.l2.capacity", "engine.matrix.units", "memory.hbm.bandwidth"])
def test_changed_numbers_count_on_an_axis_and_in_the_head(axis):
    was = load_device("h200_sxm").get(axis)
    columns, found = figures(f'[sweep.grid]\n"hardware.{axis}" = [{was}, {1.5 * was}]')
    wanted = chip(load_device("h200_sxm"), {axis: columns[f"hardware.{axis}"]})
    assert found.figures["area_mm2"] == pytest.approx(wanted.area)
    assert found.figures["area_mm2_hi"] == pytest.approx(wanted.area_hi)
    assert found.figures["chip_usd"] == pytest.approx(wanted.usd)
    assert found.figures["chip_usd_lo"][1] < found.figures["chip_usd"][1] < found.figures["chip_usd_hi"][1]
    head = HEAD.replace('base = "h200_sxm"', f'base = "h200_sxm", "{axis}" = {1.5 * was}')
    _, fixed = figures('[sweep.grid]\n"workload.concurrency" = [1]', head=head)
    assert fixed.figures["area_mm2"][0] == pytest.approx(wanted.area[1])
    rise = wanted.usd[1] / wanted.usd[0]
    assert fixed.figures["scaled_usd_per_m_output_tokens"] == pytest.approx(fixed.figures["usd_per_m_output_tokens"] * rise)


def test_a_rate_set_by_itself_counts_multipliers_once():
    """Twice the processors at twice the rate have each what each had; half the processors at that rate twice as much."""
    device = load_device("h200_sxm")
    rate, units = device.get("engine.matrix.rate.fp16"), device.get("engine.matrix.units")
    objectives = AREA + '[sweep]\nkeep = ["multipliers_mm2"]'
    space = made(f'[sweep.grid]\n"hardware.engine.matrix.rate.fp16" = [{rate}, {2 * rate}]\n'
                 f'"hardware.engine.matrix.units" = [{units}, {2 * units}]', objectives=objectives)
    columns, _ = space.columns(np.arange(4))
    found = closed(space, columns).figures["multipliers_mm2"]
    assert found == pytest.approx(float(chip(device).multipliers) * columns["hardware.engine.matrix.rate.fp16"] / rate)


def test_a_device_without_a_die_is_an_error_that_says_so():
    _, found = figures('[sweep.grid]\n"workload.concurrency" = [1]', head=HEAD.replace("h200_sxm", "b200_sxm"))
    assert found.status.tolist() == [ERROR]
    assert "needs [area] die and process" in found.error[0]


def test_arrays_of_units_grow_with_every_axis_of_their_shape():
    """Tables, rows, columns and buffers of a lookup array: areas are those of its cells, and follow each axis."""
    head = HEAD.replace("h200_sxm", "edge_lut")
    for axis, values in (("group", [3, 4, 5]), ("tile_m", [1, 2, 4]), ("tile_n", [16, 64, 128]), ("table_bits", [8, 11, 16]),
                         ("generators", [1, 2, 4]), ("tables", [1, 2, 4]), ("weight_buffer_bytes", [262144, 1048576, 4194304])):
        _, found = figures(f'[sweep.grid]\n"hardware.engine.matrix.figure.{axis}" = {values}', head=head)
        wanted = chip(load_device("edge_lut"), {f"engine.matrix.figure.{axis}": np.array(values, dtype=float)})
        assert found.figures["area_mm2"] == pytest.approx(wanted.area), axis
        if axis != "table_bits":                     # tables of up to 8 bits are rounded, which takes gates as well
            assert np.all(np.diff(found.figures["area_mm2"]) > 0), axis
        assert np.all(found.figures["area_mm2_lo"] < found.figures["area_mm2"]), axis


@pytest.mark.parametrize(("device", "axis", "values"), [
    ("edge_int_mac", "rows", [16, 64, 100]), ("edge_int_mac", "lanes", [4, 16, 24]), ("edge_mac", "mantissa", [10, 18, 23]),
    ("edge_bit_serial", "lanes", [4, 16, 32]), ("edge_bit_serial", "bits_per_cycle", [1, 2, 4]),
    ("edge_popcount", "word", [32, 128, 256]), ("edge_shift", "lanes", [4, 16, 64])])
def test_area_follows_the_shape_of_every_kind_of_array(device, axis, values):
    head = HEAD.replace("h200_sxm", device)
    _, found = figures(f'[sweep.grid]\n"hardware.engine.matrix.figure.{axis}" = {values}', head=head)
    assert np.all(np.diff(found.figures["area_mm2"]) > 0)
    assert np.all(found.figures["area_mm2_hi"] > 1.3 * found.figures["area_mm2"])


def test_assumptions_are_listed_with_their_reason():
    assert any(a.startswith("spread = 1.5 (no changed chip was ever compared") for a in assumptions())
    assert not any(a.startswith("hbm_phy_mm2") for a in assumptions())
