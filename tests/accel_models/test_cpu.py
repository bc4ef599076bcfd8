"""CPU formulas: laws of look-up and unpacking, shared bandwidth, threads; and that device files choose them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models.bind import bind
from accel_models.cost.cpu import attention_on_cores, elementwise_on_cores, table_lookup, unpack_multiply
from accel_models.families.cpu import kernel, planes
from accel_models.price import price
from accel_models.registry import load_device
from workloads.formats import get_format
from workloads.ops import Attention, Elementwise, Gemm, Moe, Op

#: Eight cores of 3 GHz with two 128-bit pipes each; memory that never limits unless a test says so.
CORE: dict[str, Any] = {"vector_peak": 8 * 3e9 * 16, "n_units": 8.0, "clock": 3e9, "l2_bandwidth": 1e15,
                        "l2_capacity": 0.0, "dram_bandwidth": 1e15, "core_bytes": 1e6, "barrier_cycles": 0.0}
INT8 = 8 * 3e9 * 64


def product(w: str, a: str = "fp16", m: float = 1.0) -> Gemm:
    return Gemm(name=w, m=m, n=4096, k=4096, a=a, w=w, out="fp16")


@given(bits=st.integers(1, 4), n=st.integers(64, 20_000), k=st.integers(64, 20_000))
def test_look_up_time_goes_with_the_bits_of_a_weight(bits: int, n: int, k: int) -> None:
    one, many = (table_lookup(1, n, k, bits=b, build_ops=0.0, **CORE).compute for b in (1, bits))
    np.testing.assert_allclose(many, bits * one, rtol=1e-9)


def test_a_core_looks_up_one_plane_of_four_weights_a_lane_every_four_instructions() -> None:
    """16 lanes x 4 weights / 4 instructions on 2 pipes: 32 weight bits a cycle and core."""
    one_core = CORE | {"threads": 1.0}
    cost = table_lookup(1, 4096, 4096, bits=1.0, build_ops=0.0, **one_core)
    assert cost.compute == pytest.approx(4096 * 4096 / (32 * 3e9))


def test_tables_are_built_once_for_all_rows_of_the_weights() -> None:
    def building(n: float) -> float:
        return float(table_lookup(1, n, 4096, **CORE).compute - table_lookup(1, n, 4096, build_ops=0.0, **CORE).compute)

    assert building(65536) == pytest.approx(building(64), rel=1e-6)
    assert building(64) > 0


def test_a_table_longer_than_a_register_takes_more_look_ups() -> None:
    four, five = (table_lookup(1, 4096, 4096, group=g, build_ops=0.0, **CORE).compute for g in (4.0, 5.0))
    assert five == pytest.approx(four * 2 * 4 / 5)


def test_unpacking_costs_the_same_for_each_row_unless_rows_share_it() -> None:
    given_ = CORE | {"peak": 1e18, "dequant_ops": 2.0}
    one, ten, shared, twice = (float(unpack_multiply(m, 4096, 4096, reuse=r, **given_).compute)
                               for m, r in ((1, 1), (10, 1), (10, 10), (20, 10)))
    assert ten == pytest.approx(10 * one)
    assert twice == pytest.approx(2 * one, rel=1e-3)
    assert shared == pytest.approx(one, rel=1e-3)


@given(threads=st.integers(1, 64), core=st.floats(1.0, 100.0), total=st.floats(1e9, 1e12))
def test_bandwidth_is_that_of_the_cores_in_use_until_the_memory_gives_no_more(threads: int, core: float, total: float) -> None:
    machine = CORE | {"core_bytes": core, "dram_bandwidth": total, "read_share": 1.0, "threads": threads, "sharpness": 64.0}
    cost = unpack_multiply(1, 8192, 8192, peak=1e18, **machine)
    limit = min(min(threads, 8) * core * 3e9, total)
    assert float(8192 * 8192 * 2.0 / cost.memory) == pytest.approx(limit, rel=0.02)


def test_barriers_grow_with_the_logarithm_of_the_threads_and_one_thread_has_none() -> None:
    times = [float(unpack_multiply(1, 64, 64, peak=1e18, **CORE | {"barrier_cycles": 3e4, "threads": t}).launch)
             for t in (1, 2, 8)]
    assert times == pytest.approx([0.0, 1e-5, 3e-5])


def test_weights_that_stay_in_the_last_cache_come_from_there() -> None:
    machine = CORE | {"dram_bandwidth": 1e10, "l2_bandwidth": 1e12, "l2_capacity": 1e9}
    cold, warm = (unpack_multiply(1, 4096, 4096, peak=1e18, resident=r, **machine).time for r in (0.0, 1.0))
    assert warm < cold / 10


def test_one_row_of_element_wise_work_keeps_one_core_busy() -> None:
    one, eight = (elementwise_on_cores(rows, 4096, 0, 0, **CORE).compute for rows in (1, 8))
    assert one == pytest.approx(eight)


def test_causal_attention_over_a_prompt_is_half_of_the_full_one() -> None:
    machine = {k: v for k, v in CORE.items() if not k.startswith("l2")} | {"peak": 1e12}
    causal, full = (attention_on_cores(1, 1024, 1024, 32, 128, 128, causal=c, **machine).flops for c in (1.0, 0.0))
    assert causal == pytest.approx(full / 2, rel=0.01)


@pytest.mark.parametrize(("fmt", "framework", "which"), [
    ("fp16", "tmac", "plain"), ("int2_g128", "tmac", "lookup"), ("ternary", "tmac", "lookup"), ("int8", "tmac", "unpack"),
    ("q4_0", "tmac", "unpack"), ("int4_g128", "llama.cpp", "unpack"), ("int4_g128", "", "unpack")])
def test_the_framework_and_the_format_choose_the_kernel(fmt: str, framework: str, which: str) -> None:
    assert kernel(get_format(fmt), framework) == which


def test_a_ternary_digit_takes_two_planes() -> None:
    assert [planes(get_format(f)) for f in ("ternary", "int1", "int3_g64")] == [2, 1, 3]


def test_a_cpu_of_the_package_is_priced_by_these_formulas_and_by_what_was_fitted() -> None:
    hw = bind([load_device("raspberry_pi_5"), load_device("i9_13900k")])
    (two,), (four,) = (price([product(w)], hw, framework="tmac") for w in ("int2_g128", "int4_g128"))
    assert np.all(four.cost.compute / two.cost.compute > 1.9)
    assert two.source == ("fitted", "transferred")
    assert np.all(two.lo <= 1)
    assert np.all(two.hi >= 1)


def test_ops_of_unlike_kernels_come_back_in_their_places() -> None:
    hw = bind([load_device("raspberry_pi_5"), load_device("apple_m2_ultra.cpu")])
    m = np.array([1.0, 7.0])
    ops: list[Op] = [Gemm(name=w, m=m, n=n, k=4096, a="fp16", w=w, out="fp16")
                     for w, n in (("int2_g128", 4096), ("fp16", 512), ("int4_g128", 1024), ("int8", 2048), ("fp16", 4096))]
    together = price(ops, hw, framework="tmac")
    for op, found in zip(ops, together, strict=True):
        (alone,) = price([op], hw, framework="tmac")
        np.testing.assert_allclose(found.cost.time, np.broadcast_to(alone.cost.time, found.cost.time.shape), err_msg=op.name)
        np.testing.assert_allclose(found.hi, np.broadcast_to(alone.hi, found.hi.shape))
        assert found.source == alone.source


def test_experts_read_only_the_weights_of_those_that_are_hit() -> None:
    hw = bind([load_device("i9_13900k")])
    one, many = (price([Moe(name="e", tokens=t, hidden=4096, inter=14336, topk=2, n_experts=8, n_local=8, w="q4_0")], hw)[0]
                 for t in (1, 64))
    expert = 3 * 4096 * 14336 * get_format("q4_0").nbytes
    assert one.cost.nbytes.item() == pytest.approx(2 * expert, rel=0.01)
    assert many.cost.nbytes.item() == pytest.approx(8 * expert, rel=0.02)


def test_attention_and_norms_are_priced_too() -> None:
    hw = bind([load_device("i9_13900k")])
    ops: list[Op] = [Attention(name="a", phase="decode", batch=1, q_len=1, kv_len=4096, n_heads=32, n_kv_heads=8,
                               head_dim=128, v_head_dim=128, kv_elements=2048, q="fp16", kv="fp16"),
                     Elementwise(name="n", kind="rmsnorm", rows=1, cols=4096, bytes_read=8192, bytes_written=8192)]
    attention, norm = price(ops, hw)
    assert attention.cost.memory.item() > 4096 * 2048 * 2 / 89.6e9
    assert 0 < norm.cost.time.item() < 1e-3


def test_fewer_cores_in_use_are_slower_and_zero_is_refused() -> None:
    device = load_device("apple_m2_ultra.cpu")
    one, all_ = (price([product("q4_0")], bind([d]))[0].cost.time.item()
                 for d in (device.with_value("engine.matrix.units", 1), device))
    assert one > 3 * all_
    assert device.matrix is not None
    figure = device.matrix.figure["read_share"].model_copy(update={"value": 0.0})
    broken = device.model_copy(update={"engine": {"matrix": device.matrix.model_copy(update={
        "figure": {"threads": figure}})}})
    with pytest.raises(ValueError, match="apple_m2_ultra: engine figure 'threads': must be at least 1, found 0"):
        price([product("q4_0")], bind([broken]))
