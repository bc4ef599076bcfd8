"""``whatif``: the printed figures are the estimate's, every device gets an answer or a clear refusal."""

from __future__ import annotations

import json
import math
import re
import shlex
from typing import Any

import pytest

from accel_models.registry import list_devices
from sim.answer import answer
from sim.cli import main
from sim.commands.whatif import show
from sim.query import Query, resolve

SAMPLE = ["whatif", "-m", "meta-llama/Llama-3.1-8B", "--hw", "h200_sxm", "--bs", "64", "--isl", "2048", "--osl", "512"]
Capture = pytest.CaptureFixture[str]


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    return int(stop.value.code or 0)


def asked(capsys: Capture, *args: str) -> Any:
    assert run(*args, "--format", "json") in (0, 1)
    return json.loads(capsys.readouterr().out)


def test_the_sample_shows_the_physical_limits(capsys: Capture) -> None:
    assert run(*SAMPLE) == 0
    out = capsys.readouterr().out
    for text in ("Llama-3.1-8B · bf16 · 8.03 B params", "h200_sxm · tp1 · 4.8 TB/s", "141.0 GiB", "weights 14.96 GiB",
                 "KV 20.00 GiB (128 KiB/token)", "max concurrency 358", "34.34 GB per step", "intensity 30"):
        assert text in out, text
    rows = {cells[0]: cells for line in out.splitlines() if len(cells := re.split(r"\s{2,}", line.strip())) > 3}
    assert rows["TTFT"][3] in ("30 ms", "30.0 ms")
    assert rows["TTFT"][5].startswith("compute   ") or rows["TTFT"][5] == "compute"
    assert rows["TPOT"][3] == "7.15 ms"
    assert "memory" in rows["TPOT"][5]


def test_the_json_says_the_same(capsys: Capture) -> None:
    data = asked(capsys, *SAMPLE)
    assert data["schema"] == "perfboard/result/1"
    assert data["config"]["batch"] == 64
    assert data["memory_bytes"]["max_concurrency"] == 358
    assert data["limits"]["decode"]["sol_s"] == pytest.approx(7.15e-3, abs=5e-6)
    assert data["limits"]["prefill"]["sol_bound"] == "compute"
    assert data["limits"]["decode"]["sol_bound"] == "memory"
    for key, m in data["metrics"].items():
        assert 0 < m["lo"] < m["hi"], key
        assert 0.9 * m["lo"] < m["value"] < 1.1 * m["hi"], key
    for phase, limit in data["limits"].items():
        assert 0 < limit["sol_share"] < 1
        time = data["metrics"][{"prefill": "ttft_s", "decode": "tpot_s"}[phase]]["value"]
        classes = data["time_by_class_s"][phase]
        assert sum(t for row in classes.values() for t in row.values()) == pytest.approx(time, rel=1e-6)
        ops = [op for op in data["ops"] if op["phase"] == phase]
        assert sum(op["time_s"] * op["count"] for op in ops) == pytest.approx(time, rel=1e-9)
        assert set(data["sources"][phase]) == set(classes)


def test_figures_without_a_source_are_null_with_a_reason(capsys: Capture) -> None:
    data = asked(capsys, "whatif", "-m", "llama-3.1-8b", "--hw", "tpu_v5p")
    assert data["metrics"]["avg_power_w"]["value"] is None
    assert any(text.startswith("power.tdp (not known") for text in data["assumed"])


def _outcome(device: str) -> str:
    try:
        a = answer(resolve(Query(model="llama-3.1-8b", hw=device)), elasticities=False)
    except ValueError as error:
        return str(error)
    for key in ("ttft_s", "tpot_s", "e2el_s", "tokens_per_s_per_gpu", "tokens_per_s_per_user"):
        m = a.data["metrics"][key]
        assert math.isfinite(m["value"]), key
        assert 0 < m["lo"] < m["hi"], key
    assert all(0 < x["sol_share"] <= 1 for x in a.data["limits"].values())
    return ""


@pytest.mark.parametrize("device", list_devices())
def test_every_device_gets_an_answer_or_a_reason(device: str) -> None:
    reason = _outcome(device)
    assert not reason or re.fullmatch(rf"{device}: no engine rate for bf16 or anything wider; it has (none|int8; .*)", reason)


