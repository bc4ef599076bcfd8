"""Which kernels a matrix product of two number formats is issued as, as counts of work: rates, passes, bytes, extra ops.

Formats say what they are (``workloads.formats``); this file alone says what an engine makes of a pair of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from accel_models.cost.terms import Array
from workloads.formats import OUTLIER_BITS, Format, get_format
from workloads.ops import Elementwise, Gemm, Op

#: Value and index of one outlier of W in its side table. [B]
SIDE_BYTES = OUTLIER_BITS / 8


class Multiply(NamedTuple):
    """How a product of two formats runs on one device: the fitted variant, the rate's format, extra work.

    ``rows`` rows are multiplied for each of A (its bit planes, one above the other), ``passes`` times each (the planes
    of W). ``mix`` is the share of k that runs at the rate of ``mixed``. ``step`` is the width of an element of the
    multiplied format over that of the variant's own: a step along k moves the same bytes, so more narrow elements.
    ``borrowed``: no kernel like this was ever measured; the variant is that of the nearest one.
    """

    variant: str
    compute: str
    dequant_ops: float
    bytes_a: float
    quant_kernels: float
    quant_bytes: float
    rows: float = 1.0
    passes: float = 1.0
    mix: float = 0.0
    mixed: str = "fp32"
    step: float = 1.0
    borrowed: bool = False


@lru_cache(maxsize=4096)
def multiply(a: str, w: str, native: frozenset[str]) -> Multiply:
    """Choose the kernel for activations ``a`` times weights ``w`` on an engine whose native formats are ``native``.

    Both operands low-bit and the rate exists: a low-bit product, activations quantised first (at the rate of the wider
    operand). Both in bit planes: binary products of each plane of A with each of W. Otherwise weights are unpacked to
    the activation's 16-bit format in registers (weight-only kernel) and bytes alone are saved.
    """
    fa, fw = get_format(a), get_format(w)
    wide = 2.0 if fa.compute != "fp32" else 4.0
    if fa.bits >= 16:
        if fw.bits >= 16:
            return Multiply("fp32" if fa.compute == "fp32" else "none", fa.compute, 0.0, wide, 0.0, 0.0)
        return Multiply(_weight_only(fw), fa.compute, fw.dequant_ops, 2.0, 0.0, 0.0, borrowed=fw.gather > 0)
    quantise = (0.0, 0.0) if fa.ready else (1.0, 2.0 + fa.nbytes)
    if fa.planes and fw.planes and "int1" in native:
        # Planes of A lie above each other as rows, so that few rows still fill the binary unit's tile.
        return Multiply("int8_smoothquant", "int1", 0.0, fa.nbytes / fa.planes, quantise[0], quantise[1] / fa.planes,
                        rows=float(fa.planes), passes=float(fw.planes), step=1 / 8, borrowed=True)
    compute = fw.compute if _wider(fw, fa) and fw.compute in native else fa.compute
    if compute not in native or fa.planes:
        # No such rate: the activation stays 16 bit, the weight is unpacked.
        return Multiply(_weight_only(fw), "bf16", max(fw.dequant_ops, 1.0), 2.0, 0.0, 0.0)
    mixed = get_format(fa.mix_format).compute if fa.mix else "fp32"
    unpack = (0.0 if fw.compute == compute else (1.0 - fa.mix) * fw.dequant_ops) + (
        fa.mix * fw.dequant_ops if fa.mix and mixed != fw.compute else 0.0)
    step = 0.5 + 0.5 * fa.mix if compute == "int4" else 1.0
    return Multiply(_low_bit(fa, fw), compute, unpack, fa.nbytes, *quantise, mix=fa.mix, mixed=mixed, step=step,
                    borrowed=compute in ("int4", "fp6") or unpack > 0)


def _wider(w: Format, a: Format) -> bool:
    return {"int4": 4, "int8": 8}.get(w.compute, 0) > {"int4": 4, "int8": 8}.get(a.compute, 99)


@cache
def _plain(a: str, w: str, out: str) -> bool:
    """Whether a product of these formats is one kernel."""
    fa, fw = get_format(a), get_format(w)
    return not (fa.columns or fa.kernels or fw.apart or fw.elements or fw.kernels)


def kernels(op: Op) -> tuple[Op, ...]:
    """The kernels that one op is issued as, ``repeat`` times each. All but some quantised products are one.

    Outlier columns of A: a 16-bit product of those alone. Outlier elements of W: a sparse product that reads value and
    index of each and adds to the result. Weights unpacked ``apart``: written to memory in 16 bit, then multiplied as
    such. Kernels around the product: the bytes that they move.
    """
    if not isinstance(op, Gemm) or _plain(op.a, op.w, op.out):
        return (op,)
    fa, fw = get_format(op.a), get_format(op.w)
    m, n, k, batch = (np.asarray(x, dtype=np.float64) for x in (op.m, op.n, op.k, op.batch))
    once = replace(op, repeat=1.0, a=fa.base or op.a, w=fw.base or op.w)
    c = get_format(op.out).nbytes
    out: list[Op] = [once]
    if fw.apart:
        wide = op.a if fa.bits >= 16 else op.out
        out = [replace(once, w=wide),
               _streams(f"{op.name}.unpack", n * batch, k, n * k * batch * fw.nbytes, n * k * batch * 2.0)]
    if fa.columns:
        out.append(replace(once, name=f"{op.name}.outliers", k=np.maximum(k * fa.columns, 1.0), a=op.out, w=op.out))
    if fw.elements:
        stored = n * k * batch * fw.elements
        out.append(_streams(f"{op.name}.sparse", n * batch, k * fw.elements,
                            stored * SIDE_BYTES + m * k * batch * 2.0 + m * n * batch * c, m * n * batch * c))
    for f in (fa, fw):
        if f.kernels:
            moved = (m * k * f.moved_a + m * n * f.moved_c) * batch / f.kernels
            out.append(replace(_streams(f"{op.name}.around", m * batch, k, moved / 2, moved / 2), repeat=f.kernels))
    return tuple(out)


def _streams(name: str, rows: Array, cols: Array, read: Array, written: Array) -> Elementwise:
    return Elementwise(name=name, kind="quantise", rows=rows, cols=cols, bytes_read=read, bytes_written=written)


def _weight_only(w: Format) -> str:
    return "int8_weight_only" if w.element_bits > 6 else "int4_weight_only"


def _low_bit(a: Format, w: Format) -> str:
    if a.compute == "fp8":
        return "fp8_block128" if "block" in w.name else "fp8_dynamic"
    return {"fp4": "nvfp4_g16", "fp6": "fp8_dynamic"}.get(a.compute, "int8_smoothquant")
