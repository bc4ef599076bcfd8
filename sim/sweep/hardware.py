"""One device with its numbers varied from point to point, bound for thousands of points at once.

The rules by which a device's numbers become what formulas see stand in ``accel_models.bind`` alone. Here they are not
repeated but read off: each number is raised a little and the device bound again; a figure that then stays, or rises as
much, follows that number not at all, or in proportion. Only the rate of the last-level cache, which is never below that
of the main memory, is put together from two. A few points, the extremes among them, are then bound as they are and
compared; figures of a family of engines (the shape of an array) are handed to its formulas as they are, and compared in
the same way. Where one differs, or numbers are varied between which a device chooses by size (half precision slower than
single, the fastest of several links), every distinct combination of values is bound by itself: always right, but slow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel_models.bind import Hardware, bind, take
from accel_models.device import Device
from accel_models.registry import System

Column = NDArray[np.float64]

_ARRAYS = [f.name for f in fields(Hardware) if f.type == "Array"]
_LISTED = [f.name for f in fields(Hardware) if f.name not in (*_ARRAYS, "rate_table")]
#: A rate of main memory so low that no cache's own rate hides behind it. [B/s]
CRAWL = 1.0
#: How much each number is raised: exact in binary, and too little to change which of two formats is the faster.
STEP = 1.0 + 2.0**-6
#: Points for each combination of such figures from which on it pays to vary the rest by proportion.
WORTH = 16


def vary(device: Device, system: System | None, values: Mapping[str, Column]) -> Hardware:
    """Row i is the device with each number of ``values`` (dotted keys, SI) at its i-th value.

    Units and clocks are set first, since they scale rates, and a rate that is set by itself stays as set. Raises
    ``ValueError`` for a value that a device cannot have.
    """
    columns = {device.key(k): np.asarray(v, dtype=np.float64) for k, v in values.items()}
    n = len(next(iter(columns.values())))
    apart = [k for k in columns if _any_law(k)]
    places = _extremes(columns, n)
    checked = bind([changed(device, {k: float(v[i]) for k, v in columns.items()}) for i in places], system)
    if apart:
        found = _handed_on(device, system, columns, apart)
        if found is not None and _same(take(found, places), checked):
            return found
    if 0 < len(apart) < len(columns):
        distinct, place = np.unique(np.stack([columns[k] for k in apart], axis=1), axis=0, return_inverse=True)
        if len(distinct) * WORTH <= n:
            rest = {k: v for k, v in columns.items() if k not in apart}
            groups = [np.flatnonzero(place.reshape(-1) == i) for i in range(len(distinct))]
            return _joined([(at, vary(changed(device, dict(zip(apart, map(float, row), strict=True))), system,
                                      {k: v[at] for k, v in rest.items()}))
                            for row, at in zip(distinct, groups, strict=True)])
    if not _chooses(device, columns):
        found = _proportional(device, system, columns, n)
        if found is not None and _same(take(found, places), checked):
            return found
    return _each(device, system, columns, n)


def changed(device: Device, values: Mapping[str, float]) -> Device:
    """The device with these numbers, set in an order that does not depend on the caller's."""
    for key in sorted(values, key=lambda k: (not k.endswith((".units", ".clock")), k)):
        device = device.with_value(key, values[key])
    return device


