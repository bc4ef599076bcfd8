"""Plots of predicted against measured rows: needs the extra ``plots`` (matplotlib)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sim.figures import panels, png
from validate.fit_storage import Curve
from validate.rows import Predicted, by, figures
from validate.scores import title

COLOURS = {"gemm": "#2b5c8a", "attention": "#c2571a", "moe": "#3f7d3f", "elementwise": "#7a4c9c", "collective": "#6b6b6b"}

#: Queue depths of a storage curve, shallow to deep.
DEPTH_COLOURS = ("#9ecae1", "#6baed6", "#3f7d3f", "#c2571a", "#7a4c9c")


def draw(p: Predicted, out: Path) -> list[Path]:
    """Write the three plots into a directory and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    return [_agreement(p, out / "predicted_measured.png"), _residuals(p, out / "residual_size.png"),
            _coverage(p, out / "coverage.png")]


def _agreement(p: Predicted, path: Path) -> Path:
    """Predicted against measured, both logarithmic, one panel an op."""
    ops = [k["op"] for k, _ in by(p, "op")]
    figure, axes = panels(len(ops), 3.4 * len(ops), 3.6)
    for axis, (key, mask) in zip(axes, by(p, "op"), strict=True):
        m = mask & np.isfinite(p.predicted)
        x, y = p.measured[m] * 1e6, p.predicted[m] * 1e6
        axis.loglog(x, y, ".", ms=3, alpha=0.4, color=COLOURS.get(key["op"], "k"))
        if len(x):
            ends = np.array([min(x.min(), y.min()), max(x.max(), y.max())])
            axis.loglog(ends, ends, "-", color="k", lw=0.8)
        f = figures(p, mask)
        axis.set_title(f"{key['op']}: {int(f['n']):,} rows, error {f['mape']:.1%}", fontsize=9)
        axis.set_xlabel("measured [us]")
    axes[0].set_ylabel("predicted [us]")
    return _save(figure, path)


def _residuals(p: Predicted, path: Path) -> Path:
    """Predicted / measured against the size of the work (its roofline time), with the median in bins of size."""
    groups = by(p, "op")
    figure, axes = panels(len(groups), 3.4 * len(groups), 3.6)
    for axis, (key, mask) in zip(axes, by(p, "op"), strict=True):
        m = mask & np.isfinite(p.predicted) & (p.roofline > 0)
        size, ratio = p.roofline[m] * 1e6, p.predicted[m] / p.measured[m]
        axis.semilogx(size, np.clip(ratio, 0.3, 3.0), ".", ms=3, alpha=0.35, color=COLOURS.get(key["op"], "k"))
        bins = np.floor(2 * np.log10(size))
        centres = [(10 ** (b / 2 + 0.25), np.median(ratio[bins == b])) for b in np.unique(bins) if (bins == b).sum() >= 8]
        if centres:
            axis.plot(*zip(*centres, strict=True), "-o", color="k", ms=3, lw=1, label="median")
            axis.legend(fontsize=7, loc="upper right")
        axis.axhline(1.0, color="k", lw=0.6)
        axis.set_yscale("log")
        axis.set_ylim(0.28, 3.4)
        axis.set_yticks([0.33, 0.5, 1, 2, 3], ["1/3", "1/2", "1", "2", "3"])
        axis.minorticks_off()
        axis.set_title(key["op"], fontsize=9)
        axis.set_xlabel("roofline time [us]")
    axes[0].set_ylabel("predicted / measured")
    return _save(figure, path)


def _coverage(p: Predicted, path: Path) -> Path:
    """Share of rows inside their 80 % interval, by variant and by regime."""
    named = [(title(k["op"], k["variant"]), m) for k, m in by(p, "op", "variant")]
    named += [(f"regime: {k['regime']}", m) for k, m in by(p, "regime") if k["regime"]]
    shown = [(n, f["coverage"], int(f["n"])) for n, m in [*named, ("all", p.op != "")] if (f := figures(p, m))["n"] >= 10]
    figure, (axis,) = panels(1, 7, 0.24 * len(shown) + 1)
    axis.barh(range(len(shown)), [100 * c for _, c, _ in shown],
              color=["#2b5c8a" if 0.65 <= c <= 0.92 else "#c2571a" for _, c, _ in shown])
    axis.set_yticks(range(len(shown)), [f"{n} ({k:,})" for n, _, k in shown], fontsize=7)
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.set_xlim(0, 100)
    axis.axvline(80, color="k", lw=0.8)
    axis.axvspan(74, 86, color="k", alpha=0.1)
    axis.set_xlabel("rows inside their 80 % interval [%]")
    return _save(figure, path)


def storage(curve: Curve, path: Path) -> Path:
    """Throughput by request size, measured (points; hollow: held back) and modelled (lines), one colour a queue depth."""
    kinds = [k for k in (0.0, 1.0) if (curve.rows["sequential"] == k).any()]
    figure, axes = panels(len(kinds), 4.2 * len(kinds), 3.6)
    for axis, kind in zip(axes, kinds, strict=True):
        for colour, depth in zip(DEPTH_COLOURS, np.unique(curve.rows["queue_depth"]), strict=False):
            m = (curve.rows["sequential"] == kind) & (curve.rows["queue_depth"] == depth)
            size = curve.rows["block_bytes"]
            axis.loglog(size[m], (size / curve.predicted)[m] / 1e9, "-", color=colour, lw=1, label=f"depth {depth:g}")
            for some, face in ((m & curve.fitted, colour), (m & ~curve.fitted, "none")):
                axis.loglog(size[some], (size / curve.measured)[some] / 1e9, "o", ms=4, mec=colour, mfc=face)
        axis.set_title(f"{curve.device}, {'sequential' if kind else 'random'}", fontsize=9)
        axis.set_xlabel("request [B]")
        axis.legend(fontsize=7)
    axes[0].set_ylabel("throughput [GB/s]")
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    path.write_bytes(png(figure))
    return path
