"""Recurrent mixers (Mamba, gated delta net, KDA, lightning, mLSTM, HGRN), the pure recurrent families, and BitNet.

A recurrence's operation count is per token of the step-by-step form, which decode runs; chunked prefill forms do more
arithmetic on matrix engines. Sources: Mamba-2 (arXiv 2405.21060), Gated Delta Networks (arXiv 2412.06464), Kimi Linear
(arXiv 2510.26692), MiniMax-01 (arXiv 2501.08313), xLSTM 7B (arXiv 2503.13427), MatMul-free LM (arXiv 2406.02528).
"""

from __future__ import annotations

import math

from workloads.config_fields import Fields
from workloads.families_common import Heads, Reading, attention, glu, spec, stack
from workloads.model_spec import FeedForward, Layer, Linear, Mixer, ModelSpec, Recurrent


def with_conv(core: Recurrent, channels: int, kernel: int) -> Recurrent:
    """A short depthwise convolution before the recurrence keeps the last kernel - 1 inputs of each channel."""
    return core.model_copy(update={"conv_elements": channels * (kernel - 1), "conv_channels": channels,
                                   "conv_kernel": kernel})


def mamba2(r: Reading, hidden: int, *, path: str, heads: int, head_dim: int, state: int, groups: int, kernel: int,
           bias: bool, conv_bias: bool) -> Mixer:
    """One projection makes gate, input, B, C and time step; per head the state is head_dim x state."""
    inner = heads * head_dim
    if heads % groups:
        raise r.f.error("n_groups", groups, f"a divisor of the number of heads, {heads}")
    channels = inner + 2 * groups * state
    linears = (r.lin(path + "in_proj", hidden, inner + channels + heads, bias=bias, heads=heads),
               r.lin(path + "out_proj", inner, hidden, bias=bias, split="row", heads=heads))
    # a state element: decay 1, outer product and sum 2, read-out 2; and the skip D x
    core = with_conv(Recurrent(cell="mamba2", state_elements=inner * state, io_elements=channels + heads + inner,
                               flops_per_token=5 * inner * state + 2 * inner), channels, kernel)
    extra = channels * (kernel + conv_bias) + 3 * heads + inner       # conv; A, D, dt bias; gated norm
    return Mixer(linears=linears, core=core, extra_params=extra)


def mamba1(r: Reading, hidden: int, inner: int, state: int, rank: int, kernel: int, bias: bool,
           conv_bias: bool) -> Mixer:
    p = "mixer."
    linears = (r.lin(p + "in_proj", hidden, 2 * inner, bias=bias), r.lin(p + "x_proj", inner, rank + 2 * state),
               r.lin(p + "dt_proj", rank, inner, bias=True),
               r.lin(p + "out_proj", inner, hidden, bias=bias, split="row"))
    core = with_conv(Recurrent(cell="mamba1", state_elements=inner * state, io_elements=3 * inner + 2 * state,
                               flops_per_token=7 * inner * state + 2 * inner), inner, kernel)
    return Mixer(linears=linears, core=core, extra_params=inner * (kernel + conv_bias) + inner * state + inner)


def gated_delta_net(r: Reading, hidden: int, *, merged: bool) -> Mixer:
    """Qwen3-Next (``merged``: two projections) and Qwen3.5 (four). Per value head the state is key x value size; a
    step decays it, subtracts what it recalls for the key, adds the new value, and reads: 7 operations an element."""
    f, p = r.f, "linear_attn."
    nk, nv = f.size("linear_num_key_heads"), f.size("linear_num_value_heads")
    dk, dv = f.size("linear_key_head_dim"), f.size("linear_value_head_dim")
    if nv % nk:
        raise f.error("linear_num_value_heads", nv, f"a multiple of linear_num_key_heads = {nk}")
    key, value, kernel = nk * dk, nv * dv, f.size("linear_conv_kernel_dim", default=4)
    names = ("in_proj_qkvz", "in_proj_qkvz", "in_proj_ba", "in_proj_ba") if merged else (
        "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a")
    widths = (2 * key + value, value, nv, nv)
    ins = [r.lin(p + n, hidden, w, fuse="in_qkvz" if i < 2 else "in_ba", heads=nk)
           for i, (n, w) in enumerate(zip(names, widths, strict=True))]
    channels = 2 * key + value
    core = with_conv(Recurrent(cell="gated_delta_net", state_elements=nv * dk * dv, flops_per_token=7 * nv * dk * dv,
                     io_elements=channels + value + 2 * nv), channels, kernel)
    return Mixer(linears=(*ins, r.lin(p + "out_proj", value, hidden, split="row", heads=nk)), core=core,
                 extra_params=channels * kernel + 2 * nv + dv)


