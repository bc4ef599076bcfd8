"""What the store keeps, refuses, and survives."""

import json
import multiprocessing
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from sim.sweep import identity, store
from sim.sweep.evaluate import closed
from sim.sweep.executors import Here
from sim.sweep.run import Run, load
from sim.sweep.run import evaluate as run_evaluate
from sim.sweep.store import Store
from tests.sim.sweep.small import HEAD, SEVERAL, made, text

TINY = '[sweep.grid]\n"workload.concurrency" = [1, 2, 4, 100000]\n"hardware.memory.hbm.bandwidth" = ["2 TB/s", "4 TB/s"]'


def ran(path, sweep=TINY, **parts):
    with Run(made(sweep, **parts), text(sweep, **parts), path / "sweep.sqlite") as run:
        return run.go(Here())


def test_rows_are_as_they_were_put_in(tmp_path):
    ran(tmp_path)
    found, space = load(tmp_path), made(TINY)
    columns, _ = space.columns(np.arange(8))
    wanted = closed(space, columns)
    assert found["workload.concurrency"].tolist() == columns["workload.concurrency"].tolist()
    assert found["tpot_s"].tolist() == wanted.figures["tpot_s"].tolist()
    assert found["status"].tolist() == ["ok"] * 6 + ["infeasible"] * 2
    assert found["error"].tolist()[7] == "does not fit in memory"


def test_the_view_has_the_agreed_columns(tmp_path):
    ran(tmp_path)
    db = sqlite3.connect(tmp_path / "sweep.sqlite")
    key, params, status, metrics, error, t = db.execute("SELECT key, params_json, status, metrics_json, error, t FROM point"
                                                        ).fetchone()
    assert len(key) == 16
    assert json.loads(params) == {"workload.concurrency": 1, "hardware.memory.hbm.bandwidth": 2e12}
    assert json.loads(metrics)["tpot_s"] > 0
    assert (status, error) == ("ok", None)
    assert time.time() - t < 60
    assert dict(db.execute("SELECT name, direction FROM objective")) == {"tokens_per_s_per_gpu": "max",
                                                                         "j_per_output_token": "min"}


def _opened(path, barrier, said):
    barrier.wait()
    try:
        with Run(made(TINY), text(TINY), path / "sweep.sqlite"):
            said.put("")
    except ValueError as error:
        said.put(str(error))


def test_processes_that_begin_at_once_find_one_whole_store(tmp_path):
    fork = multiprocessing.get_context("fork")
    for i in range(8):
        barrier, said = fork.Barrier(4), fork.Queue()
        path = tmp_path / str(i)
        started = [fork.Process(target=_opened, args=(path, barrier, said)) for _ in range(4)]
        for process in started:
            process.start()
        assert [said.get(timeout=30) for _ in started] == [""] * 4
        for process in started:
            process.join()
        assert [p.name for p in path.iterdir() if ".new-" in p.name] == []


def test_a_chunk_that_another_process_finishes_meanwhile_is_not_opened_again(tmp_path, monkeypatch):
    """The other one writes between our look at the rows and our claim."""
    with Run(made(TINY), text(TINY), tmp_path / "sweep.sqlite") as ours:
        seen = Store.done

        def late(self, stamps):
            rows = seen(self, stamps)
            monkeypatch.setattr(Store, "done", seen)
            assert ran(tmp_path).done == 8
            return rows

        monkeypatch.setattr(Store, "done", late)
        assert ours.go(Here()).done == 0


def test_a_finished_point_is_never_computed_twice(tmp_path):
    assert ran(tmp_path).done == 8
    assert ran(tmp_path).done == 0
    more = TINY.replace("[1, 2, 4, 100000]", "[1, 2, 3, 4, 100000]")
    again = ran(tmp_path, more)
    assert (again.before, again.done, again.total) == (8, 2, 10)
    assert len(load(tmp_path)["status"]) == 10


@pytest.mark.parametrize(("head", "sweep", "wanted"), [
    (HEAD.replace("isl = 512", "isl = 513"), TINY, "its workload.isl is 512, here 513"),
    (HEAD + "slo = { tpot = '1 s' }", TINY, "its slo.tpot is None, here 1.0"),
    (HEAD, TINY + '\n"deployment.tp" = [1]', "its axes lack deployment.tp"),
    (HEAD, TINY + '\n[sweep]\nkeep = ["kv_bytes"]', "its figures lack kv_bytes"),
])
def test_the_store_of_another_sweep_is_left_alone(tmp_path, head, sweep, wanted):
    ran(tmp_path)
    with pytest.raises(ValueError, match=rf"belongs to another sweep \(x.toml: {wanted}\)"):
        ran(tmp_path, sweep, head=head)
    assert len(load(tmp_path)["status"]) == 8


