"""FPGA designs: cycles by contract, channels through ports, what fits a part, and what boards and profiles gave."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models.bind import Hardware, bind
from accel_models.cost.fpga import (
    Built,
    array_attention,
    array_cycles,
    array_gemm,
    array_stream,
    channel_rate,
    instruction_stream,
    multipliers_of,
    resources,
    stream_time,
)
from accel_models.cost.terms import attribute
from accel_models.device import Device
from accel_models.families import peak, problems
from accel_models.families.fpga import adders, synthesised
from accel_models.price import price
from accel_models.registry import list_devices, load_device
from rtl.harness.figures import stored
from rtl.sparse_dsp_chain import contract as sparse_dsp_chain
from rtl.ternary_acc import contract as ternary_acc
from sim.answer import grounds
from sim.api import whatif
from sim.estimate import Estimate, estimate
from sim.query import Query, resolve
from workloads.formats import get_format
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

def check(hw: Hardware) -> None:
    price([Gemm(name="x", m=1, n=64, k=64, a="int8", w="int8", out="int8")], hw)


def beats(m: float, n: float, k: float, **shape: Any) -> float:
    """Cycles of an array less the two that a chain takes besides."""
    return float(array_cycles(m, n, k, **shape)) - 2


@given(m=st.integers(1, 300), n=st.integers(1, 300), k=st.integers(1, 300), kept=st.sampled_from([1, 2, 4]),
       lanes=st.sampled_from([4, 8]))
def test_one_chain_takes_the_cycles_of_its_contract(m: int, n: int, k: int, kept: int, lanes: int) -> None:
    """An array of one chain: two rows, one output and ``lanes`` terms a beat."""
    found = array_cycles(m, n, k, tile_m=2, tile_n=1, tile_k=lanes, vector_n=1, kept=kept, block=4)
    assert found == sparse_dsp_chain.gemm_cycles(m, n, k, lanes=lanes, block=4, kept=kept, segments=1)


@given(m=st.integers(1, 300), n=st.integers(1, 300), k=st.integers(1, 300), lanes=st.integers(1, 20), outputs=st.integers(1, 4))
def test_one_unit_of_adder_lanes_takes_the_cycles_of_its_contract(m: int, n: int, k: int, lanes: int, outputs: int) -> None:
    found = array_cycles(m, n, k, chains=0, tile_m=1, tile_n=outputs, tile_k=lanes, vector_n=outputs)
    assert found == ternary_acc.gemm_cycles(m, n, k, lanes=lanes, outputs=outputs)


@given(m=st.integers(1, 3000), n=st.integers(1, 3000), k=st.integers(1, 3000))
def test_an_array_is_as_long_busy_as_its_fullest_unit(m: int, n: int, k: int) -> None:
    """Rows and outputs dealt over the units of each mode, each of which takes its contract; the faster mode counts."""
    one = {"lanes": 16, "block": 1, "kept": 1, "segments": 1}
    matrix = sparse_dsp_chain.gemm_cycles(2 * -(-m // 128), -(-n // 2), k, **one)
    vector = sparse_dsp_chain.gemm_cycles(m, -(-n // 64), k, **one)
    assert array_cycles(m, n, k, tile_m=128, tile_n=2, tile_k=16, vector_n=64) == min(matrix, vector)
    rows = ternary_acc.gemm_cycles(-(-m // 4), n, k, lanes=20, outputs=104)
    row = ternary_acc.gemm_cycles(m, n, k, lanes=20, outputs=416)
    assert array_cycles(m, n, k, chains=0, tile_m=4, tile_n=104, tile_k=20, vector_n=416) == min(rows, row)


def test_the_faster_mode_is_taken_and_a_pair_of_rows_costs_as_one() -> None:
    """4096 products a beat of blocks, 1024 of single rows, of which every multiplier takes a second one along."""
    shape = {k: v for k, v in ARRAY.items() if k != "clock"}
    assert beats(1, 4096, 4096, **shape) == beats(2, 4096, 4096, **shape) == 4096 * 4096 / 1024
    assert beats(3, 4096, 4096, **shape) == 2 * beats(2, 4096, 4096, **shape)
    assert beats(64, 4096, 4096, **shape) == beats(128, 4096, 4096, **shape) == 128 * 4096 * 4096 / 4096
    assert beats(129, 4096, 4096, **shape) == 2 * beats(128, 4096, 4096, **shape)


@given(n=st.integers(1, 8), m=st.sampled_from([1.0, 128.0]))
def test_sparse_weights_take_n_of_m_of_the_beats(n: int, m: float) -> None:
    shape = {k: v for k, v in ARRAY.items() if k != "clock"}
    assert beats(m, 4096, 4096, kept=n, block=8, **shape) == beats(m, 4096, 4096, **shape) * n / 8


def test_adder_lanes_take_a_beat_for_what_a_sparse_weight_leaves_out() -> None:
    assert array_cycles(1, 64, 64, chains=0, kept=2, block=4) == array_cycles(1, 64, 64, chains=0)


def test_wider_operands_take_more_passes() -> None:
    one, four = (cycles(array_gemm(1, 4096, 4096, dram_bandwidth=1e30, rate_share=s, **ARRAY)) for s in (1, 0.25))
    assert four == pytest.approx(4 * one)


def test_what_lanes_do_not_take_goes_to_multipliers() -> None:
    """Adders add ternary weights; a product of other weights, or with the cache, is one of multipliers."""
    args = {"clock": 225e6, "dram_bandwidth": 1e30, "chains": 0, "tile_k": 20, "vector_n": 416, "slices": 3}
    assert cycles(array_gemm(1, 3 * 416, 200, **args)) == 10 + 1
    assert cycles(array_gemm(1, 3 * 416, 200, taken=0, multipliers=100, **args)) == pytest.approx(416 * 200 / 100)
    device = load_device("u280_ternary")
    few = device.with_value("engine.matrix.figure.multipliers", 32)
    for w, factor in (("ternary", 1.0), ("int8", 32.0)):
        op = Gemm(name="x", m=1, n=4160, k=4096, a="int8", w=w, out="int8")
        a, b = (price([op], bind([d]))[0].cost.compute.item() for d in (device, few))
        assert b / a == pytest.approx(factor)


def test_the_limit_of_adder_lanes_follows_their_number() -> None:
    """One addition a lane and clock; twice the outputs are twice the limit, for ternary weights alone."""
    device = load_device("u280_ternary")
    wide = device.with_value("engine.matrix.figure.tile_n", 130).with_value("engine.matrix.figure.vector_n", 520)
    int8, ternary = get_format("int8"), get_format("ternary")
    a, b = (adders(int8, ternary, bind([d])).item() for d in (device, wide))
    assert a == pytest.approx(2 * 24960 * 225e6, rel=1e-3)
    assert b / a == pytest.approx(1.25)
    assert peak(int8, ternary, bind([wide])).item() == pytest.approx(b)
    assert adders(int8, int8, bind([device])).item() == 0


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
    c = array_attention(1, 1, 1024, 1, 128, 128, lanes=16, kv_elements=256, dram_bandwidth=1e30, **ARRAY)
    assert cycles(c) == pytest.approx(2 * (1024 * 128 / 1024 + 2) + 2 * 1024 / 16)
    assert c.nbytes == 1024 * 256


def test_a_causal_prompt_computes_half_a_block_beyond_the_diagonal() -> None:
    def prompt(causal: float) -> float:
        c = array_attention(1, 1024, 1024, 1, 128, 128, lanes=1e30, dram_bandwidth=1e30, causal=causal, **ARRAY)
        return cycles(c)

    assert prompt(1) / prompt(0) == pytest.approx((1024 + 128) / 2 / 1024, rel=1e-3)


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
    """The U280 build has 6345 DSP and 792 URAM, control and interfaces included: 768 chains of eight as synthesised."""
    figure = {k: q.value for k, q in load_device("alveo_u280").engine["matrix"].figure.items()}
    row = stored()["sparse_dsp_chain", "D 8"]
    macs = multipliers_of(**{k: figure[k] for k in ("slices", "tile_m", "tile_n", "tile_k", "vector_n", "pack")})
    need = resources(macs, unit=Built(row["dsp"], row["lut"], row["fpga_ff"]), unit_macs=8,
                     **{k: figure[k] for k in ("slices", "uram_bytes", "bram_bytes")})
    assert need.dsp == 6144
    assert need.dsp == pytest.approx(6345, rel=0.04)
    assert need.uram == pytest.approx(792, rel=0.04)
    assert need.lut == 768 * row["lut"]


CHAIN = stored()["sparse_dsp_chain", "D 8"]


@pytest.mark.parametrize(("key", "value", "what"), [
    ("tile_m", 256, "takes 12288 dsp, the part has 9024"), ("uram_bytes", "12 MiB", "takes 1024 uram, the part has 960"),
    ("bram_bytes", "4 MiB", "takes 5462 bram18, the part has 4032"),
    # chains as synthesised: 960 of them would find their multipliers, but not their look-up tables
    ("tile_m", 160, f"takes {960 * CHAIN['lut']} lut, the part has 1069000"),
    ("channels_used", 40, "channels_used: 40, but the memory has 32 channels")])
def test_a_design_that_exceeds_the_part_is_refused_in_one_line(key: str, value: str | float, what: str) -> None:
    device = load_device("alveo_u280").with_value(f"engine.matrix.figure.{key}", value)
    with pytest.raises(ValueError, match=f"alveo_u280: engine.matrix.figure.*{re.escape(what)}") as error:
        check(bind([device]))
    assert "\n" not in str(error.value)
    text = str(error.value)
    assert problems(bind([load_device("alveo_u280"), device, load_device("h200_sxm")])) == ["", text, ""]


@pytest.mark.parametrize(("key", "value", "rule"), [
    ("tile_k", 0, "must be above 0, got 0"), ("efficiency", 1.5, "must be in (0, 1], got 1.5")])
def test_figures_that_cannot_be_are_refused(key: str, value: float, rule: str) -> None:
    device = load_device("alveo_u280").with_value(f"engine.matrix.figure.{key}", value)
    with pytest.raises(ValueError, match=re.escape(f"alveo_u280: engine.matrix.figure.{key}: {rule}")):
        check(bind([device]))


@pytest.mark.parametrize(("name", "value", "what"), [("lut_per_mac", 219.125, "takes 1346304 lut, the part has 1069000"),
                                                   ("ff_per_mac", 500.0, "takes 3072000 ff, the part has 2607360")])
def test_what_a_file_states_of_its_design_stands_above_the_synthesised_unit(name: str, value: float, what: str) -> None:
    hw = bind([load_device("alveo_u280")])
    with pytest.raises(ValueError, match=what):
        check(replace(hw, figures=({**hw.figures[0], name: value},)))


@pytest.mark.parametrize(("coded", "build"), [(1, "20x4 packed"), (0, "20x4")])
def test_adder_lanes_are_bounded_by_look_up_tables(coded: int, build: str) -> None:
    """933120 ALM are twice as many small look-up tables; a lane takes its share of the unit as synthesised, and a multiplier
    is asked for only beside it."""
    def lanes(n: int) -> Device:
        device = load_device("d5005_ternary").with_value("engine.matrix.figure.coded", coded)
        return device.with_value("engine.matrix.figure.slices", n)

    most = int(2 * 933120 * 80 // stored()["ternary_acc", build]["lut"])
    check(bind([lanes(most)]))
    with pytest.raises(ValueError, match=r"d5005_ternary: .* takes 1866\d\d\d lut, the part has 1866240"):
        check(bind([lanes(most + 4)]))
    with pytest.raises(ValueError, match=r"u280_ternary: .* takes 9216 dsp, the part has 9024"):
        check(bind([load_device("u280_ternary").with_value("engine.matrix.figure.multipliers", 3072)]))


def test_a_design_says_what_is_proven_what_synthesised_and_what_it_takes() -> None:
    chains, lanes = synthesised(bind([load_device("alveo_u280"), load_device("u280_ternary")]))
    assert chains == ("cells: 6,144 multipliers in chains of 8, 6,144 of 9,024 dsp, "
                      f"{768 * CHAIN['lut']:,} of 1,069,000 lut, {768 * CHAIN['fpga_ff']:,} of 2,607,360 ff; "
                      "buffers: 768 of 960 uram, 603 of 4,032 bram18; control and interfaces come on top")
    assert "cells: 24,960 adder lanes in units of 80, 3,072 of 9,024 dsp" in lanes
    hw = bind([load_device("alveo_u280")])
    own = synthesised(replace(hw, figures=({**hw.figures[0], "lut_per_mac": 27.0},)))[0]
    assert f"{6144 * 27:,} of 1,069,000 lut, {768 * CHAIN['fpga_ff']:,} of 2,607,360 ff (by the file's lut_per_mac);" in own
    said = grounds(load_device("u280_ternary"))
    assert list(said) == ["proven", "synthesised", "assumed"]
    assert "contract of ternary_acc" in said["proven"]
    assert said["assumed"] == "clock 225 MHz; placement, wiring and timing: none was done"
    assert grounds(load_device("h200_sxm")) == {}


def test_short_chains_are_chains_of_four() -> None:
    """Beats of four terms take units of four multipliers, which share less among them."""
    device = load_device("alveo_u280").with_value("engine.matrix.figure.tile_k", 4)
    short = device.with_value("engine.matrix.figure.tile_m", 640)
    row = stored()["sparse_dsp_chain", "D 4"]
    with pytest.raises(ValueError, match=f"takes {3 * 640 * 2 * 4 // 2 // 4 * row['lut']} lut"):
        check(bind([short]))


@pytest.mark.parametrize("name", FPGAS)
def test_every_shipped_design_fits_its_part(name: str) -> None:
    check(bind([load_device(name)]))


def test_a_design_without_a_shape_is_refused() -> None:
    raw = load_device("kv260")
    bare = raw.model_copy(update={"engine": {"matrix": raw.engine["matrix"].model_copy(update={"figure": {}})}})
    with pytest.raises(ValueError, match="kv260: engine figure 'slices' is missing"):
        price([Gemm(name="x", m=1, n=64, k=64, a="int8", w="int8", out="int8")], bind([Device.model_validate(bare)]))


def test_arrays_run_at_the_clock_of_the_file() -> None:
    """Twice the clock halves the time of arrays whose memory is far; without one there is none."""
    device = load_device("alveo_u280")
    op = Gemm(name="x", m=128, n=4096, k=4096, a="int8", w="int8", out="int8")
    slow, fast = (price([op], bind([d]))[0].cost.compute.item()
                  for d in (device, device.with_value("engine.matrix.clock", "450 MHz")))
    assert slow / fast == pytest.approx(2)
    assert slow == pytest.approx((np.ceil(4096 / 6) * 256 + 2) / (225e6 * 0.8))
    hw = bind([device])
    with pytest.raises(ValueError, match=r"alveo_u280: .*: its arrays have no clock; give engine\.matrix\.clock"):
        check(replace(hw, array_clock=0 * hw.array_clock))


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


def test_a_ternary_model_is_bound_by_the_ports_or_by_the_lanes() -> None:
    """BitNet b1.58: one row waits for weights; of a prompt's rows the lanes take four at a time and are what is waited for.
    The table of words in 16 bits is no work for lanes."""
    def bound(rows: float, lanes: float = 104, **change: float) -> dict[str, float]:
        device = load_device("u280_ternary").with_value("engine.matrix.figure.tile_n", lanes)
        device = device.with_value("engine.matrix.figure.vector_n", 4 * lanes)
        for key, value in change.items():
            device = device.with_value(f"engine.matrix.figure.{key}", value)
        op = Gemm(name="x", m=rows, n=2560, k=2560, a="int8", w="ternary", out="int8")
        return {k: v.item() for k, v in attribute(price([op], bind([device]))[0].cost).items()}

    assert bound(1)["memory"] > 0 == bound(1)["compute"]
    assert bound(256)["compute"] > 0 == bound(256)["memory"]
    assert bound(1, lanes=4)["compute"] > 0 == bound(1, lanes=4)["memory"]              # 48 x 20 lanes: too few for one row
    assert bound(256, port_bytes=0.25)["memory"] > 0 == bound(256, port_bytes=0.25)["compute"]
    e = run("u280_ternary", model="microsoft/bitnet-b1.58-2B-4T-bf16", quant="", isl=128, osl=64)
    assert e.decode
    parts = {op.name: p for op, p in zip(e.decode.ops, e.decode.priced, strict=True)}
    table = attribute(parts["lm_head"].cost)
    assert table["memory"] > 0.2 * e.decode.time.item()


def test_one_ternary_lane_takes_a_clock_a_weight() -> None:
    hw = bind([load_device("d5005_ternary")])
    op = Gemm(name="block", m=1, n=12 * 512, k=512, a="int8", w="ternary", out="int8")
    cost = price([op], hw)[0].cost
    assert cost.compute.item() == pytest.approx(12 * 512 * 512 / 60e6, rel=1e-6)
    assert cost.nbytes.item() == pytest.approx(12 * 512 * 512 * 1.6 / 8)       # five trits a byte
    more = load_device("d5005_ternary").with_value("engine.matrix.figure.slices", 80)
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
