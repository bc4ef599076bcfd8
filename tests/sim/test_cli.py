"""The command line as people hit it: bad input is one line that helps, results are clean, origins are told."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sim.cli import main
from workloads.registry import load_config

LLAMA = ["whatif", "-m", "llama-3.1-8b", "--hw", "h200_sxm"]
Capture = pytest.CaptureFixture[str]


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    return int(stop.value.code or 0)


def refused(capsys: Capture, *args: str) -> str:
    """The one line of an error; asserts that it is one, that stdout is clean and that the exit code is 2."""
    code = run(*args)
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(("args", "message"), [
    (["whatif", "-m", "llama-3.1-9b", "--hw", "h200_sxm"],
     "unknown model 'llama-3.1-9b'. Did you mean meta-llama/Llama-3.1-8B"),
    (["whatif", "-m", "", "--hw", "h200_sxm"], "unknown model ''"),
    (["whatif", "-m", "llama-3.1-8b", "--hw", "h100"], "unknown hardware 'h100'. Did you mean h100_sxm or h100_pcie?"),
    (["whatif", "-m", "llama-3.1-8b", "--hw", ""], "--hw: names no device"),
    (["whatif", "-m", "llama-3.1-8b", "--hw", " , "], "--hw: names no device"),
    (["whatif", "-m", "llama-3.1-8b", "--hw", "0x h100_sxm"], "0x h100_sxm: at least one device"),
    (["whatif", "-m", "llama-3.1-8b"], "Missing option '--hw'"),
    (["whatif", "--hw", "h200_sxm"], "Missing option '-m'"),
    (["whatiff"], "unknown command 'whatiff'. Did you mean whatif?"),
    (["fit", "-m", "llama-3.1-8b", "--hw", "nvme_pcie4"], "nvme_pcie4: memory.flash.capacity: not known; set it"),
    (["whatif", "-m", "llama-3.1-8b", "--hw", "ufs_4_0"], "ufs_4_0: no engine rate for bf16"),
    (["whatif", "-m", "llama-3.1-8b", "--hw", "cambricon_llm_s"],
     "cambricon_llm_s: no engine rate for bf16 or anything wider; it has int8"),
    (["model", "show", "mixtrall-8x7b"], "unknown model 'mixtrall-8x7b'. Did you mean mistralai/Mixtral-8x7B"),
])
def test_names_that_nobody_knows(capsys: Capture, args: list[str], message: str) -> None:
    assert message in refused(capsys, *args)


@pytest.mark.parametrize(("args", "message"), [
    (["--set", "memory.hbm.bandwidth=6TB"], "memory.hbm.bandwidth: '6TB': 'TB' is a unit of bytes; expected bytes/s"),
    (["--set", "memory.hbm.bandwith=6TB/s"], "no parameter 'memory.hbm.bandwith'; nearest: memory.hbm.bandwidth"),
    (["--set", "memory.hbm.bandwidth=-6TB/s"], "memory.hbm.bandwidth: '-6TB/s': negative"),
    (["--set", "memory.hbm.bandwidth=nan"], "'nan': not a number with a unit"),
    (["--set", "memory.hbm.bandwidth=0"], "memory.hbm.bandwidth: must be above 0"),
    (["--set", "engine.matrix.units=0"], "engine.matrix.units: must be above 0"),
    (["--set", "engine.matrix.rate.bf16=0"], "rate.bf16: must be above 0"),
    (["--set", "power.tdp=0"], "power.tdp: must be above 0"),
    (["--set", "foo"], "--set 'foo': expected KEY=VALUE"),
    (["--set", "=3"], "--set '=3': expected KEY=VALUE"),
    (["--set", "model.num_hidden_layer=3"], "has no key 'num_hidden_layer'; nearest: num_hidden_layers"),
    (["--set", "model.num_hidden_layers=0"], "num_hidden_layers: found 0, expected a whole number >= 1"),
    (["--set", "model.num_hidden_layers=--4"], "--set model.num_hidden_layers: expected a whole number, got '--4'"),
    (["--set", "model.num_hidden_layers=1e99"], "expected a whole number, got '1e99'"),
    (["--set", "model.tie_word_embeddings=maybe"], "expected true or false, got 'maybe'"),
    (["--set", "model.nothing.deep=1"], "has no section 'nothing'"),
    (["--set", "model.hidden_size=1000"], "num_attention_heads: found 32, expected a divisor of hidden_size = 1000"),
    (["--vs", "foo=3"], "no parameter 'foo'; nearest:"),
    (["--vs", "foo"], "--vs 'foo': expected KEY=VALUE"),
    (["--vs", ""], "--vs '': expected KEY=VALUE"),
    (["--vs", "quant='fp8"], "No closing quotation"),
    (["--vs", "bs=x"], "bs: expected a whole number, got 'x'"),
    (["--vs", "hw=h100"], "unknown hardware 'h100'"),
    (["--bs", "0"], "batch: must be a whole number of at least 1, got 0"),
    (["--bs", "1.5"], "'1.5' is not a valid integer"),
    (["--isl", "-1"], "isl: must be a whole number of at least 1, got -1"),
    (["--osl", "0"], "osl: must be a whole number of at least 1, got 0"),
    (["--prefix", "1024"], "prefix: must be at least 0 and below isl, got 1024 with isl 1024"),
    (["--isl", "131072", "--osl", "10"], "isl + osl: 131082 tokens exceed the 131072"),
    (["--gpu-memory-utilization", "nan"], "gpu-memory-utilization: must be in (0, 1], got nan"),
    (["--tp", "0"], "tp: must be at least 1, got 0"),
    (["--tp", "3"], "tp: 3 does not divide the 32 attention heads"),
    (["--tp", "16"], "16x h200_sxm: its nvlink joins 8 devices"),
    (["--ep", "2"], "has no routed experts"),
    (["--quant", "w9a16"], "unknown scheme 'w9a16'; did you mean W8A16"),
    (["--kv-cache-dtype", "fp9"], "unknown number format 'fp9'; did you mean"),
    (["--format", "xml"], "'xml' is not one of 'table', 'json', 'csv', 'md'"),
    (["--hwe"], "No such option '--hwe'"),
])
def test_values_that_cannot_be(capsys: Capture, args: list[str], message: str) -> None:
    assert message in refused(capsys, *LLAMA, *args)


@pytest.mark.parametrize(("content", "message"), [
    ("", "config.json: line 1, column 1"),
    ('{"model_type": "llama", "hidden_si', "config.json: line 1, column"),
    ("[1, 2]", "config.json: found a list, expected a JSON object"),
    ("[" * 100_000, "config.json: "),
    ({"hidden_size": float("nan")}, "hidden_size: found nan, expected a whole number"),
    ({"hidden_size": float("inf")}, "hidden_size: found inf"),
    ({"hidden_size": -4096}, "hidden_size: found -4096"),
    ({"hidden_size": 10**30}, "hidden_size: found 1000"),
    ({"hidden_size": None}, "hidden_size: missing"),
    ({"num_attention_heads": True}, "num_attention_heads: found True"),
    ({"num_attention_heads": [32]}, "num_attention_heads: found [32]"),
    ({"num_hidden_layers": "32 layers"}, "num_hidden_layers: found '32 layers'"),
])
def test_configs_that_are_broken(tmp_path: Path, capsys: Capture, content: object, message: str) -> None:
    path = tmp_path / "config.json"
    if isinstance(content, dict):
        content = json.dumps({**load_config("llama-3.1-8b").config, **content})
    path.write_text(str(content))
    for given in (path, tmp_path):
        assert message in refused(capsys, "whatif", "-m", str(given), "--hw", "h200_sxm")


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path, capsys: Capture) -> None:
    with (tmp_path / "config.json").open("wb") as f:
        f.truncate(2 * 2**30)                               # sparse
    assert "found 2147483648 bytes" in refused(capsys, "whatif", "-m", str(tmp_path), "--hw", "h200_sxm")


def test_paths_that_hold_nothing(tmp_path: Path, capsys: Capture) -> None:
    assert "a directory without a config.json" in refused(capsys, "whatif", "-m", str(tmp_path), "--hw", "h200_sxm")
    assert "no such file" in refused(capsys, "whatif", "-m", str(tmp_path / "no.json"), "--hw", "h200_sxm")
    assert "no such file" in refused(capsys, "whatif", "-m", "llama-3.1-8b", "--hw", str(tmp_path / "no.toml"))
    assert "Is a directory" in refused(capsys, "whatif", "-m", "llama-3.1-8b", "--hw", f"{tmp_path}/")
    (tmp_path / "bad.toml").write_text("name =\n")
    bad = str(tmp_path / "bad.toml")
    assert "bad.toml: not valid TOML" in refused(capsys, "whatif", "-m", "llama-3.1-8b", "--hw", bad)


def test_no_command_shows_the_help(capsys: Capture) -> None:
    for args in ([], ["model"], ["hw"]):
        assert run(*args) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("Usage: perfboard")
        assert "error" not in err.splitlines()[0]


def test_help_lists_every_command_by_group_without_loading_any(capsys: Capture) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    for word in ("Ask:", "Data:", "whatif", "predict", "model", "PERFBOARD_ISL=2048"):
        assert word in text
    script = ("import sys\nfrom sim.cli import main\n"
              "try: main(['--help'])\nexcept SystemExit: pass\n"
              "heavy = ('numpy', 'pydantic', 'scipy', 'simpy', 'matplotlib')\n"
              "print([m for m in heavy if m in sys.modules], file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_version(capsys: Capture) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("perfboard, version ")


# -- forms -------------------------------------------------------------------------------------------------------------

def _never(_: str) -> None:
    raise AssertionError("NaN or infinity in JSON")


@pytest.mark.parametrize("args", [
    LLAMA, ["whatif", "-m", "llama-3.1-8b", "--hw", "tpu_v5p"], [*LLAMA, "--vs", "quant=fp8"],
    ["whatif", "-m", "llama-3.1-70b", "--hw", "t4"], [*LLAMA, "--show-config"],
    ["fit", "-m", "llama-3.1-8b", "--hw", "h200_sxm,t4"], ["model", "list"], ["model", "show", "deepseek-v3"],
    ["hw", "list"], ["doctor"],
])
def test_json_is_all_there_is_on_stdout(capsys: Capture, args: list[str]) -> None:
    assert run(*args, "--format", "json") in (0, 1)
    json.loads(capsys.readouterr().out, parse_constant=_never)


@pytest.mark.parametrize("args", [LLAMA, [*LLAMA, "--vs", "bs=8"], ["fit", "-m", "phi-2", "--hw", "t4"],
                                  ["model", "list"]])
def test_csv_and_markdown_are_rectangular(capsys: Capture, args: list[str]) -> None:
    assert run(*args, "--format", "csv") == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) > 1
    assert len({len(r) for r in rows}) == 1
    assert run(*args, "--format", "md") == 0
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    assert len({line.count("|") for line in lines}) == 1
    assert lines[1].startswith("|---|")


def _shell(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PERFBOARD", "NO_COLOR", "FORCE_COLOR"))}
    return subprocess.run([sys.executable, "-m", "sim.cli", *args], capture_output=True, text=True, env=clean | env,
                          check=False)


def test_colour_is_for_terminals_that_want_it() -> None:
    assert "\x1b[" in _shell(*LLAMA, FORCE_COLOR="1").stdout
    assert "\x1b[3" not in _shell(*LLAMA, FORCE_COLOR="1", NO_COLOR="1").stdout
    assert "\x1b[" not in _shell(*LLAMA).stdout


def test_a_closed_pipe_is_no_error() -> None:
    line = f"{sys.executable} -m sim.cli model list --format csv | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("model,family,")
    assert "Traceback" not in done.stderr


# -- where a value comes from ------------------------------------------------------------------------------------------

def test_a_flag_wins_over_the_environment_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch,
                                                                    capsys: Capture) -> None:
    for name, value in {"PERFBOARD_MODEL": "llama-3.1-8b", "PERFBOARD_HW": "h200_sxm", "PERFBOARD_ISL": "2048",
                        "PERFBOARD_BATCH_SIZE": "64", "PERFBOARD_FORMAT": "json"}.items():
        monkeypatch.setenv(name, value)
    assert run("whatif", "--osl", "512", "--isl", "4096", "--show-config") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["isl"] == {"value": "4096", "origin": "flag"}
    assert told["batch"] == {"value": "64", "origin": "environment"}
    assert told["hw"] == {"value": "h200_sxm", "origin": "environment"}
    assert told["prefix"] == {"value": "0", "origin": "built-in"}
    assert run("whatif", "--osl", "512") == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["batch"], config["isl"], config["osl"]) == (64, 2048, 512)


def test_a_bad_value_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("PERFBOARD_ISL", "long")
    assert "'long' is not a valid integer" in refused(capsys, *LLAMA)


def test_an_interrupt_has_its_own_code(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sim.commands.whatif.answer", stop)
    assert run(*LLAMA) == 130
    assert capsys.readouterr().err.strip() == "error: interrupted"
