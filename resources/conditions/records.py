"""Rows of tags and payloads, inside a transaction somebody else holds."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import sqlalchemy as sa

from b2cal_core.errors import ConfigurationError, ConflictError, IntegrityError
from b2cal_core.payloads import GlobalTag, Payload, TagState
from b2cal_core.plans import fingerprint_of, in_state
from resources.conditions.book import Signature
from resources.conditions.payload_store import Content
from resources.conditions.schema import names, payloads, tags

# What goes into a file name and into a line of a testing payload storage unharmed.
_PAYLOAD_NAME = re.compile(r"[A-Za-z0-9_+\-:][A-Za-z0-9_+\-:.]{0,199}")
_PART = 500  # values in one statement
PAYLOAD_COLUMNS = (names.c.name, payloads.c.revision, payloads.c.md5, payloads.c.sha256, payloads.c.size)
_SELECT_PAYLOAD = sa.select(*PAYLOAD_COLUMNS).join_from(payloads, names)


def check_payload_name(name: str) -> str:
    """The name, when a payload may have it; else ``ConfigurationError``."""
    if not _PAYLOAD_NAME.fullmatch(name):
        raise ConfigurationError(
            f"a payload is named with letters, digits and _ + - : . only, at most 200 and no dot first, got {name!r}"
        )
    return name


def parts(values: Iterable[Any], size: int = _PART) -> list[list[Any]]:
    """The values in order, in lists that one statement can take."""
    ordered = sorted(values)
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


# Tags


def find_tag(connection: sa.Connection, name: str) -> tuple[int, GlobalTag] | None:
    """The id and value of a tag."""
    row = connection.execute(sa.select(tags).where(tags.c.name == name)).first()
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


def insert_tag(connection: sa.Connection, tag: GlobalTag, signature: Signature) -> int:
    """Add an empty tag and return its id; ``ConflictError`` when the name is taken."""
    if find_tag(connection, tag.name) is not None:
        raise ConflictError(f"there is a global tag {tag.name} already; use it, or choose another name")
    values = {"name": tag.name, "state": tag.state.value, "type": tag.type, "description": tag.description}
    values |= {"made_at": signature.at, "made_by": signature.author, "changed_at": signature.at}
    values["fingerprint"] = fingerprint_of(tag.state, ())
    key = connection.execute(sa.insert(tags).values(values)).inserted_primary_key
    return int(key[0]) if key is not None else 0


def fingerprint(connection: sa.Connection, tag_id: int) -> str:
    """The fingerprint of a tag's state and content."""
    return str(connection.scalars(sa.select(tags.c.fingerprint).where(tags.c.id == tag_id)).one())


def keep_fingerprint(connection: sa.Connection, tag_id: int, value: str, signature: Signature) -> None:
    """Write down the fingerprint of a tag whose content was changed."""
    values = {"fingerprint": value, "changed_at": signature.at}
    connection.execute(sa.update(tags).where(tags.c.id == tag_id).values(values))


def change_state(connection: sa.Connection, tag_id: int, new: TagState, signature: Signature) -> None:
    """Bring a tag to another state, whatever the rules say."""
    values = {
        "state": new.value,
        "fingerprint": in_state(fingerprint(connection, tag_id), new),
        "changed_at": signature.at,
    }
    connection.execute(sa.update(tags).where(tags.c.id == tag_id).values(values))


# Payloads


def register(
    connection: sa.Connection, contents: Sequence[tuple[str, Content]], signature: Signature
) -> tuple[Payload, ...]:
    """The payloads with these names and contents; a new one gets the next revision of its name.

    Raises:
        IntegrityError: other content with the same MD5 exists under the name.
    """
    wanted = {(name, content.md5): content for name, content in contents}
    for name, content in contents:
        _require_same(name, wanted[name, content.md5], content.sha256)
    known = find_contents(connection, wanted)
    for (name, md5), payload in known.items():
        _require_same(name, wanted[name, md5], payload.sha256)
    fresh = [(name, content) for (name, md5), content in wanted.items() if (name, md5) not in known]
    known |= {(payload.name, payload.md5): payload for payload in _insert_payloads(connection, fresh, signature)}
    return tuple(known[name, content.md5] for name, content in contents)


