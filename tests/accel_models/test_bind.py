"""Devices as arrays: what a file gives, what a rule fills in and owns up to, how devices are joined."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from accel_models.bind import NO_LINK, PERTURBED, Hardware, bind, perturb
from accel_models.device import FORMATS
from accel_models.registry import list_devices, load_device, load_system

ARRAYS = [f.name for f in fields(Hardware) if f.type == "Array"]


def test_figures_of_a_file_arrive_in_si_units() -> None:
    hw = bind([load_device("h100_sxm"), load_device("t4")])
    assert len(hw) == 2
    assert hw.dram_bandwidth.tolist() == [3.35e12, 320e9]
    assert hw.n_units.tolist() == [132, 40]
    assert hw.tdp.tolist() == [700, 70]
    assert hw.rate_table["bf16"][0] == pytest.approx(989.4e12, rel=1e-3)
    assert hw.dram_capacity[0] == 80 * 2**30 or hw.dram_capacity[0] == 80e9
    assert [i[:2] for i in hw.identity] == [("h100_sxm", "hopper"), ("t4", "turing")]


@pytest.mark.parametrize("name", list_devices())
def test_every_device_binds_to_positive_or_unknown_figures(name: str) -> None:
    hw = bind([load_device(name)])
    for field in ARRAYS:
        value = getattr(hw, field)
        assert value.shape == (1,), field
        assert np.isnan(value[0]) or value[0] >= 0, field
    assert not (hw.l2_bandwidth < hw.dram_bandwidth).any()
    # What is not known is named among the assumed values.
    for field, key in (("tdp", "power.tdp"), ("idle", "power.idle"), ("dram_capacity", "capacity")):
        if np.isnan(getattr(hw, field)[0]):
            assert any(key in text for text in hw.assumed[0]), field


def test_binding_together_is_binding_one_by_one() -> None:
    names = ("h200_sxm", "rtx_4090", "mi300x", "epyc_9654", "kv260")
    both = bind([load_device(n) for n in names])
    for i, name in enumerate(names):
        alone = bind([load_device(name)])
        for field in ARRAYS:
            np.testing.assert_array_equal(getattr(both, field)[i], getattr(alone, field)[0], err_msg=f"{name} {field}")
        for fmt in FORMATS:
            np.testing.assert_array_equal(both.rate_table[fmt][i], alone.rate_table[fmt][0])


def test_a_format_that_an_engine_lacks_falls_back_to_a_wider_one() -> None:
    hw = bind([load_device("a100_sxm4_80gb"), load_device("cambricon_llm_s")])
    assert hw.rate_table["fp8"][0] == hw.rate_table["bf16"][0]
    assert "fp8" not in hw.native[0]
    assert np.isnan(hw.rate_table["bf16"][1])
    assert hw.rate_table["int8"][1] > 0


def test_what_a_rule_filled_in_is_listed() -> None:
    device = load_device("tpu_v3")                           # its brief gives no idle power
    ruled = bind([device])
    assert ruled.idle[0] == pytest.approx(0.13 * ruled.tdp[0])
    assert "power.idle (share of TDP typical of GPUs)" in ruled.assumed[0]
    set_by_hand = bind([device.with_value("power.idle", "75 W")])
    assert set_by_hand.idle[0] == 75
    assert "power.idle" in set_by_hand.assumed[0]


@pytest.mark.parametrize(("name", "domain", "network"), [
    ("dgx_h100", 8, NO_LINK), ("dgx_h100_2n", 8, 50e9), ("8x h100_sxm", 8, NO_LINK), ("2x rtx_4090", 2, NO_LINK),
    ("h100_sxm", 8, NO_LINK),
])
def test_links_of_a_system(name: str, domain: float, network: float) -> None:
    system = load_system(name)
    hw = bind([system.main], system)
    assert (hw.domain[0], hw.network_bandwidth[0]) == (domain, network)
    assert hw.link_class[0] == ("pcie" if "rtx" in name else "nvlink")
    assert hw.link_bandwidth[0] < hw.dram_bandwidth[0]


def test_each_perturbation_changes_its_own_figures_alone() -> None:
    hw = bind([load_device("h200_sxm")])
    raised, keys = perturb(hw, 0.25)
    assert keys == list(PERTURBED)
    assert len(raised) == len(keys) + 1
    for i, key in enumerate(["", *keys]):
        changed = {f for f in ARRAYS if not np.array_equal(getattr(raised, f)[i], getattr(hw, f)[0], equal_nan=True)
                   and np.isfinite(getattr(hw, f)[0])}
        if not np.allclose(raised.rate_table["bf16"][i], hw.rate_table["bf16"][0]):
            changed.add("rate_table")
        expected = {f for f in PERTURBED.get(key, ()) if f == "rate_table" or np.isfinite(getattr(hw, f)[0])}
        assert changed == expected, key
        for f in changed - {"rate_table"}:
            assert getattr(raised, f)[i] == pytest.approx(1.25 * getattr(hw, f)[0])
    assert set(raised.identity) == set(hw.identity)


def test_two_devices_cannot_be_perturbed() -> None:
    with pytest.raises(ValueError, match="perturb takes one device, got 2"):
        perturb(bind([load_device("t4"), load_device("l4")]), 0.01)


@pytest.mark.parametrize("key", ["memory.hbm.bandwidth", "engine.matrix.units", "engine.vector.rate.fp32",
                                 "engine.matrix.rate.fp8", "power.tdp"])
def test_a_divisor_of_zero_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"h200_sxm: .*must be above 0"):
        bind([load_device("h200_sxm").with_value(key, 0)])


def test_columns_line_up_with_the_axes_of_work() -> None:
    hw = bind([load_device("t4"), load_device("l4")])
    assert hw.column("tdp", 3).shape == (2, 1, 1, 1)
    assert hw.rates(["fp16", "fp8"]).tolist() == [hw.rate_table["fp16"][0], hw.rate_table["fp8"][1]]
