"""What was collected once, by content: the same collector, files and constants are not collected again.

An output is a collector file over some input files. It can be used again whenever all of its input files are wanted,
also where others were added or taken away around them. Beside the outputs lies an index in SQLite; it holds the
events counted per input file too.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import share_file
from b2cal_caf.collected import FORMAT_VERSION
from b2cal_caf.root_files import root_damage
from b2cal_core.errors import BackendError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS outputs(output TEXT NOT NULL, file TEXT NOT NULL, PRIMARY KEY (file, output)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS files_of_output ON outputs(output);
CREATE TABLE IF NOT EXISTS counts(file TEXT PRIMARY KEY, events INTEGER NOT NULL) WITHOUT ROWID;
"""
_AT_ONCE = 500
_LOCK_SECONDS = 60.0


def file_key(collector: str, file: str, constants: str) -> str:
    """The identity of what a collector finds in one input file, from three identities."""
    return _hashed([f"format {FORMAT_VERSION}", collector, file, constants])


def output_key(file_keys: Iterable[str]) -> str:
    """The identity of a collector file over these input files, in order."""
    return _hashed(file_keys)


class CollectorCache:
    """A directory of collector outputs, shared by all requests; safe from several processes at once.

    Args:
        directory: made when missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        with self._index() as connection:
            connection.executescript(f"PRAGMA journal_mode = WAL; {_SCHEMA}")

    def find(self, wanted: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
        """Outputs over wanted files only, no two over the same file; larger ones are taken first.

        Returns:
            Output and its files, in the order of the wanted.
        """
        position = {key: number for number, key in enumerate(wanted)}
        with self._index() as connection:
            names = {
                name for (name,) in _select(connection, "SELECT DISTINCT output FROM outputs WHERE file IN", wanted)
            }
            rows = _select(connection, "SELECT output, file FROM outputs WHERE output IN", sorted(names))
        contents: dict[str, list[str]] = {}
        for name, file in rows:
            contents.setdefault(name, []).append(file)
        fitting = [(name, files) for name, files in contents.items() if all(file in position for file in files)]
        found: list[tuple[str, tuple[str, ...]]] = []
        taken: set[str] = set()
        for name, files in sorted(fitting, key=lambda item: (-len(item[1]), item[0])):
            if taken.isdisjoint(files) and self._is_whole(name):
                taken.update(files)
                found.append((name, tuple(sorted(files, key=position.__getitem__))))
        return sorted(found, key=lambda item: position[item[1][0]])

    def give(self, output: str, target: Path) -> None:
        """Lay the output at ``target``."""
        share_file(self._path(output), target)

    def keep(self, outputs: Mapping[str, tuple[Path, Sequence[str]]]) -> None:
        """Keep new outputs: name to the file and the keys of the input files in it."""
        for name, (source, _) in outputs.items():
            if not self._path(name).exists():
                share_file(source, self._path(name))
        rows = [(name, file) for name, (_, files) in outputs.items() for file in files]
        with self._index() as connection:
            connection.executemany("INSERT OR IGNORE INTO outputs VALUES (?, ?)", rows)

    def counts(self, files: Sequence[str]) -> dict[str, int]:
        """Events of the input files that were counted before."""
        with self._index() as connection:
            rows = _select(connection, "SELECT file, events FROM counts WHERE file IN", files)
        return {str(file): int(events) for file, events in rows}

    def keep_counts(self, events: Mapping[str, int]) -> None:
        """Keep events per input file."""
        with self._index() as connection:
            connection.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?)", events.items())

    def _path(self, output: str) -> Path:
        return self._directory / output[:2] / f"{output}.root"

    def _is_whole(self, output: str) -> bool:
        try:
            return root_damage(self._path(output)) is None
        except FileNotFoundError:
            return False

    @contextmanager
    def _index(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._directory / "index.db", timeout=_LOCK_SECONDS)
        try:
            with connection:
                connection.execute("PRAGMA synchronous = NORMAL")
                yield connection
        except sqlite3.Error as error:
            msg = f"the index of the collector cache {self._directory} cannot be used: {error}; it may be removed"
            raise BackendError(msg, transient=True) from error
        finally:
            connection.close()


def _select(connection: sqlite3.Connection, query: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows of ``query IN (values)``, asked for in portions."""
    rows: list[tuple[str, ...]] = []
    for start in range(0, len(values), _AT_ONCE):
        portion = values[start : start + _AT_ONCE]
        rows.extend(connection.execute(f"{query} ({','.join('?' * len(portion))})", portion))
    return rows


def _hashed(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
