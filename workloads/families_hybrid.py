"""Families of mixed layer kinds: Qwen3-Next/3.5, Gemma-4, Llama-4, MiniMax-01/M3, Kimi-Linear/K3, Nemotron-H.

Sources: the ``modeling_*.py`` of each family in Hugging Face Transformers or beside the checkpoint; Nemotron 3
(LatentMoE) and Kimi K3 by the tensor names and shapes of their checkpoints.
"""

from __future__ import annotations

from workloads.config_fields import Fields
from workloads.families_classic import plain_ffn
from workloads.families_common import Heads, Reading, attention, glu, moe, spec, stack, two_layer
from workloads.families_latent import deepseek_moe, latent_attention
from workloads.families_llama import TRAITS, n_routed, sparse_layers, sparse_part, unknown_kinds
from workloads.families_recurrent import gated_delta_net, kda, lightning, mamba2
from workloads.model_spec import FeedForward, Layer, Linear, Mixer, ModelSpec


def _kinds(f: Fields, n_layers: int, known: tuple[str, ...], fallback: list[str]) -> list[str]:
    kinds = f.text_list("layer_types", n_layers)
    if kinds is None:
        return fallback
    if strange := [f"{i}: {k}" for i, k in enumerate(kinds) if k not in known]:
        raise unknown_kinds(f, "layer_types", strange, list(known))
    return kinds


def read_qwen_next(r: Reading) -> ModelSpec:
    """Three gated delta nets to one full attention with an output gate; dense or with experts."""
    f = r.f
    hidden, n_layers = f.size("hidden_size"), f.size("num_hidden_layers")
    every, h = f.size("full_attention_interval", default=4), Heads.read(f, hidden)
    fallback = ["linear_attention" if (i + 1) % every else "full_attention" for i in range(n_layers)]
    kinds = _kinds(f, n_layers, ("linear_attention", "full_attention"), fallback)
    sparse = sparse_layers(f, n_layers) if n_routed(f) else [False] * n_layers
    rope = f.sub("rope_parameters")
    share = f.number("partial_rotary_factor", rope.number("partial_rotary_factor", 0.25) if rope else 0.25)

    def make(key: tuple[str, bool]) -> Layer:
        kind, routed = key
        if kind == "linear_attention":
            mixer = gated_delta_net(r, hidden, merged=r.family == "qwen3_next")
        else:
            mixer = attention(r, hidden, h, bias=f.flag("attention_bias"), out_bias=f.flag("attention_bias"),
                              qk_norm="head", gated=f.flag("attn_output_gate", default=True),
                              rope_dim=round(h.dim * share))
        ffn = sparse_part(r, TRAITS["qwen3_moe"], hidden) if routed else FeedForward(
            linears=glu(r, hidden, f.size("intermediate_size")), function=f.text("hidden_act", default="silu"))
        label = ("delta net" if kind == "linear_attention" else "full") + ("+moe" if routed else "")
        return Layer(label=label, mixer=mixer, ffn=ffn, norm_params=2 * hidden)

    layers, pattern = stack(list(zip(kinds, sparse, strict=True)), make)
    n_next = f.count("mtp_num_hidden_layers", "num_nextn_predict_layers", default=0)
    mtp = n_next * make(("full_attention", sparse[-1])).n_params + (2 * hidden * hidden + 3 * hidden if n_next else 0)
    return spec(r, hidden, layers, pattern, tied=r.tied(False), mtp=mtp)


def read_gemma4(r: Reading) -> ModelSpec:
    """Gemma 4: sliding layers, and full ones with larger, fewer KV heads whose V is made of K; experts, where there
    are any, beside the dense part, with norms of their own."""
    f = r.f
    hidden, n_layers = f.size("hidden_size"), f.size("num_hidden_layers")
    for key in ("hidden_size_per_layer_input", "num_kv_shared_layers"):
        if f.count(key, default=0):
            raise f.error(key, f.count(key), "0: per-layer embeddings and shared KV layers are not modelled")
    kinds = _kinds(f, n_layers, ("sliding_attention", "full_attention"),
                   ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(n_layers)])
    near = Heads.read(f, hidden)
    k_is_v = f.flag("attention_k_eq_v")
    far = Heads(near.n, f.size("num_global_key_value_heads", default=near.kv) if k_is_v else near.kv,
                f.size("global_head_dim", default=near.dim))
    act = f.text("hidden_activation", "hidden_act", default="gelu_pytorch_tanh")
    routed = f.flag("enable_moe_block")

    def make(kind: str) -> Layer:
        slides = kind == "sliding_attention"
        mixer = attention(r, hidden, near if slides else far, bias=f.flag("attention_bias"), qk_norm="head",
                          window=f.size("sliding_window") if slides else 0, v_is_k=k_is_v and not slides)
        dense = glu(r, hidden, f.size("intermediate_size"))
        ffn, norms = FeedForward(linears=dense, function=act), 4
        if routed:
            n = f.size("num_experts")
            ffn = moe(r, hidden, n_experts=n, topk=f.size("top_k_experts"), inter=f.size("moe_intermediate_size"),
                      path="experts", router="router.proj", extra=hidden + n, shared=dense, function=act)
            norms = 7
        return Layer(label=("sliding" if slides else "full") + ("+moe" if routed else ""), mixer=mixer, ffn=ffn,
                     norms=norms, norm_params=norms * hidden + 1)

    layers, pattern = stack(kinds, make)
    if k_is_v:
        r.notes.append("attention_k_eq_v: V is made of K's projection; both are cached apart, as public engines do")
    return spec(r, hidden, layers, pattern, tied=r.tied(True))


