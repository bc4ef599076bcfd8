"""A device written back as TOML: whole, or only what differs from the device it is based on."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from accel_models.device import Device, Quantity
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
