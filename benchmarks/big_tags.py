"""Tags with millions of IoVs, filled by bulk SQL; everything the database relies on holds as if they were published.

Each name has as many IoVs as any other, one run each but the last, which is open; every IoV has a payload of its own.
There are no payload files, since a look-up reads none.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from b2cal_core.payloads import TagState
from b2cal_core.plans import moved
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions import book, records, schema, tag_content
from resources.conditions.book import Signature, utc_now
from resources.conditions.connections import Database
from resources.conditions.embedded import EmbeddedConditionsDB

NAMES = tuple(f"Constants{number:03d}" for number in range(100))
RUNS = 5000
"""Runs of one experiment."""
_SPREAD = 2**32
_STOP_INDEX = next(index for index in schema.iovs.indexes if index.name == "cdb_iovs_stop")

# How a database writes the numbers 0 to :count - 1 as rows, an integer division, and a number in hexadecimal.
_DIALECTS = {
    "sqlite": {
        "numbers": (
            "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < {count})"
            " SELECT {columns} FROM numbers"
        ),
        "div": "/",
        "hex": "printf('%08x', i * {spread} / {count})",
        "join": "({left} || '{right}')",
    },
    "mysql": {
        "numbers": "SELECT {columns} FROM (SELECT seq AS i FROM seq_0_to_{last}) AS numbers",
        "div": "DIV",
        "hex": "LOWER(LPAD(HEX(i * {spread} DIV {count}), 8, '0'))",
        "join": "CONCAT({left}, '{right}')",
    },
}


@dataclass(frozen=True, slots=True)
class BigTag:
    """A RUNNING tag with this many IoVs, the same number for each name."""

    name: str
    iovs: int

    @property
    def runs(self) -> int:
        """How many runs have constants of their own; the last of them lasts for ever."""
        return self.iovs // len(NAMES)

    def run(self, place: int) -> ExpRun:
        """The run at a place, counted from 0."""
        return ExpRun(1 + place // RUNS, place % RUNS)

    def links(self) -> Iterator[TagIov]:
        """What the tag holds, from the first run on."""
        for place in range(self.runs):
            iov = self._iov(place)
            for name in NAMES:
                yield TagIov(name, place + 1, iov)

    def _iov(self, place: int) -> IoV:
        run = self.run(place)
        if place == self.runs - 1:
            return IoV(*run, -1, -1)
        return IoV(*run, run.exp, -1 if run.run == RUNS - 1 else run.run)


def fill(conditions: EmbeddedConditionsDB, tag: BigTag) -> None:
    """Make the tag in an empty database."""
    conditions.create_tag(tag.name, "for a benchmark")
    database = conditions.database
    if tag.iovs:
        _fast_and_unsafe(database)
        with database.write() as connection:
            _fill_tables(connection, tag)
        _safe_again(database)
    conditions.set_state(tag.name, expected=TagState.OPEN, new=TagState.RUNNING)


def _fill_tables(connection: sa.Connection, tag: BigTag) -> None:
    signature = Signature("benchmark", utc_now())
    number = book.next_number(connection)
    tag_id, _ = records.require_tag(connection, tag.name)
    connection.execute(sa.insert(schema.names), [{"name": name, "last_revision": tag.runs} for name in NAMES])
    ids = tag_content.name_ids(connection, NAMES)
    tag_content.book(connection, tag_id, [(ids[name], True) for name in NAMES])
    for place, name in enumerate(NAMES):
        first = 1 + place * tag.runs
        _insert_payloads(connection, tag.runs, name_id=ids[name], first=first, signature=signature)
        _insert_links(connection, tag, tag_id, name_id=ids[name], first=first, number=number)
    fingerprint = moved(records.fingerprint(connection, tag_id), added=tag.links())
    records.keep_fingerprint(connection, tag_id, fingerprint, signature)
    book.log(connection, signature, action="fill", tag=tag.name, detail={"iovs": tag.iovs})


def _insert_payloads(connection: sa.Connection, count: int, *, name_id: int, first: int, signature: Signature) -> None:
    """Payloads with ids from ``first`` on; their checksums are spread over all there could be, as real ones are."""
    pieces = _DIALECTS[connection.dialect.name]
    number = pieces["hex"].format(spread=_SPREAD, count=count)
    tail = hashlib.sha256(str(name_id).encode()).hexdigest()
    sums = [pieces["join"].format(left=number, right=tail[: length - 8]) for length in (32, 64)]
    columns = f"i + {first}, {name_id}, i + 1, {sums[0]}, {sums[1]}, 1000, '{signature.at}', '{signature.author}'"
    into = "id, name_id, revision, md5, sha256, size, added_at, added_by"
    _insert(connection, schema.payloads, into, columns=columns, count=count)


def _insert_links(
    connection: sa.Connection, tag: BigTag, tag_id: int, *, name_id: int, first: int, number: int
) -> None:
    last = schema.edges(IoV(0, 0, -1, -1))[1]
    start, stop = (_key(connection, place) for place in ("i", "(i + 1)"))
    ends = f"CASE WHEN i = {tag.runs - 1} THEN {last} ELSE {stop} END"
    columns = f"{tag_id}, {name_id}, {start}, {ends}, i + {first}, {number}"
    into = "tag_id, name_id, start, stop, payload_id, added"
    _insert(connection, schema.iovs, into, columns=columns, count=tag.runs)


def _key(connection: sa.Connection, place: str) -> str:
    """The number of the run at a place, as ``schema.run_key`` makes it."""
    experiment = schema.run_key(1, 0)
    return f"(({place} {_DIALECTS[connection.dialect.name]['div']} {RUNS} + 1) * {experiment} + {place} % {RUNS})"


def _insert(connection: sa.Connection, table: sa.Table, into: str, *, columns: str, count: int) -> None:
    rows = _DIALECTS[connection.dialect.name]["numbers"].format(count=count, last=count - 1, columns=columns)
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({into}) {rows.replace('%', _percent(connection))}")


def _percent(connection: sa.Connection) -> str:
    """How a driver wants a percent sign that is meant as one."""
    return "%%" if connection.dialect.paramstyle in {"format", "pyformat"} else "%"


def _fast_and_unsafe(database: Database) -> None:
    """What only helps when nothing is lost by beginning again: no second copy, one index to be made at the end."""
    database.engine.dispose()  # the journal is changed by the only connection there is
    with database.upgrade_lock() as connection:
        _set_journal(connection, "DELETE")
        with connection.begin():
            _STOP_INDEX.drop(connection)


def _safe_again(database: Database) -> None:
    database.engine.dispose()
    with database.upgrade_lock() as connection:
        with connection.begin():
            _STOP_INDEX.create(connection)
        _set_journal(connection, "WAL")
        if connection.dialect.name == "mysql":
            tables = ", ".join(table.name for table in schema.metadata.sorted_tables)
            connection.exec_driver_sql(f"ANALYZE TABLE {tables}").close()


def _set_journal(connection: sa.Connection, mode: str) -> None:
    if connection.dialect.name == "sqlite":  # outside of any transaction
        connection.connection.cursor().execute(f"PRAGMA journal_mode={mode}").close()
