"""``perfboard rtl verify``: units against golden model, contract and cycle model; faults put into them; coverage."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from rtl.harness import coverage as cov
from rtl.harness import kept, mutate, results
from rtl.harness.junit import junit
from rtl.harness.lint import lint, stops
from rtl.harness.registry import fingerprint
from rtl.harness.run import SEEDS, Outcome, verify
from rtl.harness.unit import Params, Unit
from sim.output import note, print_json, print_rows
from validate.rtl_compare import shown

COLUMNS = ("unit", "parameters", "verdict", "tests", "contracts", "edges", "bins", "build_s", "run_s")
#: Seconds that one run may take: a thorough one of the largest unit takes a minute or two.
LIMIT_S = 3600.0


@dataclass(frozen=True)
class Task:
    """One run: a unit with one parameter set, or (``params`` is ``None``) its lint and its illegal parameter sets."""

    unit: Unit
    params: Params | None
    stem: str


@dataclass(frozen=True)
class Wish:
    """How to run. ``own``: one parameter set in place of the units'. ``waves``, ``out``: directories to write to."""

    own: Params
    thorough: bool
    fresh: bool
    simulator: str
    seed: int | None
    waves: Path | None
    out: Path | None


def tasks(units: Sequence[Unit], wish: Wish) -> list[Task]:
    """All runs, unit by unit. Raises ``ValueError`` for a parameter that a unit does not have."""
    found: list[Task] = []
    for unit in units:
        unit.resolve(wish.own)
        sets = [wish.own] if wish.own else [*unit.fast, *(unit.thorough if wish.thorough else ())]
        found += [Task(unit, p, f"{unit.name}-{i}") for i, p in enumerate(sets)]
        if not wish.own:
            found.append(Task(unit, None, f"{unit.name}-lint"))
    return found


def verify_units(units: Sequence[Unit], wish: Wish, fmt: str) -> None:
    """Run everything and show it; exit code 1 if anything fails. Runs of the thorough tier that passed are kept."""
    todo, done = tasks(units, wish), []
    for i, task in enumerate(todo, 1):
        out, before = one(task, wish)
        tell(out, f"[{i}/{len(todo)}] ", ", kept from before" * before)
        done.append(out)
        if wish.out:
            wish.out.mkdir(parents=True, exist_ok=True)
            (wish.out / f"{task.stem}.json").write_text(json.dumps(out.as_data(), indent=2) + "\n", encoding="utf-8")
            (wish.out / f"{task.stem}.xml").write_text(junit([out]), encoding="utf-8")
    if fmt == "json":
        print_json([o.as_data() for o in done])
    else:
        print_rows(COLUMNS, [row(o) for o in done], fmt)
    if not all(o.ok for o in done):
        raise click.exceptions.Exit(1)


def one(task: Task, wish: Wish) -> tuple[Outcome, bool]:
    """A run, and whether it was kept from before. Waves need a run of their own."""
    if task.params is None:
        return static(task.unit), False
    first, count = SEEDS["thorough" if wish.thorough else "fast"]
    seeds = (first if wish.seed is None else wish.seed, count)
    place = kept.place(task.unit, task.params, wish.simulator, seeds) if wish.thorough else None
    if place and not wish.fresh and not wish.waves and (before := kept.load(place)):
        return before, True
    ending = "vcd" if wish.simulator == "verilator" else "fst"
    out = verify(task.unit, task.params, simulator=wish.simulator, seeds=seeds, limit=LIMIT_S,
                 waves=wish.waves / f"{task.stem}.{ending}" if wish.waves else None)
    if place and out.ok:
        kept.keep(place, out)
    return out, False


def static(unit: Unit) -> Outcome:
    """Lint of all parameter sets, and the illegal ones that must stop elaboration, as a run."""
    out, start = Outcome(unit.name, {}, "lint"), time.monotonic()
    found = {f"lint {shown(p)}": lint(unit, p) for p in (*unit.fast, *unit.thorough)}
    found |= {f"illegal {shown(bad.params)}": stops(unit, bad) for bad in unit.illegal}
    out.run_s = time.monotonic() - start
    out.passed = [name for name, why in found.items() if not why]
    out.failed = {name: why for name, why in found.items() if why}
    return out


def row(o: Outcome) -> list[Any]:
    """One line of the table; a lint has no cycles, edges or bins."""
    r = o.record
    head = [o.unit, "lint, illegal sets" if o.simulator == "lint" else shown(o.params), "pass" if o.ok else "FAIL",
            f"{len(o.passed)}/{len(o.passed) + len(o.failed)}"]
    if o.simulator == "lint":
        return [*head, "", "", "", "", ""]
    equal, bins = sum(c["contract"] == c["rtl"] for c in r.get("cycles", [])), len(r.get("bins", []))
    return [*head, f"{equal}/{len(r.get('cycles', []))}", r.get("edges", 0), f"{bins}/{bins + len(r.get('missed', []))}",
            round(o.build_s, 2), round(o.run_s, 2)]


def tell(o: Outcome, before: str = "", after: str = "") -> None:
    """Progress and reasons on stderr."""
    seeds = f", seeds {o.record['seeds']} and {o.record['clock_seed']}" if "seeds" in o.record else ""
    what = "lint, illegal sets" if o.simulator == "lint" else f"{shown(o.params)} on {o.simulator}"
    note(f"{before}{o.unit} {what}: {'pass' if o.ok else 'FAIL'}{seeds}, {o.build_s + o.run_s:.1f} s{after}")
    for test, why in o.failed.items():
        note(f"  {test}: {why}")


# -- faults ----------------------------------------------------------------------------------------------------------

def mutate_units(units: Sequence[Unit], count: int | None, write: bool, fmt: str) -> None:
    """Campaign over units, kept unit by unit; exit code 1 if a fault survives without a written reason."""
    found = []
    for unit in units:
        text = fingerprint(unit)
        found.append(mutate.record(unit, mutate.examine(unit, count, tell=_tell_verdict), text))
        if write:
            results.store("mutation", found[-1])
    print_rows(results.MUTATION, [results.fault_row(r) for r in found], fmt)
    if any(results.unexplained(r) for r in found):
        raise click.exceptions.Exit(1)


def _tell_verdict(v: mutate.Verdict) -> None:
    what = f"killed by {v.by}" if v.by else f"survives: {v.reason or 'NO REASON WRITTEN'}"
    note(f"{v.fault.file.stem}: {v.fault.key}: {'does not compile' if v.by == 'build' else what}")


# -- coverage --------------------------------------------------------------------------------------------------------

def cover_units(units: Sequence[Unit], write: bool, fmt: str) -> None:
    """Coverage over all parameter sets of each unit, points not reached on stderr; exit code 1 if a unit fails."""
    rows: list[list[Any]] = []
    for unit in units:
        if found := cov.measure(unit, tell):
            hits, record = found
            rows.append(results.coverage_row(record))
            for point in (p for kind in cov.KINDS for p in cov.missed(hits, kind, tuple(unit.waived))):
                note(f"{unit.name}: {point.kind} not reached: {point}")
            if write:
                results.store("coverage", record)
    print_rows(results.COVERAGE, rows, fmt)
    if len(rows) < len(units):
        raise click.exceptions.Exit(1)
