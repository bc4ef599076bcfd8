"""Fit the formulas of CPUs to published token rates: ``python -m validate.fit_cpu``.

Rows (``measured/cpu_kernels.csv``) are whole steps of models and a few products, each on some threads of one device.
Four parameters, each an amount of work or a share, are fitted to the rows of part ``fit`` (one large and one small
device); rows of part ``figure`` gave one bandwidth of their device's file; the others are held back. A look-up and an
unpacking cost lane bytes of SIMD work, a barrier cycles, and the memory gives a share of its bandwidth. What a library
build leaves out (``set``) is a figure of the device for these rows alone.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from accel_models.bind import Hardware, bind
from accel_models.columns import Sets
from accel_models.cost.terms import REGIMES, Array
from accel_models.families import FAMILIES
from accel_models.families.cpu import pricers
from accel_models.fitted_store import ParameterSet
from accel_models.price import price
from accel_models.registry import load_device
from sim.query import load_spec
from validate.fit import Fit, Parameter, fit, interval, mape
from workloads import graph
from workloads.ops import Gemm, Op

#: Kinds of kernels (``variant`` of the sets) and the parameters that each takes.
TAKES: dict[str, tuple[str, ...]] = {
    "lookup": ("lookup_ops", "read_share", "barrier_cycles"), "unpack": ("convert_ops", "read_share", "barrier_cycles"),
    "plain": ("read_share", "barrier_cycles"), "attention": ("read_share", "barrier_cycles"),
    "elementwise": ("read_share", "barrier_cycles"),
}
#: Whose kernels were measured, by variant.
FRAMEWORK = {"lookup": "tmac", "unpack": "llama.cpp"}
PARAMETERS = (Parameter("lookup_ops", 4.0, 2.0, 8.0), Parameter("convert_ops", 2.8, 0.5, 8.0),
              Parameter("read_share", 0.8, 0.3, 1.0), Parameter("barrier_cycles", 4e4, 1e3, 3e5))
KINDS = ("cpu_simd",)
#: A step of a model, or one product.
PHASES = ("decode", "prefill", "product")
#: What a row is for: the fit, a figure of its device file (a bandwidth), or a check that nothing was fitted to.
PARTS = ("fit", "figure", "held")
#: Rows below which a kernel's interval comes from the rows of all kernels.
FEW = 5


@dataclass(frozen=True)
class Row:
    """One measured rate and the ops of its step."""

    source: str
    device: str
    framework: str
    phase: str
    quant: str
    threads: int
    part: str
    per_s: float
    count: float
    hw: Hardware
    ops: tuple[Op, ...]

    def rate(self) -> float:
        """Predicted rate (tokens, or runs of a product, per second), with the parameters in use."""
        priced = price(self.ops, self.hw, framework=self.framework)
        time = sum(float(np.asarray(op.repeat)) * float(p.cost.time.item()) for op, p in zip(self.ops, priced, strict=True))
        return self.count / time


def text() -> str:
    return resources.files("validate").joinpath("measured", "cpu_kernels.csv").read_text(encoding="utf-8")


@cache
def rows() -> tuple[Row, ...]:
    """The measured table. Raises ``ValueError`` naming the row and what was found."""
    return tuple(_row(i, r) for i, r in enumerate(csv.DictReader(text().splitlines()), start=2))


def _row(line: int, r: Mapping[str, str]) -> Row:
    for field, known in (("phase", PHASES), ("part", PARTS)):
        if r[field] not in known:
            raise ValueError(f"cpu_kernels.csv: line {line}: {field}: found {r[field]!r}, expected {', '.join(known)}")
    device = load_device(r["device"])
    for change in filter(None, r["set"].split(";")):
        key, _, value = change.partition("=")
        device = device.with_value(key, value)
    device = device.with_value("engine.matrix.units", r["threads"])      # rates go with the cores in use
    return Row(r["source"], r["device"], r["framework"], r["phase"], r["quant"], int(r["threads"]), r["part"],
               float(r["per_s"]), float(r["isl"]) if r["phase"] == "prefill" else 1.0, bind([device]), _ops(r))


def _ops(r: Mapping[str, str]) -> tuple[Op, ...]:
    """One step of a model, or one product given as m x n x k."""
    if r["phase"] == "product":
        m, n, k = (float(x) for x in r["model"].split("x"))
        w, _, a = r["quant"].partition("/")
        return (Gemm(name=r["model"], m=m, n=n, k=k, a=a or "fp16", w=w, out="fp32"),)
    isl, osl = float(r["isl"]), float(r["osl"])
    step = graph.prefill(1.0, isl) if r["phase"] == "prefill" else graph.decode(1.0, isl + osl / 2)
    return graph.build(load_spec(r["model"], quant=r["quant"]), [step]).ops


@contextmanager
def using(values: Mapping[str, float]) -> Iterator[None]:
    """Price CPUs with these parameters in place of the stored ones."""
    def look(variant: str, n_ops: int, hw: Hardware, framework: str) -> Sets:
        one = np.ones((len(REGIMES), 1, len(hw)))
        return Sets({k: np.full(len(hw), values[k]) for k in TAKES[variant]}, one, one, (("fitted",) * len(hw),) * n_ops)

    kept = {k: FAMILIES[k] for k in KINDS}
    FAMILIES.update({k: pricers(look) for k in KINDS})
    try:
        yield
    finally:
        FAMILIES.update(kept)


def predicted(chosen: Sequence[Row], values: Mapping[str, float]) -> Array:
    """Seconds per token of each row."""
    with using(values):
        return np.array([1.0 / r.rate() for r in chosen])


def fit_rows(chosen: Sequence[Row]) -> Fit:
    measured = np.array([1.0 / r.per_s for r in chosen])
    return fit(lambda v: predicted(chosen, v), measured, PARAMETERS)


def sets(chosen: Sequence[Row], held: Sequence[Row], found: Fit) -> list[ParameterSet]:
    """A pool for each kernel and a set for each device of the fit, all with the interval of the rows held back."""
    def one(variant: str, device: str) -> ParameterSet:
        alike = [r for r in held if _kernel(r) == variant]
        alike = alike if len(alike) >= FEW else list(held)
        ratio = np.array([1.0 / r.per_s for r in alike]) / predicted(alike, found.values)
        lo, hi = interval(np.log(ratio))
        return ParameterSet(
            variant=variant, device=device, framework=FRAMEWORK.get(variant, ""), n_rows=len(alike),
            mape=_round(mape(1 / ratio, np.ones(len(ratio)))), values={k: _round(found.values[k]) for k in TAKES[variant]},
            stderr={k: _round(found.stderr[k], 2) for k in TAKES[variant]}, lo={"all": _round(min(lo, 1.0))},
            hi={"all": _round(max(hi, 1.0))})

    names = sorted({r.device.split(".")[0] for r in chosen})
    return [one(v, d) for v in TAKES for d in ["", *names]]


def _kernel(r: Row) -> str:
    return "plain" if r.quant in ("bf16", "fp16") else "lookup" if r.framework.startswith("tmac") else "unpack"


def _round(x: float, digits: int = 4) -> float:
    return float(f"{x:.{digits}g}")


def write(made: Sequence[ParameterSet], path: Path) -> None:
    digest = hashlib.sha256(text().encode()).hexdigest()
    lines = ['op = "cpu"', 'formula = "accel_models.cost.cpu.table_lookup"',
             'source = "published token rates, validate/measured/cpu_kernels.csv, rows of part fit"',
             f'data_sha256 = "{digest}"', f'date = "{date.today().isoformat()}"']
    for s in made:
        lines += ["", "[[set]]", f'variant = "{s.variant}"', f'device = "{s.device}"', 'generation = ""',
                  f'framework = "{s.framework}"', f"n_rows = {s.n_rows}", f"mape = {s.mape}",
                  *(f"{k} = {_table(getattr(s, k))}" for k in ("values", "stderr", "lo", "hi"))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _table(values: Mapping[str, float]) -> str:
    return "{ " + ", ".join(f"{k} = {v!r}" for k, v in sorted(values.items())) + " }"


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the formulas of CPUs; the table of errors goes to stdout.")
    parser.add_argument("--out", type=Path, help="file to write, e.g. accel_models/fitted/cpu.toml; nothing without it")
    out = parser.parse_args().out
    chosen, held = ([r for r in rows() if r.part == part] for part in ("fit", "held"))
    found = fit_rows(chosen)
    print({k: f"{v:.4g} +- {100 * found.stderr[k]:.0f} %" for k, v in found.values.items()}, found.undetermined)
    for part in (chosen, held):
        times = predicted(part, found.values)
        for r, t in zip(part, times, strict=True):
            print(f"{r.part:5s} {r.device:26s} {r.framework:16s} {r.quant:14s} {r.phase:8s} {r.threads:3d} "
                  f"{r.per_s:7.2f} {1 / t:7.2f} {100 * (1 / t / r.per_s - 1):+6.1f} %")
        print(f"mean error {100 * mape(times, np.array([1 / r.per_s for r in part])):.1f} % of time, {len(part)} rows")
    if out:
        write(sets(chosen, held, found), out)


if __name__ == "__main__":
    main()
