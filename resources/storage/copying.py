"""Bringing all rows of the registry, or of the conditions, from one database to another; or none of them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from b2cal_core.errors import BackendError, ConflictError
from resources.campaigns.embedded_book import BucketBook
from resources.campaigns.embedded_states import CampaignStates
from resources.conditions import schema
from resources.conditions.connections import Database
from resources.impact.samples import EmbeddedSamples
from resources.notify.book import EmbeddedNoticeBook
from resources.runs.embedded import EmbeddedRunRegistry
from resources.signoff.embedded import EmbeddedSignOffLog
from resources.sql_database import OWN_TABLES, SqlDatabase

_CHUNK = 1000
_BORN_WITH_A_ROW = {"reg_last_change", schema.head.name}


@contextmanager
def copied_registry(source: str, target: str) -> Iterator[Mapping[str, int]]:
    """Copy runs, buckets, decisions and what else the registry holds; done for good when the block ends well.

    Nobody can write to either meanwhile.

    Yields:
        The number of rows by table; none when the source has no tables.

    Raises:
        ConflictError: the target holds something already.
        BackendError: one of the two cannot be used, or has tables of another version.
    """
    old = SqlDatabase(source, sa.MetaData(), what="the registry of the home")
    if old.revision() is None:
        yield {}
        return
    _make_parts(target)
    new = SqlDatabase(target, sa.MetaData(), what="the registry")
    with old.writing() as reading, new.writing() as writing:
        names = [name for name in _names(reading) if name.startswith("reg_") and name not in OWN_TABLES.tables]
        if unknown := sorted(set(names) - set(_names(writing))):
            raise BackendError(
                f"the registry of the home has the tables {', '.join(unknown)}, which this program does not know; use"
                " the one that made them. Nothing was copied",
                transient=False,
            )
        tables = [sa.Table(name, sa.MetaData(), autoload_with=writing) for name in names]
        yield _copy(reading, writing, tables, new.address)


def copy_conditions(source: sa.URL, target: sa.URL) -> Mapping[str, int]:
    """Copy tags, links, payloads' records and the audit log; the payload files stay where they are. Else as above."""
    if not Path(source.database or "").exists():
        return {}
    old, new = Database(source, create=False), Database(target, create=True)
    with old.write() as reading, new.write() as writing:
        tables = [table for table in schema.metadata.sorted_tables if table is not schema.version]
        return _copy(reading, writing, tables, new.address)


def _make_parts(url: str) -> None:
    """Ask each part of the registry something, upon which it makes its tables."""
    EmbeddedRunRegistry(url).changes(0, limit=1)
    BucketBook(url).entries("")
    CampaignStates(url).last()
    EmbeddedSignOffLog(url).decisions("")
    EmbeddedNoticeBook(url).settled("")
    EmbeddedSamples(url).samples()


def _names(connection: sa.Connection) -> list[str]:
    return sorted(sa.inspect(connection).get_table_names())


def _copy(
    reading: sa.Connection, writing: sa.Connection, tables: Sequence[sa.Table], address: str
) -> Mapping[str, int]:
    for table in tables:
        if _count(writing, table) > (table.name in _BORN_WITH_A_ROW):
            raise ConflictError(f"{address} holds rows in {table.name} already; copy into an empty database")
    for table in tables:
        if table.name in _BORN_WITH_A_ROW:
            writing.execute(sa.delete(table))
        for rows in reading.execute(sa.select(table)).mappings().partitions(_CHUNK):
            writing.execute(sa.insert(table), [dict(row) for row in rows])
    return {table.name: _count(writing, table) for table in tables}


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
