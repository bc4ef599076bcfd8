"""``perfboard rtl``: hardware units from Verilog to figures that the models use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rtl.harness import coverage as cov
from rtl.harness import figures, mutate, registry, results
from rtl.harness.interface import inspect
from rtl.harness.lint import lint, stops
from rtl.harness.new import skeleton
from rtl.harness.run import SEEDS, Outcome, verify
from rtl.harness.toolchain import SIMULATORS, MissingToolError
from rtl.harness.unit import Params, Unit
from sim.output import format_option, note, print_json, print_rows
from validate.rtl_compare import compare, shown


class _Missing(click.ClickException):
    exit_code = 4


class _Group(click.Group):
    """A tool that is not installed is one line and exit code 4."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MissingToolError as e:
            raise _Missing(str(e)) from None


@click.group(cls=_Group)
def rtl() -> None:
    """Hardware units: lookup-table and bit-serial compute in Verilog, verified, synthesised, compared with their models."""


def parse_params(texts: tuple[str, ...]) -> Params:
    """``K=4`` words as a parameter set. Raises ``ValueError``."""
    found: dict[str, int] = {}
    for text in texts:
        name, eq, value = text.partition("=")
        if not eq or not value.strip().lstrip("-").isdigit():
            raise ValueError(f"--param {text!r}: expected NAME=INTEGER, for instance K=4")
        found[name.strip()] = int(value)
    return found


def chosen_units(names: tuple[str, ...]) -> list[Unit]:
    return [registry.load(n) for n in (names or registry.names())]


@rtl.command("list")
@format_option
def list_units(fmt: str) -> None:
    """All units: class, parameters, parameter sets, what they are."""
    rows = [[u.name, u.law, " ".join(f"{k}={v}" for k, v in u.resolve({}).items()), len(u.fast), len(u.fast) + len(u.thorough),
             u.text] for u in chosen_units(())]
    print_rows(("unit", "class", "parameters", "sets", "sets_thorough", "what"), rows, fmt)


@rtl.command("verify")
@click.argument("units", nargs=-1, metavar="[UNIT]...")
@click.option("--param", "-p", "params", multiple=True, metavar="NAME=N", help="One parameter set in place of the unit's own.")
@click.option("--thorough", is_flag=True, help="All parameter sets, seeds 0..1023.")
@click.option("--seed", type=int, default=None, help="First seed in place of 0; the number of seeds stays.")
@click.option("--simulator", type=click.Choice(SIMULATORS), default="verilator", show_default=True)
@click.option("--waves", type=click.Path(file_okay=False), default=None, help="Write one waveform per run to this directory.")
@click.option("--mutants", type=int, default=None, metavar="N",
              help="Instead: put the listed faults and N generated ones (0: all) into the Verilog and see that tests notice.")
