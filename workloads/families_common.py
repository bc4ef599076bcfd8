"""Building blocks that the readers of single families share: linears, attention, feed-forward parts, assembly."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from workloads.config_fields import Fields
from workloads.model_spec import Experts, FeedForward, Layer, Linear, Mixer, ModelSpec, Softmax

K = TypeVar("K", bound=Hashable)
Split = Literal["column", "row", "none"]
Kernel = Literal["silu_mul", "gelu", "relu", "none"]


@dataclass
class Reading:
    """One config being read: its fields, what every part needs of it, and the notes gathered on the way."""

    f: Fields                       # of the language model
    top: Fields                     # of the whole file
    name: str
    source: str
    family: str
    dtype: str
    nested: bool = False
    layer_prefix: str = "model.layers"
    weight: str = ""                # weight and activation format of the linears, where not ``dtype``
    act: str = ""
    notes: list[str] = field(default_factory=list)

    def lin(self, name: str, n_in: int, n_out: int, *, bias: bool = False, fuse: str = "", split: Split = "column",
            heads: int = 0, plain: bool = False) -> Linear:
        """A linear in the model's format; ``plain`` keeps the activation dtype where the model is ternary."""
        weight, act = (self.dtype, self.dtype) if plain else (self.weight or self.dtype, self.act or self.dtype)
        return Linear(name=name, n_in=n_in, n_out=n_out, bias=bias, fuse=fuse, split=split, heads=heads,
                      weight=weight, act=act)

    def tied(self, default: bool) -> bool:
        for fields in (self.f, self.top):
            if fields.has("tie_word_embeddings"):
                return fields.flag("tie_word_embeddings")
        return default


