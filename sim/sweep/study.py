"""Bundled studies: a sweep each, with a conclusion that is written from its numbers.

A study is an experiment file in ``studies/`` (``$name`` in it is filled in here from device files and RTL figures) and a
function of the finished rows. Nothing is claimed that the rows do not say.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

import numpy as np

from accel_models.bind import bind
from accel_models.chip import chip, ge_per_mac
from accel_models.families import peak
from accel_models.registry import load_device
from accel_models.unit_silicon import engine_cells
from sim.sweep.front import Columns
from workloads.formats import get_format

#: HBM stacks on the package as sold (NVIDIA H100 whitepaper: five HBM3 stacks; H200 product brief: six HBM3e, not re-read).
STACKS = {"h100_sxm": 5, "h200_sxm": 6}
BANDWIDTH, UNITS, L2 = "hardware.memory.hbm.bandwidth", "hardware.engine.matrix.units", "hardware.memory.l2.capacity"
BATCH, SPEED = "workload.concurrency", "tokens_per_s_per_gpu"
CACHE, BUNDLE, FLASH = ("technique.cache_neurons.size", "technique.cache_neurons.bundle", "hardware.memory.flash.bandwidth")


@dataclass(frozen=True)
class Study:
    """``fill``: values of the experiment's ``$names``; ``conclude``: sentences from the feasible rows."""

    title: str
    conclude: Callable[[Columns], list[str]]
    fill: Callable[[], Mapping[str, str]] = dict


def text_of(name: str) -> str:
    """The experiment of a study, filled in. Raises ``ValueError`` for one that does not exist."""
    if name not in STUDIES:
        raise ValueError(f"no study {name!r}; there is {', '.join(STUDIES)}   (perfboard sweep study)")
    raw = resources.files("sim.sweep").joinpath(f"studies/{name}.toml").read_text(encoding="utf-8")
    return Template(raw).substitute(STUDIES[name].fill())


def _at(rows: Columns, values: Mapping[str, Any]) -> int | None:
    """The row with these values, None where it is not feasible."""
    keep = np.all([np.isclose(rows[k].astype(float), v) for k, v in values.items()], axis=0)
    found = np.flatnonzero(keep)
    return int(found[0]) if len(found) else None


def _best(rows: Columns, figure: str, *, most: bool) -> int:
    return int(np.argmax(rows[figure]) if most else np.argmin(rows[figure]))


def _stacked(device: str) -> dict[str, str]:
    base = load_device(device)
    return {"stack_bandwidth": repr(base.get("memory.hbm.bandwidth") / STACKS[device]),
            "stack_capacity": repr(base.get("memory.hbm.capacity") / STACKS[device])}


# -- bandwidth, compute, cache ----------------------------------------------------------------------------------------

def _llama_70b(rows: Columns) -> list[str]:
    device = load_device("h200_sxm")
    base = {BANDWIDTH: device.get("memory.hbm.bandwidth"), UNITS: device.get("engine.matrix.units"),
            L2: device.get("memory.l2.capacity")}
    called = {BANDWIDTH: "memory bandwidth", UNITS: "processors", L2: "last-level cache"}
    said = []
    for batch in np.unique(rows[BATCH]).tolist():
        here = _at(rows, {**base, BATCH: batch})
        if here is None:
            continue
        speed, area = rows[SPEED][here], rows["area_mm2"][here]
        gains, values = [], {}
        for axis, name in called.items():
            top = float(rows[axis].max())
            there = _at(rows, {**base, axis: top, BATCH: batch})
            if there is None:
                continue
            gain, more = rows[SPEED][there] / speed - 1, rows["area_mm2"][there] - area
            gains.append(f"{name} x{top / base[axis]:.3g} gives {100 * gain:+.1f} % tokens/s for {more:+.0f} mm2")
            values[name] = 100 * gain / more * 100
        order = sorted(values, key=lambda k: -values[k])
        said.append(f"Batch {batch}: from the chip as sold ({1e3 * rows['tpot_s'][here]:.1f} ms a token, {area:.0f} mm2) "
                    + ", ".join(gains) + ".")
        said.append(f"Same area, batch {batch}: 100 mm2 more bring " + ", ".join(f"{values[k]:+.1f} % as {k}" for k in order)
                    + f". So {order[0]} before {order[1]} before {order[2]}; between SRAM and MACs, "
                    + ("MACs." if values[called[UNITS]] > values[called[L2]] else "SRAM."))
    span = rows["area_mm2_hi"] - rows["area_mm2_lo"]
    said.append(f"Areas of changed chips are uncertain by up to ±{50 * np.max(span / rows['area_mm2']):.0f} % (80 %); "
                "the order above holds while the areas of the three kinds are wrong by less than the ratios between them.")
    return said


