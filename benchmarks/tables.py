"""Tables of operations for ``perfboard predict``, made row by row from a seed: same seed, same file."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

DEVICES = ("h200_sxm", "h100_sxm", "a100_sxm4_80gb", "b200_sxm", "l40s", "a40")
GEMM_COLUMNS = ("op", "device", "m", "n", "k", "dtype_a", "dtype_w")
MIXED_COLUMNS = ("op", "device", "framework", "m", "n", "k", "batch", "q_len", "kv_len", "n_heads", "n_kv_heads",
                 "head_dim", "n_tokens", "hidden", "inter", "topk", "n_experts", "rows", "cols", "bytes_rw", "bytes",
                 "n_devices", "dtype_a", "dtype_w")

Row = dict[str, object]


def _gemm(draw: random.Random) -> Row:
    return {"op": "gemm", "m": draw.randint(1, 8192), "n": 64 * draw.randint(1, 256), "k": 64 * draw.randint(1, 256),
            "dtype_a": draw.choice(("bf16", "fp16", "fp8_e4m3")),
            "dtype_w": draw.choice(("bf16", "fp8_e4m3", "int4_g128"))}


def _attention(draw: random.Random) -> Row:
    heads, length = draw.choice((16, 32, 64)), draw.randint(16, 16384)
    decode = draw.random() < 0.5
    return {"op": "attention_decode" if decode else "attention_prefill", "framework": draw.choice(("", "vllm-0.8")),
            "batch": draw.randint(1, 64), "q_len": 1 if decode else length, "kv_len": length, "n_heads": heads,
            "n_kv_heads": heads // draw.choice((1, 4, 8)), "head_dim": draw.choice((64, 128))}


def _moe(draw: random.Random) -> Row:
    return {"op": "moe", "n_tokens": draw.randint(1, 8192), "hidden": 1024 * draw.randint(1, 8),
            "inter": 256 * draw.randint(1, 56), "topk": draw.choice((2, 4, 8)), "n_experts": draw.choice((8, 64, 128)),
            "dtype_a": "bf16", "dtype_w": "bf16"}


def _small(draw: random.Random) -> Row:
    rows, cols = draw.randint(1, 16384), 64 * draw.randint(1, 256)
    return {"op": draw.choice(("rmsnorm", "silu_mul", "softmax", "rope")), "rows": rows, "cols": cols,
            "bytes_rw": 4 * rows * cols}


def _collective(draw: random.Random) -> Row:
    return {"op": draw.choice(("all_reduce", "all_gather", "alltoall")), "bytes": draw.randint(1024, 2**30),
            "n_devices": draw.choice((2, 4, 8))}


MIX: tuple[Callable[[random.Random], Row], ...] = (_gemm, _gemm, _attention, _moe, _small, _collective)


def write(path: Path, rows: int, *, mixed: bool, seed: int = 3) -> None:
    """``rows`` rows over several devices: matrix products alone, or all kinds in turn at random."""
    draw = random.Random(seed)
    columns = MIXED_COLUMNS if mixed else GEMM_COLUMNS
    with path.open("w", encoding="utf-8") as f:
        f.write(",".join(columns) + "\n")
        for _ in range(rows):
            row = (draw.choice(MIX) if mixed else _gemm)(draw) | {"device": draw.choice(DEVICES)}
            f.write(",".join(str(row.get(c, "")) for c in columns) + "\n")
