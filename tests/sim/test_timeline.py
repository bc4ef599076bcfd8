"""Timelines: tracks, slices, arrows and counters of a run, in memory and as read back from both kinds of file."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings

from sim import timeline_files
from sim.kernel import Run, run
from sim.query import Query
from sim.simulate import Simulated, simulate
from sim.tasks import Flow, Resource, Task, TaskGraph
from sim.techniques import TECHNIQUES
from sim.techniques.technique import parse
from sim.timeline import NS, Timeline, Track, timeline, until
from sim.timeline_files import varint, write_timeline
from tests.laws.test_two_fidelities import task_graphs

CORE, PAIR = Resource("core", "engine", 1, "chip"), Resource("pair", "engine", 2, "chip")
BUS, ROOM = Resource("bus", "shared", 1e12, "links"), Resource("room", "buffer", 2, "chip")        # 1 B/ps
TASKS = (
    Task("load", flows=(Flow(4000, ("bus",)),), takes=(("room", 1),), labels={"kind": "copy", "nbytes": 4000.0, "layer": 0}),
    Task("other", flows=(Flow(4000, ("bus",)),), delay_ps=1000),
    Task("mul", ("core",), 5500, after=(0,), gives=(("room", 1),), labels={"kind": "compute", "layer": -1, "model": ""}),
    Task("left", ("pair",), 3000), Task("right", ("pair",), 4000), Task("next", ("pair",), 1000),
    Task("wait", time_ps=2000, after=(2,)), Task("join", after=(6,)))
GRAPH = TaskGraph((CORE, PAIR, BUS, ROOM), TASKS)


@pytest.fixture(scope="module")
def small() -> Timeline:
    return timeline(GRAPH, run(GRAPH, record=True), (2, 7))


def rows(data: Timeline) -> dict[str, list[tuple[str, int, int]]]:
    return {t.name: [s[:3] for s in t.slices] for t in data.tracks}


# -- from a run to tracks ---------------------------------------------------------------------------------------------

def test_each_resource_has_a_track_and_overlaps_have_their_own(small: Timeline) -> None:
    # load has the bus alone for 1 ns, then both have half: load ends at 7 ns, other has 1000 B left and ends at 8 ns
    assert rows(small) == {
        "steps": [("step 0", 0, 12), ("step 1", 12, 14)], "core": [("mul", 7, 12)],
        "pair": [("left", 0, 3), ("next", 3, 4)], "pair (2)": [("right", 0, 4)],
        "bus": [("load", 0, 7)], "bus (2)": [("other", 1, 8)], "waits": [("wait", 12, 14)]}
    assert [(t.process, t.name) for t in small.tracks] == [
        ("run", "steps"), ("chip", "core"), ("chip", "pair"), ("chip", "pair (2)"), ("links", "bus"), ("links", "bus (2)"),
        ("tasks", "waits")]
    assert small.marks == ((12, "step 0 ends"), (14, "step 1 ends"))
    assert until(small) == (12, 14)


def test_slices_say_what_they_are(small: Timeline) -> None:
    by_name = {s.name: s for t in small.tracks for s in t.slices}
    assert by_name["load"].args == {"bytes": 4000.0, "layer": 0}
    assert by_name["mul"].args == {"layer": -1}                          # empty labels are left out
    assert by_name["next"].args == {"waited_ns": 3}
    assert [by_name[n].kind for n in ("load", "mul", "left")] == ["copy", "compute", "task"]


def test_arrows_lead_from_what_was_needed(small: Timeline) -> None:
    by_name = {s.name: s for t in small.tracks for s in t.slices}
    assert {n: (list(s.sends), list(s.gets)) for n, s in by_name.items() if s.sends or s.gets} == {
        "load": ([1], []), "mul": ([2], [1]), "wait": ([], [2])}


def test_counters_are_bandwidth_and_space(small: Timeline) -> None:
    assert [(c.process, c.name, c.unit, c.points) for c in small.counters] == [
        ("links", "bus bandwidth", "B/s", [(0, 1e12), (8, 0.0)]), ("chip", "room taken", "", [(0, 1.0), (12, 0.0)])]


def test_what_has_not_ended_is_left_out() -> None:
    done = run(GRAPH, record=True)
    cut = done._replace(start=done.start.copy(), end=done.end.copy())
    cut.start[2:], cut.end[2:] = -1, -1
    assert set(rows(timeline(GRAPH, cut, (2, 7)))) == {"bus", "bus (2)"}
    assert timeline(GRAPH, cut, (2, 7)).marks == ()


def test_nothing() -> None:
    empty = TaskGraph((CORE,), ())
    assert timeline(empty, run(empty)).order == ()


def follows(track: Track) -> bool:
    return all(a.end <= b.start for a, b in pairwise(track.slices)) and all(s.start <= s.end for s in track.slices)


@settings(max_examples=60, deadline=None)
@given(task_graphs())
def test_laws_of_every_timeline(graph: TaskGraph) -> None:
    done = run(graph, record=True)
    data = timeline(graph, done)
    assert all(follows(t) for t in data.tracks)
    held = dict.fromkeys((r.name for r in graph.resources), 0)
    shown = dict(held)
    number = dict(held)
    for task, start, end in zip(graph.tasks, done.start.tolist(), done.end.tolist(), strict=True):
        for name in task.engines:
            held[name] += end - start
            number[name] += 1
    for t in data.tracks:
        if t.resource in shown:
            shown[t.resource] += sum(s.end - s.start for s in t.slices)
    for r in graph.resources:
        if r.kind == "engine":
            assert abs(shown[r.name] - held[r.name] / NS) <= number[r.name]          # each slice is less than 1 ns off
            assert len([t for t in data.tracks if t.resource == r.name]) <= r.amount
    arrows = [n for t in data.tracks for s in t.slices for n in s.sends]
    assert sorted(arrows) == sorted(n for t in data.tracks for s in t.slices for n in s.gets)
    assert len(set(arrows)) == len(arrows)


# -- files, read back -------------------------------------------------------------------------------------------------

class Read(NamedTuple):
    """What a file says. ``tracks``: (process, track) -> (name, category, start, end, args, sends, gets); times in ns."""

    tracks: dict[tuple[str, str], list[tuple[Any, ...]]]
    counters: dict[tuple[str, str], list[tuple[int, float]]]
    marks: list[tuple[int, str]]


def expected(data: Timeline) -> Read:
    return Read({(t.process, t.name): [(s.name, s.kind, s.start, s.end, dict(s.args), sorted(s.sends), sorted(s.gets))
                                       for s in t.slices] for t in data.tracks},
                {(c.process, c.name): c.points for c in data.counters}, list(data.marks))


def read_chrome(path: Path) -> Read:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    events = json.loads(raw)["traceEvents"]
    names = {(e["name"], e["pid"], e["tid"]): e["args"].get("name") for e in events if e["ph"] == "M"}
    out = Read({}, {}, [])
    sends: dict[tuple[int, int, float], list[int]] = {}
    gets: dict[tuple[int, int, float], list[int]] = {}
    for e in events:
        if e["ph"] in "sf":
            (sends if e["ph"] == "s" else gets).setdefault((e["pid"], e["tid"], e["ts"]), []).append(e["id"])
    for e in events:
        process = names.get(("process_name", e["pid"], 0), "")
        if e["ph"] == "X":
            at = (e["pid"], e["tid"], e["ts"])
            out.tracks.setdefault((process, names["thread_name", e["pid"], e["tid"]]), []).append(
                (e["name"], e["cat"], ns(e["ts"]), ns(e["ts"] + e["dur"]), e["args"], sorted(sends.pop(at, [])),
                 sorted(gets.pop(at, []))))
        elif e["ph"] == "C":
            out.counters.setdefault((process, e["name"]), []).append((ns(e["ts"]), *e["args"].values()))
        elif e["ph"] == "i":
            out.marks.append((ns(e["ts"]), e["name"]))
    assert not sends
    assert not gets
    return out


def ns(us: float) -> int:
    assert abs(us * 1e3 - round(us * 1e3)) < 1e-3
    return round(us * 1e3)


def read_perfetto(path: Path) -> Read:
    """With the classes that Perfetto makes of its own message definitions."""
    pb = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    trace = pb.Trace()
    assert trace.ParseFromString(path.read_bytes()) > 0
    packets = list(trace.packet)
    assert {p.trusted_packet_sequence_id for p in packets} == {1}
    assert packets[0].sequence_flags == 1
    assert all(p.sequence_flags == 2 for p in packets if p.HasField("track_event") or p.HasField("interned_data"))
    processes: dict[int, str] = {}
    tracks: dict[int, tuple[str, str]] = {}
    texts: dict[tuple[str, int], str] = {}
    open_slices: dict[int, tuple[int, Any]] = {}
    last: dict[int, int] = {}
    out = Read({}, {}, [])
    for p in packets:
        for field in ("event_names", "event_categories", "debug_annotation_names"):
            texts |= {(field, x.iid): x.name for x in getattr(p.interned_data, field)}
        texts |= {("value", x.iid): x.str.decode() for x in p.interned_data.debug_annotation_string_values}
        if p.HasField("track_descriptor"):
            d = p.track_descriptor
            assert d.uuid not in {*tracks, *processes}
            if not d.uuid:
                assert d.process_ordering == pb.TrackDescriptor.PROCESS_ORDERING_EXPLICIT
                continue
            assert d.sibling_order_rank
            if d.HasField("process"):
                processes[d.uuid] = d.process.process_name
            else:
                tracks[d.uuid] = processes[d.parent_uuid], d.name
                if d.HasField("counter"):
                    out.counters[tracks[d.uuid]] = []
                    assert d.counter.unit_name == ("B/s" if d.name.endswith("bandwidth") else "")
        if not p.HasField("track_event"):
            continue
        e = p.track_event
        assert p.timestamp >= last.get(e.track_uuid, 0)
        last[e.track_uuid] = p.timestamp
        if e.type == pb.TrackEvent.TYPE_INSTANT:
            assert e.track_uuid in processes
            out.marks.append((p.timestamp, texts["event_names", e.name_iid]))
        elif e.type == pb.TrackEvent.TYPE_COUNTER:
            out.counters[tracks[e.track_uuid]].append((p.timestamp, e.double_counter_value))
        elif e.type == pb.TrackEvent.TYPE_SLICE_BEGIN:
            assert e.track_uuid not in open_slices
            open_slices[e.track_uuid] = p.timestamp, e
        else:
            start, b = open_slices.pop(e.track_uuid)
            args = {texts["debug_annotation_names", a.name_iid]: texts["value", a.string_value_iid]
                    if a.HasField("string_value_iid") else a.int_value if a.HasField("int_value") else a.double_value
                    for a in b.debug_annotations}
            out.tracks.setdefault(tracks[e.track_uuid], []).append(
                (texts["event_names", b.name_iid], texts["event_categories", b.category_iids[0]], start, p.timestamp, args,
                 sorted(b.flow_ids), sorted(b.terminating_flow_ids)))
    assert not open_slices
    return out


def read(path: Path) -> Read:
    return read_perfetto(path) if path.suffix == ".pftrace" else read_chrome(path)


@pytest.mark.parametrize("ending", timeline_files.SUFFIXES)
def test_a_file_says_what_the_timeline_says(small: Timeline, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"small{ending}"
    write_timeline(small, path)
    assert read(path) == expected(small)
    first = path.read_bytes()
    write_timeline(small, path)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", timeline_files.SUFFIXES)
def test_an_empty_timeline_is_a_whole_file(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"empty{ending}"
    write_timeline(Timeline((), ()), path)
    assert read(path) == Read({}, {}, [])


def test_numbers_as_perfetto_writes_them() -> None:
    assert [varint(n).hex() for n in (0, 1, 127, 128, 300, 2**32)] == ["00", "01", "7f", "8001", "ac02", "8080808010"]
    assert varint(-1) == b"\xff" * 9 + b"\x01"


@pytest.fixture(scope="module")
def split() -> Simulated:
    """Llama-2-7B over GPU, CPU and NVMe: 22 layers on the first, 8 on the second, 2 read from the third each step."""
    chosen = [parse(t, TECHNIQUES) for t in ("offload:via=there,layers=22", "offload:to=flash,layers=30")]
    return simulate(Query(model="llama-2-7b", hw="pc_low", isl=128), chosen, record=True)


@pytest.mark.parametrize("ending", [".pftrace", ".json.gz"])
def test_llama_over_gpu_cpu_and_nvme(split: Simulated, ending: str, tmp_path: Path) -> None:
    data = timeline(split.lowered.graph, split.run, split.lowered.ends)
    write_timeline(data, tmp_path / f"t{ending}")
    got = read(tmp_path / f"t{ending}")
    assert got == expected(data)
    assert all(follows(t) for t in data.tracks)
    assert {track for _, track in got.tracks} >= {"gpu", "cpu", "vram", "dram", "flash", "copy flash>dram", "storage flash>cpu"}
    assert {process for process, _ in got.tracks} == {"run", "rtx_2080_ti", "i7_12700k_ddr4", "nvme_pcie4", "links"}
    gpu = got.tracks["rtx_2080_ti", "gpu"]
    assert len(gpu) == 4 * (2 + 2 * 22)                               # embedding, head and 22 layers of two blocks, 4 steps
    assert {s[4]["step"] for s in gpu} == {0, 1, 2, 3}
    layers = [s[4]["layer"] for s in got.tracks["i7_12700k_ddr4", "cpu"]]
    assert layers == [layer for _ in range(4) for layer in range(22, 32) for _ in range(2)]
    assert all({"layer", "part", "phase", "step", "bound", "bytes"} <= set(s[4]) for s in gpu[1:3])
    # what a step reads from the drive is what its counter carried, and what lies there
    reads = sum(s[4]["bytes"] for s in got.tracks["links", "copy flash>dram"])
    assert reads == pytest.approx(4 * split.plans[0].resident()["flash"]["weights"])
    points = got.counters["nvme_pcie4", "flash bandwidth"]
    assert sum(rate * (b - a) * 1e-9 for (a, rate), (b, _) in pairwise(points)) == pytest.approx(reads, rel=1e-6)
    # an arrow leads from each of those copies to the compute that needed it
    sent = [n for s in got.tracks["links", "copy flash>dram"] for n in s[5]]
    needed = [n for s in got.tracks["i7_12700k_ddr4", "cpu"] if s[4]["layer"] >= 30 for n in s[6]]
    assert len(sent) == 16
    assert set(sent) <= set(needed)
    assert [name for _, name in got.marks] == [f"step {n} ends" for n in range(4)]
    assert got.marks[-1][0] == split.run.end[split.lowered.ends[-1]] // NS


# -- errors and interruption ------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("path", "message"), [
    ("t.txt", r"ending \.txt, expected one of \.pftrace, \.json, \.json\.gz"), ("t", "ending missing"),
    ("t.gz", r"ending \.gz"), ("nowhere/t.json", "there is no folder")])
def test_paths_that_cannot_be_written(small: Timeline, path: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_timeline(small, tmp_path / path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", timeline_files.SUFFIXES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_nothing_is_half_written(small: Timeline, ending: str, error: type[BaseException], tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"t{ending}"
    path.write_bytes(b"what was there before")

    def breaks(_: Timeline) -> Iterator[bytes]:
        yield b"half"
        raise error

    monkeypatch.setattr(timeline_files, "pftrace" if ending == ".pftrace" else "chrome", breaks)
    with pytest.raises(error):
        write_timeline(small, path)
    assert path.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_hundred_thousand_tasks_take_seconds(tmp_path: Path) -> None:
    n = 20_000
    tasks = [Task(f"task {i % 997}", ("core",) if i % 2 else (), 1000, flows=() if i % 2 else (Flow(1000.0, ("bus",)),),
                  after=(i - 1,) if i else (), labels={"layer": i % 32, "step": i // 64, "part": "ffn", "nbytes": 1000.0})
             for i in range(n)]
    graph = TaskGraph((CORE, BUS), tuple(tasks))
    done: Run = run(graph, record=True)
    begun = time.process_time()
    write_timeline(timeline(graph, done), tmp_path / "t.pftrace")
    assert (time.process_time() - begun) * 100_000 / n < 20
