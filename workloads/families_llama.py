"""Llama-like dense decoders and their mixture-of-experts kin: one reader, the differences as traits in a table.

Sources: the ``modeling_*.py`` of each family in Hugging Face Transformers (module names, biases, norms).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workloads.config_fields import Fields
from workloads.families_common import Heads, Reading, attention, glu, moe, spec, stack
from workloads.model_spec import FeedForward, Layer, Linear, ModelSpec


@dataclass(frozen=True)
class Trait:
    """What sets a family apart. A bias is a constant or the name of the config key that says it."""

    qkv_bias: bool | str = False
    out_bias: bool | str = False
    mlp_bias: bool | str = False
    qk_norm: Literal["", "head", "all"] = ""
    norms: int = 2
    norm_after: bool = False          # norms stand after mixer and feed-forward only (OLMo-2): same counts
    tied: bool = False
    attn: str = "self_attn."
    attn_names: tuple[str, str, str, str] = ("q_proj", "k_proj", "v_proj", "o_proj")
    mlp: str = "mlp."
    mlp_names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    router: str = "mlp.gate"
    experts: str = "mlp.experts"
    shared: str = "mlp.shared_expert"


SLIDING = ("mistral", "ministral3", "mixtral", "phi3")     # families where a stated window holds for every layer
QKV = ("qkv_proj", "qkv_proj", "qkv_proj", "o_proj")
GATE_UP = ("gate_up_proj", "gate_up_proj", "down_proj")
TRAITS: dict[str, Trait] = {
    "llama": Trait("attention_bias", "attention_bias", "mlp_bias"),
    "mistral": Trait(),
    "ministral3": Trait(),
    "yi": Trait(),
    "internlm": Trait("bias", "bias"),
    "internlm3": Trait("qkv_bias", "bias", "bias"),
    "qwen2": Trait(True),
    "qwen2_vl": Trait(True),
    "qwen2_5_vl": Trait(True),
    "qwen3": Trait("attention_bias", "attention_bias", qk_norm="head"),
    "qwen3_vl": Trait("attention_bias", "attention_bias", qk_norm="head"),
    "mimo": Trait("attention_bias"),
    "seed_oss": Trait("attention_bias", "attention_out_bias", "mlp_bias"),
    "smollm3": Trait("attention_bias", "attention_bias", "mlp_bias", tied=True),
    "olmo2": Trait("attention_bias", "attention_bias", qk_norm="all", norm_after=True),
    "phi3": Trait(attn_names=QKV, mlp_names=GATE_UP),
    "glm": Trait("attention_bias", mlp_names=GATE_UP),
    "glm4": Trait("attention_bias", norms=4, mlp_names=GATE_UP),
    "internlm2": Trait("bias", "bias", attn="attention.", attn_names=("wqkv", "wqkv", "wqkv", "wo"),
                       mlp="feed_forward.", mlp_names=("w1", "w3", "w2")),
    "baichuan": Trait(attn_names=("W_pack", "W_pack", "W_pack", "o_proj")),
    "gemma": Trait(tied=True),
    "gemma2": Trait("attention_bias", "attention_bias", norms=4, tied=True),
    "gemma3": Trait("attention_bias", "attention_bias", qk_norm="head", norms=4, tied=True),
    "mixtral": Trait(router="block_sparse_moe.gate", experts="block_sparse_moe.experts"),
    "qwen2_moe": Trait(True),
    "qwen3_moe": Trait("attention_bias", "attention_bias", qk_norm="head"),
    "qwen3_vl_moe": Trait("attention_bias", "attention_bias", qk_norm="head"),
    "glm4_moe": Trait("attention_bias", qk_norm="", shared="mlp.shared_experts"),
    "gpt_oss": Trait(True, True, router="mlp.router"),
    "minimax_m2": Trait(router="block_sparse_moe.gate", experts="block_sparse_moe.experts"),
    "step3p5": Trait(qk_norm="head", router="moe.gate", experts="moe", shared="share_expert"),
    "step3p7": Trait(qk_norm="head", router="moe.gate", experts="moe", shared="share_expert"),
}


def bias_of(f: Fields, rule: bool | str) -> bool:
    return f.flag(rule) if isinstance(rule, str) else rule


def windows(r: Reading, n_layers: int) -> list[int]:
    """Sliding window of each layer, 0 = none. From ``layer_types``, else from the family's own rule."""
    f = r.f
    limit = f.count("max_position_embeddings", default=0)
    size = f.count("sliding_window", default=0)
    size = 0 if limit and size >= limit else size      # a window past the context never slides
    kinds = f.text_list("layer_types", n_layers)
    if kinds is not None:
        known = {"full_attention", "sliding_attention"}
        if strange := [f"{i}: {k}" for i, k in enumerate(kinds) if k not in known]:
            raise unknown_kinds(f, "layer_types", strange, sorted(known))
        if "sliding_attention" in kinds and not f.has("sliding_window"):
            raise ValueError(f"{f.where}: sliding_window: missing, but layer_types has sliding_attention")
        return [size if k == "sliding_attention" else 0 for k in kinds]
    if r.family == "gemma2":                      # every other layer slides, the first one does
        return [size * (1 - i % 2) for i in range(n_layers)]
    if r.family == "gemma3":                      # five sliding layers, then a full one
        every = f.size("sliding_window_pattern", "_sliding_window_pattern", default=6)
        return [size if (i + 1) % every else 0 for i in range(n_layers)]
    if r.family.startswith("qwen") or f.has("use_sliding_window"):
        if not f.flag("use_sliding_window"):
            return [0] * n_layers
        first = f.count("max_window_layers", default=n_layers)
        return [size if i >= first else 0 for i in range(n_layers)]
    if r.family == "gpt_oss":                     # every other layer slides, the first one does
        return [size * (1 - i % 2) for i in range(n_layers)]
    if size and r.family not in SLIDING:
        r.notes.append(f"sliding_window = {size} ignored: {r.family} attends to every position")
        return [0] * n_layers
    return [size] * n_layers


