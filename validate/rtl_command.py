"""``perfboard rtl``: hardware units from Verilog to figures that the models use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rtl.harness import figures, registry, results
from rtl.harness.interface import inspect
from rtl.harness.new import skeleton
from rtl.harness.toolchain import SIMULATORS, MissingToolError
from rtl.harness.unit import Params, Unit
from sim.output import format_option, note, print_json, print_rows
from validate.rtl_compare import compare, shown
from validate.rtl_verify import Wish, cover_units, mutate_units, verify_units


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
    """Hardware units: lookup-table and bit-serial compute in Verilog, verified, synthesised, compared with their models.

    UNIT is a name of `perfboard rtl list`, or the folder of your own, with a slash: ./my_unit. Needs the extra 'rtl', a C++
    compiler and make; `perfboard doctor` tells what is missing.

    \b
    perfboard rtl list
    perfboard rtl verify lut_dot
    perfboard rtl compare --only area --figure area.svg
    perfboard rtl new my_unit
    """


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


@rtl.command("list", short_help="All units: parameters, parameter sets, what they are.")
@format_option
def list_units(fmt: str) -> None:
    """All units: class, parameters, parameter sets, what they are.

    Class R: rigid pipeline, every stall delays it by one edge; R*: stages close gaps; E: decoupled, cycles are bounded.
    sets: parameter sets that verify runs; sets_thorough: with --thorough.
    """
    rows = [[u.name, u.law, " ".join(f"{k}={v}" for k, v in u.resolve({}).items()), len(u.fast), len(u.fast) + len(u.thorough),
             u.text] for u in chosen_units(())]
    print_rows(("unit", "class", "parameters", "sets", "sets_thorough", "what"), rows, fmt)


@rtl.command("verify", short_help="Prove units in a simulator; faults; coverage.")
@click.argument("units", nargs=-1, metavar="[UNIT]...")
@click.option("--param", "-p", "params", multiple=True, metavar="NAME=N", help="One parameter set in place of the unit's own.")
@click.option("--thorough", is_flag=True, help="All parameter sets, seeds 0..1023.")
@click.option("--fresh", is_flag=True, help="Run again what --thorough has kept.")
@click.option("--seed", type=int, default=None, help="First seed in place of 0; the number of seeds stays.")
@click.option("--simulator", type=click.Choice(SIMULATORS), default="verilator", show_default=True)
@click.option("--waves", type=click.Path(file_okay=False, path_type=Path), default=None,
              help="Write one waveform per run to this directory.")
@click.option("--mutants", type=int, default=None, metavar="N",
              help="Instead: put the listed faults and N generated ones (0: all) into the Verilog and see that tests notice.")
@click.option("--coverage", is_flag=True, help="Instead: line, branch and toggle coverage over all parameter sets.")
@click.option("--write", is_flag=True, help="Keep the result of --mutants or --coverage with the units (rtl/RESULTS.md).")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=None,
              help="Write JUnit and JSON per run to this directory.")
@format_option
def verify_command(units: tuple[str, ...], params: tuple[str, ...], thorough: bool, fresh: bool, seed: int | None,
                   simulator: str, waves: Path | None, mutants: int | None, coverage: bool, write: bool, out: Path | None,
                   fmt: str) -> None:
    """Prove units against golden model, cycle contract and cycle model. Exit code 1 if any test fails.

    The thorough tier keeps each run that passed: interrupted and called again, it goes on where it was.
    """
    own, chosen = parse_params(params), chosen_units(units)
    if mutants is not None or coverage:
        if mutants is not None and coverage:
            raise ValueError("--mutants and --coverage are two runs: one of them")
        if simulator != "verilator" or own:
            raise ValueError("--mutants and --coverage take all parameter sets on Verilator: no --param, no --simulator")
        given = {"--thorough": thorough, "--fresh": fresh, "--seed": seed is not None, "--waves": waves, "--out": out}
        if unused := [option for option, there in given.items() if there]:
            raise ValueError(f"{', '.join(unused)}: not with --mutants or --coverage, which have runs of their own")
        if coverage:
            cover_units(chosen, write, fmt)
        else:
            mutate_units(chosen, mutants or None, write, fmt)
        return
    if write:
        raise ValueError("--write keeps the result of --mutants or --coverage; results of plain runs go to --out DIR")
    if fresh and not thorough:
        raise ValueError("--fresh runs again what --thorough has kept: give both")
    if own and len(units) != 1:
        raise ValueError("--param needs exactly one unit")
    verify_units(chosen, Wish(own, thorough, fresh, simulator, seed, waves, out), fmt)


# -- area ------------------------------------------------------------------------------------------------------------

@rtl.command("synth", short_help="Gate equivalents, LUT, DSP by Yosys.")
@click.argument("units", nargs=-1, metavar="[UNIT]...")
@click.option("--param", "-p", "params", multiple=True, metavar="NAME=N", help="One parameter set in place of the unit's own.")
@click.option("--fpga/--no-fpga", default=True, show_default=True, help="Also map to UltraScale+ LUTs, DSPs and flip-flops.")
@click.option("--write", is_flag=True, help="Keep the figures with the units, for models and READMEs.")
@format_option
def synth_units(units: tuple[str, ...], params: tuple[str, ...], fpga: bool, write: bool, fmt: str) -> None:
    """Synthesise with Yosys: gate equivalents by cell, flip-flops, longest path in cells; LUT, DSP, BRAM on an FPGA.

    GE: NAND2 equivalents by generic mapping, without timing and wiring: for ratios of units built alike. FPGA: UltraScale+.
    ge_reference, ge_ratio: of a prototype that the unit was specified with. JSON also holds every cell's count.

    \b
    perfboard rtl synth lut_dot
    perfboard rtl synth bitserial_mac --param LANES=8 --no-fpga
    """
    own = parse_params(params)
    if own and (len(units) != 1 or write):
        raise ValueError("--param needs exactly one unit and no --write")
    if write and not fpga:
        raise ValueError("--write keeps the figures of both flows: no --no-fpga")
    rows: list[dict[str, Any]] = []
    for unit in chosen_units(units):
        unit.resolve(own)
        first = len(rows)
        for label, chosen in ({"own": own} if own else unit.synth).items():
            rows.append(figures.measure(unit, label, chosen, fpga=fpga))
            note(f"{unit.name} {label}: {rows[-1]['ge']:.0f} GE")
        if write:
            figures.store(unit, rows[first:])
            note(f"wrote {registry.kept_in(unit)}")
    if write:
        results.PAGE.write_text(results.page(), encoding="utf-8")
    if fmt == "json":
        print_json(rows)
        return
    columns = [c for c in figures.COLUMNS if fmt != "table" or any(r.get(c, "") not in ("", None) for r in rows)]
    print_rows(columns, [[shown(r["parameters"]) if c == "parameters" else r.get(c, "") for c in columns] for r in rows], fmt,
               right=[c for c in columns if c not in ("unit", "build", "parameters")])


rtl.add_command(compare)


# -- a user's own ----------------------------------------------------------------------------------------------------

@rtl.command("inspect", short_help="What a Verilog file holds.")
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


@rtl.command("new", short_help="A unit of your own to start from.")
@click.argument("name")
@click.option("--dir", "folder", type=click.Path(file_okay=False), default=".", show_default=True, help="Where to write it.")
def new_unit(name: str, folder: str) -> None:
    """Write a working unit to start from: Verilog, golden model, contract, bench, README, engine. It passes as it is.

    NAME is a Verilog and Python name in lower case. From here to a device made of the unit: docs/own_unit.md.
    """
    for path in skeleton(name, Path(folder)):
        click.echo(str(path))
    where = Path(folder, name) if Path(folder).is_absolute() else f"./{Path(folder, name)}"
    note(f"next: perfboard rtl verify {where}   (then synth {where} --write; docs/own_unit.md)")
