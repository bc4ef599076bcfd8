"""What the project wants of its errors, as data, and what is reached: each class of rows against its target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from validate.measured import Table
from validate.scores import SEEN, UNSEEN
from validate.study import Study, chip

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
WEIGHT_ONLY = ("int8_weight_only", "int4_weight_only", "int8_smoothquant")


class Target(NamedTuple):
    """A class of rows and the mean absolute percentage error wanted of it, as fractions; None where none was set."""

    what: str
    op: str
    rows: Callable[[Table], Mask]
    unseen: float | None
    seen: float | None


def _gemm(variants: Sequence[str], low: float, high: float, least: float = 0.0) -> Callable[[Table], Mask]:
    def rows(t: Table) -> Mask:
        found: Mask = (np.isin(t["variant"].astype(str), variants) & (t["m"] > low) & (t["m"] <= high)
                       & (t["n"] >= least) & (t["k"] >= least))
        return found
    return rows


def _phase(name: str) -> Callable[[Table], Mask]:
    return lambda t: np.array([str(v).startswith(name) for v in t["variant"]], dtype=bool)


def _any(t: Table) -> Mask:
    return np.ones(len(t), dtype=bool)


_FP8 = ("fp8_dynamic", "fp8_block128")
TARGETS = (
    Target("GEMM fp16/bf16, n,k >= 1024, m <= 64", "gemm", _gemm(("none",), 0, 64, 1024), 0.09, 0.06),
    Target("GEMM fp16/bf16, n,k >= 1024, m 65-512", "gemm", _gemm(("none",), 64, 512, 1024), 0.10, 0.07),
    Target("GEMM fp16/bf16, n,k >= 1024, m > 512", "gemm", _gemm(("none",), 512, np.inf, 1024), 0.08, 0.05),
    Target("GEMM fp8, m <= 64", "gemm", _gemm(_FP8, 0, 64), 0.17, 0.11),
    Target("GEMM fp8, m 65-512", "gemm", _gemm(_FP8, 64, 512), 0.20, 0.13),
    Target("GEMM fp8, m > 512", "gemm", _gemm(_FP8, 512, np.inf), 0.20, 0.13),
    Target("GEMM weight-only int8/int4, int8 x int8", "gemm", _gemm(WEIGHT_ONLY, 0, np.inf), 0.18, 0.12),
    Target("GEMM fp32", "gemm", _gemm(("fp32",), 0, np.inf), 0.20, 0.14),
    Target("attention prefill", "attention", _phase("prefill"), 0.22, 0.15),
    Target("attention decode", "attention", _phase("decode"), 0.20, 0.13),
    Target("MoE layer", "moe", _any, 0.20, 0.14),
    Target("elementwise, norm, softmax", "elementwise", _any, 0.22, 0.14),
    Target("collectives", "collective", _any, None, 0.12),
)

def reached(study: Study, three: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Figures of the targets of one op."""
    out: list[dict[str, Any]] = []
    t = study.table
    for target in (x for x in TARGETS if x.op == study.problem.op):
        for split, pred, wanted in ((UNSEEN, study.far_pred, target.unseen), (SEEN, study.own_pred, target.seen)):
            mask = target.rows(t) & np.isfinite(pred)
            if not mask.any():
                continue
            off, base = pred[mask] / t["time_s"][mask] - 1.0, three[split][mask] / t["time_s"][mask] - 1.0
            out.append({"what": target.what, "split": split, "n": int(mask.sum()), "mape": _r(np.mean(np.abs(off))),
                        "median": _r(np.median(np.abs(off))), "bias": _r(np.median(off)),
                        "three_mape": _r(np.nanmean(np.abs(base))), "target": wanted,
                        "worst": _worst(t.where(mask), np.abs(off), split)})
    return out


class Missed(NamedTuple):
    """A class of rows of a target that is not met: what it adds to the mean error above the target (``excess``)."""

    what: str
    split: str
    device: str
    framework: str
    variant: str
    size: str
    n: int
    mape: float
    bias: float
    excess: float


#: Column by whose size the rows of an op are told apart, and the bounds between the classes.
SIZES = {"gemm": ("m", (64.0, 512.0)), "attention": ("kv_len", (1024.0, 8192.0)), "moe": ("n_tokens", (64.0, 512.0)),
         "elementwise": ("bytes_rw", (1e6, 1e8)), "collective": ("bytes", (1e5, 1e7))}


def missed(study: Study, most: int = 6) -> list[Missed]:
    """Of each target not met the classes of rows (device, library, kernel, size) that lift the error above it most."""
    out: list[Missed] = []
    t, column = study.table, SIZES[study.problem.op]
    for target in (x for x in TARGETS if x.op == study.problem.op):
        for split, pred, wanted in ((UNSEEN, study.far_pred, target.unseen), (SEEN, study.own_pred, target.seen)):
            mask = target.rows(t) & np.isfinite(pred)
            off = pred[mask] / t["time_s"][mask] - 1.0
            if wanted is None or not mask.any() or np.mean(np.abs(off)) <= wanted:
                continue
            rows = t.where(mask)
            names = study.chips[mask] if split == UNSEEN else rows["device"]
            keys = list(zip(names, rows["framework"], rows["variant"], _sizes(rows[column[0]], *column), strict=True))
            found = []
            for key in sorted(set(keys)):
                e = off[[k == key for k in keys]]
                found.append(Missed(target.what, split, *key, len(e), _r(np.mean(np.abs(e))), _r(np.median(e)),
                                    _r(np.sum(np.abs(e) - wanted) / len(off))))
            out += sorted(found, key=lambda m: -m.excess)[:most]
    return out


def _sizes(values: Array, name: str, bounds: tuple[float, float]) -> list[str]:
    low, high = bounds
    words = (f"{name} <= {low:g}", f"{name} to {high:g}", f"{name} > {high:g}")
    return [words[int(np.searchsorted(bounds, v))] for v in values]


def _worst(t: Table, off: Array, split: str) -> str:
    """The three classes that add most to the error: device (chip, where it was left out), library, variant."""
    names = [f"{chip(str(d)) if split == UNSEEN else d} {f} {v}" for d, f, v in
             zip(t["device"], t["framework"], t["variant"], strict=True)]
    keys, inverse = np.unique(np.array(names), return_inverse=True)
    total, count = np.bincount(inverse, off), np.bincount(inverse)
    order = np.argsort(-(total - count * float(np.mean(off))))[:3]
    return "; ".join(f"{keys[i]} {100 * total[i] / count[i]:.0f} % ({count[i]})" for i in order)


def _r(x: Any) -> float:
    return float(f"{float(x):.4g}")