def kda(r: Reading, hidden: int, cfg: Fields) -> Mixer:
    """Kimi Delta Attention: a delta net whose decay is a vector over the key channels, made by a low-rank map."""
    p, n, dim = "self_attn.", cfg.size("num_heads"), cfg.size("head_dim")
    kernel, inner = cfg.size("short_conv_kernel_size", default=4), n * dim
    linears = [r.lin(p + x, hidden, inner, fuse="qkv", heads=n) for x in ("q_proj", "k_proj", "v_proj")]
    linears += [r.lin(p + "f_a_proj", hidden, dim, split="none"), r.lin(p + "f_b_proj", dim, inner, heads=n),
                r.lin(p + "b_proj", hidden, n, heads=n)]
    if cfg.flag("use_full_rank_gate"):
        linears.append(r.lin(p + "g_proj", hidden, inner, heads=n))
    else:
        linears += [r.lin(p + "g_a_proj", hidden, dim, split="none"), r.lin(p + "g_b_proj", dim, inner, heads=n)]
    linears.append(r.lin(p + "o_proj", inner, hidden, split="row", heads=n))
    core = with_conv(Recurrent(cell="kda", state_elements=n * dim * dim, flops_per_token=7 * n * dim * dim,
                     io_elements=5 * inner + n), 3 * inner, kernel)
    return Mixer(linears=tuple(linears), core=core, extra_params=3 * inner * kernel + n + inner + dim)


def lightning(r: Reading, hidden: int, h: Heads) -> Mixer:
    """Linear attention with a fixed decay a head (MiniMax-01): state head x head, gated and normed output."""
    p, inner = "self_attn.", h.n * h.dim
    linears = [r.lin(p + "qkv_proj", hidden, inner, fuse="qkv", heads=h.n) for _ in range(3)]
    linears += [r.lin(p + "output_gate", hidden, inner, heads=h.n),
                r.lin(p + "out_proj", inner, hidden, split="row", heads=h.n)]
    core = Recurrent(cell="lightning", state_elements=h.n * h.dim**2, flops_per_token=5 * h.n * h.dim**2,
                     io_elements=4 * inner)
    return Mixer(linears=tuple(linears), core=core, extra_params=inner)


