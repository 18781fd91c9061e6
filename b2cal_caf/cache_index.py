"""The index of the collector cache, in SQLite: which outputs there are, and what every key was made of.

An output is *here* while its file lies in the cache. The row of one that went stays for half a year, so that it can be
told why something was collected again. Keys are told by their parts: file, collector and constants; the last two, of
which there are few, have tables of their own.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from b2cal_core.errors import BackendError, DataError
from b2cal_core.ranges import ExpRun

INDEX_FILE = "index.db"
_VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS outputs(output TEXT NOT NULL, file TEXT NOT NULL, PRIMARY KEY (file, output)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_of_output ON outputs(output);
CREATE TABLE IF NOT EXISTS counts(file TEXT PRIMARY KEY, events INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept(
    output TEXT PRIMARY KEY, made REAL NOT NULL, request TEXT, size INTEGER NOT NULL, used REAL NOT NULL,
    here INTEGER NOT NULL, removed REAL, why TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS collectors(
    number INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, code TEXT NOT NULL,
    configuration TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS constants(
    number INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, payloads TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS plans(
    number INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL, planned REAL NOT NULL);
CREATE INDEX IF NOT EXISTS plans_by_path ON plans(path);
CREATE TABLE IF NOT EXISTS files(
    path TEXT NOT NULL, key TEXT NOT NULL, exp INTEGER NOT NULL, run INTEGER NOT NULL, identity TEXT NOT NULL,
    collector INTEGER NOT NULL, constants INTEGER NOT NULL, plan INTEGER NOT NULL, PRIMARY KEY (path, key))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS notes(name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
"""
_AT_ONCE = 500
_LOCK_SECONDS = 60.0
_FORGOTTEN_AFTER = 180 * 86_400.0
RECORDS_SINCE = "records since"
"""Note of the time from which on plans were recorded; what was planned before is not known."""


@dataclass(frozen=True, slots=True)
class CollectorParts:
    """A collector as keys see it.

    Attributes:
        identity: hash of all the others but ``kind``.
        kind: script or module, and class; equal in different versions of one collector.
        code: hash of the sources it leans on.
        configuration: its fields and granularity, as JSON holds them.
    """

    identity: str
    kind: str
    code: str
    configuration: Mapping[str, Any]


class FileParts(NamedTuple):
    """An input file as its key sees it; a plain tuple, because plans make ten thousands of them.

    Attributes:
        identity: size in bytes and time of the last change in nanoseconds.
        constants: identity of the payloads.
        payloads: name to checksum of what the collector reads in the file's run.
    """

    key: str
    path: str
    run: ExpRun
    identity: str
    constants: str
    payloads: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file as it was planned once; ``plan`` is the number of the first plan that asked for it in this state."""

    parts: FileParts
    collector: CollectorParts
    plan: int


@dataclass(frozen=True, slots=True)
class RecordedPlan:
    """A plan, with its file, and the time it was made in seconds since 1970; later plans have higher numbers."""

    number: int
    path: Path
    planned: float


@dataclass(frozen=True, slots=True)
class RecordedOutput:
    """An output, here or gone.

    Attributes:
        made, used: seconds since 1970.
        request: directory of the request that collected it; none where that was not recorded yet.
        size: bytes.
        here: whether its file lies in the cache, as far as the index knows.
        removed: when it went the last time, if ever; it may have come back since.
        why: what became of it then.
        files: keys of its input files.
    """

    output: str
    made: float
    request: str | None
    size: int
    used: float
    here: bool
    removed: float | None
    why: str | None
    files: frozenset[str] = frozenset()


class CacheIndex:
    """The index beside the outputs; safe from several processes at once.

    Args:
        directory: of the cache.
        size_and_time: of an output's file; none where there is none. Asked when an index of the former kind, which
            did not hold these, is brought up to date.
    """

    def __init__(self, directory: Path, size_and_time: Callable[[str], tuple[int, float] | None]) -> None:
        self.path = directory / INDEX_FILE
        with self._connected() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            msg = f"the index {self.path} was made by a newer version of b2cal; use that, or another cache"
            raise BackendError(msg, transient=False)
        if version < _VERSION:
            with self.write() as connection:
                _bring_up_to_date(connection, size_and_time)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A look at one state of the index."""
        with self._connected() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A change, all of it or nothing, while no other process changes anything."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=_LOCK_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = NORMAL")
            yield connection
        except sqlite3.Error as error:
            msg = f"the index of the collector cache {self.path.parent} cannot be used: {error}; it may be removed"
            raise BackendError(msg, transient=True) from error
        finally:
            connection.close()


