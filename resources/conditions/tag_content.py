"""Reading and changing which payloads a tag links, inside a transaction somebody else holds."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from b2cal_core.errors import BackendError, ConflictError, DataError
from b2cal_core.payloads import Payload
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions import schema
from resources.conditions.schema import iovs, names, payloads, tag_names

_PAYLOAD_COLUMNS = (names.c.name, payloads.c.revision, payloads.c.md5, payloads.c.sha256, payloads.c.size)


def content(connection: sa.Connection, tag_id: int, within: IoV | None = None) -> tuple[TagIov, ...]:
    """The links of a tag that share a run with ``within``, by name, start and revision."""
    query = (
        sa.select(names.c.name, payloads.c.revision, iovs.c.start, iovs.c.stop, iovs.c.id)
        .select_from(iovs.join(payloads).join(names, names.c.id == iovs.c.name_id))
        .where(iovs.c.tag_id == tag_id)
    )
    if within is not None:
        start, stop = schema.edges(within)
        query = query.where(iovs.c.start < stop, iovs.c.stop > start)
    rows = sorted(connection.execute(query), key=lambda row: (row.name, row.start, row.revision, row.stop))
    return tuple(
        TagIov(name, revision, schema.iov_of(start, stop), id=id_) for name, revision, start, stop, id_ in rows
    )


def valid(connection: sa.Connection, tag_id: int, run: ExpRun) -> dict[str, tuple[Payload, IoV]]:
    """The payload of each name that the tag has in the run, with its IoV; of several the highest revision."""
    found = connection.execute(_VALID, {"tag": tag_id, "key": schema.run_key(run.exp, run.run)}).all()
    ranked = sorted(found, key=lambda row: row.revision)
    return {row.name: (Payload(*row[:5]), schema.iov_of(row.start, row.stop)) for row in ranked}


def drop(connection: sa.Connection, ids: Iterable[int]) -> None:
    """Remove links."""
    rows = [{"link": id_} for id_ in ids]
    if rows:
        connection.execute(sa.delete(iovs).where(iovs.c.id == sa.bindparam("link")), rows)


def insert(connection: sa.Connection, tag_id: int, links: Iterable[TagIov]) -> None:
    """Add links of payloads that exist."""
    wanted = list(links)
    known = payload_ids(connection, {(link.name, link.revision) for link in wanted})
    rows = [_row(tag_id, known[link.name, link.revision], link.iov) for link in wanted]
    if rows:
        connection.execute(sa.insert(iovs), rows)


def shorten(connection: sa.Connection, link: int, iov: IoV) -> None:
    """Give an open link the end of ``iov``."""
    stop = schema.edges(iov)[1]
    connection.execute(sa.update(iovs).where(iovs.c.id == link).values(stop=stop))


def book_names(connection: sa.Connection, tag_id: int, links: Sequence[TagIov], touched: Iterable[str]) -> None:
    """Bring ``tag_names`` up to date for the ``touched`` names, when ``links`` is all the tag has of them."""
    per_name = by_name(links)
    ids = name_ids(connection, touched)
    own = sa.and_(tag_names.c.tag_id == tag_id, tag_names.c.name_id == sa.bindparam("which"))
    if ids:
        connection.execute(sa.delete(tag_names).where(own), [{"which": id_} for id_ in ids.values()])
    rows = [
        {"tag_id": tag_id, "name_id": ids[name], "disjoint": first_overlap(per_name[name]) is None}
        for name in sorted(ids)
        if name in per_name
    ]
    if rows:
        connection.execute(sa.insert(tag_names), rows)


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


def bare(link: TagIov) -> TagIov:
    """The link without the database's id."""
    return TagIov(link.name, link.revision, link.iov)


def rows(links: Iterable[TagIov]) -> list[list[Any]]:
    """Links as JSON, for the audit log."""
    return [[link.name, link.revision, *link.iov] for link in links]


