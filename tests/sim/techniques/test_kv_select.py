"""KV selection: what is kept and moved adds up, and the rewritten attention gives the same values."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim.plan.block import Plan
from sim.plan.lower import lower
from sim.query import Query, resolve
from sim.simulate import plan_of, simulate
from sim.techniques import TECHNIQUES
from sim.techniques.kv_select import KvSelect, _absent
from sim.techniques.technique import parse
from workloads.ops import Attention, Gemm
from workloads.work import work

A100 = Query(model="llama-3.1-8b", hw="a100_host", isl=30000, osl=128, batch=4)
V100 = Query(model="opt-6.7b", hw="v100_xeon", isl=512, osl=128, batch=16)


def plan(query: Query, *texts: str, phase: str = "decode") -> Plan:
    return plan_of(resolve(query), [parse(t, TECHNIQUES) for t in texts], phase=phase)


def cached(p: Plan) -> dict[str, float]:
    found: dict[str, float] = {}
    for b in p.blocks:
        for tier, n in b.cache:
            found[tier] = found.get(tier, 0.0) + n
    return found


def fetched(p: Plan, what: str = "kv") -> float:
    return sum(m.nbytes for b in p.blocks for m in b.moves if m.what == what and not m.back)


# -- conservation -----------------------------------------------------------------------------------------------------

@given(resident=st.floats(0, 1), then=st.floats(0, 1), select=st.floats(0.01, 1), local=st.floats(0, 1))
@settings(max_examples=12, deadline=None)
def test_cache_bytes_are_kept_once_over_tiers(resident: float, then: float, select: float, local: float) -> None:
    whole = sum(cached(plan(A100)).values())
    technique = KvSelect(tier="dram", then="flash", then_share=then, select=select, resident=resident, local=local)
    setting = resolve(Query(model="llama-3.1-8b", hw="pc_high", isl=30000, osl=128, batch=4))
    split = plan_of(setting, [technique], phase="decode")
    assert sum(cached(split).values()) == pytest.approx(whole, rel=1e-9)
    assert cached(split).get("vram", 0.0) == pytest.approx(resident * whole, abs=1.0)
    assert fetched(split) <= select * whole * (1 + 1e-9)


@given(select=st.floats(0.01, 1), local=st.floats(0, 1), resident=st.floats(0, 1))
def test_absent_share(select: float, local: float, resident: float) -> None:
    share = _absent(select, local, resident)
    assert -1e-12 <= share <= 1 + 1e-12
    assert _absent(select, local, min(resident + 0.1, 1.0)) <= share + 1e-12       # more room, less to bring
    assert _absent(select, 0.0, resident) == pytest.approx(1 - resident)            # without a window: evenly spread
    assert _absent(select, local, 1.0) == pytest.approx(0.0, abs=1e-12)
    assert _absent(select, local, 0.0) == pytest.approx(1.0)
    latest = select * local
    if resident >= latest:                                                          # the window itself is never fetched
        assert share <= 1 - local + 1e-12


def test_absent_share_counted() -> None:
    """1000 tokens, 200 selected, half of them the latest; 400 resident, the latest first."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        older = rng.choice(900, size=100, replace=False)
        resident = set(rng.choice(900, size=300, replace=False).tolist())
        shares.append(sum(int(t) not in resident for t in older) / 200)
    assert np.mean(shares) == pytest.approx(_absent(0.2, 0.5, 0.4), abs=0.01)


def test_attention_reads_what_is_selected() -> None:
    blocks = plan(A100, "kv_select:select=0.1").blocks
    seen = {float(np.asarray(op.kv_len)) for b in blocks for op in b.ops if isinstance(op, Attention)}
    assert seen == {0.1 * 30064}


