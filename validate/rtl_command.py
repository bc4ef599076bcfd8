"""``perfboard rtl``: hardware units from Verilog to figures that the models use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rtl.harness import registry
from rtl.harness.lint import lint, stops
from rtl.harness.run import SEEDS, Outcome, verify
from rtl.harness.toolchain import SIMULATORS, MissingToolError
from rtl.harness.unit import Params, Unit
from sim.output import format_option, note, print_json, print_rows


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


def shown(params: Params) -> str:
    return " ".join(f"{k}={v}" for k, v in params.items()) or "default"


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
@click.option("--out", type=click.Path(file_okay=False), default=None, help="Write JUnit and JSON per run to this directory.")
@format_option
def verify_units(units: tuple[str, ...], params: tuple[str, ...], thorough: bool, seed: int | None, simulator: str,
                 waves: str | None, out: str | None, fmt: str) -> None:
    """Prove units against golden model, cycle contract and cycle model. Exit code 1 if any test fails."""
    own = parse_params(params)
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
