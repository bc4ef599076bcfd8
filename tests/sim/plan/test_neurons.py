"""Sparse feed-forward parts: how active neurons are, how many a batch needs, and that the others change no value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plan.neurons import Neurons, activity
from workloads.ops import Elementwise, Gemm, Moe, Op

GRID = (np.arange(4096) + 0.5) / 4096
share = st.floats(0.02, 0.9)


def part(tokens: float = 1.0, hidden: float = 64.0, inter: float = 256.0) -> tuple[Op, ...]:
    return (Gemm(name="up", m=tokens, n=inter, k=hidden),
            Elementwise(name="act", kind="relu", rows=tokens, cols=inter, bytes_read=2 * inter, bytes_written=2 * inter),
            Gemm(name="down", m=tokens, n=hidden, k=inter))


def flops(ops: tuple[Op, ...]) -> float:
    return sum(2 * float(op.m) * float(op.n) * float(op.k) for op in ops if isinstance(op, Gemm))


@settings(max_examples=15, deadline=None)
@given(active=share, place=share, mass=share)
def test_mean_and_locality_are_as_asked(active: float, place: float, mass: float) -> None:
    hot = mass * (active + (1 - active) * place)             # fewer could not make so much, more would need no locality
    p = activity(GRID, active, hot, mass)
    first = np.clip(hot * 4096 - np.arange(4096), 0, 1)
    assert p.mean() == pytest.approx(active, rel=1e-6)
    assert (p * first).sum() / p.sum() == pytest.approx(mass, rel=2e-3)
    assert p.max() <= 1
    assert np.all(np.diff(p) <= 0)


def test_all_alike_without_locality() -> None:
    assert np.all(activity(GRID, 0.1, 0.5, 0.5) == 0.1)
    assert np.all(activity(GRID, 0.1, 1.0, 0.3) == 0.1)


@pytest.mark.parametrize(("settings_", "message"), [
    ((0.0, 0.2, 0.8), "neurons: active: must be above 0 and at most 1, found 0"),
    ((0.1, 1.2, 0.8), "neurons: hot: must be above 0 and at most 1, found 1.2"),
    ((0.1, 0.2, -1.0), "neurons: mass: must be above 0 and at most 1, found -1"),
    ((0.3, 0.17, 0.8), "0.17 of the neurons make less than 0.567 of the activations, each at most one a token, found 0.8"),
])
def test_impossible_activity_is_refused(settings_: tuple[float, float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        activity(GRID, *settings_)


@settings(max_examples=30, deadline=None)
@given(cut=st.floats(0.0, 1.0), tokens=st.floats(1.0, 64.0))
def test_splits_keep_every_active_neuron(cut: float, tokens: float) -> None:
    n = Neurons(part(), 0.1, 0.2, 0.7)
    both = n.part(0, cut).share(tokens) + n.part(cut, 1).share(tokens)
    assert both == pytest.approx(n.share(tokens), rel=2e-3)
    assert n.thinned(cut).share(tokens) + n.thinned(1 - cut).share(tokens) == pytest.approx(n.share(tokens), rel=1e-9)
    assert n.part(0, cut).width + n.part(cut, 1).width == pytest.approx(1)
    assert replace(n.part(0, cut), whole=True).share(tokens) == pytest.approx(cut)


@settings(max_examples=30, deadline=None)
@given(tokens=st.floats(1.0, 200.0), more=st.floats(0.0, 200.0))
def test_more_tokens_never_need_fewer_neurons(tokens: float, more: float) -> None:
    n = Neurons(part(), 0.1, 0.2, 0.7)
    assert 0.1 * 0.999 <= n.share(tokens) <= n.share(tokens + more) <= 1
    assert n.share(tokens) <= 0.1 * tokens * 1.001


def test_union_is_one_minus_the_chance_of_none() -> None:
    assert Neurons(part(), 0.1, 1.0, 1.0).share(3) == pytest.approx(1 - 0.9**3)


def test_the_hot_ones_do_most_of_the_work() -> None:
    n = Neurons(part(), 0.05, 0.2, 0.8)
    assert n.part(0, 0.2).share(1) == pytest.approx(0.8 * n.share(1), rel=2e-3)


@pytest.mark.parametrize("tokens", [1.0, 4.0, 32.0])
def test_operations_go_with_tokens_and_bytes_with_the_union(tokens: float) -> None:
    n = Neurons(part(tokens), 0.1, 0.2, 0.7)
    up, act, down = n.ops(tokens)
    assert flops((up, down)) == pytest.approx(0.1 * flops(part(tokens)), rel=1e-3)
    assert isinstance(up, Gemm)
    assert isinstance(act, Elementwise)
    assert isinstance(down, Gemm)
    assert float(up.n) == float(down.k) == float(act.cols) == pytest.approx(256 * n.share(tokens))
    assert (up.k, down.n) == (64, 64)
    whole = replace(n, whole=True).ops(tokens)
    assert whole == part(tokens)


def test_parts_of_the_work_add_up() -> None:
    n = Neurons(part(), 0.1, 0.2, 0.7)
    assert flops(n.ops(1, 0.3)) + flops(n.ops(1, 0.7)) == pytest.approx(flops(n.ops(1)))


def test_matrices_and_neurons_are_counted() -> None:
    assert (Neurons(part(), 1, 1, 1).count, Neurons(part(), 1, 1, 1).matrices) == (256, 2)
    gated = (Gemm(name="gate_up", m=1.0, n=512.0, k=64.0), Gemm(name="down", m=1.0, n=64.0, k=256.0))
    assert (Neurons(gated, 1, 1, 1).count, Neurons(gated, 1, 1, 1).matrices) == (256, 3)


def test_routed_experts_shrink_inside_and_their_router_stays() -> None:
    router = Gemm(name="router", m=1.0, n=8.0, k=64.0)
    moe = Moe(name="experts", tokens=1.0, hidden=64.0, inter=256.0, topk=2.0, n_experts=8.0, n_local=8.0)
    n = Neurons((router, moe), 0.25, 1.0, 1.0)
    assert (n.count, n.matrices, n.routed) == (8 * 256, 3, 0.25)
    kept, shrunk = n.ops(1.0)
    assert kept == router
    assert isinstance(shrunk, Moe)
    assert float(shrunk.inter) == pytest.approx(64)
    # Four tokens bring one to each expert, on average; sixteen bring four.
    assert n.share(4) == pytest.approx(0.25)
    assert n.share(16) == pytest.approx(1 - 0.75**4)


# -- the same values -----------------------------------------------------------------------------------------------------

def weights() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(5, 16)), rng.normal(size=(16, 64)), rng.normal(size=(16, 64)), rng.normal(size=(64, 16))


def test_active_neurons_alone_give_the_values_of_all() -> None:
    x, gate, up, down = weights()
    on = x @ gate > 0
    dense = (np.maximum(x @ gate, 0) * (x @ up)) @ down
    for t in range(len(x)):
        i = np.flatnonzero(on[t])
        sparse = (x[t] @ gate[:, i] * (x[t] @ up[:, i])) @ down[i]
        assert np.allclose(sparse, dense[t])
    plain = np.maximum(x @ up, 0) @ down
    i = np.flatnonzero((x @ up > 0).any(axis=0))             # the union that a batch needs
    assert np.allclose(np.maximum(x @ up[:, i], 0) @ down[i], plain)


def test_hot_and_cold_neurons_add_up_in_any_order() -> None:
    x, _, up, down = weights()
    dense = np.maximum(x @ up, 0) @ down
    order = np.argsort(-(x @ up > 0).mean(axis=0))
    hot, cold = order[:20], order[20:]
    # The hot ones whole, as an NPU computes them; of the cold ones those that any token activates.
    some = cold[(x @ up[:, cold] > 0).any(axis=0)]
    assert np.allclose(np.maximum(x @ up[:, hot], 0) @ down[hot] + np.maximum(x @ up[:, some], 0) @ down[some], dense)