def _bring_up_to_date(connection: sqlite3.Connection, size_and_time: Callable[[str], tuple[int, float] | None]) -> None:
    """Make the tables that are missing; outputs of which only the name is known are told by their files."""
    for statement in filter(str.strip, _SCHEMA.split(";")):
        connection.execute(statement)
    unknown = connection.execute("SELECT DISTINCT output FROM outputs WHERE output NOT IN (SELECT output FROM kept)")
    for (output,) in unknown.fetchall():
        size, changed = size_and_time(output) or (0, 0.0)
        values = (output, changed, size, changed, size > 0)
        connection.execute("INSERT INTO kept(output, made, size, used, here) VALUES (?, ?, ?, ?, ?)", values)
    connection.execute("INSERT OR IGNORE INTO notes VALUES (?, ?)", (RECORDS_SINCE, time.time()))
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def select(connection: sqlite3.Connection, query: str, values: Iterable[str | int]) -> list[tuple[Any, ...]]:
    """The rows of ``query IN (values)``, asked for in portions."""
    asked = list(values)
    rows: list[tuple[Any, ...]] = []
    for start in range(0, len(asked), _AT_ONCE):
        portion = asked[start : start + _AT_ONCE]
        rows.extend(connection.execute(f"{query} IN ({','.join('?' * len(portion))})", portion))
    return rows


def record_plan(
    connection: sqlite3.Connection, path: Path, collector: CollectorParts, files: Sequence[FileParts]
) -> None:
    """Remember that the files were planned; of what was planned before, the first time stays."""
    plan = connection.execute("INSERT INTO plans(path, planned) VALUES (?, ?)", (str(path), time.time())).lastrowid
    written = (collector.identity, collector.kind, collector.code, json.dumps(collector.configuration))
    connection.execute("INSERT OR IGNORE INTO collectors VALUES (NULL, ?, ?, ?, ?)", written)
    payloads = {file.constants: file.payloads for file in files}
    connection.executemany(
        "INSERT OR IGNORE INTO constants VALUES (NULL, ?, ?)",
        [(identity, json.dumps(dict(found))) for identity, found in payloads.items()],
    )
    (kind,) = dict(
        select(connection, "SELECT identity, number FROM collectors WHERE identity", [collector.identity])
    ).values()
    numbers = dict(select(connection, "SELECT identity, number FROM constants WHERE identity", payloads))
    connection.executemany(
        "INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(f.path, f.key, *f.run, f.identity, kind, numbers[f.constants], plan) for f in files],
    )


def last_plan(connection: sqlite3.Connection, path: Path) -> RecordedPlan | None:
    """The plan whose file that is; the latest, where the file was written over."""
    query = "SELECT number, path, planned FROM plans WHERE path = ? ORDER BY number DESC LIMIT 1"
    row = connection.execute(query, (str(path),)).fetchone()
    return None if row is None else RecordedPlan(row[0], Path(row[1]), row[2])


def plans_numbered(connection: sqlite3.Connection, numbers: Iterable[int]) -> dict[int, RecordedPlan]:
    """The plans of these numbers."""
    rows = select(connection, "SELECT number, path, planned FROM plans WHERE number", set(numbers))
    return {number: RecordedPlan(number, Path(path), planned) for number, path, planned in rows}