# -- lookups against multipliers --------------------------------------------------------------------------------------

def _ge_per_mac() -> dict[str, float]:
    """Gate equivalents of one multiply-accumulate per cycle with 4-bit weights and 8-bit activations, of arrays of our own
    units at their contracts' turns, lookups with four tables an accumulator; of fp16 as areas of chips take it."""
    return {"fp16 multipliers": ge_per_mac("fp16"), "8x4-bit multipliers": _of_array("edge_int_mac", w_max=4.0),
            "lookups": _of_array("edge_lut", tables=4.0, generators=2.0)}


def _of_array(name: str, w: str = "int4", **changed: float) -> float:
    """Gate equivalents of one product of int8 and ``w`` a cycle, of an array of a device as its file has it, or so changed."""
    device = load_device(name)
    for figure, value in changed.items():
        device = device.with_value(f"engine.matrix.figure.{figure}", value)
    engine, cells = device.matrix, engine_cells(device)
    if engine is None or cells is None or engine.clock is None or engine.units is None:
        raise ValueError(f"{name}: an engine made of units, with clock and units, is needed")
    rate = float(peak(get_format("int8"), get_format(w), bind([device]))[0])
    return float(cells.ge) * engine.units.value * 2 * engine.clock.value / rate


def _lut_fill() -> dict[str, str]:
    base = load_device("h100_sxm")
    return {"ge": ", ".join(f"{v:.6g}" for v in _ge_per_mac().values()), "ge_base": repr(ge_per_mac("fp16")),
            "per_unit": repr(base.get("engine.matrix.rate.fp16") / base.get("engine.matrix.units")), **_stacked("h100_sxm")}


_LUT_AXES = {"var.macs": "MACs per processor", "var.stacks": "stacks", UNITS: "processors", L2: "cache"}


def _lut_7b(rows: Columns) -> list[str]:
    said, found, edges = [], {}, set[str]()
    for name, ge in _ge_per_mac().items():
        mine = {k: v[np.isclose(rows["var.ge"], ge, rtol=1e-4)] for k, v in rows.items()}
        if not len(mine["status"]):
            continue
        i = _best(mine, SPEED, most=True)
        j = _best(mine, "ttft_s", most=False)
        found[name] = mine[SPEED][i]
        own = mine["multipliers_mm2"][i] * ge / ge_per_mac("fp16")
        chip = {k: float(mine[k][i]) for k in (SPEED, "chip_mm2", UNITS, "var.macs", "var.stacks", L2)}
        said.append(f"With {name} ({ge:.0f} gate equivalents per multiply-accumulate and cycle): at most {chip[SPEED]:.0f} "
                    f"tokens/s in {chip['chip_mm2']:.0f} mm2 ({chip[UNITS]:.0f} processors of {chip['var.macs']:g} times the "
                    f"MACs of today's, {chip['var.stacks']:.0f} stacks, {chip[L2] / 2**20:.3g} MiB; the arithmetic takes "
                    f"{own:.1f} mm2); the fastest first token {1e3 * mine['ttft_s'][j]:.0f} ms.")
        edges |= {name for k, name in _LUT_AXES.items() if chip[k] in (rows[k].min(), rows[k].max())}
    base = found.get("fp16 multipliers", np.nan)
    changes = ", ".join(f"{k} {100 * (v / base - 1):+.1f} %" for k, v in found.items() if k != "fp16 multipliers")
    said.append(f"Against fp16 multipliers in the same 400 mm2: {changes} tokens/s. "
                + _verdict(found.get("lookups", np.nan), found.get("8x4-bit multipliers", np.nan)))
    span = np.nanmax((rows[f"{SPEED}_hi"] - rows[f"{SPEED}_lo"]) / rows[SPEED])
    said.append(f"Each throughput is uncertain by up to ±{50 * span:.0f} % (80 %); the kinds differ in area alone, so that "
                "most of that error is common to them.")
    if edges:
        said.append(f"The best lie at the edge of what was tried in {', '.join(sorted(edges))}: wider axes may find better.")
    said.append("All are taken at the same clock, at the efficiency of the GPU's own kernels and with today's "
                "registers and scratchpads whatever the number of MACs; 8x4-bit and lookup units round activations to 8 bits, "
                "fp16 does not.")
    return said


