"""Serving results and profiler traces into tables of our schema: vLLM bench JSON, AIPerf profile_export.jsonl, InferenceX
agg JSON, aiconfigurator's silicon_sample.csv, PyTorch profiler Chrome traces (kernel durations, with shapes where the
trace recorded them). Rows are dictionaries: such files are small.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from validate.import_formats import COLUMNS, Batch, Given, device_of

_REQUEST_COLUMNS = COLUMNS["serving_requests"]
_DTYPES = {"c10::BFloat16": "bf16", "c10::Half": "fp16", "float": "fp32", "c10::Float8_e4m3fn": "fp8", "signed char": "int8"}


def batch(table: str, rows: Sequence[Mapping[str, Any]], lines: Sequence[int] = (), reason: str = "") -> Batch:
    """Rows as columns, blank where a row has no such field."""
    names = list(dict.fromkeys(k for r in rows for k in r))
    columns = {k: np.array([r.get(k, "") for r in rows], dtype=object) for k in names}
    for k in [k for k in names if k.endswith("_s") or k in ("m", "n", "k", "batch")]:
        columns[k] = np.array([float(v) if isinstance(v, int | float) else float("nan") for v in columns[k]])
    return Batch(table, columns, np.array(lines or range(1, len(rows) + 1)), reason)


def read_json(path: Path) -> Any:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as f:
        try:
            return json.load(f)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; expected JSON") from None


def from_json(path: Path, given: Given) -> Iterator[Batch]:
    """vLLM bench, InferenceX or a Chrome trace, by the keys of the file."""
    data = read_json(path)
    if isinstance(data, Mapping) and "traceEvents" in data:
        yield from chrome_trace(path, data, given)
    elif isinstance(data, Mapping) and "mean_ttft_ms" in data:
        yield from vllm_bench(path, data, given)
    elif rows := [r for r in (data if isinstance(data, list) else [data]) if isinstance(r, Mapping) and "tput_per_gpu" in r]:
        yield batch("serving_points", [inferencex(path, r, given) for r in rows])
    else:
        raise ValueError(f"{path}: JSON of no known layout; known: vLLM bench (mean_ttft_ms), InferenceX agg (tput_per_gpu), "
                         "Chrome trace (traceEvents)")


def vllm_bench(path: Path, d: Mapping[str, Any], given: Given) -> Iterator[Batch]:
    """Aggregates are milliseconds, lists are seconds. Lengths are means over the requests that completed."""
    done = max(int(d.get("completed") or 0), 1)
    yield batch("serving_points", [{
        "source": "vllm_bench", "device": _device(path, d, given),
        "framework": given.framework or str(d.get("backend") or "vllm"),
        "model": d.get("model_id", ""), "precision": d.get("precision", ""),
        "input_len": d.get("total_input_tokens", 0) / done, "output_len": d.get("total_output_tokens", 0) / done,
        "concurrency": d.get("max_concurrency") or d.get("max_concurrent_requests", ""), "tp": d.get("tp", ""),
        "pp": d.get("pp", ""),
        "measured": str(d.get("date", ""))[:8], "ttft_s": d["mean_ttft_ms"] * 1e-3, "tpot_s": d["mean_tpot_ms"] * 1e-3}])
    ttfts, itls, inputs, outputs = (d.get(k) or [] for k in ("ttfts", "itls", "input_lens", "output_lens"))
    if not ttfts:
        return
    starts = d.get("start_times") or [None] * len(ttfts)
    first = min((s for s in starts if s is not None), default=0.0)
    totals = d.get("latencies") or [t + sum(i) for t, i in zip(ttfts, itls, strict=True)]
    queued = d.get("queue_times") or [None] * len(ttfts)
    rows = zip(starts, inputs, outputs, queued, ttfts, totals, strict=True)
    yield batch("serving_requests", [_request(path.stem, i, s - first if s is not None else None, *rest)
                                     for i, (s, *rest) in enumerate(rows)])


def _request(run: str, i: int, arrival: float | None, prompt: Any, output: Any, queue: float | None, ttft: float,
             total: float) -> dict[str, Any]:
    values = (run, i, arrival, prompt, output, queue, ttft, total, arrival)
    return {k: "" if v is None else v for k, v in zip(_REQUEST_COLUMNS, values, strict=True)}


def aiperf(path: Path, given: Given) -> Iterator[Batch]:
    """One request a line; times in the unit that each metric states. Failed requests are reported."""
    rows, lines, failed = [], [], []
    with path.open(encoding="utf-8") as f:
        for i, line in enumerate(f, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                metrics, meta = record["metrics"], record["metadata"]
                if record.get("error") or "request_latency" not in metrics:
                    failed.append((i, record))
                    continue
                rows.append((int(meta["request_start_ns"]), metrics))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}:{i}: not a record of profile_export.jsonl ({error!r})") from None
            lines.append(i)
    if failed:
        yield batch("serving_requests", [{"run": path.stem} for _ in failed], [i for i, _ in failed], "the request failed")
    if not rows:
        return
    first = min(start for start, _ in rows)
    yield batch("serving_requests", [
        _request(path.parent.name or path.stem, i, (start - first) * 1e-9, _value(m, "input_sequence_length"),
                 _value(m, "output_sequence_length"), None, _value(m, "time_to_first_token"), _value(m, "request_latency"))
        for i, (start, m) in enumerate(rows)], lines)
    ends = [(s * 1e-9, s * 1e-9 + _value(m, "request_latency")) for s, m in rows]
    span = max(e for _, e in ends) - min(s for s, _ in ends)
    several = [_value(m, "inter_token_latency") for _, m in rows if "inter_token_latency" in m]
    yield batch("serving_points", [{
        "source": "aiperf", "device": _device(path, {}, given), "framework": given.framework, "model": "",
        "input_len": float(np.mean([_value(m, "input_sequence_length") for _, m in rows])),
        "output_len": float(np.mean([_value(m, "output_sequence_length") for _, m in rows])),
        # Little's law: requests in flight on average.
        "concurrency": round(sum(e - s for s, e in ends) / span, 2) if span > 0 else 1,
        "ttft_s": float(np.mean([_value(m, "time_to_first_token") for _, m in rows])),
        "tpot_s": float(np.mean(several)) if several else float("nan")}])


_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}


def _value(metrics: Mapping[str, Any], tag: str) -> float:
    found = metrics.get(tag)
    if not isinstance(found, Mapping):
        return float("nan")
    return float(found["value"]) * _UNITS.get(str(found.get("unit", "")), 1.0)


def inferencex(path: Path, d: Mapping[str, Any], given: Given) -> dict[str, Any]:
    """An aggregate row: latencies without ``_ms`` are seconds. TTFT and TPOT are the means where given, else medians."""
    def seconds(what: str) -> float:
        name = next((k for k in (f"mean_{what}", f"median_{what}") if d.get(k) is not None), "")
        return float(d[name]) if name else float("nan")
    attention_dp = d.get("dp_attention")
    return {"source": "inferencex", "device": _device(path, {"device": d.get("hw", "")}, given),
            "framework": given.framework or str(d.get("framework", "")), "model": d.get("model", ""),
            "precision": d.get("precision", ""), "input_len": d.get("isl", ""), "output_len": d.get("osl", ""),
            "concurrency": d.get("conc", ""), "tp": d.get("tp", ""), "pp": d.get("pp", ""), "moe_ep": d.get("ep", ""),
            "attention_dp": d.get("tp", "") if attention_dp in (True, "true", "True") else "",
            "ttft_s": seconds("ttft"), "tpot_s": seconds("tpot")}


def silicon_sample(path: Path, c: Mapping[str, Any], given: Given) -> Iterator[Batch]:
    """aiconfigurator's public serving points; disaggregated ones have no columns here."""
    n = len(c["silicon_ttft_ms"])
    rows = [{k: str(v[i]) for k, v in c.items()} for i in range(n)]
    both = [[i for i in range(n) if (rows[i].get("mode") == "agg") == wanted] for wanted in (True, False)]
    names = {"gemm_quant": "gemm_quant_mode", "moe_quant": "moe_quant_mode", "input_len": "isl", "output_len": "osl",
             "tp": "tp_size",
             "pp": "pp_size", "attention_dp": "attention_dp_size", "moe_tp": "moe_tp_size", "moe_ep": "moe_ep_size",
             "precision": "precision", "model": "model_path", "concurrency": "batch_size"}
    made = [{"source": "aiconfigurator_silicon", "device": given.device or r["system"],
             "framework": f"{r['backend']}-{r['backend_version']}", **{k: r.get(v, "") for k, v in names.items()},
             "ttft_s": _milli(r["silicon_ttft_ms"]), "tpot_s": _milli(r["silicon_tpot_ms"])} for r in rows]
    for which, reason in zip(both, ("", "disaggregated serving has no columns"), strict=True):
        if which:
            yield batch("serving_points", [made[i] for i in which], [i + 2 for i in which], reason)


