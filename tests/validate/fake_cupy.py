"""As much of CuPy as the suite calls, on host memory: kernels run on the host emulation, cuBLAS is NumPy in columns.

For tests of how the GPU backend passes its arguments, without a GPU. Times are the host's and mean nothing.
"""

from __future__ import annotations

import ctypes
import time
from types import SimpleNamespace

import numpy as np

__version__ = "0"
launch = None                              # set by the test: launch(kernel, grid, threads, *arguments)
uint8 = np.uint8


class _Array:
    def __init__(self, host):
        self.host = host
        self.size = host.size
        self.data = SimpleNamespace(ptr=host.ctypes.data)

    def __getitem__(self, key):
        return _Array(self.host[key])


    def __setitem__(self, key, value):
        self.host[key] = value.host


def empty(n, dtype):
    return _Array(np.empty(n, dtype))


def asarray(host):
    return _Array(host)


def get_default_memory_pool():
    return SimpleNamespace(free_all_blocks=lambda: None)


class RawModule:
    def __init__(self, code, options):
        assert "attend_join" in code

    def get_function(self, name):
        def run(grid, block, args):
            if name != "spin":
                launch(name, grid, block[0], *(a.host if isinstance(a, _Array) else a for a in args))
        return run


class _Stream:
    ptr = 0

    def __init__(self, non_blocking=False):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def begin_capture(self):
        raise RuntimeError("no capture here")

    end_capture = begin_capture

    def synchronize(self):
        pass


class _Event:
    def record(self, stream=None):
        self.at = time.perf_counter()

    def synchronize(self):
        pass


class _Device:
    id, pci_bus_id, compute_capability, cublas_handle = 0, "0000:00:00.0", "90", 1
    mem_info = (8 * 10 ** 9, 10 ** 10)


def _view(address, shape, dtype):
    count = int(np.prod(shape))
    raw = (ctypes.c_char * (count * np.dtype(dtype).itemsize)).from_address(address)
    return np.frombuffer(raw, dtype).reshape(shape)


#: cudaDataType -> NumPy's (bf16 as its bits: the product of those is not checked).
_TYPES = {2: np.float16, 0: np.float32, 3: np.int8, 10: np.int32, 14: np.uint16}


def gemm_ex(handle, ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute, algorithm):
    """cublasGemmEx: column-major C[m, n] = op(A) op(B); a column-major matrix is a row-major one transposed."""
    left = _view(a, (m, lda) if ta else (k, lda), _TYPES[a_type])
    right = _view(b, (k, ldb) if tb else (n, ldb), _TYPES[b_type])
    left = left[:, :k] if ta else left[:, :m].T
    right = right[:, :n] if tb else right[:, :k].T
    exact = np.int64 if a_type == 3 else np.float64
    _view(c, (n, ldc), _TYPES[c_type])[:, :m] = (left.astype(exact) @ right.astype(exact)).T


def gemm_strided(handle, ta, tb, m, n, k, alpha, a, a_type, lda, sa, b, b_type, ldb, sb, beta, c, c_type, ldc, sc, batch,
                 compute, algorithm):
    size = {t: np.dtype(d).itemsize for t, d in _TYPES.items()}
    for i in range(batch):
        gemm_ex(handle, ta, tb, m, n, k, alpha, a + i * sa * size[a_type], a_type, lda, b + i * sb * size[b_type], b_type, ldb,
                beta, c + i * sc * size[c_type], c_type, ldc, compute, algorithm)


def _copy(to, come, nbytes, kind, stream):
    ctypes.memmove(to, come, nbytes)


class _Pinned:
    def __init__(self, n):
        self.array = np.zeros(n, np.uint8)
        self.ptr = self.array.ctypes.data


class _Error(Exception):
    pass


cuda = SimpleNamespace(
    Device=_Device, Stream=_Stream, Event=_Event, get_current_stream=_Stream, alloc_pinned_memory=_Pinned,
    get_elapsed_time=lambda a, b: (b.at - a.at) * 1e3, memory=SimpleNamespace(OutOfMemoryError=type("Full", (_Error,), {})),
    driver=SimpleNamespace(CUDADriverError=_Error), compiler=SimpleNamespace(CompileException=_Error),
    cublas=SimpleNamespace(CUBLASError=_Error, gemmEx=gemm_ex, gemmStridedBatchedEx=gemm_strided, getVersion=lambda h: 13),
    runtime=SimpleNamespace(
        CUDARuntimeError=_Error, getDeviceCount=lambda: 1, memcpyAsync=_copy, runtimeGetVersion=lambda: 12080,
        driverGetVersion=lambda: 13000, memsetAsync=lambda to, value, n, stream: ctypes.memset(to, value, n),
        getDeviceProperties=lambda i: {"name": b"NVIDIA H200", "l2CacheSize": 10 ** 6, "multiProcessorCount": 4,
                                       "clockRate": 1_980_000}))
