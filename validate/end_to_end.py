"""Whole forwards and serving points against measured ones, through the ordinary path, with shipped parameters.

Forwards of NeuSight run Hugging Face models eagerly in fp32: attention as two batched products with element-wise
kernels between them, logits of every position. Serving points are taken where nothing queues: of each series the
lowest concurrency, and at most ``QUIET``; their TPOT holds the prefills of the others that come between
(``sim.served.interrupted``). The intervals are the composed ones, so their coverage tests the stated
correlation (errors of one op class move together, those of different classes independently).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_models.bind import bind
from accel_models.price import price
from accel_models.registry import load_device
from sim.api import whatif
from sim.estimate import compose
from sim.query import Query, resolve
from sim.served import interrupted
from validate.fit_serving import WHAT, left_out, system
from workloads import graph
from workloads.model_spec import ModelSpec
from workloads.ops import Attention, Elementwise, Gemm, Op

STORED = Path(str(resources.files("validate"))) / "end_to_end.csv"
COLUMNS = ("what", "group", "n", "mape", "median", "bias", "coverage", "served", "note")
#: Most requests in flight at which prefills hardly wait for each other.
QUIET = 8.0
#: Forwards -> bundled model and what differs. NeuSight's GPT-3 XL is 3072 wide (24 heads of 128, as its products of
#: 3072 x 9216 and 24 heads of 128 per sequence in ``gemm.csv`` show), where the bundled one takes 16 heads of 128.
_FP32 = ("model.torch_dtype", "float32")
FORWARDS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "bert_large": ("google-bert/bert-large-uncased", ()), "gpt2_large": ("openai-community/gpt2-large", ()),
    "gpt3_xl": ("openai/gpt3-xl", (_FP32, ("model.n_embd", "3072"), ("model.n_head", "24"))),
    "opt_13": ("facebook/opt-1.3b", (_FP32,))}
#: Names in the tables -> bundled models.
MODELS = {"Qwen/Qwen3-235B-A22B-FP8": "Qwen/Qwen3-235B-A22B",
          "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Llama-3.1-8B", "zhipuai/GLM-5": "zai-org/GLM-5",
          "nvidia/Llama-3.1-8B-Instruct-FP8": "meta-llama/Llama-3.1-8B"}
#: Checkpoints that carry their own 8-bit or 4-bit format, which ``gemm_quant`` only abbreviates.
OWN_FORMAT = ("deepseek-ai/", "MiniMaxAI/", "moonshotai/")
#: Published FP8 checkpoints of these makers have 128-wide blocks, whatever the table's name for it.
BLOCKS = ("Qwen/", "zhipuai/")
QUANT = {"fp8": "FP8", "fp8_block": "FP8_BLOCK", "int4_wo": "W4A16", "bf16": "", "": ""}


class Row(NamedTuple):
    """One whole step, measured and predicted [s]; ``note`` says why there is no prediction."""

    what: str
    group: str
    measured: float
    predicted: float
    lo: float
    hi: float
    note: str = ""


# -- forwards ---------------------------------------------------------------------------------------------------------

def eager(spec: ModelSpec, batch: float, seq: float) -> tuple[Op, ...]:
    """The kernels of an eager Hugging Face forward (transformers 4.3x): attention in pieces, norms and residuals apart,
    GPT-2's tanh approximation as eight kernels, and logits of every position."""
    out: list[Op] = []
    for op in graph.build(spec, [graph.prefill(batch, seq)]).ops:
        if isinstance(op, Attention):
            out += _unfused(op)
        elif isinstance(op, Elementwise):
            out += _apart(op, spec)
        else:
            out.append(replace(op, m=batch * seq) if isinstance(op, Gemm) and op.name == "lm_head" else op)
    return tuple(out)


def _unfused(op: Attention) -> list[Op]:
    """Scores, scale, mask, softmax, weighted sum."""
    calls = float(np.asarray(op.batch)) * float(np.asarray(op.n_heads))
    q, kv = float(np.asarray(op.q_len)), float(np.asarray(op.kv_len))
    size = calls * q * kv * (4.0 if op.q == "fp32" else 2.0)

    def passed(name: str, kind: str, reads: float) -> Elementwise:
        return Elementwise(name=name, repeat=op.repeat, kind=kind, rows=calls * q, cols=kv, bytes_read=reads * size,
                           bytes_written=size)

    product = Gemm(name="scores", repeat=op.repeat, m=q, n=kv, k=op.head_dim, batch=calls, a=op.q, w=op.kv, out=op.q,
                   static=False)
    return [product, passed("scale", "relu", 1.0), passed("mask", "add", 1.0), passed("softmax", "softmax", 1.0),
            replace(product, name="weighted", n=op.v_head_dim, k=kv)]


