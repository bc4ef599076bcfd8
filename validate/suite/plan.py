"""What the suite times, as data: points by table, in an order in which every prefix covers all regimes.

A time budget then cuts evenly: within a class of points the order is coarse to fine (bit-reversed over the amount of
work), and classes take turns. Two sizes of the same grids exist: one for GPUs, one for CPUs, some hundred times smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

#: Columns of each table, those of the measured tables; ``micro`` and ``gemm_formats`` are the suite's own.
_GEMM = ("source", "device", "framework", "op", "model", "dtype_a", "dtype_w", "dtype_acc", "quant", "m", "n", "k", "batch",
         "cache", "time_s", "power_w")
COLUMNS: dict[str, tuple[str, ...]] = {
    "gemm": _GEMM,
    "attention": ("source", "device", "framework", "model", "phase", "batch", "q_len", "kv_len", "n_heads", "n_kv_heads",
                  "head_dim", "window", "dtype_q", "dtype_kv", "time_s", "power_w"),
    "elementwise": ("source", "device", "framework", "op", "rows", "cols", "dtype", "bytes_rw", "time_s"),
    # Formats and kernels that no fit reads: tf32, plain int8, and this suite's own low-bit kernels.
    "gemm_formats": _GEMM,
    # Launches, copies, links: ``count`` operations of ``bytes`` (read plus written) each, ``stride`` in elements.
    "micro": ("source", "device", "framework", "op", "dtype", "bytes", "stride", "count", "cache", "time_s", "power_w"),
}

#: Names that ``--only`` takes -> what it selects.
CLASSES = {
    "launch": "empty kernels, issued one by one and as a captured graph",
    "copy": "device copies, contiguous and strided, cold and from the last-level cache",
    "link": "host to device and back, pinned memory",
    "gemm": "matrix products of the library, from one row to compute-bound, cold weights and resident ones",
    "bmm": "batched matrix products",
    "elementwise": "softmax, norms, activations, adds, reductions",
    "attention": "fused decode attention (a kernel of this suite)",
    "lowbit": "weight-only int4/int2, table look-up and bit-serial products (kernels of this suite)",
}

#: Bytes per element of what the suite stores.
NBYTES = {"fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5, "int2": 0.25, "int1": 0.125}


@dataclass(frozen=True)
class Point:
    """One thing to time. ``work`` orders points (operations or bytes); ``footprint`` is what one copy occupies [B]."""

    kind: str                                # of CLASSES
    table: str
    fields: tuple[tuple[str, str | int], ...]
    work: float
    footprint: float

    def __getitem__(self, key: str) -> str | int:
        return dict(self.fields)[key]

    def text(self, key: str) -> str:
        return str(self[key])

    def number(self, key: str) -> int:
        return int(self[key])

    @property
    def cold(self) -> bool:
        """Whether copies are rotated. Attention and elementwise kernels run on what was touched just before, as in a
        model and as in the other sources of these tables."""
        return dict(self.fields).get("cache") == "cold"

    def with_cache(self, cache: str) -> Point:
        fields = tuple((k, cache if k == "cache" else v) for k, v in self.fields)
        return replace(self, fields=fields)


class Scale(NamedTuple):
    """Grid limits of one kind of machine: largest work [operations] and bytes of one point, and the grids' values."""

    flops: float
    nbytes: float
    rows: tuple[int, ...]
    shapes: tuple[tuple[int, int], ...]      # (n, k)
    formats: tuple[str, ...]
    copies: tuple[int, ...]                  # bytes moved
    streams: tuple[tuple[int, int], ...]     # (rows, cols) of elementwise kernels
    caches: tuple[tuple[int, int], ...]      # (batch, kv_len) of attention
    low_shapes: tuple[tuple[int, int], ...]
    low_rows: tuple[int, ...]


