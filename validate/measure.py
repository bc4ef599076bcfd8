"""``perfboard calibrate measure``: time the suite on this machine's GPU (CuPy) or CPU (NumPy) into measured tables.

Rows are written as they come; the same command again goes on where it stopped. Nothing that was not timed gets a row.
"""

from __future__ import annotations

import datetime
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sim.cli import MissingExtra, main
from sim.output import note, print_rows
from validate.suite import machine
from validate.suite.host import Backend, NumpyBackend, UnsupportedError
from validate.suite.plan import CLASSES, Point, points
from validate.suite.power import Nvml, Sampler, open_nvml
from validate.suite.record import Record

#: Copies of the operands of a cold point together exceed the last-level cache this many times.
BEYOND = 2.5
#: Bytes touched between two uses of an operand, over the last-level cache: from here on "cold", below that "warm".
COLD, WARM = 2.0, 0.7


def choose(backend: str) -> Backend:
    """The backend asked for; "auto" is CuPy where it finds a GPU, else NumPy."""
    if backend != "numpy":
        try:
            from validate.suite.cuda import CupyBackend  # an extra, loaded only when asked for
            return CupyBackend()
        except ImportError:
            if backend == "cupy":
                raise MissingExtra("gpu", "--backend cupy") from None
        except UnsupportedError as error:
            if backend == "cupy":
                raise ValueError(f"--backend cupy: {error}") from None
    return NumpyBackend()


def copies_of(point: Point, backend: Backend) -> int:
    """How many copies of its operands a point rotates through: 1 if they shall stay in cache."""
    most = int(backend.memory_bytes / max(point.footprint, 1.0))
    if most < 1:
        raise UnsupportedError("needs more memory than is free")
    if not point.cold or point.footprint <= 0:
        return 1
    wanted = math.ceil(BEYOND * backend.cache_bytes / point.footprint) + 1
    return min(wanted, most, backend.most_copies.get(point.kind, backend.most_copies[""]))


def as_measured(point: Point, backend: Backend) -> Point:
    """The point with the state of the cache that its copies really make: small operands fit, however many are rotated."""
    touched = copies_of(point, backend) * point.footprint / backend.cache_bytes
    if not any(k == "cache" for k, _ in point.fields):
        return point
    return point.with_cache("cold" if touched > COLD else "warm" if touched < WARM else "mixed")


def run(backend: Backend, record: Record, plan: list[Point], seconds: float, nvml: Nvml | None, *,
        clock: Callable[[], float] = time.monotonic, show: bool = False) -> int:
    """Time the points that have no row yet until ``seconds`` are spent; returns how many were timed."""
    begun, count = clock(), 0
    todo = plan
    for i, point in enumerate(todo):
        spent = clock() - begun
        if spent >= seconds:
            break
        # What is left, shared out; early points may take more, since later ones are skipped rather than hurried.
        share = min(max(1.5 * (seconds - spent) / (len(todo) - i), 0.01), 0.5)
        try:
            made = as_measured(point, backend)
            if record.has(made, backend.framework(made)):
                continue
            copies = copies_of(point, backend)
            calls = backend.prepare(point, copies)
            with Sampler(nvml.read if nvml else None) as power:
                sample = backend.time(calls, share)
        except UnsupportedError as reason:
            record.skip(point, str(reason))
            continue
        except MemoryError:
            record.skip(point, "needs more memory than is free")
            continue
        record.add(made, backend.framework(made), sample, copies=copies, watts=power.mean("watts"),
                   clock=power.mean("clock"), celsius=power.mean("celsius"))
        count += 1
        if show:
            _progress(i + 1, len(todo), clock() - begun, seconds, point)
    if show:
        print(file=sys.stderr)
    return count


def _progress(done: int, total: int, spent: float, seconds: float, point: Point) -> None:
    left = min(spent / done * (total - done), max(seconds - spent, 0.0))
    print(f"\r{done}/{total} points, {left:.0f} s left  {point.kind:<12}", end="", file=sys.stderr, flush=True)


