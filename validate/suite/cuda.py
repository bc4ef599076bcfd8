"""The suite on an NVIDIA GPU through CuPy (extra ``gpu``): cuBLAS for products, the kernels of ``kernels.cu`` for the rest.

Times are between two events on the device. The calls in between are a captured graph, as inference engines issue them;
where a library refuses capture they are queued behind a spinning kernel, so that they too run back to back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from itertools import cycle
from types import MappingProxyType
from typing import Any

import cupy as cp
import numpy as np

from validate.suite.host import Call, Sample, UnsupportedError, clocked
from validate.suite.plan import GROUP, STREAMS, Point

_HOST_TO_DEVICE, _DEVICE_TO_HOST, _DEVICE_TO_DEVICE = 1, 2, 3
#: Format -> (cudaDataType of A and W, of C, cublasComputeType_t), from library_types.h and cublas_api.h.
_GEMM = {"fp16": (2, 2, 68), "bf16": (14, 14, 68), "fp32": (0, 0, 68), "tf32": (0, 0, 77), "int8": (3, 10, 72)}
_BYTES = {2: 2, 14: 2, 0: 4, 3: 1, 10: 4}
_NONE, _TRANSPOSE, _DEFAULT_ALGORITHM = 0, 1, -1


class Wall(list[Call]):
    """Calls that are timed by the host's clock: launching and copying over the link is what the host waits for."""