def unknown_kinds(f: Fields, key: str, strange: list[str], known: list[str]) -> ValueError:
    shown = ", ".join(strange[:12]) + (", ..." if len(strange) > 12 else "")
    return ValueError(f"{f.where}: {key}: unknown layer kinds at {len(strange)} layers ({shown}), "
                      f"known here: {', '.join(known)}")


def sparse_layers(f: Fields, n_layers: int) -> list[bool]:
    """Which layers have routed experts (Qwen: step and exceptions; DeepSeek: leading dense layers, frequency)."""
    if kinds := f.text_list("mlp_layer_types", n_layers):
        if strange := [f"{i}: {k}" for i, k in enumerate(kinds) if k not in ("dense", "sparse")]:
            raise unknown_kinds(f, "mlp_layer_types", strange, ["dense", "sparse"])
        return [k == "sparse" for k in kinds]
    if isinstance(f.data.get("moe_layer_freq"), list):
        return [bool(x) for x in f.whole_list("moe_layer_freq", n_layers) or []]
    first = f.count("first_k_dense_replace", default=0)
    every = f.size("moe_layer_freq", default=1)
    step = f.size("decoder_sparse_step", default=1)
    dense = set(f.whole_list("mlp_only_layers") or [])
    return [i >= first and i % every == 0 and (i + 1) % step == 0 and i not in dense for i in range(n_layers)]


def n_routed(f: Fields) -> int:
    return f.count("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", default=0)


def dense_part(r: Reading, t: Trait, hidden: int, inter: int) -> FeedForward:
    linears = glu(r, hidden, inter, path=t.mlp, bias=bias_of(r.f, t.mlp_bias), names=t.mlp_names)
    return FeedForward(linears=linears,
                       function=r.f.text("hidden_act", "hidden_activation", default="silu"))


