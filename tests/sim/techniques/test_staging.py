"""Room for what is moved ahead: without enough copies wait for it, and it is taken from the memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sim.plan.block import Plan
from sim.query import Query, resolve
from sim.simulate import Simulated, plan_of, simulate
from sim.techniques import TECHNIQUES
from sim.techniques.technique import parse

QUERY = Query(model="llama-2-7b", hw="pc_low", batch=2, isl=128, osl=64)
STREAM = "offload:layers=16"
LAYER = 1.02 * 3 * 4096 * 11008 * 2                             # feed-forward part of one layer, and a little [B]


def planned(*texts: str, query: Query = QUERY) -> Plan:
    return plan_of(resolve(query), [parse(t, TECHNIQUES) for t in texts], phase="decode")


def simulated(*texts: str) -> Simulated:
    return simulate(QUERY, [parse(t, TECHNIQUES) for t in texts], steps=3)


def test_room_decides_when_copies_run_and_never_what_moves() -> None:
    one, two = (simulated(f"staging:size={n * LAYER}", STREAM) for n in (1, 2))
    assert one.step_s > 1.02 * two.step_s               # no copy beside the block whose room it waits for
    assert two.step_s == pytest.approx(simulated(STREAM).step_s, rel=1e-3)
    moved = [sum(f.nbytes for t in s.lowered.graph.tasks for f in t.flows if t.labels["kind"] == "copy")
             for s in (one, two)]
    assert moved[0] == pytest.approx(moved[1])


def test_it_is_taken_from_the_memory_once() -> None:
    plan = planned("staging:size=2GB", "staging:size=1GB", "offload")
    assert plan.resident()["vram"]["staging"] == 1e9
    large = replace(QUERY, model="llama-2-13b")
    full = planned("staging:size=1GB", "offload", query=large)
    used, layer = sum(full.resident()["vram"].values()), sum(b.weight_bytes for b in full.blocks if b.layer == 0)
    assert used <= full.board.tier("vram").capacity < used + layer       # and not two blocks' room besides
    kept, less = (p.resident()["vram"]["weights"] for p in (plan, planned("staging:size=4GB", "offload")))
    assert kept > less


@pytest.mark.parametrize(("text", "message"), [
    ("staging:size=0", "technique staging: size: input should be greater than 0, found 0"),
    ("staging", "technique staging: size: missing"), ("staging:size=1GB,tier=hbm", "no memory 'hbm'; it has vram"),
])
def test_bad_settings(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planned(text)


def test_too_little_room_for_one_block_is_said() -> None:
    with pytest.raises(ValueError, match=r"moves .* MiB into vram, whose staging holds 9.5 MiB"):
        simulated("staging:size=10MB", STREAM)
