"""The SQLite file ``caf_state.db`` of a request, written by the process that works on it, read by others meanwhile."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from b2cal_core.errors import BackendError

_ATTEMPTS = 3
_LOCK_SECONDS = 30.0
_Answer = TypeVar("_Answer")


class StateDatabase:
    """One such file.

    Args:
        path: made when missing.
        schema: statements that make the tables that are needed, where they are not there.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.attempt(lambda connection: connection.executescript(schema))

    def attempt(self, action: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        """Do something in one transaction, three times if need be.

        Raises:
            BackendError: it could not be done; nothing of it was.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with _connected(self.path) as connection:
                    return action(connection)
            except sqlite3.Error as error:
                if attempt == _ATTEMPTS:
                    msg = f"the checkpoints in {self.path} cannot be used: {error}; check the disk, then run again"
                    raise BackendError(msg, transient=True) from error
        msg = f"the checkpoints in {self.path} were never tried"
        raise BackendError(msg, transient=False)


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=_LOCK_SECONDS)
    try:
        with connection:
            connection.execute("PRAGMA synchronous = NORMAL")
            yield connection
    finally:
        connection.close()
