"""What a backend of the suite is, and the one of any CPU: NumPy (OpenBLAS, or what NumPy was built with)."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np

from validate.suite import twins
from validate.suite.plan import STREAMS, Point

Call = Callable[[], object]


class UnsupportedError(Exception):
    """A point that this backend cannot time; the text says why. Recorded, never guessed."""


class Sample(NamedTuple):
    """Median time of one call, the fastest and slowest repeat [s], and how many repeats there were."""

    time: float
    low: float
    high: float
    repeats: int


class Backend(Protocol):
    """Prepares points as calls that rotate over copies of their operands, and times them."""

    name: str                       # "numpy" | "cupy"
    machine: str                    # "cpu" | "gpu", of ``plan.SCALES``
    most_copies: Mapping[str, int]  # by kind of point; "" for the others
    cache_bytes: float              # last-level cache; cold points go through more than twice as much
    memory_bytes: float             # what a point may occupy with all its copies

    def framework(self, point: Point) -> str: ...
    def prepare(self, point: Point, copies: int) -> Sequence[Call]: ...
    def time(self, calls: Sequence[Call], seconds: float) -> Sample: ...
    def describe(self) -> dict[str, Any]: ...


class NumpyBackend:
    """Host arrays and the host's clock. Rows hold the call overhead of NumPy, as its users pay it."""

    name = "numpy"
    machine = "cpu"
    #: A low-bit twin unpacks into arrays larger than its weights: rotating those would change nothing but the set-up.
    most_copies: Mapping[str, int] = MappingProxyType( {"": 128, "lowbit": 1})

    def __init__(self) -> None:
        self.cache_bytes = _last_level_cache()
        self.memory_bytes = 0.25 * _memory()
        self.rng = np.random.default_rng(0)
        self.pools = {"in": _Pool(self.rng), "out": _Pool(self.rng)}

    def framework(self, point: Point) -> str:
        own = point.kind in ("lowbit", "attention")
        return "perfboard-numpy" if own else f"numpy-{np.__version__}"

    def prepare(self, point: Point, copies: int) -> Sequence[Call]:
        makers: dict[str, Callable[[Point], Call]] = {
            "launch": self._launch, "copy": self._copy, "link": self._link, "gemm": self._gemm, "bmm": self._gemm,
            "elementwise": self._elementwise, "attention": self._attention, "lowbit": self._lowbit}
        for pool in self.pools.values():
            pool.reserve(min(copies * point.footprint, 3.0 * self.cache_bytes) + 2.0 * point.footprint)
        return [makers[point.kind](point) for _ in range(copies)]

    def time(self, calls: Sequence[Call], seconds: float) -> Sample:
        return clocked(calls, seconds)

    def describe(self) -> dict[str, Any]:
        blas: Any = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        threads = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
        return {"device_name": cpu_name(), "cores": int(threads) if threads.isdigit() else os.cpu_count(),
                "cache_bytes": self.cache_bytes, "memory_bytes": _memory(), "clock_hz": _clock(),
                "driver": f"{platform.system()} {platform.release()}",
                "versions": {"python": platform.python_version(), "numpy": np.__version__,
                             "blas": f"{blas.get('name')} {blas.get('version')}"},
                "threads": threads or "all"}

    def _in(self, *shape: int) -> Any:
        return self.pools["in"].take(shape)

    def _out(self, *shape: int) -> Any:
        return self.pools["out"].take(shape)

    def _launch(self, point: Point) -> Call:
        if point.text("op") == "launch_graph":
            raise UnsupportedError("NumPy has no captured graphs")
        x, count = np.zeros(1, np.float32), point.number("count")
        add = np.add

        def run() -> None:
            for _ in range(count):
                add(x, x, out=x)
        return run

    def _copy(self, point: Point) -> Call:
        n, stride = max(point.number("bytes") // 8, 1), point.number("stride")
        source, target = self._in(n * stride)[::stride], self._out(n)
        return lambda: np.copyto(target, source)

    def _link(self, point: Point) -> Call:
        raise UnsupportedError("a CPU has no link between host and device memory")

    def _gemm(self, point: Point) -> Call:
        fmt, batch = point.text("dtype_a"), point.number("batch")
        m, n, k = (point.number(x) for x in "mnk")
        if fmt == "int8":
            ai, wi = (self.rng.integers(-127, 128, s, dtype=np.int32) for s in ((m, k), (k, n)))
            return lambda: np.matmul(ai, wi)
        if fmt != "fp32":
            raise UnsupportedError(f"NumPy multiplies no {fmt} matrices in a library")
        a, w, out = self._in(batch, m, k), self._in(batch, n, k), self._out(batch, m, n)
        if batch == 1:
            a0, w0, out0 = a[0], w[0].T, out[0]
            return lambda: np.matmul(a0, w0, out=out0)
        wt = w.transpose(0, 2, 1)
        return lambda: np.matmul(a, wt, out=out)

    def _elementwise(self, point: Point) -> Call:
        rows, cols, op = point.number("rows"), point.number("cols"), point.text("op")
        inputs = [self._in(rows, cols) for _ in range(STREAMS[op][0])]
        out = self._out(rows, cols) if STREAMS[op][1] else self._out(rows)
        function = twins.STREAMS[op]
        return lambda: function(*inputs, out)

    def _attention(self, point: Point) -> Call:
        batch, kv, heads, kv_heads, d = (point.number(x) for x in ("batch", "kv_len", "n_heads", "n_kv_heads", "head_dim"))
        q, k, v = self._in(batch, heads, d), self._in(batch, kv_heads, kv, d), self._in(batch, kv_heads, kv, d)
        return lambda: twins.attend(q, k, v)

    def _lowbit(self, point: Point) -> Call:
        return twins.product(point.text("quant"), point.number("m"), point.number("n"), point.number("k"), self.rng)


class _Pool:
    """Operands as views of one array, one after another and round again: setting up a point then costs nothing.

    Inputs and results have a pool each, so that no result becomes an input and grows.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.at = rng, 0
        self.array = np.empty(0, np.float32)

    def reserve(self, nbytes: float) -> None:
        if self.array.nbytes < nbytes:
            self.array = np.resize(self.rng.standard_normal(65_537, dtype=np.float32), int(nbytes / 4) + 1)
            self.at = 0

    def take(self, shape: tuple[int, ...]) -> Any:
        size = int(np.prod(shape))
        if self.at + size > self.array.size:
            self.at = 0
        view = self.array[self.at:self.at + size].reshape(shape)
        self.at += -(-size // 16) * 16               # each operand starts a cache line
        return view


def clocked(calls: Sequence[Call], seconds: float, *, clock: Callable[[], float] = time.perf_counter) -> Sample:
    """Median over repeats of the time per call. Calls go round the copies and each repeat goes on where the last one
    stopped, so that cold operands stay cold without a whole round for every repeat.

    Two calls warm up and gauge; then repeats until ``seconds`` are spent, 3 at least and 25 at most.
    """
    turn = cycle(calls)
    next(turn)()
    begun = clock()
    next(turn)()
    one = max(clock() - begun, 1e-9)
    inner = max(int(2e-4 / one), 1)                  # a repeat lasts 0.2 ms or more: the clock's own cost vanishes
    repeats = int(np.clip(seconds / (one * inner), 3, 25))
    times = []
    for _ in range(repeats):
        batch = [next(turn) for _ in range(inner)]
        begun = clock()
        for call in batch:
            call()
        times.append((clock() - begun) / inner)
    return Sample(float(np.median(times)), min(times), max(times), repeats)


def cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _clock() -> float:
    """Clock now, of the first core [Hz]; 0 where the system does not tell."""
    try:
        found = re.search(r"^cpu MHz\s*:\s*([\d.]+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return float(found[1]) * 1e6 if found else 0.0


def _last_level_cache() -> float:
    """Size of the largest cache of the first core [B]; 32 MiB where the system does not tell (cold then stays cold)."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="utf-8").strip()
        sizes.append(float(text[:-1]) * {"K": 1024.0, "M": 1024.0 ** 2}.get(text[-1], 1.0))
    return max(sizes, default=32.0 * 1024 ** 2)


def _memory() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE")) * float(os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return 4e9

