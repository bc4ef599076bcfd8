"""Families of engines: which formulas price the ops of which kind of engine.

A family is one module here with a table ``PRICERS``: for each kind of op that it treats by a formula of its own, a
pricer ``(ops, numbers, hw, framework) -> Stack``; all other kinds of op go to the general pricers. ``numbers`` holds the
fields of ``workloads.ops.NUMBERS`` as arrays (ops, 1, *axes); ``accel_models.columns`` has what pricers share. Figures of
its own a family takes from ``[engine.*.figure]`` of the device file, by ``hw.figure(name)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from accel_models.bind import Hardware
from accel_models.cost.terms import Array
from accel_models.families import cpu, fpga, in_flash, systolic
from accel_models.families.general import Pricer
from workloads.formats import Format
from workloads.ops import Op

#: Kind of the engine that multiplies (``engine.matrix.kind`` of a device file) -> pricers. One line a kind.
FAMILIES: dict[str, Mapping[type[Op], Pricer]] = {
    "cpu_simd": cpu.PRICERS,
    "systolic": systolic.ARRAYS, "hexagon_npu": systolic.NPU,
    "in_flash": in_flash.PRICERS,
    "dsp": fpga.DSP, "ternary": fpga.TERNARY,
}

#: Kind of engine -> rate (devices,) of products with weights of a format where it can do without multiplying. [op/s]
WITHOUT_MULTIPLYING: dict[str, Callable[[Format, Hardware], Array]] = {"cpu_simd": cpu.lookup_limit}


def peak(a: Format, w: Format, hw: Hardware) -> Array:
    """The most that devices could do of products A W, whatever the kernel: their multipliers' rate in the format of A, or
    another way that weights of this format allow. (devices,) [op/s]"""
    rate = hw.rate_table[a.compute]
    for kind, other in WITHOUT_MULTIPLYING.items():
        if kind in hw.engine:
            rate = np.where([k == kind for k in hw.engine], np.maximum(rate, other(w, hw)), rate)
    return rate


__all__ = ["FAMILIES", "Pricer", "peak"]
