"""Degrees of parallelism: what they derive, and what a model refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workloads.bundled import spec
from workloads.parallel import Parallel


@pytest.mark.parametrize(("split", "cut", "replicas", "devices"), [
    (Parallel(), 1, 1, 1),
    (Parallel(tp=8), 8, 1, 8),
    (Parallel(tp=8, ep=8), 1, 1, 8),
    (Parallel(tp=8, ep=4), 2, 1, 8),
    (Parallel(tp=8, ep=8, etp=1), 1, 1, 8),
    (Parallel(tp=1, dp=8, ep=8), 1, 8, 8),
    (Parallel(tp=4, dp=2, ep=8), 1, 2, 8),
    (Parallel(tp=2, dp=4, ep=4, etp=2), 2, 4, 8),
    (Parallel(tp=8, pp=2, dp=2), 8, 1, 32),
])
def test_derived_degrees(split: Parallel, cut: int, replicas: int, devices: int) -> None:
    assert (split.expert_cut, split.expert_replicas, split.n_devices) == (cut, replicas, devices)


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4, 8]))
def test_an_accepted_split_spreads_each_expert_over_whole_replicas(tp: int, dp: int, ep: int) -> None:
    split = Parallel(tp=tp, dp=dp, ep=ep)
    try:
        split.check(spec("mixtral-8x7b-v0.1"))
    except ValueError:
        return
    assert split.ep * split.expert_cut == split.tp * split.expert_replicas
    assert split.expert_replicas <= dp


@pytest.mark.parametrize(("split", "model", "message"), [
    (Parallel(tp=0), "llama-3.1-8b", "tp: must be at least 1, got 0"),
    (Parallel(dp=-2), "llama-3.1-8b", "dp: must be at least 1, got -2"),
    (Parallel(etp=-1), "mixtral-8x7b-v0.1", "etp: must be 0 .automatic. or more, got -1"),
    (Parallel(pp=33), "llama-3.1-8b", "pp: 33 stages but .* has only 32 layers"),
    (Parallel(tp=3), "llama-3.1-8b", "tp: 3 does not divide the 32 attention heads .* possible: 1, 2, 4, 8, 16, 32"),
    (Parallel(dp=3, ep=3), "mixtral-8x7b-v0.1", "ep: 3 does not divide the 8 experts"),
    (Parallel(ep=8), "mixtral-8x7b-v0.1", "ep: ep x etp = 8 x 1 must be a multiple of tp = 1 and at most tp x dp = 1"),
    (Parallel(dp=2, ep=2), "llama-3.1-8b", "ep: .* has no routed experts"),
    (Parallel(etp=2), "llama-3.1-8b", "etp: .* has no routed experts"),
])
def test_a_split_that_cannot_be_is_refused_with_the_reason(split: Parallel, model: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split.check(spec(model))


def test_label() -> None:
    assert Parallel().label() == "tp1"
    assert Parallel(tp=8, dp=2, ep=4).label() == "tp8·dp2·ep4"
