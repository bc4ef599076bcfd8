"""Numbers as people write them -> SI floats, and back. Every field has one dimension; nothing is guessed.

``b`` is a bit and ``B`` a byte, ``k M G T P`` are decimal and ``Ki Mi Gi Ti`` binary, a bare number is in the base
unit of the field. Rates are dense and links are counted per direction, so ``1979 TFLOPS sparse`` and
``900 GB/s bidir`` are halved, and that is said in a note.
"""

from __future__ import annotations

import difflib
import math
import re
import warnings
from typing import NamedTuple

_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_SMALL = {"m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "a": 1e-18}


def _table(prefixes: dict[str, float], names: dict[str, float]) -> dict[str, float]:
    return {p + n: f * s for p, f in prefixes.items() for n, s in names.items()}


_BIG = _DECIMAL | _BINARY
_TIME = _table(_SMALL | {"": 1.0}, {"s": 1.0}) | {"min": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0}
_OP = {"op": 1.0, "OP": 1.0, "FLOP": 1.0, "flop": 1.0, "MAC": 0.5}       # energy of a MAC is that of two operations
_HOUR = ("h", "hr", "hour")

#: Dimension -> unit text -> factor to the base unit. The empty unit is the base unit.
UNITS: dict[str, dict[str, float]] = {
    "bytes": _table(_BIG, {"B": 1.0, "b": 0.125}) | {"byte": 1.0, "bytes": 1.0, "bit": 0.125, "bits": 0.125},
    "bytes/s": _table(_BIG, {"B/s": 1.0, "b/s": 0.125, "Bps": 1.0, "bps": 0.125, "bit/s": 0.125}),
    "ops/s": _table(_DECIMAL, {"OP/s": 1.0, "op/s": 1.0, "OPS": 1.0, "ops/s": 1.0, "OPs/s": 1.0, "FLOP/s": 1.0,
                               "FLOPS": 1.0, "FLOPs/s": 1.0, "flop/s": 1.0}),
    "transfers/s": _table(_DECIMAL, {"T/s": 1.0, "transfers/s": 1.0}),
    "s": _TIME,
    "Hz": _table(_DECIMAL, {"Hz": 1.0}),
    "J": _table(_SMALL | _DECIMAL, {"J": 1.0}) | {"Wh": 3600.0, "kWh": 3.6e6},
    "J/op": {f"{p}J/{n}": f * s for p, f in (_SMALL | {"": 1.0}).items() for n, s in _OP.items()},
    "J/B": {f"{p}J/{n}": f * s for p, f in (_SMALL | {"": 1.0}).items()
            for n, s in {"B": 1.0, "byte": 1.0, "b": 8.0, "bit": 8.0}.items()},
    "W": _table(_SMALL | _DECIMAL, {"W": 1.0}),
    "m2": {p + "m" + sq: f for p, f in {"": 1.0, "c": 1e-4, "m": 1e-6, "u": 1e-12, "µ": 1e-12, "n": 1e-18}.items()
           for sq in ("^2", "2", "²")},
    "USD": {p + n: f for p, f in _DECIMAL.items() for n in ("USD", " USD", "$", " $", "")},
    "USD/h": {f"{n}/{h}": 1.0 for n in ("USD", "$") for h in _HOUR},
    "count": dict(_DECIMAL) | dict(_BINARY),
    "ratio": {"%": 0.01, "x": 1.0},
    "tokens": _table(_BIG, {"": 1.0, "token": 1.0, "tokens": 1.0, "tok": 1.0})
    | {f"{p} {n}": f for p, f in _BIG.items() if p for n in ("token", "tokens", "tok")},
}
for _units in UNITS.values():
    _units[""] = 1.0

#: Base unit and an example for messages.
BASE: dict[str, tuple[str, str]] = {
    "bytes": ("B", "80 GiB"), "bytes/s": ("B/s", "3.35 TB/s"), "ops/s": ("OP/s", "989 TFLOP/s"),
    "transfers/s": ("T/s", "6.4 GT/s"), "s": ("s", "2.5 us"), "Hz": ("Hz", "1.98 GHz"), "J": ("J", "3 mJ"),
    "J/op": ("J/op", "0.5 pJ/op"), "J/B": ("J/B", "3.9 pJ/bit"), "W": ("W", "700 W"), "m2": ("m^2", "814 mm^2"),
    "USD": ("USD", "30000 USD"), "USD/h": ("USD/h", "2.29 USD/h"), "count": ("", "132"), "ratio": ("", "0.8"),
    "tokens": ("tokens", "4k"),
}

# Said after the unit; value is (dimension it belongs to, factor, what is said).
_HALVED_SPARSE = "sparse rate halved: rates are dense here"
_HALVED_BIDIR = "both directions given, halved: links are counted per direction"
_MODIFIERS: dict[str, tuple[str, float, str]] = {
    "sparse": ("ops/s", 0.5, _HALVED_SPARSE), "with sparsity": ("ops/s", 0.5, _HALVED_SPARSE),
    "dense": ("ops/s", 1.0, ""),
    "bidir": ("bytes/s", 0.5, _HALVED_BIDIR), "bidirectional": ("bytes/s", 0.5, _HALVED_BIDIR),
    "unidir": ("bytes/s", 1.0, ""), "per direction": ("bytes/s", 1.0, ""),
}
_SHAPE = re.compile(r"([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*)", re.DOTALL)


class HalvedWarning(UserWarning):
    """A sparse rate or a two-way bandwidth was given and halved."""


class Parsed(NamedTuple):
    value: float      # in the base unit of the dimension
    note: str         # what was changed on the way, "" if nothing


def parse_noted(text: str | float, dimension: str, *, where: str = "") -> Parsed:
    """SI value of ``text`` and what had to be said about it. Raises ``ValueError`` in one line."""
    if dimension not in UNITS:
        raise KeyError(f"no dimension {dimension!r}; known: {', '.join(UNITS)}")
    if isinstance(text, bool) or not isinstance(text, (str, int, float)):
        raise _bad(text, dimension, where, "not a number")
    if not isinstance(text, str):
        return Parsed(_checked(float(text), text, dimension, where), "")
    match = _SHAPE.fullmatch(text.strip())
    if match is None:
        raise _bad(text, dimension, where, "not a number with a unit")
    try:
        number = float(match[1].replace(",", "").replace("_", ""))
    except ValueError:
        raise _bad(text, dimension, where, "not a number with a unit") from None
    unit, factor, note = _modifier(match[2].strip(), dimension)
    scale = UNITS[dimension].get(unit)
    if scale is None:
        raise _bad(text, dimension, where, _unknown_unit(unit, dimension))
    value = _checked(number * scale * factor, text, dimension, where)
    return Parsed(value, f"{text.strip()} -> {format_quantity(value, dimension)}: {note}" if note else "")


def parse(text: str | float, dimension: str, *, where: str = "") -> float:
    """SI value of ``text``; a halved figure is announced as a ``HalvedWarning``."""
    value, note = parse_noted(text, dimension, where=where)
    if note:
        warnings.warn(f"{where}: {note}" if where else note, HalvedWarning, stacklevel=2)
    return value


def format_quantity(value: float, dimension: str) -> str:
    """Readable text that ``parse`` reads back to six digits; whole MiB and KiB stay binary."""
    if dimension in ("count", "ratio", "tokens"):
        text = f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e12 else f"{value:.6g}"
        return f"{text} tokens" if dimension == "tokens" else text
    unit = BASE[dimension][0]
    if dimension in ("USD", "USD/h"):
        return f"{value:.10g} {unit}"
    if dimension == "m2":
        return f"{value * 1e6:.6g} mm^2"
    if dimension == "bytes" and value >= 1024 and value % 1024 == 0 and value % 1000 != 0:
        prefix = "Gi" if value >= 2**30 else "Mi" if value >= 2**20 else "Ki"
        return f"{value / _BINARY[prefix]:.6g} {prefix}B"
    for prefix, factor in _ladder(dimension):
        if abs(value) >= factor * 0.9999995:
            return f"{value / factor:.6g} {prefix}{unit}"
    return f"{value:.6g} {unit}"


def echo(value: float, dimension: str) -> str:
    """As ``format_quantity``, with GiB beside a decimal capacity: ``80 GB (74.51 GiB)``."""
    text = format_quantity(value, dimension)
    return f"{text} ({value / 2**30:.2f} GiB)" if dimension == "bytes" and "i" not in text and value >= 1e9 else text


def _ladder(dimension: str) -> list[tuple[str, float]]:
    up = [(p, _DECIMAL[p]) for p in ("P", "T", "G", "M", "k", "")]
    down = [("", 1.0), ("m", 1e-3), ("u", 1e-6), ("n", 1e-9), ("p", 1e-12), ("f", 1e-15), ("a", 1e-18)]
    if dimension in ("bytes", "bytes/s", "ops/s", "Hz", "transfers/s"):
        return up
    return up[:-1] + down if dimension in ("J", "W") else down


def _modifier(rest: str, dimension: str) -> tuple[str, float, str]:
    for word, (of, factor, note) in _MODIFIERS.items():
        if of == dimension and rest.endswith(word) and rest[: -len(word)] != rest:
            return rest[: -len(word)].strip(), factor, note
    return rest, 1.0, ""


def _checked(value: float, text: object, dimension: str, where: str) -> float:
    if not math.isfinite(value):
        raise _bad(text, dimension, where, "not finite")
    if value < 0:
        raise _bad(text, dimension, where, "negative")
    return value


def _unknown_unit(unit: str, dimension: str) -> str:
    for other, units in UNITS.items():
        if unit in units:
            return f"{unit!r} is a unit of {other}"
    close = difflib.get_close_matches(unit, [u for u in UNITS[dimension] if u], n=1, cutoff=0.5)
    return f"unknown unit {unit!r}" + (f" (did you mean {close[0]!r}?)" if close else "")


def _bad(text: object, dimension: str, where: str, why: str) -> ValueError:
    prefix = f"{where}: " if where else ""
    return ValueError(f"{prefix}{text!r}: {why}; expected {dimension}, e.g. {BASE[dimension][1]!r}")