GPU = Scale(
    flops=8e12, nbytes=4e9, rows=(1, 2, 4, 8, 16, 32, 64, 96, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
    shapes=((128, 4096), (1024, 1024), (2048, 2048), (4096, 1024), (1024, 4096), (4096, 4096), (6144, 4096), (12288, 4096),
            (4096, 14336), (28672, 4096), (8192, 8192), (57344, 8192), (8192, 28672), (128256, 4096)),
    formats=("fp16", "bf16", "fp32", "tf32", "int8", "fp8"), copies=tuple(2 ** p for p in range(12, 33, 2)),
    streams=tuple(product((1, 8, 64, 256, 1024, 4096, 16384, 65536), (128, 1024, 4096, 8192, 16384))),
    caches=tuple(product((1, 4, 16, 64, 256), (128, 1024, 4096, 16384, 65536))),
    low_shapes=((4096, 4096), (14336, 4096), (4096, 14336), (8192, 8192), (28672, 8192)),
    low_rows=(1, 2, 4, 8, 16, 64, 256))
CPU = Scale(
    flops=2e9, nbytes=6e7, rows=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048),
    shapes=((64, 512), (256, 256), (512, 2048), (1024, 1024), (2048, 512), (2048, 2048), (4096, 1024), (1024, 4096),
            (4096, 4096), (768, 3072), (3072, 768), (1536, 1536)),
    formats=("fp32", "int8"), copies=tuple(2 ** p for p in range(10, 28, 2)),
    streams=tuple(product((1, 4, 16, 64, 256, 1024, 4096, 16384), (128, 512, 1024, 4096, 8192))),
    caches=tuple(product((1, 4, 16), (64, 256, 1024, 4096))),
    low_shapes=((256, 512), (512, 512), (512, 1024), (1024, 1024)), low_rows=(1, 4, 8))
SCALES = {"gpu": GPU, "cpu": CPU}

#: Elementwise operation -> arrays read and written of rows x cols elements each.
STREAMS = {"add": (2, 1), "relu": (1, 1), "gelu": (1, 1), "silu_mul": (2, 1), "softmax": (1, 1), "rmsnorm": (1, 1),
           "layernorm": (1, 1), "reduce": (1, 0)}
#: Own kernels: format of A, format of W, name in column ``quant``.
LOWBIT = (("fp16", "int4", "int4_weight_only"), ("fp16", "int2", "int2_weight_only"), ("fp16", "int2", "int2_lookup"),
          ("int1", "int1", "xnor_popcount"), ("int2", "int4", "and_popcount"))
#: Weights of one scale in the weight-only kernels, as in GPTQ and AWQ checkpoints.
GROUP = 128


def points(machine: str, only: Sequence[str] = ()) -> list[Point]:
    """All points for a ``"gpu"`` or ``"cpu"``, in the order in which they are measured."""
    if unknown := [k for k in only if k not in CLASSES]:
        raise ValueError(f"--only {unknown[0]}: not a part of the suite; parts: {', '.join(CLASSES)}")
    scale = SCALES[machine]
    makers = {"launch": _launch, "copy": _copy, "link": _link, "gemm": _gemm, "bmm": _bmm, "elementwise": _elementwise,
              "attention": _attention, "lowbit": _lowbit}
    chosen = [spread(list(makers[k](scale))) for k in CLASSES if not only or k in only]
    # Large classes take more turns, with the root of their size: small ones are complete early.
    turns = [(i / len(found) ** 0.5, p) for found in chosen for i, p in enumerate(found)]
    return [p for _, p in sorted(turns, key=lambda t: t[0])]


def spread(found: list[Point]) -> list[Point]:
    """Coarse to fine over the work: least, most, middle, quarters ...; every prefix spans the whole range."""
    ordered = sorted(found, key=lambda p: p.work)
    bits = max(len(ordered) - 1, 1).bit_length()
    rank = sorted(range(len(ordered)), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))
    rank.insert(1, rank.pop(rank.index(len(ordered) - 1)))
    return [ordered[i] for i in rank]


def _launch(scale: Scale) -> Iterator[Point]:
    for op, count in product(("launch_eager", "launch_graph"), (1, 10, 100)):
        yield _micro("launch", op, 0, 1, count, "warm")


def _copy(scale: Scale) -> Iterator[Point]:
    for nbytes in scale.copies:
        yield _micro("copy", "copy", nbytes, 1, 1, "cold")
        yield _micro("copy", "copy", nbytes, 1, 1, "warm")
    for nbytes, stride in product(scale.copies[-6:-3], (2, 4, 8, 32)):
        yield _micro("copy", "copy_strided", nbytes, stride, 1, "cold")


def _link(scale: Scale) -> Iterator[Point]:
    for op, nbytes in product(("host_to_device", "device_to_host"), [c for c in scale.copies if c <= 2 ** 28]):
        yield _micro("link", op, nbytes, 1, 1, "cold")


