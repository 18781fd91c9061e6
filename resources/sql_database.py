"""The registry's database: how connections are made, how its tables are made, and how its failures are told.

It is SQLite in the home or MariaDB; the tables know no dialect, and their names begin with ``reg_``: on a server, one
database also holds the ``cdb_`` tables of the conditions and those of Dagster.

No connection outlives the block it was opened for, so objects that hold a ``SqlDatabase`` may be taken across a fork.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, create_engine, event, inspect, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from b2cal_core.errors import BackendError, DataError

REVISION = "0003"
"""The newest migration; tables made anew are of this revision."""
TABLE_OPTIONS: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
"""For every table: transactions, all of Unicode, and names that differ when their letters do."""
OWN_TABLES = MetaData()
VERSION = Table("reg_version", OWN_TABLES, Column("version_num", String(32), primary_key=True), **TABLE_OPTIONS)
"""One row, of the revision of all tables. On MariaDB, writers lock it first, so that there is one at a time."""
COMPLETE = Table("reg_tables", OWN_TABLES, Column("name", String(64), primary_key=True), **TABLE_OPTIONS)
"""The tables that are there with all that completes them: a server makes these one by one, seen by everyone.

What came to complete a table later has a name of its own here.
"""

FIRST_REVISION, _FIRST_TABLES = "0001", {"runs", "buckets", "decisions"}  # which had no table of versions
_LOCK_WAIT_MS = 30_000

_AGAIN = "another process writes for too long; ask again"
_FULL = "the disk is full; free some space, then ask again"
_SILENT = "the database server does not answer; check that it runs, then ask again"
_DENIED = "the server refuses the user; check name and password, and grant the rights that docs/production.md lists"
MARIADB_CAUSES: dict[str | int, tuple[bool, str]] = {
    0: (True, _SILENT),
    1021: (False, _FULL),
    1040: (True, "the server has too many connections; ask again, or have its max_connections raised"),
    1044: (False, _DENIED),
    1045: (False, _DENIED),
    1049: (False, "there is no such database; make it on the server, or mend the address"),
    1053: (True, _SILENT),
    1114: (False, _FULL),
    1142: (False, _DENIED),
    1205: (True, _AGAIN),
    1213: (True, _AGAIN),
    1419: (
        False,
        "have log_bin_trust_function_creators=1 set on the server: it has a binary log, and we make triggers",
    ),
    1698: (False, _DENIED),
    1927: (True, _SILENT),
    2003: (True, _SILENT),
    2006: (True, _SILENT),
    2013: (True, _SILENT),
}
"""By the number of MariaDB's error: whether asking again later can help, and what a person is told to do."""

