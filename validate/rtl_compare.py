"""``perfboard rtl compare``: cycles of the contract against those of the Verilog, areas against multiply-accumulate units."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from rtl.harness import figures, registry
from rtl.harness.run import Outcome, verify
from rtl.harness.unit import Params, Unit
from sim.cli import MissingExtra
from sim.output import as_csv, console, format_option, note, print_json, print_rows

CYCLES = ("unit", "parameters", "runs", "shortest", "longest", "contract_edges", "rtl_edges", "verdict", "first_difference")
AREA = ("format", "unit", "build", "macs_per_cycle", "ge", "ge_per_mac_per_cycle", "baseline_over_unit")
NUMBERS = ("runs", "shortest", "longest", "contract_edges", "rtl_edges", *AREA[3:])
SUFFIXES = (".svg", ".png")


@click.command("compare", short_help="Cycles of contract and RTL; area against multipliers.")
@click.argument("units", nargs=-1, metavar="[UNIT]...")
@click.option("--thorough", is_flag=True, help="Cycles of all parameter sets, not of the fast ones alone.")
@click.option("--only", type=click.Choice(("cycles", "area")), default=None,
              help="One of the two tables. Areas need no simulator.")
@click.option("--figure", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Draw the areas: .svg or .png.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
              help="Write cycles.csv and area.csv to this directory.")
@format_option
def compare(units: tuple[str, ...], thorough: bool, only: str | None, figure: Path | None, out: Path | None, fmt: str) -> int:
    """Cycles of contract against Verilog for every parameter set, and area against multiply-accumulate units.

    Cycles: the unit runs its sweep of jobs at full rate, each from reset and behind another job; the time of every run must
    be the contract's. Area: gate equivalents per multiply-accumulate per cycle by format (weights x activations) and build,
    and how many times larger the smallest multiplier unit of the format is. Exit code 1 if any run differs.

    \b
    perfboard rtl compare lut_dot
    perfboard rtl compare --only area --figure area.svg
    """
    if figure and figure.suffix.lower() not in SUFFIXES:
        raise ValueError(f"--figure {figure}: ending {figure.suffix or 'missing'}, expected one of {', '.join(SUFFIXES)}")
    if fmt == "csv" and only is None:
        raise ValueError("--format csv is one table: add --only cycles or --only area, or take --out DIR for both")
    chosen = [registry.load(n) for n in (units or registry.names())]
    tables: dict[str, tuple[Sequence[str], list[list[Any]]]] = {}
    if only != "area":
        tables["cycles"] = CYCLES, [cycles_row(u, p) for u in chosen for p in (*u.fast, *(u.thorough if thorough else ()))]
    if only != "cycles":
        tables["area"] = AREA, area_rows(chosen)
    _show(tables, fmt)
    if out:
        _write(tables, out)
    if figure:
        _draw(figure, chosen)
    return _verdict(tables.get("cycles", (CYCLES, []))[1], len(chosen))


# -- rows ------------------------------------------------------------------------------------------------------------

def shown(params: Params) -> str:
    return " ".join(f"{k}={v}" for k, v in params.items()) or "default"


def cycles_row(unit: Unit, params: Params) -> list[Any]:
    """Number of runs of one parameter set, their times and sums in edges, and where contract and Verilog first differ."""
    o = verify(unit, params, tests=r"\.contract$")
    runs = o.record.get("cycles", [])
    edges = [c["rtl"] for c in runs] or [0]
    why = difference(o)
    note(f"{unit.name} {shown(params)}: {len(runs)} runs, {why or 'contract = RTL'}")
    return [unit.name, shown(params), len(runs), min(edges), max(edges), sum(c["contract"] for c in runs), sum(edges),
            "DIFFERENT" if why else "equal", why]


def difference(o: Outcome) -> str:
    """The first run whose time is not the contract's, or why there was no run to look at; "" if all are equal."""
    for c in o.record.get("cycles", []):
        if c["contract"] != c["rtl"]:
            work = " ".join(f"{k}={v}" for k, v in c["work"].items())
            return f"{work}: contract {c['contract']}, RTL {c['rtl']} edges"
    if o.failed:
        return " ".join(next(f"{test}: {why}" for test, why in o.failed.items()).split())
    return "" if o.record.get("cycles") else "no run was recorded"