def _verdict(lookup: float, narrow: float) -> str:
    if not np.isfinite(lookup) or not np.isfinite(narrow):
        return "One of the kinds has no chip in that area."
    if abs(lookup / narrow - 1) < 0.005:
        return "Lookups and narrow multipliers come out alike: arithmetic is too small a part of the chip to decide."
    word = "better" if lookup > narrow else "worse"
    return f"Lookups are {word} than narrow multipliers by {100 * abs(lookup / narrow - 1):.1f} %."


# -- shapes of a lookup array --------------------------------------------------------------------------------------------

#: Axes of ``lut_arrays``: figure of an array -> what it is called.
ARRAY = "hardware.engine.matrix.figure."
SHAPE = {f"{ARRAY}group": "terms a table", f"{ARRAY}tables": "tables an accumulator", f"{ARRAY}tile_m": "rows",
         f"{ARRAY}tile_n": "columns"}
#: Its weights, and the format that other units know them by.
WIDTHS = {"ternary2/int8": "int2", "int4/int8": "int4"}
#: What lookups are compared with: arrays of devices that differ in them alone.
RIVALS = {"int8 multipliers": "edge_int_mac", "bit-serial multipliers": "edge_bit_serial", "binary tiles": "edge_popcount"}
#: Width of multipliers for weights alone: two bits with a zero point are three.
NARROW = {"int2": 3.0, "int4": 4.0}


def _area_of_rate(name: str, w: str, rate: float, **changed: float) -> float:
    """Area of as many arrays of a device, so changed, as multiply int8 by weights of format ``w`` at this rate. [mm2]"""
    device = load_device(name)
    for figure, value in changed.items():
        device = device.with_value(f"engine.matrix.figure.{figure}", value)
    own = float(peak(get_format("int8"), get_format(w), bind([device]))[0])
    return float(chip(device).multipliers) * rate / own


def _lut_arrays(rows: Columns) -> list[str]:
    said, area = [], "multipliers_mm2"
    for quant, w in WIDTHS.items():
        mine = {k: v[rows["model.quant"] == quant] for k, v in rows.items()}
        i = _best(mine, area, most=False)
        shape = ", ".join(f"{mine[axis][i]:g} {name}" for axis, name in SHAPE.items())
        macs = np.prod([mine[axis][i] for axis in SHAPE]) * mine[UNITS][i]
        rate = 2e9 * macs / get_format(w).element_bits
        said.append(f"{w} weights: smallest with {shape}: {mine[UNITS][i]:.0f} arrays, {mine[area][i]:.2f} mm2, "
                    f"{rate / 1e12:.1f} TOP/s, a prompt in {1e3 * mine['ttft_s'][i]:.0f} ms.")
        sizes = {"lookups": float(mine[area][i])} | {label: _area_of_rate(name, w, rate) for label, name in RIVALS.items()}
        sizes[f"8x{NARROW[w]:g}-bit multipliers"] = _area_of_rate("edge_int_mac", w, rate, w_max=NARROW[w])
        order = sorted(sizes, key=lambda k: sizes[k])
        said.append(f"At that rate of {w} by int8: " + ", ".join(f"{k} {sizes[k]:.2f} mm2" for k in order) + ".")
    two = {k: v[rows["model.quant"] == next(iter(WIDTHS))] for k, v in rows.items()}
    for axis, name in SHAPE.items():
        least = {v: float(two[area][two[axis] == v].min()) for v in np.unique(two[axis]).tolist()}
        said.append(f"By {name}, each with the best of the rest: "
                    + ", ".join(f"{mm2:.2f} mm2 with {v:g}" for v, mm2 in least.items()) + ".")
    said.append("All shapes do as many products a cycle, but for whole arrays. Cells are of a generic mapping without timing, "
                "between synthesised builds by a formula; tables are exact, accumulators have 24 bits.")
    return said


# -- flash against memory ---------------------------------------------------------------------------------------------

