"""Builds: what may be shared between designs, and what a build that fails says."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

import pytest

from rtl.harness import build
from rtl.harness.registry import load, sources
from rtl.harness.run import verify


def test_program_that_knows_the_design_is_not_shared(tmp_path: Path) -> None:
    """cocotb's main program allocates the design's class: its size is that of one design alone."""
    home, warm = tmp_path / "home", tmp_path / "warm"
    home.mkdir()
    for name in ("verilated.o", "verilated_cov.o", "verilator.o", "Vtop.o", "Vtop.h"):
        (home / name).write_text(name)
    build._keep_runtime(home, warm)
    first = build._main_program(home, warm)
    assert {p.name for p in warm.iterdir()} == {"verilated.o", "verilated_cov.o", first.name}
    (home / "Vtop.h").write_text("another class")
    assert build._main_program(home, warm) != first
    build._keep_runtime(home, warm)
    assert len(list(warm.iterdir())) == 4


def test_first_complaint_is_found() -> None:
    assert build.complaint("make: x\n%Error: u.v:3:  no such\n%Error: 2nd") == "%Error: u.v:3: no such"
    assert build.complaint("c++ -c a.cpp\na.cpp:1: error: what\n") == "a.cpp:1: error: what"
    assert build.complaint("one\nkilled\n\n") == "killed"
    assert build.complaint("") == "no log"


@pytest.mark.rtl
def test_failed_build_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFBOARD_CACHE", str(tmp_path / "cache"))
    unit = load("nbit_unpack")
    bad = tmp_path / "nbit_unpack.v"
    bad.write_text(sources(unit)[0].read_text().replace("data_q <= wide", "data_q <= wied"))
    out = verify(unit, {}, files=[bad], keep=False)
    assert not out.ok
    assert "Can't find definition of variable: 'wied'" in out.failed["build"]
    assert "\n" not in out.failed["build"]
    assert list((tmp_path / "cache").rglob("*nbit_unpack*")) == []


def test_a_tool_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    """A driver's compiler would go on, and grow: Icarus unrolls a loop that a fault made endless."""
    child = "import os, time; open('child', 'w').write(str(os.getpid())); time.sleep(60)"
    driver = ["sh", "-c", f'{sys.executable} -c "{child}" & wait']
    with pytest.raises(build.TimeLimitError, match="sh: stopped after 1 s"):
        build._run(driver, tmp_path, dict(os.environ), 1.0, None)
    pid = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5.0
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="memory limits of other processes: Linux alone")
def test_a_tool_gets_no_more_memory_than_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MEMORY", 2**30)
    greedy = [sys.executable, "-c", "import time; time.sleep(0.3); bytearray(2**31)"]
    assert build._run(greedy, tmp_path, dict(os.environ), 30.0, None) != 0
