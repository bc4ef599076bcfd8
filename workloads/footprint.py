"""Bytes that a network keeps: stored weights by kind, KV cache, recurrent state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workloads.formats import get_format
from workloads.model_spec import Layer, Linear, ModelSpec, Recurrent

KINDS = ("attention", "mlp", "experts", "embed", "lm_head", "other")
STATE_FORMAT = "fp32"       # as ops.Scan: recurrences are kept in fp32 by the public kernels


def _linear_bytes(x: Linear, plain: float) -> float:
    """Biases stay in the model's unquantised format of ``plain`` bytes."""
    return x.n_weights * get_format(x.weight).nbytes + (x.n_out if x.bias else 0) * plain


def _layer_bytes(x: Layer, plain: float) -> Iterator[tuple[str, float]]:
    yield "other", x.norm_params * plain
    if x.mixer:
        yield "attention", sum(_linear_bytes(y, plain) for y in x.mixer.linears)
        yield "other", x.mixer.extra_params * plain
    if x.ffn:
        yield "mlp", sum(_linear_bytes(y, plain) for y in x.ffn.linears)
        yield "other", x.ffn.extra_params * plain
        if e := x.ffn.experts:
            yield "experts", e.n_experts * (e.n_weights * get_format(e.weight).nbytes + e.n_bias * plain)


def weights_bytes(spec: ModelSpec) -> dict[str, float]:
    """Stored weights [B] by kind, scales and other metadata included; a tied head is stored once, under ``embed``.

    Token mixers of every sort count as ``attention``, routers and shared experts as ``mlp``, norms as ``other``.
    """
    plain = get_format(spec.dtype).nbytes
    total = dict.fromkeys(KINDS, 0.0)
    for count, layer in zip(spec.counts, spec.layers, strict=True):
        for kind, nbytes in _layer_bytes(layer, plain):
            total[kind] += count * nbytes
    total["embed"] += spec.embed_params * get_format(spec.embed_format).nbytes
    total["other"] += spec.final_params * plain
    if spec.lm_head and not spec.tied_embeddings:
        total["lm_head"] += _linear_bytes(spec.lm_head, plain)
    return total


def kv_bytes_per_token(spec: ModelSpec, kv_format: str | None = None) -> float:
    """Cached bytes per token over all layers while nothing slides out of a window."""
    return spec.kv_bytes_per_token(get_format(kv_format or spec.kv_format).nbytes)


def state_bytes(spec: ModelSpec) -> float:
    """Recurrent state of one sequence [B]: the state in fp32, the short convolution's inputs in the model's format."""
    plain, state = get_format(spec.dtype).nbytes, get_format(STATE_FORMAT).nbytes
    return sum(c * (core.state_elements * state + core.conv_elements * plain)
               for c, x in zip(spec.counts, spec.layers, strict=True)
               if x.mixer and isinstance(core := x.mixer.core, Recurrent))


def kv_bytes(spec: ModelSpec, kv_len: ArrayLike, batch: ArrayLike = 1.0, *,
             kv_format: str | None = None) -> NDArray[np.float64]:
    """KV cache and recurrent state [B] of ``batch`` sequences of ``kv_len`` tokens; arguments broadcast.

    Windows and chunks hold at most their size; compressed layers their share and an uncompressed window.
    """
    element = get_format(kv_format or spec.kv_format).nbytes
    return np.asarray(np.asarray(batch, dtype=np.float64) * (spec.kv_elements_at(kv_len) * element + state_bytes(spec)))
