"""Schemes on small networks: what changes, what never does, and whether the formats can hold numbers at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.footprint import kv_bytes, kv_bytes_per_token, state_bytes, weights_bytes
from workloads.formats import get_format
from workloads.model_spec import Experts, FeedForward, Layer, Linear, Mixer, ModelSpec, Recurrent, Softmax
from workloads.quantise import PRESETS, Override, Pair, QuantScheme, apply_scheme, preset, with_modes


def attention(**core: int | bool) -> Mixer:
    shape = {"n_heads": 4, "n_kv_heads": 2, "head_dim": 32, "v_head_dim": 32, "kv_elements": 128,
             "reads_elements": 128} | core
    return Mixer(core=Softmax.model_validate(shape), linears=(
        Linear(name="self_attn.q_proj", n_in=128, n_out=128, bias=True), Linear(name="self_attn.o_proj", n_in=128,
                                                                                n_out=128, split="row")))


MAMBA = Mixer(linears=(Linear(name="mixer.in_proj", n_in=128, n_out=256),), extra_params=10,
              core=Recurrent(cell="mamba2", state_elements=1000, flops_per_token=1, io_elements=1, conv_elements=100))
DENSE = FeedForward(linears=(Linear(name="mlp.up_proj", n_in=128, n_out=512),
                             Linear(name="mlp.down_proj", n_in=512, n_out=128, split="row")))
MOE = FeedForward(linears=(Linear(name="mlp.gate", n_in=128, n_out=8, split="none"),),
                  experts=Experts(n_experts=8, topk=2, hidden=128, inter=64))


def network(*layers: Layer, pattern: tuple[int, ...] = (0,), tied: bool = False) -> ModelSpec:
    return ModelSpec(name="tiny", family="llama", hidden_size=128, vocab_size=1000, layers=layers, pattern=pattern,
                     lm_head=Linear(name="lm_head", n_in=128, n_out=1000), embed_params=128000, final_params=128,
                     tied_embeddings=tied)


FULL = Layer(label="full", mixer=attention(), ffn=DENSE, norm_params=256)
SPARSE = Layer(label="moe", mixer=attention(), ffn=MOE, norm_params=256)
NET = network(FULL, SPARSE, pattern=(0, 1, 1, 1, 0))
ALL_NAMES = [*PRESETS, *(f"W{w}A{a}" for w in range(1, 9) for a in (4, 8, 16)), "w4a16_g64", "W3A8g128", "w3", "fp8",
             "int8", "int4", "nvfp4", "ternary", "bf16", "q4_K", "int4_g128+2:4"]


@pytest.mark.parametrize("name", ALL_NAMES)
def test_a_preset_changes_formats_and_no_count(name: str) -> None:
    q = apply_scheme(NET, preset(name))
    assert (q.n_params, q.n_active_params, q.pattern, q.embed_format) == (
        NET.n_params, NET.n_active_params, NET.pattern, "bf16")
    assert q.lm_head == NET.lm_head
    assert q.layers[1].ffn
    assert q.layers[1].ffn.linears[0].weight == "bf16"
    assert sum(weights_bytes(q).values()) <= sum(weights_bytes(NET).values())


@pytest.mark.parametrize(("name", "weight", "act"), [
    ("W4A16", "int4_g128", "bf16"), ("w4a16_asym", "int4_g128z", "bf16"), ("w4a16_g64", "int4_g64", "bf16"),
    ("w3", "int3_g128", "bf16"), ("W8A8", "int8", "int8"), ("FP8_BLOCK", "fp8_block128", "fp8_g128"),
    ("w4afp8", "int4_g128", "fp8_e4m3"), ("nvfp4", "nvfp4", "nvfp4"), ("MXFP4A16", "mxfp4", "bf16"),
    ("W2A4", "int2_g128", "int4"), ("fp32", "fp32", "fp32")])
def test_what_presets_mean(name: str, weight: str, act: str) -> None:
    q = apply_scheme(NET, preset(name)).layers[1]
    assert q.ffn
    assert q.ffn.experts
    assert q.mixer
    for x in (q.ffn.experts, *q.mixer.linears):
        assert (x.weight, x.act) == (weight, act)


def test_depths_split_and_merge() -> None:
    one = QuantScheme(name="x", default=Pair(weight="int8"), ignore=("model.layers.2*",))
    q = apply_scheme(NET, one)
    assert (len(q.layers), q.pattern) == (3, (0, 1, 2, 1, 0))
    assert len(apply_scheme(q, preset("fp8")).layers) == 2      # merged again once all are equal


@pytest.mark.parametrize(("pattern", "plain"), [
    ("model.layers.0.self_attn", {0}), ("layers.0.self_attn", {0}), ("language_model.model.layers.0*", {0}),
    ("model.language_model.layers.0.self_attn*", {0}), ("re:.*self_attn.*", {0, 1}), ("*.self_attn.*", {0, 1}),
    ("model.layers.*.self_attn", {0, 1}), ("self_attn", {0, 1}), ("re:.*layers\\.1\\..*", {1}),
    ("model.layers.0.self_attn.q_pro", set()), ("model.layers.10", set()), ("gate", set())])
def test_ignore_patterns(pattern: str, plain: set[int]) -> None:
    net = network(FULL, pattern=(0,) * 2)
    q = apply_scheme(net, QuantScheme(name="x", default=Pair(weight="fp8"), ignore=(pattern,)))
    found = {i for i, k in enumerate(q.pattern) if q.layers[k].mixer.linears[0].weight == "bf16"}  # type: ignore[union-attr]
    assert found == plain


def test_a_dense_pattern_leaves_experts_alone_and_an_expert_pattern_does_not() -> None:
    for pattern, left in (("re:.*mlp\\.(gate|up|down)_proj.*", False), ("*.mlp.experts*", True),
                          ("model.layers.0.mlp.experts.0.gate_proj", True)):
        q = apply_scheme(network(SPARSE), QuantScheme(name="x", default=Pair(weight="int4"), ignore=(pattern,)))
        assert q.layers[0].ffn
        assert q.layers[0].ffn.experts
        assert (q.layers[0].ffn.experts.weight == "bf16") == left, pattern


def test_named_head_embedding_and_router_are_quantised() -> None:
    pair = Pair(weight="fp8_e4m3")
    s = QuantScheme(name="x", overrides=tuple(Override(pattern=p, pair=pair)
                                              for p in ("lm_head", "model.embed_tokens", "*.mlp.gate")))
    q = apply_scheme(network(SPARSE), s)
    assert q.lm_head
    assert q.layers[0].ffn
    assert (q.lm_head.weight, q.embed_format, q.layers[0].ffn.linears[0].weight) == ("fp8_e4m3",) * 3


def test_flags_of_module_kinds() -> None:
    q = apply_scheme(NET, with_modes(preset("fp8"), gemm="int8", moe="w4a16", kv="fp8"))
    layer = q.layers[1]
    assert layer.ffn
    assert layer.ffn.experts
    assert layer.mixer
    assert (layer.mixer.linears[0].weight, layer.ffn.experts.weight, q.kv_format) == ("int8", "int4_g128", "fp8_e4m3")


@pytest.mark.parametrize("bad", ["w9a16", "fp88", "W4A3", "", "w4a16_g0"])
def test_unknown_preset_is_one_line_with_near_names(bad: str) -> None:
    with pytest.raises(ValueError, match="did you mean") as e:
        preset(bad)
    assert "\n" not in str(e.value)
    shown = str(e.value).partition("WEIGHT/ACTIVATION: ")[2].split(", ")
    assert [preset(name).default.act for name in shown if name] in ([], ["int8", "bit1"])


# -- footprint --------------------------------------------------------------------------------------------------------

def test_weights_by_hand() -> None:
    w = weights_bytes(apply_scheme(network(SPARSE), preset("W4A16")))
    assert w["attention"] == 2 * 128 * 128 * 4.125 / 8 + 128 * 2          # a bias of 128 stays bf16
    assert w["experts"] == 8 * 3 * 128 * 64 * 4.125 / 8
    assert w["mlp"] == 128 * 8 * 2
    assert w["embed"] == w["lm_head"] == 256000
    assert weights_bytes(network(SPARSE, tied=True))["lm_head"] == 0


@given(st.sampled_from(["bf16", "fp32"]), st.booleans())
def test_plain_weights_are_params_times_bytes(dtype: str, tied: bool) -> None:
    net = apply_scheme(network(FULL, SPARSE, pattern=(0, 1, 0), tied=tied), QuantScheme(
        name=dtype, default=Pair(weight=dtype), overrides=tuple(
            Override(pattern=p, pair=Pair(weight=dtype)) for p in ("lm_head", "embed_tokens", "*.gate"))))
    net = net.model_copy(update={"dtype": dtype})
    assert sum(weights_bytes(net).values()) == net.n_params * get_format(dtype).nbytes


def test_kv_windows_compression_state_and_broadcast() -> None:
    layers = (FULL, FULL.model_copy(update={"mixer": attention(window=100)}),
              FULL.model_copy(update={"mixer": attention(compress=4, window=100, index_elements=8)}),
              FULL.model_copy(update={"mixer": MAMBA}))
    net = network(*layers, pattern=(0, 1, 2, 3))
    n = np.array([40.0, 400.0])
    near = np.minimum(n, 100)
    state = 1000 * 4 + 100 * 2
    expected = 2 * (128 * n + 128 * near + n / 4 * 136 + near * 128) + state
    np.testing.assert_allclose(kv_bytes(net, n[:, None], [1.0, 3.0]), expected[:, None] * [1.0, 3.0])
    assert state_bytes(net) == state
    assert kv_bytes_per_token(net, "fp8") == 128 + 128 + 34
    assert kv_bytes_per_token(network(FULL)) == 256


# -- the numbers a format stands for ----------------------------------------------------------------------------------

def fake_int(w: np.ndarray, bits: int, group: int) -> np.ndarray:
    x = w.reshape(-1, group)
    scale = np.abs(x).max(1, keepdims=True) / (2 ** (bits - 1) - 1)
    return (np.round(x / scale) * scale).reshape(w.shape)


@given(seed=st.integers(0, 2**16), bits=st.integers(2, 8), group=st.sampled_from([16, 32, 64, 128]))
def test_group_quantised_values_stay_within_half_a_step(seed: int, bits: int, group: int) -> None:
    """Round to nearest: |error| <= max|group| / (2 (2^(b-1) - 1)), so half a step, in every group."""
    w = np.random.default_rng(seed).normal(size=(16, 128))
    error = np.abs(fake_int(w, bits, group) - w).reshape(-1, group)
    bound = np.abs(w.reshape(-1, group)).max(1) / (2 * (2 ** (bits - 1) - 1))
    assert (error.max(1) <= bound * (1 + 1e-12)).all()


def test_more_bits_and_smaller_groups_mean_smaller_product_error() -> None:
    rng = np.random.default_rng(1)
    a, w = rng.normal(size=(64, 512)), rng.normal(size=(64, 512))

    def error(bits: int, group: int) -> float:
        return float(np.linalg.norm(a @ (fake_int(w, bits, group) - w).T) / np.linalg.norm(a @ w.T))

    # uniform error of a step d has standard deviation d / sqrt(12); d <= 2 * 4.5 sigma / (2^b - 2) for 32768 normals
    for bits in (4, 8):
        assert error(bits, 128) < 2 * 4.5 / (2**bits - 2) / 12**0.5
    assert error(8, 128) < error(6, 128) < error(4, 128)
    assert error(4, 16) < error(4, 128)


def test_fp4_block_error_is_half_the_widest_gap() -> None:
    """E2M1 with a scale that maps the largest to 6: the widest gap is 2, so |error| <= max|group| / 6."""
    grid = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    x = np.random.default_rng(2).normal(size=(256, 16))
    scale = np.abs(x).max(1, keepdims=True) / 6
    near = grid[np.abs(np.abs(x / scale)[..., None] - grid).argmin(-1)] * np.sign(x) * scale
    assert (np.abs(near - x).max(1) <= scale[:, 0] * (1 + 1e-12)).all()


def test_modules_that_differ_follow_behind_semicolons() -> None:
    q = apply_scheme(NET, preset("W4A8; lm_head=int8/int8; q_proj=int4+11:16/int8"))
    assert q.lm_head
    assert (q.lm_head.weight, q.lm_head.act) == ("int8", "int8")
    assert q.layers[0].mixer
    assert [x.weight for x in q.layers[0].mixer.linears] == ["int4+11:16", "int4_g128"]
    assert sum(weights_bytes(q).values()) < sum(weights_bytes(apply_scheme(NET, preset("W4A8"))).values())


@pytest.mark.parametrize("bad", ["W4A8;", "W4A8;lm_head", "W4A8;=int8", "W4A8;lm_head="])
def test_a_module_without_a_scheme_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r"is no 'pattern=scheme', e\.g\. lm_head=W4A8"):
        preset(bad)