def _phone(rows: Columns) -> list[str]:
    links, sizes = np.unique(rows[FLASH]), np.unique(rows[CACHE])

    def tpot(size: float, link: float, bundle: int) -> float:
        i = _at(rows, {CACHE: size, FLASH: link, BUNDLE: bundle})
        return float(rows["tpot_s"][i]) if i is not None else np.nan

    def held(size: float) -> float:
        return float(rows["used_bytes"][np.isclose(rows[CACHE], size)].mean())

    low, high, slow, fast = sizes[0], sizes[-1], links[0], links[-1]
    by_memory = tpot(low, fast, 1) / tpot(high, fast, 1)
    by_link = [tpot(c, slow, 1) / tpot(c, fast, 1) for c in (low, high)]
    by_record = [tpot(c, fast, 0) / tpot(c, fast, 1) for c in (low, high)]
    said = [f"Memory: a neuron cache of {100 * low:g} % to {100 * high:g} % ({held(low) / 1e9:.2f} to {held(high) / 1e9:.2f} "
            f"GB in all) takes a token from {1e3 * tpot(low, fast, 1):.0f} to {1e3 * tpot(high, fast, 1):.0f} ms, "
            f"{by_memory:.2f} times faster.",
            f"Flash link: {slow / 1e9:g} to {fast / 1e9:g} GB/s makes a token {by_link[0]:.3f} times faster with the small "
            f"cache and {by_link[1]:.3f} times with the large one.",
            f"How it is stored: the rows of a neuron as one record instead of one each, {by_record[0]:.2f} and "
            f"{by_record[1]:.2f} times faster."]
    per_gb = [(held(b) / 1e9, (tpot(a, fast, 1) - tpot(b, fast, 1)) / (held(b) - held(a)) * 1e12)
              for a, b in itertools.pairwise(sizes)]
    said.append("A further GB of memory is worth " + ", ".join(f"{gain:.0f} ms up to {gb:.2f} GB" for gb, gain in per_gb)
                + " a token.")
    gains = {"memory": by_memory, "the flash link": by_link[0], "records": by_record[0]}
    order = sorted(gains, key=lambda k: -gains[k])
    said.append(f"So {order[0]} before {order[1]} before {order[2]}"
                + ("; reads of single records hang on requests, not on the link." if order[-1] == "the flash link" else "."))
    return said


# -- stacks -----------------------------------------------------------------------------------------------------------

def _hbm_stacks(rows: Columns) -> list[str]:
    price, said, best = "scaled_usd_per_m_output_tokens", [], {}
    for stacks in np.unique(rows["var.stacks"]).tolist():
        mine = {k: v[rows["var.stacks"] == stacks] for k, v in rows.items()}
        i = _best(mine, price, most=False)
        best[stacks], at = float(mine[price][i]), {k: float(v[i]) for k, v in mine.items() if v.dtype.kind in "if"}
        said.append(f"{stacks:g} stacks ({at['capacity_bytes'] / 1e9:.0f} GB, {at[BANDWIDTH] / 1e12:.1f} TB/s, chip and memory "
                    f"{at['chip_usd']:,.0f} USD): at best {best[stacks]:.2f} USD per million output tokens, at batch "
                    f"{at[BATCH]:.0f} and {1e3 * at['tpot_s']:.0f} ms a token.")
    cheapest, sold = min(best, key=lambda k: best[k]), float(STACKS["h200_sxm"])
    below = f", {100 * (1 - best[cheapest] / best[sold]):.0f} % below the {sold:g} sold" if best.get(sold) else ""
    said.append(f"Cheapest: {cheapest:g} stacks{below}.")
    slope = [(b, 100 * (best[b] / best[a] - 1)) for a, b in itertools.pairwise(best)]
    said.append("Each further step changes the price by " + ", ".join(f"{d:+.0f} % (to {n:g})" for n, d in slope) + ".")
    few = min(best)
    common = rows[BATCH][rows["var.stacks"] == few].max()
    alike = {n: float(rows[price][(rows["var.stacks"] == n) & (rows[BATCH] == common)].min()) for n in (few, cheapest)}
    said.append(f"Of the gain from {few:g} to {cheapest:g} stacks ({100 * (best[cheapest] / best[few] - 1):+.0f} %), bandwidth "
                f"alone at batch {common:g}, the largest that fits {few:g}, makes "
                f"{100 * (alike[cheapest] / alike[few] - 1):+.0f} %; the rest is room for larger batches.")
    said.append("Rents are taken to follow the price of making chip, memory and board, which is assumed.")
    return said


STUDIES: dict[str, Study] = {
    "llama_70b": Study("memory bandwidth against compute against L2, Llama-3.1-70B decode", _llama_70b),
    "lut_7b": Study("the best chip below 400 mm2 for a 7B model at 4 bit, with and without lookup units", _lut_7b, _lut_fill),
    "phone": Study("UFS against DRAM capacity on a phone, event-simulated", _phone),
    "hbm_stacks": Study("HBM stacks against price per million tokens", _hbm_stacks, lambda: _stacked("h200_sxm")),
    "lut_arrays": Study("the smallest lookup array for 2- and 4-bit weights: terms, tables, rows, columns", _lut_arrays),
}
