"""Reading and changing which payloads a tag links, inside a transaction somebody else holds.

Every change leaves behind what was: a link that is dropped or shortened goes to ``past_iovs`` with the numbers of the
lines of the audit log between which it was so.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from b2cal_core.errors import BackendError, ConflictError, DataError
from b2cal_core.payloads import Payload
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions import schema
from resources.conditions.records import find_revisions, parts, payload_ids
from resources.conditions.schema import iovs, names, past_iovs, payloads, tag_names


def content(
    connection: sa.Connection,
    tag_id: int,
    within: IoV | None = None,
    *,
    of: Collection[str] | None = None,
    as_of: int | None = None,
) -> tuple[TagIov, ...]:
    """The links of a tag, by name, start and revision.

    Only those that share a run with ``within``, whose name is one ``of`` these, and as they were right after the line
    ``as_of`` of the audit log; each where it is given.
    """
    sources = [_now(tag_id, as_of)] if as_of is None else [_now(tag_id, as_of), _then(tag_id, as_of)]
    queries = [_limited(query, table, within) for query, table in sources]
    if of is None:
        rows = [row for query in queries for row in connection.execute(query)]
    else:
        some = [query.where(names.c.name.in_(part)) for part in parts(of) for query in queries]
        rows = [row for query in some for row in connection.execute(query)]
    rows.sort(key=lambda row: (row.name, row.start, row.revision, row.stop))
    return tuple(
        TagIov(name, revision, schema.iov_of(start, stop), id=id_) for name, revision, start, stop, id_ in rows
    )


def _now(tag_id: int, as_of: int | None) -> tuple[sa.Select[Any], sa.Table]:
    query = _rows_of(iovs, iovs.c.id).where(iovs.c.tag_id == tag_id)
    return (query if as_of is None else query.where(iovs.c.added <= as_of)), iovs


def _then(tag_id: int, as_of: int) -> tuple[sa.Select[Any], sa.Table]:
    was = sa.and_(past_iovs.c.added <= as_of, past_iovs.c.removed > as_of)
    return _rows_of(past_iovs, past_iovs.c.link).where(past_iovs.c.tag_id == tag_id, was), past_iovs


def _rows_of(table: sa.Table, link: sa.Column[int]) -> sa.Select[Any]:
    columns = names.c.name, payloads.c.revision, table.c.start, table.c.stop, link.label("link")
    joined = table.join(payloads, payloads.c.id == table.c.payload_id).join(names, names.c.id == table.c.name_id)
    return sa.select(*columns).select_from(joined)


def _limited(query: sa.Select[Any], table: sa.Table, within: IoV | None) -> sa.Select[Any]:
    if within is None:
        return query
    start, stop = schema.edges(within)
    query = query.where(table.c.stop > start)
    return query if within.is_open else query.where(table.c.start < stop)


def valid_as_of(connection: sa.Connection, tag_id: int, run: ExpRun, *, as_of: int) -> dict[str, tuple[Payload, IoV]]:
    """The payload of each name the tag had in the run right after a line of the audit log, with its IoV."""
    links = content(connection, tag_id, IoV(*run, *run), as_of=as_of)
    ranked = sorted(links, key=lambda link: link.revision)
    known = find_revisions(connection, {(link.name, link.revision) for link in ranked})
    return {link.name: (known[link.name, link.revision], link.iov) for link in ranked}


def drop(connection: sa.Connection, ids: Iterable[int], number: int) -> None:
    """Remove links; ``number`` is that of the line of the audit log which tells of it."""
    for part in parts(ids):
        _keep_past(connection, part, number)
        connection.execute(sa.delete(iovs).where(iovs.c.id.in_(part)))


def insert(connection: sa.Connection, tag_id: int, links: Iterable[TagIov], number: int) -> None:
    """Add links of payloads that exist."""
    wanted = list(links)
    known = payload_ids(connection, {(link.name, link.revision) for link in wanted})
    rows = [_row(tag_id, known[link.name, link.revision], link.iov) | {"added": number} for link in wanted]
    if rows:
        connection.execute(sa.insert(iovs), rows)


def shorten(connection: sa.Connection, ends: Mapping[int, IoV], number: int) -> None:
    """Give links the ends of these IoVs; those of one end, as a rule all, in one statement."""
    sharing: dict[int, list[int]] = {}
    for link, iov in ends.items():
        sharing.setdefault(schema.edges(iov)[1], []).append(link)
    for end, links in sorted(sharing.items()):
        for part in parts(links):
            _keep_past(connection, part, number)
            connection.execute(sa.update(iovs).where(iovs.c.id.in_(part)).values(stop=end, added=number))


def _keep_past(connection: sa.Connection, ids: Sequence[int], number: int) -> None:
    columns = (iovs.c.tag_id, iovs.c.name_id, iovs.c.start, iovs.c.stop, iovs.c.payload_id, iovs.c.added)
    query = sa.select(iovs.c.id, *columns, sa.literal(number, sa.Integer)).where(iovs.c.id.in_(ids))
    into = ["link", *(column.name for column in columns), "removed"]
    connection.execute(sa.insert(past_iovs).from_select(into, query))


def book_names(connection: sa.Connection, tag_id: int, links: Sequence[TagIov], touched: Iterable[str]) -> None:
    """Bring ``tag_names`` up to date for the ``touched`` names, when ``links`` is all the tag has of them."""
    per_name = by_name(links)
    ids = name_ids(connection, touched)
    wanted = {ids[name]: first_overlap(per_name[name]) is None for name in ids if name in per_name}
    present = _booked(connection, tag_id, ids.values())
    gone = [{"which": id_} for id_, was in present.items() if wanted.get(id_) is not was]
    if gone:
        own = sa.and_(tag_names.c.tag_id == tag_id, tag_names.c.name_id == sa.bindparam("which"))
        connection.execute(sa.delete(tag_names).where(own), gone)
    fresh = [(id_, disjoint) for id_, disjoint in sorted(wanted.items()) if present.get(id_) is not disjoint]
    book(connection, tag_id, fresh)


def book_new_names(connection: sa.Connection, tag_id: int, touched: Iterable[str]) -> None:
    """Book names that a tag did not have before, when their links are known to be disjoint."""
    ids = name_ids(connection, touched)
    present = _booked(connection, tag_id, ids.values())
    book(connection, tag_id, [(id_, True) for id_ in sorted(ids.values()) if id_ not in present])


def book(connection: sa.Connection, tag_id: int, rows: Iterable[tuple[int, bool]]) -> None:
    """Write down that a tag has names, and whether the links of each are disjoint."""
    values = [{"tag_id": tag_id, "name_id": id_, "disjoint": disjoint} for id_, disjoint in rows]
    if values:
        connection.execute(sa.insert(tag_names), values)


def overlapping_names(connection: sa.Connection, tag_id: int) -> tuple[str, ...]:
    """The names of which the tag has overlapping links."""
    query = sa.select(names.c.name).join_from(tag_names, names)
    found = query.where(tag_names.c.tag_id == tag_id, tag_names.c.disjoint.is_(False))
    return tuple(sorted(connection.scalars(found)))


def _booked(connection: sa.Connection, tag_id: int, ids: Iterable[int]) -> dict[int, bool]:
    found: dict[int, bool] = {}
    for part in parts(ids):
        query = sa.select(tag_names.c.name_id, tag_names.c.disjoint)
        rows = connection.execute(query.where(tag_names.c.tag_id == tag_id, tag_names.c.name_id.in_(part)))
        found |= {row.name_id: bool(row.disjoint) for row in rows}
    return found


def by_name(links: Iterable[TagIov]) -> dict[str, list[TagIov]]:
    """The links of each name, in order of their start."""
    grouped: dict[str, list[TagIov]] = {}
    for link in sorted(links, key=lambda link: (link.name, link.iov.start, link.iov.stop)):
        grouped.setdefault(link.name, []).append(link)
    return grouped


def first_overlap(ordered: Sequence[TagIov]) -> tuple[TagIov, TagIov] | None:
    """The first two of one name's links, in order of start, that share a run."""
    return next(((a, b) for a, b in pairwise(ordered) if a.iov.overlaps(b.iov)), None)


