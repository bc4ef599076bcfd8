"""Engines inside NAND dies, and the array beside them, through the ordinary path."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from accel_models.bind import Hardware, bind
from accel_models.bind_storage import in_flash
from accel_models.cost.in_flash import gemv
from accel_models.cost.systolic import array_cycles
from accel_models.price import Priced, price
from accel_models.registry import load_device
from workloads.ops import Attention, Elementwise, Gemm, Op

DESIGNS = ("cambricon_llm_s", "cambricon_llm_m", "cambricon_llm_l")


def hardware(name: str = "cambricon_llm_s", engine: str = "flash") -> Hardware:
    return bind([load_device(f"{name}.{engine}")])


def one(op: Op, hw: Hardware | None = None) -> Priced:
    return price([op], hw or hardware())[0]


def seconds(p: Priced) -> float:
    return float(np.ravel(p.cost.time)[0])


def product(m: float = 1.0, n: float = 4096.0, k: float = 4096.0, **more: object) -> Gemm:
    return Gemm(name="p", m=m, n=n, k=k, **{"a": "int8", "w": "int8", "out": "int32", **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DESIGNS)
def test_price_is_the_formula_with_the_devices_own_geometry(name: str) -> None:
    by_formula = gemv(11008.0, 4096.0, **in_flash(load_device(name), "flash"))
    assert seconds(one(product(n=11008), hardware(name))) == pytest.approx(float(by_formula.total), rel=1e-9)


@pytest.mark.parametrize(("name", "bound"), tuple(zip(DESIGNS, (25.5e9, 85.9e9, 311.6e9), strict=True)))
def test_a_whole_layer_comes_near_the_bound(name: str, bound: float) -> None:
    """One page a die and read time, and the channels beside it."""
    rate = 2.0**30 / seconds(one(product(n=2.0**15, k=2.0**15), hardware(name)))
    assert 0.9 * bound < rate < bound


def test_every_row_passes_the_weights_anew() -> None:
    assert seconds(one(product(m=6))) == pytest.approx(6 * seconds(one(product())))
    assert seconds(one(product(m=2, batch=3))) == pytest.approx(6 * seconds(one(product())))


def test_stored_bytes_decide_and_not_elements() -> None:
    assert seconds(one(product(k=8192, w="int4"))) == pytest.approx(seconds(one(product())), rel=0.1)
    assert seconds(one(product(w="fp16"))) > 1.7 * seconds(one(product()))


def test_nobody_measured_such_a_device() -> None:
    p = one(product())
    assert p.source == ("assumed",)
    assert float(np.ravel(p.hi / p.lo)[0]) >= 2
    assert float(np.ravel(p.cost.flops)[0]) == 2 * 4096 * 4096


def test_shapes_may_be_arrays() -> None:
    many = one(product(n=np.array([1024.0, 4096.0]))).cost.time                   # type: ignore[arg-type]
    assert np.ravel(many)[1] == pytest.approx(seconds(one(product())))


def test_geometry_that_is_missing_is_named() -> None:
    hw = hardware()
    less = {k: v for k, v in hw.figures[0].items() if k != "nand_page"}
    with pytest.raises(ValueError, match=re.escape("cambricon_llm_s: engine figure 'nand_page' is missing")):
        price([product()], replace(hw, figures=(less,)))


# -- the array beside them --------------------------------------------------------------------------------------------

def attention(**change: object) -> Attention:
    given = {"phase": "decode", "batch": 1, "q_len": 1, "kv_len": 1000, "n_heads": 32, "n_kv_heads": 32, "head_dim": 128,
             "v_head_dim": 128, "kv_elements": 8192, "q": "int8", "kv": "int8"}
    return Attention(name="a", **{**given, **change})  # type: ignore[arg-type]


def npu() -> Hardware:
    return hardware(engine="matrix")


def test_attention_takes_the_arrays_own_cycles_or_the_caches_bytes() -> None:
    p = one(attention(), npu())
    cycle = 2 * 16 * 16 / 2e12
    scores = array_cycles(1, 1000, 128, array_rows=16, array_cols=16)
    sums = array_cycles(1, 128, 1000, array_rows=16, array_cols=16)
    moved = 2 * 32 * 1000 * 128 / 40e9
    assert float(scores.total) == pytest.approx(float(np.ceil(1000 / 16) * 8 * 16), rel=0.01)     # a row as long as sixteen
    assert 32 * float(scores.total + sums.total) * cycle < moved < seconds(p) < 1.1 * moved
    assert p.source == ("assumed",)


def test_slower_arrays_show() -> None:
    """At 0.5 TOP/s, as sides and clock give it, the array takes longer than the memory."""
    slow = bind([load_device("cambricon_llm_s.matrix").with_value("engine.matrix.rate.int8", "0.5 TOP/s")])
    assert seconds(one(attention(), slow)) > 1.3 * seconds(one(attention(), npu()))


def test_groups_and_windows() -> None:
    shared = one(attention(n_kv_heads=8, kv_elements=2048), npu())
    assert seconds(shared) < 0.3 * seconds(one(attention(), npu()))
    assert seconds(one(attention(window=500), npu())) == pytest.approx(0.5 * seconds(one(attention(), npu())), rel=0.1)
    causal = attention(phase="prefill", q_len=1000)
    assert float(np.ravel(one(causal, npu()).cost.flops)[0]) == pytest.approx(32 * 4 * 1000 * 500.5 * 128)


def test_arrays_attend_only_where_the_file_says_so() -> None:
    hw = npu()
    silent = replace(hw, figures=({k: v for k, v in hw.figures[0].items() if k != "attention"},))
    assert seconds(one(attention(), silent)) != pytest.approx(seconds(one(attention(), hw)), rel=0.05)


def test_norms_go_to_the_general_formula() -> None:
    op = Elementwise(name="n", kind="rmsnorm", rows=1, cols=4096, bytes_read=8192, bytes_written=8192)
    assert 0 < seconds(one(op, npu())) < 1e-3
