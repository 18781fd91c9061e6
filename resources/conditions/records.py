"""Rows of tags, payloads and the audit log, inside a transaction somebody else holds."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import sqlalchemy as sa

from b2cal_core.errors import ConfigurationError, ConflictError, IntegrityError
from b2cal_core.payloads import AuditEntry, GlobalTag, Payload, TagState
from resources.conditions.payload_store import Content
from resources.conditions.schema import audit, names, payloads, tags

# What goes into a file name and into a line of a testing payload storage unharmed.
_PAYLOAD_NAME = re.compile(r"[A-Za-z0-9_+\-:][A-Za-z0-9_+\-:.]{0,199}")
_SELECT_PAYLOAD = sa.select(
    names.c.name, payloads.c.revision, payloads.c.md5, payloads.c.sha256, payloads.c.size
).join_from(payloads, names)


@dataclass(frozen=True, slots=True)
class Signature:
    """Who changes something, and when; ``when`` in UTC."""

    author: str
    when: datetime

    @property
    def at(self) -> str:
        """The time as it is stored."""
        return self.when.astimezone(UTC).isoformat(timespec="microseconds")


def check_payload_name(name: str) -> str:
    """The name, when a payload may have it; else ``ConfigurationError``."""
    if not _PAYLOAD_NAME.fullmatch(name):
        raise ConfigurationError(
            f"a payload is named with letters, digits and _ + - : . only, at most 200 and no dot first, got {name!r}"
        )
    return name


def find_tag(connection: sa.Connection, name: str) -> tuple[int, GlobalTag] | None:
    """The id and value of a tag; a transaction that writes keeps its row locked."""
    row = connection.execute(_locking(connection, sa.select(tags).where(tags.c.name == name))).first()
    return None if row is None else (row.id, _tag(row))


def require_tag(connection: sa.Connection, name: str) -> tuple[int, GlobalTag]:
    """Like ``find_tag``, but a tag that is not there is a ``ConfigurationError``."""
    found = find_tag(connection, name)
    if found is None:
        near = get_close_matches(name, connection.scalars(sa.select(tags.c.name)).all(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `b2cal cdb tags` lists those there are"
        raise ConfigurationError(f"there is no global tag {name!r}{hint}")
    return found


def require_state(tag: GlobalTag, wanted: TagState, purpose: str) -> None:
    """Raise ``ConflictError`` when the tag is in another state."""
    if tag.state is not wanted:
        raise ConflictError(f"tag {tag.name} is {tag.state}, but must be {wanted} {purpose}; nothing was changed")


def all_tags(connection: sa.Connection) -> list[GlobalTag]:
    """Every tag, by name."""
    return sorted((_tag(row) for row in connection.execute(sa.select(tags))), key=lambda tag: tag.name)


def insert_tag(connection: sa.Connection, tag: GlobalTag) -> int:
    """Add a tag and return its id; ``ConflictError`` when the name is taken."""
    if find_tag(connection, tag.name) is not None:
        raise ConflictError(f"there is a global tag {tag.name} already; use it, or choose another name")
    values = {"name": tag.name, "state": tag.state.value, "type": tag.type, "description": tag.description}
    return _new_id(connection.execute(sa.insert(tags).values(values)))


def register(connection: sa.Connection, name: str, content: Content, *, signature: Signature) -> Payload:
    """The payload with this name and content; a new one gets the next revision of its name.

    Raises:
        IntegrityError: other content with the same MD5 exists under the name.
    """
    query = _SELECT_PAYLOAD.where(names.c.name == name)
    row = connection.execute(query.where(payloads.c.md5 == content.md5)).first()
    if row is None:
        return _insert_payload(connection, name, content, signature=signature)
    known = Payload(*row)
    if known.sha256 != content.sha256:
        raise IntegrityError(
            f"payload {name} revision {known.revision} has the same MD5 {content.md5} but other content; the two"
            " cannot be told apart by conditions databases. Write the payload anew"
        )
    return known


def find_payload(connection: sa.Connection, name: str, revision: int) -> Payload | None:
    """The payload of that revision."""
    query = _SELECT_PAYLOAD.where(names.c.name == name, payloads.c.revision == revision)
    row = connection.execute(query).first()
    return None if row is None else Payload(*row)


def find_contents(connection: sa.Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Payload]:
    """(name, md5) to payload, for those that exist."""
    pairs = sorted(set(wanted))
    found: dict[tuple[str, str], Payload] = {}
    for i in range(0, len(pairs), 500):
        part = pairs[i : i + 500]
        query = _SELECT_PAYLOAD.where(payloads.c.md5.in_([md5 for _, md5 in part]))
        known = {(row.name, row.md5): Payload(*row) for row in connection.execute(query)}
        found |= {pair: known[pair] for pair in part if pair in known}
    return found


def log(
    connection: sa.Connection,
    signature: Signature,
    *,
    action: str,
    tag: str,
    detail: Mapping[str, Any],
    reason: str = "",
    plan_hash: str | None = None,
) -> None:
    """Append a line to the audit log."""
    values = {
        "at": signature.at,
        "author": signature.author,
        "action": action,
        "tag": tag,
        "detail": json.dumps(detail, separators=(",", ":")),
        "reason": reason,
        "plan_hash": plan_hash,
    }
    connection.execute(sa.insert(audit).values(values))


def logged(connection: sa.Connection, tag: str | None) -> tuple[AuditEntry, ...]:
    """The audit log, or its lines about one tag, oldest first."""
    query = sa.select(audit).order_by(audit.c.id)
    if tag is not None:
        query = query.where(audit.c.tag == tag)
    return tuple(
        AuditEntry(
            row.id,
            datetime.fromisoformat(row.at),
            row.author,
            action=row.action,
            tag=row.tag,
            detail=row.detail,
            reason=row.reason,
            plan_hash=row.plan_hash,
        )
        for row in connection.execute(query)
    )


def is_applied(connection: sa.Connection, tag: str, plan_hash: str) -> bool:
    """Whether a plan was applied to a tag before."""
    query = sa.select(audit.c.id).where(audit.c.tag == tag, audit.c.plan_hash == plan_hash)
    return connection.execute(query).first() is not None


def _insert_payload(connection: sa.Connection, name: str, content: Content, *, signature: Signature) -> Payload:
    name_id, revision = _next_revision(connection, name)
    values = {
        "name_id": name_id,
        "revision": revision,
        "md5": content.md5,
        "sha256": content.sha256,
        "size": content.size,
        "added_at": signature.at,
        "added_by": signature.author,
    }
    connection.execute(sa.insert(payloads).values(values))
    return Payload(name, revision, md5=content.md5, sha256=content.sha256, size=content.size)


def _next_revision(connection: sa.Connection, name: str) -> tuple[int, int]:
    row = connection.execute(_locking(connection, sa.select(names).where(names.c.name == name))).first()
    if row is None:
        return _new_id(connection.execute(sa.insert(names).values(name=name, last_revision=1))), 1
    revision = int(row.last_revision) + 1
    connection.execute(sa.update(names).where(names.c.id == row.id).values(last_revision=revision))
    return int(row.id), revision


def _locking(connection: sa.Connection, query: sa.Select[Any]) -> sa.Select[Any]:
    """The query, locking its rows in a transaction that writes; a reader must not make others wait."""
    return query.with_for_update() if connection.get_execution_options().get("writes") else query


def _new_id(result: sa.CursorResult[Any]) -> int:
    key = result.inserted_primary_key
    return int(key[0]) if key is not None else 0


def _tag(row: sa.Row[Any]) -> GlobalTag:
    return GlobalTag(row.name, TagState(row.state), description=row.description, type=row.type)
