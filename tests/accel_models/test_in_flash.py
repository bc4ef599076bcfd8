"""In-flash products: against the physical bound, by hand, and the split between cores and NPU."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models.bind_storage import in_flash
from accel_models.cost.in_flash import InFlash, gemv, page_cycles
from accel_models.device_file import build
from accel_models.registry import load_device
from rtl.harness.registry import load

S: dict[str, float] = {"n_channels": 8, "cores_per_channel": 4, "page": 16384, "t_read": 30e-6, "channel_rate": 1e9,
                       "core_clock": 400e6, "macs": 2, "planes": 2}
DESIGNS = {"cambricon_llm_s": 32, "cambricon_llm_m": 128, "cambricon_llm_l": 512}


def cost(n_out: object, n_in: object, **change: object) -> InFlash:
    return gemv(n_out, n_in, **{**S, **change})  # type: ignore[arg-type]


def test_cycles_of_a_page() -> None:
    assert page_cycles(16384, macs=2, outliers=163) == 8358            # simulated figure of the unit
    assert page_cycles(16384, macs=2) == 8194
    assert page_cycles(16384, macs=[2, 4]).tolist() == [8194, 4098]


def test_cycles_are_those_of_the_unit() -> None:
    """From the command; the unit's own count starts with the vector, cols / macs edges before."""
    macs, outliers = np.array([2, 4]), np.array([[0], [1], [163]])
    unit = load("flash_page_gemv").cycles(1, outliers, page=4096, cols=64, macs=macs) - 64 // macs
    assert page_cycles(4096, macs=macs, outliers=outliers).tolist() == unit.tolist()


@pytest.mark.parametrize("name", DESIGNS)
def test_large_products_come_near_the_bound_and_never_beyond(name: str) -> None:
    """One 16 KiB page a die per tR, and the channels beside it: 25.5, 85.9 and 311.6 GB/s."""
    k = in_flash(load_device(name), "flash")
    bound = DESIGNS[name] * 16384 / 30e-6 + k["n_channels"] * 1e9
    r = gemv(2.0**15, 2.0**15, **k)
    assert 0.95 < 2.0**30 / r.total / bound < 1.0
    alone = gemv(2.0**15, 2.0**15, share=1.0, **k)
    assert 0.95 < 2.0**30 / alone.total / (DESIGNS[name] * 16384 / 30e-6) < 1.0
    assert alone.npu == 0.0


def test_a_tile_by_hand() -> None:
    """S, H = 256: 256 inputs in, a read, 256 results of 4 bytes out; the core takes 8194 + 128 cycles, less than tR."""
    r = cost(256, 2048, share=1.0, tile_rows=256)
    assert r.flash == pytest.approx(30e-6 + 0.256e-6)
    assert r.fill == pytest.approx(0.256e-6 + 30e-6 + 1.024e-6)
    assert r.core == pytest.approx((8194 + 128) / 400e6)
    slow = cost(256, 2048, share=1.0, tile_rows=256, core_clock=200e6)
    assert slow.flash == pytest.approx((8194 + 128) / 200e6 + 0.256e-6)       # now the core decides


def test_the_tile_of_least_traffic_and_the_best_tile() -> None:
    """Results of one byte, as the paper counts them: H = sqrt(cores * page) = 256 and W = 2048 on S."""
    heights = 2.0 ** np.arange(2, 16)
    moved = cost(2.0**14, 2.0**14, result_bytes=1.0, share=1.0, tile_rows=heights)
    assert heights[np.argmin(moved.vector + moved.results)] == 256
    every = cost(2.0**14, 2.0**14, tile_rows=heights).total
    assert cost(2.0**14, 2.0**14).total == every.min()


def test_narrow_matrices_take_taller_tiles() -> None:
    assert cost(2.0**14, 512).tile_rows > cost(2.0**14, 2.0**14).tile_rows


@given(st.floats(0.0, 1.0), st.integers(8, 15), st.integers(8, 15))
def test_no_share_beats_the_best_one(share: float, a: int, b: int) -> None:
    best = cost(2.0**a, 2.0**b)
    assert best.total <= cost(2.0**a, 2.0**b, share=share).total * (1 + 1e-9)
    assert best.flash == pytest.approx(float(best.npu))                # both ways end together


def test_slices_fill_gaps_that_whole_pages_leave_open() -> None:
    whole = cost(2.0**14, 2.0**14, slice_bytes=16384)
    assert cost(2.0**14, 2.0**14).total < 0.9 * whole.total
    assert whole.share > cost(2.0**14, 2.0**14).share
    assert cost(2.0**14, 2.0**14, slice_bytes=1e6).share == 1.0        # nothing fits: the cores take all
    assert cost(2.0**14, 2.0**14, planes=1).share > 0.98              # one plane: it reads for the NPU only while inputs come


