"""Products mapped to units: the closed formula equals the handshake-level model fed with the tiles' beats, and broadcasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtl.base_fp16_mac import contract as fp16_mac
from rtl.base_mac_dp import contract as mac_dp
from rtl.bitserial_mac import contract as bitserial
from rtl.btc_popcount_gemm import contract as btc
from rtl.harness.unit import Beat, Model
from rtl.lut_mpgemm_tile import contract as tile
from rtl.shift_mac import contract as shift
from rtl.ternary_acc import contract as ternary

SMALL = st.integers(1, 7)
WIDTH = st.integers(1, 4)


def edges(model: Model, cfg: Mapping[str, int], streams: dict[str, list[Beat]], outputs: int) -> int:
    """T of a model with sources always valid and the sink always ready, until it has given so many outputs."""
    left = {s: list(reversed(b)) for s, b in streams.items()}
    first, edge, given_ = None, 0, 0
    while given_ < outputs:
        offers = {s: b[-1] if b else None for s, b in left.items()}
        says = model.step(cfg, offers, {"out": True})
        for s, beat in offers.items():
            if beat is not None and says[s]:
                left[s].pop()
                first = edge if first is None else first
        given_ += says["out"]
        edge += 1
        assert edge < 100_000, "the model is stuck"
    assert first is not None
    assert not any(left.values())
    return edge - 1 - first


def beats(tiles: int, chunks: int, steps: int = 1) -> list[Beat]:
    """Beats of so many tiles, ``last`` on the last step of a tile's last chunk."""
    one: list[Beat] = [{"last": int(c == chunks - 1 and s == steps - 1)} for c in range(chunks) for s in range(steps)]
    return one * tiles


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL, SMALL, WIDTH, WIDTH)
def test_ternary(m: int, n: int, k: int, lanes: int, outputs: int) -> None:
    rows = m * ceil(n / outputs)
    model = ternary.UNIT.model(ternary.UNIT.resolve({"L": lanes, "NO": outputs}))
    took = edges(model, {}, {"s": beats(rows, ceil(k / lanes))}, rows)
    assert ternary.gemm_cycles(m, n, k, lanes=lanes, outputs=outputs) == took


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL, SMALL, WIDTH, WIDTH, st.integers(1, 8), st.sampled_from([1, 2, 4]))
def test_bitserial(m: int, n: int, k: int, lanes: int, rows: int, wbits: int, bpc: int) -> None:
    results, chunks, steps = m * ceil(n / rows), ceil(k / lanes), ceil(wbits / bpc)
    model = bitserial.UNIT.model(bitserial.UNIT.resolve({"LANES": lanes, "BPC": bpc}))
    streams: dict[str, list[Beat]] = {"a": [{}] * (results * chunks), "w": beats(results, chunks, steps)}
    took = edges(model, {"wbits": wbits}, streams, results)
    assert bitserial.gemm_cycles(m, n, k, rows=rows, lanes=lanes, wbits=wbits, bpc=bpc) == took


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL, SMALL, WIDTH, WIDTH, st.integers(1, 3), st.integers(1, 3))
def test_popcount(m: int, n: int, k: int, mt: int, kw: int, pa: int, pw: int) -> None:
    tiles = ceil(m / mt) * ceil(n / 2)
    model = btc.UNIT.model(btc.UNIT.resolve({"MT": mt, "NT": 2, "KW": kw}))
    took = edges(model, {"pa": pa, "pw": pw}, {"s": beats(tiles, ceil(k / kw), pa * pw)}, tiles * mt)
    assert btc.gemm_cycles(m, n, k, mt=mt, nt=2, kw=kw, pa=pa, pw=pw) == took


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL, SMALL, WIDTH, st.integers(2, 4), WIDTH)
def test_lookup_tile(m: int, n: int, k: int, rows: int, group: int, wbits: int) -> None:
    tiles, groups = ceil(m / rows) * ceil(n / 3), ceil(k / group)
    model = tile.UNIT.model(tile.UNIT.resolve({"M": rows, "N": 3, "K": group}))
    streams: dict[str, list[Beat]] = {"tbl": [{}] * (tiles * groups), "w": beats(tiles, groups, wbits)}
    took = edges(model, {"wbits": wbits}, streams, tiles * rows)
    assert tile.gemm_cycles(m, n, k, rows=rows, columns=3, group=group, wbits=wbits) == took


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL, SMALL, WIDTH, WIDTH)
def test_shift(m: int, n: int, k: int, rows: int, lanes: int) -> None:
    results, chunks = m * ceil(n / rows), ceil(k / lanes)
    model = shift.UNIT.model(shift.UNIT.resolve({"L": lanes}))
    took = edges(model, {}, {"s": beats(results, chunks)}, results)
    assert shift.gemm_cycles(m, n, k, rows=rows, lanes=lanes) == took


@settings(max_examples=40, deadline=None)
@given(SMALL, SMALL, SMALL, WIDTH, WIDTH, WIDTH)
def test_multipliers(m: int, n: int, k: int, rows: int, cols: int, lanes: int) -> None:
    results = ceil(n / rows) * ceil(m / cols)
    model = mac_dp.UNIT.model(mac_dp.UNIT.resolve({"L": lanes}))
    took = edges(model, {}, {"s": beats(results, ceil(k / lanes))}, results)
    assert mac_dp.gemm_cycles(m, n, k, rows=rows, cols=cols, lanes=lanes) == took
    took = edges(fp16_mac.UNIT.model(fp16_mac.UNIT.resolve({})), {}, {"s": beats(results, k)}, results)
    assert fp16_mac.gemm_cycles(m, n, k, rows=rows, cols=cols) == took


KEYWORDS: list[tuple[Callable[..., Any], dict[str, int]]] = [
    (ternary.gemm_cycles, {"lanes": 20, "outputs": 4}),
    (bitserial.gemm_cycles, {"rows": 8, "lanes": 16, "wbits": 3, "bpc": 2}),
    (btc.gemm_cycles, {"mt": 2, "nt": 4, "kw": 128, "pa": 8, "pw": 2}),
    (shift.gemm_cycles, {"rows": 8, "lanes": 16}),
    (mac_dp.gemm_cycles, {"rows": 8, "cols": 4, "lanes": 4}),
    (fp16_mac.gemm_cycles, {"rows": 8, "cols": 6}),
    (tile.gemm_cycles, {"rows": 2, "columns": 64, "group": 4, "wbits": 2}),
]


@pytest.mark.parametrize(("formula", "keywords"), KEYWORDS, ids=lambda x: getattr(x, "__module__", ""))
def test_every_argument_may_be_an_array(formula: Callable[..., Any], keywords: dict[str, int]) -> None:
    work = (3, 129, 1000)
    scalar = formula(*work, **keywords)
    for i in range(3):
        several = formula(*(np.array([w, 2 * w]) if i == j else w for j, w in enumerate(work)), **keywords)
        assert several[0] == scalar
        assert several[1] >= scalar
    for name, value in keywords.items():
        several = formula(*work, **{**keywords, name: np.array([value, value + 1])})
        assert several.shape == (2,)
        assert several[0] == scalar
