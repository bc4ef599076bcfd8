"""Compiles a unit with its parameters; a build is kept under a hash of sources, parameters and tools.

So only changed sources are rebuilt, and builds of the same thing by several processes are made once (a lock per build).
Verilator's own runtime, most of a cold build, is compiled once per set of options and copied into each new build.
cocotb's main program, ``verilator.o``, holds the size of the design's class, which differs with the ports: it is shared
by designs with the same class alone. (One of another design makes the simulator write past the end of what it allocated.)
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rtl.harness import toolchain
from rtl.harness.toolchain import environment

try:
    from cocotb_tools.runner import Icarus, Verilator
except ImportError:                    # without the extra: ``toolchain.simulator`` says so before anything is built
    Icarus = Verilator = object        # type: ignore[assignment, misc]

TIMESCALE = ("1ns", "1ps")
#: Objects that depend on tools and options alone.
RUNTIME = "verilated*"
#: The main program's object, and the file that declares the class it makes.
MAIN, CLASS = "verilator.o", "Vtop.h"
_YEARS = 10 * 365 * 86400.0
#: Random values where Verilator would put zeros: at the start and for X.
RANDOM = ("--x-initial", "unique", "--x-assign", "unique")
WAIVED = ("-Wno-fatal",)


class BuildError(Exception):
    """The simulator's compiler refused the sources; the text is one line: its first complaint, and where its log is.

    ``home``: the directory of the build.
    """

    def __init__(self, text: str, home: Path) -> None:
        super().__init__(text)
        self.home = home


#: What a tool may take of the machine's memory. [B]
MEMORY = 8 * 1024**3


class TimeLimitError(Exception):
    """A tool ran past its time limit."""


def _run(cmd: Sequence[str], cwd: Any, env: dict[str, str], limit: float, stdout: TextIO | None) -> int:
    """Exit code of a tool. One that takes too long, or is interrupted, ends with all that it started: the compilers behind a
    driver too, which a fault in a loop may keep busy, and growing, for ever."""
    with subprocess.Popen(cmd, cwd=cwd, env=env, stdout=stdout, stderr=subprocess.STDOUT, start_new_session=True) as tool:
        if hasattr(resource, "prlimit"):           # Linux
            resource.prlimit(tool.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        try:
            return tool.wait(limit)
        except subprocess.TimeoutExpired as e:
            os.killpg(tool.pid, signal.SIGKILL)
            raise TimeLimitError(f"{Path(cmd[0]).name}: stopped after {limit:g} s") from e
        except BaseException:
            os.killpg(tool.pid, signal.SIGKILL)
            raise


class _Limited:
    """Runs the commands of a cocotb runner under the tools' environment and within a time limit."""

    limit: float = 600.0
    env: dict[str, str]
    log: logging.Logger

    def _execute_cmds(self, cmds: Sequence[Sequence[str]], cwd: Any, stdout: TextIO | None = None) -> None:
        for cmd in cmds:
            self._before(Path(cmd[0]).name, Path(cwd))
            if code := _run(cmd, cwd, self.env | environment(), self.limit, stdout):
                raise RuntimeError(f"{Path(cmd[0]).name} ended with code {code}")

    def _before(self, tool: str, home: Path) -> None:
        """What a runner does before it starts a tool in a directory."""


class VerilatorRunner(_Limited, Verilator):
    #: Where the runtime of these options is kept.
    warm: Path | None = None

    def _before(self, tool: str, home: Path) -> None:
        """Between Verilator and make: now the class is known."""
        if tool == "make" and self.warm and (kept := _main_program(home, self.warm)).exists():
            _copy(kept, home / MAIN)

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(toolchain.verilator())


class IcarusRunner(_Limited, Icarus):
    pass


def runner(simulator: str, limit: float = 600.0) -> VerilatorRunner | IcarusRunner:
    """cocotb's runner of a simulator with our environment and time limit. [s]"""
    made = VerilatorRunner() if simulator == "verilator" else IcarusRunner()
    made.limit = limit
    made.log.setLevel(logging.CRITICAL)
    return made