def _micro(kind: str, op: str, nbytes: int, stride: int, count: int, cache: str) -> Point:
    fields = (("op", op), ("dtype", "fp32"), ("bytes", nbytes), ("stride", stride), ("count", count), ("cache", cache))
    return Point(kind, "micro", fields, float(nbytes * stride + count), float(nbytes * stride))


def _gemm(scale: Scale) -> Iterator[Point]:
    for fmt, m, (n, k) in product(scale.formats, scale.rows, scale.shapes):
        caches = ("cold", "warm") if m in (1, 16, 256) else ("cold",)
        # int8 on a CPU has no library kernel and runs at a small part of the fp32 rate.
        slower = 400.0 if scale is CPU and fmt == "int8" else 1.0
        yield from _fitting(scale, (_product("gemm", "linear", fmt, m, n, k, 1, c) for c in caches), slower)


def _bmm(scale: Scale) -> Iterator[Point]:
    formats = [f for f in scale.formats if f in ("bf16", "fp32")]
    shapes = ((64, 64), (128, 512), (512, 128), (1024, 64))
    for fmt, batch, m, (n, k) in product(formats, (4, 16, 64), (1, 16, 128, 512), shapes):
        yield from _fitting(scale, [_product("bmm", "bmm", fmt, m, n, k, batch, "cold")])


def _product(kind: str, op: str, fmt: str, m: int, n: int, k: int, batch: int, cache: str) -> Point:
    table = "gemm" if fmt in ("fp16", "bf16", "fp32") else "gemm_formats"
    return _matrix(kind, table, op, (fmt, fmt, "none"), (m, n, k, batch), cache)


def _matrix(kind: str, table: str, op: str, how: tuple[str, str, str], shape: tuple[int, int, int, int],
            cache: str) -> Point:
    (a, w, quant), (m, n, k, batch) = how, shape
    acc = "int32" if a.startswith("int") else "fp32"
    fields = (("op", op), ("model", ""), ("dtype_a", a), ("dtype_w", w), ("dtype_acc", acc), ("quant", quant),
              ("m", m), ("n", n), ("k", k), ("batch", batch), ("cache", cache))
    footprint = batch * (m * k * NBYTES[a] + n * k * NBYTES[w] + m * n * 4.0)
    return Point(kind, table, fields, 2.0 * m * n * k * batch, footprint)


def _elementwise(scale: Scale) -> Iterator[Point]:
    dtype = "fp16" if scale is GPU else "fp32"
    for op, (rows, cols) in product(STREAMS, scale.streams):
        read, written = STREAMS[op]
        nbytes = int(rows * cols * (read + written) * NBYTES[dtype] + (rows * NBYTES[dtype] if op == "reduce" else 0))
        fields = (("op", op), ("rows", rows), ("cols", cols), ("dtype", dtype), ("bytes_rw", nbytes))
        yield from _fitting(scale, [Point("elementwise", "elementwise", fields, float(nbytes), float(nbytes))])


def _attention(scale: Scale) -> Iterator[Point]:
    dtype = "fp16" if scale is GPU else "fp32"
    for (batch, kv_len), (heads, kv_heads) in product(scale.caches, ((8, 8), (32, 8), (32, 4))):
        fields = (("model", ""), ("phase", "decode"), ("batch", batch), ("q_len", 1), ("kv_len", kv_len), ("n_heads", heads),
                  ("n_kv_heads", kv_heads), ("head_dim", 128), ("window", 0), ("dtype_q", dtype), ("dtype_kv", dtype))
        cache = 2.0 * batch * kv_len * kv_heads * 128 * NBYTES[dtype]
        yield from _fitting(scale, [Point("attention", "attention", fields, cache, cache)])


def _lowbit(scale: Scale) -> Iterator[Point]:
    for how, m, (n, k) in product(LOWBIT, scale.low_rows, scale.low_shapes):
        if "lookup" not in how[2] or m <= 4:        # a matrix-vector kernel: one row at a time
            yield from _fitting(scale, [_matrix("lowbit", "gemm_formats", "linear", how, (m, n, k, 1), "cold")])


def _fitting(scale: Scale, found: Iterable[Point], slower: float = 1.0) -> Iterator[Point]:
    yield from (p for p in found if p.work * slower <= scale.flops and p.footprint <= scale.nbytes)
