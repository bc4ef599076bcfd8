"""Compute cores in NAND dies (kind ``in_flash``): products with stored weights, page by page as they leave the cells.

Geometry and times are those of the device's own NAND (``[memory.*.nand]``); the engine's table says its ``clock`` and may
give ``macs`` (multiply-accumulate units of a core), ``outliers`` (protected weights of a page) and ``slice_bytes``.
Whatever the cores leave goes over the channels to the chip that asked. Nothing was measured on such a device: ``assumed``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from accel_models.bind import Hardware
from accel_models.columns import Columns, Stack, priced, sets
from accel_models.cost.in_flash import gemv
from accel_models.cost.terms import Array, Cost
from accel_models.families.general import Pricer
from workloads.formats import get_format
from workloads.ops import Gemm, Op

#: Figure -> argument of ``gemv``, and its value where the file is silent (None: it must say).
_FIGURES: dict[str, tuple[str, float | None]] = {
    "nand_channels": ("n_channels", None), "nand_page": ("page", None), "nand_t_read": ("t_read", None),
    "nand_channel_rate": ("channel_rate", None), "nand_planes": ("planes", 1.0), "macs": ("macs", 2.0),
    "outliers": ("outliers", 0.0), "slice_bytes": ("slice_bytes", 256.0),
}


def _gemm(ops: Sequence[Gemm], f: dict[str, Array], hw: Hardware, framework: str) -> Stack:
    col = Columns(hw, f["m"].ndim - 2)
    given = {arg: col(hw.figure(name, default)) for name, (arg, default) in _FIGURES.items()}
    cores = col(hw.figure("nand_chips", 1.0) * hw.figure("nand_dies", 1.0))
    stored = col.each([get_format(op.w).nbytes for op in ops])
    activation = col.each([max(get_format(op.a).nbytes, 1.0) for op in ops])
    one = gemv(f["n"], f["k"] * stored, cores_per_channel=cores, core_clock=col(hw.clock), input_bytes=activation / stored,
               **given)
    # Every row of A passes the weights anew: a core keeps one input and one sum at a time.
    rows = f["m"] * f["batch"]
    flops = 2.0 * rows * f["n"] * f["k"]
    cost = Cost(time=rows * one.total, compute=rows * one.core, memory=rows * one.cell, link=rows * (one.vector + one.results),
                launch=rows * one.fill, tail=np.zeros(()), flops=flops, nbytes=np.zeros(()))
    found = sets("in_flash", gemv, (("gemv",) * len(hw),) * len(ops), hw.identity, framework)
    return priced(cost, found, col.rates([(get_format(op.a).compute,) * len(hw) for op in ops]), col)


PRICERS: Mapping[type[Op], Pricer] = {Gemm: _gemm}
