"""Varied hardware is, row by row, what binding the changed device gives."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.bind import Hardware, bind, take
from accel_models.registry import ad_hoc, list_devices, load_device, load_system
from sim.sweep import hardware
from sim.sweep.hardware import changed, vary


def assert_equal(a: Hardware, b: Hardware) -> None:
    for f in fields(Hardware):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if f.type == "Array":
            np.testing.assert_allclose(x, y, rtol=1e-12, err_msg=f.name)
        elif f.name == "rate_table":
            for fmt in x:
                np.testing.assert_allclose(x[fmt], y[fmt], rtol=1e-12, err_msg=fmt)
        else:
            assert x == y, f.name


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_equal_to_bind(data):
    device = load_device(data.draw(st.sampled_from(list_devices())))
    known = {k: v for k, v in device.parameters().items() if v > 0}
    keys = data.draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=5, unique=True))
    n = data.draw(st.integers(1, 6))
    factors = st.lists(st.floats(0.25, 4.0), min_size=n, max_size=n)
    values = {k: known[k] * np.array(data.draw(factors)) for k in keys}
    rows = [changed(device, {k: float(v[i]) for k, v in values.items()}) for i in range(n)]
    try:
        expected = bind(rows)
    except ValueError:                                       # a shape that no unit has: refused here as there
        with pytest.raises(ValueError, match="must be"):
            vary(device, None, values)
    else:
        assert_equal(vary(device, None, values), expected)


def test_a_number_that_the_file_lacks():
    device = load_device("h200_sxm")
    values = {"engine.matrix.rate.fp4": np.array([2e15, 3e15]), "memory.l2.bandwidth": np.array([2e12, 9e12])}
    rows = [changed(device, {k: float(v[i]) for k, v in values.items()}) for i in range(2)]
    assert_equal(vary(device, None, values), bind(rows))


def test_in_a_system():
    system = load_system("dgx_h100")
    values = {"link.nvlink.bandwidth": np.array([1e11, 9e11]), "hw.mem_bw": np.array([1e12, 8e12])}
    rows = [changed(system.main, {system.main.key(k): float(v[i]) for k, v in values.items()}) for i in range(2)]
    assert_equal(vary(system.main, system, values), bind(rows, system))
    assert system.n_devices > 1


def test_thousands_of_points_need_no_binding_each(monkeypatch):
    device, bound = load_device("h200_sxm"), []
    monkeypatch.setattr(hardware, "bind", lambda devices, system=None: bound.append(len(devices)) or bind(devices, system))
    draw = np.random.default_rng(0)
    keys = ("memory.main.bandwidth", "memory.l2.capacity", "engine.matrix.units", "power.tdp", "price.rental")
    some = {k: device.get(k) * draw.uniform(0.5, 4.0, 5000) for k in keys}
    assert len(vary(device, ad_hoc(1, device), some)) == 5000
    assert sum(bound) < 40


def test_figures_of_a_family_beside_others(monkeypatch):
    device, bound = load_device("alveo_u280"), []
    monkeypatch.setattr(hardware, "bind", lambda devices, system=None: bound.append(len(devices)) or bind(devices, system))
    draw, n = np.random.default_rng(0), 400
    key = next(k for k in device.parameters() if hardware._any_law(k))
    values = {key: device.get(key) * draw.choice([0.5, 1.0, 2.0], n),
              "memory.main.bandwidth": device.get("memory.main.bandwidth") * draw.uniform(0.5, 2.0, n)}
    found = vary(device, None, values)
    assert sum(bound) < 60
    rows = [changed(device, {device.key(k): float(v[i]) for k, v in values.items()}) for i in range(0, n, 40)]
    assert_equal(take(found, list(range(0, n, 40))), bind(rows))


@pytest.mark.parametrize("rest", [False, True])
def test_shapes_of_arrays_are_handed_on_without_binding_each(monkeypatch, rest):
    device, bound = load_device("u280_ternary"), []
    monkeypatch.setattr(hardware, "bind", lambda devices, system=None: bound.append(len(devices)) or bind(devices, system))
    draw, n = np.random.default_rng(0), 3000
    values = {f"engine.matrix.figure.{k}": draw.integers(1, 600, n).astype(float) for k in ("tile_n", "vector_n")}
    if rest:
        values |= {"memory.main.bandwidth": draw.uniform(1e11, 1e12, n), "power.tdp": draw.uniform(100, 300, n)}
    found = vary(device, None, values)
    assert sum(bound) < 60
    some = list(range(0, n, 97))
    rows = [changed(device, {device.key(k): float(v[i]) for k, v in values.items()}) for i in some]
    assert_equal(take(found, some), bind(rows))


def test_shapes_that_make_a_rate_are_bound_each():
    """Arrays of units: the peak follows from their shape."""
    device = load_device("bitmod")
    values = {"engine.matrix.figure.rows": np.array([16.0, 32.0, 64.0, 48.0, 17.0, 128.0, 96.0])}
    rows = [changed(device, {k: float(v[i]) for k, v in values.items()}) for i in range(7)]
    found = vary(device, None, values)
    assert_equal(found, bind(rows))
    assert any(len({*rate}) == 7 for rate in found.rate_table.values())


def test_where_half_precision_becomes_slower_than_single():
    device = load_device("rtx_4090")
    values = {"engine.vector.rate.fp32": np.array([8e13, 8e13, 2e14, 2e14]),
              "engine.matrix.rate.fp16": np.array([9e13, 1.65e14, 1.9e14, 2.1e14]),
              "engine.matrix.rate.bf16": np.array([9e13, 1.65e14, 1.9e14, 2.1e14])}
    rows = [changed(device, {k: float(v[i]) for k, v in values.items()}) for i in range(4)]
    assert_equal(vary(device, None, values), bind(rows))


def test_where_another_link_becomes_the_fastest():
    device = load_device("gh200_96gb")
    values = {"link.nvlink.bandwidth": device.get("link.nvlink.bandwidth") * np.array([1.0, 0.1, 8.0])}
    rows = [changed(device, {k: float(v[i]) for k, v in values.items()}) for i in range(3)]
    bound = bind(rows)
    assert len({*bound.link_bandwidth}) == 3 or len({*bound.link_class}) > 1
    assert_equal(vary(device, None, values), bound)


def test_a_value_that_no_device_has():
    with pytest.raises(ValueError, match="must be above 0"):
        vary(load_device("h200_sxm"), None, {"memory.hbm.bandwidth": np.array([1e12, 0.0])})
