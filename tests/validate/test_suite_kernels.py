"""The suite's own kernels: NumPy twins against float64 references, CUDA sources against the same references.

The CUDA sources run here on a host emulation (``cuda_on_host.cpp``) and go through nvcc where there is one.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from validate.suite import twins
from validate.suite.plan import GROUP

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "validate" / "suite"
RNG = np.random.default_rng(7)


def _softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _rms(x):
    return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + 1e-5)


REFERENCE = {
    "add": lambda x, y: x + y, "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3))),
    "silu_mul": lambda x, y: x / (1 + np.exp(-x)) * y, "softmax": _softmax, "rmsnorm": _rms,
    "layernorm": lambda x: _rms(x - x.mean(axis=1, keepdims=True)), "reduce": lambda x: x.sum(axis=1),
}


def _attention(q, k, v):
    """Head by head, in float64."""
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    group = q.shape[1] // k.shape[1]
    out = np.empty(q.shape)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            out[b, h] = _softmax(k[b, h // group] @ q[b, h] / np.sqrt(q.shape[2])) @ v[b, h // group]
    return out


def _weights(fields, scales, bits):
    return (fields.astype(np.float64) - 2 ** (bits - 1)) * np.repeat(scales.astype(np.float64), GROUP, axis=1)


# -- twins ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("op", twins.STREAMS)
def test_elementwise_twins(op):
    inputs = [RNG.standard_normal((5, 64)) for _ in range(2 if op in ("add", "silu_mul") else 1)]
    out = np.empty(5 if op == "reduce" else (5, 64), np.float32)
    twins.STREAMS[op](*(x.astype(np.float32) for x in inputs), out)
    np.testing.assert_allclose(out, REFERENCE[op](*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 8), (8, 2)])
def test_attention_twin(heads, kv_heads):
    q = RNG.standard_normal((2, heads, 128), dtype=np.float32)
    k, v = RNG.standard_normal((2, 2, kv_heads, 37, 128), dtype=np.float32)
    np.testing.assert_allclose(twins.attend(q, k, v), _attention(q, k, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_packing_comes_back(bits):
    fields = RNG.integers(0, 2 ** bits, (3, 256))
    words = twins.pack(fields, bits)
    assert words.shape == (3, 256 * bits // 32)
    np.testing.assert_array_equal(twins.unpack(words, bits), fields)


@pytest.mark.parametrize("bits", [2, 4])
def test_weight_only_twin(bits):
    fields, scales = RNG.integers(0, 2 ** bits, (24, 256)), RNG.random((24, 2), dtype=np.float32)
    x = RNG.standard_normal((3, 256), dtype=np.float32)
    out = twins.weight_only(x, twins.pack(fields, bits), scales, bits)
    np.testing.assert_allclose(out, x.astype(np.float64) @ _weights(fields, scales, bits).T, rtol=1e-4, atol=1e-3)


def test_lookup_twin():
    fields, scales = RNG.integers(0, 4, (24, 256)), RNG.random(24, dtype=np.float32)
    x = RNG.standard_normal((3, 256), dtype=np.float32)
    out = twins.lookup(x, twins.bit_planes(fields, 2), scales)
    np.testing.assert_allclose(out, x.astype(np.float64) @ (fields - 2.0).T * scales, rtol=1e-4, atol=1e-3)


def test_bit_serial_twins_are_exact():
    a, w = RNG.integers(0, 4, (5, 96)), RNG.integers(0, 16, (7, 96))
    np.testing.assert_array_equal(twins.and_popcount(twins.bit_planes(a, 2), twins.bit_planes(w, 4)), a @ w.T)
    a, w = RNG.integers(0, 2, (5, 96)), RNG.integers(0, 2, (7, 96))
    np.testing.assert_array_equal(twins.xnor_popcount(twins.pack(a, 1), twins.pack(w, 1), 96), (2 * a - 1) @ (2 * w - 1).T)


@pytest.mark.parametrize("quant", ["int4_weight_only", "int2_weight_only", "int2_lookup", "xnor_popcount", "and_popcount"])
def test_every_low_bit_product_of_the_plan_has_a_call(quant):
    assert np.asarray(twins.product(quant, 2, 16, 256, RNG)()).shape == (2, 16)


# -- CUDA sources on the host ----------------------------------------------------------------------------------------------

def _half(*shape):
    return RNG.standard_normal(shape).astype(np.float16)


@pytest.mark.parametrize("op", REFERENCE)
def test_cuda_elementwise(cuda, op):
    inputs = [_half(3, 520) for _ in range(2 if op in ("add", "silu_mul") else 1)]
    out = np.zeros(3 if op == "reduce" else (3, 520), np.float16)
    if op in ("softmax", "rmsnorm", "layernorm", "reduce"):
        cuda(op, (3,), 256, out, *inputs, np.int32(520))
    else:
        cuda(op, (2,), 64, out, *inputs, np.int64(3 * 520))
    np.testing.assert_allclose(out, REFERENCE[op](*(x.astype(np.float64) for x in inputs)), rtol=3e-3, atol=3e-3)


def test_cuda_strided_copy(cuda):
    source, out = np.arange(700, dtype=np.float32), np.zeros(100, np.float32)
    cuda("strided_copy", (2,), 32, out, source, np.int64(100), np.int32(7))
    np.testing.assert_array_equal(out, source[::7])


@pytest.mark.parametrize(("heads", "kv_heads", "length", "splits"), [(8, 8, 70, 1), (8, 2, 70, 3), (8, 1, 9, 4)])
def test_cuda_attention(cuda, heads, kv_heads, length, splits):
    q, k, v = _half(2, heads, 128), _half(2, kv_heads, length, 128), _half(2, kv_heads, length, 128)
    part, out = np.zeros((2 * heads, splits, 130), np.float32), np.zeros((2, heads, 128), np.float16)
    cuda(f"attend_{heads // kv_heads}", (2 * kv_heads, splits), 128, part, q, k, v, np.int32(length), np.int32(splits))
    cuda("attend_join", (2 * heads,), 128, out, part, np.int32(splits))
    np.testing.assert_allclose(out, _attention(q, k, v), rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("m", [1, 5, 70])
def test_cuda_weight_only(cuda, bits, m):
    n, k = 70, 256
    fields, scales, x = RNG.integers(0, 2 ** bits, (n, k)), RNG.random((n, 2)).astype(np.float16), _half(m, k)
    out, words = np.zeros((m, n), np.float16), twins.pack(fields, bits)
    sizes = (np.int32(m), np.int32(n), np.int32(k))
    if m > 8:
        cuda(f"weight_tiles_int{bits}", (2, 2), 256, out, x, words, scales, *sizes)
    else:
        cuda(f"weight_rows_int{bits}_{1 if m == 1 else 8}", (9,), 256, out, x, words, scales, *sizes)
    expected = x.astype(np.float64) @ _weights(fields, scales, bits).T
    np.testing.assert_allclose(out, expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("splits", [1, 2])
def test_cuda_lookup(cuda, splits):
    m, n, k = 2, 140, 512
    fields, scales, x = RNG.integers(0, 4, (n, k)), RNG.random(n).astype(np.float16), _half(m, k)
    out = np.zeros((m, n), np.float32)
    cuda("lookup", (2, m, splits), 128, out, x, twins.bit_planes(fields, 2), scales, np.int32(2), np.int32(n), np.int32(k))
    expected = x.astype(np.float64) @ (fields - 2.0).T * scales.astype(np.float64)
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("m", [3, 40])
@pytest.mark.parametrize(("bits_a", "bits_w", "xnor"), [(1, 1, 1), (2, 4, 0)])
def test_cuda_bit_serial_is_exact(cuda, m, bits_a, bits_w, xnor):
    n, k = 37, 64 * 32 + 32
    a, w = RNG.integers(0, 2 ** bits_a, (m, k)), RNG.integers(0, 2 ** bits_w, (n, k))
    out = np.zeros((m, n), np.int32)
    shape = (np.int32(bits_a), np.int32(bits_w), np.int32(xnor), np.int32(m), np.int32(n), np.int32(k // 32))
    kernel, grid = ("popcount_tiles", (2, 2)) if m > 8 else ("popcount_rows", (5,))
    cuda(kernel, grid, 256, out, twins.bit_planes(a, bits_a), twins.bit_planes(w, bits_w), *shape)
    np.testing.assert_array_equal(out, (2 * a - 1) @ (2 * w - 1).T if xnor else a @ w.T)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_cuda_sources_compile(tmp_path, arch):
    subprocess.run(["nvcc", f"-arch={arch}", "-ptx", "-o", str(tmp_path / "k.ptx"), str(KERNELS / "kernels.cu")], check=True)
    assert (tmp_path / "k.ptx").read_text().count(".entry") == 24
