"""What the server reads from the tables: tags, payloads and links with their ids, in one transaction each.

Nothing that can change is kept from one request to the next, so no answer is older than its request.
"""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from b2cal_core.errors import ConflictError
from b2cal_core.payloads import TagState
from b2cal_core.ranges import ExpRun
from resources.conditions import schema
from resources.conditions.latest_links import ValidLinks
from resources.conditions.records import parts
from resources.conditions.schema import audit, iovs, names, payloads, tag_names, tags
from resources.conditions.server.refusals import NotFound
from resources.conditions.server.shapes import Row, iov_text, list_text, payload_text

_COUNT = (
    sa.select(sa.func.count())
    .select_from(tag_names)
    .where(tag_names.c.tag_id == tags.c.id)
    .scalar_subquery()
    .label("payload_count")
)
_TAGS: sa.Select[Any] = sa.select(tags, _COUNT)
_PAYLOAD_COLUMNS = (
    payloads.c.id,
    names.c.name,
    payloads.c.revision,
    payloads.c.md5,
    payloads.c.added_at,
    payloads.c.added_by,
)
_PAYLOAD_WIDTH = len(_PAYLOAD_COLUMNS)
_PAYLOADS: sa.Select[Any] = sa.select(*_PAYLOAD_COLUMNS).join_from(payloads, names)
# Links brought in from an older database may have no line in the audit log; they are as old as their payload.
_SINCE, _AUTHOR = (
    sa.func.coalesce(audit.c.at, payloads.c.added_at),
    sa.func.coalesce(audit.c.author, payloads.c.added_by),
)
_LINK_COLUMNS = (iovs.c.id, iovs.c.start, iovs.c.stop, _SINCE.label("since"), _AUTHOR.label("author"))


def tag_named(connection: sa.Connection, name: str) -> Row:
    """The row of a tag, with ``payload_count``; ``NotFound`` when there is none."""
    row = connection.execute(_TAGS.where(tags.c.name == name)).first()
    if row is None:
        raise NotFound(f"there is no global tag {name!r}; GET /globalTags lists those there are")
    return row


def tag_with_id(connection: sa.Connection, tag_id: int) -> Row:
    """Like ``tag_named``, by the tag's id."""
    row = connection.execute(_TAGS.where(tags.c.id == tag_id)).first()
    if row is None:
        raise NotFound(f"there is no global tag with id {tag_id}; GET /globalTags lists those there are")
    return row


def all_tags(connection: sa.Connection) -> list[Row]:
    """Every tag, in the order in which they were made."""
    return list(connection.execute(_TAGS.order_by(tags.c.id)))


def payload_with_id(connection: sa.Connection, payload_id: int) -> Row:
    """The row of a payload; ``NotFound`` when there is none."""
    row = connection.execute(_PAYLOADS.where(payloads.c.id == payload_id)).first()
    if row is None:
        raise NotFound(f"there is no payload with id {payload_id}; upload it first")
    return row


def payload_with_revision(connection: sa.Connection, name: str, revision: int) -> Row | None:
    """The row of a payload, or ``None``."""
    query = _PAYLOADS.where(names.c.name == name, payloads.c.revision == revision)
    return connection.execute(query).first()


def payloads_of_name(connection: sa.Connection, name: str | None) -> list[Row]:
    """All payloads of a name, or of all names, by id."""
    query = _PAYLOADS if name is None else _PAYLOADS.where(names.c.name == name)
    return list(connection.execute(query.order_by(payloads.c.id)))


def payloads_in_tag(connection: sa.Connection, name: str) -> list[Row]:
    """The payloads that a tag links, each once, by id."""
    tag = tag_named(connection, name)
    linked = sa.select(iovs.c.payload_id).where(iovs.c.tag_id == tag.id).distinct()
    return list(connection.execute(_PAYLOADS.where(payloads.c.id.in_(linked)).order_by(payloads.c.id)))


def payloads_with_sums(connection: sa.Connection, wanted: Iterable[tuple[str, str]]) -> list[Row]:
    """The payloads with these (name, MD5), for those that exist."""
    pairs = set(wanted)
    found: list[Row] = []
    for part in parts({md5 for _, md5 in pairs}):
        rows = connection.execute(_PAYLOADS.where(payloads.c.md5.in_(part)))
        found += [row for row in rows if (row.name, row.md5) in pairs]
    return found


def link_text(connection: sa.Connection, link: int) -> str:
    """An IoV as JSON."""
    return _iov(connection.execute(_linked(iovs).where(iovs.c.id == link)).one()[_PAYLOAD_WIDTH:])


def listing(connection: sa.Connection, name: str, base_url: str) -> str:
    """All of a tag as JSON: each payload with its IoVs, by name and revision."""
    tag = tag_named(connection, name)
    joined = _linked(iovs).where(iovs.c.tag_id == tag.id)
    ordered = joined.order_by(names.c.name, payloads.c.revision, iovs.c.start)
    groups = groupby(connection.execute(ordered), key=lambda row: row[:_PAYLOAD_WIDTH])
    return list_text(
        f'{{"payloadId":{payload_text(base_url, tuple(fields))}'
        f',"payloadIovs":{list_text(_iov(row[_PAYLOAD_WIDTH:]) for row in rows)}}}'
        for fields, rows in groups
    )


def valid_in(connection: sa.Connection, name: str, run: ExpRun, base_url: str) -> str:
    """What a tag has in a run as JSON, by name; where IoVs overlap, all of them.

    Raises:
        ConflictError: the tag is INVALID, and never to be used.
    """
    tag = connection.execute(_TAG_STATE, {"name": name}).first() or tag_named(connection, name)
    if tag.state == TagState.INVALID:
        raise ConflictError(f"global tag {name} is INVALID and is not served; use another")
    found = _VALID.find(connection, tag.id, schema.run_key(run.exp, run.run))
    return list_text(
        f'{{"payload":{payload_text(base_url, tuple(row[:_PAYLOAD_WIDTH]))},"payloadIov":{_iov(row[_PAYLOAD_WIDTH:])}}}'
        for row in sorted(found, key=lambda row: (row[1], row[2]))
    )


def _iov(fields: Any) -> str:  # noqa: ANN401 (a row, or the end of one)
    link, start, stop, at, author = fields
    return iov_text(link, start, stop, at=at, author=author)


def _linked(source: sa.FromClause) -> sa.Select[Any]:
    """Payloads and IoVs of ``source``, which has the table of IoVs, and who made them."""
    joined = source.join(payloads, payloads.c.id == iovs.c.payload_id).join(names, names.c.id == iovs.c.name_id)
    known = joined.outerjoin(audit, audit.c.id == iovs.c.added)
    return sa.select(*_PAYLOAD_COLUMNS, *_LINK_COLUMNS).select_from(known)


_VALID = ValidLinks(_linked)
_TAG_STATE: sa.Select[Any] = sa.select(tags.c.id, tags.c.state).where(tags.c.name == sa.bindparam("name"))
