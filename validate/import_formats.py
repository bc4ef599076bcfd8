"""Others' measurements into tables of our schema: operator timings of aiconfigurator, vidur and NeuSight.

A reader takes one file and gives ``Batch``es: columns of one table, or rows that fit no table with the reason. Serving
results and profiler traces are read by ``import_serving``; what cannot be true is found by ``import_checks``.
Units in the sources: milliseconds, unless said otherwise.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_models.registry import list_devices
from sim.cli import MissingExtra
from validate.suite import machine
from validate.suite.plan import COLUMNS as SUITE_COLUMNS

Columns = dict[str, NDArray[Any]]

COLUMNS: dict[str, tuple[str, ...]] = {
    **{t: SUITE_COLUMNS[t] for t in ("gemm", "attention", "elementwise")},
    "moe": ("source", "device", "framework", "kernel", "dtype_a", "dtype_w", "n_tokens", "hidden", "inter", "topk",
            "n_experts", "tp", "distribution", "time_s"),
    "collective": ("source", "device", "framework", "op", "n_devices", "devices_per_node", "link", "dtype", "bytes", "time_s"),
    "serving_points": ("source", "device", "framework", "model", "precision", "gemm_quant", "moe_quant", "input_len",
                       "output_len", "concurrency", "tp", "pp", "attention_dp", "moe_tp", "moe_ep", "measured", "ttft_s",
                       "tpot_s"),
    "serving_requests": ("run", "request", "arrival_s", "prompt_tokens", "output_tokens", "queue_s", "ttft_s", "total_s",
                         "enqueued_s"),
    # Kernels of a trace that no other table has columns for.
    "kernels": ("source", "device", "framework", "kernel", "op", "calls", "time_s"),
}


class Batch(NamedTuple):
    """Rows of one table from one file: columns of equal length and the line (or event) of each; or ``reason`` why they
    belong to no table."""

    table: str
    columns: Columns
    lines: NDArray[np.int64]
    reason: str = ""


class Given(NamedTuple):
    """What the user says where a file does not."""

    device: str = ""
    framework: str = ""


def device_of(path: Path, given: Given, reported: str = "") -> str:
    """Key of the device: as given, else what the file reports, else a folder named after a device."""
    if given.device:
        return given.device
    if reported and (known := machine.known_name(reported)):
        return known
    folders = [p for p in path.parts if p in list_devices()]
    return folders[-1] if folders else machine.slug(reported) if reported else ""


def columns_of(path: Path) -> Columns:
    """Columns of a CSV or Parquet file; numbers where every cell is one."""
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet as parquet  # an extra, needed for this format alone
        except ImportError:
            raise MissingExtra("measured", f"{path.name} (Parquet)") from None
        table = parquet.read_table(path)
        return {name: np.asarray(table.column(name).to_pylist(), dtype=object) for name in table.column_names}
    with path.open(newline="", encoding="utf-8-sig") as f:
        reader = csv.reader(f)
        header = next(reader, [])
        rows = list(reader)
    if bad := next((i for i, r in enumerate(rows, 2) if len(r) != len(header)), 0):
        raise ValueError(f"{path}:{bad}: {len(rows[bad - 2])} cells, the header has {len(header)}")
    return {name: np.array([r[i] for r in rows], dtype=object) for i, name in enumerate(header)}


def number(cells: NDArray[Any]) -> NDArray[np.float64]:
    """Cells as numbers; what is none becomes NaN, which the checks report."""
    def one(cell: Any) -> float:
        try:
            return float(cell)
        except (TypeError, ValueError):
            return float("nan")
    return np.array([one(c) for c in cells])


def text(cells: NDArray[Any]) -> NDArray[Any]:
    return np.array([str(c) for c in cells], dtype=object)


# -- aiconfigurator ----------------------------------------------------------------------------------------------------

#: ``gemm_dtype`` -> formats of A and W and the name in ``quant``.
_GEMM = {"bfloat16": ("bf16", "bf16", "none"), "float16": ("fp16", "fp16", "none"), "fp8": ("fp8", "fp8", "fp8_dynamic"),
         "fp8_block": ("fp8", "fp8", "fp8_block128"), "nvfp4": ("nvfp4", "nvfp4", "nvfp4_g16"),
         "int8_wo": ("fp16", "int8", "int8_weight_only"), "int4_wo": ("fp16", "int4", "int4_weight_only"),
         "sq": ("int8", "int8", "int8_smoothquant")}
_MOE = {"bfloat16": ("bf16", "bf16"), "float16": ("fp16", "fp16"), "fp8": ("fp8", "fp8"), "fp8_block": ("fp8", "fp8_block128"),
        "int4_wo": ("bf16", "int4"), "nvfp4": ("nvfp4", "nvfp4"), "w4a16_mxfp4": ("bf16", "mxfp4")}
_PLAIN = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "fp8": "fp8", "int8": "int8", "float": "fp32"}


def aiconfigurator(path: Path, c: Columns, given: Given) -> Iterator[Batch]:
    """Operator tables of aiconfigurator-core, by the columns that each kind has."""
    kinds: dict[str, Callable[[Columns], tuple[str, Columns, str]]] = {
        "gemm_dtype": _aic_gemm, "attn_dtype": _aic_attention, "moe_dtype": _aic_moe, "nccl_dtype": _aic_collective,
        "allreduce_dtype": _aic_collective}
    kind = next((k for k in kinds if k in c), "")
    n = len(c["latency"]) if "latency" in c else 0
    lines = np.arange(n) + 2
    if not kind or (kind == "attn_dtype" and "step" not in c):
        yield Batch("", c, lines, f"{path.stem}: no table of ours has this operator")
        return
    table, columns, dtype = kinds[kind](c)
    columns |= {"source": _same("aiconfigurator", n), "time_s": number(c["latency"]) * 1e-3}
    columns |= {"device": _devices(path, c, given, n), "framework": _frameworks(path, c, given, n)}
    known = np.array([v != "" for v in columns.pop("known")])
    if table == "moe":
        spread = number(c["moe_ep_size"]) > 1
        yield _part(Batch(table, columns, lines, "expert parallelism has no column"), spread)
        known_and = known & ~spread
    else:
        known_and = known
    yield _part(Batch(table, columns, lines), known_and)
    for value in sorted(set(text(c[dtype])[~known])):
        yield _part(Batch(table, columns, lines, f"{dtype} {value!r} is not known"), ~known & (text(c[dtype]) == value))


def _aic_gemm(c: Columns) -> tuple[str, Columns, str]:
    how = [_GEMM.get(str(v), ("", "", "")) for v in c["gemm_dtype"]]
    n = len(how)
    out = {"op": _same("linear", n), "model": _same("", n), "dtype_a": _pick(how, 0), "dtype_w": _pick(how, 1),
           "dtype_acc": _same("fp32", n), "quant": _pick(how, 2), "batch": np.ones(n), "cache": _same("unknown", n),
           "power_w": np.full(n, np.nan), "known": _pick(how, 2)}
    return "gemm", out | {k: number(c[k]) for k in "mnk"}, "gemm_dtype"


def _aic_attention(c: Columns) -> tuple[str, Columns, str]:
    prefill = np.array(["context" in str(v) for v in c["op_name"]])
    isl, step = number(c["isl"]), number(c["step"])
    kv, heads = number(c["num_key_value_heads"]), number(c["num_heads"])
    q_type = [_PLAIN.get(str(v), "") for v in c["attn_dtype"]]
    n = len(isl)
    out = {"model": _same("", n), "phase": np.where(prefill, "prefill", "decode").astype(object),
           "batch": number(c["batch_size"]),
           "q_len": isl, "kv_len": isl + step, "n_heads": heads, "n_kv_heads": np.where(kv > 0, kv, heads),
           "head_dim": number(c["head_dim"]), "window": number(c["window_size"]) if "window_size" in c else np.zeros(n),
           "dtype_q": np.array(q_type, dtype=object), "power_w": np.full(n, np.nan), "known": np.array(q_type, dtype=object),
           "dtype_kv": np.array([_PLAIN.get(str(v), str(v)) for v in c["kv_cache_dtype"]], dtype=object)}
    return "attention", out, "attn_dtype"


def _aic_moe(c: Columns) -> tuple[str, Columns, str]:
    how = [_MOE.get(str(v), ("", "")) for v in c["moe_dtype"]]
    out = {"kernel": text(c["kernel_source"]), "dtype_a": _pick(how, 0), "dtype_w": _pick(how, 1), "known": _pick(how, 0),
           "n_tokens": number(c["num_tokens"]), "hidden": number(c["hidden_size"]), "inter": number(c["inter_size"]),
           "topk": number(c["topk"]), "n_experts": number(c["num_experts"]), "tp": number(c["moe_tp_size"]),
           "distribution": text(c["distribution"])}
    return "moe", out, "moe_dtype"


def _aic_collective(c: Columns) -> tuple[str, Columns, str]:
    """``message_size`` counts elements."""
    dtype = "nccl_dtype" if "nccl_dtype" in c else "allreduce_dtype"
    kind = np.array([_PLAIN.get(str(v), "") for v in c[dtype]], dtype=object)
    size = np.array([{"fp32": 4.0, "fp16": 2.0, "bf16": 2.0}.get(k, 1.0) for k in kind])
    n = len(kind)
    out = {"op": text(c["op_name"]), "n_devices": number(c["num_gpus"]), "devices_per_node": number(c["num_gpus"]),
           "link": _same("", n), "dtype": kind, "bytes": number(c["message_size"]) * size, "known": kind}
    return "collective", out, dtype


def _devices(path: Path, c: Columns, given: Given, n: int) -> NDArray[Any]:
    reported = text(c["device"]) if "device" in c else _same("", n)
    names = {r: device_of(path, given, "" if any(p in list_devices() for p in path.parts) else r) for r in set(reported)}
    return np.array([names[r] for r in reported], dtype=object)


def _frameworks(path: Path, c: Columns, given: Given, n: int) -> NDArray[Any]:
    if given.framework:
        return _same(given.framework, n)
    if "framework" in c:
        pairs = zip(text(c["framework"]), text(c["version"]), strict=True)
        return np.array([f"{f.lower()}-{v}" for f, v in pairs], dtype=object)
    return _same(f"nccl-{path.parent.name}", n)


# -- vidur ---------------------------------------------------------------------------------------------------------------

#: vidur's folder -> device, where its name alone leaves the variant open (80 GB by its repository's description).
_VIDUR = {"a100": "a100_80gb"}


def vidur(path: Path, c: Columns, given: Given) -> Iterator[Batch]:
    """``mlp.csv`` (a column of medians for each operator of a layer) and the network files of vidur."""
    device = given.device or next((_VIDUR.get(p, p) for p in path.parts[::-1] if p in _VIDUR or p in list_devices()), "")
    if "collective" in c:
        yield _vidur_network(path, c, given)
        return
    m, tp = number(c["num_tokens"]), number(c["num_tensor_parallel_workers"])
    n = len(m)
    heads, kv, embd, wide = (number(c[k]) for k in ("n_head", "n_kv_head", "n_embd", "n_expanded_embd"))
    gated = np.array([str(v) == "True" for v in c["use_gated_mlp"]])
    dim = embd / heads
    common = {"source": _same("vidur", n), "device": _same(device, n)}
    model = _same(path.parent.name, n)
    products = {"attn_pre_proj": ("attn_qkv_proj", (heads + 2 * kv) / tp * dim, embd),
                "attn_post_proj": ("attn_out_proj", embd, embd / tp),
                "mlp_up_proj": ("mlp_up_proj", wide * (1 + gated) / tp, embd),
                "mlp_down_proj": ("mlp_down_proj", embd, wide / tp)}
    rope = (heads + kv) / tp * dim
    streams = {"input_layernorm": ("norm", embd, 2 * embd), "post_attention_layernorm": ("norm", embd, 2 * embd),
               "attn_rope": ("rope", rope, 2 * rope), "mlp_act": ("act", wide / tp, wide / tp * (2 + gated)),
               "add": ("add", embd, 3 * embd)}
    for name in [k.split(".")[1] for k in c if k.startswith("time_stats.") and k.endswith(".median")]:
        time = number(c[f"time_stats.{name}.median"]) * 1e-3
        lines = np.arange(n) + 2
        if name in products:
            op, cols, k = products[name]
            yield Batch("gemm", common | {
                "framework": _same(given.framework or "pytorch-cublas", n), "op": _same(op, n), "model": model,
                **{x: _same("fp16", n) for x in ("dtype_a", "dtype_w")}, "dtype_acc": _same("fp32", n),
                "quant": _same("none", n),
                "m": m, "n": cols, "k": k, "batch": np.ones(n), "cache": _same("unknown", n), "time_s": time,
                "power_w": np.full(n, np.nan)}, lines)
        elif name in streams:
            op, cols, moved = streams[name]
            named = {"norm": np.where(gated, "rmsnorm", "layernorm"), "act": np.where(gated, "silu_mul",
                                                                                      "gelu")}.get(op, _same(op, n))
            yield Batch("elementwise", common | {
                "framework": _same(given.framework or "sarathi/vllm kernels", n), "op": named.astype(object), "rows": m,
                "cols": cols, "dtype": _same("fp16", n), "bytes_rw": m * moved * 2.0, "time_s": time}, lines)
        else:
            yield Batch("elementwise", common | {"time_s": time}, lines, f"{name}: several kernels under one name")


def _vidur_network(path: Path, c: Columns, given: Given) -> Batch:
    folder = path.parent.name                                  # a100_dgx, a100_pairwise_nvlink
    chip, n = folder.split("_")[0], len(c["size"])
    dgx = folder.endswith("dgx")
    device = given.device or {"a100": "a100_sxm4_80gb" if dgx else "a100_pcie_80gb", "h100": "h100_sxm"}.get(chip, chip)
    workers, per_node = number(c["num_workers"]), number(c["max_devices_per_node"])
    link = ("nvswitch" if dgx else "pairwise-nvlink+pcie")
    ops = text(c["collective"])
    time = next(number(c[k]) for k in c if k.endswith(".median")) * 1e-3
    across = number(c["devices_per_node"]) < workers
    return Batch("collective", {
        "source": _same("vidur", n), "device": _same(device, n), "framework": _same(given.framework or "nccl", n), "op": ops,
        "n_devices": workers, "devices_per_node": np.minimum(np.where(across, number(c["devices_per_node"]), workers),
                                                             per_node),
        "link": np.where(across, f"{link}+internode", link).astype(object), "dtype": _same("fp16", n),
        "bytes": number(c["size"]),
        "time_s": time}, np.arange(n) + 2)


# -- NeuSight ------------------------------------------------------------------------------------------------------------

_BINARY = {"add": "add", "mul": "mul", "div": "div", "pow": "pow"}
_UNARY = {"addu": "add_scalar", "mulu": "mul_scalar", "divu": "div_scalar", "powu": "pow_scalar", "relu": "relu",
          "gelu": "gelu",
          "tanh": "tanh", "softmax": "softmax", "ln": "layernorm"}


def neusight(path: Path, c: Columns, given: Given) -> Iterator[Batch]:
    """One eager fp32 call between two events (TF32 off): ``OPName,B,M,N,K`` or ``OPName,B,H``, ``Latency``, ``Device``."""
    n, op = len(c["OPName"]), text(c["OPName"])
    devices = {d: device_of(path, given, d) for d in set(text(c["Device"]))} if "Device" in c else {}
    device = np.array([devices.get(str(d), "") for d in c.get("Device", _same("", n))], dtype=object)
    common = {"source": _same("neusight", n), "device": device, "framework": _same(given.framework or "torch", n),
              "time_s": number(c["Latency"]) * 1e-3}
    lines = np.arange(n) + 2
    matrix = np.isin(op, ("bmm", "linear"))
    if matrix.any():
        b, m, cols, k = (number(c[x]) for x in ("B", "M", "N", "K"))
        linear = op == "linear"
        yield _part(Batch("gemm", common | {
            "op": op, "model": _same("", n), **{x: _same("fp32", n) for x in ("dtype_a", "dtype_w", "dtype_acc")},
            "quant": _same("none", n), "m": np.where(linear, b * m, m), "n": cols, "k": k, "batch": np.where(linear, 1.0, b),
            "cache": _same("warm", n), "power_w": np.full(n, np.nan)}, lines), matrix)
    known = np.isin(op, [*_BINARY, *_UNARY])
    if known.any():
        b, h = number(c["B"]), number(c["H"])
        arrays = np.where(np.isin(op, list(_BINARY)), 3.0, 2.0)
        names = np.array([(_BINARY | _UNARY).get(o, o) for o in op], dtype=object)
        yield _part(Batch("elementwise", common | {"op": names, "rows": b, "cols": h, "dtype": _same("fp32", n),
                                                   "bytes_rw": b * h * arrays * 4.0}, lines), known)
    for name in sorted(set(op[~matrix & ~known])):
        yield _part(Batch("", common, lines, f"OPName {name!r}: no table of ours has this operator"), op == name)


def _part(batch: Batch, mask: NDArray[np.bool_]) -> Batch:
    return batch._replace(columns={k: v[mask] for k, v in batch.columns.items() if len(v) == len(mask)},
                          lines=batch.lines[mask])


def _same(value: str, n: int) -> NDArray[Any]:
    return np.full(n, value, dtype=object)


def _pick(rows: Sequence[tuple[str, ...]], i: int) -> NDArray[Any]:
    return np.array([r[i] for r in rows], dtype=object)


def reader_of(columns: Mapping[str, Any]) -> Callable[[Path, Columns, Given], Iterator[Batch]] | None:
    """Which project's layout a table of columns is; None for none of them."""
    if "OPName" in columns and "Latency" in columns:
        return neusight
    if any(k.startswith("time_stats.") for k in columns):
        return vidur
    return aiconfigurator if "latency" in columns and ("op_name" in columns or "gemm_dtype" in columns) else None
