"""The embedded conditions database: tags and IoVs in SQLite or MariaDB, payload files on disk, no server.

Every change is one transaction, written to the audit log with it. Payload files are put in place before the metadata
that name them, so that a link always leads to content; a file that was never linked costs disk space and nothing else.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

import sqlalchemy as sa

from b2cal_core.errors import ConfigurationError, ConflictError, DataError
from b2cal_core.payloads import (
    TRANSITIONS,
    GlobalTag,
    Lease,
    LocalPayload,
    Payload,
    Release,
    Resolved,
    TagState,
    check_tag_name,
)
from b2cal_core.plans import PlanDocument, moved
from b2cal_core.ports import Capabilities
from b2cal_core.publishing import TagIov, merge_tags
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.rights import Rights
from resources.conditions import book, latest_links, records, schema, tag_content
from resources.conditions.book import Book, Signature, utc_now
from resources.conditions.booked import SERVED, BookedConditionsDB, check_served
from resources.conditions.connections import Database
from resources.conditions.export import write_storage
from resources.conditions.payload_store import PayloadStore
from resources.conditions.running_updates import PlanWork


@dataclass(frozen=True, slots=True)
class _Change:
    """A transaction that changes one tag; ``number`` is that of the line of the audit log which will tell of it."""

    connection: sa.Connection
    signature: Signature
    tag_id: int
    tag: GlobalTag
    number: int


class EmbeddedConditionsDB(BookedConditionsDB):
    """A conditions database in one directory; usable by many threads and processes at once.

    Args:
        directory: gets ``payloads/`` and, on SQLite, ``conditions.db``; made when it is missing. SQLite does not work
            on a network disk; there, give the address of a MariaDB.
        rights: who works with it, named so by the audit log, and what they may do; by default everything.
        url: SQLAlchemy address of the database; by default SQLite in ``directory``.
        pooled: keep connections open between calls; none is left open when the process forks.
        served: states a tag may have to be read through ``resolve`` and ``export``. OPEN is among them because the
            calibrations of a bucket read their own staging tag; INVALID cannot be.
        clock: gives the time for the audit log and for leases.
        on_step: told the name of each step of a change before it is taken, and ``committed``; what it raises ends it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        rights: Rights | None = None,
        url: str | sa.URL | None = None,
        pooled: bool = True,
        served: frozenset[TagState] = SERVED,
        clock: Callable[[], datetime] = utc_now,
        on_step: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self._served, self._clock, self._on_step = check_served(served), clock, on_step
        self._rights = rights or Rights.everything("b2cal")
        self._store = PayloadStore(directory / "payloads", on_step)
        address = database_address(directory, url)
        self._database = Database(address, create=self._store.is_empty, pooled=pooled)
        self._book = Book(self._database, author=self._rights.user, clock=clock)

    def seen_by(self, rights: Rights) -> "EmbeddedConditionsDB":
        """The same database in the hands of another user; connections are shared."""
        view = copy.copy(self)
        view.__dict__.update(_rights=rights, _book=Book(self._database, author=rights.user, clock=self._clock))
        return view

    @property
    def capabilities(self) -> Capabilities:
        """All there are: every change is one transaction, and nothing is forgotten."""
        return Capabilities(
            atomic_update=True,
            atomic_edit=True,
            per_tag_rights=True,
            server_revisions=True,
            immutable_past=True,
            time_machine=True,
            rollback=True,
        )

    @property
    def database(self) -> Database:
        """The connections, for those who serve or measure the database."""
        return self._database

    @property
    def engine(self) -> sa.Engine:
        """The database's engine, to watch or to limit its connections."""
        return self._database.engine

    # Tags

    def get_tag(self, name: str) -> GlobalTag | None:
        """The tag, or ``None`` when there is none of that name."""
        with self._database.read() as connection:
            found = records.find_tag(connection, name)
        return None if found is None else found[1]

    def list_tags(self, pattern: str = "*") -> tuple[GlobalTag, ...]:
        """Tags whose name matches the shell pattern, by name."""
        with self._database.read() as connection:
            return tuple(tag for tag in records.all_tags(connection) if fnmatchcase(tag.name, pattern))

    def create_tag(self, name: str, description: str = "", *, type: str = "DEV") -> GlobalTag:  # noqa: A002 (the database's word)
        """Make an OPEN tag; ``ConflictError`` when the name is taken."""
        tag = GlobalTag(check_tag_name(name), TagState.OPEN, description=description, type=type)
        self._rights.require_administer(name, "make")
        signature = self._signature()
        with self._database.write() as connection:
            records.insert_tag(connection, tag, signature)
            detail = {"description": description, "type": type}
            book.log(connection, signature, action="create_tag", tag=name, detail=detail)
            self._on_step("commit")
        return tag

    def set_state(self, name: str, *, expected: TagState, new: TagState, lease: Lease | None = None) -> GlobalTag:
        """Change the state of a tag that is in the expected one, where the rules of states allow it."""
        self._rights.require_administer(name, f"bring to {new}")
        with self._changing(name, lease) as change:
            records.require_state(change.tag, expected, f"before it goes to {new}")
            if new not in TRANSITIONS[expected]:
                allowed = ", ".join(sorted(TRANSITIONS[expected])) or "no other state"
                raise ConflictError(f"tag {name} is {expected} and may go to {allowed}, not to {new}")
            records.change_state(change.connection, change.tag_id, new, change.signature)
            detail = {"from": expected.value, "to": new.value}
            book.log(change.connection, change.signature, action="set_state", tag=name, detail=detail)
            self._on_step("commit")
        return replace(change.tag, state=new)

    def clone_tag(self, source: str, name: str, *, state: TagState = TagState.OPEN, description: str = "") -> GlobalTag:
        """Make a tag with the content ``source`` has now, in any state; payload files are shared."""
        self._rights.require_administer(check_tag_name(name), "make")
        signature = self._signature()
        with self._database.write() as connection:
            source_id, original = records.require_tag(connection, source)
            clone = GlobalTag(name, state, description=description, type=original.type)
            tag_id = records.insert_tag(connection, clone, signature)
            number = book.next_number(connection)
            links = tag_content.content(connection, source_id)
            tag_content.insert(connection, tag_id, links, number)
            tag_content.book_names(connection, tag_id, links, {link.name for link in links})
            fingerprint = moved(records.fingerprint(connection, tag_id), added=links)
            records.keep_fingerprint(connection, tag_id, fingerprint, signature)
            detail = {"source": source, "state": state.value, "fingerprint": fingerprint}
            book.log(connection, signature, action="clone_tag", tag=name, detail=detail)
            self._on_step("commit")
        return clone

    def list_iovs(self, tag: str, within: IoV | None = None, *, as_of: int | None = None) -> tuple[TagIov, ...]:
        """The links of a tag that share a run with ``within``, by name, start and revision."""
        with self._database.read() as connection:
            _require_history(connection, as_of)
            return tag_content.content(connection, records.require_tag(connection, tag)[0], within, as_of=as_of)

    def fingerprint(self, tag: str) -> str:
        """A hash of state and content, as ``b2cal_core.plans`` makes it; kept up to date, so reading it is cheap."""
        with self._database.read() as connection:
            return records.fingerprint(connection, records.require_tag(connection, tag)[0])

    # Payloads

    def put_payloads(self, files: Sequence[tuple[str, Path]]) -> tuple[Payload, ...]:
        """Store the contents, files first; what exists under a name is given back."""
        for name, _ in files:
            records.check_payload_name(name)
        contents = self._store.add_all(dict.fromkeys(file for _, file in files))
        signature = self._signature()
        with self._database.write() as connection:
            payloads = records.register(connection, [(name, contents[file]) for name, file in files], signature)
            self._on_step("commit")
        self._on_step("committed")
        return payloads

    def find_payloads(self, wanted: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], Payload]:
        """(name, md5) to payload, for those that exist."""
        with self._database.read() as connection:
            return records.find_contents(connection, wanted)

    def payloads_of(self, wanted: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], Payload]:
        """(name, revision) to payload, for those that exist."""
        with self._database.read() as connection:
            return records.find_revisions(connection, wanted)

    def payload_file(self, payload: Payload) -> Path:
        """The stored file itself, its SHA-256 just checked; it must not be written to."""
        known = (
            payload
            if payload.sha256
            else self.find_payloads([(payload.name, payload.md5)]).get((payload.name, payload.md5))
        )
        if known is None or known.sha256 is None:
            raise DataError(f"the conditions database has no payload {payload.name} with MD5 {payload.md5}")
        return self._store.verified(known.sha256, f"payload {payload.name} revision {payload.revision}")

    # Contents of OPEN tags

    def replace_iovs(self, tag: str, names: Iterable[str], payloads: Sequence[LocalPayload]) -> tuple[TagIov, ...]:
        """Upload the files, then swap the links of ``names`` in one transaction."""
        replaced = frozenset(map(records.check_payload_name, names))
        refuse_strangers(tag, replaced, payloads)
        tag_content.refuse_overlaps(tag, (TagIov(local.name, 0, local.iov) for local in payloads))
        self._rights.require_fill(tag, "fill")
        with self._database.read() as connection:  # before files are copied for nothing
            records.require_state(records.require_tag(connection, tag)[1], TagState.OPEN, _TO_FILL)
        contents = self._store.add_all(dict.fromkeys(local.file for local in payloads))
        with self._changing(tag) as change:
            records.require_state(change.tag, TagState.OPEN, _TO_FILL)
            signed = [(local.name, contents[local.file]) for local in payloads]
            stored = records.register(change.connection, signed, change.signature)
            wanted = {
                TagIov(local.name, payload.revision, local.iov) for local, payload in zip(payloads, stored, strict=True)
            }
            present = tag_content.content(change.connection, change.tag_id, of=replaced)
            written = self._edit(change, "replace_iovs", present=present, wanted=wanted)
            self._on_step("commit")
        self._on_step("committed")
        return written

    def add_iovs(self, tag: str, iovs: Sequence[TagIov], *, allow_overlaps: bool = False) -> tuple[TagIov, ...]:
        """See the port; ``allow_overlaps`` is for tags taken over, as they are, from a database that has overlaps."""
        self._rights.require_fill(tag, "fill")
        with self._changing(tag) as change:
            records.require_state(change.tag, TagState.OPEN, _TO_FILL)
            tag_content.require_payloads(change.connection, iovs)
            names = frozenset(link.name for link in iovs)
            present = tag_content.content(change.connection, change.tag_id, of=names)
            wanted = {link.bare for link in (*present, *iovs)}
            if not allow_overlaps:
                tag_content.refuse_overlaps(tag, wanted)
            after = self._edit(change, "add_iovs", present=present, wanted=wanted)
            self._on_step("commit")
        return after

    # Reading through a chain of tags

    def resolve(
        self, chain: Sequence[str], run: ExpRun, names: Iterable[str] | None = None, *, as_of: int | None = None
    ) -> Mapping[str, Resolved]:
        """One query per tag; the LAST tag wins, and within a tag the highest revision."""
        found: dict[str, Resolved] = {}
        with self._database.read() as connection:
            _require_history(connection, as_of)
            for tag in chain:  # the last one written wins
                tag_id = self._require_served(connection, tag)
                if as_of is None:
                    valid = latest_links.valid(connection, tag_id, run)
                else:
                    valid = tag_content.valid_as_of(connection, tag_id, run, as_of=as_of)
                found |= {name: Resolved(payload, iov, tag=tag) for name, (payload, iov) in valid.items()}
        return only_wanted(found, names, run=run, chain=chain)

    def export(self, chain: Sequence[str], directory: Path, *, within: IoV, names: Iterable[str] | None = None) -> Path:
        """Copy what the chain has in ``within``, clipped to it, into a testing payload storage."""
        wanted = None if names is None else frozenset(names)
        with self._database.read() as connection:
            by_priority = [
                tag_content.content(connection, self._require_served(connection, tag), within, of=wanted)
                for tag in reversed(chain)
            ]
            merged = merge_tags(by_priority, within)
            found = records.find_revisions(connection, {(link.name, link.revision) for link in merged})
        lines = [(found[link.name, link.revision], link.iov) for link in merged]
        return write_storage(directory, [(payload, self.payload_file(payload), iov) for payload, iov in lines])

    # Publishing

    def apply(self, document: PlanDocument, release: Release, *, lease: Lease | None = None) -> tuple[TagIov, ...]:
        """Carry the plan out in one transaction, read back before it is committed."""
        release.require_complete()
        self._rights.require_administer(document.target, "publish into")
        with self._changing(document.target, lease) as change:
            work = PlanWork(document, release, replace(change.signature, author=release.author), self._on_step)
            if book.is_applied(change.connection, document.target, document.hash):
                return work.affected(change.connection, change.tag_id)
            after = work.carry_out(change.connection, change.tag_id, change.tag)
            self._on_step("commit")
        self._on_step("committed")
        return after

    # Inside

    def _rights_now(self) -> Rights:
        return self._rights

    def _signature(self) -> Signature:
        return Signature(self._rights.user, self._clock())

    @contextmanager
    def _changing(self, tag: str, lease: Lease | None = None) -> Iterator[_Change]:
        """A transaction that changes the tag, which nobody else has a lease on."""
        signature = self._signature()
        with self._database.write() as connection:
            tag_id, found = records.require_tag(connection, tag)
            book.require_free(connection, tag, lease, now=signature.when)
            yield _Change(connection, signature, tag_id, tag=found, number=book.next_number(connection))

    def _require_served(self, connection: sa.Connection, name: str) -> int:
        tag_id, tag = records.require_tag(connection, name)
        if tag.state not in self._served:
            raise ConflictError(f"tag {name} is {tag.state} and is not served; leave it out of the chain of tags")
        return tag_id

    def _edit(
        self, change: _Change, action: str, *, present: Sequence[TagIov], wanted: set[TagIov]
    ) -> tuple[TagIov, ...]:
        """Bring the links from ``present``, all of some names, to ``wanted``, with as few changes as possible."""
        connection, tag_id = change.connection, change.tag_id
        dropped = [link for link in present if link.bare not in wanted]
        added = sorted(wanted - {link.bare for link in present}, key=lambda link: (link.name, link.iov))
        if not dropped and not added:
            return tuple(present)
        tag_content.drop(connection, (link.id for link in dropped if link.id is not None), change.number)
        self._on_step("links dropped")
        tag_content.insert(connection, tag_id, added, change.number)
        names = {link.name for link in (*present, *wanted)}
        after = tag_content.content(connection, tag_id, of=names)
        tag_content.book_names(connection, tag_id, after, names)
        tag_content.require_equal(change.tag.name, after, wanted)
        fingerprint = moved(records.fingerprint(connection, tag_id), added=added, dropped=dropped)
        records.keep_fingerprint(connection, tag_id, fingerprint, change.signature)
        detail = {"dropped": tag_content.rows(dropped), "added": tag_content.rows(added)}
        book.log(connection, change.signature, action=action, tag=change.tag.name, detail=detail)
        return after


