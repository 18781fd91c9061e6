"""Where each calibration of a request stands, so that the next process can go on: the table of basf2's CAF."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from b2cal_caf.layout import RESULTS, STATE_DB
from b2cal_caf.machine import State
from b2cal_caf.state_database import StateDatabase
from b2cal_core.errors import DataError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calibrations(
    name TEXT PRIMARY KEY, state TEXT NOT NULL, checkpoint TEXT NOT NULL, iteration INTEGER NOT NULL);
"""


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
        self._database = StateDatabase(path, _SCHEMA)

    def rows(self) -> tuple[CalibrationRow, ...]:
        """All calibrations in the order they were added."""
        return self._database.attempt(_read_rows)

    def write(self, row: CalibrationRow) -> None:
        """Add the calibration or change where it stands."""
        statement = (
            "INSERT INTO calibrations VALUES (?, ?, ?, ?) ON CONFLICT(name) DO UPDATE SET "
            "state = excluded.state, checkpoint = excluded.checkpoint, iteration = excluded.iteration"
        )
        values = (row.name, row.state.value, row.checkpoint.value, row.iteration)
        self._database.attempt(lambda connection: connection.execute(statement, values))


def state_file(directory: Path) -> Path:
    """The ``caf_state.db`` of a request.

    Args:
        directory: the request's directory, or its ``calibration_results``.

    Raises:
        DataError: there is none.
    """
    for path in (directory / RESULTS / STATE_DB, directory / STATE_DB):
        if path.exists():
            return path
    msg = f"{directory} holds no {RESULTS}/{STATE_DB}; is it the working directory of a CAF request that was started?"
    raise DataError(msg)


def caf_status(directory: Path) -> tuple[CalibrationRow, ...]:
    """The checkpoints of a request, also while it runs; see ``state_file`` for ``directory`` and errors."""
    return CheckpointStore(state_file(directory)).rows()


def _read_rows(connection: sqlite3.Connection) -> tuple[CalibrationRow, ...]:
    found = connection.execute("SELECT name, state, checkpoint, iteration FROM calibrations ORDER BY rowid")
    return tuple(CalibrationRow(name, State(state), State(point), number) for name, state, point, number in found)
