"""Bytes that one device holds: weights, KV cache, recurrent state and activations of its share of a split model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workloads.formats import get_format
from workloads.model_spec import Layer, Linear, ModelSpec, Softmax
from workloads.parallel import Parallel

Array = NDArray[np.float64]


def weight_bytes(spec: ModelSpec, split: Parallel | None = None) -> dict[str, float]:
    """Stored weights of one device by kind [B]: attention, mlp, experts, embed, lm_head, other.

    ``column`` and ``row`` linears are cut by tp (K and V by whole heads), the rest is replicated; layers are spread
    evenly over pp; the embedding and the head are cut by tp, and the fullest stage holds one of them.
    """
    s = split or Parallel()
    out = {"attention": 0.0, "mlp": 0.0, "experts": 0.0, "embed": 0.0, "lm_head": 0.0, "other": 0.0}
    dense = get_format(spec.dtype).nbytes
    for layer, count in zip(spec.layers, spec.counts, strict=True):
        for kind, nbytes in _layer_bytes(spec, layer, s, dense):
            out[kind] += count * nbytes / s.pp
    out["embed"] = spec.embed_params * get_format(spec.embed_format).nbytes / s.tp
    if spec.lm_head and not spec.tied_embeddings:
        out["lm_head"] = _linear(spec.lm_head, s, dense)
    if s.pp > 1:
        first, last = out["embed"], out["lm_head"]
        out["embed"], out["lm_head"] = (first, 0.0) if first >= last else (0.0, last)
    out["other"] += spec.final_params * dense
    return out


def _layer_bytes(spec: ModelSpec, layer: Layer, s: Parallel, dense: float) -> Iterator[tuple[str, float]]:
    yield "other", layer.norm_params * dense
    if layer.mixer:
        yield "attention", sum(_linear(x, s, dense) for x in layer.mixer.linears)
        yield "other", layer.mixer.extra_params * dense
    if layer.ffn:
        yield "mlp", sum(_linear(x, s, dense) for x in layer.ffn.linears)
        yield "other", layer.ffn.extra_params * dense
        if e := layer.ffn.experts:
            ways = s.ep * s.expert_cut
            yield "experts", e.n_experts * (e.n_weights * get_format(e.weight).nbytes + e.n_bias * dense) / ways


def _linear(x: Linear, s: Parallel, dense: float) -> float:
    ways = 1 if x.split == "none" else min(s.tp, x.heads) if x.heads else s.tp
    return (x.n_weights * get_format(x.weight).nbytes + (x.n_params - x.n_weights) * dense) / ways


def kv_bytes(spec: ModelSpec, kv_len: ArrayLike, batch: ArrayLike = 1.0, split: Parallel | None = None) -> Array:
    """KV cache, indexer keys and recurrent state of ``batch`` sequences of ``kv_len`` tokens on one device. [B]

    A sliding window keeps at most its width; a chunk at most its size; compressed attention stores every n-th
    position beside the window. KV heads are cut by tp and replicated beyond; a latent cache is replicated.
    """
    s = split or Parallel()
    length, n = np.asarray(kv_len, dtype=np.float64), np.asarray(batch, dtype=np.float64)
    kv = get_format(spec.kv_format).nbytes
    total: Array = np.zeros(())
    for layer, count in zip(spec.layers, spec.counts, strict=True):
        core = layer.mixer.core if layer.mixer else None
        if core is None:
            continue
        if not isinstance(core, Softmax):
            state = core.state_elements * get_format("fp32").nbytes + core.conv_elements * get_format(spec.dtype).nbytes
            total = total + count * state / s.tp
            continue
        ways = 1.0 if core.latent else float(min(s.tp, core.n_kv_heads))
        total = total + count * kv * (core.kv_elements / ways + core.index_elements) * _stored(core, length)
    return total * n / s.pp


def _stored(core: Softmax, length: Array) -> Array:
    """Positions kept per sequence."""
    if core.compress > 1:
        return length / core.compress + np.minimum(length, core.window)
    return np.minimum(length, core.window) if core.window else length


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
    return t * (2 * spec.hidden_size + widest / s.tp + routed) * get_format(spec.dtype).nbytes + logits
