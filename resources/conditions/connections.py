"""Connections to the embedded conditions database, for many threads, processes and forks at once.

No connection outlives its transaction, so a forked process never shares one. On SQLite, readers see one consistent
state and never wait (write-ahead log), and writers take the one write lock at the beginning, so that what they read
is still true when they write.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy import exc
from sqlalchemy.pool import NullPool

from b2cal_core.errors import BackendError, ConflictError
from resources.conditions import schema

BUSY_SECONDS = 60.0

# SQLite's names of what went wrong, whether asking again can help, and what a person is told to do.
_CAUSES = {
    "SQLITE_BUSY": (True, "another process has been writing for too long; ask again"),
    "SQLITE_LOCKED": (True, "another process has been writing for too long; ask again"),
    "SQLITE_FULL": (False, "the disk is full; free some space and ask again"),
    "SQLITE_READONLY": (False, "it cannot be written to; check the rights of the file and of its directory"),
    "SQLITE_CANTOPEN": (False, "it cannot be opened; check that the directory exists and may be written to"),
    "SQLITE_CORRUPT": (False, "the database file is damaged; put back a copy of it"),
    "SQLITE_NOTADB": (False, "the file is no database; put back a copy of it"),
    "SQLITE_IOERR": (True, "the disk does not answer properly; check it and ask again"),
}


class Database:
    """A conditions database by its SQLAlchemy address.

    Args:
        url: where it is.
        create: make the tables when they are missing; otherwise that is a ``BackendError``.
    """

    def __init__(self, url: sa.URL, *, create: bool) -> None:
        self._engine = sa.create_engine(url, poolclass=NullPool)
        if url.get_backend_name() == "sqlite":
            sa.event.listen(self._engine, "connect", _configure_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        self._writer = self._engine.execution_options(writes=True)
        self._prepare(create=create)

    @property
    def engine(self) -> sa.Engine:
        """The engine, to watch or to limit its connections."""
        return self._engine

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the database throughout."""
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that holds the write lock; committed at the end, undone by any exception."""
        with self._translated(), self._writer.connect() as connection, connection.begin():
            yield connection

    def _prepare(self, *, create: bool) -> None:
        with self._translated():
            present = self._has_tables()
            if create and not present:
                self._create_tables()
        if not (create or present):
            raise BackendError(
                f"there are payload files, but no conditions database {self._address}; put back a copy of it",
                transient=False,
            )
        with self.read() as connection:
            version = connection.scalar(sa.select(schema.about.c.content).filter_by(property="schema_version"))
        if version != str(schema.SCHEMA_VERSION):
            raise BackendError(
                f"the conditions database {self._address} has tables of version {version}, this program knows version"
                f" {schema.SCHEMA_VERSION}; use the program that made it, or another home directory",
                transient=False,
            )

    def _has_tables(self) -> bool:
        file = self._engine.url.database
        if self._engine.name == "sqlite" and not (file and Path(file).exists()):
            return False  # looking must not leave an empty file behind
        with self._engine.connect() as connection:
            return sa.inspect(connection).has_table(schema.about.name)

    def _create_tables(self) -> None:
        """Make the tables in one transaction; the lock keeps a second process from switching the log mode meanwhile."""
        lock = FileLock(f"{self._engine.url.database}.lock") if self._engine.name == "sqlite" else None
        with _held(lock):
            if self._has_tables():
                return
            if lock is not None:
                with self._engine.connect() as connection:
                    connection.connection.cursor().execute("PRAGMA journal_mode=WAL").close()
            with self._writer.connect() as connection, connection.begin():
                schema.metadata.create_all(connection)
                version = {"property": "schema_version", "content": str(schema.SCHEMA_VERSION)}
                connection.execute(sa.insert(schema.about).values(version))

    @property
    def _address(self) -> str:
        return self._engine.url.render_as_string(hide_password=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError as error:
            raise ConflictError(
                f"the database {self._address} refused a change: {error.orig}; nothing changed"
            ) from error
        except exc.DBAPIError as error:
            name = str(getattr(error.orig, "sqlite_errorname", ""))
            known = (cause for prefix, cause in _CAUSES.items() if name.startswith(prefix))
            transient, advice = next(known, (False, "see the message"))
            message = f"conditions database {self._address}: {advice} ({error.orig}); nothing was changed"
            raise BackendError(message, transient=transient) from error


@contextmanager
def _held(lock: FileLock | None) -> Iterator[None]:
    if lock is None:
        yield
    else:
        with lock:
            yield


def _configure_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 (a raw connection of whichever driver)
    connection.isolation_level = None  # transactions begin where we say so, not where the driver guesses
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
