"""The report is one closed file that holds every part, escapes what it is given, and sums up what it shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sim.answer import Answer, answer
from sim.cli import MissingExtra, cli
from sim.commands import roofline as roofline_command
from sim.commands.report import build, command_line
from sim.curves import batch_curve
from sim.page import Bar, Number, Segment, badge, bars, page, stack, table, tornado
from sim.palette import CLASS_COLOURS, MEMORY_COLOURS, RESOURCE_COLOURS, text_on
from sim.query import Query, resolve
from tests.sim.html_checks import check_page

ASK = ["-m", "llama-3.1-8b", "--hw", "h200_sxm", "--bs", "64", "--isl", "2048", "--osl", "512"]
HEADS = ("Figures", "Memory of one device", "Where the time goes", "Roofline", "What would help", "Against batch size",
         "Operations", "What it rests on")


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, ["report", *args], standalone_mode=False)


@pytest.fixture(scope="module")
def one() -> Answer:
    return answer(resolve(Query(model="llama-3.1-8b", hw="h200_sxm", batch=64, isl=2048, osl=512,
                                sets=(("memory.hbm.bandwidth", "6TB/s"),))))


@pytest.fixture(scope="module")
def text(one: Answer) -> str:
    return build([one], "perfboard report <x> & 'y'")


def test_page_holds_every_part_and_loads_nothing(text: str) -> None:
    found = check_page(text)
    heads = re.findall(r"<h2>(.*?)</h2>", text)
    assert [h for h in HEADS if h not in heads] == []
    assert found.tags.count("svg") == 2
    assert found.rows > 26
    assert len(found.tips) > 26
    for chart in HEADS[:7]:
        section = text.split(f"<h2>{chart}</h2>")[1].split("<h2>")[0]
        assert 'class="says"' in section, chart


def test_page_is_responsive_and_themed(text: str) -> None:
    assert 'name="viewport"' in text
    assert "prefers-color-scheme: dark" in text
    assert "var(--fg)" in text.split("<svg")[1]
    assert "#1a1a19" not in text.split("<body>")[1]           # the drawing's foreground became the page's


def test_page_states_change_source_and_figures(one: Answer, text: str) -> None:
    assert "memory.hbm.bandwidth = 6TB/s" in text
    assert "was 4.8 TB/s" in text
    assert "&lt;x&gt; &amp; &#x27;y&#x27;" in text
    assert f"{one.data['metrics']['ttft_s']['value'] * 1e3:.3g} ms" in text
    assert 'class="badge fitted"' in text
    assert "perfboard 0." in text


def test_ids_are_unique_where_they_are_referred_to(text: str) -> None:
    """A clip path or a marker shape that two drawings name alike must be the same in both."""
    shapes: dict[str, set[str]] = {}
    for name, body in re.findall(r'<(?:clipPath|path) id="([^"]+)"(.*?)(?:/>|</clipPath>)', text, flags=re.DOTALL):
        shapes.setdefault(name, set()).add(" ".join(body.split()))
    assert [n for n, bodies in shapes.items() if len(bodies) > 1] == []


def test_several_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    result = run(*ASK[:2], "--hw", "h200_sxm,l40s", "--bs", "8", "--vs", "quant=fp8", "-o", str(path))
    assert result.return_value == 0, result.output
    text = path.read_text(encoding="utf-8")
    found = check_page(text)
    assert "3 ways compared" in text
    assert found.tags.count("article") == 3
    assert found.tags.count("svg") == 2 * 3 + 1
    assert "h200_sxm quant=fp8" in text


def test_designs_of_units_show_their_area_apart_and_compared() -> None:
    asked = [answer(resolve(Query(model="llama-2-7b", hw=hw, quant="w2a8"))) for hw in ("edge_int_mac", "edge_lut")]
    plain = re.sub(r"<[^>]+>", "|", build(asked, ""))
    areas = re.findall(r"\|area\|+([\d.]+) mm2\|+([^|]+)", plain)
    assert len(areas) == 3
    assert areas[0][1].startswith("12.") or areas[0][1].startswith("13.")
    assert [re.fullmatch(r"[\d.]+ mm2 to [\d.]+ mm2", x[1]) is not None for x in areas] == [False, True, True]


def test_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    result = run("-m", "llama-3.1-70b", "--hw", "rtx_4090", "-o", str(path))
    assert result.return_value == 1
    text = path.read_text(encoding="utf-8")
    check_page(text)
    assert "Does not fit." in text
    assert "Against batch size" not in text


def test_encoder_has_no_decode(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    result = run("-m", "bert-large-uncased", "--hw", "h200_sxm", "--isl", "256", "--osl", "1", "-o", str(path))
    assert result.return_value == 0, result.exception
    text = path.read_text(encoding="utf-8")
    check_page(text)
    assert "Decode:" not in text


def test_default_name_and_bad_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("-m", "llama-3.1-8b", "--hw", "l40s").return_value == 0
    assert [p.name for p in tmp_path.iterdir()] == ["Llama-3.1-8B-l40s.html"]
    assert "expected .html" in str(run(*ASK, "-o", "x.pdf").exception)


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")

    monkeypatch.setattr(roofline_command, "import_module", absent)
    error = run(*ASK, "-o", str(tmp_path / "r.html")).exception
    assert isinstance(error, MissingExtra)
    assert error.exit_code == 4
    assert not list(tmp_path.iterdir())


def test_command_line_asks_the_same(one: Answer) -> None:
    line = command_line(one.setting.query, "h200_sxm", ("quant=fp8 bs=2",))
    assert line == ("perfboard report -m llama-3.1-8b --hw h200_sxm --bs 64 --isl 2048 --osl 512 "
                    "--set memory.hbm.bandwidth=6TB/s --vs 'quant=fp8 bs=2'")


def test_curve_goes_through_the_answer(one: Answer) -> None:
    """The vectorised curve and the single answer are one formula: at the batch asked they agree to rounding."""
    c = batch_curve(one.setting, "x", one.data["memory_bytes"]["max_concurrency"])
    assert c is not None
    at = list(c.batch).index(64.0)
    m = one.data["metrics"]
    assert [s[at] for s in c.tpot] == pytest.approx([1e3 * m["tpot_s"][k] for k in ("value", "lo", "hi")], rel=1e-9)
    assert c.rate[0][at] == pytest.approx(m["tokens_per_s_per_gpu"]["value"], rel=1e-9)
    assert np.all(np.diff(c.batch) > 0)
    assert c.batch[-1] <= c.room


def test_no_curve_without_room(one: Answer) -> None:
    assert batch_curve(one.setting, "x", 1.0) is None


# -- pieces -----------------------------------------------------------------------------------------------------------

def test_pieces_escape_what_they_are_given() -> None:
    evil = '<script>alert("x")</script>&'
    pieces = (page(evil, ""), table((evil,), [[evil], [Number(evil, 1.0)]]), badge(evil),
              stack([Segment(evil, 1, evil, "#0072B2")], 1), bars([Bar(evil, 1, 0.5, 2, evil, "#0072B2")]),
              tornado([(evil, [1.0])], [(evil, "#0072B2")]))
    for html in pieces:
        assert 'alert("x")' not in html
        assert "&lt;script&gt;" in html


def test_stack_widths_are_shares() -> None:
    html = stack([Segment("a", 1, "1 s", "#0072B2"), Segment("b", 3, "3 s", "#E69F00")], 8, mark=6)
    assert re.findall(r"width:([\d.]+)%", html) == ["12.500", "37.500"]
    assert 'left:75.000%' in html


def test_tornado_bars_start_at_zero() -> None:
    html = tornado([("x", [-3.0, 1.0])], [("p", "#0072B2"), ("d", "#E69F00")])
    assert re.findall(r"left:([\d.]+)%;width:([\d.]+)%", html) == [("0.00", "75.00"), ("75.00", "25.00")]


def test_text_on_colour_is_readable() -> None:
    """WCAG 2 contrast of at least 4.5 wherever a name stands inside a bar."""
    def luminance(c: str) -> float:
        v = [int(c[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in v)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for colour in {*CLASS_COLOURS.values(), *RESOURCE_COLOURS.values(), *MEMORY_COLOURS.values()}:
        a, b = sorted((luminance(colour), luminance(text_on(colour))))
        assert (b + 0.05) / (a + 0.05) >= 4.5, colour
