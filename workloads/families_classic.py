"""Decoders and encoders with layer norms and biases: GPT-2/J/NeoX, OPT, BLOOM, Falcon, MPT, Phi, BERT, ChatGLM.

Sources: the ``modeling_*.py`` of each family in Hugging Face Transformers or beside the checkpoint.
"""

from __future__ import annotations

from workloads.config_fields import Fields
from workloads.families_common import Heads, Reading, attention, glu, kernel_of, spec, stack, two_layer
from workloads.model_spec import FeedForward, Layer, Linear, ModelSpec


def plain_ffn(r: Reading, linears: tuple[Linear, ...], function: str) -> FeedForward:
    return FeedForward(linears=linears, activation=kernel_of(r.f, function), function=function)


def _uniform(layer: Layer, n: int) -> tuple[tuple[Layer, ...], tuple[int, ...]]:
    return stack([0] * n, lambda _: layer)


def _merged(name: str, out: str) -> tuple[str, str, str, str]:
    return (name, name, name, out)


def _even_heads(f: Fields, hidden: int, n: int, kv: int = 0) -> Heads:
    if hidden % n:
        raise f.error("number of heads", n, f"a divisor of the hidden size {hidden}")
    return Heads(n, kv or n, hidden // n)


def read_gpt2(r: Reading) -> ModelSpec:
    """GPT-2 and GPT-3 (same blocks; GPT-3's locally banded layers are taken as dense)."""
    f = r.f
    r.layer_prefix = "transformer.h"
    hidden, n_layers, n_pos = f.size("n_embd"), f.size("n_layer"), f.size("n_positions", "n_ctx")
    inter = f.size("n_inner", default=4 * hidden)
    mixer = attention(r, hidden, _even_heads(f, hidden, f.size("n_head")), path="attn.",
                      names=_merged("c_attn", "c_proj"), bias=True, out_bias=True, rope_dim=0)
    ffn = plain_ffn(r, two_layer(r, hidden, inter, "mlp.c_fc", "mlp.c_proj", bias=True),
                    f.text("activation_function", default="gelu_new"))
    layers, pattern = _uniform(Layer(label="full", mixer=mixer, ffn=ffn, norm_params=4 * hidden), n_layers)
    return spec(r, hidden, layers, pattern, tied=r.tied(True), extra_embed=n_pos * hidden, norm="layernorm",
                max_context=n_pos)


def read_gptj(r: Reading) -> ModelSpec:
    f = r.f
    r.layer_prefix = "transformer.h"
    hidden, inter = f.size("n_embd"), f.size("n_inner", default=4 * f.size("n_embd"))
    mixer = attention(r, hidden, _even_heads(f, hidden, f.size("n_head")), path="attn.",
                      names=("q_proj", "k_proj", "v_proj", "out_proj"), rope_dim=f.count("rotary_dim", default=0))
    ffn = plain_ffn(r, two_layer(r, hidden, inter, "mlp.fc_in", "mlp.fc_out", bias=True),
                    f.text("activation_function", default="gelu_new"))
    layer = Layer(label="full", mixer=mixer, ffn=ffn, norms=1, norm_params=2 * hidden, parallel=True)
    layers, pattern = _uniform(layer, f.size("n_layer"))
    return spec(r, hidden, layers, pattern, tied=r.tied(False), head_bias=True, norm="layernorm",
                max_context=f.size("n_positions", "n_ctx"))


def read_neox(r: Reading) -> ModelSpec:
    f = r.f
    r.layer_prefix = "gpt_neox.layers"
    hidden = f.size("hidden_size")
    h = _even_heads(f, hidden, f.size("num_attention_heads"))
    bias = f.flag("attention_bias", default=True)
    mixer = attention(r, hidden, h, path="attention.", names=_merged("query_key_value", "dense"), bias=bias,
                      out_bias=bias, rope_dim=round(h.dim * f.number("rotary_pct", 0.25)))
    ffn = plain_ffn(r, two_layer(r, hidden, f.size("intermediate_size"), "mlp.dense_h_to_4h", "mlp.dense_4h_to_h",
                                 bias=True), f.text("hidden_act", default="gelu"))
    layer = Layer(label="full", mixer=mixer, ffn=ffn, norm_params=4 * hidden,
                  parallel=f.flag("use_parallel_residual", default=True))
    layers, pattern = _uniform(layer, f.size("num_hidden_layers"))
    return spec(r, hidden, layers, pattern, tied=r.tied(False), norm="layernorm", head_name="embed_out")


def read_opt(r: Reading) -> ModelSpec:
    f = r.f
    r.layer_prefix = "model.decoder.layers"
    hidden, vocab, n_pos = f.size("hidden_size"), f.size("vocab_size"), f.size("max_position_embeddings")
    table = f.size("word_embed_proj_dim", default=hidden)
    bias = f.flag("enable_bias", default=True)
    mixer = attention(r, hidden, _even_heads(f, hidden, f.size("num_attention_heads")), bias=bias, out_bias=bias,
                      names=("q_proj", "k_proj", "v_proj", "out_proj"), rope_dim=0)
    ffn = plain_ffn(r, two_layer(r, hidden, f.size("ffn_dim"), "fc1", "fc2", bias=bias),
                    f.text("activation_function", default="relu"))
    layers, pattern = _uniform(Layer(label="full", mixer=mixer, ffn=ffn, norm_params=4 * hidden),
                               f.size("num_hidden_layers"))
    before = f.flag("do_layer_norm_before", default=True) and not f.flag("_remove_final_layer_norm")
    extra = (n_pos + 2) * hidden                   # two positions are reserved for padding
    if table != hidden:                            # OPT-350m: narrower table, projected in and out
        extra += vocab * (table - hidden) + 2 * table * hidden
    return spec(r, hidden, layers, pattern, tied=r.tied(True), extra_embed=extra, norm="layernorm",
                final=2 * hidden if before else 0, head_in=table)


def read_bloom(r: Reading) -> ModelSpec:
    f = r.f
    r.layer_prefix = "transformer.h"
    hidden = f.size("hidden_size", "n_embed")
    mixer = attention(r, hidden, _even_heads(f, hidden, f.size("n_head", "num_attention_heads")), bias=True,
                      path="self_attention.", names=_merged("query_key_value", "dense"), out_bias=True, rope_dim=0)
    ffn = plain_ffn(r, two_layer(r, hidden, 4 * hidden, "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", bias=True), "gelu")
    layers, pattern = _uniform(Layer(label="full", mixer=mixer, ffn=ffn, norm_params=4 * hidden),
                               f.size("n_layer", "num_hidden_layers"))
    return spec(r, hidden, layers, pattern, tied=r.tied(True), extra_embed=2 * hidden, norm="layernorm",
                max_context=f.count("seq_length", default=2048))


def read_falcon(r: Reading) -> ModelSpec:
    """Falcon-RW (sequential, many KV heads), Falcon-7B (parallel, one KV head), -40B/-180B (new decoder)."""
    f = r.f
    r.layer_prefix = "transformer.h"
    hidden, n = f.size("hidden_size"), f.size("num_attention_heads", "n_head")
    new, bias = f.flag("new_decoder_architecture"), f.flag("bias")
    parallel = new or f.flag("parallel_attn", default=True)
    kv = f.size("num_kv_heads", "n_head_kv", default=n) if new else 1 if f.flag("multi_query", default=True) else n
    h = _even_heads(f, hidden, n, kv)
    mixer = attention(r, hidden, h, path="self_attention.", names=_merged("query_key_value", "dense"), bias=bias,
                      out_bias=bias, rope_dim=0 if f.flag("alibi") else h.dim)
    inter = f.size("ffn_hidden_size", default=4 * hidden)
    ffn = plain_ffn(r, two_layer(r, hidden, inter, "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", bias=bias),
                    f.text("activation", default="gelu"))
    norms = f.size("num_ln_in_parallel_attn", default=2) if new else 1 if parallel else 2
    layer = Layer(label="full", mixer=mixer, ffn=ffn, norms=norms, norm_params=2 * norms * hidden, parallel=parallel)
    layers, pattern = _uniform(layer, f.size("num_hidden_layers", "n_layer"))
    return spec(r, hidden, layers, pattern, tied=r.tied(True), norm="layernorm",
                max_context=f.count("max_position_embeddings", default=2048))


def read_mpt(r: Reading) -> ModelSpec:
    f = r.f
    r.layer_prefix = "transformer.blocks"
    hidden, n = f.size("d_model"), f.size("n_heads")
    attn = f.sub("attn_config") or Fields({}, f.where)
    bias = not f.flag("no_bias", default=True)
    mixer = attention(r, hidden, _even_heads(f, hidden, n, attn.size("kv_n_heads", default=n)), path="attn.", bias=bias,
                      names=_merged("Wqkv", "out_proj"), out_bias=bias, rope_dim=0)
    ffn = plain_ffn(r, two_layer(r, hidden, f.size("expansion_ratio", default=4) * hidden, "ffn.up_proj",
                                 "ffn.down_proj", bias=bias), "gelu")
    per = hidden * (2 if bias else 1)
    layers, pattern = _uniform(Layer(label="full", mixer=mixer, ffn=ffn, norm_params=2 * per), f.size("n_layers"))
    limit = f.count("max_seq_len", default=2048)
    tables = 0 if attn.flag("alibi") else limit * hidden
    return spec(r, hidden, layers, pattern, tied=r.tied(True), norm="layernorm", final=per, max_context=limit,
                extra_embed=tables)


def read_phi(r: Reading) -> ModelSpec:
    """Phi-1, -1.5, -2: attention and feed-forward in parallel behind one norm, biases everywhere."""
    f = r.f
    hidden = f.size("hidden_size")
    h = Heads.read(f, hidden)
    mixer = attention(r, hidden, h, names=("q_proj", "k_proj", "v_proj", "dense"), bias=True, out_bias=True,
                      rope_dim=round(h.dim * f.number("partial_rotary_factor", 0.5)))
    ffn = plain_ffn(r, two_layer(r, hidden, f.size("intermediate_size"), "mlp.fc1", "mlp.fc2", bias=True),
                    f.text("hidden_act", default="gelu_new"))
    layer = Layer(label="full", mixer=mixer, ffn=ffn, norms=1, norm_params=2 * hidden, parallel=True)
    layers, pattern = _uniform(layer, f.size("num_hidden_layers"))
    return spec(r, hidden, layers, pattern, tied=r.tied(False), head_bias=True, norm="layernorm")


def read_bert(r: Reading) -> ModelSpec:
    """Encoder: no cache, no language head; the pooler stands under ``final_params``."""
    f = r.f
    r.layer_prefix = "encoder.layer"
    hidden = f.size("hidden_size")
    mixer = attention(r, hidden, _even_heads(f, hidden, f.size("num_attention_heads")), path="attention.",
                      names=("self.query", "self.key", "self.value", "output.dense"), bias=True, out_bias=True,
                      rope_dim=0, causal=False)
    mixer = mixer.model_copy(update={"core": mixer.core.model_copy(update={"kv_elements": 0})})
    ffn = plain_ffn(r, two_layer(r, hidden, f.size("intermediate_size"), "intermediate.dense", "output.dense",
                                 bias=True), f.text("hidden_act", default="gelu"))
    layers, pattern = _uniform(Layer(label="encoder", mixer=mixer, ffn=ffn, norm_params=4 * hidden),
                               f.size("num_hidden_layers"))
    tables = (f.size("max_position_embeddings") + f.size("type_vocab_size", default=2) + 2) * hidden
    r.notes.append("encoder with its pooler; task heads are left out")
    return spec(r, hidden, layers, pattern, tied=False, lm_head=False, causal=False, extra_embed=tables,
                final=hidden * hidden + hidden, norm="layernorm")


def read_chatglm(r: Reading) -> ModelSpec:
    """ChatGLM-2/3 and GLM-4-9B as first published (model_type ``chatglm``)."""
    f = r.f
    r.layer_prefix = "transformer.encoder.layers"
    hidden, n = f.size("hidden_size"), f.size("num_attention_heads")
    if not f.has("padded_vocab_size"):
        raise ValueError(f"{f.where}: padded_vocab_size: missing, expected a ChatGLM-2 or later config "
                         "(the first ChatGLM has another attention)")
    kv = f.size("multi_query_group_num") if f.flag("multi_query_attention") else n
    h = Heads(n, kv, f.size("kv_channels", default=hidden // n))
    bias = f.flag("add_bias_linear")
    mixer = attention(r, hidden, h, path="self_attention.", names=_merged("query_key_value", "dense"),
                      bias=f.flag("add_qkv_bias") or bias, out_bias=bias, rope_dim=h.dim // 2)
    ffn = FeedForward(linears=glu(r, hidden, f.size("ffn_hidden_size"), bias=bias, names=(
        "dense_h_to_4h", "dense_h_to_4h", "dense_4h_to_h")), function="silu")
    layers, pattern = _uniform(Layer(label="full", mixer=mixer, ffn=ffn, norm_params=2 * hidden), f.size("num_layers"))
    return spec(r, hidden, layers, pattern, tied=r.tied(False), vocab=f.size("padded_vocab_size"),
                max_context=f.count("seq_length", default=0), head_name="transformer.output_layer")


CLASSIC = {
    "gpt2": read_gpt2, "gptj": read_gptj, "gpt_neox": read_neox, "opt": read_opt, "bloom": read_bloom,
    "falcon": read_falcon, "RefinedWeb": read_falcon, "RefinedWebModel": read_falcon, "mpt": read_mpt,
    "phi": read_phi, "bert": read_bert, "chatglm": read_chatglm,
}
