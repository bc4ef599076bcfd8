"""NPUs through the ordinary path: which formula prices which op, with whose parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accel_models.bind import bind
from accel_models.cost.systolic import systolic
from accel_models.device import Device
from accel_models.families.general import PRICERS
from accel_models.families.systolic import HEXAGON, figures
from accel_models.price import Priced, price
from accel_models.registry import load_device
from workloads.ops import Attention, Elementwise, Gemm, Moe, Op

PHONE = "snapdragon_8_gen_3"
INT8: dict[str, Any] = {"a": "int8", "w": "int8", "out": "int8"}


def on(device: str, *ops: Op, framework: str = "") -> list[Priced]:
    return price(ops, bind([load_device(device)]), framework=framework)


def seconds(p: Priced) -> float:
    return float(np.ravel(p.cost.time)[0])


def test_products_follow_the_fitted_constants_of_the_phone() -> None:
    int8, fp16 = on(f"{PHONE}.matrix", Gemm(name="a", m=64, n=8192, k=2048, **INT8), Gemm(name="b", m=64, n=8192, k=2048),
                    framework="qnn")
    assert int8.source == fp16.source == ("fitted",)
    assert 1.2e-3 < seconds(int8) < 1.9e-3                  # measured 1.5 ms; 48 us at the nominal rate
    assert seconds(fp16) > 300 * seconds(int8)              # measured 986 ms
    assert np.ravel(int8.cost.compute) > np.ravel(int8.cost.memory)


def test_sixteen_bits_leave_the_arrays_where_the_runtime_is_not_said_and_the_vector_engine_is_faster() -> None:
    ops = Gemm(name="a", m=np.array([1.0, 64.0]), n=8192, k=2048), Gemm(name="b", m=64, n=8192, k=2048, **INT8)
    (wide, int8), (kept, same) = on(f"{PHONE}.matrix", *ops), on(f"{PHONE}.matrix", *ops, framework="qnn")
    assert (wide.source, int8.source, kept.source) == (("assumed",), ("fitted",), ("fitted",))
    assert np.all(wide.cost.time < 0.05 * kept.cost.time)
    assert np.all(wide.cost.flops / wide.cost.time < bind([load_device(PHONE)]).vector_rate[0])
    assert seconds(int8) == seconds(same)
    both = price(ops, bind([load_device(f"{PHONE}.matrix"), load_device("snapdragon_x_elite")]))
    np.testing.assert_allclose(both[0].cost.time[0], wide.cost.time[0])
    assert [p.source[0] for p in both] == ["assumed", "fitted"]


def test_a_sibling_borrows_with_an_interval_of_a_factor_of_two() -> None:
    for device in ("snapdragon_8_gen_2", "snapdragon_x_elite"):
        p, = on(device, Gemm(name="a", m=64, n=8192, k=2048, **INT8))
        assert p.source == ("assumed",)
        assert float(np.ravel(p.lo)[0]) == 0.5
        assert float(np.ravel(p.hi)[0]) == 2.0


def test_weights_unpacked_to_fp16_run_at_the_matrix_units_rate_and_nobody_measured_them() -> None:
    p, = on(f"{PHONE}.matrix", Gemm(name="a", m=512, n=4096, k=4096, w="int4_g128"))
    assert p.source == ("assumed",)
    assert 2 * 512 * 4096 * 4096 / seconds(p) == pytest.approx(12.03e12, rel=0.05)


def test_attention_and_elementwise_stay_on_the_vector_side() -> None:
    ops = (Attention(name="a", phase="prefill", batch=1, q_len=256, kv_len=1024, n_heads=32, n_kv_heads=8, head_dim=128,
                     v_head_dim=128, kv_elements=2048),
           Elementwise(name="n", kind="rmsnorm", rows=256, cols=4096, bytes_read=2**21, bytes_written=2**21))
    attention, norm = on(f"{PHONE}.matrix", *ops)
    flops = float(np.ravel(attention.cost.flops)[0])
    assert flops / seconds(attention) < float(bind([load_device(PHONE)]).vector_rate[0])
    assert 0 < seconds(norm) < 1e-2


def test_an_expert_layer_is_its_products() -> None:
    moe = Moe(name="m", tokens=64, hidden=2048, inter=1408, topk=4, n_experts=8, n_local=8, a="int8", w="int8", out="int8")
    parts = [Gemm(name="u", m=32, n=2816, k=2048, batch=8, **INT8), Gemm(name="d", m=32, n=2048, k=1408, batch=8, **INT8)]
    whole, up, down = on(f"{PHONE}.matrix", moe, *parts)
    assert seconds(whole) == pytest.approx(seconds(up) + seconds(down), rel=1e-6)


def test_figures_come_from_the_file_and_the_scratchpad_is_the_memory_it_says() -> None:
    device = load_device(PHONE)
    given = figures(bind([device]))
    assert given["scratchpad"][0] == device.get("memory.vtcm.capacity") == HEXAGON["scratchpad_bytes"]
    assert set(given) <= set(systolic.__kwdefaults__) | {"n_units", "array_rows", "array_cols", "scratchpad",
                                                         "dram_bandwidth"}
    bare = bind([load_device("snapdragon_8_plus_gen_1")])       # the tile of the matrix unit is that of its kind
    assert figures(bare)["array_rows"] == HEXAGON["rows"]


def test_a_graph_of_fixed_shape_is_a_figure_that_a_file_may_give() -> None:
    raw = load_device(f"{PHONE}.matrix").model_dump()
    raw["engine"]["matrix"]["figure"]["graph_rows"] = {"value": 256, "kind": "assumed", "note": "chunks of llm.npu"}
    chunked = Device.model_validate(raw)
    one, many = (price([Gemm(name="a", m=m, n=2048, k=2048, **INT8)], bind([chunked]))[0] for m in (10, 1000))
    assert seconds(many) == pytest.approx(4 * seconds(one))


def test_an_array_of_unknown_size_keeps_the_general_formula() -> None:
    op = Gemm(name="a", m=256, n=4096, k=4096, **INT8)
    hw = bind([load_device("cambricon_llm_s")])
    if not np.isnan(hw.figure("rows", np.nan)[0]):
        pytest.skip("its file says by now how large its array is")
    f = {k: np.array([[float(getattr(op, k))]]) for k in ("m", "n", "k", "batch", "resident")}
    general = PRICERS[Gemm]([op], f, hw, "").cost.time
    assert seconds(price([op], hw)[0]) == float(np.ravel(general)[0])


@pytest.mark.parametrize("device", ["tpu_v3", "tpu_v4", "tpu_v5e", "tpu_v5p", "tpu_v6e"])
def test_tpus_multiply_by_their_arrays(device: str) -> None:
    hw = bind([load_device(device)])
    side, peak = hw.figure("rows")[0], hw.rate_table["bf16"][0]
    assert 2 * side**2 * hw.n_units[0] * hw.clock[0] == pytest.approx(peak, rel=0.05)       # arrays and clock make the rate
    large, ragged, narrow = on(device, *(Gemm(name="g", m=8192, n=n, k=8192) for n in (8192, side * 4 + 1, 1)))
    # Whole training steps reach 0.67 of the peak on a v5e-256 (MaxText's published table): a large product does more.
    assert float(np.ravel(large.cost.flops)[0]) / seconds(large) / peak > 0.9
    assert float(np.ravel(ragged.cost.flops)[0]) / seconds(ragged) / peak < 0.95
    assert float(np.ravel(narrow.cost.flops)[0]) / seconds(narrow) / peak < 1.01 / side
    assert large.source == ("assumed",)
