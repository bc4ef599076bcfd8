"""Products with stored weights here, all else there: the same operations in the same order, in other places."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sim.plan.block import Plan
from sim.query import Query, resolve
from sim.simulate import plan_of, simulate
from sim.techniques.offload import Offload
from sim.techniques.run_on import RunOn
from sim.techniques.split_ops import SplitOps
from sim.techniques.technique import Technique
from workloads.ops import Attention, Gemm

QUERY = Query(model="gpt2", hw="snapdragon_8_gen_3", isl=128, osl=2, quant="w8a8")
PC = Query(model="gpt2", hw="pc_high", isl=128, osl=2)


def planned(query: Query, *techniques: Technique, phase: str = "prefill") -> Plan:
    return plan_of(resolve(query), techniques, phase=phase)


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("technique", [SplitOps(rest="cpu"), SplitOps(weights="cpu"), SplitOps(weights="cpu", rest="npu")])
def test_operations_and_bytes_stay_the_same(technique: SplitOps, phase: str) -> None:
    before, after = planned(QUERY, phase=phase), planned(QUERY, technique, phase=phase)
    assert [op for b in after.blocks for op in b.ops] == [op for b in before.blocks for op in b.ops]
    assert after.resident() == before.resident()              # one memory: nothing moves
    stored = {b.engine for b in after.blocks for op in b.ops if isinstance(op, Gemm) and op.static}
    rest = {b.engine for b in after.blocks for op in b.ops if not isinstance(op, Gemm)}
    assert stored == {technique.weights or "npu"}
    assert rest == {technique.rest or "npu"}


def test_runs_follow_one_another_and_keep_who_waits_for_them() -> None:
    after = planned(QUERY, SplitOps(rest="cpu"))
    mine = [b for b in after.blocks if b.layer == 2]
    assert mine[0].after == ("layer 1 ffn",)
    assert all(b.after == (a.name,) for a, b in pairwise(mine))
    assert mine[-1].name == "layer 2 ffn"
    attends = [b for b in mine if any(isinstance(op, Attention) for op in b.ops)]
    assert [b.cache_bytes > 0 for b in mine] == [b in attends for b in mine]


def test_where_memories_differ_results_cross_and_weights_lie_with_their_engine() -> None:
    after = planned(PC, SplitOps(weights="cpu"))
    weights = {t for b in after.blocks for t, n in b.weights if n}
    assert weights == {"dram", "vram"}                         # the embedding has no product: it stays
    done = simulate(PC, [SplitOps(weights="cpu")], phase="prefill")
    sent = {str(t.name): float(t.labels["nbytes"]) for t in done.lowered.graph.tasks if t.labels.get("what") == "result"}
    found = {op.name.rsplit(".", 1)[-1]: b.name for b in after.blocks if b.layer == 3 for op in b.ops}
    wide = {name: sent[f"send {found[name]}"] / (128 * 768 * 4) for name in found if f"send {found[name]}" in sent}
    assert wide["qkv"] == 3                                    # queries, keys, values
    assert wide["prefill"] == 1                                # what attention gathered, all heads
    assert wide[next(n for n in wide if "gelu" in n)] == 4     # neurons, four times as many


def test_tier_parts_and_companions() -> None:
    away = planned(QUERY, SplitOps(rest="cpu", tier="flash", parts=("ffn",)))
    assert {t for b in away.blocks if b.part == "ffn" for t, n in b.weights if n} == {"flash"}
    assert {b.engine for b in away.blocks if b.part == "mixer"} == {"npu"}
    both = planned(QUERY, SplitOps(rest="cpu"), Offload(to="flash", layers=0))
    assert sum(m.nbytes for b in both.blocks for m in b.moves) == sum(b.weight_bytes for b in both.blocks
                                                                   if b.part in ("mixer", "ffn"))
    alone = planned(QUERY, RunOn(engine="cpu"), SplitOps(rest="cpu"))
    assert {b.engine for b in alone.blocks} == {"cpu"}


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="split_ops: names no engine; give weights=ENGINE or rest=ENGINE"):
        planned(QUERY, SplitOps())
    with pytest.raises(ValueError, match="no engine 'cup'; it has npu, cpu"):
        planned(QUERY, SplitOps(rest="cup"))
