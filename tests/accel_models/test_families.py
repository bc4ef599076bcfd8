"""The seam between kinds of engines and formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from accel_models import families
from accel_models.bind import Hardware, bind
from accel_models.columns import Stack
from accel_models.families.general import PRICERS
from accel_models.price import price
from accel_models.registry import load_device
from workloads.ops import Elementwise, Gemm, Op

OPS = [Gemm(name="a", m=1, n=4096, k=4096, a="fp16", w="fp16", out="fp16"),
       Elementwise(name="b", kind="add", rows=8, cols=4096, bytes_read=1e5, bytes_written=1e5)]


def _doubled(ops: Sequence[Op], numbers: dict[str, Any], hw: Hardware, framework: str) -> Stack:
    stack = PRICERS[Gemm](ops, numbers, hw, framework)
    factor = hw.figure("slowness").reshape((-1,) + (1,) * (numbers["m"].ndim - 2))
    return stack._replace(cost=stack.cost._replace(time=stack.cost.time * factor))


def _plain() -> Any:
    """An A40 under a name that nothing was fitted on."""
    return load_device("a40").model_copy(update={"name": "unheard_of"})


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(families.FAMILIES, "odd", {Gemm: _doubled})
    raw = _plain().model_dump()
    raw["engine"]["matrix"] |= {"kind": "odd", "figure": {"slowness": {"value": 2, "kind": "assumed", "note": "a test"}}}
    return type(load_device("a40")).model_validate(raw)


def test_a_registered_kind_is_priced_by_its_own_formula_and_the_rest_by_the_general_one(odd: Any) -> None:
    general, own = price(OPS, bind([_plain()])), price(OPS, bind([odd]))
    np.testing.assert_allclose(own[0].cost.time, 2 * general[0].cost.time)
    np.testing.assert_allclose(own[1].cost.time, general[1].cost.time)


def test_a_device_that_the_general_formula_was_fitted_on_keeps_it(odd: Any) -> None:
    known = odd.model_copy(update={"name": "a40"})
    own, general = price(OPS, bind([known])), price(OPS, bind([load_device("a40")]))
    np.testing.assert_allclose(own[0].cost.time, general[0].cost.time)
    assert own[0].source == ("fitted",)


def test_devices_of_two_families_in_one_call_keep_their_places(odd: Any) -> None:
    devices = [load_device("a100_sxm4_80gb"), odd, load_device("a40")]
    ops = [Gemm(name="a", m=np.array([1.0, 64.0]), n=4096, k=4096, a="fp16", w="fp16", out="fp16"), OPS[1]]
    together = price(ops, bind(devices))
    for i, device in enumerate(devices):
        alone = price(ops, bind([device]))
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a.cost.time[i], np.broadcast_to(b.cost.time[0], a.cost.time[i].shape))
            assert a.source[i] == b.source[0]


def test_a_figure_that_is_missing_is_named(odd: Any) -> None:
    with pytest.raises(ValueError, match=r"unheard_of: engine figure 'lanes' is missing.*\[engine.matrix.figure\] lanes"):
        bind([odd]).figure("lanes")
    assert bind([odd]).figure("lanes", 4.0) == 4.0


def test_one_engine_of_a_device_sees_its_own_rates_and_bandwidth() -> None:
    phone = load_device("snapdragon_8_gen_3")
    cpu = phone.seen_by("vector")
    assert cpu.matrix is not None
    assert cpu.matrix.kind == phone.engine["vector"].kind
    assert "vector" not in cpu.engine
    with pytest.raises(ValueError, match=r"no engine 'dsp'; it has .*vector"):
        phone.seen_by("dsp")