def test_only_storage_and_integer_engines_are_refused() -> None:
    refused = [d for d in list_devices() if _outcome(d)]
    assert len(refused) < 0.25 * len(list_devices())
    assert not [d for d in refused if d.startswith(("h100", "a100", "rtx", "mi", "epyc", "xeon", "snapdragon", "tpu"))]


def test_what_a_refusal_of_an_integer_engine_recommends_works(capsys: Capture) -> None:
    reason = _outcome("cambricon_llm_s")
    words = shlex.split(reason.partition("ask for it throughout: perfboard ")[2])
    assert run(*words, "-m", "llama-2-7b", "--hw", "cambricon_llm_s", "--isl", "128") == 0
    assert "in_flash" in capsys.readouterr().out


def test_a_format_that_the_engine_lacks_is_noted(capsys: Capture) -> None:
    data = asked(capsys, "whatif", "-m", "phi-2", "--hw", "t4", "--quant", "FP8")
    assert any(note.startswith("t4 has no fp8 rate: operands are converted to") for note in data["notes"])
    assert not asked(capsys, "whatif", "-m", "phi-2", "--hw", "h200_sxm", "--quant", "FP8")["notes"]
    cached = asked(capsys, "whatif", "-m", "phi-2", "--hw", "t4", "--fmha-quant-mode", "fp8")
    assert any("no fp8 rate" in note for note in cached["notes"])


def test_what_does_not_fit_is_answered_and_exits_with_one(capsys: Capture) -> None:
    assert run("whatif", "-m", "llama-3.1-70b", "--hw", "h100_sxm") == 1
    out, err = capsys.readouterr()
    assert "DOES NOT FIT" in out
    assert err == ("does not fit: h100_sxm: weights and KV exceed their share by 59.8 GiB; "
                   "would fit with --quant fp8 or --tp 2\n")


def test_setting_a_value_does_what_it_says(capsys: Capture) -> None:
    base = asked(capsys, *SAMPLE)
    fast = asked(capsys, *SAMPLE, "--set", "memory.hbm.bandwidth=9.6TB/s")
    ratio = fast["limits"]["decode"]["sol_s"] / base["limits"]["decode"]["sol_s"]
    assert ratio == pytest.approx(0.5)
    assert fast["config"]["set"] == {"memory.hbm.bandwidth": "9.6TB/s"}
    assert "memory.hbm.bandwidth" in fast["assumed"]
    assert fast["metrics"]["ttft_s"]["value"] <= base["metrics"]["ttft_s"]["value"]


def test_a_comparison_is_the_questions_asked_apart(capsys: Capture) -> None:
    both = asked(capsys, *SAMPLE, "--vs", "quant=fp8 kv-cache-dtype=fp8")
    apart = asked(capsys, *SAMPLE), asked(capsys, *SAMPLE, "--quant", "fp8", "--kv-cache-dtype", "fp8")
    assert [x["metrics"] for x in both] == [x["metrics"] for x in apart]
    assert run(*SAMPLE, "--vs", "quant=fp8") == 0
    out = capsys.readouterr().out
    assert "quant=fp8" in out
    assert "what moved" in out
    several = asked(capsys, "whatif", "-m", "phi-2", "--hw", "h200_sxm,t4")
    assert [x["config"]["hardware"] for x in several] == ["h200_sxm", "t4"]


def test_designs_of_units_are_compared_with_their_area_and_what_it_rests_on(capsys: Capture) -> None:
    assert run("whatif", "-m", "llama-2-7b", "--hw", "edge_int_mac,edge_shift,a100_sxm4_80gb,h100_sxm", "--quant", "w2a8") == 0
    out = capsys.readouterr().out
    area = re.split(r"\s{2,}", next(line for line in out.splitlines() if line.strip().startswith("area")).strip())
    assert re.fullmatch(r"1[23](\.\d)? mm2", area[1])
    assert re.fullmatch(r"1[23](\.\d)? mm2 \([+-][01] %\)", area[2])
    assert [re.sub(r" \(6\d(\.\d)? x\)", "", x) for x in area[3:]] == ["826 mm2", "814 mm2"]
    assert "proven       edge_shift: cycles: contract of shift_mac" in out
    assert "synthesised  edge_int_mac: cells" in out
    assert "note         edge_shift: shift_mac does not multiply int8 x int2_g128" in out
    assert run(*SAMPLE, "--vs", "quant=fp8") == 0
    assert "\n area" not in capsys.readouterr().out
    assert run("whatif", "-m", "llama-2-7b", "--hw", "edge_lut", "--quant", "w2a8") == 0
    single = re.split(r"\s{2,}", next(x for x in capsys.readouterr().out.splitlines() if x.startswith(" area")).strip())
    low, high = (float(x.removesuffix(" mm2")) for x in single[2].split(" .. "))
    assert low < float(single[1].removesuffix(" mm2")) < high


