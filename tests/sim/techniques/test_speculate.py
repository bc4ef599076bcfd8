"""Speculative decoding: drafts are added, verification is one pass, and the tokens are the model's own."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.plan.block import Block, Plan
from sim.plan.network import network
from sim.query import Query, load_spec, resolve
from sim.simulate import plan_of, simulate
from sim.techniques.offload import Offload
from sim.techniques.run_on import RunOn
from sim.techniques.speculate import Speculate
from sim.techniques.technique import Technique
from workloads.ops import Op

QUERY = Query(model="gpt2-large", hw="pc_high", isl=128, osl=16)


def planned(*techniques: Technique, phase: str = "decode", step: int = 0) -> Plan:
    return plan_of(resolve(QUERY), techniques, phase=phase, step=step)


def chain(length: int = 4, **more: Any) -> Speculate:
    return Speculate.model_validate({"draft": "gpt2", "length": length, "accepted": 2.5, **more})


def ops(blocks: list[Block]) -> list[Op]:
    return [op for b in blocks for op in b.ops]


@pytest.mark.parametrize(("settings_", "verified"), [({}, 5), ({"width": 3}, 13), ({"width": 3, "verified": 9}, 9)])
def test_verified_tokens_cost_one_pass(settings_: dict[str, int], verified: int) -> None:
    plan = planned(chain(**settings_))
    mine = [b for b in plan.blocks if not b.model]
    one = network(plan.spec, "gpu", "vram", phase="decode", batch=1.0, q_len=float(verified), kv_len=136.0 + verified - 1)
    assert ops(mine) == ops(list(one))
    assert (plan.q_len, plan.yields) == (float(verified), 2.5)


@pytest.mark.parametrize("width", [1, 3])
def test_draft_work_is_added(width: int) -> None:
    drafts = [b for b in planned(chain(width=width)).blocks if b.model]
    draft = load_spec("gpt2")
    expected: list[Op] = []
    for level in range(4):
        expected += ops(list(network(draft, "gpu", "vram", phase="decode", batch=1.0, q_len=float(width),
                                     kv_len=136.0 + (level + 1) * width - 1)))
    assert ops(drafts) == expected
    assert {b.part for b in drafts} == {"draft"}
    once = sum(b.weight_bytes for b in network(draft, "gpu", "vram", phase="decode", batch=1.0, q_len=1.0, kv_len=136.0))
    assert sum(b.weight_bytes for b in drafts) == once         # stored once, however often it runs


def test_time_is_that_of_drafts_and_of_verification() -> None:
    def seconds(length: int) -> float:
        return simulate(QUERY, [chain(length, accepted=1.0, verified=5)]).step_s
    draft = simulate(Query(model="gpt2", hw="pc_high", isl=128, osl=16)).step_s
    assert seconds(6) - seconds(4) == pytest.approx(2 * draft, rel=0.02)   # contexts differ by a few tokens


def test_drafting_ahead_hides_where_engines_differ_and_costs_when_in_vain() -> None:
    there = RunOn(engine="cpu", parts=("embed", "mixer", "ffn", "head"))

    def run(**more: Any) -> tuple[float, int]:
        done = simulate(QUERY, [chain(**more), there], steps=5)
        return done.step_s, sum(b.part == "draft" for p in done.plans for b in p.blocks)
    waits, ahead, vain = run(), run(overlap=True), run(overlap=True, guessed=0.0)
    draft = simulate(Query(model="gpt2", hw="pc_high", isl=128, osl=16)).step_s
    assert waits[0] - ahead[0] == pytest.approx(4 * draft, rel=0.1)
    assert vain[0] == pytest.approx(waits[0], rel=0.02)        # drafted again after the outcome
    assert waits[1] == ahead[1] < vain[1]                      # and the work in vain is done besides
    some = run(overlap=True, guessed=0.5)
    assert ahead[0] <= some[0] <= vain[0] * 1.001
    assert some == run(overlap=True, guessed=0.5)              # drawn by the seed


def test_the_first_step_has_nothing_in_vain() -> None:
    lucky, unlucky = (planned(chain(overlap=True, guessed=g)) for g in (1.0, 0.0))
    assert lucky.blocks == unlucky.blocks
    assert len(planned(chain(overlap=True, guessed=0.0), step=1).blocks) > len(lucky.blocks)


def test_it_composes_with_places_of_the_model() -> None:
    away = planned(chain(), Offload(to="dram", layers=10, via="there"))
    assert {b.engine for b in away.blocks if b.model} == {"gpu"}
    assert {b.layer for b in away.blocks if b.engine == "cpu"} == set(range(10, 36))
    assert sum(b.weight_bytes for b in away.blocks) == sum(b.weight_bytes for b in planned(chain()).blocks)
    streamed = planned(chain(), Offload(to="flash", layers=0))
    assert not any(b.moves for b in streamed.blocks if b.model)
    moved = sum(m.nbytes for b in streamed.blocks for m in b.moves)
    assert moved == sum(b.weight_bytes for b in planned().blocks if b.part in ("mixer", "ffn"))   # once for all tokens
    cpu = planned(chain(engine="cpu"))
    assert {b.engine for b in cpu.blocks if b.model} == {"cpu"}
    assert {t for b in cpu.blocks if b.model for t, _ in b.weights} == {"dram"}


def test_more_memory_takes_more_layers_off_the_cpu() -> None:
    """What the draft model and its cache take is no longer there for layers."""
    def kept(*techniques: Technique, room: str) -> int:
        query = Query(model="llama-2-7b", hw="pc_2080_super", isl=128, osl=16, quant="fp16",
                      sets=(("memory.gddr.capacity", room),))
        plan = plan_of(resolve(query), [*techniques, Offload(to="dram", via="there")], phase="decode")
        return sum(b.part == "mixer" and b.engine == "gpu" and not b.model for b in plan.blocks)
    draft = Speculate(draft="EAGLE-llama2-chat-7B", length=5, accepted=3.0)
    counts = [kept(draft, room=r) for r in ("3 GiB", "5 GiB", "7 GiB")]
    assert counts[0] < counts[1] < counts[2]
    assert counts[0] < kept(room="3 GiB")


def test_what_it_refuses_and_what_it_leaves_alone() -> None:
    assert planned(chain(), phase="prefill").blocks == planned(phase="prefill").blocks
    with pytest.raises(ValueError, match="accepted: at most the 5 tokens of the longest path verified, found 6"):
        planned(chain(accepted=6.0))
    with pytest.raises(ValueError, match="accepted: at most the 5 tokens of the longest path verified, found 6"):
        planned(chain(accepted=6.0, width=8))                  # a tree is no deeper for being wide
    with pytest.raises(ValueError, match="only a plain decode step can be speculated on"):
        planned(chain(), chain())


# -- greedy verification yields the model's own tokens ------------------------------------------------------------------

Model = Callable[[tuple[int, ...]], int]


def toy(seed: int, agree: int) -> Model:
    """Next token after a context; two seeds agree on most contexts."""
    def token(context: tuple[int, ...]) -> int:
        common = hash((context[-3:], -1))
        return common % 7 if common % 10 < agree else hash((context[-3:], seed)) % 7
    return token


def alone(model: Model, n: int) -> list[int]:
    out = [0]
    while len(out) <= n:
        out.append(model(tuple(out)))
    return out[:n]


def verified(target: Model, draft: Model, n: int, length: int, width: int) -> tuple[list[int], int]:
    """Tokens and passes of the target: a tree of the draft's token and its neighbours at each level, judged in one pass."""
    out, passes = [0], 0
    while len(out) < n:
        path: list[int] = []
        tree: set[tuple[int, ...]] = set()
        for _ in range(length):
            guess = draft((*out, *path))
            tree |= {(*path, (guess + i) % 7) for i in range(width)}
            path.append(guess)
        judged = {p: target((*out, *p)) for p in {(), *tree}}   # one pass over all of them
        passes += 1
        kept: tuple[int, ...] = ()
        while (*kept, judged[kept]) in judged:
            kept = (*kept, judged[kept])
        out += [*kept, judged[kept]]
    return out[:n], passes


@settings(max_examples=40, deadline=None)
@given(seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)), agree=st.integers(0, 10), length=st.integers(1, 6),
       width=st.integers(1, 3))
def test_greedy_verification_yields_the_models_own_tokens(seeds: tuple[int, int], agree: int, length: int, width: int) -> None:
    target, draft = (toy(s, agree) for s in seeds)
    found, passes = verified(target, draft, 40, length, width)
    assert found == alone(target, 40)
    assert 39 / (length + 1) <= passes <= 39


def test_a_draft_that_is_always_right_gains_its_length_and_one() -> None:
    for length, width in product((1, 3, 5), (1, 2)):
        model = toy(1, 5)
        assert verified(model, model, 1 + 4 * (length + 1), length, width)[1] == 4