_TO_FILL = "for its content to be changed"


def database_address(directory: Path, url: str | sa.URL | None) -> sa.URL:
    """The address given, or that of the SQLite file of a directory."""
    return sa.make_url(url) if url else sa.URL.create("sqlite", database=str(directory.absolute() / "conditions.db"))


def refuse_strangers(tag: str, names: frozenset[str], payloads: Iterable[LocalPayload]) -> None:
    """Raise ``ConfigurationError`` when a payload is not among the names to be replaced."""
    if strangers := sorted({local.name for local in payloads} - names):
        raise ConfigurationError(
            f"payload {', '.join(strangers)} is not among the names to be replaced in tag {tag}"
            f" ({', '.join(sorted(names)) or 'none'}); name it too. Nothing was changed"
        )


def only_wanted(
    found: Mapping[str, Resolved], names: Iterable[str] | None, *, run: ExpRun, chain: Sequence[str]
) -> Mapping[str, Resolved]:
    """What was found of the names asked for, or everything; ``DataError`` when one was not found."""
    if names is None:
        return found
    wanted = tuple(dict.fromkeys(names))
    if missing := [name for name in wanted if name not in found]:
        raise DataError(
            f"no payload {', '.join(missing)} is valid in {run} in any of the tags {', '.join(chain) or '(none)'};"
            " calibrate it, or add a tag that has it to the chain"
        )
    return {name: found[name] for name in wanted}


def _require_history(connection: sa.Connection, as_of: int | None) -> None:
    if as_of is None:
        return
    begins, last = connection.execute(sa.select(schema.head.c.history_from, schema.head.c.entry)).one()
    if not begins <= as_of <= last:
        raise ConfigurationError(
            f"the database can be read as it was after the lines {begins} to {last} of its audit log, not after"
            f" {as_of}; `b2cal cdb audit` lists them"
        )
