"""Predict a table of operations: rows of any size stream through in chunks, grouped into one array call per kernel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel_models.bind import Hardware, bind
from accel_models.cost.collective import NODE_NETWORK, link_class
from accel_models.cost.elementwise import BORROWS, READ_SHARE
from accel_models.cost.terms import REGIMES, regime
from accel_models.families import other_way, peak
from accel_models.links import link_rate
from accel_models.price import price
from accel_models.registry import load_device
from accel_models.units import KINDS, unit_names
from sim.estimate import matrix_format
from workloads.formats import Format, get_format
from workloads.ops import COLLECTIVE_KINDS, Attention, Collective, Elementwise, Gemm, Moe, Op
from workloads.work import work

#: Columns that a prediction adds.
ADDED = ("pred_s", "pred_lo_s", "pred_hi_s", "bound", "roofline_s", "source", "note")


def added_names(header: list[str]) -> list[str]:
    """Names of the added columns; one that the table already uses gets the prefix ``pred_`` (``pred_source``)."""
    if twice := [c for c in (*LABELS, *NUMBERS) if header.count(c) > 1]:
        raise ValueError(f"column {twice[0]!r} stands twice in the header; rename or remove one")
    names = [f"pred_{c}" if c in header and not c.startswith("pred_") else c for c in ADDED]
    if clash := [c for c in names if c in header]:
        raise ValueError(f"column {clash[0]!r} is one that predict adds; rename or remove it")
    return names


#: Columns of text that tell kernels apart; all others that an op needs are numbers.
LABELS = ("op", "phase", "device", "framework", "dtype", "dtype_a", "dtype_w", "dtype_q", "dtype_kv", "quant", "cache",
          "kernel", "distribution", "link", "devices_per_node")
NUMBERS = ("m", "n", "k", "batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim", "window", "n_tokens",
           "hidden", "inter", "topk", "n_experts", "tp", "rows", "cols", "bytes_rw", "n_devices", "bytes", "prefix")

#: ``quant`` of a measured table -> formats of activation and weight ("" keeps the dtype columns).
QUANT = {"": ("", ""), "none": ("", ""), "fp8_dynamic": ("fp8_e4m3", "fp8_e4m3"),
         "fp8_block128": ("fp8_g128", "fp8_block128"),
         "nvfp4_g16": ("nvfp4", "nvfp4"), "int8_weight_only": ("", "int8"), "int4_weight_only": ("", "int4_g128"),
         "int8_smoothquant": ("int8+ready", "int8"), "int8_w8a8_dynamic": ("int8", "int8")}
#: ``cache`` -> share of the operand that is in L2 when the op starts. Blank or unknown means what the usual benchmark
#: loop does: it rotates the weights of a GEMM, and repeats attention and experts on the same operands.
RESIDENT = {"cold": 0.0, "mixed": 0.5, "warm": 1.0}

#: Names under which matrix products stand in measured tables, besides projections ("mlp_up_proj").
GEMMS = ("", "gemm", "linear", "matmul", "bmm", "lm_head")

Row = dict[str, str]


class Columns(dict[str, NDArray[np.float64]]):
    """Numbers of some rows by column name, each column read when it is first asked for (most kinds need a few)."""

    def __init__(self, rows: Sequence[Sequence[str]], at: dict[str, int]) -> None:
        super().__init__()
        self.rows, self.at = rows, at

    def __contains__(self, name: object) -> bool:
        return name in self.at

    def __missing__(self, name: str) -> NDArray[np.float64]:
        place = self.at[name]
        self[name] = _numbers([row[place] for row in self.rows])
        return self[name]


@dataclass
class Counts:
    """Rows seen and rows that got no prediction, by reason."""

    rows: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def unpredicted(self) -> int:
        return sum(self.reasons.values())


def predict_rows(header: Sequence[str], rows: Sequence[Sequence[str]], counts: Counts, *,
                 device: str = "") -> Iterator[list[str]]:
    """Yield each row with the ``ADDED`` cells appended. ``device`` serves rows without one of their own.

    A row that cannot be predicted gets empty cells and a reason in ``note``; none is dropped.
    """
    at = {name: i for i, name in enumerate(header)}
    added: list[tuple[str, ...]] = [()] * len(rows)
    label_at = [(name, at[name]) for name in LABELS if name in at]
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        key = tuple(row[j] for _, j in label_at) if len(row) == len(header) else ("?", str(len(row)))
        groups.setdefault(key, []).append(i)
    for key, members in groups.items():
        if key[:1] == ("?",):
            outcome: Any = _failed(f"has {key[1]} cells, the header {len(header)}", len(members))
        else:
            labels = {name: text for (name, _), text in zip(label_at, key, strict=True)}
            outcome = _group(labels, at, [rows[i] for i in members], device)
        for i, cells in zip(members, outcome, strict=True):
            added[i] = cells
            if cells[-1] and not cells[0]:
                counts.reasons[cells[-1]] = counts.reasons.get(cells[-1], 0) + 1
    counts.rows += len(rows)
    width = len(header)
    for row, cells in zip(rows, added, strict=True):
        # A row of another length keeps the added cells under their own headings; what is too much goes last.
        yield [*row[:width], *[""] * (width - len(row)), *cells, *row[width:]]


def _failed(reason: str, n: int) -> list[tuple[str, ...]]:
    return [("", "", "", "", "", "", reason)] * n


def _group(labels: Row, at: dict[str, int], rows: list[Sequence[str]], device: str) -> list[tuple[str, ...]]:
    """Predict rows that agree on all labels."""
    try:
        make = _maker(labels, at)
        hw = _hardware(labels.get("device") or device, labels)
        op = make(labels, Columns(rows, at))
    except ValueError as error:
        return _failed(str(error), len(rows))
    except KeyError as error:
        return _failed(f"column {error} is missing", len(rows))
    good = np.broadcast_to(_valid(op), (len(rows),))
    if not good.any():
        return [_failed(_why_bad(op, i), 1)[0] for i in range(len(rows))]
    kept = _keep(op, good)
    priced = price([kept], hw, framework=labels.get("framework", ""))[0]
    n = int(good.sum())
    time, lo, hi = (np.broadcast_to(a, (1, n))[0] for a in (priced.cost.time, priced.lo, priced.hi))
    bound = np.broadcast_to(regime(priced.cost), (1, n))[0]
    roof = np.broadcast_to(_roofline(kept, hw), (n,))
    elsewhere = _elsewhere(kept, hw)
    shown = zip(time.tolist(), lo.tolist(), hi.tolist(), bound.tolist(), roof.tolist(), strict=True)
    cells: list[tuple[str, ...]] = [
        (f"{t:.6g}", f"{t * a:.6g}", f"{t * b:.6g}", REGIMES[r], f"{x:.6g}", priced.source[0], elsewhere)
        if math.isfinite(t) else _failed(_no_time(kept, hw), 1)[0] for t, a, b, r, x in shown]
    if n == len(rows):
        return cells
    filled = iter(cells)
    return [next(filled) if ok else _failed(_why_bad(op, i), 1)[0] for i, ok in enumerate(good)]


def _numbers(cells: list[str]) -> NDArray[np.float64]:
    """Text to numbers; blank and unreadable cells become NaN, which the validity check then reports."""
    try:
        return np.array([c or "nan" for c in cells], dtype=np.float64)
    except ValueError:
        return np.array([_number(c) for c in cells])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _hardware(name: str, labels: Row) -> Hardware:
    """One device; ``link`` and ``devices_per_node`` of a collective's row say how it is joined to the others."""
    if not name:
        raise ValueError("no device: the row names none and --hw is not given")
    device = load_device(name)
    hw = bind([device])
    if text := labels.get("link", ""):
        per_node = _number(labels.get("devices_per_node", "") or "2")
        own: dict[str, float] = {x.kind: x.bandwidth.value for x in device.link.values()}
        kind = link_class(text, per_node)
        hw = replace(hw, link_class=(kind,), link_bandwidth=np.array([link_rate(name, own, text, per_node)]),
                     network_bandwidth=np.array([NODE_NETWORK if kind == "internode" else np.inf]))
    if labels.get("devices_per_node", ""):
        hw = replace(hw, domain=np.array([_number(labels["devices_per_node"])]))
    return hw