def read_llama4(r: Reading) -> ModelSpec:
    """Llama 4: chunked attention with rotary positions, every fourth layer full and without positions."""
    f = r.f
    hidden, n_layers = f.size("hidden_size"), f.size("num_hidden_layers")
    h, chunk = Heads.read(f, hidden), f.size("attention_chunk_size", default=8192)
    inter, n = f.size("intermediate_size"), f.size("num_local_experts")
    step = f.size("interleave_moe_layer_step", default=1)
    rotary = f.whole_list("no_rope_layers", n_layers) or [int((i + 1) % 4 != 0) for i in range(n_layers)]
    if not f.has("no_rope_layers"):
        r.notes.append("no_rope_layers: not in the config, every fourth layer without positions (the class default)")
    explicit = f.whole_list("moe_layers")
    sparse = [i in explicit if explicit else (i + 1) % step == 0 for i in range(n_layers)]

    def make(key: tuple[int, bool]) -> Layer:
        rope, routed = key
        mixer = attention(r, hidden, h, bias=f.flag("attention_bias"), out_bias=f.flag("attention_bias"),
                          window=chunk if rope else 0, chunked=bool(rope), rope_dim=h.dim if rope else 0)
        if routed:
            shared = glu(r, hidden, inter, path="feed_forward.shared_expert.", tag="shared_gate_up")
            ffn = moe(r, hidden, n_experts=n, topk=f.size("num_experts_per_tok"), inter=inter, shared=shared,
                      path="feed_forward.experts", router="feed_forward.router")
        else:
            ffn = FeedForward(linears=glu(r, hidden, f.size("intermediate_size_mlp"), path="feed_forward."),
                              function=f.text("hidden_act", default="silu"))
        label = ("chunked" if rope else "full") + ("+moe" if routed else "")
        return Layer(label=label, mixer=mixer, ffn=ffn, norm_params=2 * hidden)

    layers, pattern = stack(list(zip(rotary, sparse, strict=True)), make)
    return spec(r, hidden, layers, pattern, tied=r.tied(False))


def read_minimax01(r: Reading) -> ModelSpec:
    """MiniMax-Text-01: seven lightning (linear) attentions to one softmax attention, all with experts."""
    f = r.f
    hidden, n_layers = f.size("hidden_size"), f.size("num_hidden_layers")
    h = Heads.read(f, hidden)
    full = f.whole_list("attn_type_list", n_layers)
    if full is None:
        kinds = _kinds(f, n_layers, ("linear_attention", "full_attention"), [])
        if not kinds:
            raise ValueError(f"{f.where}: attn_type_list: missing, expected one entry a layer (0 linear, 1 softmax)")
        full = [int(k == "full_attention") for k in kinds]
    ffn = sparse_part(r, TRAITS["minimax_m2"], hidden)

    def make(softmax: int) -> Layer:
        mixer = attention(r, hidden, h, rope_dim=f.count("rotary_dim", default=h.dim)) if softmax else lightning(
            r, hidden, h)
        return Layer(label=("full" if softmax else "lightning") + "+moe", mixer=mixer, ffn=ffn, norm_params=2 * hidden)

    layers, pattern = stack(full, make)
    return spec(r, hidden, layers, pattern, tied=r.tied(False))


def block_sparse_attention(r: Reading, hidden: int, h: Heads, cfg: Fields, rope: int) -> Mixer:
    """MiniMax-M3: grouped attention over the blocks that a small indexer picks (its keys are cached, too)."""
    heads, dim, p = cfg.size("sparse_num_index_heads"), cfg.size("sparse_index_dim"), "self_attn."
    more = [r.lin(p + "index_q_proj", hidden, heads * dim, fuse="qkv", heads=heads),
            r.lin(p + "index_k_proj", hidden, dim, fuse="qkv", split="none")]
    mixer = attention(r, hidden, h, qk_norm="head", rope_dim=rope, extra=2 * dim, more=more)
    topk = cfg.size("sparse_topk_blocks") * cfg.size("sparse_block_size")
    core = mixer.core.model_copy(update={"topk": topk, "index_elements": dim, "index_flops": 2 * heads * dim})
    return mixer.model_copy(update={"core": core})


