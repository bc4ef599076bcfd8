"""Served figures: kept apart from the kernels' own, wider, and only where a serving framework is named."""

from __future__ import annotations

import pytest

from sim.api import whatif
from sim.served import interrupted, served

METRICS = {"ttft_s": {"value": 0.1}, "tpot_s": {"value": 0.01}}


def test_the_prefills_of_the_others_come_between() -> None:
    assert interrupted(0.01, 0.1, 1, 100) == pytest.approx(0.01)
    assert interrupted(0.01, 0.1, 5, 100) == pytest.approx(0.01 + 4 * 0.1 / 100)


@pytest.mark.parametrize("framework", ["", "pytorch-cublas", "torch"])
def test_no_serving_framework_no_served_figure(framework: str) -> None:
    assert served(METRICS, 4, 100, framework) == {}


def test_an_encoder_serves_no_tokens() -> None:
    assert served({"ttft_s": {"value": 0.1}}, 4, 100, "vllm") == {}


@pytest.mark.parametrize("framework", ["vllm", "sglang-0.5.9", "trtllm-1.3.0rc20"])
def test_the_figure_lies_in_its_interval(framework: str) -> None:
    for f in served(METRICS, 4, 100, framework).values():
        assert f["lo"] <= f["value"] < f["hi"]
    assert served(METRICS, 4, 100, framework)["ttft_s"]["hi"] > 0.2        # a server adds more than a prefill takes


def test_the_answer_keeps_both_apart_and_says_so() -> None:
    plain = whatif("llama-3.1-8b", "h200_sxm", batch=4, isl=512, osl=64, elasticities=False)
    named = whatif("llama-3.1-8b", "h200_sxm", batch=4, isl=512, osl=64, elasticities=False, framework="vllm")
    assert "served" not in plain.data
    for key, f in named.data["served"].items():
        assert f["hi"] > named.data["metrics"][key]["hi"]
    assert any(n.startswith("with host and software") for n in named.data["notes"])
    assert not any(n.startswith("with host and software") for n in plain.data["notes"])
