"""FPGA designs: cycles by contract, channels through ports, what fits a part, and what boards and profiles gave."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models.bind import bind
from accel_models.cost.fpga import (
    array_attention,
    array_gemm,
    array_stream,
    channel_rate,
    instruction_stream,
    resources,
    stream_time,
)
from accel_models.cost.terms import attribute
from accel_models.device import Device
from accel_models.families.fpga import FILL, check
from accel_models.price import price
from accel_models.registry import list_devices, load_device
from sim.api import whatif
from sim.estimate import Estimate, estimate
from sim.query import Query, resolve
from workloads.ops import Attention, Elementwise, Gemm, Moe, Scan

#: An array as FlightLLM's profile has it in one region.
ARRAY: dict[str, Any] = {"clock": 225e6, "tile_m": 128, "tile_n": 2, "tile_k": 16, "vector_n": 64}
HBM: dict[str, Any] = {"dram_bandwidth": 460e9, "channels": 32, "port_rate": 32 * 225e6}
FPGAS = [d for d in list_devices() if load_device(d).kind == "fpga"]
W4A8 = "W4A8; lm_head=W4A8"
SPARSE = f"{W4A8}; q_proj=int4_g128+11:16/int8; k_proj=int4_g128+11:16/int8"


def run(hw: str, model: str = "llama-2-7b", quant: str = SPARSE, **options: Any) -> Estimate:
    s = resolve(Query(model=model, hw=hw, quant=quant, kv_quant="int8", **options))
    return estimate(s.spec, bind([s.device], s.system), s.workload, s.parallel)


def cycles(cost: Any) -> float:
    return float(cost.compute) * 225e6


# -- cycles: the units' contracts -------------------------------------------------------------------------------------

@given(beats=st.integers(1, 500), n=st.integers(1, 4), outputs=st.integers(1, 9))
def test_a_chain_takes_its_beats_and_two_cycles(beats: int, n: int, outputs: int) -> None:
    """sparse_dsp_chain: one output at a time, 32 terms a beat at N:4, T = beats + 2 with beats = ceil(K n / 32)."""
    k = 32 * beats // n
    cost = array_gemm(1, outputs, k, clock=1.0, dram_bandwidth=1e30, tile_k=8, kept=n / 4, fill=FILL["dsp"])
    assert float(cost.compute) == pytest.approx(outputs * np.ceil(k * n / 32) + 2)


@given(k=st.integers(1, 4000), outputs=st.integers(1, 64))
def test_ternary_lanes_take_their_beats_and_one_cycle(k: int, outputs: int) -> None:
    """ternary_acc with 20 lanes and 4 outputs: ceil(N / 4) * ceil(K / 20) + 1."""
    cost = array_gemm(1, outputs, k, clock=1.0, dram_bandwidth=1e30, tile_k=20, vector_n=4, fill=FILL["ternary"])
    assert float(cost.compute) == np.ceil(outputs / 4) * np.ceil(k / 20) + 1


def test_the_faster_mode_is_taken() -> None:
    """A block of 128 rows costs as much as 32 single rows: 4096 against 1024 products a clock."""
    def beats(m: int) -> float:
        return cycles(array_gemm(m, 4096, 4096, dram_bandwidth=1e30, fill=0, **ARRAY))

    assert beats(1) == pytest.approx(4096 * 4096 / 1024)
    assert beats(32) == pytest.approx(beats(128)) == pytest.approx(128 * 4096 * 4096 / 4096)
    assert beats(129) == pytest.approx(2 * beats(128))


@given(n=st.integers(1, 8), m=st.sampled_from([1.0, 128.0]))
def test_sparse_weights_take_n_of_m_of_the_beats(n: int, m: float) -> None:
    full, part = (cycles(array_gemm(m, 4096, 4096, dram_bandwidth=1e30, fill=0, kept=kept, **ARRAY)) for kept in (1, n / 8))
    assert part == pytest.approx(full * n / 8)


def test_wider_operands_take_more_passes() -> None:
    one, four = (cycles(array_gemm(1, 4096, 4096, dram_bandwidth=1e30, fill=0, rate_share=s, **ARRAY)) for s in (1, 0.25))
    assert four == pytest.approx(4 * one)


# -- memory -----------------------------------------------------------------------------------------------------------

def test_a_port_is_as_fast_as_its_width_and_clock() -> None:
    """STREAM on a U280 copied 377.4 GB/s with 32 ports at 370 MHz (HPCC_FPGA): no more than the ports pass."""
    found = 32 * channel_rate(dram_bandwidth=460e9, channels=32, port_rate=32 * 370e6)
    assert found == pytest.approx(377.4e9, rel=0.01)
    assert 32 * channel_rate(dram_bandwidth=460e9, channels=32, port_rate=32 * 600e6) == pytest.approx(460e9)


def test_coarser_loads_gain_what_was_reported() -> None:
    gap = load_device("alveo_u280").parameters()["engine.matrix.figure.load_gap_s"]
    fine, coarse = (stream_time(3.5e9, load_bytes=b, load_gap=gap, **HBM) for b in (8e3, 32e3))
    assert 1.16 < fine / coarse < 1.20


def test_unused_channels_do_not_help_and_a_pattern_slows() -> None:
    whole = stream_time(1e9, **HBM)
    assert stream_time(1e9, channels_used=24, **HBM) == pytest.approx(whole * 32 / 24)
    assert stream_time(1e9, channels_used=99, **HBM) == pytest.approx(whole)
    assert stream_time(1e9, pattern=0.5, **HBM) == pytest.approx(2 * whole)


def test_activations_stay_on_chip_as_far_as_they_fit() -> None:
    def moved(m: float, room: float) -> float:
        return float(array_gemm(m, 4096, 4096, buffer_bytes=room, **ARRAY, **HBM).nbytes)

    weights = 4096 * 4096
    assert moved(1, 8192) == weights
    assert moved(1, 0) == weights + 8192
    # twice the rows that fit: weights stream twice, inputs and outputs leave the chip
    assert moved(512, 256 * 8192) == 2 * weights + 512 * 8192


@given(m=st.integers(1, 3000), n=st.integers(1, 5000), k=st.integers(1, 5000), room=st.floats(0, 1e8))
def test_time_lies_between_the_longest_part_and_the_sum(m: int, n: int, k: int, room: float) -> None:
    c = array_gemm(m, n, k, buffer_bytes=room, load_gap=284e-9, sync=1.5e-6, slices=3, **ARRAY, **HBM)
    assert c.time >= max(c.compute, c.memory) + c.launch
    spill = max(float(c.tail - np.minimum(c.compute, c.memory)), 0.0)
    assert c.time <= (c.compute + c.memory + c.launch + spill) * (1 + 1e-9)


# -- attention and element-wise work -----------------------------------------------------------------------------------

def test_attention_counts_products_and_softmax() -> None:
    """One head, 1024 positions, one query: 2 x 1024 x 128 products on 1024 a clock and 2 passes over 1024 scores on 16."""
    c = array_attention(1, 1, 1024, 1, 128, 128, lanes=16, fill=0, kv_elements=256, dram_bandwidth=1e30, **ARRAY)
    assert cycles(c) == pytest.approx(2 * 1024 * 128 / 1024 + 2 * 1024 / 16)
    assert c.nbytes == 1024 * 256


def test_a_causal_prompt_computes_half_a_block_beyond_the_diagonal() -> None:
    def prompt(causal: float) -> float:
        c = array_attention(1, 1024, 1024, 1, 128, 128, lanes=1e30, fill=0, dram_bandwidth=1e30, causal=causal, **ARRAY)
        return cycles(c)

    assert prompt(1) / prompt(0) == pytest.approx((1024 + 128) / 2 / 1024)


def test_a_window_bounds_what_is_seen() -> None:
    args = {"lanes": 16, "dram_bandwidth": 1e12, **ARRAY}
    near = array_attention(1, 1, 4096, 8, 128, 128, 512, kv_elements=2048, **args)
    short = array_attention(1, 1, 512, 8, 128, 128, kv_elements=2048, **args)
    assert near.time == pytest.approx(float(short.time))


def test_work_on_elements_goes_over_lanes_and_regions() -> None:
    c = array_stream(10, 4096, passes=2, lanes=16, slices=4, clock=225e6, dram_bandwidth=460e9)
    assert cycles(c) == 10 * 4096 * 2 / 64
    assert c.nbytes == 0


# -- what a part holds -------------------------------------------------------------------------------------------------

def test_the_published_build_is_what_arrays_and_buffers_take() -> None:
    """The U280 build has 6345 DSP and 792 URAM, control and interfaces included."""
    figure = {k: q.value for k, q in load_device("alveo_u280").engine["matrix"].figure.items()}
    need = resources(**{k: figure[k] for k in ("slices", "tile_m", "tile_n", "tile_k", "vector_n", "pack", "uram_bytes",
                                               "bram_bytes", "lut_per_mac")})
    assert need.dsp == 6144
    assert need.dsp == pytest.approx(6345, rel=0.04)
    assert need.uram == pytest.approx(792, rel=0.04)


@pytest.mark.parametrize(("key", "value", "what"), [
    ("tile_m", 256, "takes 12288 dsp, the part has 9024"), ("uram_bytes", "12 MiB", "takes 1024 uram, the part has 960"),
    ("bram_bytes", "4 MiB", "takes 5462 bram18, the part has 4032"),
    # the N:M chain of eight as synthesised: 1753 LUT for eight multipliers
    ("lut_per_mac", 219.125, "takes 1346304 lut, the part has 1303680"),
    ("ff_per_mac", 500, "takes 3072000 ff, the part has 2607360"),
    ("channels_used", 40, "channels_used: 40, but the memory has 32 channels")])
def test_a_design_that_exceeds_the_part_is_refused_in_one_line(key: str, value: str | float, what: str) -> None:
    device = load_device("alveo_u280").with_value(f"engine.matrix.figure.{key}", value)
    with pytest.raises(ValueError, match=f"alveo_u280: engine.matrix.figure.*{re.escape(what)}") as error:
        price([Gemm(name="x", m=1, n=64, k=64, a="int8", w="int8", out="int8")], bind([device]))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("key", "value", "rule"), [
    ("tile_k", 0, "must be above 0, got 0"), ("efficiency", 1.5, "must be in (0, 1], got 1.5")])
def test_figures_that_cannot_be_are_refused(key: str, value: float, rule: str) -> None:
    device = load_device("alveo_u280").with_value(f"engine.matrix.figure.{key}", value)
    with pytest.raises(ValueError, match=re.escape(f"alveo_u280: engine.matrix.figure.{key}: {rule}")):
        check(bind([device]))


def test_adder_lanes_are_bounded_by_look_up_tables_alone() -> None:
    """933120 ALM hold 74 649 lanes of 25 LUT, and no multiplier is asked for."""
    def lanes(n: int) -> Device:
        device = load_device("d5005_ternary")
        return device.with_value("engine.matrix.units", n).with_value("engine.matrix.figure.slices", n)

    check(bind([lanes(74_649)]))
    with pytest.raises(ValueError, match=r"d5005_ternary: .* takes 1866250 lut, the part has 1866240"):
        check(bind([lanes(74_650)]))


@pytest.mark.parametrize("name", FPGAS)
def test_every_shipped_design_fits_its_part(name: str) -> None:
    check(bind([load_device(name)]))


def test_a_design_without_a_shape_is_refused() -> None:
    raw = load_device("kv260")
    bare = raw.model_copy(update={"engine": {"matrix": raw.engine["matrix"].model_copy(update={"figure": {}})}})
    with pytest.raises(ValueError, match="kv260: engine figure 'slices' is missing"):
        price([Gemm(name="x", m=1, n=64, k=64, a="int8", w="int8", out="int8")], bind([Device.model_validate(bare)]))


# -- instructions ------------------------------------------------------------------------------------------------------

def test_the_instruction_stream_is_as_long_as_the_profile_says() -> None:
    """103 765 instructions a token (simulated profile): one load and one product for every 8 KiB x 8 channels."""
    bytes_a_token = float(run("vhk158", isl=512, osl=2).decode.nbytes)   # type: ignore[union-attr]
    found = instruction_stream(bytes_a_token, load_bytes=8192, channels_per_load=8)
    assert found.entries == pytest.approx(103_765, rel=0.05)


def test_a_stream_for_every_length_exceeds_the_memory() -> None:
    """2048 lengths at 2.3 MB do not fit beside the weights in 8 GiB; one stream for 64 lengths does."""
    e = run("alveo_u280", isl=512, osl=2)
    assert e.decode
    room = (e.memory["capacity"] - e.memory["used"]).item()
    own, shared = (instruction_stream(e.decode.nbytes.item(), load_bytes=8192, channels_per_load=8, lengths=2048, bucket=b)
                   for b in (1, 64))
    assert own.stored > room > 10 * shared.stored


@given(lengths=st.integers(1, 4096), bucket=st.integers(1, 512))
def test_lengths_that_share_a_stream_are_stored_once(lengths: int, bucket: int) -> None:
    own, shared = (instruction_stream(1e9, load_bytes=8192, lengths=lengths, bucket=b) for b in (1, bucket))
    assert own.fetched == shared.fetched
    assert own.stored / shared.stored == pytest.approx(lengths / np.ceil(lengths / bucket))


# -- boards and profiles: nothing of these is in a formula -------------------------------------------------------------

@pytest.mark.parametrize(("isl", "osl", "prefill_ms", "tokens_per_s"), [
    (128, 512, 289.9, 103.5), (128, 1024, 289.9, 99.2), (128, 1536, 289.9, 95.4), (512, 512, 1181.4, 97.2),
    (512, 1024, 1181.4, 93.5), (512, 1536, 1181.4, 90.1)])
def test_the_simulated_profile_is_met(isl: int, osl: int, prefill_ms: float, tokens_per_s: float) -> None:
    e = run("vhk158", isl=isl, osl=osl)
    assert e.decode
    assert e.prefill.time.item() * 1e3 == pytest.approx(prefill_ms, rel=0.03)
    assert 1 / e.decode.time.item() == pytest.approx(tokens_per_s, rel=0.07)


def test_the_board_is_met() -> None:
    """U280: 55 tokens/s (FlightLLM); 5.00 s and 21.5 ms at 1536 tokens and 46 W (a later paper on the same board)."""
    short, long = run("alveo_u280", isl=128, osl=512), run("alveo_u280", isl=1536, osl=2, quant=W4A8)
    assert short.decode
    assert long.decode
    assert 1 / short.decode.time.item() == pytest.approx(55, rel=0.10)
    assert long.prefill.time.item() == pytest.approx(5.0012, rel=0.06)
    assert long.decode.time.item() == pytest.approx(21.5e-3, rel=0.05)
    assert long.metrics["decode_power_w"].item() == pytest.approx(46, rel=0.05)


@pytest.mark.parametrize("hw", ["alveo_u280", "zcu102", "kv260", "d5005"])
def test_prompts_are_bound_by_products_and_decoding_by_memory(hw: str) -> None:
    e = run(hw, isl=512, osl=64)
    assert e.decode
    for step, bound in ((e.prefill, "compute"), (e.decode, "memory")):
        parts = [attribute(p.cost)[bound].item() * float(np.asarray(op.repeat))
                 for op, p in zip(step.ops, step.priced, strict=True)]
        assert sum(parts) > 0.8 * step.time.item()


def test_sparse_weights_gain_from_fewer_bytes_and_fewer_beats() -> None:
    dense, sparse = (run("alveo_u280", isl=512, osl=64, quant=q) for q in ("int4/int8", "int4+2:4/int8"))
    assert dense.decode
    assert sparse.decode
    assert 1.5 < dense.prefill.time.item() / sparse.prefill.time.item() < 2.0     # beats halve
    assert 1.1 < dense.decode.time.item() / sparse.decode.time.item() < 1.6       # 4 bit become 3 (value and index)


def test_one_ternary_lane_takes_a_clock_a_weight() -> None:
    hw = bind([load_device("d5005_ternary")])
    op = Gemm(name="block", m=1, n=12 * 512, k=512, a="int8", w="ternary", out="int8")
    cost = price([op], hw)[0].cost
    assert cost.compute.item() == pytest.approx(12 * 512 * 512 / 60e6, rel=1e-6)
    assert cost.nbytes.item() == pytest.approx(12 * 512 * 512 * 1.6 / 8)       # five trits a byte
    more = load_device("d5005_ternary").with_value("engine.matrix.units", 80).with_value("engine.matrix.figure.slices", 80)
    assert price([op], bind([more]))[0].cost.compute.item() == pytest.approx(cost.compute.item() / 80, rel=0.02)


@pytest.mark.parametrize("name", FPGAS)
def test_every_kind_of_op_has_a_price(name: str) -> None:
    ops = [Gemm(name="g", m=np.array([1.0, 64.0]), n=512, k=512, a="int8", w="int4_g128", out="bf16"),
           Gemm(name="wide", m=1, n=512, k=512),
           Moe(name="e", tokens=4, hidden=512, inter=256, topk=2, n_experts=8, n_local=8, a="int8", w="int8"),
           Attention(name="a", phase="decode", batch=1, q_len=1, kv_len=100, n_heads=8, n_kv_heads=8, head_dim=64,
                     v_head_dim=64, kv_elements=1024, kv="int8"),
           Scan(name="s", phase="decode", batch=1, q_len=1, flops_per_token=3072, state_elements=512, io_elements=2048),
           Elementwise(name="n", kind="rmsnorm", rows=1, cols=512, bytes_read=1024, bytes_written=1024)]
    for op, p in zip(ops, price(ops, bind([load_device(name)]), n_axes=1), strict=True):
        assert np.all(np.isfinite(p.cost.time)), op.name
        assert np.all(p.cost.time > 0), op.name
        assert np.all((p.lo < 1) & (p.hi > 1)), op.name
        assert p.source[0] in ("assumed", "transferred")


def test_experts_of_one_are_a_feed_forward_part() -> None:
    hw = bind([load_device("alveo_u280")])
    one = Moe(name="e", tokens=8, hidden=512, inter=256, topk=1, n_experts=1, n_local=1, a="int8", w="int8", out="int8")
    up = Gemm(name="u", m=8, n=512, k=512, a="int8", w="int8", out="int8")
    down = Gemm(name="d", m=8, n=512, k=256, a="int8", w="int8", out="int8")
    a, b, c = price([one, up, down], hw)
    assert a.cost.time.item() == pytest.approx(b.cost.time.item() + c.cost.time.item())
    assert a.energy.item() == pytest.approx(b.energy.item() + c.energy.item())


def test_what_if_answers_and_says_what_it_rests_on() -> None:
    a = whatif("llama-2-7b", "alveo_u280", quant=W4A8, kv_quant="int8")
    assert 0.015 < a.data["metrics"]["tpot_s"]["value"] < 0.025
    assert a.data["elasticity"]["decode"]["engine.clock"] < -0.5      # ports, not the memory behind them, are the limit
    assert abs(a.data["elasticity"]["decode"]["memory.main.bandwidth"]) < 0.01
    assert any("efficiency" in x for x in bind([load_device("alveo_u280")]).assumed[0])
