"""Fit what cells a unit has between its synthesised builds: ``python -m validate.fit_cells [--synth]``.

Terms of each unit's structure (``accel_models.silicon``) against the gate equivalents and flip-flops of all its builds, by
least squares on relative errors; a coefficient is the cells of one bit of that term and cannot be negative: a term that
would be is left out, the most negative first. Every build is left out once, and what is predicted for it by the others is
the error that is stored. ``--synth`` synthesises the further builds first (``rtl/builds.json``).
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from accel_models.cost.terms import Array
from accel_models.fitted_store import FittedFile, ParameterSet
from accel_models.silicon import TERMS, resolved
from rtl.harness import builds
from rtl.harness.figures import measure
from rtl.harness.registry import load
from rtl.harness.unit import Params
from validate.fit import interval
from validate.fitted_text import fitted_text
from validate.study import DATE, OUT

#: Builds beside those of ``figures.json``: sizes apart from the defaults, one parameter or two at a time.
BUILDS: dict[str, tuple[Params, ...]] = {
    "base_fp16_mac": ({"AM": 16}, {"AM": 26}, {"AM": 13}),
    "base_mac_dp": ({"L": 1}, {"L": 16, "B_W": 4}, {"L": 4, "A_W": 16}, {"L": 8, "A_W": 4, "B_W": 4}, {"L": 32},
        {"L": 8, "A_W": 16, "B_W": 16, "ACC_W": 40}, {"L": 8, "ACC_W": 24}, {"L": 2}, {"L": 8, "B_W": 2}),
    "bitmod_unit": ({"ACC_W": 20}, {"D_W": 4}, {"ACC_W": 28}, {"ACC_W": 20, "D_W": 4}),
    "bitserial_mac": ({"LANES": 32}, {"LANES": 64}, {"LANES": 8, "BPC": 4}, {"LANES": 32, "BPC": 4}, {"A_W": 16},
        {"A_W": 4, "BPC": 2}, {"W_MAX": 4, "ACC_W": 24}, {"LANES": 128}, {"LANES": 64, "BPC": 2}),
    "btc_popcount_gemm": ({"MT": 1, "NT": 1}, {"MT": 1, "NT": 4, "KW": 64}, {"MT": 2, "NT": 2, "KW": 256}, {"KW": 32},
        {"MT": 4, "NT": 4, "KW": 64}, {"P_MAX": 4, "PW": 3, "MT": 2, "NT": 2}, {"MT": 2, "NT": 2, "KW": 64, "ACC_W": 24},
        {"MT": 1, "NT": 2, "KW": 512}, {"MT": 4, "NT": 2, "KW": 128}),
    "flash_page_gemv": ({"COLS": 16, "CAW": 4}, {"COLS": 128, "CAW": 7}, {"COLS": 64, "CAW": 6, "NMAC": 4, "NW": 2},
        {"COLS": 64, "CAW": 6, "NMAC": 8, "NW": 3}, {"COLS": 128, "CAW": 7, "NMAC": 4, "NW": 2}),
    "lut_mpgemm_tile": ({"M": 1, "N": 8}, {"M": 2, "N": 16}, {"M": 2, "N": 16, "K": 2, "T_W": 10}, {"M": 2, "N": 16, "K": 3},
        {"M": 2, "N": 16, "K": 5, "T_W": 12}, {"M": 2, "N": 8, "K": 6, "T_W": 12}, {"M": 4, "N": 16},
        {"M": 2, "N": 16, "T_W": 8, "SH_W": 4, "ACC_W": 24}, {"M": 2, "N": 16, "T_W": 19},
        {"M": 2, "N": 16, "W_MAX": 8, "PW": 4}, {"M": 1, "N": 32}, {"M": 4, "N": 8, "K": 3, "T_W": 8},
        {"M": 1, "N": 16, "K": 6, "T_W": 8}, {"M": 2, "N": 8, "K": 5, "T_W": 8, "ACC_W": 24},
        {"M": 2, "N": 16, "P": 2, "ACC_W": 24}, {"M": 1, "N": 16, "P": 4}, {"M": 1, "N": 16, "K": 3, "P": 3},
        {"M": 2, "N": 8, "P": 4, "T_W": 8, "SH_W": 4, "ACC_W": 24}),
    "lut_table_gen": ({"K": 2}, {"K": 3}, {"K": 5}, {"A_W": 16}, {"K": 2, "Q": 1}, {"K": 3, "Q": 1}, {"K": 5, "Q": 1},
        {"K": 3, "A_W": 16}, {"K": 3, "Q": 1, "A_W": 16}, {"K": 5, "Q": 1, "A_W": 16}),
    "shift_mac": ({"L": 4}, {"L": 32, "B": 4}, {"L": 8, "A_W": 16}, {"L": 16, "B": 2}, {"L": 64},
        {"L": 4, "B": 4, "ACC_W": 24}, {"L": 8, "B": 4}, {"L": 32}, {"FP": 1, "L": 4},
        {"FP": 1, "L": 8, "B": 4}, {"FP": 1, "L": 32}, {"FP": 1, "L": 8, "B": 2}),
    "sparse_dsp_chain": ({"M": 8}, {"M": 2}, {"D": 4, "M": 8}, {"ACC_W": 24}),
    "ternary_acc": ({"L": 10}, {"L": 40}, {"NO": 8}, {"NO": 1}, {"L": 40, "NO": 2, "PACK": 1}, {"A_W": 16, "L": 10},
        {"ACC_W": 24, "L": 10, "NO": 2}, {"L": 80, "NO": 2}),
}


def synthesise() -> None:
    """Gate equivalents of the further builds, kept in the synthesiser's cache until sources change."""
    rows = [measure(load(unit), " ".join(f"{k}={v}" for k, v in p.items()), p, fpga=False)
            for unit, made in BUILDS.items() for p in made]
    builds.store([{k: v for k, v in row.items() if k != "cells"} for row in rows])