def build(sources: Sequence[Path], top: str, params: Mapping[str, int], *, simulator: str = "verilator", coverage: bool = False,
          waves: bool = False, limit: float = 600.0) -> Path:
    """Directory of a finished build. Raises ``BuildError``, ``TimeLimitError``, ``MissingToolError``."""
    toolchain.simulator(simulator)
    options = _options(simulator, coverage)
    key = hashlib.sha256(repr((toolchain.identity(simulator), RUNTIME, [(p.name, p.read_bytes()) for p in sources],
                               top, sorted(params.items()), options, waves)).encode()).hexdigest()[:20]
    home = toolchain.cache_dir() / f"{top}-{key}"
    with locked(home):
        done = home / ".done"
        if not done.exists():
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True)
            warm = _warm_dir(options, waves) if simulator == "verilator" else None
            if warm and warm.exists():
                _copy_runtime(warm, home)
            _compile(home, sources, top, params, simulator, options, waves, limit, warm)
            if warm:
                _keep_runtime(home, warm)
            _trim(home)
            done.touch()
        os.utime(done)
    return home


def discard(home: Path) -> None:
    """Remove a build from the cache."""
    shutil.rmtree(home, ignore_errors=True)
    home.with_name(home.name + ".lock").unlink(missing_ok=True)


def _options(simulator: str, coverage: bool) -> tuple[str, ...]:
    if simulator == "icarus":
        return ("-Wall",)
    return (*WAIVED, *RANDOM, "--default-language", "1364-2005",
            *(("--coverage-line", "--coverage-toggle") if coverage else ()))


def _compile(home: Path, sources: Sequence[Path], top: str, params: Mapping[str, int], simulator: str,
             options: Sequence[str], waves: bool, limit: float, warm: Path | None) -> None:
    log, made = home / "build.log", runner(simulator, limit)
    if isinstance(made, VerilatorRunner):
        made.warm = warm
    try:
        made.build(sources=list(sources), hdl_toplevel=top, parameters=dict(params), build_dir=home, build_args=list(options),
                   timescale=TIMESCALE, waves=waves, log_file=log)
    except (RuntimeError, SystemExit) as e:
        text = log.read_text(errors="replace") if log.exists() else ""
        raise BuildError(f"{top} {dict(params)}: {e}: {complaint(text)} (log: {log})", home) from e


def complaint(log: str) -> str:
    """The first line of a log that names an error, else its last line."""
    lines = [" ".join(line.split()) for line in log.splitlines() if line.strip()]
    return next((line for line in lines if re.search(r"%Error|error:", line)), lines[-1] if lines else "no log")[:400]


# -- the runtime, compiled once ------------------------------------------------------------------------------------

def _warm_dir(options: Sequence[str], waves: bool) -> Path:
    key = hashlib.sha256(repr((toolchain.identity("verilator"), RUNTIME, tuple(options), waves)).encode()).hexdigest()[:12]
    return toolchain.cache_dir() / f"runtime-{key}"


def _runtime(folder: Path) -> list[Path]:
    return [p for ending in (".o", ".d") for p in folder.glob(RUNTIME + ending)]


def _copy_runtime(warm: Path, home: Path) -> None:
    for p in _runtime(warm):
        _copy(p, home / p.name)


def _copy(source: Path, target: Path) -> None:
    later = time.time() + _YEARS       # make compares with sources whose time stamps are those of the installation
    shutil.copyfile(source, target)
    os.utime(target, (later, later))


def _main_program(home: Path, warm: Path) -> Path:
    """Where the main program for the class declared in a build is kept."""
    return warm / f"{hashlib.sha256((home / CLASS).read_bytes()).hexdigest()[:16]}-{MAIN}"


def _keep_runtime(home: Path, warm: Path) -> None:
    """Keep what later builds can use; another process may do the same at the same time."""
    if not warm.exists():
        part = warm.with_name(f"{warm.name}.{os.getpid()}")
        part.mkdir(parents=True, exist_ok=True)
        for p in _runtime(home):
            shutil.copyfile(p, part / p.name)
        try:
            part.rename(warm)
        except OSError:                # another process was first
            shutil.rmtree(part, ignore_errors=True)
    if not (kept := _main_program(home, warm)).exists():
        part = kept.with_name(f"{kept.name}.{os.getpid()}.{threading.get_ident()}")
        shutil.copyfile(home / MAIN, part)
        part.rename(kept)


def _trim(home: Path) -> None:
    """Only what runs is kept: objects and archives are most of a build's size."""
    for ending in ("*.o", "*.a", "*.gch", "*.d", "*.cpp"):
        for p in home.glob(ending):
            p.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock beside a path; other processes wait."""
    with path.with_name(path.name + ".lock").open("w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(f, fcntl.LOCK_UN)
