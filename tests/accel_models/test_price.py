"""Pricing ops: stacked or alone, on one device or many, with the fit of the right kernel, interval and energy."""

from __future__ import annotations

import numpy as np
import pytest

from accel_models.bind import Hardware, bind
from accel_models.cost.terms import Cost
from accel_models.kernels import multiply
from accel_models.price import Priced, price
from accel_models.registry import load_device, load_system
from workloads.ops import ELEMENTWISE_KINDS, Attention, Collective, Elementwise, Gemm, Moe, Op, Scan

DEVICES = ("h200_sxm", "a100_sxm4_80gb", "rtx_4090", "t4", "mi300x", "epyc_9654")


def _attention(phase: str, **rest: object) -> Attention:
    base = {"batch": 4, "q_len": 1 if phase == "decode" else 512, "kv_len": 1024, "n_heads": 32, "n_kv_heads": 8,
            "head_dim": 128, "v_head_dim": 128, "kv_elements": 2048}
    return Attention(name=phase, phase=phase, **{**base, **rest})  # type: ignore[arg-type]


OPS: tuple[Op, ...] = (
    Gemm(name="a", m=64, n=4096, k=4096), Gemm(name="b", m=1, n=14336, k=4096),
    Gemm(name="c", m=64, n=4096, k=4096, w="int4_g128"),
    Gemm(name="d", m=64, n=4096, k=4096, a="fp8_e4m3", w="fp8_e4m3"), Gemm(name="e", m=8, n=64, k=64, static=False),
    Moe(name="f", tokens=32, hidden=2048, inter=1408, topk=4, n_experts=60, n_local=60),
    Moe(name="g", tokens=32, hidden=2048, inter=1408, topk=4, n_experts=60, n_local=30, gated=False, w="int4_g128"),
    _attention("prefill"), _attention("prefill", causal=False), _attention("decode"), _attention("decode", kv="fp8_e4m3"),
    _attention("decode", window=256),
    Scan(name="h", phase="decode", batch=4, q_len=1, flops_per_token=1e6, state_elements=1e5, io_elements=1e4),
    Scan(name="i", phase="prefill", batch=4, q_len=512, flops_per_token=1e6, state_elements=1e5, io_elements=1e4),
    Elementwise(name="j", kind="rmsnorm", rows=64, cols=4096, bytes_read=524288, bytes_written=524288),
    Elementwise(name="k", kind="rope", rows=64, cols=4096, bytes_read=524288, bytes_written=524288),
    Collective(name="l", kind="all_reduce", nbytes=2**20, n_devices=8),
    Collective(name="m", kind="alltoall", nbytes=2**20, n_devices=4),
)


def hardware(*names: str) -> Hardware:
    return bind([load_device(n) for n in names])


def one(x: object) -> float:
    return float(np.asarray(x).reshape(-1)[0])


def same(a: Priced, b: Priced, device: int = 0) -> None:
    for x, y, name in zip(a.cost, b.cost, Cost._fields, strict=True):
        np.testing.assert_allclose(np.ravel(x)[device if np.size(x) > 1 else 0], one(y), rtol=1e-9, err_msg=name)
    for name in ("lo", "hi", "energy"):
        x, y = getattr(a, name), getattr(b, name)
        np.testing.assert_allclose(np.ravel(x)[device if np.size(x) > 1 else 0], one(y), rtol=1e-9, err_msg=name)
    assert a.source[device] == b.source[0]


def test_ops_priced_together_are_ops_priced_alone() -> None:
    hw = hardware("h200_sxm")
    for op, p in zip(OPS, price(OPS, hw), strict=True):
        same(p, price([op], hw)[0])


def test_the_order_of_ops_does_not_matter() -> None:
    hw = hardware("rtx_4090")
    for p, q in zip(price(OPS, hw), reversed(price(OPS[::-1], hw)), strict=True):
        same(p, q)


def test_devices_bound_together_are_devices_bound_alone() -> None:
    both = price(OPS, hardware(*DEVICES))
    for i, name in enumerate(DEVICES):
        for p, q in zip(both, price(OPS, hardware(name)), strict=True):
            same(p, q, i)


def test_array_shapes_are_priced_point_by_point() -> None:
    hw, m = hardware("h200_sxm", "t4"), np.array([[1.0, 16.0, 300.0], [7.0, 64.0, 5000.0]])
    ops = [Gemm(name="a", m=m, n=4096, k=4096), Gemm(name="b", m=m, n=1024, k=8192, w="int4_g128"),
           Gemm(name="c", m=8, n=64, k=64)]
    whole = price(ops, hw)
    assert whole[0].cost.time.shape == (2, 2, 3)
    for i in range(2):
        for j in range(3):
            points = [Gemm(name="a", m=m[i, j], n=4096, k=4096), Gemm(name="b", m=m[i, j], n=1024, k=8192, w="int4_g128")]
            for p, q in zip(whole, price(points, hw), strict=False):
                for f in ("lo", "hi", "energy"):
                    np.testing.assert_allclose(np.broadcast_to(getattr(p, f), (2, 2, 3))[:, i, j],
                                               np.ravel(getattr(q, f)), rtol=1e-9)
                np.testing.assert_allclose(p.cost.time[:, i, j], np.ravel(q.cost.time), rtol=1e-9)