def _maker(labels: Row, at: dict[str, int]) -> Callable[[Row, Columns], Op]:
    op, phase = labels.get("op", ""), labels.get("phase", "")
    if (phase in ("prefill", "decode") and "q_len" in at) or op in ("attention_prefill", "attention_decode"):
        return _attention
    if "n_tokens" in at and (op in ("", "moe")):
        return _moe
    if op in COLLECTIVE_KINDS:
        return _collective
    if op in BORROWS and "rows" in at:
        return _elementwise
    if {"m", "n", "k"} <= set(at) and (op in GEMMS or op.endswith("_proj")):
        return _gemm
    known = ", ".join(("gemm (m,n,k)", "attention_prefill, attention_decode", "moe (n_tokens)", *COLLECTIVE_KINDS))
    if op in BORROWS or op in ("gemm", "moe"):
        needs = {"gemm": "m, n, k", "moe": "n_tokens"}.get(op, "rows")
        raise ValueError(f"op {op!r} needs the columns {needs}; the table has not all of them")
    raise ValueError(f"op {op!r} is not known; known: {known} and the elementwise kinds")


def _gemm(labels: Row, c: Columns) -> Gemm:
    quant = labels.get("quant", "")
    if quant not in QUANT:
        raise ValueError(f"quant {quant!r} is not known; known: {', '.join(q for q in QUANT if q)}")
    a, w = QUANT[quant]
    plain = labels.get("dtype_a") or labels.get("dtype") or "bf16"
    plain = "bf16" if quant not in ("", "none") and get_format(plain).bits < 16 else plain
    a, w = a or plain, w or (labels.get("dtype_w") if quant in ("", "none") else "") or a or plain
    get_format(a), get_format(w)
    return Gemm(name="gemm", m=c["m"], n=c["n"], k=c["k"], batch=_or(c, "batch", 1.0), a=a, w=w,
                out="fp32" if plain == "fp32" else "bf16", resident=RESIDENT.get(labels.get("cache", ""), 0.0))


