"""Laws of every cost function there is, found by itself: a new one falls under them without a line here.

Scalars equal array elements, every keyword may be an array, results are finite, terms add up, more never costs less.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import accel_models.cost
from accel_models.cost.terms import Cost, attribute
from workloads.ops import COLLECTIVE_KINDS

#: Sample work by argument name: three points each, from small to large.
WORK: dict[str, tuple[float, float, float]] = {
    "m": (1, 100, 4096), "n": (64, 1000, 8192), "k": (64, 777, 4096), "batch": (1, 3, 32), "q_len": (1, 200, 1000),
    "kv_len": (16, 1000, 20_000), "n_heads": (8, 32, 64), "n_kv_heads": (8, 8, 8), "head_dim": (64, 128, 128),
    "v_head_dim": (64, 128, 128), "window": (0, 512, 0), "tokens": (1, 77, 4000), "hidden": (512, 2048, 4096),
    "inter": (256, 1408, 14336), "topk": (1, 2, 8), "n_experts": (8, 64, 128), "n_local": (8, 64, 32),
    "flops_per_token": (1e4, 1e6, 1e7), "state_elements": (1e4, 1e5, 1e6), "io_elements": (100, 1e4, 2e4),
    "rows": (1, 500, 1e5), "cols": (32, 4096, 8192), "bytes_read": (64, 4e6, 1e9), "bytes_written": (64, 4e6, 1e9),
    "nbytes": (256, 1e6, 1e9), "n_devices": (2, 4, 8), "time": (1e-6, 1e-4, 1e-2), "flops": (1e3, 1e9, 1e12),
    "nbytes_dram": (64, 1e6, 1e9), "nbytes_cache": (0, 1e6, 1e9),
}
#: Sample hardware by keyword; keywords with a default keep it.
HARDWARE: dict[str, float] = {
    "clock": 2.25e8,
    "peak": 3e14, "vector_peak": 2e13, "n_units": 108, "dram_bandwidth": 2e12, "l2_bandwidth": 5e12, "l2_capacity": 4e7,
    "bandwidth": 3e11, "j_per_op": 5e-13, "j_per_byte": 4e-11, "idle_power": 80.0, "tdp": 400.0,
    "internode_bandwidth": 5e10, "devices_per_node": 4.0, "array_rows": 64, "array_cols": 32, "scratchpad": 4e6,
    "compute": 1e-4,
}
#: A default of zero or infinity says "off"; what it is when on.
ON: dict[str, float] = {"launch": 1e-6, "latency": 1e-6, "internode_latency": 2e-6, "dequant_ops": 2.0, "resident": 0.5,
                        "warm": 0.5, "dealt": 1.0, "repeated": 0.5, "skew": 0.8, "quant_kernels": 1.0,
                        "quant_bytes": 3.0, "vector_path": 0.5, "pack_limit": 8.0, "max_split": 16.0, "congestion": 0.1,
                        "passes": 1.0, "pair_time": 1e-9, "direct_efficiency": 0.3, "direct_limit": 1e6,
                        "j_per_byte_cache": 1e-11, "decode": 0.5, "reach_loss": 0.1, "appends": 1.0, "gather_bytes": 1.0,
                        "load_gap": 3e-7, "sync": 1e-6}
#: Rates and capacities: more of one never costs more.
FASTER = ("peak", "vector_peak", "dram_bandwidth", "l2_bandwidth", "bandwidth", "internode_bandwidth")


def _found() -> list[tuple[str, Callable[..., Any], dict[str, Any]]]:
    out = []
    for info in pkgutil.iter_modules(accel_models.cost.__path__):
        module = importlib.import_module(f"accel_models.cost.{info.name}")
        for name, f in vars(module).items():
            if inspect.isfunction(f) and f.__module__ == module.__name__ and not name.startswith("_") \
                    and inspect.signature(f).return_annotation in ("Cost", "Energy"):
                kinds = COLLECTIVE_KINDS if "kind" in inspect.signature(f).parameters else ("",)
                out += [(f"{info.name}.{name}.{k}".rstrip("."), f, {"kind": k} if k else {}) for k in kinds]
    return out


FUNCTIONS = _found()
each = pytest.mark.parametrize(("f", "fixed"), [x[1:] for x in FUNCTIONS], ids=[x[0] for x in FUNCTIONS])


def arguments(f: Callable[..., Any]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Work as arrays of three points, and all keywords that a number can be given for."""
    work, keywords = {}, {}
    for p in inspect.signature(f).parameters.values():
        if p.kind is not p.KEYWORD_ONLY:
            assert p.name in WORK, f"{f.__name__}: give a sample of {p.name!r} in WORK"
            work[p.name] = np.array(WORK[p.name], dtype=np.float64)
        elif p.name in HARDWARE:
            keywords[p.name] = HARDWARE[p.name]
        elif isinstance(p.default, float | int):
            keywords[p.name] = ON.get(p.name, float(p.default))
        else:
            assert p.default is None or p.name == "kind", f"{f.__name__}: give a sample of {p.name!r} in HARDWARE"
    return work, keywords


