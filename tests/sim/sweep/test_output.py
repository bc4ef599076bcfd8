"""Plots and the page of a sweep."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from sim.cli import MissingExtra, cli
from sim.sweep import identity
from sim.sweep import view as views
from sim.sweep.page import sweep_page
from sim.sweep.view import View
from tests.sim.sweep.small import HEAD, text

SWEEP = """[sweep.grid]
"hardware.memory.hbm.bandwidth" = ["2 TB/s", "4 TB/s", "8 TB/s"]
"hardware.memory.l2.capacity" = ["50 MB", "100 MB"]
"workload.concurrency" = [1, 4, 16, 100000]
"""
OBJECTIVES = """
[sweep.objectives]
tokens_per_s_per_gpu = "max"
tpot_s = "min"
area_mm2 = "min"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a finished sweep: 18 feasible points of 24."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "<script>.toml").write_text(text(SWEEP, objectives=OBJECTIVES))
    call(folder, f"run {folder}/<script>.toml -j 1 -o {folder}/run")
    return folder


def call(folder, line):
    result = CliRunner().invoke(cli, ["sweep", *line.split()], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.return_value or 0, result.stdout, result.stderr


def data(html):
    return json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])


def test_the_page_loads_nothing_and_holds_every_point(place):
    _, _, err = call(place, f"page {place}/run")
    assert "18 feasible points" in err
    assert "all are shown. 6 more are infeasible or errors" in err
    html = (place / "run/sweep.html").read_text()
    assert not re.search(r'(src|href)="?(?!#)|url\((?!#)|@import|fetch\(|XMLHttp', html.replace('role="', ""))
    found = data(html)
    assert found["n"] == 18
    assert 0 < found["front"] < 18
    columns = {c["name"]: c for c in found["columns"]}
    assert sorted(set(columns["workload.concurrency"]["values"])) == [1, 4, 16]
    assert columns["hardware.memory.hbm.bandwidth"]["unit"] == "B/s"
    assert columns["area_mm2"]["goal"] == "min"
    speeds = columns["tokens_per_s_per_gpu"]["values"]
    assert speeds[:found["front"]] == sorted(speeds[:found["front"]], reverse=True)
    assert speeds[0] == max(speeds)
    first = re.search(r"<tbody>\s*<tr>(.*?)</tr>", html, re.S)[1]
    assert f'data-v="{speeds[0]:.5g}' in first
    assert "best tokens_per_s_per_gpu" in first
    assert html.count("<tr>") == found["front"] + 1
    assert "best tpot_s" in html
    assert "no changed chip was ever compared" in html
    assert "<h1>Sweep: llama-3.1-8b on h200_sxm</h1>" in html
    assert "&lt;script&gt;.toml" in html


def test_no_name_ends_the_script_early():
    found = View("t", "f", {"a": "min"}, ["p"], {}, {"a": np.array([1.0]), "p": np.array(["</script><b>"])}, ["x"], 1, 1, 0, [])
    html = sweep_page(found)
    assert "</script><b>" not in html
    assert data(html)["columns"][1]["values"] == ["</script><b>"]


def test_the_terminal_says_what_areas_rest_on(place):
    _, out, err = call(place, f"pareto {place}/run")
    assert "±" in out
    assert "after LLMCompass" in err


def test_a_large_sweep_is_thinned_and_it_is_said(place):
    call(place, f"page {place}/run -f {place}/all.html")
    whole = data((place / "all.html").read_text())
    some = whole["front"] + 2
    assert some < 18
    call(place, f"page {place}/run --most {some} -f {place}/few.html")
    few = (place / "few.html").read_text()
    assert (data(few)["n"], data(few)["front"]) == (some, whole["front"])
    assert f"{some} are shown: the front, and others drawn evenly by rank" in few
    call(place, f"page {place}/run --most 3 -f {place}/three.html")
    three = (place / "three.html").read_text()
    assert (data(three)["n"], data(three)["front"]) == (3, 3)
    assert f"18 feasible points, {whole['front']} of them on the front; 3 members of the front are shown" in three


@pytest.mark.parametrize("kind", ["front", "parallel", "heat", "knee"])
def test_each_plot_is_drawn_in_both_forms(place, kind):
    for form, start in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        file = place / f"{kind}.{form}"
        call(place, f"plot {place}/run --kind {kind} -f {file}")
        assert file.read_bytes().startswith(start)
    said = (place / f"{kind}.svg").read_text()
    assert "llama-3.1-8b on h200_sxm" in said
    assert ("knee" in said) == (kind in ("front", "knee"))
    assert ("hbm" in said) == (kind in ("parallel", "heat"))


def test_what_cannot_be_drawn_is_one_line(place, monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"x.pdf: expected a name that ends in .svg or .png"):
        call(place, f"plot {place}/run -f x.pdf")
    one = tmp_path / "one.toml"
    one.write_text(text('[sweep.grid]\n"workload.concurrency" = [1, 2]', objectives='[sweep.objectives]\ntpot_s = "min"'))
    call(place, f"run {one} -j 1 -o {tmp_path}/run")
    with pytest.raises(ValueError, match="one objective has no front to draw"):
        call(place, f"plot {tmp_path}/run -f {tmp_path}/x.svg")
    with pytest.raises(ValueError, match="a heat map needs two axes that vary, found 1"):
        call(place, f"plot {tmp_path}/run -f {tmp_path}/x.svg --kind heat")
    monkeypatch.delitem(sys.modules, "sim.figures", raising=False)
    monkeypatch.delitem(sys.modules, "sim.sweep.figure", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match="plots"):
        call(place, f"plot {place}/run -f {tmp_path}/x.svg")


def test_no_feasible_point_and_stale_rows_are_said(place, tmp_path, monkeypatch):
    strict = text('[sweep.grid]\n"workload.concurrency" = [1, 2]', head=HEAD + 'slo = { tpot = "1 us" }')
    (tmp_path / "x.toml").write_text(strict)
    call(place, f"run {tmp_path}/x.toml -j 1 -o {tmp_path}/run")
    with pytest.raises(ValueError, match="no point is feasible"):
        call(place, f"page {tmp_path}/run")
    monkeypatch.setattr(identity, "code_version", lambda: "other")
    with pytest.raises(ValueError, match="all rows are stale"):
        call(place, f"page {place}/run")
    call(place, f"page {place}/run --stale -f {tmp_path}/x.html")


def test_other_points_are_spread_evenly():
    rows = {"id": np.arange(100), "a": np.arange(100.0)}
    taken = views._others(rows, {"a": "min"}, np.array([0]), 10)
    assert len(taken) == 10
    assert 0 not in taken
    assert np.ptp(np.diff(np.sort(taken))) <= 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium here")
def test_the_page_in_a_browser(place, tmp_path):
    """Marks, lines and cells are drawn, and the address filters them."""
    call(place, f"page {place}/run -f {place}/page.html")

    def dom(address=""):
        return subprocess.run(["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
                               f"--user-data-dir={tmp_path}", "--dump-dom", f"file://{place}/page.html{address}"],
                              capture_output=True, text=True, timeout=120, check=True).stdout

    whole, some = dom(), dom("#f.workload.concurrency=%5B16%5D&x=area_mm2&broken=%7B&f.tpot_s=nonsense")
    assert whole.count("<circle") == 18
    assert "18 of 18 points shown pass the filters" in whole
    assert some.count("<circle") == 6
    assert "6 of 18 points shown pass the filters" in some
    assert len(re.findall(r"<rect ", whole)) == 6            # cells: bandwidth x capacity
    assert 'class="off"' in some
    assert 'class="off"' not in whole
