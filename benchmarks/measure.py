"""What a benchmark measures (a figure beside its target) and how: CPU time and peak memory of a fresh process.

Nothing heavy is imported here: on Linux a child's peak memory starts from that of the process that started it.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: One core: what is measured is CPU time, and threads of a library would hide it.
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Figure:
    """One measured figure. ``floor``: the target is the least (a rate), else the most (a time, a size)."""

    benchmark: str
    what: str
    value: float
    unit: str
    target: float
    floor: bool = False

    @property
    def share(self) -> float:
        """Share of the allowance that is used: at most 1 if the target is met."""
        return self.target / self.value if self.floor else self.value / self.target

    @property
    def met(self) -> bool:
        return self.share <= 1.0


@dataclass(frozen=True)
class Usage:
    """What one process took, from start to exit, and what it printed."""

    cpu_s: float
    wall_s: float
    peak_bytes: float
    output: str


def run(arguments: Sequence[str]) -> Usage:
    """Run ``python ARGUMENTS`` in the checkout on one core. Raises ``RuntimeError`` with its stderr if it fails."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.monotonic()
        process = subprocess.Popen([sys.executable, *arguments], stdout=out, stderr=err, cwd=ROOT, text=True,
                                   env={**os.environ, **ONE_CORE, "PYTHONPATH": str(ROOT)})
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: exit code {process.returncode}: {err.read().strip()[-2000:]}")
        unit = 1 if sys.platform == "darwin" else 1024                # ru_maxrss: bytes there, KiB elsewhere
        return Usage(used.ru_utime + used.ru_stime, wall, used.ru_maxrss * unit, out.read())


def command(arguments: Sequence[str]) -> Usage:
    """Run the command line ``perfboard ARGUMENTS``."""
    return run(["-m", "sim.cli", *arguments])


def inside(name: str, **options: Any) -> tuple[dict[str, float], Usage]:
    """Run one function of ``benchmarks.inside`` in a fresh process: what it measured, and what the whole took."""
    used = run(["-m", "benchmarks.inside", name, json.dumps(options)])
    found: dict[str, float] = json.loads(used.output)
    return found, used


def median_cpu(arguments: Sequence[str], runs: int) -> float:
    """Median CPU time of a command over several processes. [s]"""
    return statistics.median(command(arguments).cpu_s for _ in range(runs))


def environment() -> dict[str, Any]:
    """What the figures depend on besides the code. ``yardstick_s``: a fixed loop of Python, to compare machines by."""
    return {"cpu": _cpu_name(), "cpus": os.cpu_count(), "load": list(os.getloadavg()), "system": platform.platform(),
            "python": platform.python_version(), "yardstick_s": round(_yardstick(), 4),
            **{name: _version(name) for name in ("perfboard", "numpy", "pydantic", "click", "rich")}}


def _yardstick() -> float:
    start = time.process_time()
    total = 0
    for i in range(1_000_000):
        total += i & 7
    return time.process_time() - start


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")),
                platform.machine())


def as_json(figures: Sequence[Figure], about: dict[str, Any]) -> str:
    rows = [asdict(f) | {"share_of_target": round(f.share, 4), "met": f.met} for f in figures]
    return json.dumps({"schema": "perfboard/benchmarks/1", "environment": about, "figures": rows}, indent=2)


def as_text(figures: Sequence[Figure], about: dict[str, Any]) -> str:
    rows = [("benchmark", "what", "figure", "target", "used", "")]
    rows += [(f.benchmark, f.what, show(f.value, f.unit), f"{'>=' if f.floor else '<='} {show(f.target, f.unit)}",
              f"{100 * f.share:.0f} %", "" if f.met else "MISSED") for f in figures]
    width = [max(len(row[i]) for row in rows) for i in range(6)]
    lines = ["  ".join(cell.rjust(w) if i in (2, 3, 4) else cell.ljust(w)
                       for i, (cell, w) in enumerate(zip(row, width, strict=True))).rstrip() for row in rows]
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*lines, "", *(f"{k}: {v}" for k, v in about.items())])


def show(value: float, unit: str) -> str:
    """A figure with its unit, in the size that reads well."""
    for factor, name in _SCALES.get(unit, ()):
        if value >= factor:
            return f"{value / factor:.3g} {name}"
    return f"{value:,.0f} {unit}".strip() if value >= 1000 else f"{value:.3g} {unit}".strip()


_SCALES = {"s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")), "B": ((1e9, "GB"), (1e6, "MB"))}
