"""Changes that Belle II's interface addresses by id: one link of an OPEN tag, and the name of a tag.

Every change is one transaction with a line in the audit log, and what was stays readable as the past. Overlaps are
allowed here, as they are on Belle II's server; the highest revision wins.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from b2cal_core.errors import ConflictError
from b2cal_core.payloads import GlobalTag, TagState, check_tag_name
from b2cal_core.plans import moved
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV
from b2cal_core.rights import Rights
from resources.conditions import book, records, schema, tag_content
from resources.conditions.book import Signature, utc_now
from resources.conditions.connections import Database
from resources.conditions.schema import iovs, names, past_iovs, payloads, tag_names, tags
from resources.conditions.server import lookups
from resources.conditions.server.refusals import NotFound
from resources.conditions.server.shapes import Row


@dataclass(frozen=True, slots=True)
class _Change:
    """A transaction that changes one tag; ``number`` is that of the line of the audit log which will tell of it."""

    connection: sa.Connection
    signature: Signature
    tag_id: int
    tag: GlobalTag
    number: int


@dataclass(frozen=True, slots=True)
class LinkEdits:
    """Changes of single links in the name of one user.

    Attributes:
        rights: who asks, and what they may do.
        clock: gives the time for the audit log, and tells whether a lease has run out.
    """

    database: Database
    rights: Rights
    clock: Callable[[], datetime] = utc_now

    def create(self, tag_id: int, payload_id: int, iov: IoV) -> str:
        """Link a payload and return the new IoV as JSON; a link that is there already is given back as it is."""
        with self._changing(tag_id) as change:
            payload = lookups.payload_with_id(change.connection, payload_id)
            link = TagIov(payload.name, payload.revision, iov)
            present = tag_content.content(change.connection, tag_id, iov, of=[link.name])
            known = next((each for each in present if each.bare == link), None)
            if known is None:
                tag_content.insert(change.connection, tag_id, [link], change.number)
                _book_added(change, link.name, overlaps=bool(present))
                _keep(change, "create_iov", added=link)
            return lookups.link_text(change.connection, _id_of(change, link))

    def change(self, link_id: int, iov: IoV) -> None:
        """Give a link another IoV.

        Raises:
            ConflictError: the tag is not OPEN, or has this payload with this IoV already.
        """
        with self._changing_link(link_id) as (change, link):
            new = TagIov(link.name, link.revision, iov)
            if new == link.bare:
                return
            present = tag_content.content(change.connection, change.tag_id, iov, of=[link.name])
            if any(each.bare == new for each in present):
                raise ConflictError(
                    f"tag {change.tag.name} has {link.name} revision {link.revision} in {iov} already; delete one of"
                    " the two. Nothing was changed"
                )
            _move(change, link_id, iov)
            _book_removed(change, link.name)
            _book_added(change, link.name, overlaps=any(each.id != link_id for each in present))
            _keep(change, "change_iov", added=new, dropped=link)

    def delete(self, link_id: int) -> None:
        """Remove a link; ``NotFound`` when it is not there, so that a repeated request is seen."""
        with self._changing_link(link_id) as (change, link):
            tag_content.drop(change.connection, [link_id], change.number)
            _book_removed(change, link.name)
            _keep(change, "delete_iov", dropped=link)

    @contextmanager
    def _changing(self, tag_id: int) -> Iterator[_Change]:
        """A transaction that changes an OPEN tag, which nobody has a lease on."""
        signature = Signature(self.rights.user, self.clock())
        with self.database.write() as connection:
            name = lookups.tag_with_id(connection, tag_id).name
            self.rights.require_fill(name, "fill")
            _, tag = records.require_tag(connection, name)
            records.require_state(tag, TagState.OPEN, "for its content to be changed")
            book.require_free(connection, name, None, now=signature.when)
            yield _Change(connection, signature, tag_id, tag=tag, number=book.next_number(connection))

    @contextmanager
    def _changing_link(self, link_id: int) -> Iterator[tuple[_Change, TagIov]]:
        with self.database.read() as connection:
            tag_id = _require_link(connection, link_id).tag_id
        with self._changing(tag_id) as change:
            row = _require_link(change.connection, link_id)
            yield change, TagIov(row.name, row.revision, schema.iov_of(row.start, row.stop), id=link_id)


@dataclass(frozen=True, slots=True)
class TagEdits:
    """Changes of what a tag is called and said to be, in the name of one user."""

    database: Database
    rights: Rights
    clock: Callable[[], datetime] = utc_now

    def change(self, tag_id: int, wanted: Mapping[str, str], *, state: str) -> None:
        """Give an OPEN tag another ``name``, ``description`` or ``type``.

        Args:
            tag_id: the tag's.
            wanted: the new values of some of the three.
            state: what the tag's state is thought to be; it is not changed.

        Raises:
            ConflictError: the tag is in another state, or the name is taken.
        """
        signature = Signature(self.rights.user, self.clock())
        with self.database.write() as connection:
            row = lookups.tag_with_id(connection, tag_id)
            changes = {key: value for key, value in wanted.items() if getattr(row, key) != value}
            self._require_right(row, changes.get("name", row.name))
            _require_changeable(row, state)
            book.require_free(connection, row.name, None, now=signature.when)
            if not changes:
                return
            if "name" in changes:
                _require_unused(connection, check_tag_name(changes["name"]))
            connection.execute(
                sa.update(tags).where(tags.c.id == tag_id).values(changes | {"changed_at": signature.at})
            )
            for name in dict.fromkeys((row.name, changes.get("name", row.name))):  # the log of either name tells of it
                book.log(connection, signature, action="change_tag", tag=name, detail={"was": row.name} | changes)

    def _require_right(self, row: Row, new_name: str) -> None:
        """Whoever made a copy may give it the name it was made for, whatever the copy is called until then."""
        if not (row.made_by == self.rights.user and is_copy_name(row.name)):
            self.rights.require_administer(row.name, "change")
        self.rights.require_administer(new_name, "give its name to")


def copy_name(source_id: int, source: str) -> str:
    """What a copy is called until it is renamed. Source: Belle II conditions database."""
    return f"{source_id}_copy_of_{source}"


def is_copy_name(name: str) -> bool:
    """Whether a tag is called like a copy that was not renamed yet."""
    return name.partition("_copy_of_")[0].isdecimal() and "_copy_of_" in name


def _require_changeable(row: Row, state: str) -> None:
    if row.state != state:
        raise ConflictError(
            f"tag {row.name} is {row.state}, not {state}; its state is changed with updateGlobalTagStatus."
            " Nothing was changed"
        )
    if row.state != TagState.OPEN:
        raise ConflictError(f"tag {row.name} is {row.state}; only an OPEN tag is changed. Nothing was changed")


def _require_unused(connection: sa.Connection, name: str) -> None:
    if records.find_tag(connection, name) is not None:
        raise ConflictError(f"there is a global tag {name} already; choose another name. Nothing was changed")


def _require_link(connection: sa.Connection, link_id: int) -> Row:
    joined = iovs.join(payloads, payloads.c.id == iovs.c.payload_id).join(names, names.c.id == iovs.c.name_id)
    query: sa.Select[Any] = sa.select(iovs.c.tag_id, iovs.c.start, iovs.c.stop, names.c.name, payloads.c.revision)
    row = connection.execute(query.select_from(joined).where(iovs.c.id == link_id)).first()
    if row is None:
        raise NotFound(f"there is no IoV with id {link_id}; list those of the tag. Nothing was changed")
    return row


def _id_of(change: _Change, link: TagIov) -> int:
    found = tag_content.content(change.connection, change.tag_id, link.iov, of=[link.name])
    return next(each.id for each in found if each.bare == link and each.id is not None)


def _move(change: _Change, link_id: int, iov: IoV) -> None:
    """Give a link both ends of ``iov``; what it was goes to the past."""
    kept = ("tag_id", "name_id", "start", "stop", "payload_id", "added")
    was = sa.select(iovs.c.id, *(iovs.c[column] for column in kept), sa.literal(change.number, sa.Integer))
    into = ["link", *kept, "removed"]
    change.connection.execute(sa.insert(past_iovs).from_select(into, was.where(iovs.c.id == link_id)))
    start, stop = schema.edges(iov)
    values = {"start": start, "stop": stop, "added": change.number}
    change.connection.execute(sa.update(iovs).where(iovs.c.id == link_id).values(values))


def _book_added(change: _Change, name: str, *, overlaps: bool) -> None:
    """Note that a tag got a link of a name; costs the same however many it has."""
    which = tag_content.name_ids(change.connection, [name])[name]
    booked = _disjoint(change, which)
    if booked is None:
        tag_content.book(change.connection, change.tag_id, [(which, not overlaps)])
    elif booked and overlaps:
        own = sa.and_(tag_names.c.tag_id == change.tag_id, tag_names.c.name_id == which)
        change.connection.execute(sa.update(tag_names).where(own).values(disjoint=False))


def _book_removed(change: _Change, name: str) -> None:
    """Note that a tag lost a link of a name; all links of the name are read only where some overlapped."""
    which = tag_content.name_ids(change.connection, [name])[name]
    left = sa.select(iovs.c.id).where(iovs.c.tag_id == change.tag_id, iovs.c.name_id == which).limit(1)
    if _disjoint(change, which) and change.connection.execute(left).first() is not None:
        return
    links = tag_content.content(change.connection, change.tag_id, of=[name])
    tag_content.book_names(change.connection, change.tag_id, links, [name])


def _disjoint(change: _Change, which: int) -> bool | None:
    own = sa.and_(tag_names.c.tag_id == change.tag_id, tag_names.c.name_id == which)
    found = change.connection.execute(sa.select(tag_names.c.disjoint).where(own)).first()
    return None if found is None else bool(found.disjoint)


def _keep(change: _Change, action: str, *, added: TagIov | None = None, dropped: TagIov | None = None) -> None:
    """Bring the tag's fingerprint up to date and write the line of the audit log."""
    more, less = [added] if added else [], [dropped] if dropped else []
    fingerprint = moved(records.fingerprint(change.connection, change.tag_id), added=more, dropped=less)
    records.keep_fingerprint(change.connection, change.tag_id, fingerprint, change.signature)
    detail: dict[str, Any] = {"dropped": tag_content.rows(less), "added": tag_content.rows(more)}
    book.log(change.connection, change.signature, action=action, tag=change.tag.name, detail=detail)
