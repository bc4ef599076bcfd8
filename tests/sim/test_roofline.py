"""Points lie under their ceilings and are made of the ops' own work; every form is written and reads back."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sim.answer import Answer, answer
from sim.cli import MissingExtra, cli, main
from sim.commands import roofline as command
from sim.commands.roofline import WIDTH, plot
from sim.query import Query, resolve
from sim.roofline import SCHEMA, VECTOR, Roofline, hover, roofline
from tests.sim.html_checks import check_page
from workloads.work import work

ASK = ["-m", "llama-3.1-8b", "--hw", "h200_sxm", "--bs", "64", "--isl", "2048", "--osl", "512"]
CASES = {
    "dense": Query(model="llama-3.1-8b", hw="h200_sxm", batch=64, isl=2048, osl=512),
    "fp8": Query(model="llama-3.1-8b", hw="h100_sxm", batch=8, quant="fp8"),
    "weight-only, cached": Query(model="llama-3.1-8b", hw="rtx_4090", quant="w4a16"),
    "lookups": Query(model="llama-2-7b", hw="edge_lut", quant="w2a8"),
    "terms, a long title": Query(model="llama-2-7b", hw="bitmod", quant="w3"),
    "experts, split": Query(model="mixtral-8x7b-v0.1", hw="4x h100_sxm", batch=16, tp=4),
}


@pytest.fixture(scope="module")
def asked() -> dict[str, tuple[Answer, Roofline]]:
    answers = {name: answer(resolve(q), elasticities=False) for name, q in CASES.items()}
    return {name: (a, roofline(a)) for name, a in answers.items()}


@pytest.mark.parametrize("case", CASES)
def test_points_lie_under_their_ceilings(asked: dict[str, tuple[Answer, Roofline]], case: str) -> None:
    data = asked[case][1]
    fastest = max(c.rate for c in data.of("memory"))
    rate = {c.name: c.rate for c in data.of("compute")}
    for p in data.points:
        assert p.flop_per_s <= p.roof_flop_per_s * (1 + 1e-6), p.op
        assert p.flop_per_s <= rate[p.compute] * (1 + 1e-6), p.op
        assert p.flop_per_s <= p.intensity_flop_per_byte * fastest * (1 + 1e-6), p.op
        assert math.isclose(p.share_of_roof * p.roof_flop_per_s, p.flop_per_s)


@pytest.mark.parametrize("case", CASES)
def test_intensity_is_work_over_traffic(asked: dict[str, tuple[Answer, Roofline]], case: str) -> None:
    """Against counts made apart from the roofline: the op's own FLOPs, and the traffic of the priced cost."""
    a, data = asked[case]
    steps = {"prefill": a.estimate.prefill, "decode": a.estimate.decode}
    for p in data.points:
        step = steps[p.phase]
        assert step is not None
        op, priced = next((o, x) for o, x in zip(step.ops, step.priced, strict=True) if o.name == p.op)
        flops, nbytes = float(work(op).flops.reshape(-1)[0]), float(priced.cost.nbytes.reshape(-1)[0])
        assert math.isclose(p.intensity_flop_per_byte, flops / max(nbytes, 1e-12), rel_tol=1e-9)      # 0: on the chip
        assert math.isclose(p.flop_per_s, flops / float(priced.cost.time.reshape(-1)[0]), rel_tol=1e-9)


def test_intensity_of_a_known_product(asked: dict[str, tuple[Answer, Roofline]]) -> None:
    """By hand: 2048 x 28672 x 4096 in bf16 moves each of three matrices at least once."""
    p = next(p for p in asked["dense"][1].points if p.label == "gate_up" and p.phase == "prefill")
    m, n, k = 2048, 28672, 4096
    assert p.flops == 2 * m * n * k
    assert p.intensity_flop_per_byte == pytest.approx(2 * m * n * k / (2 * (m * k + k * n + m * n)), rel=0.01)


@pytest.mark.parametrize("case", CASES)
def test_shares_of_a_step_add_up(asked: dict[str, tuple[Answer, Roofline]], case: str) -> None:
    data = asked[case][1]
    for phase, off in data.off.items():
        assert sum(p.share_of_step for p in data.points if p.phase == phase) + off == pytest.approx(1.0)
    assert (data.off["decode"] > 0.001) == (case == "experts, split")       # only there are links


def test_ceilings_are_those_in_use(asked: dict[str, tuple[Answer, Roofline]]) -> None:
    assert [c.name for c in asked["dense"][1].ceilings] == ["L2", "HBM", "bf16", VECTOR]
    assert {c.name for c in asked["fp8"][1].of("compute")} == {"fp8", "bf16", VECTOR}
    ridge = {(c, m): i for c, m, i in asked["dense"][1].ridges()}
    assert ridge["bf16", "HBM"] == pytest.approx(989.4e12 / 4.8e12)


def test_ceilings_of_one_rate_are_one_line() -> None:
    """A CPU's one engine is both matrix and vector: one line with both names, not two names on top of each other."""
    data = roofline(answer(resolve(Query(model="llama-3.1-8b", hw="raspberry_pi_5")), elasticities=False))
    assert len({c.rate for c in data.of("compute")}) == len(data.flat()) == 1
    assert set(data.flat()[0].name.split(", ")) == {c.name for c in data.of("compute")} == {VECTOR, "bf16"}
    assert data.flat()[0].name in "\n".join(plot(data))


