"""NumPy twins of the suite's own kernels: the same function on host arrays. They are the CPU backend's kernels, and what
the CUDA kernels are checked against; they in turn are checked against float64 references in the tests.

Packed layouts are those of ``kernels.cu``: little-endian fields of a 32-bit word along k, unsigned with an offset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from validate.suite.plan import GROUP

F32 = NDArray[np.float32]
Words = NDArray[np.uint32]
#: Signs of one look-up: bits of this many neighbouring weights form the index of a table of sums.
LOOKUP = 4


# -- elementwise -------------------------------------------------------------------------------------------------------

def _gelu(x: F32, out: F32) -> None:
    np.multiply(x, 0.5 * (1.0 + np.tanh(0.7978845608 * (x + 0.044715 * x * x * x))), out=out)


def _silu_mul(x: F32, y: F32, out: F32) -> None:
    np.multiply(x / (1.0 + np.exp(-x)), y, out=out)


def _softmax(x: F32, out: F32) -> None:
    np.exp(x - x.max(axis=1, keepdims=True), out=out)
    np.divide(out, out.sum(axis=1, keepdims=True), out=out)


def _rmsnorm(x: F32, out: F32) -> None:
    np.multiply(x, 1.0 / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + 1e-5), out=out)


def _layernorm(x: F32, out: F32) -> None:
    centred = x - x.mean(axis=1, keepdims=True)
    np.multiply(centred, 1.0 / np.sqrt(np.mean(centred * centred, axis=1, keepdims=True) + 1e-5), out=out)


STREAMS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y, out: np.add(x, y, out=out), "relu": lambda x, out: np.maximum(x, 0.0, out=out), "gelu": _gelu,
    "silu_mul": _silu_mul, "softmax": _softmax, "rmsnorm": _rmsnorm, "layernorm": _layernorm,
    "reduce": lambda x, out: np.sum(x, axis=1, out=out),
}


# -- attention ---------------------------------------------------------------------------------------------------------

def attend(q: F32, k: F32, v: F32) -> F32:
    """One new token per sequence against its cache: q (batch, heads, d), k and v (batch, kv_heads, length, d)."""
    batch, heads, d = q.shape
    kv_heads = k.shape[1]
    grouped = q.reshape(batch, kv_heads, heads // kv_heads, d) * np.float32(d ** -0.5)
    scores = grouped @ k.transpose(0, 1, 3, 2)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    mixed: F32 = (scores @ v) / scores.sum(axis=-1, keepdims=True)
    return mixed.reshape(batch, heads, d)


# -- weight-only: int4 and int2 in groups ----------------------------------------------------------------------------

def pack(values: NDArray[Any], bits: int) -> Words:
    """Unsigned fields (..., k) -> words (..., k * bits / 32), the first field in the lowest bits."""
    per = 32 // bits
    fields = values.astype(np.uint32).reshape(*values.shape[:-1], -1, per)
    shifts = np.arange(per, dtype=np.uint32) * np.uint32(bits)
    packed: Words = np.bitwise_or.reduce(fields << shifts, axis=-1)
    return packed


def unpack(words: Words, bits: int) -> NDArray[np.uint32]:
    per = 32 // bits
    shifts = np.arange(per, dtype=np.uint32) * np.uint32(bits)
    fields: NDArray[np.uint32] = (words[..., None] >> shifts) & np.uint32(2 ** bits - 1)
    return fields.reshape(*words.shape[:-1], -1)


def dequantise(words: Words, scales: F32, bits: int) -> F32:
    """Words (n, k * bits / 32) and scales (n, k / GROUP) -> weights (n, k): (field - 2^(bits-1)) * scale."""
    fields = unpack(words, bits).astype(np.float32) - np.float32(2 ** (bits - 1))
    n, k = fields.shape
    weights: F32 = (fields.reshape(n, -1, GROUP) * scales[:, :, None]).reshape(n, k)
    return weights


def weight_only(x: F32, words: Words, scales: F32, bits: int) -> F32:
    """x (m, k) times dequantised weights: (m, n)."""
    return x @ dequantise(words, scales, bits).T


# -- table look-up -----------------------------------------------------------------------------------------------------

def lookup(x: F32, planes: Words, scales: F32) -> F32:
    """x (m, k) times weights of bit planes (bits, n, k / 32); a scale per weight row.

    LOOKUP neighbouring bits of a plane pick one of 2^LOOKUP precomputed sums of activations; plane p counts 2^p, the
    offset is 2^(bits-1).
    """
    m = len(x)
    indices = unpack(planes, LOOKUP)
    bits, _, groups = indices.shape
    choice = (np.arange(2 ** LOOKUP)[:, None] >> np.arange(LOOKUP)) & 1
    tables = (x.reshape(m, groups, LOOKUP) @ choice.T.astype(np.float32)).reshape(m, -1)
    at = indices.astype(np.int32) + np.arange(groups, dtype=np.int32) * 2 ** LOOKUP
    total = sum(np.float32(2 ** p) * tables[:, at[p]].sum(axis=-1, dtype=np.float32) for p in range(bits))
    scaled: F32 = (total - np.float32(2 ** (bits - 1)) * x.sum(axis=1, keepdims=True)) * scales
    return scaled


# -- bit-serial --------------------------------------------------------------------------------------------------------

def bit_planes(fields: NDArray[Any], bits: int) -> Words:
    """Unsigned fields (rows, k) -> words (bits, rows, k / 32), one bit of every value a plane."""
    return np.stack([pack((fields >> p) & 1, 1) for p in range(bits)])


def count_bits(words: Words) -> NDArray[Any]:
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words)
    table = np.array([bin(i).count("1") for i in range(65536)], np.uint8)        # NumPy 1.26
    counted: NDArray[Any] = table[words & np.uint32(0xFFFF)] + table[words >> np.uint32(16)]
    return counted


def and_popcount(a: Words, w: Words) -> NDArray[np.int32]:
    """Planes (bits_a, m, k/32) and (bits_w, n, k/32) of unsigned values -> their product (m, n): every pair of planes
    adds 2^(p+q) times the number of common ones."""
    out = np.zeros((a.shape[1], w.shape[1]), np.int32)
    for p, plane in enumerate(a):
        for q, other in enumerate(w):
            for row, mine in enumerate(plane):
                out[row] += count_bits(mine & other).sum(axis=1, dtype=np.int32) << (p + q)
    return out


def xnor_popcount(a: Words, w: Words, k: int) -> NDArray[np.int32]:
    """Words (m, k/32) and (n, k/32) of signs (1 is +1, 0 is -1) -> their product (m, n): k - 2 differing signs."""
    return np.stack([k - 2 * count_bits(mine ^ w).sum(axis=1, dtype=np.int32) for mine in a]).astype(np.int32)


# -- one call of each ----------------------------------------------------------------------------------------------------

def product(quant: str, m: int, n: int, k: int, rng: np.random.Generator) -> Callable[[], object]:
    """Random operands of one low-bit product, and the call that multiplies them."""
    x = rng.standard_normal((m, k), dtype=np.float32)
    if quant.endswith("_weight_only"):
        bits = int(quant[3])
        words, scales = pack(rng.integers(0, 2 ** bits, (n, k)), bits), rng.random((n, k // GROUP), dtype=np.float32)
        return lambda: weight_only(x, words, scales, bits)
    if quant == "int2_lookup":
        planes, row_scales = bit_planes(rng.integers(0, 4, (n, k)), 2), rng.random(n, dtype=np.float32)
        return lambda: lookup(x, planes, row_scales)
    if quant == "xnor_popcount":
        a, w = (pack(rng.integers(0, 2, (rows, k)), 1) for rows in (m, n))
        return lambda: xnor_popcount(a, w, k)
    if quant == "and_popcount":
        planes_a, planes_w = bit_planes(rng.integers(0, 4, (m, k)), 2), bit_planes(rng.integers(0, 16, (n, k)), 4)
        return lambda: and_popcount(planes_a, planes_w)
    raise ValueError(f"quant {quant!r}: no kernel of that name")