def _extremes(columns: Mapping[str, Column], n: int) -> list[int]:
    """Rows with the least and the greatest value of each number, and a few others."""
    found = {0, n // 3, n - 1}
    for v in columns.values():
        found |= {int(np.argmin(v)), int(np.argmax(v))}
    return sorted(found)


def _chooses(device: Device, columns: Mapping[str, Column]) -> bool:
    """Whether what formulas see may jump within the values: figures of a family of engines follow any law."""
    halves = [f for f in ("fp16", "bf16") if f in device.rates()]
    slow = any(device.fallback(f).fmt == "fp32" for f in halves) and any(k.startswith("engine.") for k in columns)
    links = [k for k in columns if k.startswith("link.") and k.endswith(".bandwidth")]
    return slow or len(links) > 1 or any(map(_any_law, columns))


def _any_law(key: str) -> bool:
    """A figure of one family of engines."""
    return ".figure." in key or ".resources." in key


def _handed_on(device: Device, system: System | None, columns: Mapping[str, Column], apart: Sequence[str]) -> Hardware | None:
    """All rows where figures of a family do nothing but reach its formulas: bound once, each row's own put in. None where
    they are not those of the engine that multiplies."""
    if not all(k.startswith("engine.matrix.") for k in apart):
        return None
    first = changed(device, {k: float(columns[k][0]) for k in apart})
    rest = {k: v for k, v in columns.items() if k not in apart}
    n = len(columns[apart[0]])
    base = vary(first, system, rest) if rest else take(bind([first], system), [0] * n)
    names = [k.rpartition(".")[2] for k in apart]
    rows = zip(base.figures, *(columns[k].tolist() for k in apart), strict=True)
    return replace(base, figures=tuple({**known, **dict(zip(names, row, strict=True))} for known, *row in rows))


def _joined(parts: list[tuple[NDArray[np.intp], Hardware]]) -> Hardware:
    """Several parts in one, each row at its place."""
    order = np.argsort(np.concatenate([at for at, _ in parts])).tolist()
    arrays: dict[str, Any] = {f: np.concatenate([getattr(h, f) for _, h in parts])[order] for f in _ARRAYS}
    for name in _LISTED:
        rows = [x for _, h in parts for x in getattr(h, name)]
        arrays[name] = tuple(rows[i] for i in order)
    table = {f: np.concatenate([h.rate_table[f] for _, h in parts])[order] for f in parts[0][1].rate_table}
    return replace(parts[0][1], rate_table=table, **arrays)


def _proportional(device: Device, system: System | None, columns: Mapping[str, Column], n: int) -> Hardware | None:
    """All rows by proportion, or None where some figure neither follows a number in proportion nor leaves it alone."""
    first = {k: float(v[0]) for k, v in columns.items()}
    if any(v == 0 for v in first.values()):
        return None
    main = f"memory.{device.main_memory}.bandwidth"
    around = [first, *({**first, k: STEP * v} for k, v in first.items())]
    probed = bind([changed(device, row) for row in around], system)
    slow = changed(device, {**first, main: CRAWL})
    bare = bind([slow, *(changed(slow, {k: STEP * v}) if k == main else changed(device, {**row, main: CRAWL})
                         for k, v, row in zip(first, {**first, main: CRAWL}.values(), around[1:], strict=False))], system)
    if any(len(set(getattr(b, name))) > 1 for b in (probed, bare) for name in _LISTED if name != "figures"):
        return None
    powers = {k: {name: _follows(a[i + 1], a[0]) for name, a in _figures(probed, bare).items()}
              for i, k in enumerate(columns)}
    if any(p is None for row in powers.values() for p in row.values()):
        return None
    scaled: dict[str, Any] = {}
    for name, a in _figures(probed, bare).items():
        row = np.full(n, a[0])
        for k, v in columns.items():
            if powers[k][name]:
                base = CRAWL if k == main and name == "l2_bandwidth" else first[k]
                row = row * (v / base)
        scaled[name] = row
    if any(np.any(scaled["rate fp32"] > scaled[f"rate {f}"]) for f in ("fp16", "bf16") if f in device.rates()):
        return None
    scaled["l2_bandwidth"] = np.maximum(scaled["l2_bandwidth"], scaled["dram_bandwidth"])
    listed = {name: getattr(probed, name)[:1] * n for name in _LISTED}
    return replace(probed, rate_table={f: scaled.pop(f"rate {f}") for f in probed.rate_table}, **scaled, **listed)


def _figures(probed: Hardware, bare: Hardware) -> dict[str, Column]:
    """Every array by name; the rate of the last cache as it is when the main memory's does not hide it."""
    found: dict[str, Column] = {name: getattr(probed, name) for name in _ARRAYS}
    found |= {f"rate {f}": r for f, r in probed.rate_table.items()}
    return found | {"l2_bandwidth": bare.l2_bandwidth}


def _follows(there: float, here: float) -> bool | None:
    """Does a figure follow a number that was raised? None: in some other way."""
    if there == here or (np.isnan(there) and np.isnan(here)):
        return False
    return True if np.isclose(there, STEP * here, rtol=1e-12) else None


def _same(a: Hardware, b: Hardware) -> bool:
    """Equal to rounding in all that formulas see."""
    near = all(np.allclose(getattr(a, n), getattr(b, n), rtol=1e-12, atol=0, equal_nan=True) for n in _ARRAYS)
    near = near and all(np.allclose(r, b.rate_table[f], rtol=1e-12, atol=0, equal_nan=True) for f, r in a.rate_table.items())
    return near and all(getattr(a, n) == getattr(b, n) for n in _LISTED)


def _each(device: Device, system: System | None, columns: Mapping[str, Column], n: int) -> Hardware:
    """Every distinct combination of values bound by itself."""
    table = np.stack(list(columns.values()), axis=1)
    distinct, place = np.unique(table, axis=0, return_inverse=True)
    devices = [changed(device, dict(zip(columns, map(float, row), strict=True))) for row in distinct]
    return take(bind(devices, system), place.reshape(-1).tolist())