def table(unit: str, figure: str) -> tuple[list[str], Array, Array]:
    """Names of terms, (builds, terms) of them, (builds,) of cells."""
    made = builds.synthesised(unit)
    terms = [TERMS[unit](resolved(unit, row["parameters"])) for _, row in made]
    return list(terms[0]), np.array([[float(v) for v in t.values()] for t in terms]), \
        np.array([float(row[figure]) for _, row in made])


def positive(x: Array, y: Array) -> Array:
    """Least squares of relative errors with coefficients of at least 0."""
    used = np.asarray(x.any(axis=0))
    found = np.zeros(x.shape[1])
    while used.any():
        found[:] = 0.0
        found[used] = np.linalg.lstsq(x[:, used] / y[:, None], np.ones(len(y)), rcond=None)[0]
        if found.min() >= 0:
            break
        used[np.argmin(found)] = False
    return found


def left_out(x: Array, y: Array) -> Array:
    """ln(synthesised / predicted) of each build by a fit to the others."""
    others = ~np.eye(len(y), dtype=np.bool_)
    return np.array([np.log(y[i] / (x[i] @ positive(x[keep], y[keep]))) for i, keep in enumerate(others)])


def one(unit: str, figure: str) -> ParameterSet:
    """Coefficients of a unit's gate equivalents (``ge``) or flip-flops (``ff``), and their error."""
    names, x, y = table(unit, figure)
    found, unseen = positive(x, y), left_out(x, y)
    low, high = interval(unseen)
    factor = _round(max(high, 1 / low, 1.0))
    swept = {k: np.array([float(full[k]) for full, _ in builds.synthesised(unit)]) for k in load(unit).parameters}
    return ParameterSet(variant=f"{unit} {figure}", n_rows=len(y), mape=_round(float(np.mean(np.abs(np.expm1(-unseen))))),
                        values={n: _round(float(c)) for n, c in zip(names, found, strict=True) if c > 0},
                        lo={"all": _round(1 / factor)}, hi={"all": factor},
                        range={k: (float(v.min()), float(v.max())) for k, v in swept.items() if v.min() < v.max()})


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def digest() -> str:
    """Of what was fitted to: builds and their cells."""
    rows: Sequence[Any] = [(unit, sorted(full.items()), row["ge"], row["ff"]) for unit in TERMS
                           for full, row in builds.synthesised(unit)]
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()


def made() -> FittedFile:
    return FittedFile(op="cells", formula="accel_models.silicon.modelled", date=DATE, data_sha256=digest(),
                      source="our own synthesis with Yosys: rtl/figures.json, rtl/builds.json",
                      set=tuple(one(unit, figure) for unit in sorted(TERMS) for figure in ("ge", "ff")))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--synth", action="store_true", help="synthesise the further builds first")
    if parser.parse_args().synth:
        synthesise()
    file = made()
    (OUT / "cells.toml").write_text(fitted_text(file), encoding="utf-8")
    for s in file.set:
        print(f"{s.variant:22} {s.n_rows:3} builds  left out {s.mape:6.1%}  factor {s.hi['all']:.3f}  {s.values}")


if __name__ == "__main__":
    main()
