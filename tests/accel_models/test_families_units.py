"""Engines made of units through the ordinary path: on their own, and inside a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accel_models.bind import Hardware, bind
from accel_models.device import Device
from accel_models.families import peak
from accel_models.families.units import shape
from accel_models.price import Priced, price
from accel_models.registry import load_device
from rtl.bitmod_unit import contract as bitmod
from workloads.formats import get_format
from workloads.ops import Attention, Elementwise, Gemm, Moe, Op, Scan

LUT, GPU = "a100_lut4x", "a100_sxm4_80gb"


def one(op: Op, *names: str, **figures: float) -> Priced:
    return price([op], hardware(*names, **figures))[0]


def hardware(*names: str, **figures: float) -> Hardware:
    return bind([changed(load_device(n), **figures) for n in names or ("bitmod",)])


def changed(device: Device, **figures: float) -> Device:
    for name, value in figures.items():
        device = device.with_value(f"engine.matrix.figure.{name}", value)
    return device


def seconds(p: Priced, i: int = 0) -> float:
    return float(np.ravel(p.cost.time)[i])


def product(m: float = 1.0, n: float = 4096.0, k: float = 4096.0, **more: object) -> Gemm:
    return Gemm(name="p", m=m, n=n, k=k, **{"a": "fp16", "w": "int3_g128", "out": "fp16", **more})  # type: ignore[arg-type]


def test_time_is_the_longer_of_contract_and_memory() -> None:
    device = load_device("bitmod")
    clock, bandwidth = device.get("engine.matrix.clock"), device.get("memory.main.bandwidth")
    rows, cols = device.get("engine.matrix.figure.rows"), device.get("engine.matrix.figure.cols")
    cycles = bitmod.gemm_cycles(512, 4096, 4096, rows=rows, cols=cols, group=128, terms=2)
    many = one(product(512)).cost
    assert float(np.ravel(many.compute)[0]) == pytest.approx(cycles / clock)
    assert seconds(one(product(512))) == pytest.approx(max(cycles / clock, float(np.ravel(many.nbytes)[0]) / bandwidth))
    few = one(product(1)).cost
    assert float(np.ravel(few.time)[0]) == pytest.approx((4096 * 4096 * 3.125 / 8 + 2 * 8192) / bandwidth)


@pytest.mark.parametrize(("weights", "terms"), [("int3", 2), ("int4", 2), ("int6", 3), ("int8", 4)])
def test_more_terms_take_more_turns(weights: str, terms: int) -> None:
    base = np.ravel(one(product(512, w="int4")).cost.compute)[0]
    assert np.ravel(one(product(512, w=weights)).cost.compute)[0] == pytest.approx(base * terms / 2, rel=1e-3)


def test_what_units_do_not_take_runs_on_the_vector_engine() -> None:
    hw = hardware()
    wide = np.ravel(one(product(512, w="fp16")).cost.compute)[0]
    assert wide == pytest.approx(2 * 512 * 4096.0**2 / hw.vector_rate[0])
    assert peak(get_format("fp16"), get_format("fp16"), hw)[0] == pytest.approx(hw.vector_rate[0])


def test_a_larger_array_is_faster_and_more_arrays_share_k_when_results_are_few() -> None:
    def compute(**figures: float) -> float:
        return float(np.ravel(one(product(512), "bitmod", **figures).cost.compute)[0])

    assert compute(rows=128) == pytest.approx(compute() / 2, rel=1e-3)
    one_tile = product(8, n=32)
    device = load_device("bitmod").with_value("engine.matrix.units", 8)
    alone, shared = (float(np.ravel(price([one_tile], bind([d]))[0].cost.compute)[0]) for d in (load_device("bitmod"), device))
    assert alone / 8 < shared < alone / 7


def test_faster_memory_and_clock_never_cost_more() -> None:
    base = load_device("bitmod")
    ops: list[Op] = [product(m) for m in (1, 30, 700)]
    for key in ("memory.main.bandwidth", "engine.matrix.clock", "engine.matrix.units", "engine.vector.rate.fp16"):
        better = base.with_value(key, 2.5 * base.get(key))
        for was, now in zip(price(ops, bind([base])), price(ops, bind([better])), strict=True):
            assert seconds(now) <= seconds(was) * (1 + 1e-12)


def test_devices_side_by_side_are_those_one_by_one() -> None:
    ops: list[Op] = [product(17), Elementwise(name="e", kind="rmsnorm", rows=17, cols=4096, bytes_read=1e6, bytes_written=1e6)]
    names = ("bitmod", "fp16_baseline", LUT, GPU)
    together = price(ops, hardware(*names))
    for i, name in enumerate(names):
        for op, both in zip(ops, together, strict=True):
            assert seconds(both, i) == pytest.approx(seconds(one(op, name)), rel=1e-12)


def test_all_ops_have_a_price_that_is_assumed() -> None:
    ops: list[Op] = [
        product(5), Moe(name="m", tokens=64, hidden=2048, inter=1024, topk=2, n_experts=8, n_local=8, a="fp16", w="int4"),
        Attention(name="a", phase="prefill", batch=2, q_len=64, kv_len=64, n_heads=32, n_kv_heads=8, head_dim=128,
                  v_head_dim=128, kv_elements=2048, q="fp16", kv="int8"),
        Elementwise(name="e", kind="softmax", rows=64, cols=4096, bytes_read=1e6, bytes_written=1e6),
        Scan(name="s", phase="decode", batch=2, q_len=1, flops_per_token=1e6, state_elements=1e5, io_elements=1e4)]
    for p in price(ops, hardware()):
        assert 0 < seconds(p) < 10
        assert p.source == ("assumed",)


def test_attention_skips_beyond_the_diagonal_where_the_file_says_so() -> None:
    def compute(skip: float) -> float:
        op = Attention(name="a", phase="prefill", batch=1, q_len=1024, kv_len=1024, n_heads=32, n_kv_heads=32, head_dim=128,
                       v_head_dim=128, kv_elements=8192, q="fp16", kv="int8")
        return float(np.ravel(one(op, "bitmod", causal_skip=skip).cost.compute)[0])

    assert 0.4 < compute(1.0) / compute(0.0) < 0.6


def test_in_a_gpu_only_products_with_weights_that_units_take_change() -> None:
    for w, faster in (("int2", True), ("int8", False), ("fp16", False)):
        op = product(2048, w=w)
        few, many = (seconds(one(op, LUT, arrays_per_unit=n)) for n in (4, 16))
        assert (many < 0.5 * few) if faster else many == few, w
    assert seconds(one(product(2048, w="int1"), LUT)) < seconds(one(product(2048, w="int2"), LUT))


def test_multipliers_of_16_bits_inside_a_gpu_stand_in_for_its_own(tmp_path: Path) -> None:
    figures = "\n".join(f'figure.{k} = {{ value = {v}, kind = "assumed", note = "x" }}'
                        for k, v in {"rows": 64, "cols": 8, "arrays_per_unit": 4}.items())
    file = tmp_path / "mine.toml"
    file.write_text(f'name = "mine"\ntitle = "mine"\nbase = "{GPU}"\n[engine.matrix]\nkind = "mac"\n{figures}\n')
    slow = load_device(str(file))
    fast = slow.with_value("engine.matrix.figure.arrays_per_unit", 8)
    assert float(peak(get_format("fp16"), get_format("int4"), bind([slow]))[0]) == pytest.approx(
        2 * 64 * 8 * 4 * slow.get("engine.matrix.units") * slow.get("engine.matrix.clock"))
    for w in ("fp16", "int4"):
        was, now = (seconds(price([product(8192, w=w, n=8192, k=8192)], bind([d]))[0]) for d in (slow, fast))
        assert now < 0.6 * was, w


def test_activations_that_have_to_be_cut_take_a_kernel_more_inside_a_gpu() -> None:
    ready, cut = (one(product(2048, w="int2", a=a), LUT) for a in ("int8+ready", "int8"))
    assert seconds(cut) > 1.02 * seconds(ready)


@pytest.mark.parametrize(("cut", "said"), [
    ("clock = ", "engine.matrix.clock: missing; an engine of kind 'mac' runs its contract's cycles at it"),
    ("rows = ", "engine figure 'rows' is missing; an engine of kind 'mac' needs it"),
    ("title", "engine.matrix.figure.rowz: an engine of kind 'mac' has no such figure; did you mean rows?"),
    ("[engine.vector]", "engine.vector: missing; an engine of kind 'mac' leaves norms, softmax"),
])
def test_a_file_that_leaves_something_out_is_told_what(tmp_path: Path, cut: str, said: str) -> None:
    whole = '''name = "mine"
title = "mine"
vendor = "-"
kind = "accelerator"
generation = "asic"
main_memory = "dram"
[engine.matrix]
kind = "mac"
clock = { value = "1 GHz", kind = "assumed", note = "x" }
figure.rows = { value = 64, kind = "assumed", note = "x" }
[engine.vector]
kind = "simd"
rate.fp16 = { value = "128 GOP/s", kind = "assumed", note = "x" }
[memory.dram]
level = "dram"
bandwidth = { value = "32 GB/s", kind = "assumed", note = "x" }
'''
    file = tmp_path / "mine.toml"
    file.write_text(whole.replace('"mac"', '"macc"'))
    with pytest.raises(ValueError, match=r"engine\.matrix\.kind: 'macc': no such kind; did you mean 'mac'\?"):
        load_device(str(file))
    file.write_text(whole)
    assert load_device(str(file)).rates()["fp16"] == 2 * 64e9
    lines = (whole.replace("figure.rows", "figure.rowz") if cut == "title" else whole).splitlines()
    at = next(i for i, line in enumerate(lines) if cut in line)
    if cut == "title":
        lines.insert(at, "")
    file.write_text("\n".join(lines[:at] + lines[at + (3 if cut.startswith("[") else 1):]))
    with pytest.raises(ValueError, match=r"mine\.toml: ") as error:
        load_device(str(file))
    assert said in str(error.value)


def test_energy_is_that_of_cells_and_buffers_where_the_file_states_none() -> None:
    """A bit-serial array, one token a tile: every tile reads its activations and the weights of its rows from the buffers."""
    device = load_device("edge_bit_serial").with_value("memory.main.energy_per_byte", 1e-10)
    known = shape(bind([device]), "bit_serial").energies

    def dynamic(w: str) -> float:
        p = price([product(2048, w=w, a="int8")], bind([device]))[0]
        moved = float(np.ravel(p.cost.nbytes)[0]) * device.get("memory.main.energy_per_byte")
        return float(np.ravel(p.energy)[0]) - device.get("power.idle") * seconds(p) - moved

    f = {k: device.get(f"engine.matrix.figure.{k}") for k in ("rows", "lanes", "bits_per_cycle")}
    tiles, arrays = 2048 * np.ceil(4096 / f["rows"]), device.get("engine.matrix.units")
    for w, bits in (("int4", 4), ("int8", 8)):
        cycles = tiles * np.ceil(4096 / f["lanes"]) * np.ceil(bits / f["bits_per_cycle"]) + 2 * min(tiles, arrays)
        buffers = tiles * 4096 * (known.input[0] + f["rows"] * bits / 8 * known.weight[0])
        assert dynamic(w) == pytest.approx(cycles * known.cycle[0] + buffers, rel=1e-9)


def test_without_a_node_there_are_no_cells_to_pay_for() -> None:
    device = load_device("edge_bit_serial")
    bare = bind([device.model_copy(update={"area": device.area.model_copy(update={"process": ""})})])
    assert np.all(np.isnan(shape(bare, "bit_serial").energies))
    assert np.isfinite(price([product(a="int8", w="int4")], bare)[0].energy).all()


@pytest.mark.parametrize(("name", "key", "value", "said"), [
    ("edge_lut", "engine.matrix.clock", 0, "engine.matrix.clock: must be above 0, got 0"),
    ("d5005_ternary", "engine.matrix.clock", 0, "engine.matrix.clock: must be above 0, got 0"),
    ("edge_lut", "engine.matrix.units", 0.5, "engine.matrix.units: must be at least 1, got 0.5"),
    ("edge_lut", "engine.vector.rate.fp16", 0, "engine.vector.rate: must be above 0, got 0"),
    (LUT, "engine.matrix.figure.arrays_per_unit", 0, "engine.matrix.figure.arrays_per_unit: must be at least 1, got 0")])
def test_numbers_that_cannot_be_are_named_with_what_was_found(name: str, key: str, value: float, said: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: {said}"):
        bind([load_device(name).with_value(key, value)])