def read_minimax_m3(r: Reading) -> ModelSpec:
    f = r.f
    hidden, n_layers = f.size("hidden_size"), f.size("num_hidden_layers")
    h, cfg = Heads.read(f, hidden), f.sub("sparse_attention_config")
    picks = [0] * n_layers
    if cfg and cfg.flag("use_sparse_attention"):
        picks = cfg.whole_list("sparse_attention_freq", n_layers) or [1] * n_layers
        blind = cfg.whole_list("sparse_disable_index_value", n_layers)
        if blind and any(p and not b for p, b in zip(picks, blind, strict=True)):
            raise cfg.error("sparse_disable_index_value", blind, "1 where attention is sparse (no value branch)")
    rope = f.count("rotary_dim", default=h.dim)
    inter, n = f.size("moe_intermediate_size", "intermediate_size"), f.size("num_local_experts")
    act, p = f.text("hidden_act", default="silu"), "block_sparse_moe."

    def make(key: tuple[int, bool]) -> Layer:
        pick, routed = key
        mixer = block_sparse_attention(r, hidden, h, cfg, rope) if pick and cfg else attention(
            r, hidden, h, qk_norm="head", rope_dim=rope)
        if routed:
            width = f.count("shared_intermediate_size", default=inter) * f.count("n_shared_experts", default=1)
            shared = glu(r, hidden, width, path=p + "shared_experts.", tag="shared_gate_up") if width else ()
            ffn = moe(r, hidden, n_experts=n, topk=f.size("num_experts_per_tok"), inter=inter, path=p + "experts",
                      router=p + "gate", extra=n if f.flag("use_routing_bias") else 0, shared=shared, function=act)
        else:
            ffn = FeedForward(linears=glu(r, hidden, f.size("dense_intermediate_size")), function=act)
        return Layer(label=("block-sparse" if pick else "full") + ("+moe" if routed else ""), mixer=mixer, ffn=ffn,
                     norm_params=2 * hidden)

    layers, pattern = stack(list(zip(picks, sparse_layers(f, n_layers), strict=True)), make)
    if f.count("num_nextn_predict_layers", "num_mtp_modules", default=0):
        r.notes.append("next-token-prediction modules are not counted")
    return spec(r, hidden, layers, pattern, tied=r.tied(False))


def kimi_ffn(r: Reading, hidden: int) -> FeedForward:
    """Experts of Kimi-Linear; in K3 they work in a narrower latent space behind two shared projections."""
    ffn = deepseek_moe(r, hidden, path="block_sparse_moe.", correction=True)
    width = r.f.count("routed_expert_hidden_size", default=0)
    if not width or ffn.experts is None:
        return ffn
    p = "block_sparse_moe.routed_expert_"
    more: tuple[Linear, ...] = (r.lin(p + "down_proj", hidden, width, split="none"),
                                r.lin(p + "up_proj", width, hidden, split="none"))
    extra = ffn.extra_params + (width if r.f.flag("latent_moe_use_norm") else 0)
    experts = ffn.experts.model_copy(update={"hidden": width})
    return ffn.model_copy(update={"linears": ffn.linears + more, "experts": experts, "extra_params": extra})


