"""Device files: their content checked and laid over that of a base, and a device written back as TOML."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from accel_models import units
from accel_models.device import Device, Engine, Quantity
from accel_models.quantity import format_quantity

_HEAD = ("name", "title", "vendor", "kind", "generation", "aliases", "base", "year", "main_memory", "notes")
_SECTIONS = ("engine", "memory", "link", "power", "price", "area", "overhead")


def to_toml(device: Device, root: Device | None = None) -> str:
    """File text. With ``root`` (``device.base``) only the tables and figures that differ from it are written."""
    lines = []
    for field in _HEAD:
        value = getattr(device, field)
        inherited = root is not None and field not in ("name", "title", "base") and value == getattr(root, field)
        if value and not inherited:
            lines.append(f"{field} = {_plain(value)}")
    for section in _SECTIONS:
        lines += _tables(section, getattr(device, section), getattr(root, section) if root else None)
    return "\n".join(lines) + "\n"


def _tables(path: str, node: Any, root: Any) -> list[str]:
    if isinstance(node, dict):
        found: list[str] = []
        for name, child in node.items():
            found += _tables(f"{path}.{name}", child, root.get(name) if root else None)
        return found
    rows = _rows(node, root)
    inner = [line for field in type(node).model_fields if isinstance(child := getattr(node, field), BaseModel)
             and not isinstance(child, Quantity)
             for line in _tables(f"{path}.{field}", child, getattr(root, field) if root else None)]
    return (["", f"[{path}]", *rows] if rows else []) + inner


def _rows(node: BaseModel, root: BaseModel | None, prefix: str = "") -> list[str]:
    rows = []
    for field, info in type(node).model_fields.items():
        value = getattr(node, field)
        before = getattr(root, field) if root is not None else None
        if isinstance(value, dict):
            rows += [f"{field}.{k} = {_number(v)}" for k, v in value.items() if not before or before.get(k) != v]
        elif isinstance(value, Quantity):
            rows += [f"{field} = {_number(value)}"] if value != before else []
        elif isinstance(value, BaseModel) or value is None or value == before:
            continue
        elif info.is_required() or value != info.default:
            rows.append(f"{field} = {_plain(value)}")
    return rows


def _number(q: Quantity) -> str:
    # The text may hold "sparse" or "bidir", whose halving is already in the note: the halved value is written.
    text = q.text if q.text and "->" not in q.note else format_quantity(q.value, q.dimension)
    value = text if _is_number(text) else _plain(text)
    parts = [f"value = {value}", f'kind = "{q.kind}"']
    parts += [f"{name} = {_plain(part)}" for name, part in (("source", q.source), ("note", q.note)) if part]
    return "{ " + ", ".join(parts) + " }"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_plain(v) for v in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
    return str(value)


# -- reading -----------------------------------------------------------------------------------------------------------

def merge(base: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """``child`` laid over ``base``; a number (a table with ``value``) is replaced whole, never mixed."""
    out = dict(base)
    for key, value in child.items():
        old = out.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and "value" not in value
        out[key] = merge(old, value) if both and old is not None else value
    return out


def expand_sources(node: Any, sources: Mapping[str, str]) -> Any:
    """Replace ``source = "key"`` by the text of ``[sources] key``; other texts stay as they are."""
    if isinstance(node, dict):
        return {k: sources.get(v, v) if k == "source" and isinstance(v, str) else expand_sources(v, sources)
                for k, v in node.items()}
    return node


def build(raw: Mapping[str, Any], *, file: str, base: Callable[[str], Mapping[str, Any]]) -> Device:
    """Check one file's content. ``base(name)`` gives the raw content of another; one level of it at most."""
    data = raw_with_base(raw, file=file, base=base)
    try:
        device = Device.model_validate(data)
    except ValidationError as error:
        raise ValueError(one_line(error, file, Device)) from None
    if device.main_memory not in device.memory:
        raise ValueError(f"{file}: main_memory: {device.main_memory!r} is no [memory.*]: {', '.join(device.memory)}")
    if device.kind == "gpu" and not device.rates():
        raise ValueError(f"{file}: engine: a gpu needs at least one rate, e.g. [engine.matrix] rate.bf16")
    if device.matrix and (meant := units.slip(device.matrix.kind)):
        raise ValueError(f"{file}: engine.matrix.kind: {device.matrix.kind!r}: no such kind; did you mean {meant!r}?")
    if device.matrix and device.matrix.kind in units.KINDS:
        _check_units(device, device.matrix, file)
    if device.kind != "flash" and device.main.bandwidth is None:
        raise ValueError(f"{file}: memory.{device.main_memory}.bandwidth: missing; the main memory needs one")
    return device


