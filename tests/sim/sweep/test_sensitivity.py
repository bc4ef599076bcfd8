"""Sobol indices against textbook values, knees against curves whose knee is known, and the command."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from sim.cli import cli
from sim.sweep.evaluate import Results
from sim.sweep.sensitivity import designed, given, knee
from tests.sim.sweep.small import made, text

ISHIGAMI = """[sweep.range]
"var.a" = { from = -3.141592653589793, to = 3.141592653589793 }
"var.b" = { from = -3.141592653589793, to = 3.141592653589793 }
"var.c" = { from = -3.141592653589793, to = 3.141592653589793 }
[sweep.sample]
n = 4
"""


def ishigami(hole=False):
    def run(space, columns):
        a, b, c = (columns[f"var.{x}"] for x in "abc")
        y = np.sin(a) + 7 * np.sin(b) ** 2 + 0.1 * c**4 * np.sin(a)
        if hole:
            y = np.where(np.arange(len(y)) % 97 == 0, np.nan, y)
        return Results(np.zeros(len(y), dtype=np.int8), [""] * len(y), {"y": y, "flat": np.full(len(y), 3.0)})
    return run


@pytest.mark.parametrize("hole", [False, True])
def test_the_ishigami_function(hole):
    """First order 0.3139, 0.4424, 0; total 0.5576, 0.4424, 0.2437 (Saltelli et al., Global Sensitivity Analysis, 2008)."""
    found, kept = designed(made(ISHIGAMI), ishigami(hole), ["y", "flat"], 4096)
    y = [i for i in found if i.figure == "y"]
    assert [i.first for i in y] == pytest.approx([0.3139, 0.4424, 0.0], abs=0.03)
    assert [i.total for i in y] == pytest.approx([0.5576, 0.4424, 0.2437], abs=0.03)
    assert all(i.total_lo <= i.total <= i.total_hi for i in y)
    assert all(i.total == i.first == 0 for i in found if i.figure == "flat")
    assert (kept < 4096) == hole


def test_a_full_grid_gives_exact_shares():
    """y = 3 a + b + 2 a b on centred two-level axes: variances 9, 1 and 4 of 14."""
    a, b = (x.ravel() for x in np.meshgrid([-1.0, 1.0], [-1.0, 1.0], indexing="ij"))
    rows = {"a": a, "b": b, "y": 3 * a + b + 2 * a * b}
    first, second = given(rows, ["a", "b"], ["y"])
    assert (first.first, first.total) == pytest.approx((9 / 14, 13 / 14))
    assert (second.first, second.total) == pytest.approx((1 / 14, 5 / 14))
    holed = {k: v[1:] for k, v in rows.items()}
    assert np.isnan(given(holed, ["a", "b"], ["y"])[0].total)


def test_a_knee_is_where_the_curve_bends():
    x = np.geomspace(1, 1024, 41)
    found = knee("y", "x", x, np.minimum(x, 32.0))
    assert found is not None
    assert found.at == pytest.approx(32, rel=0.2)
    assert found.before == pytest.approx(1.0, abs=0.05)         # doubles per doubling
    assert found.after == pytest.approx(0.0, abs=0.05)
    assert knee("y", "x", x, x) is None                         # straight
    assert knee("y", "x", x, np.full(41, 5.0)) is None          # flat
    assert knee("y", "x", x[:3], x[:3] ** 2) is None
    assert knee("y", "x", x, np.full(41, np.nan)) is None


def test_the_command_ranks_parameters(tmp_path):
    sweep = ('[sweep.grid]\n"hardware.memory.hbm.bandwidth" = ["1 TB/s", "2 TB/s", "4 TB/s", "8 TB/s"]\n'
             '"hardware.memory.l2.capacity" = ["40 MB", "50 MB"]')
    (tmp_path / "x.toml").write_text(text(sweep, objectives='[sweep.objectives]\ntpot_s = "min"\narea_mm2 = "min"'))

    def call(*line):
        result = CliRunner().invoke(cli, ["sweep", *line], standalone_mode=False)
        if result.exception:
            raise result.exception
        return result.stdout, result.stderr

    call("run", str(tmp_path / "x.toml"), "-j", "1", "-o", str(tmp_path))
    out, _ = call("explain", str(tmp_path), "-n", "32", "--format", "json")
    found = {(i["figure"], i["axis"]): i for i in json.loads(out)["indices"]}
    assert found["tpot_s", "hardware.memory.hbm.bandwidth"]["total"] > 0.9
    assert found["tpot_s", "hardware.memory.l2.capacity"]["total"] < 0.05
    assert found["area_mm2", "hardware.memory.l2.capacity"]["total"] > 0.001
    out, err = call("explain", str(tmp_path), "-n", "32")
    assert out.index("memory.hbm.bandwidth") < out.index("memory.l2.capacity")
    assert "128 points made for it" in err