def test_cache_hits_rise_above_dram(asked: dict[str, tuple[Answer, Roofline]]) -> None:
    """A 72 MB cache serves the norms of a short prompt: their roof is the cache's and they are not cut to DRAM's."""
    data = asked["weight-only, cached"][1]
    norm = next(p for p in data.points if p.label == "norm" and p.phase == "prefill")
    dram = data.of("memory")[-1]
    assert norm.flop_per_s > norm.intensity_flop_per_byte * dram.rate
    assert norm.roof_name == "L2"


@pytest.mark.parametrize("case", CASES)
def test_text_plot_keeps_its_width_and_shows_the_heavy(asked: dict[str, tuple[Answer, Roofline]], case: str) -> None:
    data = asked[case][1]
    lines = plot(data)
    assert max(map(len, lines)) <= WIDTH
    text = "\n".join(lines)
    for phase in ("prefill", "decode"):
        assert next(p for p in data.points if p.phase == phase).key in text
    assert all(c.name in text for c in data.ceilings)


# -- the command ------------------------------------------------------------------------------------------------------

def run(*args: str) -> Result:
    return CliRunner().invoke(cli, ["roofline", *args], standalone_mode=False, catch_exceptions=True)


def test_table_names_every_point(asked: dict[str, tuple[Answer, Roofline]]) -> None:
    result = run(*ASK)
    assert result.exception is None
    assert result.return_value == 0
    assert all(p.op in result.output for p in asked["dense"][1].points)


def test_json_has_the_schema_and_its_units() -> None:
    data = json.loads(run(*ASK, "--format", "json").stdout)
    assert data["schema"] == SCHEMA
    assert set(data) == {"schema", "model", "device", "workload", "ceilings", "ridges", "points", "share_without_flops"}
    assert {c["unit"] for c in data["ceilings"]} == {"op/s", "B/s"}
    assert {"op", "phase", "shape", "flops", "nbytes", "intensity_flop_per_byte", "flop_per_s", "share_of_roof",
            "share_of_step", "time_s", "lo_s", "hi_s", "bound", "source"} <= set(data["points"][0])


def test_csv_and_phase() -> None:
    rows = list(csv.DictReader(io.StringIO(run(*ASK, "--format", "csv", "--phase", "decode").stdout)))
    assert {r["phase"] for r in rows} == {"decode"}
    assert all(float(r["flops"]) > 0 for r in rows)


def test_figures_are_written_and_read_back(tmp_path: Path, asked: dict[str, tuple[Answer, Roofline]]) -> None:
    points = asked["dense"][1].points
    for name in ("x.svg", "x.png", "x.html"):
        result = run(*ASK, "-o", str(tmp_path / name))
        assert result.return_value == 0, result.output
    svg = ElementTree.fromstring((tmp_path / "x.svg").read_text(encoding="utf-8"))
    titles = {e.text for e in svg.iter("{http://www.w3.org/2000/svg}title")}
    assert hover(points[0]) in titles
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    page = check_page((tmp_path / "x.html").read_text(encoding="utf-8"))
    assert hover(points[0]) in page.tips
    assert page.rows >= len(points)


def test_same_question_same_svg(asked: dict[str, tuple[Answer, Roofline]]) -> None:
    draw, data = command.figures(), asked["dense"][1]
    assert draw.roofline_svg(data) == draw.roofline_svg(data)


@pytest.mark.parametrize("case", CASES)
def test_names_do_not_overlap(asked: dict[str, tuple[Answer, Roofline]], case: str) -> None:
    """No two texts inside the axes cover each other, so each can be read."""
    draw = command.figures()
    import matplotlib
    with matplotlib.rc_context(draw.STYLE):
        ax = (fig := draw._roofline(asked[case][1], titled=True)).axes[0]
        assert max(t.get_window_extent().x1 for t in fig.texts) <= fig.bbox.x1
        flat = [t for t in ax.texts if not t.get_rotation()]
        boxes = [(t.get_text(), t.get_window_extent().padded(-1)) for t in flat]
    assert len(boxes) >= 5
    for i, (name, box) in enumerate(boxes):
        assert not [other for other, b in boxes[i + 1:] if box.overlaps(b)], name
    names = [b for text, b in boxes if re.search(r"[TGP]FLOP/s$", text)]
    assert len(names) >= 2
    assert not [n for n in names if any(n.overlaps(m.padded(-2)) for m in draw._marker_boxes(ax, asked[case][1]))]


def test_bad_input_is_refused_in_one_line() -> None:
    for args, said in (((*ASK, "-o", "x.pdf"), ".svg, .png, .html"), ((*ASK[:3], "h200_sxm,l40s"), "one device")):
        error = run(*args).exception
        assert isinstance(error, ValueError)
        assert said in str(error)
        assert "\n" not in str(error)


def test_a_model_that_does_not_fit_exits_with_1() -> None:
    result = run("-m", "llama-3.1-70b", "--hw", "rtx_4090")
    assert result.return_value == 1
    assert "does not fit" in result.stderr


def test_without_matplotlib_only_figures_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> Any:
        if name == "sim.figures":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return importlib.import_module(name)

    monkeypatch.setattr(command, "import_module", absent)
    assert run(*ASK).return_value == 0
    error = run(*ASK, "-o", str(tmp_path / "x.svg")).exception
    assert isinstance(error, MissingExtra)
    assert "perfboard[plots]" in error.format_message()
    with pytest.raises(SystemExit) as stop:
        main(["roofline", *ASK, "-o", str(tmp_path / "x.svg")])
    assert stop.value.code == 4
    assert not list(tmp_path.iterdir())