def read_kimi_linear(r: Reading) -> ModelSpec:
    f = r.f
    hidden, n_layers = f.size("hidden_size"), f.size("num_hidden_layers")
    cfg = f.sub("linear_attn_config")
    if cfg is None:
        raise ValueError(f"{f.where}: linear_attn_config: missing, expected the object that lists the KDA layers")
    linear, full = set(cfg.whole_list("kda_layers") or []), set(cfg.whole_list("full_attn_layers") or [])
    if lost := [i for i in range(1, n_layers + 1) if (i in linear) == (i in full)]:
        raise cfg.error("kda_layers and full_attn_layers", lost, f"each of 1..{n_layers} in exactly one of them")
    residual = 4 * hidden if f.count("attn_res_block_size", default=0) else 0   # two norms, two maps to one number

    def make(key: tuple[bool, bool]) -> Layer:
        is_kda, routed = key
        mixer = kda(r, hidden, cfg) if is_kda else latent_attention(r, hidden, gate=f.flag("mla_use_output_gate"))
        ffn = kimi_ffn(r, hidden) if routed else FeedForward(
            linears=glu(r, hidden, f.size("intermediate_size")), function=f.text("hidden_act", default="silu"))
        return Layer(label=("kda" if is_kda else "mla") + ("+moe" if routed else ""), mixer=mixer, ffn=ffn,
                     norm_params=2 * hidden + residual)

    keys = [(i + 1 in linear, s) for i, s in enumerate(sparse_layers(f, n_layers))]
    layers, pattern = stack(keys, make)
    if residual:
        r.notes.append("attention residuals over blocks of layers: parameters counted, their small work is not")
    return spec(r, hidden, layers, pattern, tied=r.tied(False), final=hidden + residual // 2)


_NEMOTRON = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


def _nemotron_pattern(f: Fields, text_key: str, list_key: str) -> list[str] | None:
    if f.has(text_key):
        text = f.text(text_key)
        if strange := [f"{i}: {c}" for i, c in enumerate(text) if c not in _NEMOTRON]:
            raise unknown_kinds(f, text_key, strange, [f"{k} ({v})" for k, v in _NEMOTRON.items()])
        return [_NEMOTRON[c] for c in text]
    kinds = f.text_list(list_key)
    if kinds and (strange := [f"{i}: {k}" for i, k in enumerate(kinds) if k not in _NEMOTRON.values()]):
        raise unknown_kinds(f, list_key, strange, list(_NEMOTRON.values()))
    return kinds


def _nemotron_moe(r: Reading, hidden: int, act: str) -> FeedForward:
    f, n = r.f, r.f.size("n_routed_experts")
    latent = f.count("moe_latent_size", default=0)
    width = f.count("moe_shared_expert_intermediate_size", default=0) * f.count("n_shared_experts", default=1)
    p = "mixer.shared_experts."
    more = two_layer(r, hidden, width, p + "up_proj", p + "down_proj") if width else ()
    if latent:
        more += (r.lin("mixer.fc1_latent_proj", hidden, latent, split="none"),
                 r.lin("mixer.fc2_latent_proj", latent, hidden, split="none"))
    return moe(r, hidden, n_experts=n, topk=f.size("num_experts_per_tok"), inter=f.size("moe_intermediate_size"),
               path="mixer.experts", router="mixer.gate", extra=n, gated=False, shared=more, expert_hidden=latent,
               function=act)


def read_nemotron_h(r: Reading) -> ModelSpec:
    """Nemotron-H and Nemotron 3: each layer is one mixer or one feed-forward part behind one norm."""
    f = r.f
    r.layer_prefix = "backbone.layers"
    hidden = f.size("hidden_size")
    kinds = _nemotron_pattern(f, "hybrid_override_pattern", "layers_block_type")
    if not kinds:
        raise ValueError(f"{f.where}: hybrid_override_pattern: missing (or layers_block_type), expected layer kinds")
    if (stated := f.count("num_hidden_layers", default=len(kinds))) != len(kinds):
        raise f.error("num_hidden_layers", stated, f"the {len(kinds)} layers of the pattern")
    act, bias = f.text("mlp_hidden_act", default="relu2"), f.flag("mlp_bias")
    h = Heads.read(f, hidden)

    def mixer_of(kind: str) -> Mixer | None:
        if kind == "mamba":
            return mamba2(r, hidden, path="mixer.", heads=f.size("mamba_num_heads"), head_dim=f.size("mamba_head_dim"),
                          state=f.size("ssm_state_size"), groups=f.size("n_groups"), kernel=f.size("conv_kernel"),
                          bias=f.flag("use_bias"), conv_bias=f.flag("use_conv_bias", default=True))
        if kind == "attention":
            return attention(r, hidden, h, path="mixer.", bias=f.flag("attention_bias"), rope_dim=0,
                             out_bias=f.flag("attention_bias"))
        return None

    def ffn_of(kind: str) -> FeedForward | None:
        if kind == "mlp":
            return plain_ffn(r, two_layer(r, hidden, f.size("intermediate_size"), "mixer.up_proj", "mixer.down_proj",
                                          bias=bias), act)
        return _nemotron_moe(r, hidden, act) if kind == "moe" else None

    def make(kind: str) -> Layer:
        return Layer(label={"mamba": "mamba2", "attention": "full"}.get(kind, kind), mixer=mixer_of(kind),
                     ffn=ffn_of(kind), norms=1, norm_params=hidden)

    layers, pattern = stack(kinds, make)
    mtp = 0
    if n_next := f.count("num_nextn_predict_layers", default=0):
        block = _nemotron_pattern(f, "mtp_hybrid_override_pattern", "mtp_layers_block_type") or []
        mtp = n_next * (sum(make(k).n_params for k in block) + 2 * hidden * hidden + 3 * hidden)
    return spec(r, hidden, layers, pattern, tied=r.tied(False), mtp=mtp)


HYBRID = {
    **dict.fromkeys(("qwen3_next", "qwen3_5", "qwen3_5_moe"), read_qwen_next),
    "gemma4": read_gemma4, "llama4": read_llama4, "minimax_text_01": read_minimax01, "minimax": read_minimax01,
    "minimax_m3": read_minimax_m3, "kimi_linear": read_kimi_linear, "nemotron_h": read_nemotron_h,
}
