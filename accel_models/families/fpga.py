"""FPGA designs: arrays of DSP chains (kind ``sparse_dsp``) or of ternary adder lanes (kind ``ternary``) in the fabric.

The design is part of the device file: ``[engine.matrix.figure]`` says how wide the arrays are, what feeds them and what
they may keep on chip; ``units``, ``resources`` and ``memory`` say what the part has. Cycles are the contracts of the units
``sparse_dsp_chain`` and ``ternary_acc`` (proven); look-up tables, flip-flops and multipliers of an array are those of the
units as synthesised (``rtl/figures.json``), unless the file states its own. A design that the part cannot hold is refused.
What nothing was measured for is ``assumed`` and sure to a factor of two; a design file may state another ``spread``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from accel_models.bind import Hardware
from accel_models.columns import OFF_CHIP, UNMEASURED, Columns, Stack, picked
from accel_models.cost.energy import energy
from accel_models.cost.fpga import (
    Built,
    Resources,
    array_attention,
    array_gemm,
    array_stream,
    multipliers_of,
    resources,
)
from accel_models.cost.terms import Array, Cost
from accel_models.families.general import Pricer
from accel_models.kernels import multiply
from rtl.harness.builds import synthesised as synthesised_builds
from rtl.harness.registry import load
from workloads.formats import Format, get_format
from workloads.ops import Attention, Elementwise, Gemm, Moe, Op, Scan

#: Number format of operands that an array takes in one beat; the rates of others over that of this one say how many.
NATIVE = "int8"
#: Figures of a design that formulas take as they are, and what they are where a file does not say (None: it must).
SHAPE: dict[str, float | None] = {"slices": None, "tile_m": None, "tile_n": None, "tile_k": None, "vector_n": None,
                                  "efficiency": 1.0}
WIRES: dict[str, float | None] = {"channels": 1.0, "channels_used": np.inf, "load_bytes": 8192.0}
#: Passes over the elements of kernels that need more than one (mean or maximum first).
PASSES = {"rmsnorm": 2.0, "add_rmsnorm": 2.0, "layernorm": 2.0, "add_layernorm": 2.0, "softmax": 2.0, "sampling": 2.0}


def _given(hw: Hardware, col: Columns, names: Mapping[str, float | None]) -> dict[str, Array]:
    return {name: col(hw.figure(name, default)) for name, default in names.items()}


def _wires(hw: Hardware, col: Columns) -> dict[str, Array]:
    """How arrays are fed: clock, channels and ports."""
    width, own = hw.figure("port_bytes", np.inf), hw.figure("port_hz", np.nan)
    port = width * np.where(np.isnan(own), hw.clock, own)
    return _given(hw, col, WIRES) | {
        "clock": col(hw.array_clock), "dram_bandwidth": col(hw.dram_bandwidth), "port_rate": col(port),
        "load_gap": col(hw.figure("load_gap_s", 0.0)), "sync": col(hw.figure("sync_s", 0.0))}


@cache
def _as_synthesised(unit: str, **parameters: int) -> Array:
    """[multipliers or adder lanes of a build, DSP, LUT, flip-flops], from ``rtl/figures.json``."""
    wanted = load(unit).resolve(parameters)
    row = next(row for build, row in synthesised_builds(unit) if build == wanted)
    lanes = wanted["D"] if unit == "sparse_dsp_chain" else wanted["L"] * wanted["NO"]
    return np.array([lanes, row["dsp"], row["lut"], row["fpga_ff"]], dtype=np.float64)


def _chains(hw: Hardware) -> Array:
    """1 for devices with chains of multipliers, 0 for those with adder lanes."""
    return np.array([float(kind == "sparse_dsp") for kind in hw.engine])


def _built(hw: Hardware) -> tuple[Array, Built]:
    """Multipliers or lanes of one unit, and what the unit takes: a chain of eight (of four where beats are so short), lanes
    with the decoder of five weights in a byte (``coded``) or with weights of two bits."""
    chains, narrow = _chains(hw) > 0, hw.figure("tile_k") <= 4
    chain = np.where(narrow[:, None], _as_synthesised("sparse_dsp_chain", D=4), _as_synthesised("sparse_dsp_chain", D=8))
    adders = np.where(hw.figure("coded", 1.0)[:, None] > 0, _as_synthesised("ternary_acc", PACK=1),
                      _as_synthesised("ternary_acc", PACK=0))
    lanes, dsp, lut, ff = np.where(chains[:, None], chain, adders).T
    # What a file states of its own design, per multiplier or lane, stands above.
    lut, ff = (np.where(np.isnan(own := hw.figure(f"{name}_per_mac", np.nan)), found, own * lanes)
               for name, found in (("lut", lut), ("ff", ff)))
    return lanes, Built(dsp, lut, ff)


def _multipliers(hw: Hardware) -> Array:
    """Multipliers of a region for what adder lanes cannot do: as many as the unit of norms and gates has lanes, unless
    stated."""
    known = hw.figure("multipliers", np.nan)
    return np.where(np.isnan(known), hw.figure("lanes"), known)


#: Figures that are divided by, and those that are shares.
POSITIVE = ("slices", "tile_m", "tile_n", "tile_k", "vector_n", "lanes", "multipliers", "pack", "channels",
            "channels_used", "load_bytes", "port_bytes", "port_hz", "efficiency", "cache_pattern")
SHARES = ("efficiency", "cache_pattern")


def problems(hw: Hardware) -> list[str]:
    """Of each device why its part cannot hold the design, in one line naming the resource, or the empty text."""
    with np.errstate(divide="ignore", invalid="ignore"):        # figures of zero are named first
        has, needs = room(hw), taken(hw)
    used, channels = hw.figure("channels_used", 0.0), hw.figure("channels", 1.0)
    wrong = [{name: values[name] for name in values.keys() & {*POSITIVE} if values[name] <= 0 or
              (name in SHARES and values[name] > 1)} for values in hw.figures]
    still = ~(hw.array_clock > 0)
    fits = ~still & np.logical_and.reduce([need <= left for left, need in zip(has, needs, strict=True)]) & (used <= channels)
    found = [""] * len(hw)
    for i in np.flatnonzero(~fits | np.array([bool(w) for w in wrong])).tolist():
        texts = [f".{name}: must be {'in (0, 1]' if name in SHARES else 'above 0'}, got {value:g}"
                 for name, value in wrong[i].items()]
        texts += [": its arrays have no clock; give engine.matrix.clock"] * int(still[i])
        texts += [f": the design takes {need[i]:.0f} {name}, the part has {left[i]:.0f}; make slices, tiles or buffers smaller"
                  for name, left, need in zip(has._fields, has, needs, strict=True) if need[i] > left[i]]
        texts.append(f".channels_used: {used[i]:.0f}, but the memory has {channels[i]:.0f} channels")
        found[i] = f"{hw.identity[i][0]}: engine.matrix.figure{texts[0]}"
    return found


def taken(hw: Hardware) -> Resources:
    """What the designs take of their parts, (devices,) each."""
    macs, (lanes, built) = _multiplying(hw), _built(hw)
    return resources(macs, unit=built, unit_macs=lanes, slices=hw.figure("slices"),
                     multipliers=np.where(_chains(hw) > 0, 0.0, _multipliers(hw)),
                     uram_bytes=hw.figure("uram_bytes", 0.0), bram_bytes=hw.figure("bram_bytes", 0.0))


def _multiplying(hw: Hardware) -> Array:
    """Multipliers or adder lanes of all arrays of a design."""
    shape = {k: hw.figure(k) for k in ("slices", "tile_m", "tile_n", "tile_k", "vector_n")}
    return multipliers_of(**shape, pack=hw.figure("pack", 1.0))


def synthesised(hw: Hardware) -> list[str]:
    """Of each device in one sentence: the cells of its design as synthesised, its buffers, and what the part has of them."""
    per_unit, (has, needs) = _built(hw)[0], (room(hw), taken(hw))
    found = []
    for i, (kind, known) in enumerate(zip(hw.engine, hw.figures, strict=True)):
        word = "multipliers in chains" if kind == "sparse_dsp" else "adder lanes in units"
        parts = {name: f"{need[i]:,.0f}{f' of {left[i]:,.0f}' if np.isfinite(left[i]) else ''} {name}"
                 for name, need, left in zip(needs._fields, needs, has, strict=True) if need[i]}
        cells = ", ".join(text for name, text in parts.items() if name in Built._fields)
        buffers = ", ".join(text for name, text in parts.items() if name not in Built._fields)
        own = " and ".join(f"{name}_per_mac" for name in ("lut", "ff") if f"{name}_per_mac" in known)
        found.append(f"cells: {_multiplying(hw)[i]:,.0f} {word} of {per_unit[i]:.0f}, {cells}"
                     + (f" (by the file's {own})" if own else "") + (f"; buffers: {buffers}" if buffers else "")
                     + "; control and interfaces come on top")
    return found


def room(hw: Hardware) -> Resources:
    """What the parts have, (devices,) each; what is not known is no limit."""
    def known(name: str) -> Array:
        return hw.figure(name, np.inf)

    # What the shell leaves, where that is known; an adaptive logic module of an Intel part holds two small look-up tables.
    lut = np.minimum(np.minimum(known("lut"), known("lut_usable")), 2.0 * known("alm"))
    return Resources(dsp=np.where(_chains(hw) > 0, hw.n_units, known("dsp")), lut=lut, ff=known("ff"), uram=known("uram"),
                     bram18=known("bram18"))


def _priced(cost: Cost, n_ops: int, hw: Hardware, col: Columns) -> Stack:
    """Interval of an unmeasured formula (or the file's own), and energy from the design's joules an operation and byte."""
    spread = hw.figure("spread", UNMEASURED)
    joules = energy(cost.time, cost.flops, cost.nbytes, j_per_op=col(hw.figure("op_j", 0.0)),
                    j_per_byte=col(hw.figure("byte_j", 0.0)), idle_power=col(hw.idle), tdp=col(hw.tdp)).total
    shape = np.shape(cost.time)
    source = tuple("transferred" if s < UNMEASURED else "assumed" for s in spread)
    return Stack(cost, np.broadcast_to(col(1.0 / spread), shape), np.broadcast_to(col(spread), shape), joules,
                 (source,) * n_ops)


def _share(formats: Sequence[str], hw: Hardware, col: Columns) -> Array:
    """Rate of each op's format over that of ``NATIVE``: wider operands take several passes."""
    return col.rates([(f,) * len(hw) for f in formats]) / col(hw.rate_table[NATIVE])


def _array(hw: Hardware, col: Columns, ternary: Sequence[bool]) -> dict[str, Array]:
    """Arrays, and which of the ops they take: chains all, adder lanes those with ternary weights."""
    chains = col(_chains(hw))
    return _given(hw, col, SHAPE) | _wires(hw, col) | {
        "chains": chains, "taken": np.maximum(chains, col.each([float(yes) for yes in ternary])),
        "multipliers": col(_multipliers(hw))}


def _gemm(ops: Sequence[Gemm], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    col = Columns(hw, f["m"].ndim - 2)
    weights = [get_format(op.w) for op in ops]
    computed = [multiply(op.a, op.w, hw.native[0]).compute for op in ops]
    wide = [get_format(op.a).nbytes for op in ops]
    cost = array_gemm(f["m"], f["n"], f["k"], f["batch"], **_array(hw, col, [w.kind == "ternary" for w in weights]),
                      rate_share=_share(computed, hw, col), kept=col.each([float(w.sparsity[0]) for w in weights]),
                      block=col.each([float(w.sparsity[1]) for w in weights]),
                      bytes_a=col.each(wide), bytes_w=col.each([w.nbytes for w in weights]), bytes_out=col.each(wide),
                      buffer_bytes=col(hw.figure("buffer_bytes", np.inf)))
    return _priced(cost, len(ops), hw, col)


def _moe(ops: Sequence[Moe], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    """Experts that a token picked (choices uniform), one after another, each with its share of the rows."""
    hit, rows = picked(f)
    wide = f["inter"] * np.reshape([1.0 + op.gated for op in ops], (-1,) + (1,) * (rows.ndim - 1))
    parts = [_gemm([Gemm(name=op.name, m=0, n=0, k=0, a=op.a, w=op.w, out=op.out) for op in ops],
                   {"m": rows, "n": n, "k": k, "batch": hit}, hw, framework)
             for n, k in ((wide, f["hidden"]), (f["hidden"], f["inter"]))]
    first, second = parts
    return first._replace(cost=Cost(*(a + b for a, b in zip(first.cost, second.cost, strict=True))),
                          energy=first.energy + second.energy)


def _attention(ops: Sequence[Attention], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    col = Columns(hw, f["batch"].ndim - 2)
    # The array multiplies in the format of the cache: new queries are cut to it on their way.
    cache = [get_format(op.kv) for op in ops]
    computed = [c.compute if c.bits < 16 else get_format(op.q).compute for c, op in zip(cache, ops, strict=True)]
    cost = array_attention(*(f[k] for k in ("batch", "q_len", "kv_len", "n_heads", "head_dim", "v_head_dim", "window")),
                           kv_elements=f["kv_elements"], causal=col.each([float(op.causal) for op in ops]),
                           lanes=col(hw.figure("lanes")), rate_share=_share(computed, hw, col),
                           bytes_kv=col.each([c.nbytes for c in cache]), pattern=col(hw.figure("cache_pattern", 1.0)),
                           **_array(hw, col, [False] * len(ops)))
    return _priced(cost, len(ops), hw, col)


def _elementwise(ops: Sequence[Elementwise], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    col = Columns(hw, f["rows"].ndim - 2)
    moved = f["bytes_read"] + f["bytes_written"]
    off = np.maximum(col.each([float(op.kind in OFF_CHIP) for op in ops]), moved > col(hw.figure("buffer_bytes", np.inf)))
    cost = array_stream(f["rows"], f["cols"], moved * off, passes=col.each([PASSES.get(op.kind, 1.0) for op in ops]),
                        **_lanes(hw, col))
    return _priced(cost, len(ops), hw, col)


def _scan(ops: Sequence[Scan], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    col = Columns(hw, f["batch"].ndim - 2)
    state = f["batch"] * f["state_elements"] * col.each([get_format(op.state).nbytes for op in ops])
    moved = np.where(state > col(hw.figure("buffer_bytes", np.inf)), 2.0 * state, 0.0)
    # A recurrence multiplies: operands wider than the array's take several passes, as in its products.
    passes = 1.0 / _share([get_format(op.act).compute for op in ops], hw, col)
    cost = array_stream(f["batch"] * f["q_len"], f["flops_per_token"] / 2.0, moved, passes=passes, **_lanes(hw, col))
    return _priced(cost, len(ops), hw, col)


def _lanes(hw: Hardware, col: Columns) -> dict[str, Array]:
    return {"lanes": col(hw.figure("lanes"))} | _given(hw, col, {k: SHAPE[k] for k in ("slices", "efficiency")}) \
        | _wires(hw, col)


def adders(a: Format, w: Format, hw: Hardware) -> Array:
    """Rate (devices,) at which adder lanes take weights of a format: one addition each a clock, counted as two operations, of
    operands as wide as the array's; 0 for weights that are not ternary. [op/s]"""
    share: Array = hw.rate_table[a.compute] / hw.rate_table[NATIVE] * (w.kind == "ternary")
    return 2.0 * _multiplying(hw) * hw.array_clock * share


PRICERS: Mapping[type[Op], Pricer] = {Gemm: _gemm, Moe: _moe, Attention: _attention, Elementwise: _elementwise, Scan: _scan}
