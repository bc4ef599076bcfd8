"""Laws of the recurrent mixer's cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.cost.scan import scan
from accel_models.cost.terms import Cost

HW: dict[str, float] = {"peak": 990e12, "vector_peak": 67e12, "n_units": 132.0, "dram_bandwidth": 4.8e12}
works = st.tuples(st.integers(1, 512), st.integers(1, 20000), st.floats(1e3, 1e8), st.floats(1e3, 1e7),
                  st.floats(1e2, 1e5))


@settings(max_examples=60, deadline=None)
@given(work=works, decode=st.sampled_from([0.0, 1.0]))
def test_laws(work: tuple[float, ...], decode: float) -> None:
    cost = scan(*work, decode=decode, **HW)
    assert cost.time >= np.maximum(cost.flops / HW["peak"], cost.nbytes / HW["dram_bandwidth"])
    for key in ("peak", "vector_peak", "dram_bandwidth"):
        assert scan(*work, decode=decode, **HW | {key: 2 * HW[key]}).time <= cost.time * (1 + 1e-12)
    for i in range(len(work)):
        grown = [w * 2 if i == j else w for j, w in enumerate(work)]
        if i != 3 and i != 0:                     # more state or sequences can fill idle processors
            assert scan(*grown, decode=decode, **HW).memory >= cost.memory * (1 - 1e-12)


def test_scalar_equals_array_element_and_keywords_broadcast() -> None:
    batch = np.arange(1, 50)
    whole = scan(batch, 1, 1e6, 1e6, 1e4, decode=1.0, **HW)
    assert whole.time.shape == batch.shape
    for name in Cost._fields:
        assert getattr(scan(7, 1, 1e6, 1e6, 1e4, decode=1.0, **HW), name) == pytest.approx(getattr(whole, name)[6])
    for key in (*HW, "efficiency", "vector_efficiency", "dram_efficiency", "chunk", "overhead",
                "launch", "bytes_state"):
        two: dict[str, Any] = {**HW, key: np.array([0.5, 0.9]) * HW.get(key, 1.0)}
        assert scan(4, 100, 1e6, 1e6, 1e4, **two).time.shape == (2,)


def test_decode_streams_the_state_in_and_out() -> None:
    cost = scan(256, 1, 1e5, 4e6, 1e3, decode=1.0, bytes_state=4.0, **HW)
    assert cost.nbytes == pytest.approx(256 * (2 * 4e6 * 4 + 1e3 * 2))
    assert cost.memory > cost.compute


def test_no_work_is_the_launch() -> None:
    assert scan(0, 1, 1e6, 1e6, 1e4, overhead=3e-6, **HW).time == pytest.approx(3e-6)
