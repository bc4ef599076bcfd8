"""OpGraph: the operations of one step of a model, from its ModelSpec, a batch and a way to split it.

Shapes may be arrays (see :mod:`workloads.ops`), so one graph stands for a whole grid of batch sizes and lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workloads.formats import get_format
from workloads.model_spec import Experts, FeedForward, Layer, Linear, Mixer, ModelSpec, Recurrent, Softmax
from workloads.ops import Attention, Collective, Elementwise, Gemm, Moe, Op, OpGraph, Scan
from workloads.parallel import Parallel

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """Sequences of equal length in a batch: ``q_len`` new tokens each, ``kv_len`` context with the new tokens.

    Decode is ``q_len = 1``; a prefix found in the cache, or an earlier chunk, makes ``kv_len`` exceed ``q_len``.
    """

    phase: str
    batch: ArrayLike
    q_len: ArrayLike
    kv_len: ArrayLike


def prefill(batch: ArrayLike, length: ArrayLike, prefix: ArrayLike = 0) -> Sequences:
    """``batch`` prompts of ``length`` tokens, of which the first ``prefix`` are already cached."""
    new = np.asarray(length, dtype=np.float64) - np.asarray(prefix, dtype=np.float64)
    return Sequences(phase="prefill", batch=batch, q_len=new, kv_len=length)


def decode(batch: ArrayLike, context: ArrayLike) -> Sequences:
    """One new token for each of ``batch`` sequences whose context (the new token included) is ``context``."""
    return Sequences(phase="decode", batch=batch, q_len=1.0, kv_len=context)


def build(spec: ModelSpec, members: Sequence[Sequences], parallel: Parallel | None = None) -> OpGraph:
    """The ops that one device runs in one step over all ``members`` (several: a mixed, chunked batch).

    With pipeline parallelism the graph is the whole depth, one stage after another, and the sends between stages:
    the latency of one micro-batch. Raises ``ValueError`` when the model cannot be split as asked.
    """
    split = parallel or Parallel()
    split.check(spec)
    phases = {s.phase for s in members}
    builder = _Builder(spec, tuple(members), split)
    return OpGraph(phase=phases.pop() if len(phases) == 1 else "mixed", ops=tuple(builder.step()))


class Parts(NamedTuple):
    """The ops of one step by where they stand: before the layers, of each distinct layer (its mixer with the norms, its
    feed-forward part; in the order of ``ModelSpec.layers``, each run once), and after the layers."""

    embed: tuple[Op, ...]
    layers: tuple[tuple[tuple[Op, ...], tuple[Op, ...]], ...]
    head: tuple[Op, ...]


def parts(spec: ModelSpec, members: Sequence[Sequences], parallel: Parallel | None = None) -> Parts:
    """The ops of ``build``, not yet laid out over the depth: for plans that treat layers one by one."""
    split = parallel or Parallel()
    split.check(spec)
    builder = _Builder(spec, tuple(members), split)
    return Parts(tuple(builder.embed()), tuple((tuple(builder.mixer_side(x, 1.0)), tuple(builder.ffn_side(x, 1.0)))
                                               for x in spec.layers), tuple(builder.head()))


def _f(x: ArrayLike) -> Array:
    """As float64; a single number as NumPy's scalar, with which one design point is several times faster."""
    found: Array = np.asarray(x, dtype=np.float64)[()]
    return found


def _block_pairs(n: Array, block: float) -> Array:
    """(query, key) pairs of the first ``n`` positions when each sees its own block up to itself."""
    rest = np.mod(n, block)
    pairs: Array = (n - rest) * (block + 1) / 2 + rest * (rest + 1) / 2
    return pairs


