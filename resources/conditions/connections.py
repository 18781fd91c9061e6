"""Connections to the embedded conditions database, for many threads, processes and forks at once.

Readers see one consistent state and never wait. Writers are one at a time: on SQLite by its one write lock, on MariaDB
by a lock on the row of ``head``, taken at the beginning, so that what they read is still true when they write.
"""

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy import exc
from sqlalchemy.pool import NullPool, QueuePool

from b2cal_core.errors import BackendError, ConflictError
from resources.conditions import schema
from resources.sql_database import MARIADB_CAUSES

BUSY_SECONDS = 60.0
_ENGINES: weakref.WeakSet[sa.Engine] = weakref.WeakSet()

_AGAIN = "another process has been writing for too long; ask again"
_FULL = "the disk is full; free some space and ask again"

# What went wrong by SQLite's name or MariaDB's number, whether asking again can help, and what a person is told to do.
_CAUSES: dict[str | int, tuple[bool, str]] = {
    "SQLITE_BUSY": (True, _AGAIN),
    "SQLITE_LOCKED": (True, _AGAIN),
    "SQLITE_FULL": (False, _FULL),
    "SQLITE_READONLY": (False, "it cannot be written to; check the rights of the file and of its directory"),
    "SQLITE_CANTOPEN": (False, "it cannot be opened; check that the directory exists and may be written to"),
    "SQLITE_CORRUPT": (False, "the database file is damaged; put back a copy of it"),
    "SQLITE_NOTADB": (False, "the file is no database; put back a copy of it"),
    "SQLITE_IOERR": (True, "the disk does not answer properly; check it and ask again"),
    **MARIADB_CAUSES,
}


class Database:
    """A conditions database by its SQLAlchemy address.

    Args:
        url: where it is.
        create: make the tables when they are missing; otherwise that is a ``BackendError``.
        pooled: keep connections open between transactions; always so on MariaDB. Closing the last connection to a
            file costs SQLite more than most transactions. None is left open when the process forks.
        any_revision: take tables of another version too, or none, to bring them up to date.
    """

    def __init__(self, url: sa.URL, *, create: bool, pooled: bool = True, any_revision: bool = False) -> None:
        self._engine = _engine(url, pooled=pooled)
        weakref.finalize(self, self._engine.dispose)
        self._writer = self._engine.execution_options(writes=True)
        self._prepare(create=create, any_revision=any_revision)

    @property
    def engine(self) -> sa.Engine:
        """The engine, to watch or to limit its connections."""
        return self._engine

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of the database throughout."""
        with self._translated(), self._engine.connect() as connection:
            connection.begin()  # it ends as the connection is given back, which takes one message, not two
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction of the only writer; committed at the end, undone by any exception."""
        with self._translated(), self._writer.connect() as connection, connection.begin():
            if not self._is_sqlite:
                connection.execute(sa.select(schema.head.c.id).with_for_update())
            yield connection

    @contextmanager
    def upgrade_lock(self) -> Iterator[sa.Connection]:
        """A connection, not in a transaction, while no other process makes or changes tables."""
        lock = FileLock(f"{self._engine.url.database}.lock") if self._is_sqlite else self._server_lock()
        with self._translated(), lock, self._writer.connect() as connection:
            yield connection

    @contextmanager
    def _server_lock(self) -> Iterator[None]:
        with self._engine.connect() as connection:
            lock = {"name": f"b2cal_{self._engine.url.database}"[:64], "seconds": BUSY_SECONDS}
            if connection.execute(sa.text("SELECT GET_LOCK(:name, :seconds)"), lock).scalar() != 1:
                raise BackendError(f"conditions database {self.address}: {_AGAIN}; nothing was changed", transient=True)
            try:
                yield
            finally:
                connection.execute(sa.text("SELECT RELEASE_LOCK(:name)"), lock)

    @property
    def address(self) -> str:
        """Where it is, without the password."""
        return self._engine.url.render_as_string(hide_password=True)

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def _prepare(self, *, create: bool, any_revision: bool) -> None:
        if any_revision:
            return
        revision = self.stored_revision()
        if revision is None and create:
            self._create_tables()
            return
        if revision is None:
            raise BackendError(
                f"there are payload files, but no conditions database {self.address}; put back a copy of it,"
                " or bring the home's own to the server with `b2cal storage copy`",
                transient=False,
            )
        if revision != schema.REVISION:
            raise BackendError(
                f"the conditions database {self.address} has tables of version {revision}, this program knows version"
                f" {schema.REVISION}; bring them up to date with `b2cal cdb upgrade`, or use the newer program",
                transient=False,
            )

    def revision(self, connection: sa.Connection) -> str | None:
        """Which migration the tables are of; ``None`` when there are none, or not all of them.

        MariaDB makes them one by one, seen by everyone, and the row that tells their version comes last.
        """
        found = sa.inspect(connection)
        if found.has_table(schema.version.name):
            return connection.scalar(sa.select(schema.version.c.version_num))
        return "0001" if found.has_table("about") and found.has_table("tag_names") else None

    def stored_revision(self) -> str | None:
        """Which migration the tables are of; ``None`` when there are none, and none are made."""
        file = self._engine.url.database
        if self._is_sqlite and not (file and Path(file).exists()):
            return None  # looking must not leave an empty file behind
        with self.read() as connection:
            return self.revision(connection)

    def _create_tables(self) -> None:
        with self.upgrade_lock() as connection:
            if self.stored_revision() is not None:
                return
            if self._is_sqlite:
                connection.connection.cursor().execute("PRAGMA journal_mode=WAL").close()
            with connection.begin():
                schema.metadata.create_all(connection)
                complete_tables(connection)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError as error:
            raise ConflictError(
                f"the database {self.address} refused a change: {error.orig}; nothing changed"
            ) from error
        except exc.DBAPIError as error:
            transient, advice = _cause(error)
            message = f"conditions database {self.address}: {advice} ({error.orig}); nothing was changed"
            raise BackendError(message, transient=transient) from error


def _cause(error: exc.DBAPIError) -> tuple[bool, str]:
    name = str(getattr(error.orig, "sqlite_errorname", ""))
    number = next(iter(getattr(error.orig, "args", ())), None)
    for key, cause in _CAUSES.items():
        if name.startswith(key) if isinstance(key, str) else key == number:
            return cause
    return False, "see the message"


def complete_tables(connection: sa.Connection) -> None:
    """What tables made anew need besides: triggers, the first row of ``head``, and their version."""
    for statement in schema.append_only_triggers(connection.dialect.name):
        connection.exec_driver_sql(statement)
    connection.execute(sa.insert(schema.head).values(id=1, entry=0, hash="", history_from=0))
    connection.execute(sa.insert(schema.version).values(version_num=schema.REVISION))


def _engine(url: sa.URL, *, pooled: bool) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        pool: dict[str, Any] = {"poolclass": QueuePool, "max_overflow": -1} if pooled else {"poolclass": NullPool}
        engine = sa.create_engine(url, **pool)
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    else:
        # every transaction reads the state at its own beginning, whatever the server's default
        engine = sa.create_engine(url, pool_pre_ping=True, pool_recycle=1800, isolation_level="REPEATABLE READ")
    _ENGINES.add(engine)
    return engine


def _close_idle() -> None:
    """Two processes must not talk on one connection, nor does a forked one have the locks its parent has on a file."""
    for engine in tuple(_ENGINES):
        engine.dispose()


os.register_at_fork(before=_close_idle)


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