def _milli(cell: str) -> float:
    try:
        return float(cell) * 1e-3
    except ValueError:
        return float("nan")


def _device(path: Path, d: Mapping[str, Any], given: Given) -> str:
    return device_of(path, given, str(d.get("device") or d.get("gpu") or ""))


# -- PyTorch profiler ------------------------------------------------------------------------------------------------------

_PRODUCTS = {"aten::mm": 0, "aten::addmm": 1, "aten::bmm": 0}


def chrome_trace(path: Path, data: Mapping[str, Any], given: Given) -> Iterator[Batch]:
    """Kernel durations [us]. A product whose CPU operator recorded its shapes becomes a GEMM row, the median over its
    kernels; every other kernel a row of ``kernels``."""
    events = [e for e in data["traceEvents"] if isinstance(e, Mapping)]
    operators = {e["args"]["External id"]: e for e in events
                 if e.get("cat") == "cpu_op" and "External id" in e.get("args", {}) and e["args"].get("Input Dims")}
    reported = next((str(p.get("name")) for p in data.get("deviceProperties", ()) if isinstance(p, Mapping)), "")
    device, framework = device_of(path, given, reported), given.framework or "torch"
    times: dict[tuple[tuple[str, Any], ...], list[float]] = {}
    for e in events:
        if e.get("cat") != "kernel" or e.get("ph", "X") != "X":
            continue
        operator = operators.get(e.get("args", {}).get("External id"))
        shape = _product(operator) if operator else None
        row = shape or {"kernel": str(e["name"]), "op": str(operator["name"]) if operator else ""}
        times.setdefault(tuple(row.items()), []).append(float(e["dur"]) * 1e-6)
    common = {"source": "torch_profiler", "device": device, "framework": framework}
    rows = [(dict(row), found) for row, found in times.items()]
    if products := [common | r | {"time_s": float(np.median(t))} for r, t in rows if "m" in r]:
        yield batch("gemm", products)
    if others := [common | r | {"calls": len(t), "time_s": float(np.median(t))} for r, t in rows if "m" not in r]:
        yield batch("kernels", others)


def _product(e: Mapping[str, Any]) -> dict[str, Any] | None:
    """Shape of a matrix product from an operator's ``Input Dims``; None where it is none or the shapes are not there."""
    if e["name"] not in _PRODUCTS:
        return None
    first = _PRODUCTS[e["name"]]
    dims, types = e["args"]["Input Dims"], e["args"].get("Input type") or []
    try:
        a, b = dims[first], dims[first + 1]
        (*head, m, k), n = a, b[-1]
    except (IndexError, ValueError, TypeError):
        return None
    dtype = _DTYPES.get(types[first] if len(types) > first else "", "")
    if not dtype:
        return None
    return {"op": "bmm" if head else "linear", "dtype_a": dtype, "dtype_w": dtype, "dtype_acc": "fp32", "quant": "none",
            "m": m, "n": n, "k": k, "batch": int(np.prod(head)) if head else 1, "cache": "unknown"}