def _apart(op: Elementwise, spec: ModelSpec) -> list[Op]:
    if op.kind in ("kv_append", "sampling"):
        return []
    if op.kind.startswith("add_"):
        size = float(np.asarray(op.bytes_read)) / 2
        return [replace(op, name="residual", kind="add", bytes_read=2 * size, bytes_written=size),
                replace(op, kind=op.kind.removeprefix("add_"), bytes_read=size, bytes_written=size)]
    if op.kind == "gelu" and "gpt" in spec.family.lower():
        size = float(np.asarray(op.bytes_read))
        one, two = replace(op, kind="relu"), replace(op, kind="add", bytes_read=2 * size)
        return [replace(one, repeat=6.0 * np.asarray(op.repeat)), replace(two, repeat=2.0 * np.asarray(op.repeat))]
    return [op]


def step(ops: Sequence[Op], device: str, framework: str) -> tuple[float, float, float]:
    """Time of all kernels one after another, and its composed 80 % interval. [s]"""
    priced = price(ops, bind([load_device(device)]), framework=framework)
    times = [np.asarray(p.cost.time * np.asarray(op.repeat, dtype=np.float64)) for op, p in zip(ops, priced, strict=True)]
    total = sum(times, np.zeros(()))
    lo, hi = compose(ops, priced, times, total)
    return float(total.ravel()[0]), float(np.ravel(lo)[0]), float(np.ravel(hi)[0])


def forwards(directory: Path) -> list[Row]:
    """``end_to_end.csv``: totals of eager forwards; layer components of the sharded GPT-3 layer."""
    out = []
    for r in _read(directory / "end_to_end.csv"):
        measured, whole = float(r["time_s"]), r["component"] == "total"
        what, group = ("whole forward" if whole else "layer component", r["model"] if whole else f"{r['phase']}")
        reason = _not_modelled(r)
        if reason:
            out.append(Row(what, group, measured, np.nan, np.nan, np.nan, reason))
            continue
        batch, seq = float(r["batch"]), float(r["seq"])
        if whole:
            model, sets = FORWARDS[r["model"]]
            ops = eager(resolve(Query(model=model, hw=r["device"], quant="fp32", isl=1, osl=1, sets=sets)).spec, batch, seq)
        else:
            ops = tuple(_component(r["component"], r["phase"], batch, seq))
        out.append(Row(what, group, measured, *step(ops, r["device"], r["framework"])))
    return out


def _not_modelled(r: dict[str, str]) -> str:
    if r["phase"] == "train_step":
        return "training step: no backward pass in the graph"
    if r["framework"].endswith("-fused"):
        return "compiled graph: its fusion is not known"
    if r["component"] == "total" and r["model"] not in FORWARDS:
        return "no public configuration"
    return "all-reduce of the whole is scored with the collectives" if r["component"].startswith("allreduce") else ""


def _component(name: str, phase: str, batch: float, seq: float, hidden: float = 12288.0, heads: float = 24.0) -> list[Op]:
    """One operator of one GPT-3 175B layer on one of four ranks, fp16 (LLMCompass, section on validation)."""
    tokens, queries, dim = (batch * seq, seq, 128.0) if phase == "prefill" else (batch, 1.0, 128.0)
    given: dict[str, Any] = {"a": "fp16", "w": "fp16", "out": "fp16"}
    linear = {"qkv_proj": (3 * hidden / 4, hidden), "out_proj": (hidden, hidden / 4), "mlp_up": (hidden, hidden)}
    if name in linear:
        n, k = linear[name]
        return [Gemm(name=name, m=tokens, n=n, k=k, **given)]
    if name in ("q_mul_k", "a_mul_v"):
        n, k = (seq, dim) if name == "q_mul_k" else (dim, seq)
        return [Gemm(name=name, m=queries, n=n, k=k, batch=batch * heads, static=False, **given)]
    rows, cols = (batch * heads * queries, seq) if name == "softmax" else (tokens, hidden)
    kind = "softmax" if name == "softmax" else "layernorm"
    return [Elementwise(name=name, kind=kind, rows=rows, cols=cols, bytes_read=2 * rows * cols, bytes_written=2 * rows * cols)]


# -- serving ----------------------------------------------------------------------------------------------------------

def serving(directory: Path) -> list[Row]:
    """``serving_points.csv`` where nothing queues: TPOT and TTFT of the lowest concurrency of each series."""
    return [row for r in quiet(_read(directory / "serving_points.csv")) for row in _point(r)]


