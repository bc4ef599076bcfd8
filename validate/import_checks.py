"""Rows that cannot be true: no time, faster than the hardware can, slower than a larger shape of their own series."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel_models.bind import Hardware, bind
from accel_models.cost.terms import Array
from accel_models.registry import load_device
from workloads.formats import get_format

#: Boost clocks and rounded datasheets allow this much more than the stated rates.
ALLOWANCE = 1.1
#: A row this many times slower than a larger one of its series is a hiccup of the timer or the machine.
HICCUP = 2.5
#: Column that a series grows along; rows of a series agree on all others.
_ALONG = {"gemm": "m", "attention": "kv_len", "elementwise": "rows", "moe": "n_tokens", "collective": "bytes"}
_RESULTS = ("time_s", "power_w", "bytes_rw", "ttft_s", "tpot_s")

Columns = dict[str, NDArray[Any]]


def reasons(table: str, c: Columns) -> NDArray[Any]:
    """Why each row cannot be true; empty text for those that can."""
    n = len(next(iter(c.values()), ()))
    out = np.full(n, "", dtype=object)
    for name in [k for k in ("time_s", "ttft_s", "tpot_s") if k in c]:
        time = c[name].astype(np.float64)
        if table in ("serving_points", "serving_requests"):
            bad = ~(time > 0) & ~np.isnan(time)            # a blank is not known, and allowed
        else:
            bad = ~(np.isfinite(time) & (time > 0))
        out[bad] = f"{name} is not above zero"
    good = out == ""
    for check in (_too_fast, _hiccups):
        found = check(table, {k: v[good] for k, v in c.items()})
        out[np.flatnonzero(good)[found != ""]] = found[found != ""]
        good = out == ""
    return out


def _too_fast(table: str, c: Columns) -> NDArray[Any]:
    n = len(next(iter(c.values()), ()))
    out = np.full(n, "", dtype=object)
    least = _LEAST.get(table)
    if least is None or not n:
        return out
    for device in sorted(set(map(str, c["device"]))):
        hw = _hardware(device)
        if hw is None:
            continue
        mine = c["device"].astype(str) == device
        bound = least({k: v[mine] for k, v in c.items()}, hw) / ALLOWANCE
        over = c["time_s"][mine].astype(np.float64) < np.nan_to_num(bound, nan=0.0)
        out[np.flatnonzero(mine)[over]] = f"faster than the peak rates of {device}"
    return out


@cache
def _hardware(device: str) -> Hardware | None:
    try:
        return bind([load_device(device)])
    except (ValueError, OSError):
        return None


def _memory(nbytes: Array, hw: Hardware) -> Array:
    """Least time for so many bytes: from the cache where they fit into it twice over."""
    fits = nbytes < 2.0 * hw.l2_capacity[0]
    rate = np.where(fits, max(hw.l2_bandwidth[0], hw.dram_bandwidth[0]), hw.dram_bandwidth[0])
    out: Array = nbytes / rate
    return out


def _rates(formats: NDArray[Any], hw: Hardware) -> Array:
    def rate(name: str) -> float:
        try:
            return float(hw.rate_table[get_format(name).compute][0])
        except (ValueError, KeyError):
            return float("nan")
    table = {f: rate(f) for f in set(map(str, formats))}
    return np.array([table[str(f)] for f in formats])


def _bytes(formats: NDArray[Any]) -> Array:
    def size(name: str) -> float:
        try:
            return get_format(name).nbytes
        except (ValueError, KeyError):
            return 0.0
    table = {f: size(f) for f in set(map(str, formats))}
    return np.array([table[str(f)] for f in formats])


def _least_gemm(c: Columns, hw: Hardware) -> Array:
    m, n, k, b = (c[x].astype(np.float64) for x in ("m", "n", "k", "batch"))
    compute = np.nan_to_num(2.0 * m * n * k * b / _rates(c["dtype_a"], hw), nan=0.0)
    out: Array = np.maximum(compute, _memory(b * n * k * _bytes(c["dtype_w"]), hw))
    return out


def _least_attention(c: Columns, hw: Hardware) -> Array:
    b, q, kv, heads, kv_heads, d, window = (c[x].astype(np.float64) for x in (
        "batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim", "window"))
    seen = np.where(window > 0, np.minimum(kv, window), kv)
    pairs = q * np.minimum(seen, kv - q / 2.0 + 0.5)
    compute = np.nan_to_num(4.0 * b * heads * d * pairs / _rates(c["dtype_q"], hw), nan=0.0)
    # A windowed prefill may read no more than its windows; the cache alone bounds a decode.
    cache_bytes = 2.0 * b * np.minimum(kv, seen + q) * kv_heads * d * _bytes(c["dtype_kv"])
    whole = np.where(window > 0, 0.0, compute)
    out: Array = np.maximum(whole, _memory(cache_bytes, hw))
    return out


def _least_elementwise(c: Columns, hw: Hardware) -> Array:
    return _memory(c["bytes_rw"].astype(np.float64), hw)


_LEAST: dict[str, Callable[[Columns, Hardware], Array]] = {
    "gemm": _least_gemm, "attention": _least_attention, "elementwise": _least_elementwise}


def _hiccups(table: str, c: Columns) -> NDArray[Any]:
    """Rows over HICCUP times slower than the fastest larger one of their series."""
    n = len(next(iter(c.values()), ()))
    out = np.full(n, "", dtype=object)
    if table not in _ALONG or not n:
        return out
    along = _ALONG[table]
    labels = [c[k].astype(str) for k in sorted(c) if k not in (along, *_RESULTS)]
    _, series = np.unique(np.array(["|".join(r) for r in zip(*labels, strict=True)]), return_inverse=True)
    size, time = c[along].astype(np.float64), c["time_s"].astype(np.float64)
    order = np.lexsort((-size, series))                    # series by series, the largest first
    s, x, t = series[order], size[order], time[order]
    fastest, pending, last = np.inf, np.inf, (-1, np.nan)
    for i in range(n):
        if s[i] != last[0]:
            fastest = pending = np.inf
        elif x[i] != last[1]:
            fastest = min(fastest, pending)                # equal sizes do not judge each other
        if t[i] > HICCUP * fastest:
            out[order[i]] = f"over {HICCUP} times slower than a larger {along} of its series"
        pending, last = min(pending, t[i]), (int(s[i]), float(x[i]))
    return out