def read_mamba2(r: Reading) -> ModelSpec:
    """Mamba-2 in the Transformers spelling (model_type mamba2) or as the authors publish it (``ssm_cfg``)."""
    f = r.f
    r.layer_prefix = "backbone.layers"
    hidden = f.size("hidden_size", "d_model")
    ssm = f.sub("ssm_cfg")
    if ssm:
        head_dim, state = ssm.size("headdim", default=64), ssm.size("d_state", default=128)
        groups, kernel = ssm.size("ngroups", default=1), ssm.size("d_conv", default=4)
        inner = ssm.size("expand", default=2) * hidden
        heads, bias, conv_bias = inner // head_dim, False, True
        step = f.size("pad_vocab_size_multiple", default=8)
        vocab = -(-f.size("vocab_size") // step) * step
        tied = f.flag("tie_embeddings", default=True)
        r.notes.append("authors' config: head size 64, state 128, one group, kernel 4 unless ssm_cfg says otherwise")
    else:
        heads, head_dim = f.size("num_heads"), f.size("head_dim")
        state, groups = f.size("state_size"), f.size("n_groups")
        kernel, bias, conv_bias = f.size("conv_kernel"), f.flag("use_bias"), f.flag("use_conv_bias", default=True)
        vocab, tied = f.size("vocab_size"), r.tied(False)
    mixer = mamba2(r, hidden, path="mixer.", heads=heads, head_dim=head_dim, state=state, groups=groups, kernel=kernel,
                   bias=bias, conv_bias=conv_bias)
    layer = Layer(label="mamba2", mixer=mixer, ffn=None, norms=1, norm_params=hidden)
    layers, pattern = stack([0] * f.size("num_hidden_layers", "n_layer"), lambda _: layer)
    return spec(r, hidden, layers, pattern, tied=tied, vocab=vocab)


def read_mamba1(r: Reading) -> ModelSpec:
    f = r.f
    r.layer_prefix = "backbone.layers"
    hidden = f.size("hidden_size", "d_model")
    inner = f.size("intermediate_size", "d_inner", default=f.size("expand", default=2) * hidden)
    rank = math.ceil(hidden / 16) if f.raw("time_step_rank")[1] in (None, "auto") else f.size("time_step_rank")
    mixer = mamba1(r, hidden, inner, f.size("state_size"), rank, f.size("conv_kernel"), f.flag("use_bias"),
                   f.flag("use_conv_bias", default=True))
    layer = Layer(label="mamba1", mixer=mixer, ffn=None, norms=1, norm_params=hidden)
    layers, pattern = stack([0] * f.size("num_hidden_layers", "n_layer"), lambda _: layer)
    return spec(r, hidden, layers, pattern, tied=r.tied(r.family == "mamba"))


def read_xlstm(r: Reading) -> ModelSpec:
    """xLSTM 7B: mLSTM blocks (matrix memory, a state of key x value size a head) and gated feed-forward parts."""
    f = r.f
    r.layer_prefix = "backbone.blocks"
    hidden, n = f.size("embedding_dim", "hidden_size"), f.size("num_heads")
    qk = int(hidden * f.number("qk_dim_factor", 0.5))
    v = int(hidden * f.number("v_dim_factor", 1.0))
    unit = f.size("ffn_round_up_to_multiple_of", default=64)
    inter = math.ceil(int(hidden * f.number("ffn_proj_factor", 2.667)) / unit) * unit
    bias, p = f.flag("use_bias"), "mlstm_layer."
    widths = {"q": qk, "k": qk, "v": v, "ogate_preact": v, "igate_preact": n, "fgate_preact": n}
    ins = [r.lin(p + name, hidden, width, bias=bias or name in ("igate_preact", "fgate_preact"), fuse="in", heads=n)
           for name, width in widths.items()]
    linears = (*ins, r.lin(p + "out_proj", v, hidden, bias=bias, split="row", heads=n))
    state = qk * v // n
    core = Recurrent(cell="mlstm", state_elements=state + qk + n, flops_per_token=5 * state + 4 * qk,
                     io_elements=2 * qk + 2 * v + 2 * n)
    mixer = Mixer(linears=linears, core=core, extra_params=v)
    ffn = FeedForward(linears=glu(r, hidden, inter, path="ffn.", bias=bias,
                                  names=("proj_up_gate", "proj_up", "proj_down")), function="silu")
    layer = Layer(label="mlstm", mixer=mixer, ffn=ffn, norm_params=2 * hidden)
    layers, pattern = stack([0] * f.size("num_blocks", "num_hidden_layers"), lambda _: layer)
    return spec(r, hidden, layers, pattern, tied=r.tied(False))


def ternary(r: Reading) -> None:
    """BitNet b1.58: weights in {-1, 0, 1} with one scale a matrix, activations int8 with one scale a token."""
    r.weight, r.act = "ternary", "int8"


def read_hgrn_bit(r: Reading) -> ModelSpec:
    """MatMul-free LM: HGRN mixer and gated feed-forward part of ternary linears, each with a norm of its input."""
    f = r.f
    ternary(r)
    hidden = f.size("hidden_size")
    inner = hidden * f.size("expand_ratio", default=1)
    if f.flag("use_short_conv"):
        raise f.error("use_short_conv", True, "false: the variant with a short convolution is not modelled")
    third = f.size("hidden_ratio", default=4) * hidden * 2 // 3
    inter = f.size("intermediate_size", default=-(-third // 256) * 256)
    ins: tuple[Linear, ...] = tuple(r.lin(f"attn.{x}", hidden, inner) for x in ("i_proj", "f_proj", "g_proj"))
    core = Recurrent(cell="hgrn", state_elements=inner, flops_per_token=6 * inner, io_elements=4 * inner)
    mixer = Mixer(linears=(*ins, r.lin("attn.o_proj", inner, hidden, split="row")), core=core,
                  extra_params=inner + 3 * hidden + inner + (hidden if f.flag("use_lower_bound", default=True) else 0))
    ffn = FeedForward(linears=glu(r, hidden, inter, names=("gate_proj", "gate_proj", "down_proj")),
                      function=f.text("hidden_act", default="swish"), extra_params=hidden + inter)
    layer = Layer(label="hgrn", mixer=mixer, ffn=ffn, norm_params=2 * hidden)
    layers, pattern = stack([0] * f.size("num_hidden_layers"), lambda _: layer)
    r.notes.append("ternary weights and int8 activations; embedding and norms stay in the config's dtype")
    return spec(r, hidden, layers, pattern, tied=r.tied(False), plain_head=False, final=2 * hidden)


def read_bitnet(r: Reading) -> ModelSpec:
    """BitNet b1.58: a Llama-like decoder of ternary linears with a norm before each output projection."""
    f = r.f
    ternary(r)
    hidden, inter = f.size("hidden_size"), f.size("intermediate_size")
    h = Heads.read(f, hidden)
    mixer = attention(r, hidden, h, extra=h.n * h.dim)
    ffn = FeedForward(linears=glu(r, hidden, inter), function=f.text("hidden_act", default="silu"), extra_params=inter)
    layer = Layer(label="full", mixer=mixer, ffn=ffn, norm_params=2 * hidden)
    layers, pattern = stack([0] * f.size("num_hidden_layers"), lambda _: layer)
    r.notes.append("ternary weights and int8 activations; embedding, head and norms stay in the config's dtype")
    return spec(r, hidden, layers, pattern, tied=r.tied(True))


RECURRENT = {
    "mamba2": read_mamba2, "mamba": read_mamba1, "falcon_mamba": read_mamba1, "xlstm": read_xlstm,
    "hgrn_bit": read_hgrn_bit, "bitnet": read_bitnet,
}
