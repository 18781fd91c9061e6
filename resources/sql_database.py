"""One SQL database: how connections are made, and how its failures are told. SQLite today; the tables know no dialect.

No connection outlives the block it was opened for, so objects that hold a ``SqlDatabase`` may be taken across a fork.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from b2cal_core.errors import BackendError, DataError

_LOCK_WAIT_MS = 30_000

# How SQLite names a cause, whether asking again later can help, and what a person is told to do.
_CAUSES = {
    "SQLITE_BUSY": (True, "another process writes for too long; ask again"),
    "SQLITE_LOCKED": (True, "another process writes for too long; ask again"),
    "SQLITE_FULL": (True, "the disk is full; free some space, then ask again"),
    "SQLITE_IOERR": (True, "the disk does not answer properly; check it, then ask again"),
    "SQLITE_CANTOPEN": (True, "check that its directory exists and may be read and written, then ask again"),
    "SQLITE_READONLY": (False, "give yourself the right to write the file and its directory"),
    "SQLITE_CORRUPT": (False, "the file is damaged; put back a copy, or move it away and register the runs again"),
    "SQLITE_NOTADB": (False, "the file is no database; put back a copy, or move it away and register the runs again"),
}
_OTHER_CAUSE = (True, "check that the database can be reached, then ask again")


class SqlDatabase:
    """The tables of ``metadata`` at an address; they are made when first used.

    Args:
        url: SQLAlchemy address.
        what: what people call it, for messages: "the run registry".
        extra: gives, for a dialect's name, statements that complete the tables, each safe to repeat.
    """

    def __init__(
        self, url: str, metadata: MetaData, *, what: str, extra: Callable[[str], Sequence[str]] | None = None
    ) -> None:
        self._engine = _engine(url)
        self._metadata = metadata
        self._extra = extra
        self._what = what
        self._ready = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database."""
        with self._telling():
            self._prepare()
            with self._engine.connect() as connection:
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction of its own, alone among writers; committed when the block ends well."""
        with self._telling():
            self._prepare()
            with self._writer().connect() as connection, connection.begin():
                yield connection

    def _writer(self) -> Engine:
        return self._engine.execution_options(b2cal_writes=True)

    def _prepare(self) -> None:
        if self._ready:
            return
        if not self._has_tables():
            file = self._file()
            if file is None:
                self._create()
            else:
                # Two processes that switch the log mode of one new file at once would disturb each other.
                with FileLock(f"{file}.lock"):
                    self._create()
        self._ready = True

    def _file(self) -> Path | None:
        sqlite = self._engine.dialect.name == "sqlite"
        return Path(self._engine.url.database or "") if sqlite else None

    def _has_tables(self) -> bool:
        file = self._file()
        if file is not None and file.parent.is_dir() and not file.exists():
            return False
        with self._engine.connect() as connection:
            return set(self._metadata.tables) <= set(inspect(connection).get_table_names())

    def _create(self) -> None:
        if self._file() is not None:
            with self._engine.connect() as connection:
                connection.connection.cursor().execute("PRAGMA journal_mode=WAL").close()
        with self._writer().connect() as connection, connection.begin():
            self._metadata.create_all(connection)
            for statement in self._extra(self._engine.dialect.name) if self._extra else ():
                connection.execute(text(statement))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            origin = error.orig if isinstance(error, DBAPIError) else error
            name = str(getattr(origin, "sqlite_errorname", ""))
            known = (cause for start, cause in _CAUSES.items() if name.startswith(start))
            transient, advice = next(known, _OTHER_CAUSE)
            place = self._engine.url.render_as_string(hide_password=True)
            message = f"{self._what} at {place} cannot be used: {origin}; {advice}"
            raise BackendError(message, transient=transient) from error


def _engine(url: str) -> Engine:
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:  # noqa: ANN401 (drivers share no type)
    connection.isolation_level = None  # transactions begin where we say so, not where the driver guesses
    for pragma in (f"busy_timeout={_LOCK_WAIT_MS}", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once: a transaction that reads first and then writes would fail when it is not alone."""
    writes = connection.get_execution_options().get("b2cal_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def utc_text(moment: datetime, what: str) -> str:
    """The moment in UTC as text that sorts; ``DataError`` naming ``what`` when it has no time zone."""
    if moment.tzinfo is None:
        raise DataError(
            f"{what} has a time without time zone, {moment.isoformat()}; give it in UTC, for example with +00:00"
        )
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