@pytest.mark.parametrize("what", ["code", "model", "hardware"])
def test_a_change_of_code_model_or_device_makes_rows_stale(tmp_path, monkeypatch, what):
    ran(tmp_path)
    if what == "code":
        monkeypatch.setattr(identity, "code_version", lambda: "other")
    elif what == "model":
        monkeypatch.setattr(identity, "_model", lambda name, changed: "other")
    else:
        monkeypatch.setattr(identity, "digest", lambda value, old=identity.digest: old([value, "other"])
                            if isinstance(value, dict) and "devices" in value else old(value))
    with Run(made(TINY), text(TINY), tmp_path / "sweep.sqlite") as run:
        assert run.stale() == 8
        assert run.go(Here()).done == 8
        assert run.stale() == 8
    monkeypatch.undo()
    with Run(made(TINY), text(TINY), tmp_path / "sweep.sqlite") as run:
        assert run.go(Here()).done == 0          # back to the former state: its rows hold again
        assert run.stale() == 8


def test_a_full_disk_is_one_line_and_what_is_there_stays(tmp_path):
    with Run(made(SEVERAL), text(SEVERAL), tmp_path / "sweep.sqlite") as run:
        pages = run.store._db.execute("PRAGMA page_count").fetchone()[0]
        run.store._db.execute(f"PRAGMA max_page_count = {pages + 12}")
        with pytest.raises(ValueError, match=r"sweep.sqlite: the disk is full; what is finished is safe$"):
            run.go(Here())
    kept = len(load(tmp_path)["status"])
    assert 0 < kept < 1176
    assert ran(tmp_path, SEVERAL).before == kept
    assert len(load(tmp_path)["status"]) == 1176


def test_a_chunk_is_stored_whole_or_not_at_all(tmp_path):
    with Run(made(TINY), text(TINY), tmp_path / "sweep.sqlite") as run:
        task = run.points(0)
        found = run_evaluate(task)
        with pytest.raises(ValueError, match="shorter"):
            run.store.add(task.keys, task.stamps, task.columns, found._replace(error=found.error[:5]))
        assert run.store.counts() == {}
        run.store.add(task.keys, task.stamps, task.columns, found)
    assert len(load(tmp_path)["status"]) == 8


def test_a_locked_file_is_one_line(tmp_path, monkeypatch):
    ran(tmp_path)
    monkeypatch.setattr(store, "PATIENCE", 0.05)
    other = sqlite3.connect(tmp_path / "sweep.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ValueError, match=r"another process has locked it for 0.05 s; try again later; what is finished"):
        ran(tmp_path)
    other.execute("ROLLBACK")
    assert ran(tmp_path).before == 8


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\0" * 4000])
def test_no_store(tmp_path, content):
    (tmp_path / "sweep.sqlite").write_bytes(content)
    with pytest.raises(ValueError, match=r"sweep.sqlite: not a store of a sweep \(or damaged\)"):
        ran(tmp_path)
    assert (tmp_path / "sweep.sqlite").read_bytes() == content


def test_another_database_is_not_touched(tmp_path):
    db = sqlite3.connect(tmp_path / "sweep.sqlite")
    db.execute("CREATE TABLE mine (x)")
    db.commit()
    with pytest.raises(ValueError, match="not a store of a sweep"):
        ran(tmp_path)
    assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]


def test_a_chunk_is_claimed_by_one_process_and_void_when_it_is_gone(tmp_path):
    space = made(TINY)
    with Run(space, text(TINY), tmp_path / "sweep.sqlite") as run:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        owner = f"{child.pid}:{store._born(child.pid)}"
        run.store._db.execute("INSERT INTO claim VALUES ('s', 0, ?), ('s', 1, '1:reused')", (owner,))
        assert not run.store.claim("s", 0)
        child.kill()
        child.wait()
        assert run.store.claim("s", 0)
        assert run.store.claim("s", 1)             # a process of that number lives, but was born at another time
        run.store.release()
        assert run.store._db.execute("SELECT count(*) FROM claim").fetchone() == (0,)


def test_keys_differ_where_points_do(tmp_path):
    space = made(SEVERAL)
    columns, _ = space.columns(np.arange(space.size))
    stamps = np.ones(space.size, dtype=np.int64)
    keys = identity.keys(columns, space.parameters, stamps)
    assert len(np.unique(keys)) == space.size
    assert not np.isin(identity.keys(columns, space.parameters, stamps + 1), keys).any()
    part = {k: v[100:200] for k, v in columns.items()}
    assert (identity.keys(part, space.parameters, stamps[100:200]) == keys[100:200]).all()


def test_one_bit_of_a_parameter_changes_half_the_key():
    x = np.array([1.0, np.nextafter(1.0, 2.0)])
    keys = identity.keys({"a": x}, ["a"], np.ones(2, dtype=np.int64)).view(np.uint64)
    assert 16 < int(keys[0] ^ keys[1]).bit_count() < 48


def test_identity_knows_what_it_is_made_of():
    a, b = identity.identity(made(TINY)), identity.identity(made(TINY.replace("[1, 2, 4", "[1, 2, 5")))
    assert a.sweep == b.sweep
    assert a.space != b.space
    assert replace(a, space="") == replace(b, space="")


def test_store_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="no such store; start one with"):
        Store.open(tmp_path / "sweep.sqlite")
