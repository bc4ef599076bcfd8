"""Shared by the tests of the measuring suite: its CUDA kernels, built for the host."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "validate" / "suite"


@pytest.fixture(scope="session")
def cuda(tmp_path_factory):
    """launch(kernel, grid, threads, *arguments): arrays are passed by address, numbers as they are."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    library = tmp_path_factory.mktemp("cuda") / "kernels.so"
    subprocess.run(["g++", "-std=c++20", "-O1", "-shared", "-fPIC", "-w", "-I", str(KERNELS), str(HERE / "cuda_on_host.cpp"),
                    "-o", str(library)], check=True)
    lib = ctypes.CDLL(str(library))

    def launch(kernel, grid, threads, *arguments):
        held = [ctypes.c_void_p(a.ctypes.data) if isinstance(a, np.ndarray) else np.ctypeslib.as_ctypes(np.asarray(a))
                for a in arguments]
        addresses = (ctypes.c_void_p * len(held))(*(ctypes.addressof(h) for h in held))
        grid = (*grid, 1, 1)[:3]
        assert lib.launch(kernel.encode(), *grid, threads, addresses) == 0, f"no kernel {kernel}"
    return launch