def _require_same(name: str, content: Content, sha256: str | None) -> None:
    if content.sha256 != sha256:
        raise IntegrityError(
            f"two contents of payload {name} have the same MD5 {content.md5}; they cannot be told apart by conditions"
            " databases. Write the payload anew"
        )


def find_contents(connection: sa.Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Payload]:
    """(name, md5) to payload, for those that exist."""
    pairs = set(wanted)
    found: dict[tuple[str, str], Payload] = {}
    for part in parts({md5 for _, md5 in pairs}):
        rows = connection.execute(_SELECT_PAYLOAD.where(payloads.c.md5.in_(part)))
        found |= {(row.name, row.md5): Payload(*row) for row in rows if (row.name, row.md5) in pairs}
    return found


def find_revisions(connection: sa.Connection, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Payload]:
    """(name, revision) to payload, for those that exist."""
    return {key: _payload(row) for key, row in _find_rows(connection, wanted).items()}


def payload_ids(connection: sa.Connection, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
    """(name, revision) to the ids of the name's and the payload's row, for those that exist."""
    return {key: (row.name_id, row.id) for key, row in _find_rows(connection, wanted).items()}


def _find_rows(connection: sa.Connection, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], sa.Row[Any]]:
    by_name: dict[str, set[int]] = {}
    for name, revision in wanted:
        by_name.setdefault(name, set()).add(revision)
    found: dict[tuple[str, int], sa.Row[Any]] = {}
    columns = sa.select(*PAYLOAD_COLUMNS, payloads.c.name_id, payloads.c.id).join_from(payloads, names)
    for part in parts(by_name, 100):
        for few in parts({revision for name in part for revision in by_name[name]}):
            query = columns.where(names.c.name.in_(part), payloads.c.revision.in_(few))
            rows = connection.execute(query)
            found |= {(row.name, row.revision): row for row in rows if row.revision in by_name[row.name]}
    return found


def _insert_payloads(
    connection: sa.Connection, fresh: Sequence[tuple[str, Content]], signature: Signature
) -> list[Payload]:
    if not fresh:
        return []
    numbers = _next_revisions(connection, [name for name, _ in fresh])
    rows, made = [], []
    for (name, content), (name_id, revision) in zip(fresh, numbers, strict=True):
        made.append(Payload(name, revision, content.md5, sha256=content.sha256, size=content.size))
        row = {"name_id": name_id, "revision": revision, "md5": content.md5, "sha256": content.sha256}
        rows.append(row | {"size": content.size, "added_at": signature.at, "added_by": signature.author})
    connection.execute(sa.insert(payloads), rows)
    return made


def _next_revisions(connection: sa.Connection, wanted: Sequence[str]) -> list[tuple[int, int]]:
    """The id of each name and the revision it gives next, in order; they are taken."""
    before = _last_revisions(connection, set(wanted))
    if unknown := sorted(set(wanted) - before.keys()):
        connection.execute(sa.insert(names), [{"name": name, "last_revision": 0} for name in unknown])
        before |= _last_revisions(connection, unknown)
    last, times = {name: revision for name, (_, revision) in before.items()}, Counter(wanted)
    taken = []
    for name in wanted:
        last[name] += 1
        taken.append((before[name][0], last[name]))
    for count in sorted(set(times.values())):
        for part in parts(before[name][0] for name in times if times[name] == count):
            update = sa.update(names).where(names.c.id.in_(part))
            connection.execute(update.values(last_revision=names.c.last_revision + count))
    return taken


def _last_revisions(connection: sa.Connection, wanted: Iterable[str]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for part in parts(wanted):
        query = sa.select(names).where(names.c.name.in_(part))
        found |= {row.name: (row.id, row.last_revision) for row in connection.execute(query)}
    return found


def _payload(row: sa.Row[Any]) -> Payload:
    return Payload(row.name, row.revision, row.md5, sha256=row.sha256, size=row.size)


def _tag(row: sa.Row[Any]) -> GlobalTag:
    return GlobalTag(row.name, TagState(row.state), description=row.description, type=row.type)
