"""The embedded run registry: one row per run, and a change number that sensors use as their cursor."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
)

from b2cal_core.ports import RunRegistry
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import RunRecord
from resources.runs.records import record_from_json, record_to_json
from resources.sql_database import TABLE_OPTIONS, SqlDatabase, utc_text

_CHUNK = 5000
_METADATA = MetaData()
_RUNS = Table(
    "reg_runs",
    _METADATA,
    Column("exp", Integer, primary_key=True, autoincrement=False),
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("change_number", BigInteger, nullable=False, unique=True),
    Column("digest", String(64), nullable=False),
    Column("document", Text(2**24 - 1), nullable=False),
    Index("reg_runs_changes", "exp", "run", "change_number"),  # the last change of a range, without its documents
    **TABLE_OPTIONS,
)
# A table of its own: a registry of before has none, and its runs then count as registered since ever.
_REGISTRATIONS = Table(
    "reg_registrations",
    _METADATA,
    Column("exp", Integer, primary_key=True, autoincrement=False),
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("registered_at", String(32), nullable=False),
    **TABLE_OPTIONS,
)
# One row, locked by whoever writes: change numbers become visible in the order they are given, so no cursor skips one.
_LAST_CHANGE = Table(
    "reg_last_change",
    _METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("change_number", BigInteger, nullable=False),
    **TABLE_OPTIONS,
)


def _first_number(_dialect: str) -> tuple[str, ...]:
    absent = "WHERE NOT EXISTS (SELECT id FROM reg_last_change)"
    return (f"INSERT INTO reg_last_change (id, change_number) SELECT 1, 0 FROM (SELECT 1 AS one) AS rows_ {absent}",)  # noqa: S608 (no value comes from outside)


class EmbeddedRunRegistry(RunRegistry):
    """A run registry in an SQL database; nothing is opened before the first question.

    Args:
        url: SQLAlchemy address, for example ``Home.registry_url``.
    """

    def __init__(self, url: str) -> None:
        self._database = SqlDatabase(url, _METADATA, what="the run registry", extra=_first_number)

    def add(self, records: Iterable[RunRecord]) -> int:
        """Register runs or bring known ones up to date, in transactions of some thousands; how many changed."""
        return sum(self._add_chunk(chunk) for chunk in _chunks(records))

    def changes(self, cursor: int, limit: int = 1000) -> tuple[tuple[RunRecord, ...], int]:
        """Runs changed after ``cursor``, oldest change first, and the new cursor.

        A cursor beyond the last change was given by a registry that is gone, and is taken as 0.
        """
        query = select(_RUNS.c.change_number, _RUNS.c.document).order_by(_RUNS.c.change_number).limit(limit)
        with self._database.reading() as connection:
            start = cursor if cursor <= _last_change(connection) else 0
            rows = connection.execute(query.where(_RUNS.c.change_number > start)).all()
        records = tuple(_record(document) for _, document in rows)
        return records, rows[-1][0] if rows else start

    def runs(
        self, within: IoV | None = None, *, limit: int | None = None, registered_by: datetime | None = None
    ) -> tuple[RunRecord, ...]:
        """The runs in ``within``, ends included, in order; the first ``limit``, or those registered by then."""
        query = select(_RUNS.c.document).order_by(_RUNS.c.exp, _RUNS.c.run).limit(limit)
        if within is not None:
            query = query.where(_lies_in(within))
        if registered_by is not None:
            query = query.where(~_registered_after(registered_by))
        with self._database.reading() as connection:
            documents = connection.execute(query).scalars().all()
        return tuple(map(_record, documents))

    def registrations(self, within: IoV) -> Mapping[ExpRun, datetime]:
        """Run to when it was registered first; a registry of before has no times of its runs."""
        query = select(_REGISTRATIONS.c.exp, _REGISTRATIONS.c.run, _REGISTRATIONS.c.registered_at)
        with self._database.reading() as connection:
            rows = connection.execute(query.where(_lies_in(within, _REGISTRATIONS))).all()
        return {ExpRun(exp, run): datetime.fromisoformat(at) for exp, run, at in rows}

    def last_change(self, within: IoV) -> int:
        """The number of the last change of a run in ``within``; 0 while there is none."""
        query = select(func.max(_RUNS.c.change_number)).where(_lies_in(within))
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one() or 0)

    def _add_chunk(self, chunk: Mapping[ExpRun, RunRecord]) -> int:
        rows = [_row(record) for record in chunk.values()]
        with self._database.writing() as connection:
            last = _last_change(connection)
            known = _digests(connection, IoV.spanning(chunk))
            changed = [row for row in rows if known.get((row["exp"], row["run"])) != row["digest"]]
            for number, row in enumerate(changed, start=last + 1):
                row["change_number"] = number
            _write(connection, changed, known)
            connection.execute(_LAST_CHANGE.update().values(change_number=last + len(changed)))
        return len(changed)


def _chunks(records: Iterable[RunRecord]) -> Iterator[dict[ExpRun, RunRecord]]:
    """Up to ``_CHUNK`` records at a time, by run; of two records of one run in a chunk the later counts."""
    remaining = iter(records)
    while chunk := {record.run: record for record in islice(remaining, _CHUNK)}:
        yield chunk


def _row(record: RunRecord) -> dict[str, Any]:
    document = json.dumps(record_to_json(record), separators=(",", ":"))
    digest = hashlib.sha256(document.encode()).hexdigest()
    return {"exp": record.run.exp, "run": record.run.run, "digest": digest, "document": document}


def _record(document: str) -> RunRecord:
    return record_from_json(json.loads(document), "the run registry's entry")


def _last_change(connection: Connection) -> int:
    return int(connection.execute(select(_LAST_CHANGE.c.change_number).with_for_update()).scalar_one())


def _digests(connection: Connection, within: IoV) -> dict[tuple[int, int], str]:
    query = select(_RUNS.c.exp, _RUNS.c.run, _RUNS.c.digest).where(_lies_in(within))
    return {(exp, run): digest for exp, run, digest in connection.execute(query)}


def _write(connection: Connection, rows: list[dict[str, Any]], known: Mapping[tuple[int, int], str]) -> None:
    new = [row for row in rows if (row["exp"], row["run"]) not in known]
    other = [{f"b_{key}": value for key, value in row.items()} for row in rows if (row["exp"], row["run"]) in known]
    if new:
        connection.execute(_RUNS.insert(), new)
        now = utc_text(datetime.now(UTC), "now")
        places = [{"exp": row["exp"], "run": row["run"], "registered_at": now} for row in new]
        connection.execute(_REGISTRATIONS.insert(), places)
    if other:
        of_run = and_(_RUNS.c.exp == bindparam("b_exp"), _RUNS.c.run == bindparam("b_run"))
        fields: dict[str, BindParameter[Any]] = {
            key: bindparam(f"b_{key}") for key in ("change_number", "digest", "document")
        }
        connection.execute(_RUNS.update().where(of_run).values(**fields), other)


def _registered_after(moment: datetime) -> ColumnElement[bool]:
    of_run = and_(_REGISTRATIONS.c.exp == _RUNS.c.exp, _REGISTRATIONS.c.run == _RUNS.c.run)
    return exists().where(of_run, _REGISTRATIONS.c.registered_at > utc_text(moment, "the time asked for"))


def _lies_in(iov: IoV, table: Table = _RUNS) -> ColumnElement[bool]:
    """Written out, since databases differ in how they compare pairs."""
    exp, run = table.c.exp, table.c.run
    condition = or_(exp > iov.exp_low, and_(exp == iov.exp_low, run >= iov.run_low))
    if iov.is_open:
        return condition
    last_exp, after = iov.stop
    return and_(condition, exp <= last_exp, or_(exp < last_exp, run < after))
