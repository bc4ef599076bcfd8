"""Families of engines: which formulas price the ops of which kind of engine.

A family is one module here with a table ``PRICERS``: for each kind of op that it treats by a formula of its own, a
pricer ``(ops, numbers, hw, framework) -> Stack``; all other kinds of op go to the general pricers. ``numbers`` holds the
fields of ``workloads.ops.NUMBERS`` as arrays (ops, 1, *axes); ``accel_models.columns`` has what pricers share. Figures of
its own a family takes from ``[engine.*.figure]`` of the device file, by ``hw.figure(name)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from accel_models.bind import Hardware, take
from accel_models.cost.terms import Array
from accel_models.families import cpu, fpga, in_flash, systolic, units
from accel_models.families.general import PRICERS, Pricer
from accel_models.units import KINDS
from workloads.formats import Format
from workloads.ops import Op

#: Kind of the engine that multiplies (``engine.matrix.kind`` of a device file) -> pricers. One line a kind.
FAMILIES: dict[str, Mapping[type[Op], Pricer]] = {
    "cpu_simd": cpu.PRICERS,
    "systolic": systolic.ARRAYS, "hexagon_npu": systolic.NPU,
    "in_flash": in_flash.PRICERS,
    "sparse_dsp": fpga.PRICERS, "ternary": fpga.PRICERS,
}

#: Kind of engine -> rate (devices,) of products of two formats (activations, weights) apart from that of the format that
#: both are brought to; 0 where there is no such way. [op/s]
OTHER_WAYS: dict[str, Callable[[Format, Format, Hardware], Array]] = {
    "cpu_simd": lambda a, w, hw: cpu.lookup_limit(w, hw), "ternary": fpga.adders}


def family(engine: str, device: str) -> Mapping[type[Op], Pricer]:
    """Pricers of a kind of engine in a kind of device; the general ones where it has none."""
    if engine in KINDS:
        return units.pricers(engine, hosted=device == "gpu")
    return FAMILIES.get(engine, PRICERS)


def peak(a: Format, w: Format, hw: Hardware) -> Array:
    """The most that devices could do of products A W, whatever the kernel: their multipliers' rate in the format of A, or
    another way that weights of this format allow. (devices,) [op/s]"""
    other = other_way(a, w, hw)
    return np.fmax(hw.rate_table[a.compute], np.where(other > 0, other, np.nan))


def other_way(a: Format, w: Format, hw: Hardware) -> Array:
    """Rate (devices,) of products A W by ``OTHER_WAYS``, 0 where there is none. [op/s]"""
    rate = np.zeros(len(hw))
    for kind in dict.fromkeys(hw.engine):
        other = partial(units.peak, kind=kind) if kind in KINDS else OTHER_WAYS.get(kind)
        if other is not None:
            places = [i for i, engine in enumerate(hw.engine) if engine == kind]
            rate[places] = other(a, w, hw if len(places) == len(hw) else take(hw, places))
    return rate


#: Kind of engine -> of each device why it cannot be what its file says, in one line, or the empty text.
PROBLEMS: dict[str, Callable[[Hardware], list[str]]] = {"sparse_dsp": fpga.problems, "ternary": fpga.problems}


def problems(hw: Hardware) -> list[str]:
    """Of each device why it cannot be priced (a design that its part cannot hold), or the empty text."""
    return _by_kind(PROBLEMS, hw)


#: Kind of engine -> of each device the cells of its design as synthesised, in one sentence.
SYNTHESISED: dict[str, Callable[[Hardware], list[str]]] = {"sparse_dsp": fpga.synthesised, "ternary": fpga.synthesised}


def synthesised(hw: Hardware) -> list[str]:
    """Of each device the cells of its design as synthesised, where its family knows them, or the empty text."""
    return _by_kind(SYNTHESISED, hw)


def _by_kind(functions: Mapping[str, Callable[[Hardware], list[str]]], hw: Hardware) -> list[str]:
    found = [""] * len(hw)
    for kind, of in functions.items():
        places = [i for i, engine in enumerate(hw.engine) if engine == kind]
        for i, text in zip(places, of(take(hw, places)) if places else (), strict=True):
            found[i] = text
    return found


__all__ = ["FAMILIES", "Pricer", "family", "other_way", "peak", "problems", "synthesised"]