def _attention(labels: Row, c: Columns) -> Attention:
    phase = labels.get("phase") or labels["op"].removeprefix("attention_")
    heads, dim = c["n_kv_heads"], c["head_dim"]
    q = labels.get("dtype_q") or labels.get("dtype") or "bf16"
    return Attention(name=phase, phase=phase, batch=_or(c, "batch", 1.0), q_len=_or(c, "q_len", 1.0),
                     kv_len=c["kv_len"], n_heads=c["n_heads"], n_kv_heads=heads, head_dim=dim, v_head_dim=dim,
                     kv_elements=2 * heads * dim,
                     window=_or(c, "window", 0.0), resident=RESIDENT.get(labels.get("cache", ""), 1.0),
                     q=get_format(q).name, kv=get_format(labels.get("dtype_kv") or q).name)


def _moe(labels: Row, c: Columns) -> Moe:
    skew = labels.get("distribution", "")
    exponent = _number(skew.removeprefix("power_law_")) if skew.startswith("power_law_") else 0.0
    return Moe(name="moe", tokens=c["n_tokens"], hidden=c["hidden"], inter=c["inter"] / _or(c, "tp", 1.0),
               topk=c["topk"], n_experts=c["n_experts"], n_local=c["n_experts"], skew=exponent, dealt=1.0,
               resident=RESIDENT.get(labels.get("cache", ""), 1.0), gated="nongated" not in labels.get("kernel", ""),
               a=get_format(labels.get("dtype_a") or "bf16").name, w=get_format(labels.get("dtype_w") or "bf16").name)


def _elementwise(labels: Row, c: Columns) -> Elementwise:
    nbytes, share = c["bytes_rw"], READ_SHARE.get(BORROWS[labels["op"]], 0.5)
    return Elementwise(name=labels["op"], kind=labels["op"], rows=c["rows"], cols=c["cols"], bytes_read=nbytes * share,
                       bytes_written=nbytes * (1 - share))


def _collective(labels: Row, c: Columns) -> Collective:
    return Collective(name=labels["op"], kind=labels["op"], nbytes=c["bytes"], n_devices=c["n_devices"])


