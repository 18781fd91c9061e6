"""``caf_state.db``: where each calibration of a request stands, so that the next process can go on.

The table ``calibrations`` is that of basf2's CAF; ``jobs`` remembers what was handed to the batch system.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from b2cal_caf.layout import RESULTS, STATE_DB
from b2cal_caf.machine import State
from b2cal_core.errors import BackendError, DataError

_ATTEMPTS = 3
_LOCK_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS calibrations(
    name TEXT PRIMARY KEY, state TEXT NOT NULL, checkpoint TEXT NOT NULL, iteration INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS jobs(
    directory TEXT PRIMARY KEY, attempt INTEGER NOT NULL, native_id TEXT NOT NULL);
"""
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """One calibration: its state, the last state that work can be taken up from, and its iteration."""

    name: str
    state: State
    checkpoint: State
    iteration: int


class CheckpointStore:
    """The checkpoints of one request.

    Args:
        path: the SQLite file, made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._attempt(lambda connection: connection.executescript(_SCHEMA))

    def rows(self) -> tuple[CalibrationRow, ...]:
        """All calibrations in the order they were added."""
        return self._attempt(_read_rows)

    def write(self, row: CalibrationRow) -> None:
        """Add the calibration or change where it stands."""
        statement = (
            "INSERT INTO calibrations VALUES (?, ?, ?, ?) ON CONFLICT(name) DO UPDATE SET "
            "state = excluded.state, checkpoint = excluded.checkpoint, iteration = excluded.iteration"
        )
        values = (row.name, row.state.value, row.checkpoint.value, row.iteration)
        self._attempt(lambda connection: connection.execute(statement, values))

    def jobs(self, below: Path) -> dict[Path, tuple[int, str]]:
        """Directory to the attempt and native id of what was submitted for it, for directories below one."""
        query = "SELECT directory, attempt, native_id FROM jobs WHERE substr(directory, 1, ?) = ?"
        prefix = f"{below}/"
        found = self._attempt(lambda connection: connection.execute(query, (len(prefix), prefix)).fetchall())
        return {Path(directory): (attempt, native_id) for directory, attempt, native_id in found}

    def write_jobs(self, jobs: Iterable[tuple[Path, int, str]]) -> None:
        """Remember directory, attempt and native id of jobs, in one transaction."""
        values = [(str(directory), attempt, native_id) for directory, attempt, native_id in jobs]
        self._attempt(lambda connection: connection.executemany("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)", values))

    def forget_jobs(self, below: Path) -> None:
        """Forget what was submitted for directories below one."""
        prefix = f"{below}/"
        statement = "DELETE FROM jobs WHERE substr(directory, 1, ?) = ?"
        self._attempt(lambda connection: connection.execute(statement, (len(prefix), prefix)))

    def _attempt(self, action: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with _connected(self._path) as connection:
                    return action(connection)
            except sqlite3.Error as error:
                if attempt == _ATTEMPTS:
                    msg = f"the checkpoints in {self._path} cannot be used: {error}; check the disk, then run again"
                    raise BackendError(msg, transient=True) from error
        msg = f"the checkpoints in {self._path} were never tried"
        raise BackendError(msg, transient=False)


def caf_status(directory: Path) -> tuple[CalibrationRow, ...]:
    """The checkpoints of a request, also while it runs.

    Args:
        directory: the request's directory, or its ``calibration_results``.

    Raises:
        DataError: there are none.
    """
    for path in (directory / RESULTS / STATE_DB, directory / STATE_DB):
        if path.exists():
            return CheckpointStore(path).rows()
    msg = f"{directory} holds no {RESULTS}/{STATE_DB}; is it the working directory of a CAF request that was started?"
    raise DataError(msg)


def _read_rows(connection: sqlite3.Connection) -> tuple[CalibrationRow, ...]:
    found = connection.execute("SELECT name, state, checkpoint, iteration FROM calibrations ORDER BY rowid")
    return tuple(CalibrationRow(name, State(state), State(point), number) for name, state, point, number in found)


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=_LOCK_SECONDS)
    try:
        with connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            yield connection
    finally:
        connection.close()