def whole(cost: Any) -> np.ndarray:
    return np.asarray(cost.time if isinstance(cost, Cost) else cost.total)


def test_all_are_found() -> None:
    names = {n.split(".")[1] for n, _, _ in FUNCTIONS}
    assert names >= {"gemm", "moe", "attention_prefill", "attention_decode", "scan", "elementwise", "collective", "energy"}


@each
def test_work_is_positional_and_everything_else_keyword_only(f: Callable[..., Any], fixed: dict[str, Any]) -> None:
    for p in inspect.signature(f).parameters.values():
        assert (p.name in HARDWARE or p.name in ON) <= (p.kind is p.KEYWORD_ONLY), p.name


@each
def test_an_array_holds_what_each_scalar_gives(f: Callable[..., Any], fixed: dict[str, Any]) -> None:
    work, keywords = arguments(f)
    array = f(**work, **keywords, **fixed)
    for i in range(3):
        scalar = f(**{n: float(v[i]) for n, v in work.items()}, **keywords, **fixed)
        for a, b, name in zip(array, scalar, type(array)._fields, strict=True):
            np.testing.assert_allclose(np.broadcast_to(a, (3,))[i], b, rtol=1e-9, err_msg=name)


@each
def test_every_keyword_may_be_an_array(f: Callable[..., Any], fixed: dict[str, Any]) -> None:
    work, keywords = arguments(f)
    for name, value in keywords.items():
        if not np.isfinite(value):
            continue
        values = np.array([1.0, 0.75]) * value
        column = f(**work, **keywords | {name: values[:, None]}, **fixed)
        for i, v in enumerate(values):
            row = f(**work, **keywords | {name: float(v)}, **fixed)
            np.testing.assert_allclose(np.broadcast_to(whole(column), (2, 3))[i], np.broadcast_to(whole(row), (3,)),
                                       rtol=1e-9, err_msg=name)


@each
def test_axes_of_work_and_of_hardware_cross(f: Callable[..., Any], fixed: dict[str, Any]) -> None:
    work, keywords = arguments(f)
    rates = {n: np.array([1.0, 2.0, 4.0, 8.0])[:, None] * v for n, v in keywords.items() if n in FASTER}
    got = whole(f(**work, **keywords | rates, **fixed))
    assert np.broadcast_shapes(got.shape, (4, 3)) == (4, 3)
    first = whole(f(**work, **keywords, **fixed))
    np.testing.assert_allclose(np.broadcast_to(got, (4, 3))[0], np.broadcast_to(first, (3,)), rtol=1e-9)


@each
def test_integers_do_not_wrap(f: Callable[..., Any], fixed: dict[str, Any]) -> None:
    work, keywords = arguments(f)
    small = {n: v.astype(np.int32) if np.all(v % 1 == 0) and v.max() < 2**31 else v for n, v in work.items()}
    np.testing.assert_allclose(whole(f(**small, **keywords, **fixed)), whole(f(**work, **keywords, **fixed)))


@each
def test_everything_is_finite_and_not_negative_and_terms_add_up(f: Callable[..., Any], fixed: dict[str, Any]) -> None:
    work, keywords = arguments(f)
    cost = f(**work, **keywords, **fixed)
    for value, name in zip(cost, type(cost)._fields, strict=True):
        assert np.all(np.isfinite(value)), name
        assert np.all(np.asarray(value) >= 0), name
    if isinstance(cost, Cost):
        np.testing.assert_allclose(sum(attribute(cost).values()), cost.time, rtol=1e-6)


@each
def test_no_work_costs_a_finite_time(f: Callable[..., Any], fixed: dict[str, Any]) -> None:
    work, keywords = arguments(f)
    counts = {"m", "batch", "tokens", "rows", "nbytes", "bytes_read", "bytes_written", "cols", "flops", "nbytes_dram",
              "nbytes_cache"}
    none = f(**{n: v * 0 if n in counts else v for n, v in work.items()}, **keywords, **fixed)
    some = f(**work, **keywords, **fixed)
    assert np.all(np.isfinite(whole(none)))
    assert np.all(whole(none) <= whole(some) * (1 + 1e-9))


@each
@pytest.mark.parametrize("factor", [1.1, 3.0, 100.0])
def test_faster_parts_never_cost_more(f: Callable[..., Any], fixed: dict[str, Any], factor: float) -> None:
    work, keywords = arguments(f)
    base = whole(f(**work, **keywords, **fixed))
    for name in FASTER:
        if name in keywords:
            better = whole(f(**work, **keywords | {name: keywords[name] * factor}, **fixed))
            assert np.all(better <= base * (1 + 1e-6)), (name, (better / base).tolist())


@each
def test_the_inputs_stay_as_they_were(f: Callable[..., Any], fixed: dict[str, Any]) -> None:
    work, keywords = arguments(f)
    given = {n: v.copy() for n, v in work.items()}
    f(**work, **keywords, **fixed)
    for name, value in work.items():
        np.testing.assert_array_equal(value, given[name])