def test_outliers_and_wide_results_cost() -> None:
    base = cost(2.0**14, 2.0**14).total
    assert cost(2.0**14, 2.0**14, result_bytes=64.0).total > base
    assert cost(2.0**14, 2.0**14, outliers=163, core_clock=270e6).total > cost(2.0**14, 2.0**14, core_clock=270e6).total
    assert cost(2.0**14, 2.0**14, outliers=163).total == base          # hidden behind the read at 400 MHz


@given(st.sampled_from(["channel_rate", "core_clock", "macs"]), st.floats(1.0, 50.0), st.integers(6, 15), st.integers(6, 15))
def test_faster_parts_never_cost_more(name: str, factor: float, a: int, b: int) -> None:
    assert cost(2.0**a, 2.0**b, **{name: S[name] * factor}).total <= cost(2.0**a, 2.0**b).total * (1 + 1e-6)


@given(st.lists(st.tuples(st.integers(1, 20000), st.integers(1, 20000)), min_size=1, max_size=5))
def test_an_array_holds_what_each_scalar_gives(many: list[tuple[int, int]]) -> None:
    rows, cols = np.array(many, dtype=np.int32).T
    whole = cost(rows, cols)
    for i, (a, b) in enumerate(many):
        for term, scalar in zip(whole, cost(a, b), strict=True):
            np.testing.assert_allclose(np.broadcast_to(term, len(many))[i], scalar)


@pytest.mark.parametrize("name", [*S, "outliers", "input_bytes", "result_bytes", "slice_bytes", "share"])
def test_every_keyword_may_be_an_array(name: str) -> None:
    start = {"outliers": 100.0, "input_bytes": 1.0, "result_bytes": 4.0, "slice_bytes": 256.0, "share": 0.8} | S
    values = start[name] * np.array([1.0, 0.5])
    got = cost(np.array([1000.0, 4096.0, 9999.0]), 4096, **{name: values[:, None]}).total
    assert got.shape == (2, 3)
    for row, value in zip(got, values, strict=True):
        np.testing.assert_allclose(row, cost(np.array([1000.0, 4096.0, 9999.0]), 4096, **{name: value}).total)


def test_no_work_takes_no_time() -> None:
    assert cost(0.0, 4096).total == 0.0


def test_weights_alone_bound_the_published_speed() -> None:
    """OPT-6.7B: the paper has 3.6, 11.0 and 36.3 tokens/s with attention; weights alone may take no longer than that."""
    rows, cols = np.array([12288, 4096, 16384, 4096.0]), np.array([4096, 4096, 4096, 16384.0])
    for name, published in (("cambricon_llm_s", 3.6), ("cambricon_llm_m", 11.0), ("cambricon_llm_l", 36.3)):
        k = in_flash(load_device(name), "flash")
        weights = 32 * gemv(rows, cols, **k).total.sum() + gemv(50272, 4096, **k).total
        assert 1.0 < 1 / weights / published < 1.15, name


# -- binding and bad input ---------------------------------------------------------------------------------------------

def test_a_device_gives_its_figures() -> None:
    assert in_flash(load_device("cambricon_llm_s"), "flash") == pytest.approx(S)


FACT = {"value": 1, "kind": "datasheet", "source": "x"}


def made(engine: dict[str, object]) -> object:
    q = {"kind": "datasheet", "source": "x"}
    nand = {n: {"value": v, **q} for n, v in (("channels", 2), ("dies", 2), ("page", 4096), ("t_read", "30 us"),
                                               ("channel_rate", "1 GB/s"))}
    return build({"name": "toy", "title": "T", "vendor": "V", "kind": "flash", "generation": "g", "main_memory": "nand",
                  "engine": engine, "memory": {"nand": {"level": "storage", "bandwidth": {"value": "2 GB/s", **q},
                                                        "nand": nand}}}, file="toy.toml", base={}.__getitem__)


@pytest.mark.parametrize(("engine", "message"), [
    ({}, "toy: engine: none of kind 'in_flash'"),
    ({"cores": {"kind": "in_flash", "units": FACT}}, "toy: engine.cores: in-flash compute needs units, clock and rate.int8"),
    ({"cores": {"kind": "in_flash", "units": FACT, "clock": FACT, "rate": {"int8": FACT}}},
     "toy: engine.cores.units: found 1, but there are 4 dies"),
    ({"cores": {"kind": "in_flash", "units": FACT | {"value": 4}, "clock": FACT | {"value": 0}, "rate": {"int8": FACT}}},
     "toy: engine.cores: clock and rate.int8 must be positive"),
])
def test_bad_devices_are_named(engine: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        in_flash(made(engine), "nand")  # type: ignore[arg-type]