def refuse_overlaps(tag: str, links: Iterable[TagIov]) -> None:
    """Raise ``ConflictError``, with every name and the runs, when a run would have two payloads of one name."""
    pairs = [pair for group in by_name(links).values() if (pair := first_overlap(group)) is not None]
    if pairs:
        listed = "; ".join(f"{a.name} is to be valid in {a.iov} and in {b.iov}" for a, b in pairs)
        raise ConflictError(
            f"tag {tag} would have two payloads for one run: {listed}; shorten one of each pair. Nothing was changed"
        )


def rows(links: Iterable[TagIov]) -> list[list[Any]]:
    """Links as JSON, for the audit log."""
    return [[link.name, link.revision, *link.iov] for link in links]


def require_equal(tag: str, found: Iterable[TagIov], wanted: Iterable[TagIov]) -> None:
    """Raise ``BackendError`` when what was read back is not what was to be written."""
    have, want = {link.bare for link in found}, {link.bare for link in wanted}
    if have != want:
        odd = sorted(f"{link.name} revision {link.revision} in {link.iov}" for link in have ^ want)
        raise BackendError(
            f"tag {tag} reads back differently from what was written: {'; '.join(odd)};"
            " nothing was changed. Report this",
            transient=False,
        )


def require_payloads(connection: sa.Connection, links: Iterable[TagIov]) -> dict[tuple[str, int], Payload]:
    """(name, revision) to payload; ``DataError`` when a link is about one that the database does not have."""
    keys = {(link.name, link.revision) for link in links}
    known = find_revisions(connection, keys)
    if missing := sorted(keys - known.keys()):
        listed = ", ".join(f"{name} revision {revision}" for name, revision in missing)
        raise DataError(f"the conditions database has no payload {listed}; upload it first. Nothing was changed")
    return known


def name_ids(connection: sa.Connection, wanted: Iterable[str]) -> dict[str, int]:
    """Payload name to the id of its row, for those that exist."""
    found: dict[str, int] = {}
    for part in parts(set(wanted)):
        query = sa.select(names.c.name, names.c.id).where(names.c.name.in_(part))
        found |= {name: id_ for name, id_ in connection.execute(query)}  # noqa: C416 (a result is no mapping)
    return found


def _row(tag_id: int, ids: tuple[int, int], iov: IoV) -> dict[str, int]:
    start, stop = schema.edges(iov)
    return {"tag_id": tag_id, "name_id": ids[0], "payload_id": ids[1], "start": start, "stop": stop}
