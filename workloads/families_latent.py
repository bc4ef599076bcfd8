"""Latent attention and sparse attention on top of it: DeepSeek-V2, V3, V3.2, V4, Kimi-K2, GLM-5.

Sources: DeepSeek-V2 (arXiv 2405.04434), DeepSeek-V3 (arXiv 2412.19437), and the reference code beside each checkpoint.
"""

from __future__ import annotations

from workloads.families_common import Reading, glu, moe, spec, stack
from workloads.families_llama import sparse_layers
from workloads.model_spec import FeedForward, Layer, Linear, Mixer, ModelSpec, Softmax


def latent_attention(r: Reading, hidden: int, *, indexer: str = "", gate: bool = False) -> Mixer:
    """MLA. The cache holds one latent and one rotary vector a token; decode works on them directly (absorbed form),
    prefill expands them to heads. ``indexer``: "own" chooses positions, "shared" reuses an earlier layer's choice."""
    f, n = r.f, r.f.size("num_attention_heads")
    rank, rope = f.size("kv_lora_rank"), f.size("qk_rope_head_dim")
    nope, v_dim = f.size("qk_nope_head_dim"), f.size("v_head_dim")
    q_rank = f.count("q_lora_rank", default=0)
    bias, p = f.flag("attention_bias"), "self_attn."
    query = ([r.lin(p + "q_a_proj", hidden, q_rank, bias=bias, fuse="qkv_a", split="none"),
              r.lin(p + "q_b_proj", q_rank, n * (nope + rope), heads=n)] if q_rank
             else [r.lin(p + "q_proj", hidden, n * (nope + rope), heads=n)])
    linears = [*query,
               r.lin(p + "kv_a_proj_with_mqa", hidden, rank + rope, bias=bias, fuse="qkv_a" if q_rank else "",
                     split="none"),
               r.lin(p + "kv_b_proj", rank, n * (nope + v_dim), heads=n)]
    if gate:
        linears.append(r.lin(p + "g_proj", hidden, n * v_dim, heads=n))
    extra, index, index_flops, topk = q_rank + rank, 0, 0, 0       # norms of the two latents
    if indexer:
        topk = f.size("index_topk")
    if indexer == "own":
        heads, index = f.size("index_n_heads"), f.size("index_head_dim")
        linears += [r.lin(p + "indexer.wq_b", q_rank or hidden, heads * index, split="none"),
                    r.lin(p + "indexer.wk", hidden, index, split="none"),
                    r.lin(p + "indexer.weights_proj", hidden, heads, split="none", plain=True)]
        extra, index_flops = extra + 2 * index, 2 * heads * index
    linears.append(r.lin(p + "o_proj", n * v_dim, hidden, bias=bias, split="row", heads=n))
    core = Softmax(n_heads=n, n_kv_heads=1, head_dim=rank + rope, v_head_dim=rank, kv_elements=rank + rope,
                   reads_elements=rank + rope, latent=True, prefill_head_dim=nope + rope, prefill_v_head_dim=v_dim,
                   rope_dim=rope, topk=topk, index_elements=index, index_flops=index_flops)
    return Mixer(linears=tuple(linears), core=core, extra_params=extra)


def deepseek_moe(r: Reading, hidden: int, *, path: str = "mlp.", names: tuple[str, str, str] | None = None,
                 correction: bool | None = None) -> FeedForward:
    """Router, shared experts as one wider feed-forward part, routed experts."""
    f = r.f
    inter, n = f.size("moe_intermediate_size"), f.size("n_routed_experts", "num_experts")
    n_shared = f.count("n_shared_experts", "num_shared_experts", default=0)
    shared = glu(r, hidden, n_shared * inter, path=f"{path}shared_experts.", tag="shared_gate_up",
                 names=names or ("gate_proj", "up_proj", "down_proj")) if n_shared else ()
    if correction is None:
        correction = f.text("topk_method") == "noaux_tc"
    return moe(r, hidden, n_experts=n, topk=f.size("num_experts_per_tok", "num_experts_per_token"), inter=inter,
               path=f"{path}experts", router=f"{path}gate", extra=n if correction else 0, shared=shared,
               function=f.text("hidden_act", default="silu"))


def indexer_kinds(r: Reading, n_layers: int) -> list[str]:
    if not r.f.has("index_topk"):
        return [""] * n_layers
    r.notes.append("indexer keys are counted in the cache's format; public engines store them as fp8 with a scale")
    kinds = r.f.text_list("indexer_types", n_layers)
    if kinds is None:
        return ["own"] * n_layers
    if strange := sorted(set(kinds) - {"full", "shared"}):
        raise r.f.error("indexer_types", strange, "full or shared for each layer")
    return ["own" if k == "full" else "shared" for k in kinds]


def next_token_layers(r: Reading, hidden: int, last: Layer) -> int:
    """Next-token-prediction modules: one more layer, a 2h x h projection and three norms each; the embedding and the
    head are the main model's (DeepSeek-V3 weights document)."""
    n = r.f.count("num_nextn_predict_layers", default=0)
    return n * (last.n_params + 2 * hidden * hidden + 3 * hidden)