# The same by SQLite's name of the cause.
_SQLITE_CAUSES = {
    "SQLITE_BUSY": (True, _AGAIN),
    "SQLITE_LOCKED": (True, _AGAIN),
    "SQLITE_FULL": (True, _FULL),
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
        url: SQLAlchemy address, of SQLite or of MariaDB by PyMySQL.
        metadata: tables with names that begin with ``reg_``, made with ``TABLE_OPTIONS``.
        what: what people call it, for messages: "the run registry".
        extra: gives, for a dialect's name, statements that complete the tables, each safe to repeat.
        later: names of what came to ``extra`` when tables without it were in use; databases that lack it get it.
        any_revision: take tables of another version too, and make none: for bringing them up to date.
    """

    def __init__(
        self,
        url: str,
        metadata: MetaData,
        *,
        what: str,
        extra: Callable[[str], Sequence[str]] | None = None,
        later: Collection[str] = (),
        any_revision: bool = False,
    ) -> None:
        self._engine = _engine(url)
        self._metadata = metadata
        self._extra = extra
        self._parts = {*metadata.tables, *later}
        self._what = what
        self._ready = any_revision

    @property
    def address(self) -> str:
        """Where it is, without the password."""
        return self._engine.url.render_as_string(hide_password=True)

    @property
    def file(self) -> Path | None:
        """The file, for SQLite."""
        return Path(self._engine.url.database or "") if self._engine.dialect.name == "sqlite" else None

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
                if self.file is None:
                    connection.execute(select(VERSION).with_for_update())
                yield connection

    @contextmanager
    def changing_tables(self) -> Iterator[Connection]:
        """A connection, in no transaction yet, while no other process makes or changes tables."""
        lock = FileLock(f"{self.file}.lock") if self.file else self._server_lock()
        with self._telling(), lock, self._writer().connect() as connection:
            yield connection

    def revision(self) -> str | None:
        """Which migration the tables are of; ``None`` when there are none."""
        with self._telling():
            if self.file is not None and self.file.parent.is_dir() and not self.file.exists():
                return None  # looking must not leave an empty file behind
            with self._engine.connect() as connection:
                return revision_of(connection)

    def _writer(self) -> Engine:
        return self._engine.execution_options(b2cal_writes=True)

    def _prepare(self) -> None:
        if self._ready:
            return
        if not self._is_complete():
            with self.changing_tables() as connection:
                self._create(connection)
        self._ready = True

    def _is_complete(self) -> bool:
        revision = self.revision()
        if revision is None:
            return False
        if revision != REVISION:
            way = (
                "make a copy of it, then bring them up to date with `b2cal storage upgrade`"
                if revision < REVISION
                else "use the newer program that made them"
            )
            raise BackendError(
                f"{self._what} at {self.address} has tables of version {revision}, this program knows version"
                f" {REVISION}; {way}",
                transient=False,
            )
        with self._engine.connect() as connection:
            return self._parts <= set(connection.scalars(select(COMPLETE.c.name)))

    def _create(self, connection: Connection) -> None:
        """Make what is missing; whoever is killed here is followed by one that begins anew."""
        if self.file is not None:
            connection.connection.cursor().execute("PRAGMA journal_mode=WAL").close()
        with connection.begin():
            if self.file is None:
                self._require_unicode(connection)
            OWN_TABLES.create_all(connection)
            self._metadata.create_all(connection)
            for statement in self._extra(self._engine.dialect.name) if self._extra else ():
                connection.execute(text(statement))
            complete = set(connection.scalars(select(COMPLETE.c.name)))
            for name in sorted(self._parts - complete):
                connection.execute(COMPLETE.insert().values(name=name))
            if connection.scalar(select(VERSION)) is None:
                connection.execute(VERSION.insert().values(version_num=REVISION))

    def _require_unicode(self, connection: Connection) -> None:
        """Refuse a database whose default would spoil texts of Dagster's tables, or take two names for one."""
        collation = str(connection.scalar(text("SELECT @@collation_database")))
        if not (collation.startswith("utf8mb4") and collation.endswith("_bin")):
            raise BackendError(
                f"the database {self.address} was made with the collation {collation}, which does not hold every text"
                " as it is; have it made with CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, as docs/production.md says",
                transient=False,
            )

    @contextmanager
    def _server_lock(self) -> Iterator[None]:
        lock = {"name": f"b2cal_registry_{self._engine.url.database}"[:64], "seconds": _LOCK_WAIT_MS // 1000}
        with self._engine.connect() as connection:
            if connection.execute(text("SELECT GET_LOCK(:name, :seconds)"), lock).scalar() != 1:
                raise BackendError(f"{self._what} at {self.address} cannot be used: {_AGAIN}", transient=True)
            try:
                yield
            finally:
                connection.execute(text("SELECT RELEASE_LOCK(:name)"), lock)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            origin = error.orig if isinstance(error, DBAPIError) else error
            transient, advice = _cause(origin)
            raise BackendError(
                f"{self._what} at {self.address} cannot be used: {origin}; {advice}", transient=transient
            ) from error


def revision_of(connection: Connection) -> str | None:
    """Which migration the tables are of; ``None`` when there are none, or not all that tells it."""
    found = inspect(connection)
    if found.has_table(VERSION.name):
        revision: str | None = connection.scalar(select(VERSION))
        return revision
    is_old = connection.dialect.name == "sqlite" and _FIRST_TABLES & set(found.get_table_names())
    return FIRST_REVISION if is_old else None


def _cause(origin: BaseException | None) -> tuple[bool, str]:
    name = str(getattr(origin, "sqlite_errorname", ""))
    for start, cause in _SQLITE_CAUSES.items():
        if name.startswith(start):
            return cause
    number = next(iter(getattr(origin, "args", ())), None)
    return MARIADB_CAUSES.get(number, _OTHER_CAUSE) if isinstance(number, int) else _OTHER_CAUSE


def _engine(url: str) -> Engine:
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    # every transaction reads the state at its own beginning, whatever the server's default
    return create_engine(url, poolclass=NullPool, isolation_level="REPEATABLE READ")


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