def quiet(rows: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Of each series (model, software, lengths, split) the row with fewest requests in flight, if at most ``QUIET``.

    Left out: pipelines, data-parallel attention, and splits over more than one node of eight (recorded twice)."""
    keys = ("model", "framework", "input_len", "output_len", "tp", "moe_tp", "moe_ep")
    best: dict[tuple[str, ...], dict[str, str]] = {}
    for r in rows:
        if float(r["pp"] or 1) > 1 or float(r["attention_dp"] or 1) > 1 or float(r["tp"] or 1) > 8:
            continue
        if float(r["concurrency"]) > QUIET:
            continue
        key = tuple(r[k] for k in keys)
        if key not in best or float(r["concurrency"]) < float(best[key]["concurrency"]):
            best[key] = r
    yield from best.values()


def _point(r: dict[str, str]) -> list[Row]:
    name, tp, ep = r["model"], int(float(r["tp"] or 1)), int(float(r["moe_ep"] or 1))
    gemm = "" if name.startswith(OWN_FORMAT) else "FP8_BLOCK" if name.startswith(BLOCKS) else QUANT[r["gemm_quant"]]
    group = f"{name.split('/')[-1]}, {r['framework'].split('-')[0]}"
    measured = {"TPOT": float(r["tpot_s"]), "TTFT": float(r["ttft_s"])}
    try:
        found = whatif(MODELS.get(name, name), r["device"] if tp == 1 else f"{tp}x {r['device']}", tp=tp, ep=ep, quant=gemm,
                       batch=max(int(float(r["concurrency"])), 1), isl=int(float(r["input_len"])),
                       osl=int(float(r["output_len"])), elasticities=False,
                       framework=r["framework"].split("-")[0]).data["metrics"]
    except ValueError as error:
        return [Row(w, group, m, np.nan, np.nan, np.nan, str(error)) for w, m in measured.items()]
    batch, osl = max(float(r["concurrency"]), 1.0), float(r["output_len"])
    ttft, tpot = ({k: found[f"{w}_s"][k] for k in ("value", "lo", "hi")} for w in ("ttft", "tpot"))
    between = {k: float(interrupted(tpot[k], ttft[k], batch, osl)) for k in tpot}
    return [Row("TPOT", group, measured["TPOT"], between["value"], between["lo"], between["hi"]),
            Row("TTFT", group, measured["TTFT"], ttft["value"], ttft["lo"], ttft["hi"])]


def points(rows: Sequence[Row], what: str) -> tuple[NDArray[np.float64], NDArray[np.float64], list[str]]:
    """Measured and predicted times of one figure of the serving points, and the groups they are of."""
    mine = [r for r in rows if r.what == what and not r.note]
    return np.array([r.measured for r in mine]), np.array([r.predicted for r in mine]), [r.group for r in mine]


# -- figures ----------------------------------------------------------------------------------------------------------

def score(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Figures by kind and group, "all" over the groups; rows without a prediction are counted with their reason."""
    out: list[dict[str, Any]] = []
    for what in dict.fromkeys(r.what for r in rows):
        mine = [r for r in rows if r.what == what]
        inside = dict(zip((id(r) for r in mine if not r.note), _tested(rows, what), strict=True)) if what in WHAT else {}
        for group in ["all", *sorted({r.group for r in mine})]:
            part = [r for r in mine if group in ("all", r.group)]
            good = [r for r in part if not r.note]
            if good:
                found = {"served": float(f"{np.mean([inside[id(r)] for r in good]):.4g}")} if inside else {}
                out.append({"what": what, "group": group, "note": ""} | _figures(good) | found)
            if group != "all":
                continue
            for note in sorted({r.note for r in part if r.note}):
                out.append({"what": what, "group": "not modelled", "n": sum(r.note == note for r in part), "note": note})
    return out


def _tested(rows: Sequence[Row], what: str) -> list[bool]:
    """Whether each serving point lies in the interval learned from the other systems."""
    measured, predicted, groups = points(rows, what)
    names = np.array([system(g) for g in groups], dtype=object)
    return [bool(x) for x in left_out(measured, predicted, names)] if len(set(names)) > 1 else [False] * len(names)


def _figures(rows: Sequence[Row]) -> dict[str, float]:
    off = np.array([r.predicted / r.measured - 1.0 for r in rows])
    inside = np.mean([r.lo <= r.measured <= r.hi for r in rows])
    cell: Callable[[Any], float] = lambda x: float(f"{float(x):.4g}")  # noqa: E731
    return {"n": len(rows), "mape": cell(np.mean(np.abs(off))), "median": cell(np.median(np.abs(off))),
            "bias": cell(np.median(off)), "coverage": cell(inside)}


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as f:
        return list(csv.DictReader(f))


def save(scores: Sequence[dict[str, Any]], path: Path = STORED) -> None:
    with path.open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(scores)


def stored(path: Path = STORED) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as f:
        text = ("what", "group", "note")
        return [{k: v if k in text else float(v) if v else None for k, v in r.items()} for r in csv.DictReader(f)]
