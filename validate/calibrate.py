"""``perfboard calibrate``: measure this machine, import others' measurements, fit parameters to either."""

from __future__ import annotations

import datetime
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from accel_models.fitted_store import FittedFile, ParameterSet
from accel_models.registry import load_device
from sim.output import format_option, note, print_json, print_rows
from validate import fit_attention, fit_collective, fit_elementwise, fit_gemm, fit_moe
from validate.calibrate_fit import KEPT, Own, fit_devices
from validate.import_command import import_
from validate.measure import measure
from validate.measured import Table, data_dir, read
from validate.study import Problem

#: Op -> its problem and the reading of its table, those of the fits that came with the package.
OPS: dict[str, tuple[Problem, Callable[[Path], Table]]] = {
    "gemm": (fit_gemm.PROBLEM, fit_gemm.table), "elementwise": (fit_elementwise.PROBLEM, fit_elementwise.table),
    "attention": (fit_attention.PROBLEM, fit_attention.table), "moe": (fit_moe.PROBLEM, fit_moe.table),
    "collective": (fit_collective.PROBLEM, fit_collective.table),
}
#: The suite's attention kernel is a yardstick, not the library that one serves with: fitted only when asked for.
DEFAULT = "gemm,elementwise,moe,collective"
#: Frameworks of the suite's own kernels; their sets never stand for "any framework".
OWN_KERNELS = "perfboard-"


@click.group()
def calibrate() -> None:
    """Measure this machine, import others' measurements, fit parameters to either."""


@calibrate.command()
@click.option("--data", default=None, metavar="DIR", help="Measured tables (or PERFBOARD_DATA).")
@click.option("--device-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=None,
              help="Device file of a machine that does not come with the package; rows under its name are fitted.")
@click.option("--device", default="", metavar="NAME", help="Fit the rows of this device alone.")
@click.option("--op", "ops", default=DEFAULT, show_default=True, metavar="OP,...", help=f"Of {', '.join(OPS)}.")
@click.option("--output", "-o", type=click.Path(file_okay=False, path_type=Path), default=Path("fitted"), show_default=True,
              help="Directory of the overlay.")
@format_option
def fit(data: str | None, device_file: Path | None, device: str, ops: str, output: Path, fmt: str) -> int:
    """Fit named parameters to measured rows and write them as an overlay.

    A third of the shape families is held back from the fit; the table shows the error on them before (what a look-up
    gives today) and after. A parameter that the rows cannot determine keeps its value, and this is said. Nothing is
    written where the error does not fall. Use it with PERFBOARD_FITTED=DIR or `perfboard --fitted DIR ...`.
    """
    directory, chosen = data_dir(data), [op for op in ops.split(",") if op]
    if unknown := [op for op in chosen if op not in OPS]:
        raise ValueError(f"--op {unknown[0]}: no such fit; known: {', '.join(OPS)}")
    found: dict[str, list[Own]] = {}
    for op in chosen:
        if (directory / f"{op}.csv").exists():
            found[op], digest = fit_table(op, directory, device_file, device)
            if sets := overlay_sets(found[op]):
                write_overlay(op, sets, digest, directory, output)
    if not any(found.values()):
        raise ValueError(f"{directory}: no rows to fit of {', '.join(chosen)}"
                         + (f" under {device or 'the device file'}" if device or device_file else ""))
    _show(found, fmt)
    written = [op for op, own in found.items() if any(o.made for o in own)]
    if not written:
        note("nothing written: no set fell in error on held-back rows")
        return 1
    files = ", ".join(str(output / f"{op}.toml") for op in written)
    note(f"wrote {files}; use: PERFBOARD_FITTED={output} perfboard whatif ...")
    return 0


calibrate.add_command(measure)
calibrate.add_command(import_)


def fit_table(op: str, directory: Path, device_file: Path | None = None, device: str = "") -> tuple[list[Own], str]:
    """Fits of one table, by variant, device and framework; and the hash of the rows they rest on."""
    problem, table = OPS[op]
    if device_file is None:
        rows = table(directory)
        if device:
            rows = rows.where(rows["device"] == device)
        return list(fit_devices(problem, rows)), rows.digest()
    name = load_device(device_file).name
    with tempfile.TemporaryDirectory() as scratch:
        # The readings find a device by the name in its rows: for one with a file of its own that name is the path.
        path = str(device_file if "/" in str(device_file) else device_file.resolve())
        text = _renamed(read(op, directory), name, path)
        (Path(scratch) / f"{op}.csv").write_text(text, encoding="utf-8")
        rows = table(Path(scratch))
    return [_named(own, name) for own in fit_devices(problem, rows)], _renamed_digest(rows, name)