@click.option("--coverage", is_flag=True, help="Instead: line, branch and toggle coverage over all parameter sets.")
@click.option("--write", is_flag=True, help="Keep the result of --mutants or --coverage with the units (rtl/RESULTS.md).")
@click.option("--out", type=click.Path(file_okay=False), default=None, help="Write JUnit and JSON per run to this directory.")
@format_option
def verify_units(units: tuple[str, ...], params: tuple[str, ...], thorough: bool, seed: int | None, simulator: str,
                 waves: str | None, mutants: int | None, coverage: bool, write: bool, out: str | None, fmt: str) -> None:
    """Prove units against golden model, cycle contract and cycle model. Exit code 1 if any test fails."""
    own = parse_params(params)
    if mutants is not None or coverage:
        if simulator != "verilator" or own:
            raise ValueError("--mutants and --coverage take all parameter sets on Verilator: no --param, no --simulator")
        if coverage:
            cover_units(chosen_units(units), write, fmt)
        else:
            mutate_units(chosen_units(units), mutants or None, write, fmt)
        return
    if own and len(units) != 1:
        raise ValueError("--param needs exactly one unit")
    first, count = SEEDS["thorough" if thorough else "fast"]
    rows: list[list[Any]] = []
    data: list[dict[str, Any]] = []
    for unit in chosen_units(units):
        unit.resolve(own)
        for i, chosen in enumerate([own] if own else [*unit.fast, *(unit.thorough if thorough else ())]):
            stem = f"{unit.name}-{i}"
            done = verify(unit, chosen, simulator=simulator, seeds=(first if seed is None else seed, count),
                          waves=Path(waves) / f"{stem}.{'vcd' if simulator == 'verilator' else 'fst'}" if waves else None,
                          junit=Path(out) / f"{stem}.xml" if out else None, limit=3600.0)
            _tell(done)
            rows.append(_row(done))
            data.append(done.as_data())
            if out:
                Path(out, f"{stem}.json").write_text(json.dumps(data[-1], indent=2), encoding="utf-8")
        if not own:
            rows.append(_static(unit))
            data.append(dict(zip(COLUMNS, rows[-1], strict=True)))
    if fmt == "json":
        print_json(data)
    else:
        print_rows(COLUMNS, rows, fmt)
    if any(r[2] != "pass" for r in rows):
        raise click.exceptions.Exit(1)


COLUMNS = ("unit", "parameters", "verdict", "tests", "contracts", "edges", "bins", "build_s", "run_s")


def _row(o: Outcome) -> list[Any]:
    r = o.record
    equal = sum(c["contract"] == c["rtl"] for c in r.get("cycles", []))
    bins, missed = len(r.get("bins", [])), len(r.get("missed", []))
    return [o.unit, shown(o.params), "pass" if o.ok else "FAIL", f"{len(o.passed)}/{len(o.passed) + len(o.failed)}",
            f"{equal}/{len(r.get('cycles', []))}", r.get("edges", 0),
            f"{bins}/{bins + missed}", round(o.build_s, 2), round(o.run_s, 2)]


def _static(unit: Unit) -> list[Any]:
    """Lint of all parameter sets, and the illegal ones that must stop elaboration."""
    problems = [t for p in (*unit.fast, *unit.thorough) if (t := lint(unit, p))]
    problems += [t for bad in unit.illegal if (t := stops(unit, bad))]
    for text in problems:
        note(f"{unit.name}: {text}")
    total = len(unit.fast) + len(unit.thorough) + len(unit.illegal)
    verdict = "FAIL" if problems else "pass"
    return [unit.name, "lint, illegal sets", verdict, f"{total - len(problems)}/{total}", "", "", "", "", ""]


def _tell(o: Outcome) -> None:
    """Progress and reasons on stderr."""
    note(f"{o.unit} {shown(o.params)} on {o.simulator}: {'pass' if o.ok else 'FAIL'}, seeds "
         f"{o.record.get('seeds')} and {o.record.get('clock_seed')}")
    for test, why in o.failed.items():
        note(f"  {test}: {why}")


# -- faults ----------------------------------------------------------------------------------------------------------

def mutate_units(units: list[Unit], count: int | None, write: bool, fmt: str) -> None:
    """Campaign over units, kept unit by unit; exit code 1 if a fault survives without a written reason."""
    found = []
    for unit in units:
        found.append(mutate.record(unit, mutate.examine(unit, count, tell=_tell_verdict)))
        if write:
            results.store("mutation", found[-1])
    print_rows(results.MUTATION, [results.fault_row(r) for r in found], fmt)
    if any(results.unexplained(r) for r in found):
        raise click.exceptions.Exit(1)


def _tell_verdict(v: mutate.Verdict) -> None:
    what = f"killed by {v.by}" if v.by else f"survives: {v.reason or 'NO REASON WRITTEN'}"
    note(f"{v.fault.file.stem}: {v.fault.key}: {'does not compile' if v.by == 'build' else what}")


# -- coverage --------------------------------------------------------------------------------------------------------