def require_equal(tag: str, found: Iterable[TagIov], wanted: Iterable[TagIov]) -> None:
    """Raise ``BackendError`` when what was read back is not what was to be written."""
    have, want = set(map(bare, found)), set(map(bare, wanted))
    if have != want:
        odd = sorted(f"{link.name} revision {link.revision} in {link.iov}" for link in have ^ want)
        raise BackendError(
            f"tag {tag} reads back differently from what was written: {'; '.join(odd)};"
            " nothing was changed. Report this",
            transient=False,
        )


def require_payloads(connection: sa.Connection, links: Iterable[TagIov]) -> None:
    """Raise ``DataError`` when a link is about a payload that the database does not have."""
    keys = {(link.name, link.revision) for link in links}
    if missing := sorted(keys - payload_ids(connection, keys).keys()):
        listed = ", ".join(f"{name} revision {revision}" for name, revision in missing)
        raise DataError(f"the conditions database has no payload {listed}; upload it first. Nothing was changed")


def name_ids(connection: sa.Connection, wanted: Iterable[str]) -> dict[str, int]:
    """Payload name to the id of its row, for those that exist."""
    found: dict[str, int] = {}
    for part in _parts(sorted(set(wanted))):
        query = sa.select(names.c.name, names.c.id).where(names.c.name.in_(part))
        found |= {name: id_ for name, id_ in connection.execute(query)}  # noqa: C416 (a result is no mapping)
    return found


def payload_ids(
    connection: sa.Connection, wanted: Iterable[tuple[str, int]]
) -> Mapping[tuple[str, int], tuple[int, int]]:
    """(name, revision) to the ids of the name's and the payload's row, for those that exist."""
    query = sa.select(names.c.name, payloads.c.revision, names.c.id, payloads.c.id).join_from(payloads, names)
    keys = set(wanted)
    found: dict[tuple[str, int], tuple[int, int]] = {}
    for part in _parts(sorted({name for name, _ in keys})):
        for name, revision, name_id, payload_id in connection.execute(query.where(names.c.name.in_(part))):
            if (name, revision) in keys:
                found[name, revision] = (name_id, payload_id)
    return found


def _parts(values: Sequence[str], size: int = 500) -> list[Sequence[str]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def _row(tag_id: int, ids: tuple[int, int], iov: IoV) -> dict[str, int]:
    start, stop = schema.edges(iov)
    return {"tag_id": tag_id, "name_id": ids[0], "payload_id": ids[1], "start": start, "stop": stop}


def _valid_query() -> sa.CompoundSelect[Any]:
    """One query for all names: one descent of the index per disjoint name, a scan for the others."""
    key: sa.BindParameter[int] = sa.bindparam("key", type_=sa.BigInteger)
    tag: sa.BindParameter[int] = sa.bindparam("tag", type_=sa.Integer)
    earlier = iovs.alias("earlier")
    latest = (
        sa.select(earlier.c.id)
        .where(earlier.c.tag_id == tag_names.c.tag_id, earlier.c.name_id == tag_names.c.name_id, earlier.c.start <= key)
        .order_by(earlier.c.start.desc())
        .limit(1)
        .correlate(tag_names)
        .scalar_subquery()
    )
    overlapping = sa.select(tag_names.c.name_id).where(tag_names.c.tag_id == tag, tag_names.c.disjoint.is_(False))
    return sa.union_all(
        _links_of(tag_names.join(iovs, iovs.c.id == latest)).where(
            tag_names.c.tag_id == tag, tag_names.c.disjoint.is_(True), iovs.c.stop > key
        ),
        _links_of(iovs).where(
            iovs.c.tag_id == tag, iovs.c.name_id.in_(overlapping), iovs.c.start <= key, iovs.c.stop > key
        ),
    )


def _links_of(source: sa.FromClause) -> sa.Select[Any]:
    """The payloads that ``source``, which has the table of IoVs, links, with their IoVs."""
    joined = source.join(payloads, payloads.c.id == iovs.c.payload_id).join(names, names.c.id == iovs.c.name_id)
    return sa.select(*_PAYLOAD_COLUMNS, iovs.c.start, iovs.c.stop).select_from(joined)


_VALID = _valid_query()
