"""Families of engines: which formulas price the ops of which kind of engine.

A family is one module here with a table ``PRICERS``: for each kind of op that it treats by a formula of its own, a
pricer ``(ops, numbers, hw, framework) -> Stack``; all other kinds of op go to the general pricers. ``numbers`` holds the
fields of ``workloads.ops.NUMBERS`` as arrays (ops, 1, *axes); ``accel_models.columns`` has what pricers share. Figures of
its own a family takes from ``[engine.*.figure]`` of the device file, by ``hw.figure(name)``.
"""

from __future__ import annotations

from collections.abc import Mapping

from accel_models.families import cpu, fpga, in_flash, systolic
from accel_models.families.general import Pricer
from workloads.ops import Op

#: Kind of the engine that multiplies (``engine.matrix.kind`` of a device file) -> pricers. One line a kind.
FAMILIES: dict[str, Mapping[type[Op], Pricer]] = {
    "cpu_simd": cpu.PRICERS,
    "systolic": systolic.ARRAYS, "hexagon_npu": systolic.NPU,
    "in_flash": in_flash.PRICERS,
    "dsp": fpga.DSP, "ternary": fpga.TERNARY,
}

__all__ = ["FAMILIES", "Pricer"]