def read_latent(r: Reading) -> ModelSpec:
    f = r.f
    hidden, n_layers = f.size("hidden_size"), f.size("num_hidden_layers")
    dense_inter = f.size("intermediate_size")

    def make(key: tuple[bool, str]) -> Layer:
        routed, indexer = key
        ffn = deepseek_moe(r, hidden) if routed else FeedForward(
            linears=glu(r, hidden, dense_inter), function=f.text("hidden_act", default="silu"))
        label = "mla" + ("+moe" if routed else "") + (f" ({indexer} index)" if indexer else "")
        return Layer(label=label, mixer=latent_attention(r, hidden, indexer=indexer), ffn=ffn, norm_params=2 * hidden)

    keys = list(zip(sparse_layers(f, n_layers), indexer_kinds(r, n_layers), strict=True))
    layers, pattern = stack(keys, make)
    last = layers[pattern[-1]]
    if keys[-1][1] == "shared":                 # the prediction module has an indexer of its own
        last = make((keys[-1][0], "own"))
    return spec(r, hidden, layers, pattern, tied=r.tied(False), mtp=next_token_layers(r, hidden, last))


def _compressor(r: Reading, path: str, hidden: int, dim: int, ratio: int) -> tuple[list[Linear], int]:
    """Linears and further parameters (position table, norm) of a compressor of ``ratio`` positions into one. At a
    ratio of 4 neighbouring windows overlap, which doubles the width."""
    width = dim * (2 if ratio == 4 else 1)
    return ([r.lin(f"{path}compressor.{x}", hidden, width, fuse="compress", split="none", plain=True)
             for x in ("wkv", "wgate")], ratio * width + dim)


def compressed_attention(r: Reading, hidden: int, ratio: int) -> Mixer:
    """DeepSeek-V4: one shared key/value vector a position; a window of them as they are, older ones compressed by
    ``ratio`` (0: window only); at a ratio of 4 an indexer picks among the compressed ones."""
    f, n = r.f, r.f.size("num_attention_heads")
    dim, q_rank, o_rank = f.size("head_dim"), f.size("q_lora_rank"), f.size("o_lora_rank")
    groups = f.size("o_groups")
    if (n * dim) % groups:
        raise f.error("o_groups", groups, f"a divisor of heads x head_dim = {n * dim}")
    linears = [r.lin("attn.wq_a", hidden, q_rank, fuse="qkv_a", split="none"),
               r.lin("attn.wkv", hidden, dim, fuse="qkv_a", split="none"),
               r.lin("attn.wq_b", q_rank, n * dim, heads=n)]
    extra, index, index_flops = q_rank + dim + n, 0, 0              # norms of the latents, a sink a head
    if ratio:
        more, count = _compressor(r, "attn.", hidden, dim, ratio)
        linears, extra = linears + more, extra + count
    if ratio == 4:
        heads, index = f.size("index_n_heads"), f.size("index_head_dim")
        more, count = _compressor(r, "attn.indexer.", hidden, index, ratio)
        linears += [r.lin("attn.indexer.wq_b", q_rank, heads * index, split="none"),
                    r.lin("attn.indexer.weights_proj", hidden, heads, split="none", plain=True), *more]
        extra, index_flops = extra + count, 2 * heads * index
    # wo_a maps each group of heads apart: n_in is that of one group, n_out of all, so work and weights are exact.
    linears += [r.lin("attn.wo_a", n * dim // groups, groups * o_rank, heads=groups),
                r.lin("attn.wo_b", groups * o_rank, hidden, split="row", heads=groups)]
    core = Softmax(n_heads=n, n_kv_heads=1, head_dim=dim, v_head_dim=dim, kv_elements=dim, reads_elements=dim,
                   window=f.size("sliding_window"), compress=max(ratio, 1), index_elements=index,
                   index_flops=index_flops, topk=f.size("index_topk") if ratio == 4 else 0,
                   rope_dim=f.size("qk_rope_head_dim"))
    return Mixer(linears=tuple(linears), core=core, extra_params=extra)


def read_deepseek_v4(r: Reading) -> ModelSpec:
    f = r.f
    r.layer_prefix = "layers"
    hidden, n_layers, mult = f.size("hidden_size"), f.size("num_hidden_layers"), f.size("hc_mult", default=1)
    ratios = f.whole_list("compress_ratios", n_layers)
    if ratios is None:
        raise ValueError(f"{f.where}: compress_ratios: missing, expected a list of {n_layers} ratios")
    hashed = f.count("num_hash_layers", default=0)
    mix = (2 + mult) * mult                       # hyper-connections: maps of mult residual streams, one per half layer
    streams = 2 * (mix * mult * hidden + mix + 3) if mult > 1 else 0

    def make(key: tuple[int, bool]) -> Layer:
        ratio, by_hash = key
        mixer = compressed_attention(r, hidden, ratio)
        ffn = deepseek_moe(r, hidden, path="ffn.", names=("w1", "w3", "w2"), correction=not by_hash)
        label = (f"compress {ratio}" if ratio else "sliding") + "+moe" + (" (hashed)" if by_hash else "")
        return Layer(label=label, mixer=mixer, ffn=ffn, norm_params=2 * hidden + streams)

    layers, pattern = stack([(c, i < hashed) for i, c in enumerate(ratios)], make)
    if f.has("expert_dtype"):
        r.notes.append(f"expert_dtype = {f.text('expert_dtype')}: the checkpoint's format of the routed experts, "
                       "which its quantization_config does not state")
    r.notes.append("hyper-connections: parameters counted, their small work is not; "
                   "the token-to-expert table of hashed layers holds no parameters")
    head_mix = mult * mult * hidden + mult + 1 if mult > 1 else 0
    mtp = next_token_layers(r, hidden, make((0, False)))
    return spec(r, hidden, layers, pattern, tied=r.tied(False), final=hidden + head_mix, mtp=mtp, head_name="head")


LATENT = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa", "glm4_moe_lite"),
                    read_latent),
    "deepseek_v4": read_deepseek_v4, "deepseek_ref": read_deepseek_v4,
}
