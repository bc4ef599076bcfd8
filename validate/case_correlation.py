"""How far errors of two kernels on one shape move together: the correlations that ``case_verdict`` rests on.

``python -m validate.case_correlation --data DIR`` on a directory of measured tables prints them, and the share of
measured ratios that lie in the composed 80 % interval.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accel_models.bind import Hardware, bind
from accel_models.price import price
from accel_models.registry import load_device
from sim.estimate import Z80
from validate.measured import Table, data_dir, held_out, read
from workloads.ops import Gemm

DEVICES = ("a100_sxm4_80gb", "l40s", "h200_sxm")
FORMATS = {"none": ("bf16", "bf16"), "int8_weight_only": ("bf16", "int8"), "int4_weight_only": ("bf16", "int4_g128"),
           "int8_smoothquant": ("int8", "int8")}


class Study(NamedTuple):
    """Pairs of held-back rows, the correlation of their log errors, and coverage of the ratio at each correlation."""

    pairs: int
    correlation: float
    coverage: dict[float, float]


def study(directory: Path, *, transferred: bool, rhos: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)) -> Study:
    """16 bit against each low-bit kernel of one library on shapes that no fit has seen. ``transferred``: with the pool
    of all devices, as for a chip of an unknown generation."""
    rows = read("gemm", directory)
    pairs = np.array([p for d in DEVICES for p in _pairs(rows, d, transferred)])
    a, b = pairs[:, :2], pairs[:, 2:]
    apart = a[:, 0] - b[:, 0]
    coverage = {}
    for rho in rhos:
        s = np.sqrt(np.maximum(a[:, 1] ** 2 + b[:, 1] ** 2 - 2 * rho * a[:, 1] * b[:, 1], 1e-12))
        coverage[rho] = float(np.mean(np.abs(apart) <= Z80 * s))
    return Study(len(pairs), float(np.corrcoef(a[:, 0], b[:, 0])[0, 1]), coverage)


def _pairs(rows: Table, device: str, transferred: bool) -> list[tuple[float, ...]]:
    hw = bind([load_device(device)])
    if transferred:
        hw = replace(hw, identity=(("unseen", "unseen", "gpu"),))
    errors = {q: _errors(rows, device, q, hw, transferred) for q in FORMATS}
    plain = errors.pop("none")
    return [(*plain[shape], *e) for other in errors.values() for shape, e in other.items() if shape in plain]


def _errors(rows: Table, device: str, quant: str, hw: Hardware, transferred: bool) -> dict[Any, tuple[float, float]]:
    """Shape -> (log error about the interval's middle, the interval's log standard deviation)."""
    library = np.array([f.startswith("trtllm") for f in rows["framework"]])
    chosen = rows.where((rows["device"] == device) & (rows["quant"] == quant) & library & (rows["batch"] == 1))
    chosen = chosen.where(held_out(chosen, ("n", "k")))
    a, w = FORMATS[quant]
    framework = "" if transferred else str(chosen["framework"][0])
    op = Gemm(name="", m=chosen["m"], n=chosen["n"], k=chosen["k"], a=a, w=w)
    priced = price([op], hw, framework=framework)[0]
    time, lo, hi = (np.broadcast_to(x, (1, len(chosen)))[0] for x in (priced.cost.time, priced.lo, priced.hi))
    error = np.log(chosen["time_s"] / time) - np.log(lo * hi) / 2
    spread = np.log(hi / lo) / (2 * Z80)
    shapes = zip(chosen["m"], chosen["n"], chosen["k"], strict=True)
    return {s: (float(e), float(x)) for s, e, x in zip(shapes, error, spread, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=None, help="directory of measured tables (or PERFBOARD_DATA)")
    directory = data_dir(parser.parse_args().data)
    for transferred in (False, True):
        s = study(directory, transferred=transferred)
        print(f"{'transferred' if transferred else 'own sets'}: {s.pairs} pairs, correlation {s.correlation:.2f}; coverage "
              + ", ".join(f"{100 * c:.0f} % at {rho:g}" for rho, c in s.coverage.items()))


if __name__ == "__main__":
    main()
