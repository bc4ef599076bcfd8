"""A grid that is worked on in pieces gives what it gives as a whole."""

import numpy as np
import pytest

from accel_models.bind import bind
from accel_models.registry import load_device
from sim import estimate as module
from sim.estimate import Workload, by_class, estimate
from sim.pieces import Canvas, cut
from sim.query import load_spec

WORKLOADS = {
    "grid": Workload(batch=np.arange(1, 12)[:, None], isl=np.arange(20, 37)[None, :], osl=7),
    "unrelated": Workload(batch=np.arange(1, 20), isl=np.arange(20, 39), osl=8),
    "three axes": Workload(batch=4, isl=np.arange(20, 31)[:, None, None], osl=np.arange(1, 4)[None, :, None],
                           prefix=np.arange(0, 2)),
}


@pytest.fixture(scope="module")
def hardware():
    return bind([load_device(name) for name in ("h200_sxm", "a40")])


@pytest.mark.parametrize("limit", [60, 7])
@pytest.mark.parametrize("work", WORKLOADS.values(), ids=WORKLOADS)
@pytest.mark.parametrize("model", ["mixtral-8x7b", "bert-large"])
def test_pieces_give_what_the_whole_gives(model, work, limit, hardware, monkeypatch):
    spec = load_spec(model)
    whole = estimate(spec, hardware, work)
    monkeypatch.setattr(module, "LIMIT", limit)
    parts = estimate(spec, hardware, work)
    assert whole.prefill.ops
    assert not parts.prefill.ops
    expected, found = module._flat(whole), module._flat(parts)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(*np.broadcast_arrays(values, found[name]), rtol=1e-12, err_msg=name)


def test_the_ops_of_a_large_grid_are_missed_by_name(hardware, monkeypatch):
    monkeypatch.setattr(module, "LIMIT", 60)
    with pytest.raises(ValueError, match="too large to keep single ops"):
        by_class(estimate(load_spec("llama-3.1-8b"), hardware, WORKLOADS["grid"]).prefill)


def test_pieces_cover_the_longest_axis_once():
    arrays = {"a": np.arange(3)[:, None], "b": np.arange(10)[None, :], "c": np.array(5.0)}
    canvas, parts = cut(arrays, 4)
    assert np.concatenate([p["b"] for _, p in parts], axis=1).tolist() == arrays["b"].tolist()
    assert all(p["a"] is arrays["a"] and p["c"] is arrays["c"] for _, p in parts)
    for place, p in parts:
        canvas.put(place, {"sum": p["a"] + p["b"], "a": p["a"], "c": p["c"]})
    assert canvas.arrays["sum"].tolist() == (arrays["a"] + arrays["b"]).tolist()
    assert canvas.arrays["a"].shape == (3, 1)
    assert canvas.arrays["c"] == 5


def test_pieces_of_one_entry_are_taken_to_matter():
    canvas = Canvas(-1, 2)
    canvas.put(slice(0, 1), {"x": np.array([1.0])})
    canvas.put(slice(1, 2), {"x": np.array([2.0])})
    assert canvas.arrays["x"].tolist() == [1.0, 2.0]
