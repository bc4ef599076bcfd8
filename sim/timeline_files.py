"""Timelines as files: Perfetto traces (.pftrace) and Chrome JSON (.json, .json.gz). Both open at ui.perfetto.dev.

The Perfetto format is protocol buffers; the few messages needed are encoded here, so that no library is. Field numbers
are those of perfetto's ``protos/perfetto/trace/`` (perfetto_trace.proto); a test reads the files with Perfetto's own
classes.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

from sim.timeline import WHOLE, Counter, Slice, Timeline, Track

SUFFIXES = (".pftrace", ".json", ".json.gz")


def check_path(path: Path, option: str, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Raise ``ValueError`` for an ending that nothing writes or a folder that is not there: before a long run, not after."""
    if not path.name.lower().endswith(suffixes):
        raise ValueError(f"{option} {path}: ending {path.suffix or 'missing'}, expected one of {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {path.parent}")


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that is there complete or not at all: what it replaces stays until all is written."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_timeline(data: Timeline, path: Path) -> None:
    """Write ``data`` in the format of the ending of ``path``. Raises ``ValueError`` for any other ending."""
    check_path(path, "timeline")
    parts = pftrace(data) if path.name.lower().endswith(".pftrace") else chrome(data)
    with whole_file(path) as file:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:     # no name and no time: the same bytes each time
                _write(packed.write, parts)
        else:
            _write(file.write, parts)


def _write(write: Callable[[bytes], Any], parts: Iterable[bytes]) -> None:
    parts = iter(parts)
    while some := b"".join(islice(parts, 4096)):
        write(some)


def _processes(data: Timeline) -> dict[str, int]:
    """Numbers of the devices, in order, from 1."""
    names = dict.fromkeys([*([WHOLE] if data.marks else []), *(x.process for x in data.order)])
    return {name: n for n, name in enumerate(names, 1)}


# -- Chrome JSON ------------------------------------------------------------------------------------------------------

def chrome(data: Timeline) -> Iterator[bytes]:
    """JSON object format of the trace event format: complete events (X), counters (C), metadata (M), arrows (s, f) and
    instants (i); times in microseconds with three digits, so whole nanoseconds."""
    head = '{"displayTimeUnit":"ns","traceEvents":[\n'
    for event in _events(data):
        yield (head + json.dumps(event, separators=(",", ":"), allow_nan=False)).encode()
        head = ",\n"
    yield b"\n]}\n" if head == ",\n" else (head + "]}\n").encode()


def _events(data: Timeline) -> Iterator[dict[str, Any]]:
    pids = _processes(data)
    for name, pid in pids.items():
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": name}}
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_sort_index", "args": {"sort_index": pid}}
    for tid, x in enumerate(data.order, 1):
        pid = pids[x.process]
        if isinstance(x, Counter):
            for time, value in x.points:
                yield {"ph": "C", "pid": pid, "name": x.name, "ts": time / 1e3, "args": {x.unit or "value": value}}
            continue
        yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": x.name}}
        yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_sort_index", "args": {"sort_index": tid}}
        for s in x.slices:
            yield {"ph": "X", "pid": pid, "tid": tid, "ts": s.start / 1e3, "dur": (s.end - s.start) / 1e3, "name": s.name,
                   "cat": s.kind, "args": dict(s.args)}
            for n in s.gets:
                yield {"ph": "f", "bp": "e", "id": n, "pid": pid, "tid": tid, "ts": s.start / 1e3, "name": "needed",
                       "cat": "needed"}
            for n in s.sends:
                yield {"ph": "s", "id": n, "pid": pid, "tid": tid, "ts": s.start / 1e3, "name": "needed", "cat": "needed"}
    for time, name in data.marks:
        yield {"ph": "i", "s": "g", "pid": pids[WHOLE], "tid": 0, "ts": time / 1e3, "name": name}


# -- Perfetto ---------------------------------------------------------------------------------------------------------

_SEQUENCE = 1
_CLEARED, _NEEDED = 1, 2                             # TracePacket.sequence_flags
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4        # TrackEvent.type
_EXPLICIT = 3                                        # TrackDescriptor.child_ordering: by rank
_NAMES, _CATEGORIES, _KEYS, _TEXTS = 2, 1, 3, 29     # fields of InternedData


