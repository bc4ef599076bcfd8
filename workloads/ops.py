"""Operations: what has to be computed, with shapes and number formats, and no word about hardware.

Every shape field may be a NumPy array: one ``Op`` then stands for the same operation at many design points
(batch sizes, lengths, ...), and a cost model prices them all in one call. Fields of one op broadcast.
Formats are names known to :mod:`workloads.formats`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation. ``repeat`` is how often it runs per step (layers of its kind, pipeline stages ...)."""

    name: str
    repeat: ArrayLike = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm(Op):
    """C[m,n] = A[m,k] W[k,n], ``batch`` independent ones. ``static``: W is a stored weight, not an activation.

    ``resident`` is the share of W that the last-level cache still holds when the op starts (a weight that was not
    touched since the last step: 0).
    """

    m: ArrayLike
    n: ArrayLike
    k: ArrayLike
    batch: ArrayLike = 1.0
    resident: ArrayLike = 0.0
    a: str = "bf16"
    w: str = "bf16"
    out: str = "bf16"
    static: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Moe(Op):
    """Routed experts of one layer, from the router's scores to the combined output (the router GEMM is apart).

    ``tokens`` enter; each picks ``topk`` of ``n_experts``; this device holds ``n_local`` of them, each of width
    ``inter`` (already divided by the tensor-parallel degree). ``skew``: exponent of a power law of loads over the
    experts, 0 for even; ``dealt`` 1: exactly those loads, as benchmarks deal them, 0: tokens choose at random.
    ``resident`` 1: the weights were used just before and stay in L2 as far as they fit. ``gated``: gate, up and
    down, else up and down.
    """

    tokens: ArrayLike
    hidden: ArrayLike
    inter: ArrayLike
    topk: ArrayLike
    n_experts: ArrayLike
    n_local: ArrayLike
    skew: ArrayLike = 0.0
    dealt: ArrayLike = 0.0
    resident: ArrayLike = 0.0
    gated: bool = True
    a: str = "bf16"
    w: str = "bf16"
    out: str = "bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention(Op):
    """Fused attention of ``batch`` sequences of equal length: scores, softmax, weighted sum.

    ``q_len`` new tokens a sequence; ``kv_len`` its whole context, the new tokens included. ``window`` 0 is full
    attention, else the last ``window`` positions are seen. ``kv_elements`` cached elements per token that one query
    group must read (K and V of all KV heads; for MLA the latent and the rotary part, read once for both).
    """

    phase: str                       # "prefill" | "decode"
    batch: ArrayLike
    q_len: ArrayLike
    kv_len: ArrayLike
    n_heads: ArrayLike
    n_kv_heads: ArrayLike
    head_dim: ArrayLike              # of Q and K
    v_head_dim: ArrayLike            # of V
    kv_elements: ArrayLike
    window: ArrayLike = 0.0
    resident: ArrayLike = 0.0        # 1: the operands were touched just before and stay in L2 as far as they fit
    causal: bool = True
    q: str = "bf16"
    kv: str = "bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan(Op):
    """Recurrent token mixer (state-space, gated delta net, xLSTM ...): a state per sequence instead of a KV cache.

    ``flops_per_token`` multiplications and additions of the recurrence; ``state_elements`` per sequence, read and
    written once per step (decode) or once per chunk (prefill); ``io_elements`` streamed per token.
    """

    phase: str
    batch: ArrayLike
    q_len: ArrayLike
    flops_per_token: ArrayLike
    state_elements: ArrayLike
    io_elements: ArrayLike
    act: str = "bf16"
    state: str = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise(Op):
    """Memory-bound work on ``rows`` x ``cols`` elements. ``kind`` names the kernel (see ``ELEMENTWISE_KINDS``).

    ``bytes_read`` and ``bytes_written`` are the least traffic of the whole op, each operand and result once.
    """

    kind: str
    rows: ArrayLike
    cols: ArrayLike
    bytes_read: ArrayLike
    bytes_written: ArrayLike


@dataclass(frozen=True, slots=True, kw_only=True)
class Collective(Op):
    """Communication among ``n_devices``; ``nbytes`` is the message size in the NCCL-tests sense."""

    kind: str                        # "all_reduce" | "all_gather" | "reduce_scatter" | "alltoall" | "send_recv"
    nbytes: ArrayLike
    n_devices: ArrayLike


ELEMENTWISE_KINDS = (
    "add", "rmsnorm", "add_rmsnorm", "layernorm", "add_layernorm", "softmax", "silu_mul", "gelu", "relu", "rope",
    "embedding", "sampling", "kv_append", "quantise", "conv1d", "gate_mul",
)
COLLECTIVE_KINDS = ("all_reduce", "all_gather", "reduce_scatter", "alltoall", "send_recv")

#: Fields of each kind of op that are numbers and may be arrays, and the label on which ops must agree to share a formula.
NUMBERS: dict[type[Op], tuple[str, ...]] = {
    Gemm: ("m", "n", "k", "batch", "resident"),
    Moe: ("tokens", "hidden", "inter", "topk", "n_experts", "n_local", "skew", "dealt", "resident"),
    Attention: ("batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim", "v_head_dim", "kv_elements", "window",
                "resident"),
    Scan: ("batch", "q_len", "flops_per_token", "state_elements", "io_elements"),
    Elementwise: ("rows", "cols", "bytes_read", "bytes_written"),
    Collective: ("nbytes", "n_devices"),
}
LABEL: dict[type[Op], str] = {Attention: "phase", Collective: "kind"}


@dataclass(frozen=True, slots=True)
class OpGraph:
    """The ops of one step on one device, in order of execution; ops run one after another unless a plan says so."""

    phase: str
    ops: tuple[Op, ...]
    history: tuple[str, ...] = field(default=())
