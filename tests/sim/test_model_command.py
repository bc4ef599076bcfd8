"""``model``: what the bundled models are, and whether a file can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sim.cli import main
from workloads.registry import list_models, load_config

Capture = pytest.CaptureFixture[str]


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["model", *args])
    return int(stop.value.code or 0)


def asked(capsys: Capture, *args: str) -> Any:
    assert run(*args, "--format", "json") == 0
    return json.loads(capsys.readouterr().out)


def test_the_list_has_every_bundled_model_with_its_sizes(capsys: Capture) -> None:
    rows = {r["model"]: r for r in asked(capsys, "list")}
    assert list(rows) == list(list_models())
    llama = rows["meta-llama/Llama-3.1-8B"]
    assert llama == {"model": "meta-llama/Llama-3.1-8B", "family": "llama", "params_b": 8.03, "active_b": 8.03,
                     "layers": 32, "attention": "GQA", "kv_bytes_per_token": 131072}
    assert rows["deepseek-ai/DeepSeek-V3"]["attention"] == "MLA"
    assert rows["tiiuae/falcon-7b"]["attention"] == "MQA"
    assert rows["google/gemma-2-9b"]["attention"] == "21x GQA window + 21x GQA"
    assert rows["tiiuae/falcon-mamba-7b"]["kv_bytes_per_token"] == 0
    assert all(0 < r["active_b"] <= r["params_b"] for r in rows.values())


@pytest.mark.parametrize("name", list_models())
def test_every_model_can_be_shown(capsys: Capture, name: str) -> None:
    facts = asked(capsys, "show", name)
    assert facts["name"] == name
    assert 0 < facts["n_active_params"] <= facts["n_params"]
    assert facts["weights_bytes"] > 0
    assert 1 < facts["bits_per_weight"] <= 32.001
    assert facts["n_layers"] == len(facts["pattern"])
    assert run("show", name) == 0
    out, err = capsys.readouterr()
    assert name in out
    assert all(line.startswith("note: ") for line in err.splitlines())


def test_a_quantised_model_is_smaller(capsys: Capture) -> None:
    plain, low = asked(capsys, "show", "llama-3.1-8b"), asked(capsys, "show", "llama-3.1-8b", "--quant", "W4A16")
    assert plain["bits_per_weight"] == 16
    assert 4.1 < low["bits_per_weight"] < 6
    assert low["n_params"] == plain["n_params"]


def test_check_says_of_each_file_what_it_is_or_why_not(tmp_path: Path, capsys: Capture) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    config = load_config("llama-3.1-8b").config
    good.write_text(json.dumps(config))
    bad.write_text(json.dumps(config | {"num_attention_heads": 31}))
    assert run("check", str(good), "llama-3.1-8b") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"ok       {good}: llama, 8.03 B parameters, 32 layers, GQA"
    assert run("check", str(bad), str(good), str(tmp_path / "none.json")) == 2
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(f"refused  {bad}: ")
    assert "num_key_value_heads: found 8, expected a divisor of num_attention_heads = 31" in first
    assert second.startswith("ok ")
    assert "no such file" in third


def test_the_table_names_layers_and_formats(capsys: Capture) -> None:
    assert run("show", "mixtral-8x7b-v0.1") == 0
    out = capsys.readouterr().out
    assert "2 of 8 x 14336" in out
    assert "32 heads, 8 KV, dim 128" in out
