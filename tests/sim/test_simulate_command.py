"""``perfboard simulate`` and ``perfboard tasks``: what they print and write, how they refuse, and how they stop."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from sim import cli as command_line
from sim import schedule_text
from sim.cli import cli
from sim.output import as_table
from sim.techniques import TECHNIQUES
from tests.sim.test_timeline import read

HERE = ["simulate", "-m", "llama-2-7b", "--hw", "pc_low", "--isl", "128"]
SPLIT = [*HERE, "-t", "offload:via=there,layers=22", "-t", "offload:to=flash,layers=30"]


def call(*args: str) -> Result:
    return CliRunner().invoke(cli, list(args), standalone_mode=False)


def fails(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str]:
    """Exit code and the one line on stderr."""
    with pytest.raises(SystemExit) as stop:
        command_line.main(list(args))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return int(stop.value.code or 0), err.strip()


# -- what it prints ---------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def table() -> str:
    result = call(*SPLIT)
    assert result.return_value == 0
    return result.stdout


@pytest.mark.parametrize("text", [
    "meta-llama/Llama-2-7b-hf on pc_low · decode · batch 1 · prompt 128 · output 128 · 4 steps, 288 tasks",
    "plan     offload:via=there,layers=22 → offload:to=flash,layers=30", "vram     weights 8.78", "GiB of 11.0",
    "flash    weights 0.75 GiB\n", "TPOT", "80 % interval", "Events and closed form", "nothing contends", "one after another",
    "physical limit", "Critical path of a step", "copy flash>dram   weights", "Resources in a step", "bubbles", "GB/s", "try "])
def test_the_table_says(table: str, text: str) -> None:
    assert text in table


@pytest.mark.parametrize("width", [100, 160])
def test_nothing_is_wrapped_on_a_terminal_of(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.commands.simulate.console", lambda: Console(width=width, highlight=False))
    lines = call(*SPLIT).stdout.splitlines()
    assert max(map(len, lines)) <= width
    wide = call(*SPLIT).stdout.splitlines()
    assert len(lines) == len(wide)


def test_data(tmp_path: Path) -> None:
    data = json.loads(call(*SPLIT, "--format", "json").stdout)
    assert data["schema"] == "perfboard/simulation/1"
    assert data["complete"]
    assert data["config"]["techniques"] == ["offload:via=there,layers=22", "offload:to=flash,layers=30"]
    m, c = data["metrics"]["tpot_s"], data["closed_form"]
    assert m["lo"] < m["value"] < m["hi"]
    assert c["lower_bound_s"] <= m["value"] * (1 + 1e-9) <= c["serial_s"]
    assert sum(x["time_s"] for x in data["chain_s"]) == pytest.approx(m["value"])
    assert {x["name"] for x in data["resources"]} >= {"gpu", "cpu", "flash", "copy flash>dram"}
    rows = call(*SPLIT, "--format", "csv").stdout.splitlines()
    assert rows[0] == "metric,value,lo,hi"
    assert float(rows[1].split(",")[1]) == pytest.approx(m["value"])
    assert call(*SPLIT, "--format", "md").stdout.startswith("| metric | value | lo | hi |")


def test_techniques_are_listed_each_with_its_settings() -> None:
    out = call("simulate", "--techniques").stdout
    for name, technique in TECHNIQUES.items():
        line = next(x for x in out.splitlines() if x.startswith(f" {name} "))
        assert technique.stage in line
        assert all(setting in out for setting in technique.model_fields)


# -- files ------------------------------------------------------------------------------------------------------------

def test_timeline_and_figure(tmp_path: Path) -> None:
    result = call(*SPLIT, "--timeline", str(tmp_path / "t.json"), "--figure", str(tmp_path / "f.svg"))
    assert result.return_value == 0
    assert f"timeline: {tmp_path / 't.json'}; open it at ui.perfetto.dev" in result.stderr
    assert ("rtx_2080_ti", "gpu") in read(tmp_path / "t.json").tracks
    figure = (tmp_path / "f.svg").read_text(encoding="utf-8")
    for text in ("Llama-2-7b-hf on pc_low", "gpu", "cpu", "flash", "copy flash&gt;dram", "time [ms]", "mixer", "weights",
                 "rtx_2080_ti", "in use for less than 0.2 % of the time: pcie gpu&gt;cpu"):
        assert text in figure
    assert call(*SPLIT, "--figure", str(tmp_path / "f.png")).return_value == 0
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_no_figure_and_it_is_said_before_anything_runs(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "sim.figures", raising=False)
    monkeypatch.delitem(sys.modules, "sim.timeline_figure", raising=False)
    code, error = fails(capsys, *SPLIT, "--figure", str(tmp_path / "f.svg"), "--timeline", str(tmp_path / "t.json"))
    assert (code, list(tmp_path.iterdir())) == (4, [])
    assert "perfboard[plots]" in error


# -- bad input --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("code", "args", "message"), [
    (1, [], "do not fit in 11.00 GiB (weights 12.55"),
    (1, ["-t", "run_on:engine=cpu", "--set", "model.num_hidden_layers=300"], "does not fit: dram of pc_low"),
    (2, ["-t", "offlod"], "unknown technique 'offlod'; nearest: offload"),
    (2, ["-t", "offload:vi=there"], "technique offload: vi: unknown key (did you mean 'via'?)"),
    (2, ["-t", "offload:via"], "technique offload: expected key=value, found 'via'"),
    (2, ["-t", "offload:to=vrom"], "pc_low: no memory 'vrom'; it has vram, dram, flash (did you mean 'vram'?)"),
    (2, ["-t", "run_on:engine=npu"], "pc_low: no engine 'npu'; it has gpu, cpu"),
    (2, ["-t", "offload:share=1.5"], "technique offload: share: input should be less than or equal to 1, found '1.5'"),
    (2, ["--set", "memory.gddr.bandwidth=0"], "rtx_2080_ti: memory.gddr.bandwidth: must be above 0"),
    (2, ["--set", "memory.gddr.bandwidth=-3 GB/s"], "memory.gddr.bandwidth: '-3 GB/s': negative"),
    (2, ["--steps", "-1"], "Invalid value for '--steps': -1"),
    (2, ["--tp", "2"], "simulate: one device of each part of a system, found tp 2"),
    (2, ["--hw", "pc_low,pc_high"], "--hw: simulate takes one system, found 2: pc_low, pc_high"),
    (2, ["--timeline", "t.html"], "--timeline t.html: ending .html, expected one of .pftrace, .json, .json.gz"),
    (2, ["--timeline", "nowhere/t.json"], "--timeline nowhere/t.json: there is no folder nowhere"),
    (2, ["--figure", "f.pdf"], "--figure f.pdf: ending .pdf, expected one of .svg, .png"),
    (2, ["--phase", "decod"], "Invalid value for '--phase'"),
])
def test_bad_input_is_one_line_and_writes_nothing(code: int, args: list[str], message: str, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    outputs = [] if "--timeline" in args else ["--timeline", "out.pftrace"]
    found, error = fails(capsys, *HERE, *outputs, *args)
    assert message in error
    assert (found, list(tmp_path.iterdir())) == (code, [])


# -- task graphs ------------------------------------------------------------------------------------------------------

def graph() -> dict[str, Any]:
    """Two products that wait for their loads over one bus, in room for one of them."""
    tasks: list[dict[str, Any]] = []
    for i in (0, 1):
        tasks += [{"name": f"multiply {i}", "engines": ["core"], "time": "80 us", "after": [f"load {i}"],
                   "gives": {"room": "1 MB"}},
                  {"name": f"load {i}", "flows": [{"nbytes": "1 MB", "over": ["bus"]}], "takes": {"room": "1 MB"}}]
    return {"resources": [{"name": "core", "kind": "engine", "group": "chip"},
                          {"name": "bus", "kind": "shared", "amount": "20 GB/s"},
                          {"name": "room", "kind": "buffer", "amount": "1 MB"}], "tasks": tasks}


def saved(content: object, tmp_path: Path) -> str:
    path = tmp_path / "graph.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_a_task_graph_in_any_order(tmp_path: Path) -> None:
    path = saved(graph(), tmp_path)
    data = json.loads(call("tasks", path, "--format", "json").stdout)
    assert [(t["name"], t["start_s"], t["end_s"]) for t in data["tasks"]] == [
        ("load 0", 0, pytest.approx(50e-6)), ("multiply 0", pytest.approx(50e-6), pytest.approx(130e-6)),
        ("load 1", pytest.approx(130e-6), pytest.approx(180e-6)), ("multiply 1", pytest.approx(180e-6), pytest.approx(260e-6))]
    assert data["makespan_s"] == pytest.approx(260e-6)
    assert data["closed_form"] == {
        "without_contention_s": pytest.approx(130e-6), "lower_bound_s": pytest.approx(160e-6),
        "serial_s": pytest.approx(260e-6), "critical_path": ["load 0", "multiply 0"]}
    assert sum(x["time_s"] for x in data["chain_s"]) == pytest.approx(260e-6)
    table = call("tasks", path).stdout
    for text in ("graph.json · 4 tasks on 3 resources", "simulated            260 us", "Critical path of the run", "61.5 %"):
        assert text in table
    assert call("tasks", path, "--format", "csv").stdout.splitlines()[0] == "task,ready_s,start_s,end_s"


def test_a_task_graph_has_a_timeline_and_a_figure(tmp_path: Path) -> None:
    files = "--timeline", str(tmp_path / "t.pftrace"), "--figure", str(tmp_path / "f.svg")
    result = call("tasks", saved(graph(), tmp_path), *files)
    assert result.return_value == 0
    assert [s[0] for s in read(tmp_path / "t.pftrace").tracks["chip", "core"]] == ["multiply 0", "multiply 1"]
    assert "core" in (tmp_path / "f.svg").read_text(encoding="utf-8")


def with_task(**changes: Any) -> dict[str, Any]:
    g = graph()
    g["tasks"][0] |= changes
    return g


def with_resource(i: int, **changes: Any) -> dict[str, Any]:
    g = graph()
    g["resources"][i] |= changes
    return g


@pytest.mark.parametrize(("content", "message"), [
    (with_task(after=["multiply 1"]) | {"tasks": [*with_task(after=["multiply 1"])["tasks"][:2],
                                                  *({**t, "after": ["multiply 0"]} for t in graph()["tasks"][2:3])]},
     "tasks wait for each other in a circle: 'multiply 0' after 'multiply 1' after 'multiply 0'"),
    (with_task(after=["multiply 0"]), "in a circle: 'multiply 0' after 'multiply 0'"),
    (with_task(after=["load 7"]), "task 'multiply 0': after: there is no task 'load 7' (did you mean 'load 1'?)"),
    (with_task(name="load 0"), "task 'load 0': named twice"),
    (with_task(engines=["cor"]), "engines: no engine resource 'cor'; nearest: core"),
    (with_task(engines=["bus"]), "engines: no engine resource 'bus'"),
    (with_task(flows=[{"nbytes": 1, "over": ["busy"]}]), "flow: no shared resource 'busy'; nearest: bus"),
    (with_task(time="-80 us"), "task 'multiply 0': time: '-80 us': negative"),
    (with_task(delay=-1), "task 'multiply 0': delay: -1.0: negative"),
    (with_task(time="80 GB"), "task 'multiply 0': time: '80 GB'"),
    (with_task(flows=[{"nbytes": "1 MB", "over": []}]), "each crosses at least one resource"),
    (with_task(flows=[{"nbytes": "1 MB", "over": ["bus"], "cap": 0}]), "a cap above 0"),
    (with_task(takes={"room": "2 MB"}), "wants 2e+06 of 'room', which holds 1e+06"),
    (with_task(takes={"room": "1 MB"}), "waits for ever for 1e+06 of 'room'"),
    (with_task(gives={"room": "1 MB", "rom": 1}), "no buffer resource 'rom'; nearest: room"),
    (with_task(tme=3), "tasks.0.tme: unknown key (did you mean 'time'?)"),
    (with_resource(1, amount=0), "resource 'bus': amount must be a rate [B/s] above 0, found 0"),
    (with_resource(1, amount="-1 GB/s"), "resource 'bus': amount: '-1 GB/s': negative"),
    (with_resource(0, amount=1.5), "resource 'core': amount must be a whole number of servers above 0, found 1.5"),
    (with_resource(0, kind="motor"), "resources.0.kind: input should be 'engine', 'shared' or 'buffer', found 'motor'"),
    (with_resource(0, name="bus"), "resource 'bus': named twice"),
    ({"resources": [], "tasks": []}, "tasks: tuple should have at least 1 item"), ({"tasks": []}, "resources: missing"),
    ("[1, 2", "not JSON"), ("[1, 2]", "input should be a valid dictionary"),
])
def test_bad_task_graphs_are_one_line(content: object, message: str, tmp_path: Path,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(content, tmp_path)
    code, error = fails(capsys, "tasks", path, "--timeline", str(tmp_path / "t.json"))
    assert message in error
    assert error.startswith("error: ")
    assert path in error or "waits for ever" in error
    assert (code, [p.name for p in tmp_path.iterdir()]) == (2, ["graph.json"])


def test_the_schema_of_task_graphs() -> None:
    schema = json.loads(call("schema", "tasks").stdout)
    assert set(schema["properties"]) == {"resources", "tasks"}
    assert "engines" in schema["$defs"]["TaskEntry"]["properties"]


# -- progress and interruption ----------------------------------------------------------------------------------------

def test_progress_on_a_terminal_after_a_while(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    progress = schedule_text.Progress(("schedule", "slower"))
    progress(10, 100)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(schedule_text, "PATIENCE", 0.0)
    progress(50, 100)
    progress(20, 100)
    progress.close()
    err = capsys.readouterr().err
    assert "schedule: 50 of 100, 0 s" in err
    assert "slower: 20 of 100" in err
    assert "\n" not in err


def test_progress_is_rare_where_nobody_watches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(schedule_text, "PATIENCE", 0.0)
    progress = schedule_text.Progress(("schedule",))
    for n in range(100):
        progress(n, 100)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(schedule_text, "BETWEEN", 0.0)
    progress(100, 100)
    progress.close()
    assert capsys.readouterr().err == "schedule: 100 of 100, 0 s\n"


STOPPED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)         # a job in the background ignores it
import sim.kernel, sim.schedule_text as text
sim.kernel.REPORT, text.PATIENCE, text.BETWEEN = {report}, 0.0, 0.0

class Waits(text.Progress):
    def __call__(self, done, total):
        super().__call__(done, total)
        sys.stderr.flush()
        if self.stages[self.at] == "tasks":
            time.sleep(60)

text.Progress = Waits
from sim.cli import main
main({args!r})
"""


