"""Laws of the op graph over all bundled models, each side counted in its own way from the model's own numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workloads.bundled import NAMES, spec
from workloads.footprint import kv_bytes
from workloads.formats import get_format
from workloads.graph import Sequences, build, decode, prefill
from workloads.model_spec import Linear, ModelSpec, Recurrent, Softmax
from workloads.ops import Attention, Collective, Elementwise, Gemm, Moe, Op, OpGraph, Scan
from workloads.parallel import Parallel
from workloads.work import work

#: So many that every expert of every model is hit.
MANY = 2e6


def total(ops: Iterable[Op], field: str) -> float:
    return float(sum(np.asarray(op.repeat) * np.asarray(getattr(work(op), field)) for op in ops))


def of(graph: OpGraph, *kinds: type[Op]) -> list[Op]:
    return [op for op in graph.ops if isinstance(op, kinds)]


def weights(graph: OpGraph) -> list[Op]:
    """Ops that multiply stored weights."""
    return [op for op in graph.ops if isinstance(op, Moe) or (isinstance(op, Gemm) and op.static)]


def linears(s: ModelSpec) -> list[tuple[int, Linear]]:
    every = [(c, x) for c, layer in zip(s.counts, s.layers, strict=True) for part in (layer.mixer, layer.ffn) if part
             for x in part.linears]
    return every + ([(1, s.lm_head)] if s.lm_head else [])


def cores(s: ModelSpec) -> list[tuple[int, Softmax | Recurrent]]:
    return [(c, x.mixer.core) for c, x in zip(s.counts, s.layers, strict=True) if x.mixer]


def experts(s: ModelSpec) -> list[tuple[int, object]]:
    return [(c, x.ffn.experts) for c, x in zip(s.counts, s.layers, strict=True) if x.ffn and x.ffn.experts]


def ways(x: Linear, tp: int) -> int:
    """Parts that one linear is cut into, as its own fields say."""
    if x.split == "none":
        return 1
    return min(tp, x.heads) if x.heads and x.split == "column" else tp


def stored(s: ModelSpec, tp: int = 1) -> float:
    """Bytes of all weights that are multiplied, on one of ``tp`` ranks."""
    dense = sum(c * x.n_in * x.n_out * get_format(x.weight).bits / 8 / ways(x, tp) for c, x in linears(s))
    routed = sum(c * e.n_experts * (3 if e.gated else 2) * e.hidden * e.inter * get_format(e.weight).bits / 8 / tp
                 for c, e in experts(s))
    return dense + routed


def plain(s: ModelSpec) -> bool:
    """Every token attends stored positions one to one: no compression, no indexer, no cache of another layer."""
    return all(not isinstance(c, Softmax) or (c.compress == 1 and not c.index_elements and not c.topk
                                              and c.kv_elements == c.reads_elements) for _, c in cores(s))


# -- weights ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_a_step_reads_each_stored_weight_once(name: str) -> None:
    s = spec(name)
    for members in ([prefill(MANY / 64, 64)], *([[decode(MANY, 64)]] if s.causal else [])):
        assert total(weights(build(s, members)), "weight_bytes") == pytest.approx(stored(s), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_small_batch_reads_at_most_topk_experts_a_token(name: str) -> None:
    s = spec(name)
    if not s.causal:
        pytest.skip("encoder")
    expected = sum(c * x.n_weights * get_format(x.weight).nbytes for c, x in linears(s)) + sum(
        c * e.topk * e.n_weights * get_format(e.weight).nbytes for c, e in experts(s))
    assert total(weights(build(s, [decode(1, 64)])), "weight_bytes") == pytest.approx(expected, rel=1e-9)


# -- operations -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
def test_prefill_multiplies_each_active_weight_with_each_token(name: str) -> None:
    s, batch, length = spec(name), 3, 48
    body = sum(c * x.n_in * x.n_out for c, x in linears(s)) - (s.lm_head.n_weights if s.lm_head else 0)
    routed = sum(c * e.topk * e.n_weights for c, e in experts(s))
    scored = (batch if s.causal else batch * length) * (s.lm_head.n_weights if s.lm_head else 0)
    expected = 2 * (batch * length * (body + routed) + scored)
    assert total(weights(build(s, [prefill(batch, length)])), "flops") == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", [n for n in NAMES if plain(spec(n))])
def test_prefill_attends_every_visible_pair(name: str) -> None:
    s, batch, length = spec(name), 3, 48
    expected = 0.0
    for count, c in cores(s):
        if isinstance(c, Softmax):
            seen = sum(min(p, c.window or p) if c.causal else length for p in range(1, length + 1))
            dims = (c.prefill_head_dim + c.prefill_v_head_dim) if c.latent else c.head_dim + c.v_head_dim
            expected += count * batch * 2 * c.n_heads * seen * dims
    got = total(of(build(s, [prefill(batch, length)]), Attention), "flops")
    assert got == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", [n for n in NAMES if plain(spec(n)) and spec(n).causal])
@pytest.mark.parametrize("context", [100, 65536])
def test_a_decode_step_reads_the_cache_that_is_kept(name: str, context: int) -> None:
    s, batch = spec(name), 5
    graph = build(s, [decode(batch, context)])
    state = sum(count * c.state_elements for count, c in cores(s) if isinstance(c, Recurrent))
    conv = sum(count * c.conv_elements for count, c in cores(s) if isinstance(c, Recurrent))
    kept = float(kv_bytes(s, context, batch)) - batch * (state * 4 + conv * get_format(s.dtype).nbytes)
    assert total(of(graph, Attention), "cache_bytes") == pytest.approx(kept, rel=1e-9, abs=1e-6)
    assert total(of(graph, Scan), "cache_bytes") == pytest.approx(2 * batch * state * 4, rel=1e-9)


# -- splitting --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tp", [2, 4])
def test_tensor_parallelism_conserves_work_and_cuts_weights(name: str, tp: int) -> None:
    s, split = spec(name), Parallel(tp=tp)
    members = [prefill(MANY / 64, 64)]
    if any(isinstance(c, Softmax) and c.n_heads % tp for _, c in cores(s)):
        with pytest.raises(ValueError, match=f"tp: {tp} does not divide"):
            build(s, members, split)
        return
    whole, part = build(s, members), build(s, members, split)
    tokens, rows = MANY, MANY / 64 if s.causal else MANY
    # Work that every rank repeats: linears that are not cut, or cut by fewer heads than there are ranks.
    again = sum(2 * c * x.n_weights * (rows if x is s.lm_head else tokens) * (tp / ways(x, tp) - 1)
                for c, x in linears(s))
    assert tp * total(weights(part), "flops") == pytest.approx(total(weights(whole), "flops") + again, rel=1e-9)
    assert total(weights(part), "weight_bytes") == pytest.approx(stored(s, tp), rel=1e-9)
    for kinds in ((Attention,), (Scan,)):
        assert tp * total(of(part, *kinds), "flops") == pytest.approx(total(of(whole, *kinds), "flops"), rel=1e-9)


@pytest.mark.parametrize("name", [n for n in NAMES if spec(n).n_layers > 1])
def test_pipeline_parallelism_keeps_all_work_and_adds_the_sends(name: str) -> None:
    s = spec(name)
    members = [prefill(2, 64)]
    whole, part = build(s, members), build(s, members, Parallel(pp=2))
    assert [op for op in part.ops if not isinstance(op, Collective)] == list(whole.ops)
    sends = of(part, Collective)
    assert [(op.name, op.repeat, op.n_devices) for op in sends] == [("pipeline.send", 1.0, 2.0)]
    assert float(np.asarray(sends[0].nbytes)) == 2 * 64 * s.hidden_size * get_format(s.dtype).nbytes


@pytest.mark.parametrize("name", [n for n in NAMES if experts(spec(n)) and all(
    e.n_experts % 4 == 0 for _, e in experts(spec(n)))])
def test_expert_parallelism_conserves_work(name: str) -> None:
    s, members = spec(name), [prefill(MANY / 64, 64)]
    alone = of(build(s, members), Moe)
    # four replicas share their experts: four times the tokens, a quarter of the experts each
    spread = of(build(s, members, Parallel(dp=4, ep=4)), Moe)
    assert total(spread, "flops") == pytest.approx(total(alone, "flops"), rel=1e-9)
    assert total(spread, "weight_bytes") == pytest.approx(total(alone, "weight_bytes") / 4, rel=1e-9)
    if any(isinstance(c, Softmax) and c.n_heads % 4 for _, c in cores(s)):
        return
    for split in (Parallel(tp=4), Parallel(tp=4, ep=4), Parallel(tp=4, ep=2)):
        cut = of(build(s, members, split), Moe)
        assert 4 * total(cut, "flops") == pytest.approx(total(alone, "flops"), rel=1e-9)
        assert 4 * total(cut, "weight_bytes") == pytest.approx(total(alone, "weight_bytes"), rel=1e-9)


@pytest.mark.parametrize(("split", "kinds"), [
    (Parallel(), set()), (Parallel(dp=4), set()), (Parallel(pp=2), {"send_recv"}),
    (Parallel(tp=2), {"all_reduce", "all_gather"}), (Parallel(tp=2, ep=2), {"all_reduce", "all_gather"}),
    (Parallel(dp=2, ep=2), {"alltoall"}), (Parallel(tp=2, dp=2, ep=4), {"all_reduce", "all_gather", "alltoall"}),
    (Parallel(tp=2, pp=2), {"all_reduce", "all_gather", "send_recv"}),
])
def test_collectives_are_there_exactly_when_something_is_split(split: Parallel, kinds: set[str]) -> None:
    found = of(build(spec("mixtral-8x7b-v0.1"), [decode(8, 100)], split), Collective)
    assert {op.kind for op in found} == kinds


def test_each_layer_reduces_twice_and_parallel_layers_once() -> None:
    for name, each in (("llama-3.1-8b", 2), ("falcon-40b", 1), ("gpt-j-6b", 1)):
        s = spec(name)
        reduces = [op for op in of(build(s, [decode(1, 9)], Parallel(tp=2)), Collective) if ".all_reduce" in op.name]
        runs = sum(float(np.asarray(op.repeat)) for op in reduces)
        assert runs == each * s.n_layers + 1, name                   # and once for the embedding


# -- arrays and mixed batches -----------------------------------------------------------------------------------------

SOME = ("llama-3.1-8b", "mixtral-8x7b-v0.1", "deepseek-v3", "gemma-2-9b", "falcon-mamba-7b", "gpt-oss-20b",
        "Llama-4-Scout-17B-16E-Instruct", "DeepSeek-V4-Flash", "Qwen3-Next-80B-A3B-Instruct")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(SOME), st.lists(st.tuples(st.integers(1, 300), st.integers(1, 50_000), st.integers(0, 50_000)),
                                       min_size=2, max_size=4), st.booleans())
def test_arrays_give_what_scalars_give_point_by_point(name: str, points: list[tuple[int, int, int]],
                                                      later: bool) -> None:
    s = spec(name)
    batch, new, past = (np.array(x, dtype=float) for x in zip(*points, strict=True))

    def graph(b: object, n: object, p: object) -> OpGraph:
        return build(s, [decode(b, n + p) if later else prefill(b, n + p, p)])

    whole = graph(batch, new, past)
    for i in range(len(points)):
        one = graph(batch[i], new[i], past[i])
        assert [op.name for op in one.ops] == [op.name for op in whole.ops]
        for a, b in zip(whole.ops, one.ops, strict=True):
            for x, y in zip(work(a), work(b), strict=True):
                np.testing.assert_allclose(np.broadcast_to(x, batch.shape)[i], y, rtol=1e-12, err_msg=a.name)


def test_a_mixed_batch_joins_tokens_and_keeps_sequences_apart() -> None:
    s = spec("llama-3.1-8b")
    members = [Sequences(phase="prefill", batch=1, q_len=512, kv_len=2048), decode(7, 300), decode(2, 9000)]
    graph = build(s, members)
    assert graph.phase == "mixed"
    tokens, sequences = 512 + 7 + 2, 1 + 7 + 2
    body = [op for op in of(graph, Gemm) if op.name != "lm_head"]
    assert {float(np.asarray(op.m)) for op in body} == {tokens}
    assert [float(np.asarray(op.m)) for op in of(graph, Gemm) if op.name == "lm_head"] == [sequences]
    found = {(op.phase, float(np.asarray(op.batch)), float(np.asarray(op.kv_len))) for op in of(graph, Attention)}
    assert found == {("prefill", 1, 2048), ("decode", 7, 300), ("decode", 2, 9000)}
    apart = sum(total(of(build(s, [m]), Attention), "cache_bytes") for m in members)
    assert total(of(graph, Attention), "cache_bytes") == pytest.approx(apart)
    assert {float(np.asarray(op.rows)) for op in of(graph, Elementwise) if op.name == "embed"} == {tokens}


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mistral-7b-v0.1", "deepseek-v3", "mixtral-8x7b-v0.1"])
def test_a_cached_prefix_saves_its_tokens_and_chunks_add_up(name: str) -> None:
    s = spec(name)
    whole, first, rest = (build(s, [m]) for m in (prefill(1, 8000), prefill(1, 6000), prefill(1, 8000, 6000)))
    assert total(of(rest, Attention), "flops") < total(of(whole, Attention), "flops")
    both = total(of(first, Attention), "flops") + total(of(rest, Attention), "flops")
    assert both == pytest.approx(total(of(whole, Attention), "flops"), rel=1e-9)
    projections = [op for op in weights(rest) if "kv_b_proj" not in op.name and op.name != "lm_head"]
    before = [op for op in weights(whole) if "kv_b_proj" not in op.name and op.name != "lm_head"]
    assert total(projections, "flops") == pytest.approx(total(before, "flops") / 4, rel=1e-9)


# -- kinds of attention -----------------------------------------------------------------------------------------------

def test_latent_attention_is_expanded_in_prefill_and_absorbed_in_decode() -> None:
    s = spec("deepseek-v3")                                   # 128 heads, rank 512, rope 64, nope 128, v 128
    first, later = build(s, [prefill(1, 100)]), build(s, [decode(4, 100)])
    (a,) = {(float(np.asarray(op.n_kv_heads)), op.head_dim, op.v_head_dim) for op in of(first, Attention)}
    assert a == (128, 192, 128)
    (b,) = {(float(np.asarray(op.n_kv_heads)), op.head_dim, op.v_head_dim, op.kv_elements)
            for op in of(later, Attention)}
    assert b == (1, 576, 512, 576)
    assert not [op for op in later.ops if "kv_b_proj" in op.name]
    absorbed = [op for op in later.ops if "absorb" in op.name]
    assert total(absorbed, "flops") == 61 * 4 * 2 * 128 * 512 * (128 + 128)
    expanded = [op for op in first.ops if "kv_b_proj" in op.name]
    assert total(absorbed, "weight_bytes") == total(expanded, "weight_bytes")


def test_a_sliding_window_bounds_what_decode_reads() -> None:
    s = spec("mistral-7b-v0.1")                               # window 4096, 32 layers, 8 KV heads of 128
    reads = [total(of(build(s, [decode(1, n)]), Attention), "cache_bytes") for n in (1000, 4096, 30_000)]
    assert reads == [32 * 2 * 8 * 128 * 2 * n for n in (1000, 4096, 4096)]


def test_alternating_layers_keep_their_own_windows() -> None:
    s = spec("gemma-2-9b")                                    # every other layer sees 4096 positions
    element = get_format(s.kv_format).nbytes
    seen = sorted(float(np.asarray(work(op).cache_bytes)) / float(np.asarray(op.kv_elements)) / element
                  for op in of(build(s, [decode(1, 8000)]), Attention))
    assert seen == [4096, 8000]


def test_chunked_attention_sees_its_own_block() -> None:
    s = spec("Llama-4-Scout-17B-16E-Instruct")                # three of four layers in blocks of 8192
    def local(members: list[Sequences]) -> list[Op]:
        return [op for op in of(build(s, members), Attention)
                if "chunk" in op.name or float(np.asarray(op.kv_len)) <= 8192]
    assert {float(np.asarray(op.kv_len)) for op in local([decode(1, 8192 * 3 + 5)])} == {5}
    assert {float(np.asarray(op.kv_len)) for op in local([decode(1, 8192 * 3)])} == {8192}
    ops = local([prefill(1, 8192 * 4)])
    assert {(float(np.asarray(op.batch)), float(np.asarray(op.q_len))) for op in ops} == {(4, 8192)}


@pytest.mark.parametrize(("length", "past"), [(4000, 0), (8192, 0), (9000, 0), (12_000, 8192), (12_000, 6000),
                                              (20_000, 15_000), (16_385, 16_384)])
def test_chunked_attention_counts_the_pairs_of_blocks_cut_short(length: int, past: int) -> None:
    s = spec("Llama-4-Scout-17B-16E-Instruct")
    position = np.arange(past, length)
    expected = sum(count * 2 * c.n_heads * (c.head_dim + c.v_head_dim)
                   * float(((position % c.window if c.chunked and c.window else position) + 1).sum())
                   for count, c in cores(s))
    ops = of(build(s, [prefill(1, length, past)]), Attention)
    assert total(ops, "flops") == pytest.approx(expected, rel=1e-9)
    assert all(float(np.asarray(op.kv_len)) >= float(np.asarray(op.q_len)) for op in ops)


def test_an_encoder_has_no_causal_op_and_scores_every_token() -> None:
    graph = build(spec("bert-large-uncased"), [prefill(2, 128)])
    assert {op.causal for op in of(graph, Attention)} == {False}


def test_a_recurrent_model_keeps_no_growing_cache() -> None:
    s = spec("falcon-mamba-7b")
    short, long = (build(s, [decode(3, n)]) for n in (10, 100_000))
    assert not of(short, Attention)
    assert total(short.ops, "cache_bytes") == total(long.ops, "cache_bytes") > 0


def test_kv_heads_fewer_than_ranks_are_replicated() -> None:
    s = spec("llama-3.1-8b")                                  # 8 KV heads
    reads = {tp: total(of(build(s, [decode(1, 1000)], Parallel(tp=tp)), Attention), "cache_bytes")
             for tp in (1, 8, 16, 32)}
    assert reads[8] == reads[1] / 8
    assert reads[32] == reads[16] == reads[8]