def _check_units(device: Device, engine: Engine, file: str) -> None:
    """An engine made of units needs its shape, a clock, and an engine for what the units do not do."""
    what, known = f"an engine of kind {engine.kind!r}", units.figures(engine.kind)
    if unknown := sorted(set(engine.figure) - set(known) - {"handover_s"}):
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5) or known
        raise ValueError(f"{file}: engine.matrix.figure.{unknown[0]}: {what} has no such figure; did you mean "
                         f"{', '.join(near)}?")
    if engine.rate and device.follows():
        raise ValueError(f"{file}: engine.matrix.rate.{next(iter(engine.rate))}: {device.follows()}")
    if engine.clock is None:
        raise ValueError(f"{file}: engine.matrix.clock: missing; {what} runs its contract's cycles at it, e.g. \"1 GHz\"")
    if device.vector is None:
        raise ValueError(f"{file}: engine.vector: missing; {what} leaves norms, softmax and what it cannot multiply to one, "
                         "e.g. [engine.vector] rate.fp16 = { value = \"256 GOP/s\", ... }")
    engine.rates(file)


def raw_with_base(raw: Mapping[str, Any], *, file: str, base: Callable[[str], Mapping[str, Any]]) -> dict[str, Any]:
    """Content with sources spelt out and the base laid under it."""
    data: dict[str, Any] = expand_sources({k: v for k, v in raw.items() if k != "sources"}, raw.get("sources", {}))
    parent_name = data.get("base", "")
    if not parent_name:
        return data
    parent = base(str(parent_name))
    if parent.get("base"):
        raise ValueError(f"{file}: base: {parent_name!r} has a base itself ({parent['base']!r}); one level is allowed, "
                         f"start from {parent['base']!r}")
    own = ("sources", "aliases", "notes", "name", "title")
    under = expand_sources({k: v for k, v in parent.items() if k not in own}, parent.get("sources", {}))
    return merge(_without_figures_of_others(under, data), data)


def _without_figures_of_others(under: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """What a base gives to a file: where the file makes an engine one of units, only figures that such an engine has."""
    engines = dict(under.get("engine", {}))
    for name, engine in engines.items():
        known = units.figures(data.get("engine", {}).get(name, {}).get("kind", ""))
        if known and "figure" in engine:
            engines[name] = {**engine, "figure": {k: v for k, v in engine["figure"].items() if k in known}}
    return {**under, "engine": engines}


def one_line(error: ValidationError, file: str, model: type[BaseModel]) -> str:
    """The first complaint as ``file: dotted.key: what is wrong``, with the nearest known key for a typing slip."""
    first = next((e for e in error.errors() if e["type"] == "extra_forbidden"), error.errors()[0])
    loc = [str(p) for p in first["loc"] if p != "[key]"]
    path = ".".join(loc)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(loc[-1], _known_keys(model, loc[:-1]), n=1, cutoff=0.5)
        return f"{file}: {path}: unknown key" + (f" (did you mean {near[0]!r}?)" if near else "")
    if first["type"] == "missing":
        return f"{file}: {path}: missing"
    message = first["msg"].removeprefix("Value error, ")
    found = "" if first["type"] == "value_error" else f", found {first['input']!r}"
    return f"{file}: {path}: {message[0].lower() + message[1:]}{found}"


def _known_keys(model: type[BaseModel], path: list[str]) -> list[str]:
    node: Any = model
    for step in path:
        if isinstance(node, type) and issubclass(node, BaseModel) and step in node.model_fields:
            node = node.model_fields[step].annotation
        args = [a for a in get_args(node) if isinstance(a, type) and issubclass(a, BaseModel)]
        node = args[0] if args else node
    return list(node.model_fields) if isinstance(node, type) and issubclass(node, BaseModel) else []
