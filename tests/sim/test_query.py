"""Questions: what may be changed, what the change does, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.query import Query, load_spec, resolve
from workloads.parallel import Parallel
from workloads.registry import load_config

BASE = Query(model="llama-3.1-8b", hw="h200_sxm")


def test_a_question_resolves_into_its_parts() -> None:
    s = resolve(Query(model="llama-3.1-8b", hw="h200_sxm", batch=4, isl=100, osl=10, prefix=5, utilization=0.5))
    assert s.spec.name == "meta-llama/Llama-3.1-8B"
    assert s.device.name == s.system.name == "h200_sxm"
    assert (s.workload.batch, s.workload.isl, s.workload.osl, s.workload.prefix, s.workload.utilization) == (4, 100, 10, 5, 0.5)
    assert s.parallel == Parallel()


@pytest.mark.parametrize(("changes", "field", "value"), [
    ({"bs": "8"}, "batch", 8), ({"batch-size": "8"}, "batch", 8), ({"batch": "8"}, "batch", 8), ({"tp-size": "2"}, "tp", 2),
    ({"system": "t4"}, "hw", "t4"), ({"model-path": "phi-2"}, "model", "phi-2"), ({"kv-cache-dtype": "fp8"}, "kv_quant", "fp8"),
    ({"kv_quant": "fp8"}, "kv_quant", "fp8"), ({"gpu-memory-utilization": "0.8"}, "utilization", 0.8),
    ({"gemm-quant-mode": "fp8"}, "gemm_quant", "fp8"), ({"quant": "w4a16"}, "quant", "w4a16"),
    ({"power.tdp": "500W"}, "sets", (("power.tdp", "500W"),)),
])
def test_a_question_changed(changes: dict[str, str], field: str, value: object) -> None:
    changed = BASE.changed(changes)
    assert getattr(changed, field) == value
    assert {f for f in Query.__dataclass_fields__ if getattr(changed, f) != getattr(BASE, f)} == {field}


def test_a_later_change_of_the_same_value_wins() -> None:
    first = BASE.changed({"power.tdp": "500W"})
    assert first.changed({"power.tdp": "400W"}).sets == (("power.tdp", "400W"),)


def test_setting_a_parameter_of_the_device() -> None:
    s = resolve(BASE.changed({"memory.main.bandwidth": "6 TB/s"}))
    assert s.device.main.bandwidth is not None
    assert s.device.main.bandwidth.value == 6e12
    assert "memory.hbm.bandwidth" in s.device.assumed()
    assert resolve(BASE).device.main.bandwidth.value == 4.8e12  # type: ignore[union-attr]


def test_setting_a_key_of_the_model() -> None:
    assert resolve(BASE.changed({"model.num_hidden_layers": "16"})).spec.n_layers == 16
    assert resolve(BASE.changed({"model.rope_theta": "1e4"})).spec.n_layers == 32
    assert resolve(BASE.changed({"model.tie_word_embeddings": "true"})).spec.tied_embeddings
    mixtral = Query(model="mixtral-8x7b-v0.1", hw="h200_sxm")
    more = resolve(mixtral.changed({"model.num_local_experts": "16"})).spec
    assert more.layers[0].ffn
    assert more.layers[0].ffn.experts
    assert more.layers[0].ffn.experts.n_experts == 16


def test_the_bundled_model_stays_as_it_is() -> None:
    before, factor = load_spec("llama-3.1-8b"), load_config("llama-3.1-8b").config["rope_scaling"]["factor"]
    resolve(BASE.changed({"model.num_hidden_layers": "16", "model.rope_scaling.factor": "4"}))
    assert load_spec("llama-3.1-8b") == before
    assert load_config("llama-3.1-8b").config["rope_scaling"]["factor"] == factor != 4


@pytest.mark.parametrize(("model", "quant", "weight", "kv"), [
    ("llama-3.1-8b", "", "bf16", "bf16"), ("llama-3.1-8b", "W4A16", "int4", "bf16"), ("llama-3.1-8b", "FP8", "fp8", "bf16"),
    ("Qwen3-32B-FP8", "", "fp8", "bf16"), ("Qwen3-32B-FP8", "none", "bf16", "bf16"),
])
def test_formats_come_from_the_question_or_from_the_config(model: str, quant: str, weight: str, kv: str) -> None:
    s = load_spec(model, quant=quant)
    assert s.layers[0].mixer
    assert s.layers[0].mixer.linears[0].weight.startswith(weight)
    assert s.kv_format.startswith(kv)


def test_formats_of_one_kind_of_module() -> None:
    def formats(**modes: str) -> tuple[str, str, str, str]:
        s = resolve(Query(model="mixtral-8x7b-v0.1", hw="h200_sxm", **modes)).spec  # type: ignore[arg-type]
        layer = s.layers[0]
        assert layer.mixer
        assert layer.ffn
        assert layer.ffn.experts
        return layer.mixer.linears[0].weight, layer.ffn.experts.weight, s.kv_format, s.attention_format
    assert formats() == ("bf16", "bf16", "bf16", "")
    dense, experts, _, _ = formats(gemm_quant="fp8")
    assert dense.startswith("fp8")
    assert experts == "bf16"
    dense, experts, _, _ = formats(moe_quant="w4a16")
    assert dense == "bf16"
    assert experts.startswith("int4")
    assert formats(kv_quant="fp8")[2].startswith("fp8")
    assert formats(fmha_quant="fp8")[3].startswith("fp8")


def test_one_device_stands_for_as_many_as_the_split_needs() -> None:
    s = resolve(Query(model="llama-3.1-70b", hw="h100_sxm", tp=4, pp=2))
    assert s.system.n_devices == 8
    assert s.system.scale_up() is not None
    assert resolve(Query(model="llama-3.1-70b", hw="dgx_h100", tp=4)).system.n_devices == 8


@pytest.mark.parametrize(("changes", "message"), [
    ({"hw": "rtx_4090_4x_pcie", "tp": "8"}, "has 4 device.s., but tp8 needs 8; try --hw '8x rtx_4090'"),
    ({"hw": "pc_low", "tp": "2"}, "pc_low has 1 device.s., but tp2 needs 2; try --hw '2x rtx_2080_ti'"),
    ({"tp": "3"}, "tp: 3 does not divide"),
    ({"isl": "999999"}, "isl . osl: 1000127 tokens exceed"),
    ({"model.nothing": "1"}, "has no key 'nothing'"),
    ({"model.architectures": "x"}, "only numbers, flags and texts can be set, this is a list"),
    ({"isl": "1e3"}, "isl: expected a whole number, got '1e3'"),
    ({"gpu-memory-utilization": "most"}, "gpu-memory-utilization: expected a number, got 'most'"),
])
def test_what_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(BASE.changed(changes))


def test_a_device_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\ntitle = "A faster H200"\nbase = "h200_sxm"\nvendor = "me"\n[memory.hbm]\n'
                    'bandwidth = { value = "9.6 TB/s", kind = "assumed", note = "twice" }\n')
    s = resolve(Query(model="llama-3.1-8b", hw=str(path), tp=2))
    assert s.device.main.bandwidth is not None
    assert s.device.main.bandwidth.value == 9.6e12
    assert s.system.n_devices == 2


def test_a_framework_nobody_measured_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"framework: nothing was measured with 'foo'; known: .*trtllm, vllm"):
        resolve(Query(model="llama-3.1-8b", hw="h200_sxm", framework="foo"))
    assert resolve(Query(model="llama-3.1-8b", hw="h200_sxm", framework="vllm-9.9")).query.framework == "vllm-9.9"


def test_a_changed_figure_that_no_estimate_uses_is_said() -> None:
    def notes(*sets: tuple[str, str]) -> tuple[str, ...]:
        return resolve(Query(model="llama-3.1-8b", hw="h200_sxm", sets=sets)).notes

    assert notes(("price.list", "1 USD"), ("memory.hbm.bandwidth", "6 TB/s")) == (
        "price.list is changed, but no estimate uses it yet",)
    assert notes(("price.list", "32000 USD")) == ()          # as shipped
