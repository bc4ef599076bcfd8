"""Bytes that a network keeps, whole or one device's share: weights by kind, KV cache, recurrent state, activations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workloads.formats import get_format
from workloads.model_spec import Layer, Linear, ModelSpec, Recurrent
from workloads.parallel import Parallel

Array = NDArray[np.float64]

KINDS = ("attention", "mlp", "experts", "embed", "lm_head", "other")
STATE_FORMAT = "fp32"       # as ops.Scan: recurrences are kept in fp32 by the public kernels


def _linear_bytes(x: Linear, plain: float, split: Parallel) -> float:
    """Biases stay in the model's unquantised format of ``plain`` bytes. K and V are cut by whole heads."""
    ways = 1 if x.split == "none" else min(split.tp, x.heads) if x.heads else split.tp
    return (x.n_weights * get_format(x.weight).nbytes + (x.n_out if x.bias else 0) * plain) / ways


def _layer_bytes(x: Layer, plain: float, split: Parallel) -> Iterator[tuple[str, float]]:
    yield "other", x.norm_params * plain
    if x.mixer:
        yield "attention", sum(_linear_bytes(y, plain, split) for y in x.mixer.linears)
        yield "other", x.mixer.extra_params * plain
    if x.ffn:
        yield "mlp", sum(_linear_bytes(y, plain, split) for y in x.ffn.linears)
        yield "other", x.ffn.extra_params * plain
        if e := x.ffn.experts:
            stored = e.n_experts * (e.n_weights * get_format(e.weight).nbytes + e.n_bias * plain)
            yield "experts", stored / (split.ep * split.expert_cut)


def layer_weights(spec: ModelSpec, layer: Layer, split: Parallel | None = None) -> dict[str, float]:
    """Stored weights [B] of one layer by kind, on one device of ``split``."""
    found: dict[str, float] = {}
    for kind, nbytes in _layer_bytes(layer, get_format(spec.dtype).nbytes, split or Parallel()):
        found[kind] = found.get(kind, 0.0) + nbytes
    return found


def weights_bytes(spec: ModelSpec, split: Parallel | None = None) -> dict[str, float]:
    """Stored weights [B] by kind, scales and other metadata included; a tied head is stored once, under ``embed``.

    Token mixers of every sort count as ``attention``, routers and shared experts as ``mlp``, norms as ``other``.
    ``split``: the share of one device. Linears are cut as they say, what is not cut is replicated; layers spread
    evenly over pp stages, and the fullest stage holds the embedding or the head, whichever is larger.
    """
    s = split or Parallel()
    plain = get_format(spec.dtype).nbytes
    total = dict.fromkeys(KINDS, 0.0)
    for count, layer in zip(spec.counts, spec.layers, strict=True):
        for kind, nbytes in _layer_bytes(layer, plain, s):
            total[kind] += count * nbytes / s.pp
    embed = spec.embed_params * get_format(spec.embed_format).nbytes / s.tp
    head = _linear_bytes(spec.lm_head, plain, s) if spec.lm_head and not spec.tied_embeddings else 0.0
    total["embed"] += embed if s.pp == 1 or embed >= head else 0.0
    total["lm_head"] += head if s.pp == 1 or head > embed else 0.0
    total["other"] += spec.final_params * plain
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


def kv_bytes(spec: ModelSpec, kv_len: ArrayLike, batch: ArrayLike = 1.0, *, kv_format: str | None = None,
             split: Parallel | None = None) -> Array:
    """KV cache and recurrent state [B] of ``batch`` sequences of ``kv_len`` tokens; arguments broadcast.

    Windows and chunks hold at most their size; compressed layers their share and an uncompressed window. ``split``:
    the share of one device (states and KV heads cut by tp, layers by pp).
    """
    s = split or Parallel()
    element = get_format(kv_format or spec.kv_format).nbytes
    cached = spec.kv_elements_at(kv_len, s.tp) * element + state_bytes(spec) / s.tp
    return np.asarray(np.asarray(batch, dtype=np.float64) * cached / s.pp)


def activation_bytes(spec: ModelSpec, tokens: ArrayLike, split: Parallel | None = None) -> Array:
    """Workspace of the widest point of a step over ``tokens`` tokens [B]: residual, the largest linear's input and
    output side by side, and logits of the last positions (at most 256 sequences at once)."""
    s = split or Parallel()
    t = np.asarray(tokens, dtype=np.float64)
    widest = max((x.n_out + x.n_in for layer in spec.layers for part in (layer.mixer, layer.ffn) if part
                  for x in part.linears), default=spec.hidden_size)
    routed = max((e.topk * (e.hidden + 2 * e.inter / s.expert_cut) for layer in spec.layers
                  if layer.ffn and (e := layer.ffn.experts)), default=0.0)
    logits = np.minimum(t, 256.0) * spec.vocab_size / s.tp * 4.0
    return np.asarray(t * (2 * spec.hidden_size + widest / s.tp + routed) * get_format(spec.dtype).nbytes + logits)
