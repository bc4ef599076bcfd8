"""Graphs of fixed shapes: what a new shape costs, and that nothing else changes."""

from __future__ import annotations

import pytest

from sim.query import Query, resolve
from sim.simulate import plan_of, simulate
from sim.techniques.build_graph import BuildGraph
from sim.techniques.chunk_prefill import ChunkPrefill
from sim.techniques.split_ops import SplitOps
from sim.techniques.technique import Technique

QUERY = Query(model="gpt2", hw="snapdragon_8_gen_3", isl=300, osl=2, quant="w8a8")


def seconds(*techniques: Technique, phase: str = "prefill") -> float:
    return simulate(QUERY, techniques, phase=phase).step_s


def test_a_new_shape_costs_its_building_and_a_known_one_nothing() -> None:
    plain = seconds()
    assert seconds(BuildGraph(seconds=2.0)) - plain == pytest.approx(2.0)
    assert seconds(BuildGraph(seconds=2.0, ready=300)) == plain
    assert seconds(BuildGraph(seconds=2.0, ready=256)) - plain == pytest.approx(2.0)


@pytest.mark.parametrize("reorder", [False, True])
def test_chunks_share_one_graph(reorder: bool) -> None:
    cut = ChunkPrefill(chunk=128, reorder=reorder)
    plain = seconds(cut, SplitOps(rest="cpu"))
    assert seconds(cut, SplitOps(rest="cpu"), BuildGraph(seconds=2.0)) - plain == pytest.approx(2.0)
    assert seconds(cut, SplitOps(rest="cpu"), BuildGraph(seconds=2.0, ready=128)) == plain


def test_operations_and_bytes_stay_the_same() -> None:
    before = plan_of(resolve(QUERY), [], phase="prefill")
    after = plan_of(resolve(QUERY), [BuildGraph(seconds=2.0)], phase="prefill")
    assert [b.ops for b in after.blocks[1:]] == [b.ops for b in before.blocks]
    assert after.resident() == before.resident()
    assert after.blocks[0].sync_s == 2.0
    cut = plan_of(resolve(QUERY), [ChunkPrefill(chunk=128), BuildGraph(seconds=2.0)], phase="prefill")
    assert [b.name for b in cut.blocks if not b.after] == ["build graph"]      # all chunks wait for it
    assert BuildGraph(seconds=1.0).shapes(before, "npu") == {300.0}
    assert BuildGraph(seconds=1.0).shapes(before, "cpu") == set()


def test_every_step_of_a_decode_has_the_shape_of_one_token() -> None:
    assert seconds(BuildGraph(seconds=2.0, ready=1), phase="decode") == seconds(phase="decode")