def shared_part(r: Reading, t: Trait, hidden: int, inter: int) -> tuple[Linear, ...]:
    """Shared experts: by size (Qwen, with a gate of one output) or by count (DeepSeek, GLM)."""
    f = r.f
    if size := f.count("shared_expert_intermediate_size", default=0):
        gate = r.lin("mlp.shared_expert_gate", hidden, 1, split="none", plain=True)
        return (*glu(r, hidden, size, path=f"{t.shared}.", tag="shared_gate_up"), gate)
    if size := f.count("share_expert_dim", default=0) or f.count("n_shared_experts", default=0) * inter:
        return glu(r, hidden, size, path=f"{t.shared}.", tag="shared_gate_up")
    return ()


def sparse_part(r: Reading, t: Trait, hidden: int) -> FeedForward:
    f = r.f
    inter = f.size("moe_intermediate_size", "intermediate_size")
    n = n_routed(f)
    oss = r.family == "gpt_oss"
    return moe(r, hidden, n_experts=n, topk=f.size("num_experts_per_tok", "experts_per_token", "moe_top_k"),
               inter=inter, path=t.experts, router=t.router, router_bias=oss, bias=oss,
               shared=shared_part(r, t, hidden, inter),
               extra=n if f.flag("use_routing_bias", "use_moe_router_bias") or r.family == "glm4_moe" else 0,
               function=f.text("hidden_act", default="silu"))


def sliding_heads(r: Reading, h: Heads) -> Heads:
    """Heads of the sliding layers where they differ (Step-3.5)."""
    rest = r.f.sub("attention_other_setting")
    return Heads.read(rest, h.n * h.dim) if rest and rest.text("attention_type") == "sliding_attention" else h


def read_llama_like(r: Reading) -> ModelSpec:
    """Every family of ``TRAITS``: RMS norms, rotary positions, gated feed-forward, dense or with routed experts."""
    f, t = r.f, TRAITS[r.family]
    hidden, n_layers = f.size("hidden_size"), f.size("num_hidden_layers")
    h = Heads.read(f, hidden)
    other = sliding_heads(r, h)
    has_experts = n_routed(f) > 0
    sparse = sparse_layers(f, n_layers) if has_experts else [False] * n_layers
    qk_norm = t.qk_norm
    if r.family in ("minimax_m2", "glm4_moe") and f.flag("use_qk_norm"):
        qk_norm = "all" if f.text("qk_norm_type") == "per_layer" else "head"
    rope = f.count("rotary_dim", default=round(h.dim * min(1.0, f.number("partial_rotary_factor", 1.0))))

    def make(key: tuple[int, bool]) -> Layer:
        window, routed = key
        shape = other if window else h
        mixer = attention(r, hidden, shape, path=t.attn, names=t.attn_names, bias=bias_of(f, t.qkv_bias),
                          out_bias=bias_of(f, t.out_bias),
                          window=window, qk_norm=qk_norm, rope_dim=rope,
                          extra=h.n if r.family == "gpt_oss" else 0)      # gpt-oss: one attention sink a head
        ffn = sparse_part(r, t, hidden) if routed else dense_part(r, t, hidden, f.size("intermediate_size"))
        label = ("sliding" if window else "full") + ("+moe" if routed else "")
        return Layer(label=label, mixer=mixer, ffn=ffn, norms=t.norms, norm_params=t.norms * hidden)

    if r.family.startswith("step"):
        r.notes.append("per-head norms of Q and K taken as in Step-3.5; an attention gate, if any, is left out")
    layers, pattern = stack(list(zip(windows(r, n_layers), sparse, strict=True)), make)
    mtp = 0
    if n_next := f.count("num_nextn_predict_layers", default=0):
        last = layers[pattern[-1]]
        mtp = n_next * (last.n_params + 2 * hidden * hidden + 3 * hidden)
        r.notes.append(f"{n_next} next-token-prediction layer(s) taken as one more last layer with a 2h x h projection")
    elif f.flag("use_mtp"):
        r.notes.append("use_mtp: next-token-prediction modules are not counted (their shape is not in the config)")
    return spec(r, hidden, layers, pattern, tied=r.tied(t.tied), mtp=mtp)