def cover_units(units: list[Unit], write: bool, fmt: str) -> None:
    """Coverage over all parameter sets of each unit, points not reached on stderr; exit code 1 if a unit fails."""
    rows: list[list[Any]] = []
    for unit in units:
        if found := cov.measure(unit, _tell):
            hits, record = found
            rows.append(results.coverage_row(record))
            for point in (p for kind in cov.KINDS for p in cov.missed(hits, kind, tuple(unit.waived))):
                note(f"{unit.name}: {point.kind} not reached: {point}")
            if write:
                results.store("coverage", record)
    print_rows(results.COVERAGE, rows, fmt)
    if len(rows) < len(units):
        raise click.exceptions.Exit(1)


# -- area ------------------------------------------------------------------------------------------------------------

@rtl.command("synth")
@click.argument("units", nargs=-1, metavar="[UNIT]...")
@click.option("--param", "-p", "params", multiple=True, metavar="NAME=N", help="One parameter set in place of the unit's own.")
@click.option("--fpga/--no-fpga", default=True, show_default=True, help="Also map to UltraScale+ LUTs, DSPs and flip-flops.")
@click.option("--write", is_flag=True, help="Keep the figures with the units, for models and READMEs.")
@format_option
def synth_units(units: tuple[str, ...], params: tuple[str, ...], fpga: bool, write: bool, fmt: str) -> None:
    """Synthesise with Yosys: gate equivalents by cell, flip-flops, longest path in cells; LUT, DSP, BRAM on an FPGA."""
    own = parse_params(params)
    if own and (len(units) != 1 or write):
        raise ValueError("--param needs exactly one unit and no --write")
    rows: list[dict[str, Any]] = []
    for unit in chosen_units(units):
        unit.resolve(own)
        for label, chosen in ({"own": own} if own else unit.synth).items():
            rows.append(figures.measure(unit, label, chosen, fpga=fpga))
            note(f"{unit.name} {label}: {rows[-1]['ge']:.0f} GE")
    if write:
        figures.store(rows)
        results.PAGE.write_text(results.page(), encoding="utf-8")
    if fmt == "json":
        print_json(rows)
        return
    print_rows(figures.COLUMNS, [[shown(r["parameters"]) if c == "parameters" else r.get(c, "") for c in figures.COLUMNS]
                                 for r in rows], fmt)


rtl.add_command(compare)


# -- a user's own ----------------------------------------------------------------------------------------------------

@rtl.command("inspect")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@format_option
def inspect_file(file: str, fmt: str) -> None:
    """Parameters, ports, instances and registers of the modules in a Verilog file, as pyverilog reads it.

    Plain Verilog-2005; what the parser does not support is told with its line and what to write instead. Bits are those of
    the text: W for [W-1:0], "8 x 16" for a memory of 16 words. A register is what a clocked <= writes.
    """
    rows: list[list[str]] = []
    for m in inspect(Path(file)):
        rows += [[m.name, "parameter", n, "", default] for n, default in m.parameters.items()]
        rows += [[m.name, p.direction, p.name, p.width, ""] for p in m.ports]
        rows += [[m.name, "instance", n, "", of] for of, n in m.instances]
        rows += [[m.name, "register", n, width, ""] for n, width in m.registers.items()]
    print_rows(("module", "what", "name", "bits", "default_or_module"), rows, fmt)


@rtl.command("new")
@click.argument("name")
@click.option("--dir", "folder", type=click.Path(file_okay=False), default=".", show_default=True, help="Where to write it.")
def new_unit(name: str, folder: str) -> None:
    """Write a working unit to start from: Verilog, golden model, contract, bench, README. It passes as it is."""
    for path in skeleton(name, Path(folder)):
        click.echo(str(path))
    note(f"next: perfboard rtl verify {Path(folder, name) if Path(folder).is_absolute() else './' + str(Path(folder, name))}")
