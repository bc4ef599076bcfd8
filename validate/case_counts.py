"""What a source counts of a step where that is not the whole of it: rules by name, so that its own figures can be compared.

A rule picks or rewrites ops; they are then priced as any others. It holds counts alone, no figure of the source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from workloads.formats import get_format
from workloads.model_spec import ModelSpec
from workloads.ops import Attention, Gemm, Op


def rows_by_hidden(ops: Sequence[Op], spec: ModelSpec) -> Iterator[Gemm]:
    """Products alone: the head on every row, attention as if each head were as wide as the model.

    Scores are [heads q, hidden] x [hidden, q] and weighted sums [q, kv] x [kv, heads q], where attention needs
    [q, head_dim] x [head_dim, kv] and [q, kv] x [kv, head_dim] for each head. Of a prompt that is heads times too much
    for the scores; of one token the cache is read for one position a head instead of ``kv``. Keys that heads share are
    read once a group. BitMoD's simulator at commit 48975fc (``sim/pe_array.py``, ``accelerator.py``), whose published
    cycles are so counted.
    """
    stored = [op for op in ops if isinstance(op, Gemm) and op.static]
    rows = max(float(np.asarray(op.m)) for op in stored)
    yield from (replace(op, m=rows) for op in stored)
    for op in ops:
        if isinstance(op, Attention):
            q, wide = np.asarray(op.q_len), np.asarray(op.n_heads) * np.asarray(op.q_len)
            like = Gemm(name=op.name, repeat=op.repeat, batch=op.batch, m=wide, n=q, k=float(spec.hidden_size), a=op.q,
                        w=op.kv, out=op.q, static=False)
            yield replace(like, name=f"{op.name}.scores", a=_shared(op))
            yield replace(like, name=f"{op.name}.sums", m=q, n=wide, k=op.kv_len)


def _shared(op: Attention) -> str:
    """A format with the bytes that one element of a key takes for each of the heads that share it."""
    bits = get_format(op.q).bits * float(np.asarray(op.n_kv_heads) / np.asarray(op.n_heads))
    return op.q if bits > 8 else f"int{max(round(bits), 1)}"


RULES: dict[str, Callable[[Sequence[Op], ModelSpec], Iterator[Gemm]]] = {"rows_by_hidden": rows_by_hidden}