def densities(units: Sequence[Unit]) -> list[figures.Density]:
    return figures.against_baselines([u for u in units if registry.kept_in(u) != registry.FIGURES])


def area_rows(units: Sequence[Unit]) -> list[list[Any]]:
    """Stored figures of these units, smallest first within a format."""
    chosen, found = {u.name: u for u in units}, []
    for d in sorted(densities(units), key=lambda d: (d.format, d.ge_per_mac)):
        if d.unit in chosen:
            ge = figures.of(chosen[d.unit])[d.build]["ge"]
            found.append([d.format, d.unit, d.build, round(ge / d.ge_per_mac, 3), round(ge), round(d.ge_per_mac, 1),
                          round(d.ratio, 2) if d.ratio else ""])
    for u in units:
        if u.formats and not figures.of(u):
            where = u.name if registry.kept_in(u) == registry.FIGURES else registry.kept_in(u).parent
            note(f"{u.name}: no area yet: perfboard rtl synth {where} --write")
    if not any(u.formats for u in units):
        note(f"{', '.join(chosen)}: no products of their own (formats in contract.py), so no area per product")
    return found


# -- results ---------------------------------------------------------------------------------------------------------

def _show(tables: dict[str, tuple[Sequence[str], list[list[Any]]]], fmt: str) -> None:
    if fmt == "json":
        print_json({name: [dict(zip(columns, r, strict=True)) for r in rows] for name, (columns, rows) in tables.items()})
        return
    for i, (name, (columns, rows)) in enumerate(tables.items()):
        if fmt == "table" and name == "cycles" and not any(r[-1] for r in rows):
            columns, rows = columns[:-1], [r[:-1] for r in rows]
        if i:
            click.echo()
        print_rows(columns, rows, fmt, right=NUMBERS)
    if fmt == "table" and "area" in tables:
        console().print(" GE: NAND2 equivalents of synthesised cells, without wiring. Formats: weights x activations; POT: "
                        "2^e; 2:4: sparse.\n try      perfboard rtl compare --only area --figure area.png", markup=False)


def _write(tables: dict[str, tuple[Sequence[str], list[list[Any]]]], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, (columns, rows) in tables.items():
        path = out / f"{name}.csv"
        path.write_text(as_csv(columns, rows), encoding="utf-8")
        note(f"wrote {path}")


def _draw(path: Path, units: Sequence[Unit]) -> None:
    """The figure. Its module is loaded when it is wanted: matplotlib is optional and slow to import."""
    try:
        module = import_module("validate.rtl_figure")
    except ModuleNotFoundError as e:
        if (e.name or "").split(".")[0] != "matplotlib":
            raise
        raise MissingExtra("plots", "drawing a figure") from None
    every, chosen = densities(units), {u.name for u in units}
    formats = {d.format for d in every if d.unit in chosen}
    rows = [d for d in every if d.format in formats and d.unit in {*chosen, *figures.BASELINES}]
    path.write_bytes(module.area_figure(rows, path.suffix.lower().removeprefix(".")))
    note(f"wrote {path}")


def _verdict(rows: list[list[Any]], units: int) -> int:
    if rows:
        bad, runs = sum(r[7] != "equal" for r in rows), sum(r[2] for r in rows)
        note(f"{units} units, {len(rows)} parameter sets, {runs} runs: "
             + (f"contract and RTL differ in {bad} sets" if bad else "contract = RTL in all"))
    return int(any(r[7] != "equal" for r in rows))