def _renamed(rows: Table, name: str, path: str) -> str:
    """Rows of one device as CSV text, the device named by its file."""
    mine = rows.where(rows["device"] == name)
    if not len(mine):
        raise ValueError(f"{rows.name}.csv: no rows of device {name!r} (the name in the device file); "
                         f"it has {', '.join(sorted(set(map(str, rows['device'])))[:5])}")
    columns = dict(mine.columns) | {"device": [path] * len(mine)}
    lines = [",".join(columns)]
    for cells in zip(*columns.values(), strict=True):
        lines.append(",".join("" if isinstance(c, float) and c != c else _quoted(str(c)) for c in cells))
    return "\n".join(lines) + "\n"


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\n') else cell


def _renamed_digest(rows: Table, name: str) -> str:
    """Hash of the rows under the device's own name, so that it does not depend on where its file lies."""
    columns = {k: v.copy() for k, v in rows.columns.items()}
    columns["device"][:] = name
    return Table(rows.name, columns).digest()


def _named(own: Own, name: str) -> Own:
    made = own.made.model_copy(update={"device": name}) if own.made else None
    return own._replace(device=name, made=made)


def overlay_sets(found: Sequence[Own]) -> list[ParameterSet]:
    """Sets to write: each as it was fitted, and for each device and variant the one with most rows for any framework."""
    made = [o.made for o in found if o.made]
    general: dict[tuple[str, str], ParameterSet] = {}
    for s in sorted(made, key=lambda s: s.n_rows):
        if not s.framework.startswith(OWN_KERNELS):
            general[s.variant, s.device] = s.model_copy(update={"framework": ""})
    return [*made, *(s for s in general.values() if s not in made)]


def write_overlay(op: str, sets: Sequence[ParameterSet], digest: str, data: Path, output: Path) -> None:
    """One file of an overlay directory, in the form of the shipped ones."""
    output.mkdir(parents=True, exist_ok=True)
    file = FittedFile(op=op, formula=OPS[op][0].formula, source=f"perfboard calibrate fit --data {os.path.basename(data)}",
                      data_sha256=digest, date=datetime.date.today().isoformat(), set=tuple(sets))
    lines = [f"{k} = {json.dumps(getattr(file, k))}" for k in ("op", "formula", "source", "data_sha256", "date")]
    for s in file.set:
        lines += ["", "[[set]]"]
        lines += [f"{k} = {json.dumps(getattr(s, k))}" for k in ("variant", "device", "generation", "framework")]
        lines += [f"n_rows = {s.n_rows}", f"mape = {s.mape!r}"]
        lines += [f"{k} = {_inline(getattr(s, k))}" for k in ("values", "stderr", "lo", "hi", "range") if getattr(s, k)]
    (output / f"{op}.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _inline(table: dict[str, float | tuple[float, float]]) -> str:
    return "{ " + ", ".join(f"{k} = {list(v) if isinstance(v, tuple) else v!r}" for k, v in table.items()) + " }"


def _show(found: dict[str, list[Own]], fmt: str) -> None:
    head = ("op", "variant", "device", "framework", "rows", "held_back", "before_percent", "after_percent", "start",
            "outcome")
    rows = [[op, o.variant, o.device, o.framework, o.n_fit, o.n_held, _percent(o.before), _percent(o.after), o.source,
             o.refused or "written"] for op, each in found.items() for o in each]
    detail = ("op", "variant", "framework", "parameter", "start", "value", "stderr", "verdict")
    verdicts = [[op, o.variant, o.framework, v.name, v.start, v.value,
                 None if v.status == KEPT else round(v.stderr, 3), v.status]
                for op, each in found.items() for o in each for v in o.verdicts]
    if fmt == "json":
        print_json({"fits": [dict(zip(head, r, strict=True)) for r in rows],
                    "parameters": [dict(zip(detail, r, strict=True)) for r in verdicts]})
        return
    print_rows(detail, verdicts, fmt, right=detail[4:7])
    print_rows(head, rows, fmt, right=head[4:8])


def _percent(x: float) -> float | None:
    return round(100 * x, 1) if x == x else None
