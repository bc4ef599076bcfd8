"""Techniques on sparse neurons beside others, in both orders: the plan stands, or one line says why not."""

from __future__ import annotations

from itertools import permutations

import pytest

from sim.plan.block import DoesNotFitError
from sim.plan.lower import lower
from sim.query import Query, resolve
from sim.simulate import plan_of
from sim.techniques import TECHNIQUES
from sim.techniques.technique import parse

SPARSE = "sparse_ffn:active=0.1,hot=0.2,mass=0.7,rank=64"
MINE = ("split_neurons:hot=0.2", "cache_neurons:policy=lru,size=0.3,reuse=0.3,overlap=true", "page_in:resident=0.5",
        "page_in:resident=0,parts=mixer")
OTHERS = ("split_neurons:hot=0.2,by=chance", "offload:to=flash,share=0.5", "offload:to=flash,layers=10,parts=mixer",
          "offload:via=there,layers=10", "run_on:engine=cpu", "run_on:engine=cpu,parts=predictor", "split_ops:rest=cpu",
          "split_ops:rest=cpu,parts=mixer")
DRAFTED = "speculate:draft=TinyLlama/TinyLlama-1.1B-Chat-v1.0,length=3,accepted=2.2"
STORED = 32 * 3 * 11008 * 4096 * 4.5 / 8


@pytest.mark.parametrize("phase", ["decode", "prefill"])
@pytest.mark.parametrize("pair", [p for a in MINE for b in (*MINE, *OTHERS) if a != b for p in permutations((a, b))])
def test_pairs(pair: tuple[str, str], phase: str) -> None:
    query = Query(model="llama-2-7b", hw="pc_high", batch=1, isl=64, osl=8, quant="q4_0")
    refused = ""
    try:
        plan = plan_of(resolve(query), [parse(t, TECHNIQUES) for t in (SPARSE, *pair)], phase=phase)
        tasks = lower([plan]).graph.tasks
    except DoesNotFitError:
        return
    except ValueError as error:
        refused = str(error)
    if refused:
        assert refused.startswith("technique ")
        assert "\n" not in refused
        return
    ffn = [b for b in plan.blocks if b.part == "ffn"]
    assert sum(b.weight_bytes for b in ffn) == pytest.approx(STORED, rel=1e-3)       # stored once, whatever is done
    moved = sum(m.nbytes for b in ffn for m in b.moves)
    assert moved <= STORED * 1.001                                                   # and read once at most
    assert len(tasks) >= len(plan.blocks)


@pytest.mark.parametrize(("techniques", "message"), [
    ((SPARSE, "split_neurons:hot=0.2", "split_neurons:hot=0.1"), "the neurons of 'layer 0 ffn' are split already"),
    ((SPARSE, DRAFTED), "technique speculate: only a plain decode step can be speculated on; list it first"),
    ((SPARSE, "split_ops:rest=cpu", "cache_neurons:reuse=0.3"), "the ops of 'layer 0 ffn.*' are on several engines already"),
    ((SPARSE, "offload:to=flash,share=0.5", "cache_neurons:reuse=0.3"), "the weights of 'layer 0 ffn' are fetched each step"),
])
def test_what_does_not_go_together_says_why(techniques: tuple[str, ...], message: str) -> None:
    query = Query(model="llama-2-7b", hw="pc_high", batch=1, isl=64, osl=8, quant="q4_0")
    with pytest.raises(ValueError, match=message):
        plan_of(resolve(query), [parse(t, TECHNIQUES) for t in techniques], phase="decode")


def test_verified_tokens_share_the_neurons_that_are_read() -> None:
    """Four tokens verified at once need the union of their neurons: more than one token's, less than four times as much."""
    query = Query(model="llama-2-7b", hw="pc_high", batch=1, isl=64, osl=8, quant="q4_0")
    read = [sum(m.nbytes for b in plan_of(resolve(query), [parse(t, TECHNIQUES) for t in chosen], phase="decode").blocks
                for m in b.moves) for chosen in ((SPARSE, MINE[1]), (DRAFTED, SPARSE, MINE[1]))]
    assert 1.5 * read[0] < read[1] < 4 * read[0]