@pytest.mark.parametrize("op", OPS, ids=lambda op: f"{type(op).__name__}-{op.name}")
def test_every_op_has_a_time_an_interval_and_energy_everywhere(op: Op) -> None:
    hw = hardware(*DEVICES)
    p = price([op], hw)[0]
    assert np.all(np.isfinite(p.cost.time))
    assert np.all(p.cost.time > 0)
    assert np.all((p.lo > 0) & (p.lo < p.hi))
    power = p.energy / p.cost.time
    assert np.all(np.broadcast_to(power, (len(DEVICES),)) <= hw.tdp * (1 + 1e-9))
    assert np.all(np.broadcast_to(power, (len(DEVICES),)) >= hw.idle * (1 - 1e-9))
    assert len(p.source) == len(DEVICES)
    assert set(p.source) <= {"fitted", "transferred", "assumed"}


def test_a_device_that_was_fitted_says_so_and_others_do_not() -> None:
    p = price([OPS[0]], hardware("a100_sxm4_80gb", "mi300x", "kv260"))[0]
    assert p.source[0] == "fitted"
    assert "fitted" not in p.source[1:]
    scan = price([OPS[12]], hardware("h200_sxm"))[0]
    assert scan.source == ("assumed",)
    assert (one(scan.lo), one(scan.hi)) == (0.5, 2.0)


@pytest.mark.parametrize(("a", "w", "native", "variant", "compute", "dequantises", "quantises"), [
    ("bf16", "bf16", {"bf16"}, "none", "bf16", False, False),
    ("fp32", "fp32", {"fp32"}, "fp32", "fp32", False, False),
    ("bf16", "int4_g128", {"bf16", "int8"}, "int4_weight_only", "bf16", True, False),
    ("bf16", "int8", {"bf16", "int8"}, "int8_weight_only", "bf16", True, False),
    ("fp8_e4m3", "fp8_e4m3", {"bf16", "fp8"}, "fp8_dynamic", "fp8", False, True),
    ("fp8_g128", "fp8_block128", {"bf16", "fp8"}, "fp8_block128", "fp8", False, True),
    ("fp8_e4m3", "fp8_e4m3", {"bf16"}, "int8_weight_only", "bf16", True, False),     # no such rate: weights alone
    ("int8", "int8", {"bf16", "int8"}, "int8_smoothquant", "int8", False, True),
    ("nvfp4", "nvfp4", {"bf16", "fp8", "fp4"}, "nvfp4_g16", "fp4", False, True),
    ("fp8_e4m3", "int4_g128", {"bf16", "fp8"}, "fp8_dynamic", "fp8", True, True),
])
def test_the_kernel_for_two_formats(a: str, w: str, native: set[str], variant: str, compute: str, dequantises: bool,
                                    quantises: bool) -> None:
    got = multiply(a, w, frozenset(native))
    assert (got.variant, got.compute) == (variant, compute)
    assert (got.dequant_ops > 0, got.quant_kernels > 0) == (dequantises, quantises)


def test_fewer_bits_are_faster_where_weights_are_what_moves() -> None:
    times = [one(price([Gemm(name="g", m=1, n=14336, k=4096, w=w)], hardware("h200_sxm"))[0].cost.time)
             for w in ("bf16", "int8", "int4_g128")]
    assert times == sorted(times, reverse=True)
    assert times[0] / times[2] > 1.5


@pytest.mark.parametrize("kind", ELEMENTWISE_KINDS)
def test_every_elementwise_kind_is_priced(kind: str) -> None:
    op = Elementwise(name="e", kind=kind, rows=64, cols=4096, bytes_read=5e5, bytes_written=5e5)
    assert 1e-7 < one(price([op], hardware("h200_sxm"))[0].cost.time) < 1e-3


def test_a_group_beyond_the_domain_pays_the_network() -> None:
    op = Collective(name="c", kind="all_reduce", nbytes=2**26, n_devices=16)
    two_nodes, one_domain = load_system("dgx_h100_2n"), load_system("gb200_nvl72")
    slow = one(price([op], bind([two_nodes.main], two_nodes))[0].cost.time)
    fast = one(price([op], bind([one_domain.main], one_domain))[0].cost.time)
    assert slow > 2 * fast


def test_no_ops_cost_nothing() -> None:
    assert price([], hardware("t4")) == []


def test_a_collective_across_the_network_does_not_pass_for_fitted() -> None:
    system = load_system("dgx_h200_2n")
    hw = bind([system.main], system)
    inside, across = price([Collective(name=str(n), kind="all_reduce", nbytes=1e6, n_devices=float(n)) for n in (8, 16)], hw)
    assert (inside.source, across.source) == (("fitted",), ("assumed",))
    assert across.hi.item(0) / across.lo.item(0) > inside.hi.item(0) / inside.lo.item(0)
