"""The record kept of a conditions database: audit log, provenance, leases. In its own tables or beside the tags.

The functions work inside a transaction somebody else holds; the class opens one for each call.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from b2cal_core.errors import ConflictError
from b2cal_core.payloads import AuditEntry, Lease, Release, chained_hash
from b2cal_core.provenance import PayloadKey, Provenance
from resources.conditions.connections import Database
from resources.conditions.schema import audit, head, leases, provenance
from resources.conditions.schema import records as record_texts


def utc_now() -> datetime:
    """The time by the computer's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Signature:
    """Who changes something, and when; ``when`` in UTC."""

    author: str
    when: datetime

    @property
    def at(self) -> str:
        """The time as it is stored."""
        return stored_time(self.when)


def stored_time(when: datetime) -> str:
    """A time as the tables hold it: in UTC, so that equal lengths sort."""
    return when.astimezone(UTC).isoformat(timespec="microseconds")


class Book:
    """The record of a conditions database that keeps none itself.

    Args:
        database: where the tables are.
        author: who is named when a call does not say.
        clock: gives the times that are written down, and tells whether a lease has run out.
    """

    def __init__(self, database: Database, *, author: str = "b2cal", clock: Callable[[], datetime] = utc_now) -> None:
        self._database, self._author, self._clock = database, author, clock

    def note(self, tag: str, *, action: str, release: Release, detail: str, plan_hash: str | None = None) -> AuditEntry:
        """Append a line to the audit log; blank authors are the book's."""
        signed = replace(release, author=release.author or self._author)
        with self._database.write() as connection:
            return write_line(
                connection, self._clock(), action=action, tag=tag, release=signed, detail=detail, plan_hash=plan_hash
            )

    def audit(self, tag: str | None = None, *, since: int = 0) -> tuple[AuditEntry, ...]:
        """The lines after the line ``since``, of one tag or of all, oldest first."""
        with self._database.read() as connection:
            return logged(connection, tag, since=since)

    def record_provenance(self, records: Mapping[PayloadKey, Provenance], *, author: str) -> None:
        """Keep where payloads come from; what is known already is not written again."""
        with self._database.write() as connection:
            keep_provenance(connection, Signature(author or self._author, self._clock()), records)

    def provenance(self, wanted: Iterable[PayloadKey]) -> dict[PayloadKey, Provenance]:
        """(name, md5) to the last record, for those that have one."""
        with self._database.read() as connection:
            return find_provenance(connection, wanted)

    def lease(self, tag: str, *, holder: str, seconds: float) -> Lease:
        """Take or prolong the lease of a tag."""
        with self._database.write() as connection:
            return take_lease(connection, tag, holder=holder, now=self._clock(), seconds=seconds)

    def end_lease(self, lease: Lease) -> None:
        """Give a lease back."""
        with self._database.write() as connection:
            drop_lease(connection, lease)

    def require_free(self, tag: str, lease: Lease | None = None) -> None:
        """Raise ``ConflictError`` when somebody else holds a lease on the tag, or ``lease`` holds no longer."""
        with self._database.read() as connection:
            require_free(connection, tag, lease, now=self._clock())

    def is_applied(self, tag: str, plan_hash: str) -> bool:
        """Whether a plan was applied to a tag before."""
        with self._database.read() as connection:
            return is_applied(connection, tag, plan_hash)


# The audit log


def next_number(connection: sa.Connection) -> int:
    """The number the next line of the audit log will have; nobody else can write it meanwhile."""
    return int(connection.scalars(sa.select(head.c.entry)).one()) + 1


def log(
    connection: sa.Connection,
    signature: Signature,
    *,
    action: str,
    tag: str,
    detail: Mapping[str, Any],
    release: Release | None = None,
    plan_hash: str | None = None,
) -> AuditEntry:
    """Append a line about a change; ``release`` says more than the signature for what is published."""
    said = release or Release(signature.author, "", "")
    text = json.dumps(detail, separators=(",", ":"))
    return write_line(
        connection, signature.when, action=action, tag=tag, release=said, detail=text, plan_hash=plan_hash
    )


def write_line(
    connection: sa.Connection,
    when: datetime,
    *,
    action: str,
    tag: str,
    release: Release,
    detail: str,
    plan_hash: str | None,
) -> AuditEntry:
    """Append a line as it is, chained to the one before."""
    last = connection.execute(sa.select(head.c.entry, head.c.hash)).one()
    blank = AuditEntry(
        last.entry + 1,
        when.astimezone(UTC),
        release.author,
        action=action,
        tag=tag,
        detail=detail,
        reason=release.reason,
        approver=release.approver,
        plan_hash=plan_hash,
    )
    entry = replace(blank, hash=chained_hash(last.hash, blank))
    connection.execute(sa.insert(audit).values(_audit_row(entry)))
    connection.execute(sa.update(head).values(entry=entry.id, hash=entry.hash))
    return entry


def logged(connection: sa.Connection, tag: str | None, *, since: int = 0) -> tuple[AuditEntry, ...]:
    """The audit log after the line ``since``, or its lines about one tag, oldest first."""
    query = sa.select(audit).where(audit.c.id > since).order_by(audit.c.id)
    if tag is not None:
        query = query.where(audit.c.tag == tag)
    return tuple(map(_entry, connection.execute(query)))