def _or(c: Columns, name: str, default: float) -> Any:
    """A column with its blanks filled, or the default where there is no such column."""
    return np.where(np.isnan(c[name]), default, c[name]) if name in c else default


def _shapes(op: Op) -> dict[str, Any]:
    return {f: v for f in op.__dataclass_fields__ if isinstance(v := getattr(op, f), np.ndarray)}


#: Column that a field comes from, where it has another name.
COLUMN = {"tokens": "n_tokens", "n_local": "n_experts", "nbytes": "bytes", "bytes_read": "bytes_rw",
          "bytes_written": "bytes_rw", "v_head_dim": "head_dim", "kv_elements": "head_dim"}
#: Beyond this a shape is a slip, and products of four of them would overflow.
LARGEST = 1e15
#: Fields that cannot exceed another: new tokens the context, experts picked those there are, KV heads the heads.
WITHIN = (("q_len", "kv_len"), ("topk", "n_experts"), ("n_kv_heads", "n_heads"))


def _least(name: str) -> float:
    return 0.0 if COLUMN.get(name, name) in ("window", "resident", "skew", "bytes_rw", "bytes") else 1.0


def _valid(op: Op) -> NDArray[np.bool_]:
    good: NDArray[np.bool_] = np.array(True)
    with np.errstate(invalid="ignore"):
        for name, values in _shapes(op).items():
            good = good & (values >= _least(name)) & (values <= LARGEST)
        for part, whole in WITHIN:
            if hasattr(op, part):
                good = good & (getattr(op, part) <= getattr(op, whole))
    return good


def _no_time(op: Op, hw: Hardware) -> str:
    """Why a device gives no finite time for an op whose shapes are in order."""
    fmt = matrix_format(op)
    lacks = bool(fmt) and not np.isfinite(hw.rate_table[get_format(fmt).compute][0])
    name = hw.identity[0][0]
    return f"{name} has no engine that multiplies {fmt}" if lacks else f"{name}: too large, or no bandwidth known"


def _why_bad(op: Op, row: int) -> str:
    """What is wrong with one row, in the names of the table's columns."""
    value = {n: float(v[row]) for n, v in _shapes(op).items()}
    bad = [COLUMN.get(n, n) for n, v in value.items() if not _least(n) <= v <= LARGEST]
    if bad:
        return f"{', '.join(dict.fromkeys(bad))}: must be a number from {_least(bad[0]):g} to {LARGEST:g}"
    part, whole = next((p, w) for p, w in WITHIN if value.get(p, 0.0) > value.get(w, np.inf))
    return f"{part}: must be at most {whole}, got {value[part]:g} and {value[whole]:g}"


def _keep(op: Op, good: NDArray[np.bool_]) -> Op:
    if good.all():
        return op
    fields = {f: getattr(op, f) for f in op.__dataclass_fields__}
    return type(op)(**fields | {k: v[good] for k, v in _shapes(op).items()})


def _operands(op: Gemm | Moe | Attention) -> tuple[Format, Format]:
    """Formats of activations and weights (queries and cache) as they are stored."""
    return (get_format(op.q), get_format(op.kv)) if isinstance(op, Attention) else (get_format(op.a), get_format(op.w))


def _elsewhere(op: Op, hw: Hardware) -> str:
    """That an engine made of units does not take a product, which another one then does; empty where it does."""
    if hw.engine[0] not in KINDS or hw.identity[0][2] == "gpu" or not isinstance(op, Gemm | Moe | Attention):
        return ""
    a, w = _operands(op)
    return "" if other_way(a, w, hw)[0] > 0 else \
        f"{unit_names(hw.engine[0])[0]} does not multiply {a.name} x {w.name}: the vector engine does"


def _roofline(op: Op, hw: Hardware) -> NDArray[np.float64]:
    """Work at the peaks: the classic roofline with every operand moved once. [s]"""
    w = work(op)
    moved = w.weight_bytes + w.cache_bytes + w.stream_bytes
    matrix = w.flops / peak(*_operands(op), hw)[0] if isinstance(op, Gemm | Moe | Attention) else 0.0
    local = np.maximum(matrix, moved / hw.dram_bandwidth[0])
    longest: NDArray[np.float64] = np.maximum(local, w.link_bytes / hw.link_bandwidth[0])
    return longest
