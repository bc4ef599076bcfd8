"""One SQLite file per sweep: every finished point once, safe against a kill at any moment.

Points and figures have a column each (table ``result``): rows are written four times as fast as JSON texts (220,000 a
second against 53,000) and take a third of the space. The view ``point`` shows them as (key, params_json, status,
metrics_json, error, t). Rows of a chunk are written in one transaction, in WAL mode, so that a killed process loses the
chunks in flight and nothing else.
A chunk in flight is claimed by its process; a claim of a process that is gone is void.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.sweep.evaluate import STATUS, Results
from sim.sweep.front import Columns
from sim.sweep.identity import Identity

VERSION = "perfboard/sweep/1"
#: How long to wait for another process that writes. [s]
PATIENCE = 30.0
_NUMBERED = ("id INTEGER PRIMARY KEY, key INTEGER NOT NULL UNIQUE, stamp INTEGER NOT NULL, status INTEGER NOT NULL, "
             "error TEXT, t REAL")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Store:
    """An open store. ``Store.open`` for one that exists, ``Store.at`` to make or continue one. A context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._db = path, connection
        found = dict(self._db.execute("SELECT key, value FROM meta"))
        self.meta: dict[str, Any] = {k: json.loads(v) for k, v in found.items()}

    @classmethod
    def open(cls, path: Path) -> Store:
        """Raises ``ValueError`` for a file that is not there or no store."""
        if not path.is_file():
            raise ValueError(f"{path}: no such store; start one with: perfboard sweep run SWEEP.toml")
        try:
            store = cls(path, _connect(path))
        except sqlite3.Error as error:
            raise ValueError(f"{path}: {_reason(error)}") from None
        if store.meta.get("schema") != VERSION:
            raise ValueError(f"{path}: no store of this version of sweeps ({VERSION}); found {store.meta.get('schema')!r}")
        return store

    @classmethod
    def at(cls, path: Path, identity: Identity, text: str, file: str) -> Store:
        """The store of this sweep, new or found. Raises ``ValueError`` for the store of another sweep."""
        if path.exists() and path.stat().st_size:
            store = cls.open(path)
            if store.meta["identity"] != identity.sweep:
                store.close()
                raise ValueError(f"{path}: belongs to another sweep ({store.meta['file']}: {_differs(store.meta, identity)}); "
                                 f"choose another folder with -o DIR; nothing was changed")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _create(path, identity)
            except sqlite3.Error as error:
                raise ValueError(f"{path}: {_reason(error)}") from None
            return cls.at(path, identity, text, file)
        store._describe(identity, text, file)
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    # -- writing ------------------------------------------------------------------------------------------------------

    def add(self, keys: NDArray[np.int64], stamps: NDArray[np.int64], columns: Mapping[str, Any], results: Results,
            claim: tuple[str, int] | None = None) -> int:
        """Write finished points in one transaction (and end their claim); how many were new. A point that is already
        there stays as it is."""
        names = [*self.parameters, *self.figures]
        values = [np.asarray(columns[n] if n in columns else results.figures[n]).tolist() for n in names]
        n, now = len(keys), time.time()
        rows = zip(keys.tolist(), stamps.tolist(), results.status.tolist(), [e or None for e in results.error],
                   [now] * n, *values, strict=True)
        into = ", ".join(map(_quoted, ("key", "stamp", "status", "error", "t", *names)))
        marks = ", ".join("?" * (5 + len(names)))
        with self._transaction():
            before = self._db.total_changes
            self._db.executemany(f"INSERT OR IGNORE INTO result ({into}) VALUES ({marks})", rows)
            added = self._db.total_changes - before
            if claim:
                self._db.execute("UPDATE claim SET owner = '' WHERE space = ? AND chunk = ?", claim)
        return added

    def claim(self, space: str, chunk: int) -> bool:
        """Take a chunk, unless it is done or another living process works on it."""
        with self._transaction():
            row = self._db.execute("SELECT owner FROM claim WHERE space = ? AND chunk = ?", (space, chunk)).fetchone()
            if row and (row[0] == "" or (row[0] != _me() and _alive(row[0]))):
                return False
            self._db.execute("INSERT OR REPLACE INTO claim VALUES (?, ?, ?)", (space, chunk, _me()))
        return True

    def finished(self, space: str) -> set[int]:
        """Chunks that some process has written whole."""
        return {c for (c,) in self._db.execute("SELECT chunk FROM claim WHERE space = ? AND owner = ''", (space,))}

    def reopen(self, space: str, chunks: Sequence[int]) -> None:
        """Chunks in which something is left to do are not done (a model, a device or the code has changed)."""
        with self._transaction():
            self._db.executemany("DELETE FROM claim WHERE space = ? AND chunk = ? AND owner = ''",
                                 [(space, c) for c in chunks])

    def release(self) -> None:
        """Give back all that this process has claimed and not finished."""
        with self._transaction():
            self._db.execute("DELETE FROM claim WHERE owner = ?", (_me(),))

    def stamp(self, content: Mapping[str, str]) -> int:
        """Number of this state of model, device and code; a new one for a new state."""
        text = json.dumps(dict(content), sort_keys=True)
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO stamp (content) VALUES (?)", (text,))
        found: tuple[int] = self._db.execute("SELECT id FROM stamp WHERE content = ?", (text,)).fetchone()
        return found[0]

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> list[str]:
        return list(self.meta["parameters"])

    @property
    def figures(self) -> list[str]:
        return list(self.meta["figures"])

    @property
    def objectives(self) -> dict[str, str]:
        with self._told():
            return dict(self._db.execute("SELECT name, direction FROM objective ORDER BY rowid"))

    def done(self, stamps: Sequence[int]) -> NDArray[np.int64]:
        """Keys of all finished points of these states, sorted."""
        with self._told():
            cursor = self._db.execute(f"SELECT key FROM result WHERE stamp IN ({_list(stamps)})")
            found = np.fromiter((k for k, in cursor), dtype=np.int64)
        found.sort()
        return found

    def known(self, keys: NDArray[np.int64], names: Sequence[str]) -> dict[int, tuple[Any, ...]]:
        """Key -> (status, figures named) of those points that are there."""
        columns = ", ".join(map(_quoted, ("key", "status", *names)))
        with self._told():
            rows = self._db.execute(f"SELECT {columns} FROM result WHERE key IN ({_list(keys.tolist())})").fetchall()
        return {row[0]: row[1:] for row in rows}

    def counts(self) -> dict[tuple[int, str], int]:
        """Rows by stamp and status."""
        with self._told():
            rows = self._db.execute("SELECT stamp, status, count(*) FROM result GROUP BY stamp, status").fetchall()
        return {(stamp, STATUS[status]): n for stamp, status, n in rows}

    def stamps(self) -> dict[int, dict[str, str]]:
        """Content hashes of every state that rows were computed in."""
        with self._told():
            return {i: json.loads(text) for i, text in self._db.execute("SELECT id, content FROM stamp")}

    def load(self, names: Sequence[str] | None = None, *, stamps: Sequence[int] | None = None, status: str = "",
             ids: Sequence[int] | None = None) -> Columns:
        """Columns by name (parameters, figures, status, error; ``id`` numbers the rows), rows in the order in which they
        were finished; of the states ``stamps``, of one status, of these ``ids``."""
        wanted = list(names) if names is not None else [*self.parameters, *self.figures, "status", "error"]
        where = ["1"] if stamps is None else [f"stamp IN ({_list(stamps)})"]
        where += [f"status = {STATUS.index(status)}"] if status else []
        where += [f"id IN ({_list(ids)})"] if ids is not None else []
        with self._told():
            cursor = self._db.execute(f"SELECT {', '.join(map(_quoted, wanted)) or '1'} FROM result "
                                      f"WHERE {' AND '.join(where)} ORDER BY id")
            parts: dict[str, list[Any]] = {n: [] for n in wanted}
            while rows := cursor.fetchmany(65536):
                for n, values in zip(wanted, zip(*rows, strict=True), strict=True):
                    parts[n].append(self._array(n, values))
        return {n: np.concatenate(p) if p else self._array(n, ()) for n, p in parts.items()}

    def _array(self, name: str, values: Sequence[Any]) -> NDArray[Any]:
        if name == "id":
            return np.array(values, dtype=np.int64)
        if name == "status":
            return np.array(STATUS)[np.array(values, dtype=np.int64)]
        if name == "error":
            return np.array([v or "" for v in values], dtype=object)
        of = self.meta["parameters"].get(name, "REAL")
        if of == "TEXT":
            return np.array(values, dtype=object)
        return np.array(values, dtype=np.int64 if of == "INTEGER" else np.float64)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _describe(self, identity: Identity, text: str, file: str) -> None:
        """The experiment as it is now (its values may have grown since), and its objectives."""
        facts = {"file": file, "experiment": text, **({} if "created" in self.meta else {"created": time.time()})}
        with self._transaction():
            for key, value in facts.items():
                self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))
            self._db.execute("DELETE FROM objective")
            self._db.executemany("INSERT INTO objective VALUES (?, ?)", identity.objectives.items())
        self.meta |= facts

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of the database as one line; what was committed stays."""
        try:
            yield
        except sqlite3.Error as error:
            raise ValueError(f"{self.path}: {_reason(error)}; what is finished is safe") from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")          # safe against kill -9; a power cut may lose the last chunks
    db.execute("PRAGMA cache_size = -65536")           # 64 MB: the index on keys is written at random
    return db


def _create(path: Path, identity: Identity) -> None:
    """An empty store with all its tables under its name at once, so that another process sees it whole or not at all; one
    that was there first stays."""
    new = path.with_name(f"{path.name}.new-{os.getpid()}")
    try:
        _fill(new, identity)
        if path.exists() and not path.stat().st_size:
            path.unlink(missing_ok=True)                # left by a process that was killed before it had written
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        for part in (new, *(new.with_name(new.name + end) for end in ("-wal", "-shm"))):
            part.unlink(missing_ok=True)


def _fill(path: Path, identity: Identity) -> None:
    db = _connect(path)
    typed = [f"{_quoted(n)} {t}" for n, t in identity.parameters.items()] + [f"{_quoted(n)} REAL" for n in identity.figures]
    facts = {"schema": VERSION, "identity": identity.sweep, "parameters": identity.parameters, "figures": identity.figures,
             "base": identity.base}
    db.execute("BEGIN IMMEDIATE")
    db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT)")
    db.execute("CREATE TABLE IF NOT EXISTS objective (name TEXT PRIMARY KEY, direction TEXT)")
    db.execute("CREATE TABLE IF NOT EXISTS stamp (id INTEGER PRIMARY KEY, content TEXT UNIQUE)")
    db.execute("CREATE TABLE IF NOT EXISTS claim (space TEXT, chunk INTEGER, owner TEXT, PRIMARY KEY (space, chunk))")
    db.execute(f"CREATE TABLE IF NOT EXISTS result ({_NUMBERED}, {', '.join(typed)})")
    db.execute(f"CREATE VIEW IF NOT EXISTS point AS SELECT printf('%016x', key) AS key, {_json(identity.parameters)} AS "
               f"params_json, CASE status {' '.join(f'WHEN {i} THEN {s!r}' for i, s in enumerate(STATUS))} END AS status, "
               f"{_json(identity.figures)} AS metrics_json, error, t FROM result")
    for key, value in facts.items():
        db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, json.dumps(value)))
    db.execute("COMMIT")
    db.close()                                          # the last to close takes the log over into the file


def _json(names: Sequence[str] | Mapping[str, str]) -> str:
    """An SQL expression for a JSON object of these columns; a function takes 100 arguments at most."""
    some = list(names)
    parts = [", ".join(f"'{n}', {_quoted(n)}".replace("''", "'") for n in some[i:i + 40]) for i in range(0, len(some), 40)]
    text = f"json_object({parts[0] if parts else ''})"
    for part in parts[1:]:
        text = f"json_patch({text}, json_object({part}))"
    return text


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(str(int(n)) for n in numbers) or "NULL"


def _differs(meta: Mapping[str, Any], identity: Identity) -> str:
    """The first thing in which two sweeps differ."""
    for what, old, new in (("axes", list(meta["parameters"]), list(identity.parameters)),
                           ("figures", list(meta["figures"]), list(identity.figures))):
        if gone := [n for n in old if n not in new] or [n for n in new if n not in old]:
            return f"its {what} {'have' if gone[0] in old else 'lack'} {gone[0]}"
    changed = [k for k in {**meta["base"], **identity.base} if meta["base"].get(k) != identity.base.get(k)]
    if not changed:
        return "other axes"
    return f"its {changed[0]} is {meta['base'].get(changed[0])!r}, here {identity.base.get(changed[0])!r}"


def _reason(error: sqlite3.Error) -> str:
    text = str(error)
    if "full" in text:
        return "the disk is full"
    if "locked" in text:
        return f"another process has locked it for {PATIENCE:g} s; try again later"
    if any(part in text for part in ("not a database", "malformed", "no such table")):
        return "not a store of a sweep (or damaged)"
    return text


def _me() -> str:
    return f"{os.getpid()}:{_born(os.getpid())}"


def _born(pid: int) -> str:
    """When a process started, so that a reused number is not taken for it; empty where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _alive(owner: str) -> bool:
    pid, _, born = owner.partition(":")
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return _born(int(pid)) == born
