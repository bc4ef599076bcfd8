"""``perfboard doctor``: what is installed, and what each extra would add."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, requires, version

import click

from sim.output import format_option, print_rows

#: What each extra adds, for people.
ADDS = {"plots": "roofline and report figures as SVG and PNG", "sweep": "guided search of design points, results as Parquet",
        "gp": "search by Gaussian processes", "dask": "sweeps on a Dask cluster", "gpu": "`measure --backend cupy` on a GPU",
        "measured": "import of tables kept as Parquet", "rtl": "simulation and synthesis of the hardware units",
        "dev": "what `make test` needs"}
#: Programs that are used when they are there.
PROGRAMS = {"g++": "compiles RTL simulations", "make": "the two commands of the README", "nvidia-smi": "a GPU to measure on"}


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
        rows.append((name, extra or "core", found or "missing",
                     "" if found else f"pip install 'perfboard[{extra}]' adds {ADDS.get(extra, extra)}"))
    for program, use in PROGRAMS.items():
        path = shutil.which(program)
        rows.append((program, "program", path or "missing", "" if path else use))
    print_rows(("what", "part of", "found", "note"), rows, fmt)


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
