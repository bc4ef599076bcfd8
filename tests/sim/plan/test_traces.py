"""Activation traces: seeds, means, repetition, unions, and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.plan.neurons import activity
from sim.plan.traces import Active, read, routed, synthetic


def trace(steps: int = 30, layers: int = 8, items: int = 1000, **changed: float) -> Active:
    given = {"active": 0.1, "hot": 0.2, "mass": 0.7, "reuse": 0.3, "tokens": 1.0, "lo": 0.0, "hi": 1.0, "routed": 1.0} | changed
    seed = int(given.pop("seed", 0))
    return synthetic(steps, layers, items, seed=seed, **given)  # type: ignore[arg-type]


def test_same_seed_same_trace() -> None:
    assert np.array_equal(trace(), trace())
    assert not np.array_equal(trace(), trace(seed=1))
    assert np.array_equal(trace(), trace(steps=60)[:30])


@pytest.mark.parametrize("reuse", [0.0, 0.6])
def test_items_are_as_active_as_their_place_says(reuse: float) -> None:
    found = trace(steps=200, reuse=reuse)
    assert found.mean() == pytest.approx(0.1, rel=0.02)
    p = activity((np.arange(1000) + 0.5) / 1000, 0.1, 0.2, 0.7)
    seen = found.mean(axis=(0, 1)).reshape(10, 100).mean(axis=1)
    assert np.allclose(seen, p.reshape(10, 100).mean(axis=1), rtol=0.15)


def test_repetition_is_beyond_chance() -> None:
    def again(reuse: float) -> float:
        found = trace(steps=100, reuse=reuse, hot=1.0, mass=1.0)
        return float((found[1:] & found[:-1]).sum() / found[:-1].sum())
    assert again(0.0) == pytest.approx(0.1, abs=0.01)
    assert again(0.6) == pytest.approx(0.6 + 0.4 * 0.1, abs=0.01)


def test_a_batch_uses_the_union() -> None:
    assert trace(tokens=4.0, hot=1.0, mass=1.0).mean() == pytest.approx(1 - 0.9**4, rel=0.02)
    assert trace(routed=0.25).mean() == pytest.approx(0.025, rel=0.05)


def test_a_part_of_the_neurons() -> None:
    whole = activity((np.arange(1000) + 0.5) / 1000, 0.1, 0.2, 0.7)
    assert trace(steps=100, lo=0.5).mean() == pytest.approx(whole[500:].mean(), rel=0.05)


def test_shares_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match="trace: reuse: must be at least 0 and below 1, found 1"):
        trace(reuse=1.0)
    with pytest.raises(ValueError, match="neurons: active: must be above 0 and at most 1, found 2"):
        trace(active=2.0)


def test_each_token_goes_to_topk_experts() -> None:
    loads = routed(5, 3, 8, topk=2, skew=0.8, reuse=0.4, tokens=16, seed=0)
    assert np.all(loads.sum(axis=2) == 32)
    assert loads.max() <= 16
    assert np.array_equal(loads, routed(5, 3, 8, topk=2, skew=0.8, reuse=0.4, tokens=16, seed=0))
    with pytest.raises(ValueError, match="trace: topk: must be between 1 and the 8 experts, found 9"):
        routed(1, 1, 8, topk=9, skew=0.0, reuse=0.0, tokens=1, seed=0)


def test_experts_picked_again() -> None:
    one = routed(200, 4, 16, topk=2, skew=0.0, reuse=0.8, tokens=1, seed=0) > 0
    assert (one[1:] & one[:-1]).sum() / one[:-1].sum() == pytest.approx(0.8 + 0.2 * 2 / 16, abs=0.05)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", trace())
    assert np.array_equal(read(tmp_path / "t.npy", 8, 1000), trace())


@pytest.mark.parametrize(("name", "content", "message"), [
    ("none.npy", None, "not a readable .npy file"),
    ("text.npy", "hello", "not a readable .npy file"),
    ("shape.npy", np.zeros((3, 8, 999), bool), r"expected booleans of shape \(steps, 8, 1000\), found bool \(3, 8, 999\)"),
    ("flat.npy", np.zeros(9, bool), r"found bool \(9,\)"),
    ("type.npy", np.zeros((3, 8, 1000)), r"found float64 \(3, 8, 1000\)"),
    ("pickle.npy", np.array([{}], object), "not a readable .npy file"),
])
def test_bad_files_are_named(tmp_path: Path, name: str, content: object, message: str) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        np.save(path, np.asarray(content))
    with pytest.raises(ValueError, match=message) as error:
        read(path, 8, 1000)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