def varint(n: int) -> bytes:
    """Seven bits a byte, the lowest first; negative numbers as 64 bits."""
    n &= 2**64 - 1
    if n < 128:
        return _ONE[n]
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


_ONE = [bytes((n,)) for n in range(128)]


def _int(field: int, n: int) -> bytes:
    return varint(field << 3) + varint(n)


def _double(field: int, x: float) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<d", x)


def _fixed64(field: int, n: int) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<Q", n)


def _bytes(field: int, content: bytes | str) -> bytes:
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


class _Interned:
    """Texts by number. ``new`` are those that the next packet must bring along."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, str], int] = {}
        self.pairs: dict[tuple[str, Any], bytes] = {}
        self.new: list[bytes] = []

    def number(self, field: int, text: str) -> int:
        found = self.known.get((field, text))
        if found is None:
            found = self.known[field, text] = len(self.known) + 1
            self.new.append(_bytes(field, _int(1, found) + _bytes(2, text)))
        return found

    def args(self, args: Mapping[str, Any]) -> bytes:
        return b"".join([self.pairs.get(pair) or self._pair(*pair) for pair in args.items()])

    def _pair(self, key: str, value: Any) -> bytes:
        name = _int(1, self.number(_KEYS, key))
        made = (_int(17, self.number(_TEXTS, value)) if isinstance(value, str) else
                _int(4, value) if isinstance(value, int) else _double(5, value))
        self.pairs[key, value] = _bytes(4, name + made)
        return self.pairs[key, value]

    def take(self) -> bytes:
        content, self.new = b"".join(self.new), []
        return _bytes(12, content) if content else b""


def pftrace(data: Timeline) -> Iterator[bytes]:
    """Packets of a Perfetto trace, all on one sequence: first the state is cleared, then tracks are named, then events.

    Packets of one track are in order of time; a reader sorts those of different tracks.
    """
    yield _packet(_int(13, _CLEARED))
    pids, names = _processes(data), _Interned()
    yield _packet(_bytes(60, _int(1, 0) + _int(19, 1)))                       # the root: processes go by their ranks
    for process, pid in pids.items():
        named = _bytes(3, _int(1, pid) + _bytes(6, process))
        yield _packet(_bytes(60, _int(1, pid) + named + _int(11, _EXPLICIT) + _int(12, pid)))
    for uuid, x in enumerate(data.order, len(pids) + 1):
        counter = _bytes(8, _bytes(6, x.unit)) if isinstance(x, Counter) and x.unit else _bytes(8, b"") * isinstance(x, Counter)
        yield _packet(_bytes(60, _int(1, uuid) + _bytes(2, x.name) + _int(5, pids[x.process]) + counter + _int(12, uuid)))
        yield from _of_counter(x, uuid) if isinstance(x, Counter) else _of_track(x, uuid, names)
    for time, name in data.marks:
        body = _int(9, _INSTANT) + _int(10, names.number(_NAMES, name)) + _int(11, pids[WHOLE])
        yield _packet(_int(8, time) + _SAME + names.take() + _bytes(11, body))


def _packet(content: bytes) -> bytes:
    return _bytes(1, _int(10, _SEQUENCE) + content)


_SAME = _int(13, _NEEDED)


def _of_track(track: Track, uuid: int, names: _Interned) -> Iterator[bytes]:
    here = _int(11, uuid)
    begin, end = _int(9, _BEGIN) + here, _SAME + _bytes(11, _int(9, _END) + here)
    for s in track.slices:
        yield _packet(_int(8, s.start) + _SAME + _begin(s, begin, names))
        yield _packet(_int(8, s.end) + end)


def _begin(s: Slice, begin: bytes, names: _Interned) -> bytes:
    body = (begin + _int(10, names.number(_NAMES, s.name)) + _int(3, names.number(_CATEGORIES, s.kind)) + names.args(s.args)
            + b"".join([_fixed64(47, n) for n in s.sends]) + b"".join([_fixed64(48, n) for n in s.gets]))
    return names.take() + _bytes(11, body)


def _of_counter(counter: Counter, uuid: int) -> Iterator[bytes]:
    here = _int(9, _COUNTER) + _int(11, uuid)
    for time, value in counter.points:
        yield _packet(_int(8, time) + _SAME + _bytes(11, here + _double(44, value)))
