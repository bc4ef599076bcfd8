"""Conservation and limits of the energy of an op."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models.bind import bind
from accel_models.cost.energy import energy, transfer
from accel_models.fitted_store import load, lookup
from accel_models.price import price
from accel_models.registry import load_device
from workloads.ops import Gemm

J = {"j_per_op": 7e-13, "j_per_byte": 6e-11, "idle_power": 100.0, "j_per_byte_cache": 1e-11}
amount = st.floats(0.0, 1e15)


@given(time=st.floats(1e-6, 10.0), flops=amount, nbytes=amount, cache=amount, tdp=st.floats(150.0, 1000.0))
def test_terms_add_up_and_power_keeps_within_the_limit(time: float, flops: float, nbytes: float, cache: float,
                                                       tdp: float) -> None:
    e = energy(time, flops, nbytes, cache, tdp=tdp, **J)
    assert e.total == pytest.approx(float(e.static + e.compute + e.memory))
    assert J["idle_power"] * (1 - 1e-9) <= e.power <= tdp * (1 + 1e-9)
    if e.limited:
        assert e.power == pytest.approx(tdp)
    else:
        assert e.compute == pytest.approx(flops * J["j_per_op"])
    assert energy(time, flops * 2 + 1, nbytes, cache, tdp=tdp, **J).total >= e.total * (1 - 1e-9)


def test_zero_time_and_broadcasting() -> None:
    none = energy(0.0, 0.0, 0.0, tdp=700.0, **J)
    assert none.total == 0.0
    assert none.power == 0.0
    assert none.limited == 0.0
    grid = energy(np.ones((3, 1)), 1e14, 1e12, tdp=np.array([300.0, 700.0]), **J)
    assert grid.total.shape == (3, 2)
    assert grid.static.shape == (3, 2)
    assert grid.total[1, 0] == pytest.approx(float(energy(1.0, 1e14, 1e12, tdp=300.0, **J).total))


def test_transfer_is_the_identity_on_the_fitted_device_and_scales_with_the_limit() -> None:
    found = lookup("energy", "bf16", "h200_sxm", "hopper")
    assert found.source == "fitted"
    v = found.params.values
    own = transfer(v, peak=989.4e12, dram_bandwidth=4.8e12, tdp=700.0)
    assert own.j_per_op == pytest.approx(v["j_per_op"], rel=1e-3)
    assert own.j_per_byte == pytest.approx(v["j_per_byte"], rel=1e-3)
    small = transfer(v, peak=np.array([362e12]), dram_bandwidth=864e9, tdp=350.0)
    assert float(small.j_per_byte) == pytest.approx(float(own.j_per_byte) * (350 / 864e9) / (700 / 4.8e12), rel=1e-3)
    assert small.idle_power == pytest.approx(v["static_share"] * 350.0)
    assert lookup("energy", "bf16", "l40s", "ada").source == "transferred"


def test_fitted_energies_lie_where_physics_puts_them() -> None:
    for s in load("energy").set:
        assert 1e-13 < s.values["j_per_op"] < 2e-11
        assert 3.1e-11 <= s.values["j_per_byte"] < 3e-10       # HBM alone takes 31 to 56 pJ/B
        assert 0.1 <= s.values["static_share"] <= 0.35         # H100 idles at 0.10 of its limit


def test_energies_that_a_file_states_of_its_parts_stand_above_borrowed_ones() -> None:
    ops = [Gemm(name="g", m=4096, n=4096, k=4096, a="fp16", w="fp16", out="fp16")]
    base = load_device("a40")
    lent = price(ops, bind([base]))[0]
    own = base.with_value("engine.matrix.energy_per_op", "0.1 pJ/op").with_value("memory.gddr.energy_per_byte", "1 pJ/B")
    stated = price(ops, bind([own]))[0]
    dynamic = 1e-13 * 2 * 4096**3 + 1e-12 * float(np.ravel(stated.cost.nbytes)[0])
    seconds = float(np.ravel(stated.cost.time)[0])
    twice = own.with_value("engine.matrix.energy_per_op", "0.2 pJ/op")
    more = price(ops, bind([twice]))[0]
    assert float(stated.energy[0]) < float(lent.energy[0])
    assert float(more.energy[0] - stated.energy[0]) == pytest.approx(1e-13 * 2 * 4096**3)
    assert dynamic < float(stated.energy[0]) < dynamic + seconds * base.get("power.tdp")


def test_a_file_that_states_all_its_parts_draws_what_they_do_and_its_own_idle_power() -> None:
    """The static share of measured boards is theirs: fans, regulators, links."""
    device = load_device("fp16_baseline").with_value("engine.matrix.energy_per_op", "1.155 pJ/MAC")
    ops = [Gemm(name="g", m=1, n=4096, k=4096, a="fp16", w="fp16", out="fp16")]
    one = price(ops, bind([device]))[0]
    parts = 0.5 * 1.155e-12 * 2 * 4096**2 + 8 * 18.75e-12 * float(np.ravel(one.cost.nbytes)[0])
    assert float(one.energy[0]) == pytest.approx(parts + 0.06 * float(np.ravel(one.cost.time)[0]))