def is_applied(connection: sa.Connection, tag: str, plan_hash: str) -> bool:
    """Whether a plan was applied to a tag before."""
    query = sa.select(audit.c.id).where(audit.c.tag == tag, audit.c.plan_hash == plan_hash, audit.c.action == "apply")
    return connection.execute(query).first() is not None


def _entry(row: sa.Row[Any]) -> AuditEntry:
    values = dict(row._mapping)  # noqa: SLF001 (SQLAlchemy's documented way to a row's columns)
    return AuditEntry(when=datetime.fromisoformat(values.pop("at")), **values)


def _audit_row(entry: AuditEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": stored_time(entry.when),
        "author": entry.author,
        "action": entry.action,
        "tag": entry.tag,
        "detail": entry.detail,
        "reason": entry.reason,
        "approver": entry.approver,
        "plan_hash": entry.plan_hash,
        "hash": entry.hash,
    }


# Provenance


def keep_provenance(connection: sa.Connection, signature: Signature, records: Mapping[PayloadKey, Provenance]) -> None:
    """Write records that are not the last of their payload already; the audit log gets their hashes."""
    known = find_provenance(connection, records)
    fresh = {key: record for key, record in records.items() if known.get(key) != record}
    if not fresh:
        return
    hashes = [[*key, record.hash] for key, record in sorted(fresh.items())]
    entry = log(connection, signature, action="provenance", tag="", detail={"records": hashes})
    by_hash = {record.hash: record for record in fresh.values()}
    _keep_records(connection, by_hash)
    rows = [{"name": name, "md5": md5, "record_hash": hash_, "entry": entry.id} for name, md5, hash_ in hashes]
    connection.execute(sa.insert(provenance), rows)


def _keep_records(connection: sa.Connection, by_hash: Mapping[str, Provenance]) -> None:
    kept = set(connection.scalars(sa.select(record_texts.c.hash).where(record_texts.c.hash.in_(by_hash))))
    rows = [{"hash": hash_, "record": record.to_json()} for hash_, record in by_hash.items() if hash_ not in kept]
    if rows:
        connection.execute(sa.insert(record_texts), rows)


def find_provenance(connection: sa.Connection, wanted: Iterable[PayloadKey]) -> dict[PayloadKey, Provenance]:
    """(name, md5) to the last record, for those that have one."""
    keys = sorted(set(wanted))
    found: dict[PayloadKey, Provenance] = {}
    columns = sa.select(provenance.c.name, provenance.c.md5, provenance.c.record_hash).order_by(provenance.c.id)
    for i in range(0, len(keys), 500):
        part = set(keys[i : i + 500])
        query = columns.where(provenance.c.md5.in_([md5 for _, md5 in part]))
        rows = connection.execute(query)
        latest = {(row.name, row.md5): row.record_hash for row in rows if (row.name, row.md5) in part}
        texts = sa.select(record_texts.c.hash, record_texts.c.record).where(record_texts.c.hash.in_(latest.values()))
        records = {hash_: Provenance.from_json(record) for hash_, record in connection.execute(texts)}
        found |= {key: records[hash_] for key, hash_ in latest.items()}
    return found


# Leases


def take_lease(connection: sa.Connection, tag: str, *, holder: str, now: datetime, seconds: float) -> Lease:
    """Give the lease to the holder; a new one, or the holder's own prolonged."""
    row = connection.execute(sa.select(leases).where(leases.c.tag == tag)).first()
    if row is not None and row.holder not in {"", holder} and datetime.fromisoformat(row.expires) > now:
        _refuse_leased(row)
    renewed = row is not None and row.holder == holder and datetime.fromisoformat(row.expires) > now
    number = 1 if row is None else row.number + (0 if renewed else 1)
    lease = Lease(tag, holder, number, now + timedelta(seconds=seconds))
    values = {"holder": holder, "number": number, "expires": stored_time(lease.expires)}
    if row is None:
        connection.execute(sa.insert(leases).values(tag=tag, **values))
    else:
        connection.execute(sa.update(leases).where(leases.c.tag == tag).values(values))
    return lease


def drop_lease(connection: sa.Connection, lease: Lease) -> None:
    """Free the tag, unless the lease has passed to another."""
    own = sa.and_(leases.c.tag == lease.tag, leases.c.number == lease.number, leases.c.holder == lease.holder)
    connection.execute(sa.update(leases).where(own).values(holder=""))


def require_free(connection: sa.Connection, tag: str, lease: Lease | None, *, now: datetime) -> None:
    """Raise ``ConflictError`` when the tag is leased to another, or ``lease`` has run out or passed on."""
    row = connection.execute(sa.select(leases).where(leases.c.tag == tag)).first()
    holds = row is not None and row.holder and datetime.fromisoformat(row.expires) > now
    if lease is not None:
        if row is None or not holds or (row.holder, row.number) != (lease.holder, lease.number):
            raise ConflictError(
                f"the lease of {lease.holder} on tag {tag} has run out or passed to another; nothing was changed."
                " Start again"
            )
    elif row is not None and holds:
        _refuse_leased(row)


def _refuse_leased(row: sa.Row[Any]) -> None:
    raise ConflictError(
        f"tag {row.tag} is being changed by {row.holder}, who has it until {row.expires}; nothing was changed. Wait and"
        " ask again"
    )
