"""Which links of a tag are valid in a run, found at a cost that does not grow with the tag, on either database.

SQLite goes down the index once per name in one query. MariaDB reads all earlier links of a name for that; it answers at
once only when it is asked for the greatest start of each name by itself, so there the names are read first, and the
question is put together of as many as there are.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from b2cal_core.payloads import Payload
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions import schema
from resources.conditions.records import PAYLOAD_COLUMNS, parts
from resources.conditions.schema import iovs, names, payloads, tag_names

Rows = list[Any]
_NAMES_AT_ONCE = 200
_TAGS_KEPT = 64
_KEY: sa.BindParameter[int] = sa.bindparam("key", type_=sa.BigInteger)
_TAG: sa.BindParameter[int] = sa.bindparam("tag", type_=sa.Integer)
# Not by the index of ends, which would read all that the tag has from here on.
_ENDS_LATER = iovs.c.stop + 0 > _KEY
_BOOKED = sa.select(tag_names.c.name_id, tag_names.c.disjoint).where(tag_names.c.tag_id == _TAG)


class ValidLinks:
    """A look-up; made once, since preparing its statements takes longer than one of them.

    Args:
        rows_of: selects what is wanted out of joined tables, the one of IoVs among them.
    """

    def __init__(self, rows_of: Callable[[sa.FromClause], sa.Select[Any]]) -> None:
        self.in_one = _valid_query(rows_of)
        self._rows_of = rows_of
        own = rows_of(iovs).where(iovs.c.tag_id == _TAG, iovs.c.start <= _KEY, _ENDS_LATER)
        self._overlapping = own.where(iovs.c.name_id.in_(sa.bindparam("names", expanding=True)))

    def find(self, connection: sa.Connection, tag_id: int, key: int) -> Rows:
        """The rows of the links of a tag that are valid in the run with this key; of overlapping ones, all."""
        given = {"tag": tag_id, "key": key}
        if connection.dialect.name == "sqlite":
            return list(connection.execute(self.in_one, given).all())  # row by row takes longer
        booked = connection.execute(_BOOKED, given).all()
        found: Rows = []
        for part in parts((name for name, disjoint in booked if disjoint), _NAMES_AT_ONCE):
            found += connection.execute(self.of_each(tuple(part)), given).all()
        for part in parts((name for name, disjoint in booked if not disjoint), _NAMES_AT_ONCE):
            found += connection.execute(self._overlapping, given | {"names": part}).all()
        return found

    def of_each(self, name_ids: tuple[int, ...]) -> sa.Select[Any]:
        """The query a MariaDB is asked about names without overlaps, given ``tag`` and ``key``."""
        return _latest_query(self._rows_of, name_ids)


@lru_cache(_TAGS_KEPT)
def _latest_query(rows_of: Callable[[sa.FromClause], sa.Select[Any]], name_ids: tuple[int, ...]) -> sa.Select[Any]:
    asked = " UNION ALL ".join(
        f"SELECT {name:d} AS name_id, MAX(start) AS start FROM cdb_iovs"  # noqa: S608 (numbers only)
        f" WHERE tag_id = :tag AND name_id = {name:d} AND start <= :key"
        for name in name_ids
    )
    latest = sa.text(asked).columns(name_id=sa.Integer, start=sa.BigInteger).subquery("latest")
    own = sa.and_(iovs.c.tag_id == _TAG, iovs.c.name_id == latest.c.name_id, iovs.c.start == latest.c.start)
    return rows_of(latest.join(iovs, own)).where(_ENDS_LATER)


def _valid_query(rows_of: Callable[[sa.FromClause], sa.Select[Any]]) -> sa.CompoundSelect[Any]:
    """One query for all names: one descent of the index per disjoint name, a scan for the others.

    Args:
        rows_of: selects what is wanted out of joined tables, the one of IoVs among them.

    Returns:
        The query, to be given ``tag``, the id of a tag, and ``key``, the number of a run.
    """
    earlier = iovs.alias("earlier")
    latest = (
        sa.select(earlier.c.id)
        .where(
            earlier.c.tag_id == tag_names.c.tag_id, earlier.c.name_id == tag_names.c.name_id, earlier.c.start <= _KEY
        )
        .order_by(earlier.c.start.desc())
        .limit(1)
        .correlate(tag_names)
        .scalar_subquery()
    )
    overlapping = sa.select(tag_names.c.name_id).where(tag_names.c.tag_id == _TAG, tag_names.c.disjoint.is_(False))
    return sa.union_all(
        rows_of(tag_names.join(iovs, iovs.c.id == latest)).where(
            tag_names.c.tag_id == _TAG, tag_names.c.disjoint.is_(True), _ENDS_LATER
        ),
        rows_of(iovs).where(iovs.c.tag_id == _TAG, iovs.c.name_id.in_(overlapping), iovs.c.start <= _KEY, _ENDS_LATER),
    )


def _links_of(source: sa.FromClause) -> sa.Select[Any]:
    """The payloads that ``source``, which has the table of IoVs, links, with their IoVs."""
    joined = source.join(payloads, payloads.c.id == iovs.c.payload_id).join(names, names.c.id == iovs.c.name_id)
    return sa.select(*PAYLOAD_COLUMNS, iovs.c.start, iovs.c.stop).select_from(joined)


LOOK_UP = ValidLinks(_links_of)
"""Finds the payloads of a tag in a run, each with its IoV."""


def valid(connection: sa.Connection, tag_id: int, run: ExpRun) -> dict[str, tuple[Payload, IoV]]:
    """The payload of each name that the tag has in the run, with its IoV; of several the highest revision."""
    found = LOOK_UP.find(connection, tag_id, schema.run_key(run.exp, run.run))
    ranked = sorted(found, key=lambda row: row.revision)
    return {row.name: (Payload(*row[:5]), schema.iov_of(row.start, row.stop)) for row in ranked}