@dataclass(frozen=True)
class _Builder:
    spec: ModelSpec
    members: tuple[Sequences, ...]
    split: Parallel

    @cached_property
    def tokens(self) -> Array:
        total = _f(0.0)
        for s in self.members:
            total = total + _f(s.batch) * _f(s.q_len)
        return total

    @cached_property
    def sequences(self) -> Array:
        total = _f(0.0)
        for s in self.members:
            total = total + _f(s.batch)
        return total

    @cached_property
    def act_bytes(self) -> float:
        return get_format(self.spec.dtype).nbytes

    def step(self) -> Iterator[Op]:
        spec, split = self.spec, self.split
        yield from self.embed()
        for layer, count in zip(spec.layers, spec.counts, strict=True):
            yield from self.mixer_side(layer, float(count))
            yield from self.ffn_side(layer, float(count))
        if split.pp > 1:
            yield self._collective("pipeline.send", "send_recv", self.tokens * spec.hidden_size / split.tp, 2,
                                   repeat=split.pp - 1.0)
        yield from self.head()

    def embed(self) -> Iterator[Op]:
        hidden, tp = self.spec.hidden_size, self.split.tp
        yield self._elementwise("embed", "embedding", self.tokens, hidden, reads=1, writes=1)
        if tp > 1:
            yield self._collective("embed.all_reduce", "all_reduce", self.tokens * hidden, tp)

    # -- one layer ----------------------------------------------------------------------------------------------

    def mixer_side(self, layer: Layer, count: float) -> Iterator[Op]:
        if not layer.mixer and not layer.ffn:
            raise ValueError(f"{self.spec.name}: layer {layer.label!r} has neither a mixer nor a feed-forward part")
        norm = f"add_{self.spec.norm}"
        if layer.norms:
            yield self._elementwise(f"{layer.label}.norm", norm, self.tokens, self.spec.hidden_size,
                                    reads=2, writes=2, repeat=count * layer.norms)
        if layer.mixer:
            yield from self._mixer(layer.label, layer.mixer, count)
            if self.split.tp > 1 and not (layer.parallel and layer.ffn):
                yield self._reduce(f"{layer.label}.mixer.all_reduce", count)

    def ffn_side(self, layer: Layer, count: float) -> Iterator[Op]:
        if layer.ffn:
            yield from self._feed_forward(layer.label, layer.ffn, count)
            if self.split.tp > 1:
                yield self._reduce(f"{layer.label}.ffn.all_reduce", count)

    def _mixer(self, label: str, mixer: Mixer, count: float) -> Iterator[Op]:
        core = mixer.core
        before = [x for x in mixer.linears if x.split != "row"]
        after = [x for x in mixer.linears if x.split == "row"]
        if isinstance(core, Softmax) and core.latent:
            yield from self._gemms(label, [x for x in before if not x.name.endswith("kv_b_proj")], count)
            yield from self._latent(label, mixer, core, count)
        else:
            yield from self._gemms(label, before, count)
            if isinstance(core, Softmax):
                yield from self._softmax_side(label, mixer, core, count)
                yield from self._attention(label, core, count)
            else:
                yield from self._recurrent(label, core, count)
        yield from self._gemms(label, after, count)

    def _softmax_side(self, label: str, mixer: Mixer, core: Softmax, count: float) -> Iterator[Op]:
        heads = core.n_heads / self.split.tp + max(core.n_kv_heads / self.split.tp, 1.0)
        if mixer.qk_norm:
            yield self._elementwise(f"{label}.qk_norm", "rmsnorm", self.tokens * heads, core.head_dim,
                                    reads=1, writes=1, repeat=count)
        if core.rope_dim:
            yield self._elementwise(f"{label}.rope", "rope", self.tokens, heads * core.head_dim,
                                    reads=1, writes=1, repeat=count)
        yield from self._kv_append(label, core, count)

    def _kv_append(self, label: str, core: Softmax, count: float) -> Iterator[Op]:
        stored = (core.kv_elements + core.index_elements) / core.compress / self._kv_share(core)
        if stored:
            kv = get_format(self.spec.kv_format).nbytes
            yield Elementwise(name=f"{label}.kv_append", repeat=count, kind="kv_append", rows=self.tokens, cols=stored,
                              bytes_read=self.tokens * stored * self.act_bytes, bytes_written=self.tokens * stored * kv)

    def _kv_share(self, core: Softmax) -> float:
        """Ways the cache is cut by tensor parallelism: whole KV heads; a latent cache is replicated."""
        return 1.0 if core.latent else float(min(self.split.tp, core.n_kv_heads))

    def _attention(self, label: str, core: Softmax, count: float) -> Iterator[Op]:
        share = self._kv_share(core)
        for s in self.members:
            batch, q, kv = self._visible(s, core)
            if core.index_elements:
                yield self._indexer(label, core, s, count)
            yield Attention(
                name=f"{label}.attention.{s.phase}", repeat=count, phase=s.phase, batch=batch, q_len=q, kv_len=kv,
                n_heads=core.n_heads / self.split.tp, n_kv_heads=max(core.n_kv_heads / self.split.tp, 1.0),
                head_dim=core.head_dim, v_head_dim=core.v_head_dim, kv_elements=core.reads_elements / share,
                window=core.topk or (0 if core.chunked else core.window), causal=core.causal,
                q=self.spec.attention_format or self.spec.dtype, kv=self.spec.kv_format)

    def _visible(self, s: Sequences, core: Softmax) -> tuple[Array, Array, Array]:
        """Batch, query and context lengths as the kernel sees them."""
        batch, q, kv = _f(s.batch), _f(s.q_len), _f(s.kv_len)
        if core.chunked and core.window:
            # Block-local attention: a long prompt is so many independent blocks; a decode token sees its own block.
            if s.phase == "decode":
                return batch, q, np.mod(kv - 1.0, core.window) + 1.0
            # Blocks cut short by the prompt's ends count as so many equal ones that see as many pairs in all.
            blocks = np.maximum(np.ceil(kv / core.window) - np.floor((kv - q) / core.window), 1.0)
            seen = (_block_pairs(kv, core.window) - _block_pairs(kv - q, core.window)) / np.maximum(q, 1.0)
            return batch * blocks, q / blocks, seen + (q / blocks - 1.0) / 2
        if core.compress > 1:
            # Compressed positions, and a local window of uncompressed ones where the model keeps it.
            return batch, q, np.maximum(np.minimum(kv, core.window) + kv / core.compress, q)
        return batch, q, kv

    def _indexer(self, label: str, core: Softmax, s: Sequences, count: float) -> Gemm:
        """Scores of a sparse-attention indexer: every query against every stored key of the indexer."""
        heads = core.index_flops / (2.0 * core.index_elements)
        seen = _f(s.kv_len) / core.compress
        mean = np.where(_f(s.q_len) > 1, seen - _f(s.q_len) / core.compress / 2, seen) if core.causal else seen
        return Gemm(name=f"{label}.indexer.{s.phase}", repeat=count, m=_f(s.q_len) * heads, n=mean, k=core.index_elements,
                    batch=s.batch, a=self.spec.dtype, w=self.spec.kv_format, out=self.spec.dtype, static=False)

    def _latent(self, label: str, mixer: Mixer, core: Softmax, count: float) -> Iterator[Op]:
        """MLA: keys and values expanded from the latent in prefill, the expansion absorbed into Q and O in decode."""
        yield from self._kv_append(label, core, count)
        heads = core.n_heads / self.split.tp
        expand = next(x for x in mixer.linears if x.name.endswith("kv_b_proj"))
        rope = core.head_dim - core.v_head_dim
        nope = core.prefill_head_dim - rope
        yield self._elementwise(f"{label}.rope", "rope", self.tokens, (heads + 1) * rope, reads=1, writes=1, repeat=count)
        for s in self.members:
            batch, q, kv = self._visible(s, core)
            if core.index_elements:
                yield self._indexer(label, core, s, count)
            if s.phase == "prefill":
                yield self._gemm(f"{label}.{expand.name}", [expand], count, m=batch * kv)
                yield Attention(
                    name=f"{label}.attention.prefill", repeat=count, phase="prefill", batch=batch, q_len=q, kv_len=kv,
                    n_heads=heads, n_kv_heads=heads, head_dim=core.prefill_head_dim, v_head_dim=core.prefill_v_head_dim,
                    kv_elements=heads * (core.prefill_head_dim + core.prefill_v_head_dim), window=core.topk,
                    causal=core.causal, q=self.spec.attention_format or self.spec.dtype,
                    kv=self.spec.attention_format or self.spec.dtype)
                continue
            tokens = batch * q
            absorb = replace(self._gemm(f"{label}.absorb", [expand], count, m=tokens), batch=heads)
            yield replace(absorb, name=f"{label}.absorb_q", n=core.v_head_dim, k=nope)
            yield Attention(
                name=f"{label}.attention.decode", repeat=count, phase="decode", batch=batch, q_len=q, kv_len=kv,
                n_heads=heads, n_kv_heads=1.0, head_dim=core.head_dim, v_head_dim=core.v_head_dim,
                kv_elements=core.reads_elements, window=core.topk, causal=core.causal,
                q=self.spec.attention_format or self.spec.dtype, kv=self.spec.kv_format)
            yield replace(absorb, name=f"{label}.absorb_v", n=core.prefill_v_head_dim, k=core.v_head_dim)

    def _recurrent(self, label: str, core: Recurrent, count: float) -> Iterator[Op]:
        tp = self.split.tp
        if core.conv_channels:
            yield self._elementwise(f"{label}.conv", "conv1d", self.tokens, core.conv_channels / tp, reads=1, writes=1,
                                    repeat=count)
        for s in self.members:
            yield Scan(name=f"{label}.scan.{s.phase}", repeat=count, phase=s.phase, batch=s.batch, q_len=s.q_len,
                       flops_per_token=core.flops_per_token / tp, state_elements=core.state_elements / tp,
                       io_elements=core.io_elements / tp, act=self.spec.dtype)

    def _feed_forward(self, label: str, ffn: FeedForward, count: float) -> Iterator[Op]:
        yield from self._gemms(label, [x for x in ffn.linears if x.split != "row"], count)
        down = [x for x in ffn.linears if x.split == "row"]
        if down and ffn.activation != "none":
            yield self._elementwise(f"{label}.{ffn.activation}", ffn.activation, self.tokens,
                                    sum(x.n_in for x in down) / self.split.tp,
                                    reads=2 if ffn.activation == "silu_mul" else 1, writes=1, repeat=count)
        yield from self._gemms(label, down, count)
        if ffn.experts:
            yield from self._experts(label, ffn.experts, count)

    def _experts(self, label: str, experts: Experts, count: float) -> Iterator[Op]:
        split = self.split
        tokens = self.tokens * split.expert_replicas
        exchange = self.tokens * experts.topk * experts.hidden / split.tp
        if split.expert_replicas > 1:
            yield self._collective(f"{label}.dispatch", "alltoall", exchange, split.ep, repeat=count)
        yield Moe(name=f"{label}.experts", repeat=count, tokens=tokens, hidden=experts.hidden,
                  inter=experts.inter / split.expert_cut, topk=experts.topk, n_experts=experts.n_experts,
                  n_local=experts.n_experts / split.ep, gated=experts.gated, a=experts.act, w=experts.weight,
                  out=self.spec.dtype)
        if split.expert_replicas > 1:
            yield self._collective(f"{label}.combine", "alltoall", exchange, split.ep, repeat=count)

    # -- pieces -------------------------------------------------------------------------------------------------

    def head(self) -> Iterator[Op]:
        spec = self.spec
        if spec.final_params:
            yield self._elementwise("final_norm", spec.norm, self.tokens, spec.hidden_size, reads=1, writes=1)
        if spec.lm_head is None:
            return
        # Only the last position of each sequence is turned into logits; an encoder scores all of them.
        rows = self.sequences if spec.causal else self.tokens
        yield self._gemm("lm_head", [spec.lm_head], 1.0, m=rows)
        if self.split.tp > 1:
            yield self._collective("lm_head.all_gather", "all_gather", rows * spec.vocab_size, self.split.tp)
        yield self._elementwise("sampling", "sampling", rows, spec.vocab_size, reads=1, writes=0)

    def _gemms(self, label: str, linears: Sequence[Linear], count: float) -> Iterator[Gemm]:
        groups: dict[tuple[str, str, str, int], list[Linear]] = {}
        for i, x in enumerate(linears):
            key = (x.fuse or f"#{i}", x.weight, x.act, x.n_in)
            groups.setdefault(key, []).append(x)
        for members in groups.values():
            names = [x.name for x in members]
            stem = names[0].rpartition(".")[0]
            name = names[0] if len(names) == 1 else f"{stem}.{members[0].fuse}".lstrip(".")
            yield self._gemm(f"{label}.{name}", members, count, m=self.tokens)

    def _gemm(self, name: str, members: Sequence[Linear], count: float, *, m: ArrayLike) -> Gemm:
        first = members[0]
        return Gemm(name=name, repeat=count, m=m, n=float(sum(self._n_out(x) for x in members)),
                    k=first.n_in / self.split.tp if first.split == "row" else float(first.n_in),
                    a=first.act, w=first.weight, out=self.spec.dtype)

    def _n_out(self, x: Linear) -> float:
        if x.split != "column":
            return float(x.n_out)
        ways = min(self.split.tp, x.heads) if x.heads else self.split.tp
        return x.n_out / ways

    def _elementwise(self, name: str, kind: str, rows: ArrayLike, cols: ArrayLike, *, reads: float, writes: float,
                     repeat: float = 1.0) -> Elementwise:
        nbytes = _f(rows) * _f(cols) * self.act_bytes
        return Elementwise(name=name, repeat=repeat, kind=kind, rows=rows, cols=cols,
                           bytes_read=reads * nbytes, bytes_written=writes * nbytes)

    def _collective(self, name: str, kind: str, numel: ArrayLike, n: int, repeat: float = 1.0) -> Collective:
        return Collective(name=name, repeat=repeat, kind=kind, nbytes=_f(numel) * self.act_bytes, n_devices=float(n))

    def _reduce(self, name: str, count: float) -> Collective:
        return self._collective(name, "all_reduce", self.tokens * self.spec.hidden_size, self.split.tp, count)
