"""``perfboard doctor``: what is installed, and what each extra would add."""

from __future__ import annotations

import importlib.util
import platform
import shutil
from fnmatch import fnmatch
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version

import click

from sim.output import format_option, print_rows

#: What each extra adds, for people.
ADDS = {"plots": "roofline and report figures as SVG and PNG", "sweep": "guided search of design points, results as Parquet",
        "gp": "search by Gaussian processes", "dask": "sweeps on a Dask cluster", "gpu": "`measure --backend cupy` on a GPU",
        "measured": "import of tables kept as Parquet", "rtl": "verification and synthesis of hardware units (perfboard rtl)",
        "dev": "what `make test` needs"}
#: Programs that are used when they are there.
PROGRAMS = {"g++": "compiles RTL simulations: apt-get install g++",
            "make": "RTL simulations, and the two commands of the README: apt-get install make",
            "iverilog": "optional, a second simulator: apt-get install iverilog, then perfboard rtl verify --simulator icarus",
            "nvidia-smi": "a GPU to measure on"}


@click.command()
@format_option
def doctor(fmt: str) -> None:
    """What is installed, what is missing, and what it would add."""
    rows: list[tuple[str, str, str, str]] = [
        ("python", "", platform.python_version(), "needs 3.11 or newer"),
        ("perfboard", "", version("perfboard"), ""),
    ]
    for text in requires("perfboard") or []:
        name, extra = _parse(text)
        if name == "perfboard":                      # an extra that contains another, whose packages are listed there
            continue
        found = _version(name)
        rows.append((name, extra or "core", found or "missing", _note(extra, found, _pinned(text))))
    known = {extra for _, extra in map(_parse, requires("perfboard") or [])}
    rows += [(f"extra {extra!r}", extra, "unknown", f"adds {what}; this installation is older: install perfboard again")
             for extra, what in ADDS.items() if extra not in known]
    rows.append(_libpython())
    for program, use in PROGRAMS.items():
        path = shutil.which(program)
        rows.append((program, "program", path or "missing", "" if path else use))
    print_rows(("what", "part of", "found", "note"), rows, fmt)


def _note(extra: str, found: str, pinned: str) -> str:
    """What to do about a package that is missing or not of the version that was tried."""
    how = f"pip install 'perfboard[{extra}]'" if extra else "pip install perfboard"
    if not found:
        return f"{how} adds {ADDS.get(extra, extra)}"
    return f"tried with {pinned} alone: {how}" if pinned and not fnmatch(found, pinned) else ""


def _libpython() -> tuple[str, str, str, str]:
    """The shared library of Python, which simulators load for cocotb; a static Python has none."""
    if importlib.util.find_spec("find_libpython") is None:
        return "libpython", "program", "unknown", "RTL simulations load it; the extra 'rtl' brings what finds it"
    path = import_module("find_libpython").find_libpython()
    major, minor = platform.python_version_tuple()[:2]
    return ("libpython", "program", path or "missing",
            "" if path else f"RTL simulations load it: apt-get install libpython{major}.{minor}, or a Python built with it")


def _pinned(requirement: str) -> str:
    """The one version of a requirement that names one ("5.48.0", "0.70.*"), else ""."""
    head = requirement.partition(";")[0]
    return head.partition("==")[2].strip(" )") if "==" in head and "," not in head else ""


def _parse(requirement: str) -> tuple[str, str]:
    """Name and extra of one line of the package's metadata."""
    head, _, marker = requirement.partition(";")
    name = head.strip()
    for sign in "<>=!~[ (":
        name = name.split(sign)[0]
    extra = marker.split("extra ==")[-1].strip(" '\"") if "extra" in marker else ""
    return name.strip(), extra


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