def stopped(args: list[str], report: int) -> tuple[int, str, str]:
    """Run a command in its own process, press Ctrl-C when it first reports tasks that ended; exit code, stdout and stderr."""
    p = subprocess.Popen([sys.executable, "-c", STOPPED.format(args=args, report=report)], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    assert p.stderr is not None
    assert any("tasks: " in line for line in p.stderr)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    return p.returncode, out, err


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    code, out, err = stopped([*HERE, "-t", "offload", "--steps", "30", "--format", "json", "--timeline", str(path)], 500)
    assert code == 130
    assert "Traceback" not in err
    data = json.loads(out)
    assert not data["complete"]
    assert data["metrics"]["tpot_s"]["value"] > 0
    assert data["metrics"]["tpot_s"]["lo"] is None
    last = err.strip().splitlines()[-1]
    assert last.startswith("interrupted: ")
    assert last.endswith("of 30 steps had ended; the figures are of these steps")
    done = int(last.split(" and ")[1].split(" ")[0])
    assert 1 < done < 30
    assert len(read(path).marks) == done
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_before_a_step_has_ended(tmp_path: Path) -> None:
    graph = {"resources": [{"name": "core", "kind": "engine"}],
             "tasks": [{"name": str(i), "engines": ["core"], "time": 1} for i in range(2_000)]}
    code, out, err = stopped(["tasks", saved(graph, tmp_path), "--format", "csv"], 500)
    assert code == 130
    rows = out.splitlines()
    assert 500 < len(rows) < 2_000
    assert err.strip().endswith(f"interrupted: {len(rows) - 1:,} of 2,000 tasks had ended")


def test_ctrl_c_in_the_last_run_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sim.trace_figures.sample", stop)             # there it finds the physical limit
    result = call(*SPLIT)
    assert result.return_value == 130
    assert result.stderr == "interrupted: the physical limit is missing\n"
    assert "TPOT" in result.stdout


def test_tables_of_nothing_are_tables() -> None:
    assert as_table(("a",), ()).row_count == schedule_text.uses_table((), "a step").row_count == 0
    assert schedule_text.waits_table({}, "a step").row_count == 0
