"""Fit drives to their measured read curves and score them: ``python -m validate.fit_storage [--out FILE]``.

Every other point of a drive's curve (in the order of the table, which makes a chequerboard of sizes and queue depths) is
fitted, the rest is held back. Only what no datasheet states is fitted, and only what the curve can tell: the rest stays as
the device file has it. Rows and their conditions: ``validate/measured/storage_curves.csv``.

What the held-back errors do not say: the form of the formula was chosen with the whole NVMe grid in view; the UFS points
come without queue depths, and those assumed (one request in flight by block size, 32 for 4 KB) are the ones under which
the curve makes sense, with four parameters on four points.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accel_models.bind_storage import storage
from accel_models.cost.storage import read as read_time
from accel_models.cost.terms import Array
from accel_models.fitted_store import FittedFile, ParameterSet
from accel_models.registry import load_device
from validate.fit import Parameter, fit, interval
from validate.measured import Table, read
from validate.study import DATE, OUT

#: Requests that a point stands for: enough that the first and the last do not show.
_MANY = 1e5
_DIES = Parameter("dies_per_channel", 4.0, 0.5, 32.0)
_ISSUE = Parameter("issue_cycles", 12e3, 1e3, 2e5)
_SPREAD = Parameter("spread", 0.6, 0.05, 1.0, linear=True)
#: What each curve can tell. Drives with few points keep the placement and the read-ahead of the one with a whole grid.
PARAMETERS: dict[str, tuple[Parameter, ...]] = {
    "nvme_pcie4": (_DIES, Parameter("t_read", 61e-6, 20e-6, 120e-6), Parameter("channel_rate", 1.2e9, 2e8, 3e9),
                   _SPREAD, Parameter("readahead", 131072.0, 16384.0, 1048576.0)),
    "ufs_4_0": (_DIES, _ISSUE, Parameter("request_time", 8e-6, 1e-6, 4e-5), _SPREAD),
    "apple_m1_max_ssd": (_ISSUE,),
    "samsung_990_pro_1tb": (),
}
SOURCE = "curves of rjl493456442/bench 0adffc52162b, PowerInfer-2 (2406.06282), LLM in a flash (2312.11514)"


@dataclass(frozen=True)
class Curve:
    """One drive's points: measured and predicted time of a request [s], and which were fitted."""

    device: str
    rows: Table
    fitted: NDArray[np.bool_]
    predicted: Array
    unfitted: Array                  # with the device file's figures alone
    link: Array                      # bytes at the link's rate: the naive baseline
    values: dict[str, float]
    stderr: dict[str, float]
    undetermined: tuple[str, ...]

    @property
    def measured(self) -> Array:
        return np.asarray(self.rows["block_bytes"] / self.rows["bytes_per_s"])


def table() -> Table:
    """The measured points that come with the package."""
    return read("storage_curves", Path(str(resources.files("validate").joinpath("measured"))))


def predict(rows: Table, hardware: Mapping[str, float]) -> Array:
    """Time of a request at each point. [s]"""
    cost = read_time(_MANY, rows["block_bytes"], queue_depth=rows["queue_depth"], sequential=rows["sequential"],
                     span=rows["span_bytes"], n_cores=rows["n_cores"], core_clock=rows["core_clock_hz"], **hardware)
    return np.asarray(cost.total / _MANY)


def fit_curve(device: str, rows: Table) -> Curve:
    """Fit every other point; needs at least as many of them as there are parameters."""
    base = storage(load_device(device), "flash", fitted=False)
    link = np.asarray(rows["block_bytes"] / base["link_rate"])
    chosen = np.arange(len(rows)) % 2 == 0
    part, parameters = rows.where(chosen), PARAMETERS[device]
    if len(part) < len(parameters):
        raise ValueError(f"storage_curves.csv: {device}: {len(part)} points cannot tell {len(parameters)} parameters")
    if not parameters:
        return Curve(device, rows, np.zeros(len(rows), dtype=bool), predict(rows, base), predict(rows, base), link, {}, {}, ())
    found = fit(lambda v: predict(part, base | dict(v)), np.asarray(part["block_bytes"] / part["bytes_per_s"]), parameters,
                starts=24)             # the slowest stage has kinks, where a search stops
    return Curve(device, rows, chosen, predict(rows, base | found.values), predict(rows, base), link, found.values,
                 found.stderr, found.undetermined)


