"""Engines made of units against a plain loop: tiles handed to arrays one by one, each tile's edges counted from what its unit
does, operands fetched piece by piece. And the laws that hold for every shape: more of anything never costs more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from math import ceil, inf
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.bind import Hardware, bind
from accel_models.cost.unit_array import splits
from accel_models.families.units import shape
from accel_models.price import Priced, price
from accel_models.registry import load_device
from workloads.formats import get_format
from workloads.ops import Attention, Elementwise, Gemm, Moe, Op, Scan

DEVICES = {"mac": "edge_mac", "int_mac": "edge_int_mac", "lut": "edge_lut", "bit_serial": "edge_bit_serial",
           "term_serial": "bitmod", "popcount": "edge_popcount", "shift": "edge_shift"}
#: Products that each kind takes -> bits, terms or pairs of planes of the weights; and one that it does not take.
TAKEN = {"mac": {("fp16", "fp16"): 1, ("int8", "int4"): 1, ("fp32", "fp16"): 0},
         "int_mac": {("int8", "int8"): 1, ("int8", "int4"): 1, ("fp16", "int8"): 0},
         "lut": {("int8", "int1"): 1, ("int8", "ternary2"): 2, ("int4", "int4"): 4, ("int8", "int8"): 0, ("fp16", "int4"): 0},
         "bit_serial": {("int8", "int3"): 3, ("int8", "int8"): 8, ("fp16", "int4"): 0},
         "term_serial": {("fp16", "int3"): 2, ("fp16", "int6"): 3, ("int8", "int8"): 4, ("fp16", "fp16"): 0},
         "popcount": {("int8", "int2"): 16, ("int4", "int4"): 16, ("int1", "int1"): 1, ("fp16", "int2"): 0},
         "shift": {("int8", "pot3"): 1, ("int8", "int3"): 0}}
SHAPES = {"mac": {"rows": (1, 40), "cols": (1, 9)}, "int_mac": {"rows": (1, 40), "cols": (1, 9), "lanes": (1, 16)},
          "lut": {"tile_m": (1, 6), "tile_n": (1, 40), "group": (1, 5), "tables": (1, 3), "generators": (1, 3)},
          "bit_serial": {"rows": (1, 40), "lanes": (1, 20), "bits_per_cycle": (1, 3)},
          "term_serial": {"rows": (1, 40), "cols": (1, 9), "group": (4, 70), "scale_bits": (2, 9), "drain": (0, 5)},
          "popcount": {"tile_m": (1, 6), "tile_n": (1, 9), "word": (1, 40)}, "shift": {"rows": (1, 40), "lanes": (1, 20)}}
SIZE = st.integers(1, 150)


@cache
def device(kind: str) -> Hardware:
    return bind([load_device(DEVICES[kind])])


@st.composite
def hardware(draw: st.DrawFn, kind: str) -> Hardware:
    """An array of any shape, any number of them, buffers from nothing to enough, memory and vector engine of any speed."""
    hw = device(kind)
    figures = dict(hw.figures[0]) | {k: float(draw(st.integers(*span))) for k, span in SHAPES[kind].items()}
    figures |= {f"{name}_buffer_bytes": float(draw(st.sampled_from([64, 1000, 5000, 10**6]))) for name in ("input", "weight")}
    several: dict[str, Any] = {
        "n_units": draw(st.integers(1, 60)), "dram_bandwidth": draw(st.sampled_from([1e8, 1e10, 1e13])),
        "vector_rate": draw(st.sampled_from([1e9, 1e11, 1e14])), "launch": draw(st.sampled_from([0.0, 1e-6]))}
    several = {k: np.array([float(v)]) for k, v in several.items()}
    return replace(hw, figures=(figures,), **several)


class Steps(NamedTuple):
    """Seconds on arrays or vector engine, and joules of cells and buffers."""

    seconds: float
    joules: float


def tile(kind: str, f: Mapping[str, float], k: float, turns: int) -> tuple[int, int, float, float]:
    """Rows and columns of a tile, its edges from the first beat on, and those that a row of tiles begins and ends with."""
    if kind == "mac":
        return int(f["cols"]), int(f["rows"]), k, 1
    if kind == "int_mac":
        return int(f["cols"]), int(f["rows"]), ceil(k / f["lanes"]), 1
    if kind == "lut":
        every = max(turns, f["tile_m"] * f["tables"] / f["generators"])         # planes, or tables made one by one
        return int(f["tile_m"]), int(f["tile_n"]), ceil(k / (f["group"] * f["tables"])) * every + f["tile_m"] - 1, 2
    if kind == "bit_serial":
        return 1, int(f["rows"]), ceil(k / f["lanes"]) * ceil(turns / f["bits_per_cycle"]), 2
    if kind == "term_serial":
        whole = max(f["scale_bits"] * ceil(k / f["group"]), ceil(k / 4) * turns)
        return int(f["cols"]), int(f["rows"]), whole, f["scale_bits"] + 2 + f["drain"]
    if kind == "popcount":
        return int(f["tile_m"]), int(f["tile_n"]), ceil(k / f["word"]) * turns + f["tile_m"] - 1, 1
    return 1, int(f["rows"]), ceil(k / f["lanes"]), 1


def compute(hw: Hardware, kind: str, m: float, n: float, k: float, batch: int, a: str, w: str) -> Steps:
    """Every split of k, every tile handed to the array that has the fewest."""
    turns, f = TAKEN[kind][a, w], hw.figures[0]
    rate, joules = float(hw.vector_rate[0]), {x: float(v[0]) for x, v in shape(hw, kind).energies._asdict().items()}
    if not turns:
        return Steps(2 * batch * m * n * k / rate, 2 * batch * m * n * k * joules["vector_op"])
    found, arrays = Steps(inf, inf), int(hw.n_units[0])
    for parts in splits(arrays).tolist():
        down, across, edges, around = tile(kind, f, ceil(k / parts), turns)
        held = [0] * arrays
        for i in range(batch * ceil(m / down) * ceil(n / across) * int(parts)):
            held[i % arrays] += 1
        if parts > 1 and max(held) > 1:
            continue
        sums = batch * m * n * (parts - 1)
        seconds = (max(held) * edges + around) / float(hw.array_clock[0]) + sums / rate
        drawn = sum(tiles * edges + around for tiles in held if tiles)
        fed = down * get_format(a).nbytes * joules["input"] + across * get_format(w).nbytes * joules["weight"]
        spent = drawn * joules["cycle"] + sum(held) * ceil(k / parts) * fed + sums * joules["vector_op"]
        if seconds < found.seconds:
            found = Steps(seconds, spent)
    return found


def moved(hw: Hardware, m: float, n: float, k: float, a: str, w: str, out: str) -> float:
    """Bytes: one operand stays piece by piece while the other streams past each piece, whichever way is less."""
    wide, narrow = m * k * get_format(a).nbytes, n * k * get_format(w).nbytes

    def kept(one: float, other: float, room: float) -> float:
        total, left = 0.0, one
        while left > 0:
            total, left = total + other, left - room
        return total + one

    f = hw.figures[0]
    return min(kept(wide, narrow, f["input_buffer_bytes"]), kept(narrow, wide, f["weight_buffer_bytes"])) \
        + m * n * get_format(out).nbytes


def near(p: Priced, hw: Hardware, seconds: float, nbytes: float, joules: float) -> None:
    """Time, bytes and energy of a price are those counted."""
    time = max(seconds, nbytes / float(hw.dram_bandwidth[0])) + float(hw.launch[0])
    assert p.cost.nbytes.item() == pytest.approx(nbytes, rel=1e-9)
    assert p.cost.compute.item() == pytest.approx(seconds, rel=1e-9)
    assert p.cost.time.item() == pytest.approx(time, rel=1e-9)
    rest = float(hw.idle[0]) * time + nbytes * float(hw.energy_per_byte[0])
    assert p.energy.item() == pytest.approx(joules + rest, rel=1e-9, abs=0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, Hardware, str, str]:
    kind = draw(st.sampled_from(list(DEVICES)))
    return kind, with_energies(draw(hardware(kind))), *draw(st.sampled_from(list(TAKEN[kind])))


def with_energies(hw: Hardware) -> Hardware:
    """Energies of memory known and of operations those of cells, so that parts can be added up."""
    return replace(hw, energy_per_byte=np.array([2e-11]), energy_per_op=np.array([np.nan]), tdp=np.array([1e9]))


@settings(max_examples=200, deadline=None)
@given(cases(), SIZE, SIZE, SIZE, st.integers(1, 3))
def test_products(case: tuple[str, Hardware, str, str], m: int, n: int, k: int, batch: int) -> None:
    kind, hw, a, w = case
    p = price([Gemm(name="p", m=m, n=n, k=k, batch=batch, a=a, w=w, out="fp16")], hw)[0]
    work = compute(hw, kind, m, n, k, batch, a, w)
    near(p, hw, work.seconds, batch * moved(hw, m, n, k, a, w, "fp16"), work.joules)


@settings(max_examples=40, deadline=None)
@given(cases(), st.integers(1, 30), st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(0, 4), st.booleans())
def test_experts_that_all_tokens_pick(case: tuple[str, Hardware, str, str], tokens: int, hidden: int, inter: int, experts: int,
                                      elsewhere: int, gated: bool) -> None:
    kind, hw, a, w = case
    every = experts + elsewhere
    p = price([Moe(name="p", tokens=tokens, hidden=hidden, inter=inter, topk=every, n_experts=every, n_local=experts, a=a,
                   w=w, out="fp16", gated=gated)], replace(hw, launch=np.zeros(1)))[0]
    parts = [((1 + gated) * inter, hidden), (hidden, inter)]
    works = [compute(hw, kind, tokens, n, k, experts, a, w) for n, k in parts]
    assert p.cost.compute.item() == pytest.approx(sum(x.seconds for x in works), rel=1e-6)
    nbytes = [experts * moved(hw, tokens, n, k, a, w, "fp16") for n, k in parts]
    assert p.cost.nbytes.item() == pytest.approx(sum(nbytes), rel=1e-6)
    times = [max(x.seconds, b / float(hw.dram_bandwidth[0])) for x, b in zip(works, nbytes, strict=True)]
    assert p.cost.time.item() == pytest.approx(sum(times), rel=1e-6)


def test_an_expert_that_is_seldom_picked_is_not_spread_over_more_arrays_than_there_are() -> None:
    hw = replace(device("mac"), n_units=np.array([8.0]), vector_rate=np.array([1e30]))
    formats: dict[str, Any] = {"a": "fp16", "w": "fp16", "out": "fp16"}
    seldom = Moe(name="m", tokens=1, hidden=64, inter=32, topk=1, n_experts=100, n_local=1, gated=False, **formats)
    always = [Gemm(name="g", m=1, n=n, k=k, **formats) for n, k in ((32, 64), (64, 32))]
    found, *alone = (p.cost.compute.item() for p in price([seldom, *always], hw))
    assert found == pytest.approx(sum(alone))


@settings(max_examples=80, deadline=None)
@given(cases(), st.integers(1, 3), st.integers(1, 20), st.integers(0, 40), st.integers(1, 4), st.integers(1, 3),
       st.integers(0, 30), st.booleans(), st.booleans())
def test_attention_query_by_query(case: tuple[str, Hardware, str, str], batch: int, q_len: int, past: int, group: int,
                                  heads: int, window: int, causal: bool, skips: bool) -> None:
    kind, hw, q, kv = case
    hw = replace(hw, figures=(dict(hw.figures[0]) | {"causal_skip": float(skips)},))
    length, d, dv = q_len + past, 24, 16
    op = Attention(name="p", phase="prefill", batch=batch, q_len=q_len, kv_len=length, n_heads=group * heads, n_kv_heads=heads,
                   head_dim=d, v_head_dim=dv, kv_elements=heads * (d + dv), window=window, causal=causal, q=q, kv=kv)
    sees = [{j for j in range(length) if (not window or j > i - window) and (j <= i or not causal or not skips)}
            for i in range(past, length)]
    cached = set.union(*({j for j in range(length) if (not window or j > i - window) and (j <= i or window > 0 or not causal)}
                         for i in range(past, length)), *sees)
    keys = sum(map(len, sees)) / q_len if causal and skips else float(len(cached))
    scores, sums = (compute(hw, kind, q_len * group, n, k, batch * heads, q, kv) for n, k in ((keys, d), (dv, keys)))
    soft = 5 * batch * q_len * group * heads * keys
    nbytes = batch * len(cached) * heads * (d + dv) * get_format(kv).nbytes \
        + batch * q_len * group * heads * (d + dv) * get_format(q).nbytes
    joules = scores.joules + sums.joules + soft * float(shape(hw, kind).energies.vector_op[0])
    near(price([op], hw)[0], hw, scores.seconds + sums.seconds + soft / float(hw.vector_rate[0]), nbytes, joules)


@settings(max_examples=40, deadline=None)
@given(cases(), st.sampled_from([("rmsnorm", 3), ("add_layernorm", 5), ("softmax", 5), ("rope", 1), ("kv_append", 1)]), SIZE,
       SIZE)
def test_kernels_beside_the_arrays(case: tuple[str, Hardware, str, str], what: tuple[str, int], rows: int, cols: int) -> None:
    """Each element as often as its kernel passes over it; operands that fit the input buffer are there, but for the cache."""
    kind, hw, *_ = case
    name, passes = what
    op = Elementwise(name="e", kind=name, rows=rows, cols=cols, bytes_read=2 * rows * cols, bytes_written=rows * cols)
    stays = 3 * rows * cols <= hw.figures[0]["input_buffer_bytes"] and name != "kv_append"
    operations = rows * cols * passes
    near(price([op], hw)[0], hw, operations / float(hw.vector_rate[0]), 0 if stays else 3 * rows * cols,
         operations * float(shape(hw, kind).energies.vector_op[0]))


@settings(max_examples=20, deadline=None)
@given(cases(), st.integers(1, 3), SIZE, SIZE, SIZE)
def test_a_state_comes_from_memory_and_goes_back(case: tuple[str, Hardware, str, str], batch: int, q_len: int, flops: int,
                                                 state: int) -> None:
    kind, hw, *_ = case
    op = Scan(name="s", phase="prefill", batch=batch, q_len=q_len, flops_per_token=flops, state_elements=state, io_elements=9,
              state="fp32")
    operations = batch * q_len * flops
    near(price([op], hw)[0], hw, operations / float(hw.vector_rate[0]), batch * state * 4 * 2,
         operations * float(shape(hw, kind).energies.vector_op[0]))


def _ops(m: int, n: int, k: int, batch: int, a: str, w: str) -> list[Op]:
    return [Gemm(name="p", m=m, n=n, k=k, batch=batch, a=a, w=w, out="fp16"),
            Moe(name="m", tokens=m, hidden=k, inter=n, topk=2, n_experts=8, n_local=8, a=a, w=w, out="fp16"),
            Attention(name="a", phase="prefill", batch=batch, q_len=m, kv_len=m + n, n_heads=4, n_kv_heads=2, head_dim=k,
                      v_head_dim=k, kv_elements=4 * k, window=40, q=a, kv=w),
            Elementwise(name="e", kind="rmsnorm", rows=m, cols=k, bytes_read=2 * m * k, bytes_written=2 * m * k),
            Scan(name="s", phase="prefill", batch=batch, q_len=m, flops_per_token=n, state_elements=k, io_elements=1)]


def seconds(ops: list[Op], hw: Hardware) -> list[float]:
    return [p.cost.time.item() for p in price(ops, hw)]


@settings(max_examples=80, deadline=None)
@given(cases(), SIZE, SIZE, SIZE, st.integers(1, 3), st.data())
def test_more_hardware_never_costs_more(case: tuple[str, Hardware, str, str], m: int, n: int, k: int, batch: int,
                                        data: st.DataObject) -> None:
    _, hw, a, w = case
    what = data.draw(st.sampled_from(["n_units", "dram_bandwidth", "vector_rate", "array_clock", "input_buffer_bytes",
                                      "weight_buffer_bytes"]))
    times = data.draw(st.sampled_from([1.5, 2.0, 7.0]))
    more: dict[str, Any]
    if what.endswith("_bytes"):
        more = {"figures": (dict(hw.figures[0]) | {what: hw.figures[0][what] * times},)}
    else:
        more = {what: np.ceil(getattr(hw, what) * times)}
    ops = _ops(m, n, k, batch, a, w)
    for was, now in zip(seconds(ops, hw), seconds(ops, replace(hw, **more)), strict=True):
        assert now <= was * (1 + 1e-12), what


@settings(max_examples=80, deadline=None)
@given(cases(), SIZE, SIZE, SIZE, st.integers(1, 3), st.data())
def test_more_work_never_costs_less(case: tuple[str, Hardware, str, str], m: int, n: int, k: int, batch: int,
                                    data: st.DataObject) -> None:
    _, hw, a, w = case
    sizes = {"m": m, "n": n, "k": k, "batch": batch}
    sizes[data.draw(st.sampled_from([*sizes]))] += data.draw(st.sampled_from([2, 20, 100]))
    for was, now in zip(seconds(_ops(m, n, k, batch, a, w), hw), seconds(_ops(**sizes, a=a, w=w), hw), strict=True):
        assert now >= was * (1 - 1e-12)


@settings(max_examples=40, deadline=None)
@given(cases(), SIZE, SIZE, SIZE)
def test_arrays_never_draw_more_than_all_of_them_at_work(case: tuple[str, Hardware, str, str], m: int, n: int, k: int) -> None:
    kind, hw, a, w = case
    if not TAKEN[kind][a, w]:
        return
    dry = replace(hw, idle=np.zeros(1), energy_per_byte=np.zeros(1), vector_rate=np.array([1e30]), figures=(
        {x: v for x, v in hw.figures[0].items() if "buffer" not in x},))
    p = price([Gemm(name="p", m=m, n=n, k=k, a=a, w=w, out="fp16")], dry)[0]
    joules = shape(dry, kind).energies
    sums = (splits(float(dry.n_units[0])).max() - 1) * m * n * float(joules.vector_op[0])
    most = float(dry.n_units[0]) * p.cost.compute.item() * float(dry.array_clock[0]) * float(joules.cycle[0])
    assert p.energy.item() <= most * (1 + 1e-9) + sums