@dataclass(frozen=True)
class Heads:
    """Shape of a multi-head attention: query heads, KV heads, size of each."""

    n: int
    kv: int
    dim: int

    @classmethod
    def read(cls, f: Fields, hidden: int) -> Heads:
        n = f.size("num_attention_heads")
        key, found = f.raw("num_key_value_heads", "num_attention_groups", "num_kv_heads")
        kv = n if found is None else f.size(key)
        if n % kv:
            raise f.error(key, kv, f"a divisor of num_attention_heads = {n}")
        if not f.raw("head_dim")[1] and hidden % n:
            raise f.error("num_attention_heads", n, f"a divisor of hidden_size = {hidden}, or a head_dim")
        return cls(n, kv, f.size("head_dim", default=max(hidden // n, 1)))


def attention(r: Reading, hidden: int, h: Heads, *, names: Sequence[str] = ("q_proj", "k_proj", "v_proj", "o_proj"),
              path: str = "self_attn.", bias: bool = False, out_bias: bool = False, window: int = 0,
              chunked: bool = False, qk_norm: Literal["", "head", "all"] = "", gated: bool = False,
              rope_dim: int | None = None, causal: bool = True, extra: int = 0, v_is_k: bool = False,
              more: Sequence[Linear] = ()) -> Mixer:
    """Multi-head attention with grouped KV heads. ``qk_norm``: norm of each head (one vector of head size for Q, one
    for K) or of all heads at once. ``gated``: the query projection also makes an output gate of its own size.
    ``v_is_k``: V is made of the key projection's result (no ``v_proj``), both are cached."""
    q, kv = h.n * h.dim, h.kv * h.dim
    nq, nk, nv, no = (path + x for x in names)
    linears = [r.lin(nq, hidden, q * (2 if gated else 1), bias=bias, fuse="qkv", heads=h.n),
               r.lin(nk, hidden, kv, bias=bias, fuse="qkv", heads=h.kv)]
    if not v_is_k:
        linears.append(r.lin(nv, hidden, kv, bias=bias, fuse="qkv", heads=h.kv))
    linears += [*more, r.lin(no, q, hidden, bias=out_bias, split="row", heads=h.n)]
    norm = {"": 0, "head": 2 * h.dim, "all": q + kv}[qk_norm]
    core = Softmax(n_heads=h.n, n_kv_heads=h.kv, head_dim=h.dim, v_head_dim=h.dim, kv_elements=2 * kv,
                   reads_elements=2 * kv, window=window, chunked=chunked, causal=causal,
                   rope_dim=h.dim if rope_dim is None else rope_dim)
    return Mixer(linears=tuple(linears), core=core, extra_params=norm + extra, qk_norm=bool(qk_norm))


def glu(r: Reading, hidden: int, inter: int, *, path: str = "mlp.", bias: bool = False, tag: str = "gate_up",
        names: Sequence[str] = ("gate_proj", "up_proj", "down_proj")) -> tuple[Linear, ...]:
    """Gate, up and down of a gated feed-forward part."""
    gate, up, down = (path + x for x in names)
    return (r.lin(gate, hidden, inter, bias=bias, fuse=tag), r.lin(up, hidden, inter, bias=bias, fuse=tag),
            r.lin(down, inter, hidden, bias=bias, split="row"))


def two_layer(r: Reading, hidden: int, inter: int, up: str, down: str, *, bias: bool = False) -> tuple[Linear, ...]:
    """Up and down of an ungated feed-forward part."""
    return (r.lin(up, hidden, inter, bias=bias), r.lin(down, inter, hidden, bias=bias, split="row"))


def kernel_of(f: Fields, function: str) -> Kernel:
    """Kernel of an ungated nonlinearity; refuses what is not known."""
    if function in ("relu", "relu2"):
        return "relu"
    if function.startswith("gelu") or function in ("silu", "swish"):
        return "gelu"
    raise f.error("activation", function, "relu, relu2, silu or a kind of gelu")


def moe(r: Reading, hidden: int, *, n_experts: int, topk: int, inter: int, path: str = "mlp.experts",
        router: str = "mlp.gate", router_bias: bool = False, extra: int = 0, gated: bool = True, bias: bool = False,
        shared: Sequence[Linear] = (), expert_hidden: int = 0, function: str = "silu",
        plain_router: bool = True) -> FeedForward:
    """Router, shared experts (as linears) and routed experts. ``extra``: a correction bias and the like."""
    if topk > n_experts:
        raise r.f.error("num_experts_per_tok", topk, f"at most the number of experts, {n_experts}")
    gate = r.lin(router, hidden, n_experts, bias=router_bias, split="none", plain=plain_router)
    experts = Experts(name=path, n_experts=n_experts, topk=topk, hidden=expert_hidden or hidden, inter=inter,
                      gated=gated, bias=bias, weight=r.weight or r.dtype, act=r.act or r.dtype)
    return FeedForward(linears=(gate, *shared), experts=experts, extra_params=extra, function=function,
                       activation="silu_mul" if gated else kernel_of(r.f, function))


def stack(keys: Sequence[K], make: Callable[[K], Layer]) -> tuple[tuple[Layer, ...], tuple[int, ...]]:
    """Distinct layers and the pattern over depth; ``make`` runs once per distinct key."""
    index: dict[K, int] = {}
    for key in keys:
        index.setdefault(key, len(index))
    return tuple(make(key) for key in index), tuple(index[key] for key in keys)


def spec(r: Reading, hidden: int, layers: tuple[Layer, ...], pattern: tuple[int, ...], *, tied: bool,
         vocab: int = 0, head_bias: bool = False, extra_embed: int = 0, final: int | None = None,
         norm: Literal["rmsnorm", "layernorm"] = "rmsnorm", max_context: int | None = None, head_name: str = "lm_head",
         lm_head: bool = True, head_in: int = 0, causal: bool = True, mtp: int = 0,
         plain_head: bool = True) -> ModelSpec:
    """The whole model; ``final`` defaults to one norm over the hidden size."""
    vocab = vocab or r.f.size("vocab_size")
    head = r.lin(head_name, head_in or hidden, vocab, bias=head_bias, plain=plain_head) if lm_head else None
    limit = r.f.count("max_position_embeddings", default=0) if max_context is None else max_context
    if r.f.defaulted:
        r.notes.append("left out of the config, taken from the public class defaults: "
                       + ", ".join(dict.fromkeys(r.f.defaulted)))
    for tower in ("vision_config", "audio_config", "vision_tower", "mm_vision_tower"):
        if r.top.has(tower):
            r.notes.append(f"{tower}: not modelled; counts are those of the language model")
    return ModelSpec(
        name=r.name, family=r.family, source=r.source, layer_prefix=r.layer_prefix, hidden_size=hidden,
        vocab_size=vocab, max_context=limit, layers=layers, pattern=pattern, tied_embeddings=tied, lm_head=head,
        embed_params=vocab * hidden + extra_embed, embed_format=r.dtype,
        final_params=(hidden if norm == "rmsnorm" else 2 * hidden) if final is None else final, norm=norm,
        causal=causal, dtype=r.dtype, kv_format=r.dtype, mtp_params=mtp, notes=tuple(r.notes))
