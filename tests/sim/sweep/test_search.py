"""Search over the store: found again from its seed, nothing computed twice, better than chance."""

import sys

import numpy as np
import pytest

from sim.cli import MissingExtra
from sim.commands import sweep as command
from sim.sweep import search as searching
from sim.sweep.executors import Here
from sim.sweep.front import front
from sim.sweep.run import Run, read
from tests.sim.sweep.small import text

optuna = pytest.importorskip("optuna")

AXES = """[sweep.range]
"hardware.memory.hbm.bandwidth" = { from = "1 TB/s", to = "10 TB/s", scale = "log" }
"hardware.engine.matrix.units" = { from = 20, to = 200, integer = true }
"workload.concurrency" = { from = 1, to = 500, scale = "log" }
[sweep.grid]
"model.quant" = ["", "fp8"]
"hardware.memory.l2.capacity" = ["25 MB", "50 MB", "200 MB"]
"""
OBJECTIVES = '\n[sweep.objectives]\ntokens_per_s_per_gpu = "max"\narea_mm2 = "min"\n'


def experiment(method="nsga2", trials=200, seed=1, more=""):
    return text(AXES + f'[sweep.search]\nmethod = "{method}"\ntrials = {trials}\nseed = {seed}\n{more}', objectives=OBJECTIVES)


def run(path, monkeypatch, **parts):
    """Progress, how many points were computed, and the objectives of feasible points in the order of being stored."""
    given = experiment(**parts)
    counted = []
    plain = searching.evaluate
    monkeypatch.setattr(searching, "evaluate", lambda task: counted.append(len(task.keys)) or plain(task))
    with Run(read(given, "x.toml"), given, path) as work:
        progress = searching.search(work, Here())
        rows = work.store.load(["tokens_per_s_per_gpu", "area_mm2"], status="ok")
    monkeypatch.undo()
    return progress, sum(counted), rows


def volume(rows):
    """Area that the front dominates, below 3000 mm2 and above 0 tokens/s."""
    places = front(rows, {"tokens_per_s_per_gpu": "max", "area_mm2": "min"})
    speed, area = rows["tokens_per_s_per_gpu"][places], rows["area_mm2"][places]
    order = np.argsort(area)
    edges = np.append(area[order], 3000.0)
    return float(np.sum(np.maximum.accumulate(speed[order]) * np.diff(edges)))


def test_a_search_is_played_again_and_goes_on(tmp_path, monkeypatch):
    part, computed, _ = run(tmp_path / "a.sqlite", monkeypatch, trials=100)
    assert (part.total, part.done + part.before) == (100, 100)
    assert computed == part.done <= 100
    whole, more, rows = run(tmp_path / "a.sqlite", monkeypatch, trials=200)
    assert whole.before >= 100
    assert computed + more < 205
    _, at_once, same = run(tmp_path / "b.sqlite", monkeypatch, trials=200)
    assert at_once == computed + more
    assert sorted(rows["area_mm2"]) == sorted(same["area_mm2"])
    again, none, _ = run(tmp_path / "b.sqlite", monkeypatch, trials=200)
    assert (again.done, none) == (0, 0)


def test_it_finds_more_than_chance(tmp_path, monkeypatch):
    _, n, rows = run(tmp_path / "a.sqlite", monkeypatch, method="tpe", trials=80)
    given = text(AXES + f'[sweep.sample]\nmethod = "random"\nn = {n}\n', objectives=OBJECTIVES)
    with Run(read(given, "x.toml"), given, tmp_path / "b.sqlite") as work:
        work.go(Here())
        chance = work.store.load(["tokens_per_s_per_gpu", "area_mm2"], status="ok")
    assert volume(rows) > 1.02 * volume(chance)


def test_tpe_and_constraints(tmp_path, monkeypatch):
    """Points outside of constraints on parameters are never computed; of those on figures the search keeps away."""
    limits = '[sweep]\nconstraints = ["hardware.engine.matrix.units <= 150", "area_mm2 <= 700"]\n'
    progress, computed, rows = run(tmp_path / "a.sqlite", monkeypatch, method="tpe", trials=40, more=limits)
    assert progress.total == 40
    assert computed < 40
    assert (rows["area_mm2"] <= 700).all()
    assert len(rows["area_mm2"]) > 10


@pytest.mark.parametrize(("method", "part", "extra"), [("nsga2", "optuna", "sweep"), ("gp", "torch", "gp")])
def test_what_is_missing_names_its_extra(tmp_path, monkeypatch, method, part, extra):
    monkeypatch.setitem(sys.modules, part, None)
    (tmp_path / "x.toml").write_text(experiment(method=method))
    place = command.place_of(tmp_path / "x.toml", str(tmp_path / "run"))
    with pytest.raises(MissingExtra, match=rf"perfboard\[{extra}\]") as error:
        command._go(place, 1, "", "")
    assert error.value.exit_code == 4


@pytest.mark.parametrize(("more", "wanted"), [
    ('[sweep.sample]\nn = 4', r"either \[sweep.sample\] or \[sweep.search\]"),
    ('trails = 4', "trails"),
])
def test_bad_input_is_one_line(more, wanted):
    with pytest.raises(ValueError, match=wanted) as error:
        read(experiment(more=more), "x.toml")
    assert "\n" not in str(error.value)


def test_a_search_has_no_shards(tmp_path):
    (tmp_path / "x.toml").write_text(experiment())
    with pytest.raises(ValueError, match="a search has none"):
        command._go(command.place_of(tmp_path / "x.toml", str(tmp_path / "run")), 1, "1/2", "")


def test_axes_keep_their_kinds():
    made = read(experiment(), "x.toml")
    shapes = {a.name: searching._shape(a) for a in made.axes}
    assert isinstance(shapes["model.quant"], optuna.distributions.CategoricalDistribution)
    assert isinstance(shapes["hardware.memory.l2.capacity"], optuna.distributions.IntDistribution)
    assert shapes["workload.concurrency"] == optuna.distributions.IntDistribution(1, 500, log=True)
    assert shapes["hardware.memory.hbm.bandwidth"].log