def test_operations_before_and_after_stay() -> None:
    def others(p: Plan) -> list[tuple[object, ...]]:
        return [(type(op), op) for b in p.blocks for op in b.ops if not isinstance(op, Attention)]

    assert others(plan(A100, "kv_select:select=1")) == others(plan(A100))
    assert others(plan(A100, "kv_select:select=1,resident=0.5,via=there")) == others(plan(A100))


def test_digests_and_factors_have_a_place() -> None:
    """Keys of rank 160 of 1024 and a landmark for 8 tokens: a sixth of the cache stays (ShadowKV: more than six times less)."""
    whole = sum(cached(plan(A100)).values())
    kept = cached(plan(A100, "kv_select:select=0.0156,digest=8,rank=160,resident=0.003"))
    assert kept["vram"] / whole == pytest.approx(0.5 * 160 / 1024 + 0.5 / 8 + 0.5 * 0.003, rel=1e-6)
    assert whole / kept["vram"] > 6
    assert kept["dram"] / whole == pytest.approx(0.5 * (1 - 0.003), rel=1e-6)


def test_what_was_kept_from_the_step_before_takes_room_and_is_not_fetched() -> None:
    none, most = (plan(A100, f"kv_select:select=0.1,hit={h}") for h in (0, 0.6))
    assert fetched(most) == pytest.approx(0.4 * fetched(none))
    assert cached(most)["vram"] == pytest.approx(0.6 * 0.1 * sum(cached(plan(A100)).values()))


def test_room_is_filled_and_no_more() -> None:
    small = plan(Query(model="opt-13b", hw="v100_xeon", isl=512, osl=128, batch=32), "kv_select:select=0.2,resident=-1")
    used, room = sum(small.resident()["vram"].values()), small.board.tier("vram").capacity
    assert 0.95 * room < used <= room
    assert cached(plan(V100, "kv_select:select=0.2,resident=-1")).get("dram", 0.0) == 0      # all of it fits here


def test_packed_bytes_and_recomputed_inputs() -> None:
    plain, packed, again = (plan(V100, f"kv_select:select=0.5{x}") for x in ("", ",stored=int8", ",recompute=1"))
    assert fetched(packed) == pytest.approx(0.5 * fetched(plain))
    assert fetched(again) == 0
    # Inputs are as wide as keys: half of keys and values where every head has its own.
    assert fetched(again, "input") == pytest.approx(0.5 * fetched(plain))
    made = [op for b in again.blocks for op in b.ops if isinstance(op, Gemm) and "recompute" in op.name]
    assert sum(float(work(op).flops) for op in made) == pytest.approx(32 * 16 * 0.5 * 576 * 4 * 4096**2)


def test_prompt_is_written_out() -> None:
    p = plan(V100, "kv_select:select=0.2,resident=0.25", phase="prefill")
    back = sum(m.nbytes for b in p.blocks for m in b.moves if m.back)
    assert back == pytest.approx(0.75 * sum(cached(plan(V100, phase="prefill")).values()))


# -- time -------------------------------------------------------------------------------------------------------------

def seconds(query: Query, *texts: str) -> float:
    return simulate(query, [parse(t, TECHNIQUES) for t in texts]).step_s


def test_digests_make_the_disk_faster_than_keys() -> None:
    pc = Query(model="llama-3.1-8b", hw="pc_high", isl=16000, osl=128)
    tiers = "kv_select:tier=dram,then=flash,then_share=0.5,select=0.1,digest_tier=flash,digest_share=0.5,chunk=512 KiB"
    assert seconds(pc, f"{tiers},digest=64") < 0.7 * seconds(pc, f"{tiers},digest=1")


def test_rebuilding_overlaps_with_fetching() -> None:
    """Without a link in the way the keys' products show; behind fetches they mostly do not."""
    low = lower([plan(A100, "kv_select:select=0.1,rank=160")])
    names = [t.name for t in low.graph.tasks]
    rebuild, fetch = names.index("layer 0 mixer rebuild"), names.index("kv of layer 0 mixer")
    assert fetch not in low.graph.tasks[rebuild].after
    assert set(low.graph.tasks[names.index("layer 0 mixer")].after) == {rebuild, fetch}