def curves() -> list[Curve]:
    """All drives that have points, in the order of ``PARAMETERS``."""
    rows = table()
    return [fit_curve(name, rows.where(rows["device"] == name)) for name in PARAMETERS]


def error(predicted: Array, measured: Array) -> Array:
    """Relative error of the throughput, point by point."""
    return np.abs(measured / predicted - 1.0)


def report(found: list[Curve]) -> str:
    """Device, what its points are, how many, errors; with the link alone and with the file's figures beside them."""
    lines = [f"{'device':20} {'points':22} {'n':>4} {'mean':>7} {'median':>7} {'worst':>7} {'not fitted':>11} "
             f"{'link alone':>11}"]
    for c in found:
        sequential = c.rows["sequential"] > 0
        parts = [("fitted", c.fitted), ("held back", ~c.fitted), ("held back, random", ~c.fitted & ~sequential),
                 ("held back, sequential", ~c.fitted & sequential)]
        for label, mask in parts:
            if mask.any():
                e, plain, link = (error(p, c.measured)[mask] for p in (c.predicted, c.unfitted, c.link))
                lines.append(f"{c.device:20} {label:22} {mask.sum():4} {e.mean():7.1%} {np.median(e):7.1%} {e.max():7.1%} "
                             f"{plain.mean():11.1%} {link.mean():11.1%}")
    lines += [f"{c.device}: undetermined: {', '.join(c.undetermined)}" for c in found if c.undetermined]
    return "\n".join(lines)


def parameter_set(c: Curve) -> ParameterSet:
    """What is stored of one drive; its interval needs ten held-back points."""
    held = ~c.fitted
    lo, hi = interval(np.log(c.measured / c.predicted)[held]) if held.sum() >= 10 else (0.0, 0.0)
    sizes = c.rows["block_bytes"][c.fitted]
    depths = c.rows["queue_depth"][c.fitted]
    return ParameterSet(
        variant="read", device=c.device, generation=load_device(c.device).generation, n_rows=int(c.fitted.sum()),
        mape=round(float(error(c.predicted, c.measured)[held].mean()), 4),
        values={k: float(f"{v:.4g}") for k, v in sorted(c.values.items()) if k not in c.undetermined},
        stderr={k: float(f"{v:.2g}") for k, v in sorted(c.stderr.items()) if k not in c.undetermined},
        lo={"all": round(lo, 4)} if lo else {}, hi={"all": round(hi, 4)} if hi else {},
        range={"nbytes": (float(sizes.min()), float(sizes.max())), "queue_depth": (float(depths.min()), float(depths.max()))})


def text(found: list[Curve]) -> str:
    """The fitted file; the same rows give the same bytes."""
    file = FittedFile(op="storage", formula="accel_models.cost.storage.read", source=SOURCE, data_sha256=table().digest(),
                      date=DATE, set=tuple(parameter_set(c) for c in found if c.values))
    lines = [f'{k} = "{getattr(file, k)}"' for k in ("op", "formula", "source", "data_sha256", "date")]
    for s in file.set:
        lines += ["", "[[set]]", *(f'{k} = "{getattr(s, k)}"' for k in ("variant", "device", "generation", "framework")),
                  f"n_rows = {s.n_rows}", f"mape = {s.mape!r}"]
        lines += [f"{k} = {{ {', '.join(f'{n} = {list(v) if isinstance(v, tuple) else v!r}' for n, v in d.items())} }}"
                  for k in ("values", "stderr", "lo", "hi", "range") if (d := getattr(s, k))]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=OUT / "storage.toml", help="file to write")
    options = parser.parse_args()
    found = curves()
    options.out.write_text(text(found), encoding="utf-8")
    print(report(found))


if __name__ == "__main__":
    main()