@pytest.mark.parametrize(("device", "quant", "better"), [
    ("edge_shift", "pot3", "--quant pot3/int8"), ("edge_lut", "w4a16", "--quant int4_g128/int8"),
    ("edge_lut", "w6a8", "--quant int4_g128/int8"), ("edge_shift", "w2a8", "--quant pot3/int8"),
    ("edge_lut", "w2a8", ""), ("bitmod", "w3", ""), ("a100_lut4x", "w8a8", ""), ("h200_sxm", "w4a16", ""),
])
def test_formats_that_the_arrays_do_not_take_bring_one_that_they_do(capsys: Capture, device: str, quant: str,
                                                                     better: str) -> None:
    assert run("whatif", "-m", "llama-2-7b", "--hw", device, "--quant", quant) == 0
    said = capsys.readouterr().out.rpartition(" try ")[2]
    assert said.strip().startswith(better or "--detail")
    if better:
        hinted = better.removeprefix("--quant ")
        asked(capsys, "whatif", "-m", "llama-2-7b", "--hw", device, "--quant", hinted)
        assert not any(f"x {hinted.partition('/')[0]}" in n for n in answer(resolve(
            Query(model="llama-2-7b", hw=device, quant=hinted))).data["notes"])


def test_one_sequence_is_singular(capsys: Capture) -> None:
    assert run("whatif", "-m", "phi-2", "--hw", "t4") == 0
    assert "one decode step (1 sequence at" in capsys.readouterr().out


def test_elasticities_tell_what_limits(capsys: Capture) -> None:
    data = asked(capsys, *SAMPLE)["elasticity"]
    assert -1 <= data["prefill"]["engine.matrix.rate"] < -0.5
    assert -1 <= data["decode"]["memory.main.bandwidth"] < -0.5
    assert data["decode"]["engine.matrix.rate"] > -0.2
    assert data["decode"]["overhead.launch"] > 0


@pytest.mark.parametrize("detail", ["summary", "memory", "ops", "energy", "source", "all"])
def test_every_detail_prints(capsys: Capture, detail: str) -> None:
    assert run(*SAMPLE, "--detail", detail) == 0
    assert "nan" not in capsys.readouterr().out.lower().replace("nano", "")


@pytest.mark.parametrize(("model", "extra"), [
    ("deepseek-v3", ["--hw", "dgx_h200", "--tp", "8", "--ep", "8"]), ("bert-large-uncased", ["--hw", "t4", "--isl", "512"]),
    ("falcon-mamba-7b", ["--hw", "mi300x"]), ("gpt-oss-120b", ["--hw", "h100_sxm", "--tp", "2"]),
    ("llama-3.1-405b", ["--hw", "dgx_h100_2n", "--tp", "16", "--quant", "fp8"]),
    ("llama-3.1-405b", ["--hw", "dgx_h100_2n", "--tp", "8", "--pp", "2", "--quant", "fp8"]),
    ("Llama-4-Scout-17B-16E-Instruct", ["--hw", "h200_sxm", "--tp", "4", "--dp", "2", "--ep", "8"]),
])
def test_models_of_all_kinds_print(capsys: Capture, model: str, extra: list[str]) -> None:
    assert run("whatif", "-m", model, *extra) == 0
    out, err = capsys.readouterr()
    assert "TTFT" in out
    assert err == ""


@pytest.mark.parametrize(("value", "unit", "text"), [
    (0.0123456, "s", "12.3 ms"), (1.5, "s", "1.5 s"), (4e-6, "s", "4 us"), (3e-10, "s", "0.3 ns"), (12345.6, "", "12,346"),
    (120345.6, "s", "120,346 s"),
    (0.1234567, "J", "0.123 J"), (None, "s", "-"), (math.nan, "W", "-"),
])
def test_figures_have_three_digits_and_a_unit(value: float | None, unit: str, text: str) -> None:
    assert show(value, unit) == text