def recorded_files(connection: sqlite3.Connection, paths: Iterable[str]) -> dict[str, list[RecordedFile]]:
    """Path to all states in which the file was ever planned, in the order they were first."""
    query = (
        "SELECT path, key, exp, run, files.identity, constants.identity, payloads, "
        "collectors.identity, kind, code, configuration, plan "
        "FROM files JOIN collectors ON collector = collectors.number JOIN constants ON constants = constants.number "
        "WHERE path"
    )
    found: dict[str, list[RecordedFile]] = {}
    for row in sorted(select(connection, query, paths), key=lambda row: int(row[-1])):
        path, key, exp, run, identity, constants, payloads, collector, kind, code, configuration, plan = row
        parts = FileParts(key, path, ExpRun(exp, run), identity, constants, json.loads(payloads))
        recorded = RecordedFile(parts, CollectorParts(collector, kind, code, json.loads(configuration)), plan)
        found.setdefault(path, []).append(recorded)
    return found


_OUTPUT = "SELECT output, made, request, size, used, here, removed, why FROM kept WHERE output"


def recorded_outputs(connection: sqlite3.Connection, outputs: Iterable[str]) -> dict[str, RecordedOutput]:
    """What is known of the outputs, without their files."""
    return {row[0]: _output(row) for row in select(connection, _OUTPUT, outputs)}


def outputs_over(connection: sqlite3.Connection, keys: Iterable[str]) -> dict[str, list[RecordedOutput]]:
    """Key to all outputs over it, here or gone."""
    pairs = select(connection, "SELECT file, output FROM outputs WHERE file", keys)
    names = sorted({output for _, output in pairs})
    contents: dict[str, set[str]] = {}
    for output, file in select(connection, "SELECT output, file FROM outputs WHERE output", names):
        contents.setdefault(output, set()).add(file)
    known = {row[0]: _output(row, contents[row[0]]) for row in select(connection, _OUTPUT, names)}
    found: dict[str, list[RecordedOutput]] = {}
    for file, output in pairs:
        found.setdefault(file, []).append(known[output])
    return found


def note(connection: sqlite3.Connection, name: str) -> float:
    """A time that was noted; ``DataError`` when it was not."""
    row = connection.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
    if row is None:
        msg = f"the index of the collector cache lacks the note {name!r}; remove the index, it is made again"
        raise DataError(msg)
    return float(row[0])


def claim(connection: sqlite3.Connection, name: str, *, every: float) -> bool:
    """Whether this is the first time in so many seconds that somebody asks for the name."""
    now = time.time()
    statement = (
        "INSERT INTO notes VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value = excluded.value WHERE value <= ?"
    )
    return connection.execute(statement, (name, now, now - every)).rowcount == 1


def forget_old(connection: sqlite3.Connection) -> None:
    """Forget outputs that went half a year ago, and files last planned anew before that of which nothing is kept."""
    before = time.time() - _FORGOTTEN_AFTER
    for statement in filter(str.strip, _FORGET.split(";")):
        connection.execute(statement, {"before": before} if ":before" in statement else {})


_FORGET = """
DELETE FROM outputs WHERE output IN (SELECT output FROM kept WHERE NOT here AND coalesce(removed, 0) < :before);
DELETE FROM kept WHERE NOT here AND coalesce(removed, 0) < :before;
DELETE FROM files WHERE plan IN (SELECT number FROM plans WHERE planned < :before)
    AND key NOT IN (SELECT file FROM outputs);
DELETE FROM plans WHERE planned < :before AND number NOT IN (SELECT plan FROM files);
DELETE FROM collectors WHERE number NOT IN (SELECT collector FROM files);
DELETE FROM constants WHERE number NOT IN (SELECT constants FROM files);
"""


def _output(row: tuple[Any, ...], files: Iterable[str] = ()) -> RecordedOutput:
    output, made, request, size, used, here, removed, why = row
    return RecordedOutput(output, made, request, size, used, bool(here), removed, why, frozenset(files))
