"""``perfboard sweep`` as people run it."""

import csv
import json
import sqlite3
import sys

import pytest
from click.testing import CliRunner

from sim.cli import MissingExtra, cli
from sim.commands import sweep as command
from tests.sim.sweep.small import HEAD, SEVERAL, text


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs a command in a folder with ``x.toml``: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.toml").write_text(text(SEVERAL))

    def run(line):
        result = CliRunner().invoke(cli, ["sweep", *line.split()], standalone_mode=False)
        if result.exception:
            raise result.exception
        return result.return_value or 0, result.stdout, result.stderr

    return run


def test_run_status_pareto_export(call, tmp_path):
    code, out, err = call("run x.toml -j 1")
    assert (code, out) == (0, "")
    assert "1,176 of 1,176 points are in run/sweep.sqlite (1,176 new" in err
    assert "392 error" in err
    assert "1,176/1,176  100 %" in err
    assert "best tokens/s/device" in err

    _, out, err = call("status run --format json")
    counts = {row["what"]: row["value"] for row in json.loads(out)}
    assert {k: counts[k] for k in ("points", "finished", "left", "error", "stale")} == {
        "points": 1176, "finished": 1176, "left": 0, "error": 392, "stale": 0}
    assert "392 points: tp: 3 does not divide the 32 attention heads" in err

    _, out, err = call("pareto run/ --format csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert f"front of {len(rows)} among" in err
    assert all(row["deployment.tp"] in ("1", "2") for row in rows)
    speeds = [float(row["tokens_per_s_per_gpu"]) for row in rows]
    assert speeds == sorted(speeds, reverse=True)

    _, out, _ = call("pareto x.toml --top-n 3")
    assert "best tokens_per_s_per_gpu" in out
    assert "±" in out
    assert "GB" in out or "memory.hbm.capacity" not in out

    call("export run points.csv")
    assert len(list(csv.DictReader((tmp_path / "points.csv").open()))) == 1176
    assert not list(tmp_path.glob("*.part"))


def test_parquet_is_read_back_in_one_line(call, tmp_path):
    pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    call("run x.toml -j 1")
    call("export run points.parquet")
    table = parquet.read_table(tmp_path / "points.parquet")
    assert table.num_rows == 1176
    assert table["tpot_s"].null_count == 392
    assert str(table.schema.field("workload.concurrency").type) == "int64"


def test_a_dry_run_writes_nothing(call, tmp_path):
    code, out, _ = call("run x.toml --dry-run -j 2")
    assert code == 0
    assert out.startswith("x.toml: 1,176 points on 4 axes")
    assert "with -j 2" in out
    assert " MB in run/sweep.sqlite" in out
    assert not (tmp_path / "run").exists()


def test_sizes_foretold_are_about_right(call, tmp_path):
    (tmp_path / "y.toml").write_text(text(SEVERAL.replace("n = 14", "n = 200").replace("[1, 2, 3]", "[1, 2]")))
    call("run y.toml -j 1 -o y")
    db = sqlite3.connect(tmp_path / "y/sweep.sqlite")
    rows, = db.execute("SELECT count(*) FROM result").fetchone()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    per_row = (tmp_path / "y/sweep.sqlite").stat().st_size / rows
    assert per_row == pytest.approx(command.ROW_BYTES + command.COLUMN_BYTES * (4 + 9), rel=0.3)


def test_exit_1_where_nothing_is_feasible(call, tmp_path):
    strict = text('[sweep.grid]\n"workload.concurrency" = [1, 2]', head=HEAD + 'slo = { tpot = "1 us" }')
    (tmp_path / "x.toml").write_text(strict)
    code, _, err = call("run x.toml -j 1")
    assert code == 1
    assert "2 infeasible" in err
    with pytest.raises(ValueError, match="no point is feasible; most often: slo: tpot_s above 1e-06"):
        call("pareto run")


def test_an_empty_space_is_said(call, tmp_path):
    (tmp_path / "x.toml").write_text(text('[sweep.grid]\n"deployment.tp" = [1]\n[sweep]\nconstraints = ["deployment.tp > 1"]'))
    for line in ("run x.toml -j 1", "run x.toml --dry-run"):
        with pytest.raises(ValueError, match="no point meets them: the space is empty"):
            call(line)


@pytest.mark.parametrize(("line", "wanted"), [
    ("run x.toml --shard 3/2", r"--shard '3/2': expected I/N with 1 <= I <= N"),
    ("run x.toml --shard 0/2", "expected I/N"),
    ("run x.toml -j 0", "at least one process"),
    ("run x.toml --executor ray://a", "expected dask://host:port"),
    ("run run", "expected an experiment file"),
    ("status run", r"run/sweep.sqlite: no such store; start one with: perfboard sweep run SWEEP.toml"),
    ("resume x.toml", "no such store"),
    ("pareto x.toml", "no such store"),
])
def test_bad_usage_is_one_line(call, line, wanted):
    with pytest.raises(ValueError, match=wanted):
        call(line)


def test_an_export_of_another_form_is_refused(call):
    call("run x.toml -j 1")
    with pytest.raises(ValueError, match=r"points.xlsx: expected a name that ends in .csv or .parquet"):
        call("export run points.xlsx")


@pytest.mark.parametrize(("line", "part", "extra"), [("run x.toml --executor dask://a:1", "distributed", "dask"),
                                                     ("export run points.parquet", "pyarrow", "sweep")])
def test_what_an_optional_part_is_called(call, monkeypatch, line, part, extra):
    call("run x.toml -j 1")
    monkeypatch.setitem(sys.modules, part, None)
    with pytest.raises(MissingExtra, match=rf"pip install 'perfboard\[{extra}\]'") as error:
        call(line)
    assert error.value.exit_code == 4


def test_stale_rows_are_said_and_not_used(call, monkeypatch):
    call("run x.toml -j 1")
    monkeypatch.setattr(command.identity, "code_version", lambda: "other")
    _, _, err = call("status run")
    assert "1,176 rows are stale: the code has changed" in err
    with pytest.raises(ValueError, match="all rows are stale"):
        call("pareto run")
    _, out, _ = call("pareto run --stale")
    assert "best" in out
    _, _, err = call("run x.toml -j 1")
    assert "note: 1,176 rows in run/sweep.sqlite are stale (the code has changed); they are kept and not used" in err
    assert "1,176 new" in err


def test_the_example_of_the_documentation_runs(call, tmp_path):
    from pathlib import Path
    page = (Path(__file__).parents[3] / "docs" / "sweep.md").read_text(encoding="utf-8")
    examples = [block.split("```")[0] for block in page.split("```toml\n")[1:]]
    assert len(examples) >= 1
    for i, example in enumerate(examples):
        if not example.startswith("version"):
            continue
        (tmp_path / f"e{i}.toml").write_text(example)
        code, _, err = call(f"run e{i}.toml -j 1 -o e{i}")
        assert code == 0, err