@click.command()
@click.option("--out", "-o", type=click.Path(file_okay=False, path_type=Path), default=Path("measured"), show_default=True,
              help="Directory of the tables; a run continues the one that is there.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=500.0, show_default=True, help="Time budget.")
@click.option("--only", default="", metavar="PART,...", help=f"Parts of the suite: {', '.join(CLASSES)}.")
@click.option("--backend", type=click.Choice(("auto", "cupy", "numpy")), default="auto", show_default=True,
              help="CuPy on an NVIDIA GPU (extra 'gpu'), NumPy on the CPU.")
@click.option("--device", default="", metavar="NAME", help="Name to write rows under [a device file of that title].")
def measure(out: Path, seconds: float, only: str, backend: str, device: str) -> int:
    """Time kernels on this machine and write them as measured tables, for `calibrate fit`.

    \b
    gemm.csv elementwise.csv attention.csv   what fits read
    gemm_formats.csv micro.csv               other formats and own low-bit kernels; launches, copies, links
    runs.csv meta.json                       spread, power and clock of every point; device, driver, versions
    device.toml                              for a CPU without a device file: a first one, from these rows
    """
    plan_parts = [p for p in only.split(",") if p]
    chosen = choose(backend)
    plan = points(chosen.machine, plan_parts)
    facts = chosen.describe()
    name = device or machine.known_name(str(facts["device_name"])) or machine.slug(str(facts["device_name"]))
    nvml = open_nvml(str(facts.get("pci_bus", ""))) if chosen.machine == "gpu" else None
    facts |= nvml.describe() if nvml else {}
    record = Record(out, name)
    before, begun = len(record.done), datetime.datetime.now(datetime.UTC)
    note(f"{facts['device_name']} as '{name}', {len(plan)} points, {before} rows there, at most {seconds:g} s")
    stopped = False
    try:
        run(chosen, record, plan, seconds, nvml, show=sys.stderr.isatty())
    except KeyboardInterrupt:
        stopped = True
    if len(record.done) > before:
        record.meta({"begun": begun.isoformat(timespec="seconds"), "seconds": seconds, "only": plan_parts,
                     "backend": chosen.name, "rows": len(record.done) - before, **_finite(facts)})
    if stopped:
        note(f"interrupted after {len(record.done) - before} points; the same command goes on: "
             f"perfboard calibrate measure --out {out} --backend {chosen.name}" + (f" --only {only}" if only else ""))
        return 130
    _starter(out, name, chosen, facts)
    _summary(record, before, plan, chosen)
    return 0


def _starter(out: Path, name: str, chosen: Backend, facts: dict[str, Any]) -> None:
    """A device file for a CPU that has none, once there are rows to take it from; never overwritten."""
    path = out / "device.toml"
    tables = all((out / f"{t}.csv").exists() for t in ("micro", "gemm"))
    if chosen.machine == "cpu" and not machine.known_name(name) and tables and not path.exists():
        path.write_text(machine.device_toml(out, name, facts), encoding="utf-8")
        note(f"no device file describes this machine: wrote {path}; check it, then "
             f"perfboard calibrate fit --data {out} --device-file {path}")


def _summary(record: Record, before: int, plan: list[Point], chosen: Backend) -> None:
    rows = []
    for kind in dict.fromkeys(p.kind for p in plan):
        mine = [p for p in plan if p.kind == kind]
        have = sum(record.has(p, chosen.framework(p)) for p in dict.fromkeys(as_measured(p, chosen) for p in mine))
        reasons = sorted({r for k, r in record.skipped.items() if k.startswith(f"{kind}:")})
        rows.append([kind, have, len(mine), "; ".join(reasons)])
    print_rows(("part", "rows", "points", "not possible here"), rows, "table", right=("rows", "points"))
    note(f"{len(record.done) - before} new rows in {os.fspath(record.directory)}")


def _finite(facts: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}


if __name__ == "__main__":
    main(["calibrate", "measure", *sys.argv[1:]])
