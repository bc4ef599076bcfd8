"""Work of single ops: pairs against counting, experts hit against drawing, bytes by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.ops import Attention, Collective, Elementwise, Gemm, Moe, Op, Scan
from workloads.work import experts_hit, visible_pairs, work


def counted(q_len: int, kv_len: int, window: int, causal: bool) -> int:
    """Pairs one by one: position p sees the last ``window`` positions, itself included, and none after it if causal."""
    total = 0
    for p in range(kv_len - q_len + 1, kv_len + 1):
        seen = min(p, window or p) if causal else min(kv_len, window or kv_len)
        total += seen
    return total


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60), st.booleans())
def test_visible_pairs_are_those_that_counting_finds(q: int, past: int, window: int, causal: bool) -> None:
    assert visible_pairs(q, q + past, window, causal) == counted(q, q + past, window, causal)


@given(st.integers(1, 5000), st.integers(0, 5000), st.integers(0, 8000), st.integers(0, 5000))
def test_a_prompt_in_two_chunks_has_the_pairs_of_the_whole(a: int, b: int, window: int, past: int) -> None:
    whole = visible_pairs(a + b, past + a + b, window)
    parts = visible_pairs(a, past + a, window) + visible_pairs(b, past + a + b, window)
    assert whole == pytest.approx(parts, rel=1e-12)


def test_visible_pairs_broadcast() -> None:
    got = visible_pairs(np.array([[1], [4]]), np.array([8, 16, 32]), np.array([0, 4, 4]))
    assert got.tolist() == [[8, 4, 4], [5 + 6 + 7 + 8, 16, 16]]


@pytest.mark.parametrize(("tokens", "topk", "experts"), [(1, 2, 8), (4, 2, 8), (16, 8, 256), (100, 1, 16)])
def test_experts_hit_is_the_mean_of_draws(tokens: int, topk: int, experts: int) -> None:
    rng = np.random.default_rng(7)
    order = rng.random((2000, tokens, experts)).argsort(axis=-1)[..., :topk]
    share = np.array([len(np.unique(trial)) / experts for trial in order])
    margin = 4 * share.std() / np.sqrt(len(share)) + 1e-9
    assert float(experts_hit(tokens, topk, experts)) == pytest.approx(share.mean(), abs=margin)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 10_000))
def test_experts_hit_is_a_share_and_one_token_hits_its_topk(a: int, b: int, tokens: int) -> None:
    topk, experts = sorted((a, b))
    assert 0 < experts_hit(tokens, topk, experts) <= 1
    assert float(experts_hit(1, topk, experts)) == pytest.approx(topk / experts, rel=1e-9)


def test_gemm_by_hand() -> None:
    w = work(Gemm(name="g", m=4, n=8, k=16, batch=3, a="bf16", w="int4_g128"))
    assert w.flops == 2 * 3 * 4 * 8 * 16
    assert w.weight_bytes == 3 * 8 * 16 * (4 + 16 / 128) / 8
    assert w.stream_bytes == 3 * 4 * (16 + 8) * 2
    assert w.cache_bytes == w.link_bytes == 0


def test_a_product_of_activations_reads_its_second_operand_as_cache() -> None:
    w = work(Gemm(name="g", m=4, n=8, k=16, static=False))
    assert (w.weight_bytes, w.cache_bytes) == (0, 8 * 16 * 2)


def test_moe_by_hand() -> None:
    every = {"name": "e", "tokens": 1e6, "hidden": 64, "inter": 32, "topk": 2, "n_experts": 8}
    w = work(Moe(**every, n_local=8))
    assert w.flops == pytest.approx(2 * 1e6 * 2 * 3 * 64 * 32)
    assert w.weight_bytes == pytest.approx(8 * 3 * 64 * 32 * 2)
    half = work(Moe(**every, n_local=4, gated=False))
    assert half.flops == pytest.approx(w.flops / 2 * 2 / 3)
    assert half.weight_bytes == pytest.approx(w.weight_bytes / 2 * 2 / 3)


def test_one_token_reads_the_experts_it_picks() -> None:
    w = work(Moe(name="e", tokens=1, hidden=64, inter=32, topk=2, n_experts=8, n_local=8))
    assert w.weight_bytes == pytest.approx(2 * 3 * 64 * 32 * 2)


def _attention(**changed: object) -> Attention:
    base = {"name": "a", "phase": "decode", "batch": 3, "q_len": 1, "kv_len": 100, "n_heads": 8, "n_kv_heads": 2,
            "head_dim": 64, "v_head_dim": 32, "kv_elements": 2 * (64 + 32), "kv": "fp8"}
    return Attention(**{**base, **changed})


def test_attention_by_hand() -> None:
    w = work(_attention())
    assert w.flops == 2 * 3 * 8 * 100 * (64 + 32)
    assert w.cache_bytes == 3 * 100 * 192 * 1
    assert w.stream_bytes == 3 * 8 * (64 + 32) * 2


def test_attention_reads_its_window_alone() -> None:
    assert work(_attention(window=16)).cache_bytes == 3 * 16 * 192
    assert work(_attention(window=16, kv_len=10)).cache_bytes == 3 * 10 * 192
    # a chunk of 4 queries: the first of them still needs the 15 positions before it
    assert work(_attention(window=16, q_len=4, phase="prefill")).cache_bytes == 3 * 19 * 192


@pytest.mark.parametrize("q_len", [1, 7, 100])
def test_a_window_no_shorter_than_the_context_changes_nothing(q_len: int) -> None:
    assert work(_attention(q_len=q_len, window=100)) == work(_attention(q_len=q_len))


def test_an_encoder_sees_all_pairs() -> None:
    w = work(_attention(phase="prefill", q_len=100, causal=False))
    assert w.flops == 2 * 3 * 8 * 100 * 100 * (64 + 32)


def test_scan_reads_and_writes_its_state() -> None:
    w = work(Scan(name="s", phase="decode", batch=2, q_len=5, flops_per_token=10, state_elements=100, io_elements=7))
    assert (w.flops, w.cache_bytes, w.stream_bytes) == (100, 2 * 2 * 100 * 4, 2 * 5 * 7 * 2)


def test_elementwise_moves_what_it_says() -> None:
    w = work(Elementwise(name="e", kind="add", rows=3, cols=4, bytes_read=50, bytes_written=25))
    assert (w.flops, w.stream_bytes, w.weight_bytes) == (12, 75, 0)


@pytest.mark.parametrize(("kind", "share"), [("all_reduce", 2 * 7 / 8), ("all_gather", 7 / 8), ("send_recv", 1.0),
                                             ("reduce_scatter", 7 / 8), ("alltoall", 7 / 8)])
def test_collectives_send_the_bus_bytes(kind: str, share: float) -> None:
    assert work(Collective(name="c", kind=kind, nbytes=800, n_devices=8)).link_bytes == 800 * share


def test_one_device_sends_nothing() -> None:
    assert work(Collective(name="c", kind="all_reduce", nbytes=800, n_devices=1)).link_bytes == 0


def test_an_unknown_op_is_refused() -> None:
    class Strange(Op):
        pass

    with pytest.raises(TypeError, match="no work count for ops of kind Strange"):
        work(Strange(name="x"))


def test_sparse_weights_leave_n_of_m_of_the_products() -> None:
    dense, sparse = (work(Gemm(name="g", m=4, n=64, k=64, w=w)) for w in ("int4", "int4+2:4"))
    assert sparse.flops == dense.flops / 2
    moe = [work(Moe(name="e", tokens=4, hidden=64, inter=64, topk=2, n_experts=8, n_local=8, w=w))
           for w in ("int4", "int4+1:4")]
    assert moe[1].flops == moe[0].flops / 4
