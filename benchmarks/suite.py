"""The benchmarks by name, each with its targets. ``quick`` runs the same paths on little work, to see that they run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import tables
from benchmarks.measure import Figure, command, inside, median_cpu

#: Questions whose whole process is timed: a dense model on one device, two large mixtures of experts on eight.
ASKED = {"llama-3.1-8b": "-m meta-llama/Llama-3.1-8B", "deepseek-v3 tp8": "-m deepseek-v3 --tp 8",
         "qwen3.5-397b tp8": "-m qwen3.5-397b-a17b --tp 8"}
WORKLOAD = "--hw h200_sxm --bs 64 --isl 2048 --osl 512"
GB = 1e9


def help_(quick: bool) -> Iterator[Figure]:
    """CPU time of ``perfboard --help``, whole process."""
    yield Figure("help", "perfboard --help, CPU", median_cpu(["--help"], 1 if quick else 9), "s", 0.15)


def whatif(quick: bool) -> Iterator[Figure]:
    """CPU time of one question, whole process."""
    for name, options in ASKED.items():
        taken = median_cpu(["whatif", *options.split(), *WORKLOAD.split()], 1 if quick else 7)
        yield Figure("whatif", f"{name}, whole process, CPU", taken, "s", 0.6)


def query(quick: bool) -> Iterator[Figure]:
    """CPU time of one question as a Python call, elasticities included: median over different questions."""
    for label, models, tp, target in (("llama-3.1-8b", ["llama-3.1-8b"], 1, 5e-3),
                                      ("large MoE tp8", ["deepseek-v3", "qwen3.5-397b-a17b"], 8, 5e-3)):
        found, _ = inside("query_time", models=models, tp=tp, n=4 if quick else 100)
        yield Figure("query", f"{label}, model at hand, CPU", found["at_hand_s"], "s", target)
        yield Figure("query", f"{label}, model read anew, CPU", found["anew_s"], "s", target)


def grid(quick: bool) -> Iterator[Figure]:
    """Points per CPU second of a grid 8 devices x 64 batch sizes x 64 lengths, prefill and decode, all terms."""
    for model in ("llama-3.1-8b", "mixtral-8x7b"):
        found, used = inside("grid", model=model, n=4 if quick else 64)
        yield _rate("grid", model, found)
        yield Figure("grid", f"{model}, peak memory", used.peak_bytes, "B", GB)


def _rate(benchmark: str, label: str, found: dict[str, float]) -> Figure:
    return Figure(benchmark, f"{label}, {found['points']:,} points, per CPU s", found["points_per_s"], "/s", 20_000,
                  floor=True)


def large_grid(quick: bool) -> Iterator[Figure]:
    """Two million points of a grid, and unrelated points that share no figure: memory must stay bounded."""
    found, used = inside("grid", model="llama-3.1-8b", n=4 if quick else 512)
    yield _rate("large_grid", "llama-3.1-8b, grid", found)
    yield Figure("large_grid", "llama-3.1-8b, grid, peak memory", used.peak_bytes, "B", GB)
    for model in ("llama-3.1-8b", "mixtral-8x7b"):
        found, used = inside("scattered", model=model, n=4 if quick else 16384)
        yield _rate("large_grid", f"{model}, unrelated", found)
        yield Figure("large_grid", f"{model}, unrelated, peak memory", used.peak_bytes, "B", GB)


def loop(quick: bool) -> Iterator[Figure]:
    """One array call against a Python loop over points: falls when a formula starts to loop or to broadcast too far."""
    found, _ = inside("against_loop", model="llama-3.1-8b", n=4 if quick else 64, looped=2 if quick else 200)
    if found["worst_difference"] > 1e-9:
        raise RuntimeError(f"array call and single calls differ by {found['worst_difference']:.3g}")
    yield Figure("loop", "array call over loop over points", found["ratio"], "x", 100.0, floor=True)


def predict(quick: bool) -> Iterator[Figure]:
    """``perfboard predict`` of a million rows."""
    rows = 200 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        for label, mixed in (("matrix products", False), ("mixed kinds", True)):
            table, out = Path(folder, "table.csv"), Path(folder, "out.csv")
            tables.write(table, rows, mixed=mixed)
            used = command(["predict", str(table), "-o", str(out)])
            yield Figure("predict", f"{rows:,} rows, {label}, wall", used.wall_s, "s", 60.0)
            yield Figure("predict", f"{rows:,} rows, {label}, peak memory", used.peak_bytes, "B", GB)


def events(quick: bool) -> Iterator[Figure]:
    """Tasks per CPU second of the event engine: guarded by engines, sharing a memory, streamed; peak memory of a stream."""
    n = 2000 if quick else 200_000
    for mix, what, target in (("chain", "one after another", 100_000), ("fan_out", "a thousand ready at once", 100_000),
                              ("sharing", "four flows at a time over one memory", 25_000)):
        found, _ = inside("tasks_per_second", mix=mix, n=n)
        yield Figure("events", f"{what}, tasks per CPU s", found["tasks_per_s"], "/s", target, floor=True)
    found, used = inside("streamed_per_second", mix="fan_out", n=5 * n, window=2000)
    yield Figure("events", f"{5 * n:,} tasks streamed, per CPU s", found["tasks_per_s"], "/s", 50_000, floor=True)
    yield Figure("events", f"{5 * n:,} tasks streamed, peak memory", used.peak_bytes, "B", 0.2 * GB)


def sweep(quick: bool) -> Iterator[Figure]:
    """A million closed-form points of a 70 B model on varied hardware: evaluation, store, whole run, resume, memory."""
    n = 20_000 if quick else 1_000_000
    for kind in ("grid", "sample"):
        found, _ = inside("sweep_points", kind=kind, n=500 if quick else n // 5)
        yield Figure("sweep", f"{kind}, points per CPU s", found["points_per_s"], "/s", 1e6 / 60, floor=True)
    found, _ = inside("sweep_rows", n=n)
    yield Figure("sweep", f"{found['rows']:,} rows stored, per CPU s", found["rows_per_s"], "/s", 50_000, floor=True)
    with tempfile.TemporaryDirectory() as folder:
        found, used = inside("sweep_whole", kind="grid", n=n, folder=folder)
        yield Figure("sweep", f"{n:,} points, run and stored, CPU of two cores", found["cpu_s"] / 2, "s", 30.0 * n / 1e6)
        yield Figure("sweep", f"{n:,} points, peak memory of three such processes", 3 * used.peak_bytes, "B", 2 * GB)
        used = command(["sweep", "resume", folder])
        yield Figure("sweep", f"resume of {n:,} finished points, wall", used.wall_s, "s", 3.0)


SUITE: dict[str, Callable[[bool], Iterator[Figure]]] = {
    "help": help_, "whatif": whatif, "query": query, "grid": grid, "large_grid": large_grid, "loop": loop,
    "predict": predict, "events": events, "sweep": sweep,
}