def test_composes_with_offload() -> None:
    p = plan(V100, "offload:layers=16", "kv_select:select=0.2")
    assert sum(b.weight_bytes for b in p.blocks) == pytest.approx(sum(b.weight_bytes for b in plan(V100).blocks))
    assert sum(cached(p).values()) == pytest.approx(sum(cached(plan(V100)).values()))
    both, cache_only = seconds(V100, "offload:layers=16", "kv_select:select=0.2"), seconds(V100, "kv_select:select=0.2")
    assert both > cache_only


@pytest.mark.parametrize(("text", "message"), [
    ("kv_select:select=0.5,tier=drum", "no memory 'drum'"),
    ("kv_select:select=0.5,then_share=0.5", "then_share: needs a memory in 'then'"),
    ("kv_select:select=0.5,resident=-0.5", "resident: must be a share of 0 to 1, or -1, found -0.5"),
    ("kv_select:select=0.5,rank=8,recompute=0.5", "rank and recompute"),
    ("kv_select:select=0.5,rank=8,via=there", "via: what is attended to where it lies"),
    ("kv_select", "select"),
])
def test_bad_settings(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        plan(A100, text)
    assert "\n" not in str(error.value)


# -- the same values ---------------------------------------------------------------------------------------------------

Array = NDArray[np.float64]


def partial(q: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """Attention to some tokens, and the logarithm of its sum of exponentials."""
    scores = q @ k.T
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True)
    return weights @ v / total, top + np.log(total)


def test_parts_merged_by_their_sums_are_the_whole() -> None:
    """Resident and fetched tokens attended to apart, or on two engines, then merged: as attention to all of them."""
    rng = np.random.default_rng(1)
    q, k, v = rng.normal(size=(4, 16)), rng.normal(size=(100, 16)), rng.normal(size=(100, 8))
    here = rng.permutation(100) < 37
    (a, la), (b, lb) = partial(q, k[here], v[here]), partial(q, k[~here], v[~here])
    share = 1 / (1 + np.exp(lb - la))
    np.testing.assert_allclose(share * a + (1 - share) * b, partial(q, k, v)[0], rtol=1e-12)


def test_keys_of_exact_rank_are_rebuilt() -> None:
    rng = np.random.default_rng(2)
    factors, basis = rng.normal(size=(100, 5)), rng.normal(size=(5, 16))
    q, k = rng.normal(size=(4, 16)), factors @ basis
    u, s, vt = np.linalg.svd(k, full_matrices=False)
    chosen = rng.choice(100, size=10, replace=False)
    rebuilt = (u[chosen, :5] * s[:5]) @ vt[:5]
    np.testing.assert_allclose(q @ rebuilt.T, q @ k[chosen].T, atol=1e-9)


def test_keys_and_values_come_again_from_the_layers_input() -> None:
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=(50, 12)), rng.normal(size=(12, 24))
    lost = rng.choice(50, size=20, replace=False)
    np.testing.assert_allclose(x[lost] @ w, (x @ w)[lost], rtol=1e-12)


def test_selecting_everything_that_weighs_is_near_the_whole() -> None:
    """The error of what is left out is bounded by its weight: here a window and the heaviest tokens of peaked scores."""
    rng = np.random.default_rng(4)
    q, k, v = 3 * rng.normal(size=(1, 16)), rng.normal(size=(200, 16)), rng.normal(size=(200, 8))
    scores = (q @ k.T)[0]
    weights = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    chosen = np.zeros(200, bool)
    chosen[np.argsort(-scores)[:20]], chosen[-20:] = True, True
    missed = weights[~chosen].sum()
    error = np.abs(partial(q, k[chosen], v[chosen])[0] - partial(q, k, v)[0]).max()
    assert error <= 2 * missed * np.abs(v).max()
    assert missed < 0.05
