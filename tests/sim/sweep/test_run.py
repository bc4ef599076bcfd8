"""A sweep that is killed, interrupted, shared or spread ends with what an undisturbed one has."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sim.sweep import executors, run
from sim.sweep.executors import Here, Pool, executor
from sim.sweep.front import front
from sim.sweep.run import Run, Shard, load
from tests.sim.sweep.small import SEVERAL, made, text

ROOT = Path(__file__).resolve().parents[3]
#: 2,000 points in 32 chunks: unrelated, so that each takes its time.
LONG = """[sweep.range]
"hardware.memory.hbm.bandwidth" = { from = "1 TB/s", to = "9 TB/s" }
"workload.concurrency" = { from = 1, to = 128 }
[sweep.grid]
"deployment.tp" = [1, 2, 4, 8]
"model.quant" = ["", "fp8", "w4a16"]
model = ["llama-3.1-8b", "mixtral-8x7b-v0.1"]
[sweep.sample]
method = "lhs"
n = 2000
seed = 1
"""


def table(path):
    """All rows, in an order that does not depend on who wrote when."""
    found = load(path)
    order = np.lexsort([v.astype(str) for k, v in found.items() if "." in k or k == "model"])
    return {k: v[order].tolist() for k, v in found.items()}


def same(a, b):
    return str(table(a)) == str(table(b))           # as text: NaN equals NaN


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    with Run(made(LONG), text(LONG), path / "sweep.sqlite") as work:
        assert work.go(Here()).done == 2000
    return path


@pytest.fixture
def start(tmp_path):
    """Starts ``perfboard sweep`` in a process group of its own."""
    (tmp_path / "x.toml").write_text(text(LONG))
    started = []

    def go(*options):
        command = [sys.executable, "-m", "sim.cli", "sweep", *options]
        # Where the tests run in the background of a shell, interrupts are ignored, and a child would inherit that.
        process = subprocess.Popen(command, cwd=tmp_path, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                                   start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        started.append(process)
        return process

    yield go
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def rows(path):
    try:
        return len(load(path)["status"])
    except ValueError:
        return 0


def until_some_are_done(path, process):
    while not rows(path):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_kill_9_loses_only_chunks_in_flight(tmp_path, start, undisturbed):
    process = start("run", "x.toml", "-j", "2")
    until_some_are_done(tmp_path / "run", process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while _group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _group(process.pid)                      # workers end with their main process
    kept = rows(tmp_path / "run")
    assert 0 < kept < 2000
    assert kept % run.chunk_size(made(LONG)) in (0, 2000 % run.chunk_size(made(LONG)))          # whole chunks
    again = start("resume", "run/", "-j", "2")
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert f"({2000 - kept:,} new" in err
    assert same(tmp_path / "run", undisturbed)


def _group(leader):
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def test_ctrl_c_stops_with_130_and_says_how_to_go_on(tmp_path, start):
    (tmp_path / "x.toml").write_text(text(LONG.replace("n = 2000", "n = 20000")))       # never through before the signal
    process = start("run", "x.toml", "-j", "2")
    until_some_are_done(tmp_path / "run", process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    kept = rows(tmp_path / "run")
    assert f" stopped; {kept:,} points are safe in run/sweep.sqlite. Continue with: perfboard sweep resume run/" in err
    assert "Traceback" not in err


def test_two_processes_share_one_sweep(tmp_path, start, undisturbed):
    both = [start("run", "x.toml", "-j", "1") for _ in range(2)]
    news = []
    for process in both:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        news.append(int(err.partition(" new")[0].rpartition("(")[2].replace(",", "")) if " new" in err else 0)
    assert sum(news) == 2000                    # nothing twice
    assert same(tmp_path / "run", undisturbed)


def test_shards_are_disjoint_and_complete(tmp_path):
    done = []
    for shard in (Shard(0, 3), Shard(1, 3), Shard(2, 3)):
        with Run(made(SEVERAL), text(SEVERAL), tmp_path / "sweep.sqlite") as work:
            done.append(work.go(Here(), shard=shard).done)
    assert sum(done) == 1176
    assert min(done) > 300


def test_a_worker_that_is_killed_loses_nothing(tmp_path, monkeypatch):
    once = tmp_path / "once"
    monkeypatch.setattr(run, "evaluate", _Deadly(str(once)))
    with Run(made(SEVERAL), text(SEVERAL), tmp_path / "sweep.sqlite") as work:
        assert work.go(Pool(2)).done == 1176
    assert once.exists()
    with Run(made(SEVERAL), text(SEVERAL), tmp_path / "other" / "sweep.sqlite") as work:
        monkeypatch.undo()
        work.go(Here())
    assert same(tmp_path, tmp_path / "other")


EVALUATE = run.evaluate


class _Deadly:
    """Evaluates, but takes its worker down at the third chunk, the first time."""

    def __init__(self, mark):
        self.mark = mark

    def __call__(self, task):
        if task.chunk == 3 and not os.path.exists(self.mark):
            Path(self.mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return EVALUATE(task)


def _always_deadly(task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_chunk_that_always_kills_is_given_up(tmp_path):
    with pytest.raises(ValueError, match="took its worker down 3 times"):
        list(Pool(1).run(_always_deadly, iter([1])))


@pytest.mark.parametrize(("name", "jobs", "wanted"), [("ssh://x", 1, "expected dask://host:port"), ("", 0, "at least one")])
def test_executors_that_do_not_exist(name, jobs, wanted):
    with pytest.raises(ValueError, match=wanted):
        executor(name, jobs)


def test_progress_counts_and_keeps_the_front(tmp_path):
    seen = []
    with Run(made(SEVERAL), text(SEVERAL), tmp_path / "sweep.sqlite") as work:
        objectives = work.space.experiment.sweep.objectives

        def told(p):
            rows = work.store.load(list(objectives), stamps=list(work.stamps.values()), status="ok")
            seen.append((p.done, len(p.best["tokens_per_s_per_gpu"]), len(front(rows, objectives))))

        work.go(Here(), told=told)
    assert [d for d, *_ in seen] == sorted({d for d, *_ in seen})
    assert seen[-1][0] == 1176
    assert all(kept == of_all_stored >= 1 for _, kept, of_all_stored in seen)


def test_points_of_a_searchers_own_choice_are_stored_once(tmp_path):
    with Run(made(SEVERAL), text(SEVERAL), tmp_path / "sweep.sqlite") as work:
        own = {"deployment.tp": np.array([1, 2]), "model.quant": np.array(["fp8", "fp8"]),
               "hardware.memory.hbm.capacity": np.array([1.23e11, 10e9]), "workload.concurrency": np.array([7, 1])}
        found = work.ask(own)
        assert work.tell(own, found) == 0
        assert work.go(Here()).before == 1                 # the second one is a point of the grid
    assert load(tmp_path)["tpot_s"][:2].tolist() == found.figures["tpot_s"].tolist()


# -- a cluster ------------------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker(tmp_path, undisturbed):
    distributed = pytest.importorskip("distributed")
    from contextlib import ExitStack
    with ExitStack() as stack:
        cluster = stack.enter_context(distributed.LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None))
        cluster_address = cluster.scheduler_address.replace("tcp://", "dask://")
        killed = []

        def told(progress):
            if progress.done > 300 and not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        with Run(made(LONG), text(LONG), tmp_path / "sweep.sqlite") as work:
            assert work.go(executors.Dask(cluster_address), told=told).done == 2000
    assert killed
    assert same(tmp_path, undisturbed)


def test_a_scheduler_that_is_not_there(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "CONNECT", "0.2s")
    with pytest.raises(ValueError, match=r"--executor dask://127.0.0.1:9: no scheduler answers there"):
        executor("dask://127.0.0.1:9", 1)
