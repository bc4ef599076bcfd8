"""How the CuPy backend passes arguments to kernels and to cuBLAS: on a stand-in for CuPy whose kernels run on the host.

What this cannot show: that CuPy's names are right on a real installation, graph capture, and any time.
"""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from tests.validate import fake_cupy
from validate.suite.host import UnsupportedError
from validate.suite.plan import CLASSES, GPU, Point, _elementwise, _matrix, points


@pytest.fixture
def backend(cuda, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)
    monkeypatch.delitem(sys.modules, "validate.suite.cuda", raising=False)
    monkeypatch.setattr(fake_cupy, "launch", cuda)
    module = importlib.import_module("validate.suite.cuda")
    made = module.CupyBackend()
    taken = {"in": [], "out": []}
    for name, pool in made.pools.items():
        take = pool.take
        monkeypatch.setattr(pool, "take", lambda n, take=take, name=name: taken[name].append(take(n)) or taken[name][-1])
    made.taken = taken
    yield made
    sys.modules.pop("validate.suite.cuda", None)


def _run(backend, point):
    for call in backend.prepare(point, 1):
        call()
    return [a.host for a in backend.taken["in"]], [a.host for a in backend.taken["out"]]


@pytest.mark.parametrize(("fmt", "dtype", "out_dtype"), [("fp16", np.float16, np.float16), ("fp32", np.float32, np.float32),
                                                         ("tf32", np.float32, np.float32), ("int8", np.int8, np.int32)])
@pytest.mark.parametrize("batch", [1, 3])
def test_cublas_gets_rows_as_transposed_columns(backend, fmt, dtype, out_dtype, batch):
    m, n, k = 3, 8, 16
    (a, w), (c,) = _run(backend, _matrix("gemm", "gemm", "linear", (fmt, fmt, "none"), (m, n, k, batch), "cold"))
    a, w = (x.view(dtype).reshape(batch, -1, k).astype(np.float64) for x in (a, w))
    assert (a.shape[1], w.shape[1]) == (m, n)
    np.testing.assert_allclose(c.view(out_dtype).reshape(batch, m, n), a @ w.transpose(0, 2, 1), rtol=2e-3, atol=2e-3)


def test_fp8_is_not_possible_and_this_is_said(backend):
    with pytest.raises(UnsupportedError, match="fp8"):
        backend.prepare(_matrix("gemm", "gemm_formats", "linear", ("fp8", "fp8", "none"), (1, 8, 16, 1), "cold"), 1)


def test_every_part_of_the_plan_is_prepared_and_timed(backend):
    """The least point of each operation; low-bit products and strided copies have tests of their own."""
    done = set()
    for point in sorted(points("gpu"), key=lambda p: p.footprint):
        fields = dict(point.fields)
        key = (point.kind, fields.get("op"), fields.get("dtype_a"))
        apart = point.kind == "lowbit" or fields.get("dtype_a") == "fp8"
        if key in done or apart or fields.get("op") in ("launch_graph", "copy_strided"):
            continue
        done.add(key)
        assert backend.time(backend.prepare(point, 2), 0.0).time > 0
    assert {k[0] for k in done} == set(CLASSES) - {"lowbit"}


def test_a_graph_that_cannot_be_captured_is_not_timed(backend):
    point = next(p for p in points("gpu") if p.kind == "launch" and p["op"] == "launch_graph")
    with pytest.raises(UnsupportedError, match="graph"):
        backend.prepare(point, 1)


@pytest.mark.parametrize("quant", ["int4_weight_only", "int2_weight_only", "int2_lookup", "xnor_popcount", "and_popcount"])
@pytest.mark.parametrize("m", [1, 4, 64])
def test_low_bit_kernels_get_operands_of_the_right_size(backend, quant, m):
    how = next(h for h in (("fp16", "int4", "int4_weight_only"), ("fp16", "int2", "int2_weight_only"),
                           ("fp16", "int2", "int2_lookup"), ("int1", "int1", "xnor_popcount"),
                           ("int2", "int4", "and_popcount")) if h[2] == quant)
    if quant == "int2_lookup" and m > 4:
        pytest.skip("one row at a time")
    _, out = _run(backend, _matrix("lowbit", "gemm_formats", "linear", how, (m, 64, 512, 1), "cold"))
    wide = quant in ("int2_lookup", "xnor_popcount", "and_popcount")
    assert out[0].nbytes == m * 64 * (4 if wide else 2)
    if quant == "xnor_popcount":
        values = out[0].view(np.int32)
        assert np.abs(values).max() <= 512
        assert np.all(values % 2 == 0)                                  # k - 2 x differing signs


def test_elementwise_kernels_read_their_operands(backend):
    point = next(p for p in _elementwise(GPU) if p["op"] == "add" and p["rows"] == 8 and p["cols"] == 128)
    (x, y), (out,) = _run(backend, point)
    x, y, out = (a.view(np.float16).astype(np.float64) for a in (x, y, out))
    np.testing.assert_allclose(out, x + y, rtol=2e-3, atol=2e-3)


def test_copies_go_where_they_should(backend):
    fields = (("op", "copy_strided"), ("dtype", "fp32"), ("bytes", 800), ("stride", 4), ("count", 1), ("cache", "cold"))
    (source,), (target,) = _run(backend, Point("copy", "micro", fields, 800.0, 3200.0))
    np.testing.assert_array_equal(target.view(np.float32), source.view(np.float32)[::4])
