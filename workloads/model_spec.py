"""ModelSpec: a network as its public ``config.json`` describes it, reduced to what costs anything.

A model is a sequence of layers; a layer is a token mixer and a feed-forward part; both are lists of ``Linear`` maps
plus one core operation. ``pattern`` says which of the distinct ``layers`` stands at each depth, so that models of
mixed layer kinds (and of mixed number formats) are described exactly and priced once per distinct kind.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

Size = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Linear(_Frozen):
    """y[n_out] = x[n_in] W. ``fuse``: linears of one group share their input and run as one GEMM.

    ``split`` is how tensor parallelism cuts it: ``column`` (outputs), ``row`` (inputs, all-reduced after), ``none``.
    ``heads``: number of units the cut must respect (KV heads are replicated when there are fewer than ranks).
    ``weight``/``act`` are number formats of the stored weight and of the multiplied activation.
    ``name`` is the module's path inside the layer. A module that stores several maps in one matrix (``qkv_proj``,
    ``gate_up_proj``) appears once per map under the same name, so that tensor parallelism can cut each by its heads.
    """

    name: str
    n_in: Size
    n_out: Size
    bias: bool = False
    fuse: str = ""
    split: Literal["column", "row", "none"] = "column"
    heads: Count = 0
    weight: str = "bf16"
    act: str = "bf16"

    @property
    def n_weights(self) -> int:
        return self.n_in * self.n_out

    @property
    def n_params(self) -> int:
        return self.n_weights + (self.n_out if self.bias else 0)


class Softmax(_Frozen):
    """Core of MHA, GQA, MQA and MLA. ``kv_elements``: cached per token, exactly as stored (0: another layer's).

    ``window`` 0 = all positions; else a sliding window (``chunked``: a block-local chunk of that size).
    ``compress``: stored positions = context / compress (compressed sparse attention); ``topk``: positions attended.
    With ``compress`` > 1 the last ``window`` positions are kept and attended uncompressed besides.
    For MLA ``latent`` is true: head sizes are those of the absorbed form used in decode, ``prefill_*`` of the expanded.
    """

    kind: Literal["softmax"] = "softmax"
    n_heads: Size
    n_kv_heads: Size
    head_dim: Size
    v_head_dim: Size
    kv_elements: Count
    reads_elements: Size
    window: Count = 0
    chunked: bool = False
    latent: bool = False
    prefill_head_dim: Count = 0
    prefill_v_head_dim: Count = 0
    compress: Size = 1
    topk: Count = 0
    index_elements: Count = 0        # extra cached per token by a sparse-attention indexer
    index_flops: Count = 0           # per (query token, position) of the indexer
    rope_dim: Count = 0
    causal: bool = True


class Recurrent(_Frozen):
    """Core of a state-space or linear-attention mixer: state per sequence, no growing cache."""

    kind: Literal["recurrent"] = "recurrent"
    cell: str                         # mamba1 | mamba2 | gated_delta_net | mlstm | slstm | hgrn | kda | lightning
    state_elements: Size
    flops_per_token: Size
    io_elements: Size                 # streamed per token by the recurrence
    conv_elements: Count = 0          # channels x (kernel - 1) of a short convolution's state
    conv_channels: Count = 0
    conv_kernel: Count = 0


class Mixer(_Frozen):
    """Token mixer: linears in, core, linears out. ``extra_params``: norms of heads, decay vectors, sinks, conv ..."""

    linears: tuple[Linear, ...]
    core: Annotated[Softmax | Recurrent, Field(discriminator="kind")]
    extra_params: Count = 0
    qk_norm: bool = False


class Experts(_Frozen):
    """Routed experts: ``n_experts`` of width ``inter``, ``topk`` per token. Input and output width may differ from
    the hidden size (``hidden``) where experts work in a latent space. ``name``: their module path in the layer."""

    name: str = "mlp.experts"
    n_experts: Size
    topk: Size
    hidden: Size
    inter: Size
    gated: bool = True
    bias: bool = False
    weight: str = "bf16"
    act: str = "bf16"

    @property
    def n_weights(self) -> int:
        """Weights of one expert."""
        return (3 if self.gated else 2) * self.hidden * self.inter

    @property
    def n_bias(self) -> int:
        return ((2 if self.gated else 1) * self.inter + self.hidden) if self.bias else 0


class FeedForward(_Frozen):
    """Dense part (also shared experts and the router, as linears) and, for MoE, the routed experts.

    ``activation`` is the kernel (``silu_mul``: any gated product); ``function`` the config's own name of the
    nonlinearity ("silu", "gelu_pytorch_tanh", "relu2" ...).
    """

    linears: tuple[Linear, ...] = ()
    experts: Experts | None = None
    activation: Literal["silu_mul", "gelu", "relu", "none"] = "silu_mul"
    function: str = ""
    extra_params: Count = 0           # e.g. the router's correction bias


class Layer(_Frozen):
    """One distinct kind of layer. ``label`` is shown to people ("full", "sliding", "moe", "mamba2" ...)."""

    label: str
    mixer: Mixer | None
    ffn: FeedForward | None
    norms: Count = 2                  # norms over the hidden size run per token
    norm_params: Count = 0            # their parameters
    parallel: bool = False            # mixer and feed-forward read the same input (GPT-J, Falcon): one all-reduce

    @property
    def n_params(self) -> int:
        """All stored parameters of one such layer, every routed expert included."""
        total = self.norm_params
        if self.mixer:
            total += sum(x.n_params for x in self.mixer.linears) + self.mixer.extra_params
        if self.ffn:
            total += sum(x.n_params for x in self.ffn.linears) + self.ffn.extra_params
            if e := self.ffn.experts:
                total += e.n_experts * (e.n_weights + e.n_bias)
        return total


class ModelSpec(_Frozen):
    """A whole network. Counts are exact; see ``n_params`` and ``kv_bytes_per_token``."""

    name: str
    family: str                       # model_type of the config
    source: str = ""                  # where the shape comes from
    layer_prefix: str = "model.layers"  # module path of layer i is f"{layer_prefix}.{i}"
    hidden_size: Size
    vocab_size: Size
    max_context: Count = 0            # 0: not stated
    layers: tuple[Layer, ...]
    pattern: tuple[Count, ...]        # pattern[i] indexes ``layers`` for depth i
    tied_embeddings: bool = False
    lm_head: Linear | None            # None for encoders without a language head
    embed_params: Count               # token, position and segment tables, embedding norms and projections
    embed_format: str = "bf16"
    final_params: Count = 0           # last norm(s), pooler, other heads
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    causal: bool = True               # False: encoder (BERT)
    dtype: str = "bf16"               # activations and unquantised tensors
    kv_format: str = "bf16"
    attention_format: str = ""        # what scores are multiplied in; empty: dtype
    mtp_params: Count = 0             # next-token-prediction modules, outside the published main count
    vision_params: Count = 0          # towers not modelled, where their size is known
    notes: tuple[str, ...] = ()       # what the reader assumed or left out, shown to people

    @property
    def n_layers(self) -> int:
        return len(self.pattern)

    @property
    def counts(self) -> tuple[int, ...]:
        """How often each distinct layer occurs."""
        found = np.bincount(np.asarray(self.pattern, dtype=int), minlength=len(self.layers))
        return tuple(int(c) for c in found)

    @property
    def n_params(self) -> int:
        """Parameters of the language model: embeddings, layers, final norm and head (a tied head counts once)."""
        body = sum(c * x.n_params for c, x in zip(self.counts, self.layers, strict=True))
        head = self.lm_head.n_params if self.lm_head and not self.tied_embeddings else 0
        return self.embed_params + body + self.final_params + head

    @property
    def n_active_params(self) -> int:
        """Parameters that one token passes through (routed experts counted ``topk`` times)."""
        idle = sum(c * (e.n_experts - e.topk) * (e.n_weights + e.n_bias)
                   for c, x in zip(self.counts, self.layers, strict=True) if x.ffn and (e := x.ffn.experts))
        return self.n_params - idle

    @property
    def kv_elements_per_token(self) -> float:
        """Cached elements per token over all layers while nothing slides out of a window (compressed layers: the
        compressed positions alone; their uncompressed window is a constant, see ``kv_elements_at``)."""
        return float(sum(c * (x.mixer.core.kv_elements + x.mixer.core.index_elements) / x.mixer.core.compress
                         for c, x in zip(self.counts, self.layers, strict=True)
                         if x.mixer and isinstance(x.mixer.core, Softmax)))

    @property
    def state_elements(self) -> int:
        """Recurrent state per sequence over all layers."""
        return sum(c * (x.mixer.core.state_elements + x.mixer.core.conv_elements)
                   for c, x in zip(self.counts, self.layers, strict=True)
                   if x.mixer and isinstance(x.mixer.core, Recurrent))

    def kv_elements_at(self, context: ArrayLike, tp: int = 1) -> NDArray[np.float64]:
        """Cached elements of one sequence of ``context`` tokens on one of ``tp`` ranks: windows full, chunks at their
        largest, compression applied. KV heads are cut by ``tp`` and replicated beyond their number; a latent cache
        and an indexer's keys are replicated. Recurrent state is apart (``state_elements``)."""
        tokens = np.asarray(context, dtype=np.float64)
        total = np.zeros_like(tokens)
        for c, x in zip(self.counts, self.layers, strict=True):
            if x.mixer and isinstance(core := x.mixer.core, Softmax):
                kv = core.kv_elements / (1 if core.latent else min(tp, core.n_kv_heads))
                near = np.minimum(tokens, core.window) if core.window else tokens
                if core.compress > 1:
                    far = tokens / core.compress * (kv + core.index_elements)
                    total = total + c * (far + near * kv * bool(core.window))
                else:
                    total = total + c * near * (kv + core.index_elements)
        return total

    def kv_bytes_per_token(self, kv_format_bytes: float) -> float:
        """Cached bytes per token over all layers while nothing slides out of a window; 2.0 for bf16."""
        return self.kv_elements_per_token * kv_format_bytes
