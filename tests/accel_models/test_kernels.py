"""Products of two formats as counts of work: what each mechanism must and must not do to the time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.bind import Hardware, bind
from accel_models.kernels import kernels, multiply
from accel_models.price import eager, price
from accel_models.registry import load_device
from workloads.formats import get_format
from workloads.ops import Gemm, Moe
from workloads.quantise import preset

A100 = bind([load_device("a100_sxm4_80gb")])
H100 = bind([load_device("h100_sxm")])
PARTS = ["nf4+apart", "int4_g128+out1%", "vq16x8", "int4_g128", "bit3"]
ACTS = ["bf16", "int8", "int8+col1%", "int8+ready+around8a8c8", "bit4", "int4+mix25%int8"]


def op(a: str, w: str, m: float = 1.0, n: float = 4096.0, k: float = 4096.0) -> Gemm:
    return Gemm(name="x", m=m, n=n, k=k, a=a, w=w)


def time(a: str, w: str, m: float = 1.0, hw: Hardware = A100, framework: str = "", n: float = 4096.0,
         k: float = 4096.0) -> float:
    return float(price([op(a, w, m, n, k)], hw, framework=framework)[0].cost.time.item())


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(ACTS), st.sampled_from(PARTS), st.integers(1, 5000), st.integers(64, 9000), st.integers(64, 9000))
def test_an_op_costs_what_its_kernels_cost(a: str, w: str, m: int, n: int, k: int) -> None:
    whole = price([op(a, w, m, n, k)], A100)[0]
    parts = [(float(np.asarray(x.repeat)) if len(kernels(op(a, w, m, n, k))) > 1 else 1.0, price([x], A100)[0])
             for x in kernels(op(a, w, m, n, k))]
    assert whole.cost.time.item() == pytest.approx(sum(c * p.cost.time.item() for c, p in parts))
    assert whole.energy.item() == pytest.approx(sum(c * p.energy.item() for c, p in parts))
    assert whole.lo.item() <= whole.hi.item()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(ACTS), st.sampled_from(PARTS))
def test_arrays_give_what_single_shapes_give(a: str, w: str) -> None:
    m = np.array([[1.0, 7.0, 300.0]])
    together = price([op("bf16", "bf16"), op(a, w, m)], A100, n_axes=3)[1].cost.time
    assert together.ravel() == pytest.approx([time(a, w, x) for x in m.ravel()])


def test_plain_products_are_one_kernel() -> None:
    for a, w in (("bf16", "bf16"), ("int8", "int8"), ("bf16", "int4_g128"), ("bit2", "bit2"), ("bf16", "vq16x8")):
        assert len(kernels(op(a, w))) == 1


def test_binary_products_count_planes_of_both() -> None:
    big = {"m": 8192, "n": 8192, "k": 8192}
    # 4992 TOP/s of one bit are 4 times int4: 2 x 2 planes take as long, 4 x 4 four times
    assert time("bit2", "bit2", **big) == pytest.approx(time("int4", "int4", **big), rel=0.2)
    assert time("bit4", "bit4", **big) / time("bit2", "bit2", **big) == pytest.approx(4.0, rel=0.15)
    assert time("bit2", "bit8", **big) == pytest.approx(time("bit8", "bit2", **big), rel=0.25)


def test_few_rows_stream_the_planes_of_the_weight() -> None:
    long = {"m": 1, "n": 32768, "k": 16384}
    assert time("bit8", "bit8", **long) / time("bit8", "bit2", **long) == pytest.approx(4.0, rel=0.15)


def test_planes_need_a_binary_unit() -> None:
    assert "int1" not in H100.native[0]
    assert multiply("bit2", "bit2", H100.native[0]).compute == "bf16"
    assert multiply("bit2", "bit2", A100.native[0]).compute == "int1"
    assert multiply("int8", "bit2", A100.native[0]).rows == 1.0


def test_a_product_runs_at_the_rate_of_its_wider_operand() -> None:
    native = A100.native[0]
    assert [multiply(a, w, native).compute for a, w in (("int4", "int8"), ("int8", "int4"), ("int4", "int4"))] == [
        "int8", "int8", "int4"]


def test_columns_in_a_second_format_cost_their_rate() -> None:
    big = {"m": 8192, "n": 8192, "k": 8192}
    four, eight = time("int4", "int4", **big), time("int8", "int4", **big)
    mixed = time("int4+mix25%int8", "int4", **big)
    assert four < mixed < eight
    assert mixed == pytest.approx(0.75 * four + 0.25 * eight, rel=0.1)


def test_unpacking_to_memory_reads_and_writes_sixteen_bits() -> None:
    shape = {"m": 16, "n": 73728, "k": 18432}
    plain, apart = time("fp16", "fp16", **shape), time("fp16", "nf4+apart", **shape)
    # 2 B read by the product; 0.56 read and 2 written before it
    assert apart / plain == pytest.approx((2 + 2 + 0.5625) / 2, rel=0.15)
    assert time("fp16", "nf4", **shape) < plain


@given(st.sampled_from([0.1, 1.0, 5.0, 20.0]), st.sampled_from([1, 64, 2048]))
@settings(max_examples=12, deadline=None)
def test_outliers_never_cost_less(percent: float, m: int) -> None:
    some, twice = (time(f"int8+col{p:g}%", "int8", m) for p in (percent, 2 * percent))
    assert time("int8", "int8", m) < some <= 1.001 * twice
    assert time("bf16", "int4_g128", m) < time("bf16", f"int4_g128+out{percent:g}%", m)


def test_kernels_around_a_product_add_their_bytes_and_calls() -> None:
    assert time("int8+ready", "int8", 64) < time("int8", "int8", 64) < time("int8+around8a8c8", "int8", 64)
    few, many = kernels(op("int8+around2a8c8", "int8", 64))[1], kernels(op("int8+around8a8c8", "int8", 64))[1]
    total = [float(np.asarray(x.repeat)) * float(x.bytes_read + x.bytes_written) for x in (few, many)]  # type: ignore[attr-defined]
    assert total == pytest.approx([64 * 4096 * 16.0] * 2)


def test_a_large_codebook_is_gathered_from_l2() -> None:
    large, small = get_format("vq16x8"), get_format("vq8x4")
    assert (large.gather, large.codebook, small.codebook) == (4.0, 2.0**20, 2048.0)
    assert time("bf16", "vq16x8", n=28672, k=8192) > 1.5 * time("bf16", "vq8x4", n=28672, k=8192)
    roomy = replace(A100, smem_per_unit=np.array([2.0**21]))
    assert time("bf16", "vq16x8", hw=roomy, n=28672, k=8192) < 0.7 * time("bf16", "vq16x8", n=28672, k=8192)


def test_experts_take_the_same_formats() -> None:
    def layer(a: str, w: str) -> float:
        moe = Moe(name="x", tokens=4096.0, hidden=4096.0, inter=4096.0, topk=2.0, n_experts=8.0, n_local=8.0, a=a, w=w)
        return float(price([moe], A100)[0].cost.time.item())

    assert layer("bit4", "bit4") > 1.5 * layer("bit2", "bit2")


@pytest.mark.parametrize(("a", "w"), [("fp16", "fp16"), ("fp16", "int4_g128"), ("int8", "int8")])
def test_an_eager_framework_waits_for_the_host(a: str, w: str) -> None:
    graph, issued = time(a, w, 1), time(a, w, 1, framework="eager")
    assert 1e-5 < issued - graph < 1e-4
    assert eager("torch-2.1.0-cu121")
    assert not eager("vllm-0.19.0")
    assert price([op(a, w)], A100, framework="eager")[0].source != ("fitted",)


@pytest.mark.parametrize(("a", "w"), [("bit2", "bit2"), ("int4_g128", "int4_g128"), ("int8", "int4_g128"),
                                      ("bf16", "vq16x8"), ("int4+mix25%int8", "int4")])
def test_a_kernel_that_nobody_measured_says_so(a: str, w: str) -> None:
    near = price([op("int8", "int8")], A100)[0]
    mine = price([op(a, w)], A100)[0]
    assert mine.source == ("assumed",)
    assert mine.lo.item() <= near.lo.item()
    assert mine.hi.item() >= near.hi.item()
    layer = Moe(name="x", tokens=16.0, hidden=4096.0, inter=4096.0, topk=2.0, n_experts=8.0, n_local=8.0, a=a, w=w)
    assert price([layer], A100)[0].source == ("assumed",)


def test_parts_of_formats_say_bits_and_work() -> None:
    mixed = get_format("int4_g128+mix25%int8")
    assert (mixed.bits, mixed.mix, mixed.mix_format) == (4.125 + 0.25 * 4, 0.25, "int8")
    columns = get_format("int8+col1%")
    assert (columns.bits, columns.columns, columns.base) == (8.08, 0.01, "int8")
    around = get_format("int8+ready+around8a6c4")
    assert (around.kernels, around.moved_a, around.moved_c, around.base) == (8.0, 6.0, 4.0, "int8+ready")
    assert get_format("bit6_g128").bits == 6.125
    assert get_format("int4+ops3").dequant_ops == get_format("int4").dequant_ops + 3
    assert get_format("nf4+apart").bits == get_format("nf4").bits


@pytest.mark.parametrize("name", ["bit9", "int4+col1%int8", "int4+mix25%", "int4+mix25%what", "int8+around8", "int4+opsx",
                                  "int4+mix5%int8+mix5%int8", "int8+col101%"])
def test_a_wrong_part_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"number format|expected|takes no format"):
        get_format(name)


def test_a_scheme_may_name_both_operands() -> None:
    pair = preset("bit2/bit8").default
    assert (pair.weight, pair.act) == ("bit2", "bit8")
    with pytest.raises(ValueError, match="number format"):
        preset("bit2/what")
