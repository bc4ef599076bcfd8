"""``perfboard hw``: what the devices and systems are, where each figure comes from, and how to make a new one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from accel_models.bind import bind
from accel_models.device import Device, Quantity
from accel_models.device_file import to_toml
from accel_models.families import other_way
from accel_models.quantity import BASE, format_quantity
from accel_models.registry import (
    System,
    list_devices,
    list_systems,
    load_device,
    load_system,
)
from accel_models.units import unit_names
from sim.answer import grounds
from sim.output import format_option, note, print_json, print_rows
from workloads.formats import get_format

KINDS = ("gpu", "npu", "fpga", "cpu", "tpu", "phone", "flash", "accelerator", "system")


@click.group()
def hw() -> None:
    """Devices and systems: show, list, check, new, diff."""


@hw.command()
@click.argument("name")
@format_option
def show(name: str, fmt: str) -> None:
    """Every figure of a device or system NAME (or file), with its kind and source."""
    system = load_system(name)
    if fmt == "json":
        print_json(_as_dict(system))
    elif system.n_devices == 1 and len(system.device) == 1:
        _show_device(system.main, fmt)
    else:
        _show_system(system, fmt)


@hw.command(name="list")
@click.option("--kind", type=click.Choice(KINDS), help="Only devices of this kind, or systems.")
@format_option
def list_(kind: str | None, fmt: str) -> None:
    """All shipped devices and systems with their main figures (dense rates, per device)."""
    rows = [_summary(load_device(n)) for n in list_devices()] if kind != "system" else []
    rows = [r for r in rows if kind in (None, r[1])]
    if kind in (None, "system"):
        rows += [[n, "system", *_summary(load_system(n).main)[2:-1], load_system(n).title] for n in list_systems()]
    columns = ["name", "kind", "generation", "memory_gib", "bandwidth_gb_per_s", "tflop_per_s_16bit", "tdp_w", "title"]
    print_rows(columns, rows, fmt, right=columns[3:7])


@hw.command()
@click.argument("files", nargs=-1, required=True, type=click.Path())
@format_option
@click.pass_context
def check(ctx: click.Context, files: Sequence[str], fmt: str) -> None:
    """Read device or system FILES and say what is wrong with each; exit code 2 if anything is."""
    rows = [_checked(f) for f in files]
    print_rows(["file", "status", "message"], rows, fmt)
    if any(r[1] == "error" for r in rows):
        ctx.exit(2)


@hw.command()
@click.argument("name")
@click.option("--from", "base", required=True, metavar="BASE", help="Device to start from: a name or a file.")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Change a figure: hw.mem_bw=6TB/s. Repeatable.")
@click.option("-o", "--output", metavar="FILE", help="File to write (default: NAME.toml here).")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def new(name: str, base: str, sets: Sequence[str], output: str | None, force: bool) -> None:
    """Write a device file that differs from BASE in a few figures; use it as --hw ./NAME.toml."""
    path = Path(output or f"{name}.toml")
    if path.exists() and not force:
        raise ValueError(f"{path}: exists already; choose another name with -o, or overwrite with --force")
    start = load_device(base)
    device = apply_sets(start, sets)
    shipped = start.name in list_devices() and not start.base and not base.endswith(".toml")
    root_name = start.name if shipped else start.base
    root = load_device(root_name) if root_name else None
    told = {"name": name, "title": f"{name}, from {start.title.rpartition(', from ')[2]}", "base": root_name}
    device = device.model_copy(update={**told, "aliases": (), "notes": ""})
    path.write_text(to_toml(device, root), encoding="utf-8")
    load_device(path if path.suffix == ".toml" else path.resolve())
    note(f"wrote {path}; use it as --hw {path if '/' in str(path) else f'./{path}'}")
    click.echo(str(path))


@hw.command()
@click.argument("a")
@click.argument("b")
@format_option
def diff(a: str, b: str, fmt: str) -> None:
    """Figures in which device B differs from device A, and by what factor."""
    left, right = load_device(a), load_device(b)
    ours, theirs = _aligned(left), _aligned(right)
    rows: list[list[Any]] = [[f"engine.{e}.kind", *kinds, None] for e in dict.fromkeys((*left.engine, *right.engine))
                             if len(set(kinds := [d.engine[e].kind if e in d.engine else None for d in (left, right)])) > 1]
    for key in [*ours, *(k for k in theirs if k not in ours)]:
        p, q = ours.get(key), theirs.get(key)
        if p is None or q is None or not math.isclose(p.value, q.value, rel_tol=1e-9):
            ratio = q.value / p.value if p and q and p.value else None
            rows.append([key, str(p) if p else None, str(q) if q else None, ratio])
    products = [unit_rates(d) for d in (left, right)]
    for pair in dict.fromkeys((*products[0], *products[1])):
        a_, b_ = (found.get(pair) for found in products)
        if a_ != b_:
            rows.append([f"products {pair}", *(format_quantity(x, "ops/s") if x else None for x in (a_, b_)),
                         b_ / a_ if a_ and b_ else None])
    print_rows(["parameter", left.name, right.name, "ratio"], rows, fmt, right=("ratio",))


def apply_sets(device: Device, sets: Sequence[str]) -> Device:
    """The device with each ``KEY=VALUE`` applied; ``ValueError`` names what is wrong."""
    for text in sets:
        key, sign, value = text.partition("=")
        if not sign or not key.strip() or not value.strip():
            raise ValueError(f"--set {text!r}: expected KEY=VALUE, e.g. memory.hbm.bandwidth=6TB/s")
        device = device.with_value(key.strip(), value.strip())
    return device


def _show_device(device: Device, fmt: str) -> None:
    rows = [[key, str(q), q.kind, _short(q.source), q.note] for key, q in device.quantities().items()]
    print_rows(["parameter", "value", "kind", "source", "note"], rows, fmt, title=f"{device.name}: {device.title}")
    if fmt != "table":
        return
    products = [f"{pair} {format_quantity(rate, 'ops/s')}" for pair, rate in unit_rates(device).items()]
    elsewhere = "on the vector engine " if products and device.kind != "gpu" else ""
    lines = (device.notes, f"engine.matrix: kind {device.matrix.kind}" if device.matrix and device.matrix.kind else "",
             f"products (activations x weights): {', '.join(products)}" if products else "",
             *(f"{k}: {v}" for k, v in grounds(device).items()), elsewhere + _fallbacks(device) if _fallbacks(device) else "")
    for text in filter(None, lines):
        note(text)
    assumed = device.assumed()
    note(f"{len(rows)} figures, {len(assumed)} assumed{': ' if assumed else ''}{', '.join(assumed)}")


def _show_system(system: System, fmt: str) -> None:
    rows: list[list[Any]] = []
    for part, device in zip(system.device, system.devices, strict=True):
        link = device.link[part.link] if part.link else None
        rows.append([f"{part.count} x {device.name}", part.link, part.domain or part.count,
                     str(link.bandwidth) if link else None, link.bandwidth.note if link else None])
    if system.network:
        q = system.network.bandwidth
        rows.append([f"network between {system.nodes} nodes", system.network.kind, None, str(q), q.note])
    columns = ["part", "link", "devices_in_domain", "bandwidth_per_direction", "note"]
    print_rows(columns, rows, fmt, title=f"{system.name}: {system.title}")
    if fmt == "table" and system.notes:
        note(system.notes)


def _as_dict(system: System) -> dict[str, Any]:
    if system.n_devices == 1 and len(system.device) == 1:
        return _device_dict(system.main)
    network = system.network
    return {
        "name": system.name, "title": system.title, "kind": "system", "nodes": system.nodes, "notes": system.notes,
        "parts": [{"device": p.name, "count": p.count, "link": p.link, "devices_in_domain": p.domain or p.count}
                  for p in system.device],
        "network": {"kind": network.kind, "bandwidth_bytes_per_s": network.bandwidth.value,
                    "latency_s": network.latency.value if network.latency else None} if network else None,
        "devices": [_device_dict(d) for d in system.devices],
    }


def _device_dict(device: Device) -> dict[str, Any]:
    head = {k: getattr(device, k) for k in ("name", "title", "vendor", "kind", "generation", "year", "base", "notes")}
    parameters = {key: {"value": q.value, "unit": BASE[q.dimension][0], "text": str(q), "kind": q.kind,
                        "source": q.source, "note": q.note} for key, q in device.quantities().items()}
    return head | {"aliases": list(device.aliases), "main_memory": device.main_memory, "parameters": parameters,
                   "assumed": device.assumed()}


def _summary(device: Device) -> list[Any]:
    main = device.main
    try:
        rate: float | None = device.rate("bf16") / 1e12
    except ValueError:
        rate = None
    tdp = device.power.tdp
    return [device.name, device.kind, device.generation, main.capacity.value / 2**30 if main.capacity else None,
            main.bandwidth.value / 1e9 if main.bandwidth else None, rate, tdp.value if tdp else None, device.title]


#: Products (activations, weights) that are named of engines made of units.
_PRODUCTS = (*((a, w) for a in ("fp16", "int8") for w in ("fp16", "int8", "int4", "int3", "int2", "ternary", "pot4", "pot3")),
             ("int4", "int4"), ("bit8", "bit1"), ("bit1", "bit1"))


def unit_rates(device: Device) -> dict[str, float]:
    """Products that the units of an engine take, as "int8 x int2", and their rate with full tiles [op/s]; none of others."""
    if device.matrix is None or not unit_names(device.matrix.kind):
        return {}
    hardware = bind([device])
    found = {f"{a} x {w}": float(other_way(get_format(a), get_format(w), hardware)[0]) for a, w in _PRODUCTS}
    return {pair: float(f"{rate:.4g}") for pair, rate in found.items() if rate > 0}


def _fallbacks(device: Device) -> str:
    """Formats that this device computes in another one, in one line."""
    used: dict[str, list[str]] = {}
    for fmt in ("bf16", "fp8", "int8", "int4", "fp4"):
        try:
            found = device.fallback(fmt)
        except ValueError:
            continue
        if found.fmt != fmt:
            used.setdefault(found.fmt, []).append(fmt)
    return "; ".join(f"{', '.join(fmts)} computed in {to}" for to, fmts in used.items())


def _checked(file: str) -> list[Any]:
    try:
        system = load_system(file if file.endswith(".toml") else str(Path(file).absolute()))
    except ValueError as error:
        text = str(error)
        return [file, "error", text.removeprefix(f"{Path(file).name}: ")]
    odd = [f"{d.name}: {t}" for d in system.devices for t in implausible(d)]
    figures = sum(len(d.quantities()) for d in system.devices)
    assumed = sum(len(d.assumed()) for d in system.devices)
    return [file, "doubtful" if odd else "ok", "; ".join(odd) or f"{figures} figures, {assumed} assumed"]


def implausible(device: Device) -> list[str]:
    """Figures that are possible but look like a slip of unit: each with what made it suspicious."""
    found = []
    main, matrix = device.main, device.matrix
    if main.capacity and device.kind != "flash" and not 2**26 <= main.capacity.value <= 2**43:
        found.append(f"memory.{device.main_memory}.capacity = {main.capacity}: not between 64 MiB and 8 TiB")
    if main.bandwidth and main.bandwidth.value > 1e14:
        found.append(f"memory.{device.main_memory}.bandwidth = {main.bandwidth}: above 100 TB/s")
    if matrix and matrix.clock and not 1e7 <= matrix.clock.value <= 1e10:
        found.append(f"engine.matrix.clock = {matrix.clock}: not between 10 MHz and 10 GHz")
    rates = device.rates()
    for wide, narrow in (("fp32", "bf16"), ("bf16", "fp8"), ("fp16", "int8")):
        if wide in rates and narrow in rates and rates[narrow] < 0.3 * rates[wide]:
            found.append(f"rate.{narrow} is below 0.3 of rate.{wide}: a missing factor of 1000, or the wrong unit?")
    return found


def _aligned(device: Device) -> dict[str, Quantity]:
    """Figures by key, with the main memory under one name so that HBM and GDDR compare."""
    name = f"memory.{device.main_memory}."
    found = device.quantities().items()
    return {("memory.main." + k.removeprefix(name) if k.startswith(name) else k): q for k, q in found}


def _short(source: str) -> str:
    """A repository's owner/name/.../file instead of a long pinned address."""
    if not source.startswith("https://github.com/"):
        return source if len(source) <= 60 else source[:57] + "..."
    parts = source.removeprefix("https://github.com/").split("/")
    return "/".join(parts) if len(parts) <= 3 else f"{parts[0]}/{parts[1]}/.../{parts[-1]}"