class CupyBackend:
    name = "cupy"
    machine = "gpu"
    most_copies: Mapping[str, int] = MappingProxyType({"": 256})

    def __init__(self) -> None:
        try:
            count = cp.cuda.runtime.getDeviceCount()
        except cp.cuda.runtime.CUDARuntimeError as error:
            raise UnsupportedError(f"CuPy finds no GPU ({' '.join(str(error).split())})") from None
        if not count:
            raise UnsupportedError("CuPy finds no GPU")
        self.device = cp.cuda.Device()
        self.props = cp.cuda.runtime.getDeviceProperties(self.device.id)
        self.cache_bytes = float(self.props["l2CacheSize"])
        self.memory_bytes = 0.25 * float(self.device.mem_info[0])
        source = resources.files("validate.suite").joinpath("kernels.cu").read_text(encoding="utf-8")
        self.module = cp.RawModule(code=source, options=("-std=c++17",))
        try:
            self.module.get_function("empty")                      # compiles now, and finds cuBLAS or says so
            cp.cuda.cublas.getVersion(self.device.cublas_handle)
        except (ImportError, cp.cuda.compiler.CompileException) as error:
            raise UnsupportedError(f"CuPy is not complete here: {' '.join(str(error).split())[:300]}") from None
        self.stream = cp.cuda.Stream(non_blocking=True)
        self.pools = {"in": _Pool(), "out": _Pool()}

    def framework(self, point: Point) -> str:
        own = point.kind in ("lowbit", "attention")
        return "perfboard-cuda" if own else f"cupy-{cp.__version__}"

    def describe(self) -> dict[str, Any]:
        runtime = cp.cuda.runtime
        name = self.props["name"]
        return {"device_name": name.decode() if isinstance(name, bytes) else str(name),
                "pci_bus": self.device.pci_bus_id, "processors": int(self.props["multiProcessorCount"]),
                "compute_capability": self.device.compute_capability, "cache_bytes": self.cache_bytes,
                "memory_bytes": float(self.device.mem_info[1]),
                "versions": {"cupy": cp.__version__, "numpy": np.__version__, "cuda_runtime": runtime.runtimeGetVersion(),
                             "cuda_driver": runtime.driverGetVersion(),
                             "cublas": cp.cuda.cublas.getVersion(self.device.cublas_handle)}}

    # -- timing -----------------------------------------------------------------------------------------------------------

    def time(self, calls: Sequence[Call], seconds: float) -> Sample:
        with self.stream, _refusals():
            if isinstance(calls, Wall):
                return clocked(calls, seconds)
            calls[0]()
            one = self._elapsed(self._queued(calls[:8])) / min(len(calls), 8)
            # Whole rounds over the copies: a replay begins with the first copy again, which must be cold by then.
            rounds = max(int(5e-4 / max(one * len(calls), 1e-9)), 1)
            inner = rounds * len(calls)
            repeats = int(np.clip(seconds / max(one * inner, 1e-6), 3, 25))
            issue = self._captured(calls, inner) or self._queued(calls, inner)
            self._elapsed(issue)
            times = [self._elapsed(issue) / inner for _ in range(repeats)]
        return Sample(float(np.median(times)), min(times), max(times), repeats)

    def _elapsed(self, issue: Callable[[], None]) -> float:
        start, end = cp.cuda.Event(), cp.cuda.Event()
        self._begin = start
        issue()
        end.record(self.stream)
        end.synchronize()
        return float(cp.cuda.get_elapsed_time(start, end)) * 1e-3

    def _captured(self, calls: Sequence[Call], inner: int) -> Callable[[], None] | None:
        """The calls as one graph; None where one of them cannot be captured."""
        side, turn = cp.cuda.Stream(non_blocking=True), cycle(calls)
        try:
            with side:
                side.begin_capture()
                for _ in range(inner):
                    next(turn)()
                graph = side.end_capture()
        except Exception:                 # any refusal of any library: the queued way below times the same calls
            with contextlib.suppress(Exception):
                side.end_capture()
            return None

        def issue() -> None:
            self._begin.record(self.stream)
            graph.launch(self.stream)
        return issue

    def _queued(self, calls: Sequence[Call], inner: int = 0) -> Callable[[], None]:
        """The calls behind a kernel that spins for as long as the host may need to issue them."""
        n, spin = inner or len(calls), self.module.get_function("spin")
        cycles = np.int64(min(n * 2e-5, 0.2) * 1e3 * float(self.props["clockRate"]))

        def issue() -> None:
            turn = cycle(calls)
            spin((1,), (1,), (cycles,))
            self._begin.record(self.stream)
            for _ in range(n):
                next(turn)()
        return issue

    # -- calls ------------------------------------------------------------------------------------------------------------

    def prepare(self, point: Point, copies: int) -> Sequence[Call]:
        makers: dict[str, Callable[[Point], Call]] = {
            "launch": self._launch, "copy": self._copy, "link": self._link, "gemm": self._gemm, "bmm": self._gemm,
            "elementwise": self._elementwise, "attention": self._attention, "lowbit": self._lowbit}
        with self.stream, _refusals():
            for pool in self.pools.values():
                pool.reserve(min(copies * point.footprint, 3.0 * self.cache_bytes) + 2.0 * point.footprint + 1e6)
            calls = [makers[point.kind](point) for _ in range(copies)]
            self.stream.synchronize()
        return Wall(calls) if point.kind in ("launch", "link") else calls

    def _in(self, nbytes: float) -> Any:
        return self.pools["in"].take(nbytes)

    def _out(self, nbytes: float) -> Any:
        return self.pools["out"].take(nbytes)

    def _call(self, kernel: str, grid: tuple[int, ...], block: int, *args: Any) -> Call:
        function = self.module.get_function(kernel)
        return lambda: function(grid, (block,), args)

    def _launch(self, point: Point) -> Call:
        count, empty = point.number("count"), self._call("empty", (1,), 32, np.int32(0))

        def eager() -> None:
            for _ in range(count):
                empty()
            self.stream.synchronize()
        if point.text("op") == "launch_eager":
            return eager
        issue = self._captured([empty], count)
        if issue is None:
            raise UnsupportedError("CuPy captures no graph here")
        self._begin = cp.cuda.Event()

        def replay() -> None:
            issue()
            self.stream.synchronize()
        return replay

    def _copy(self, point: Point) -> Call:
        n, stride = max(point.number("bytes") // 8, 1), point.number("stride")
        source, target = self._in(4 * n * stride), self._out(4 * n)
        if stride > 1:
            blocks = min(-(-n // 256), 65535)
            return self._call("strided_copy", (blocks,), 256, target, source, np.int64(n), np.int32(stride))
        to, come = target.data.ptr, source.data.ptr
        return lambda: cp.cuda.runtime.memcpyAsync(to, come, 4 * n, _DEVICE_TO_DEVICE, cp.cuda.get_current_stream().ptr)

    def _link(self, point: Point) -> Call:
        n = point.number("bytes")
        pinned, there = cp.cuda.alloc_pinned_memory(n), self._in(n)
        to_device = point.text("op") == "host_to_device"
        to, come = (there.data.ptr, pinned.ptr) if to_device else (pinned.ptr, there.data.ptr)
        kind = _HOST_TO_DEVICE if to_device else _DEVICE_TO_HOST

        def run() -> None:
            cp.cuda.runtime.memcpyAsync(to, come, n, kind, self.stream.ptr)
            self.stream.synchronize()
            _ = pinned                     # lives as long as the call
        return run

    def _gemm(self, point: Point) -> Call:
        """C[m, n] = A[m, k] W[n, k]^T in rows, which cuBLAS sees as C^T = W A^T in columns."""
        fmt, batch = point.text("dtype_a"), point.number("batch")
        if fmt not in _GEMM:
            raise UnsupportedError(f"CuPy binds no library that multiplies {fmt} (cuBLASLt would)")
        m, n, k = (point.number(x) for x in "mnk")
        kind, kind_out, compute = _GEMM[fmt]
        a, w = self._in(batch * m * k * _BYTES[kind]), self._in(batch * n * k * _BYTES[kind])
        c = self._out(batch * m * n * _BYTES[kind_out])
        scalars = np.array([1, 0], np.int32 if fmt == "int8" else np.float32)
        one = scalars.ctypes.data
        zero, handle = one + 4, self.device.cublas_handle
        if batch == 1:
            def run() -> None:
                _ = scalars                # lives as long as the call
                cp.cuda.cublas.gemmEx(handle, _TRANSPOSE, _NONE, n, m, k, one, w.data.ptr, kind, k, a.data.ptr, kind, k, zero,
                                      c.data.ptr, kind_out, n, compute, _DEFAULT_ALGORITHM)
            return run

        def run_batch() -> None:
            _ = scalars
            cp.cuda.cublas.gemmStridedBatchedEx(
                handle, _TRANSPOSE, _NONE, n, m, k, one, w.data.ptr, kind, k, n * k, a.data.ptr, kind, k, m * k, zero,
                c.data.ptr, kind_out, n, m * n, batch, compute, _DEFAULT_ALGORITHM)
        return run_batch

    def _elementwise(self, point: Point) -> Call:
        rows, cols, op = point.number("rows"), point.number("cols"), point.text("op")
        inputs = [self._in(2 * rows * cols) for _ in range(STREAMS[op][0])]
        out = self._out(2 * rows * cols if STREAMS[op][1] else 2 * rows)
        if op in ("softmax", "rmsnorm", "layernorm", "reduce"):
            return self._call(op, (rows,), 256, out, *inputs, np.int32(cols))
        n = rows * cols
        return self._call(op, (min(-(-n // (8 * 256)), 65535),), 256, out, *inputs, np.int64(n))

    def _attention(self, point: Point) -> Call:
        batch, kv, heads, kv_heads, d = (point.number(x) for x in ("batch", "kv_len", "n_heads", "n_kv_heads", "head_dim"))
        q, k, v = (self._in(2 * batch * s) for s in (heads * d, kv_heads * kv * d, kv_heads * kv * d))
        pairs, processors = batch * kv_heads, int(self.props["multiProcessorCount"])
        splits = max(min(4 * processors // pairs, kv // 64, 64), 1)
        part, out = self._out(4.0 * batch * heads * splits * (d + 2)), self._out(2.0 * batch * heads * d)
        split = self._call(f"attend_{heads // kv_heads}", (pairs, splits), 128, part, q, k, v, np.int32(kv), np.int32(splits))
        join = self._call("attend_join", (batch * heads,), 128, out, part, np.int32(splits))

        def run() -> None:
            split()
            join()
        return run

    def _lowbit(self, point: Point) -> Call:
        quant = point.text("quant")
        m, n, k = (np.int32(point.number(x)) for x in "mnk")
        if quant.endswith("_weight_only"):
            bits = int(quant[3])
            operands = self._in(2.0 * m * k), self._in(n * k * bits / 8), self._in(2.0 * n * k / GROUP)
            weights = (self._out(2.0 * m * n), *operands, m, n, k)
            if m > 8:
                return self._call(f"weight_tiles_int{bits}", (-(-int(n) // 64), -(-int(m) // 64)), 256, *weights)
            return self._call(f"weight_rows_int{bits}_{1 if m == 1 else 8}", (-(-int(n) // 8),), 256, *weights)
        if quant == "int2_lookup":
            return self._lookup(int(m), int(n), int(k))
        bits_a, bits_w = (1, 1) if quant == "xnor_popcount" else (2, 4)
        shape = (np.int32(bits_a), np.int32(bits_w), np.int32(quant == "xnor_popcount"), m, n, np.int32(k // 32))
        args = (self._out(4.0 * m * n), self._in(m * k * bits_a / 8), self._in(n * k * bits_w / 8), *shape)
        if m > 8:
            return self._call("popcount_tiles", (-(-int(n) // 32), -(-int(m) // 32)), 256, *args)
        return self._call("popcount_rows", (-(-int(n) // 8),), 256, *args)

    def _lookup(self, m: int, n: int, k: int) -> Call:
        out, blocks = self._out(4.0 * m * n), -(-n // 128)
        splits = max(min(2 * int(self.props["multiProcessorCount"]) // (blocks * m), k // 256), 1)
        add = self._call("lookup", (blocks, m, splits), 128, out, self._in(2.0 * m * k), self._in(2 * n * k / 8),
                         self._in(2.0 * n), np.int32(2), np.int32(n), np.int32(k))

        def run() -> None:
            cp.cuda.runtime.memsetAsync(out.data.ptr, 0, 4 * m * n, cp.cuda.get_current_stream().ptr)
            add()
        return run


class _Pool:
    """Operands as views of one device array, one after another and round again; normal fp16 values throughout, whose bits
    are finite numbers in every other format too."""

    def __init__(self) -> None:
        self.at = 0
        self.array = cp.empty(0, cp.uint8)

    def reserve(self, nbytes: float) -> None:
        size = int(nbytes)
        if self.array.size >= size:
            return
        self.array, self.at = cp.empty(0, cp.uint8), 0
        cp.get_default_memory_pool().free_all_blocks()             # the old one first: both may not fit
        self.array = cp.empty(size, cp.uint8)
        values = np.random.default_rng(0).standard_normal(2 ** 20).astype(np.float16).view(np.uint8)[:size]
        filled = len(values)
        self.array[:filled] = cp.asarray(values)
        while filled < size:
            more = min(filled, size - filled)
            self.array[filled:filled + more] = self.array[:more]
            filled += more

    def take(self, nbytes: float) -> Any:
        size = int(nbytes)
        if self.at + size > self.array.size:
            self.at = 0
        view = self.array[self.at:self.at + size]
        self.at += -(-size // 256) * 256
        return view


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What a library or the memory refuses becomes a point left out, with the reason."""
    try:
        yield
    except cp.cuda.memory.OutOfMemoryError:
        raise UnsupportedError("needs more memory than is free") from None
    except (cp.cuda.runtime.CUDARuntimeError, cp.cuda.driver.CUDADriverError, cp.cuda.cublas.CUBLASError) as error:
        raise UnsupportedError(" ".join(str(error).split())) from None
