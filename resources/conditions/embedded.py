"""The embedded conditions database: tags and IoVs in SQLite, payload files beside it, no server.

Every change is one transaction, written to the audit log with it. Payload files are put in place before the metadata
that name them, so that a link always leads to content; a file that was never linked costs disk space and nothing else.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import sqlalchemy as sa

from b2cal_core.errors import ConfigurationError, ConflictError, DataError
from b2cal_core.payloads import (
    TRANSITIONS,
    AuditEntry,
    GlobalTag,
    LocalPayload,
    Payload,
    Resolved,
    TagState,
    check_tag_name,
)
from b2cal_core.plans import fingerprint_of
from b2cal_core.ports import Capabilities, ConditionsDB
from b2cal_core.publishing import TagIov, UpdateMode, UpdatePlan, merge_tags, plan_running_update
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions import records, running_updates, schema, tag_content
from resources.conditions.connections import Database
from resources.conditions.export import write_storage
from resources.conditions.payload_store import Content, PayloadStore
from resources.conditions.records import Signature

_SERVED = frozenset(TagState) - {TagState.INVALID}


def utc_now() -> datetime:
    """The time by the computer's clock."""
    return datetime.now(UTC)


class EmbeddedConditionsDB(ConditionsDB):
    """A conditions database in one directory; usable by many threads and processes at once.

    Args:
        directory: gets ``conditions.db`` and ``payloads/``; made when it is missing. Not on a network disk.
        author: who the audit log names when a call does not say.
        url: SQLAlchemy address of the database; by default SQLite in ``directory``.
        served: states a tag may have to be read through ``resolve`` and ``export``. OPEN is among them because the
            calibrations of a bucket read their own staging tag; INVALID cannot be.
        clock: gives the time for the audit log, which nothing else depends on.
        on_step: told the name of each step of a change before it is taken, and ``committed``; what it raises ends it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        author: str = "b2cal",
        url: str | None = None,
        served: frozenset[TagState] = _SERVED,
        clock: Callable[[], datetime] = utc_now,
        on_step: Callable[[str], None] = lambda _step: None,
    ) -> None:
        if TagState.INVALID in served:
            raise ConfigurationError("a tag that is INVALID is never served; leave INVALID out of the served states")
        self._author, self._served, self._clock, self._on_step = author, served, clock, on_step
        self._store = PayloadStore(directory / "payloads", on_step)
        own_file = sa.URL.create("sqlite", database=str(directory.absolute() / "conditions.db"))
        self._database = Database(sa.make_url(url) if url else own_file, create=self._store.is_empty)

    @property
    def capabilities(self) -> Capabilities:
        """Everything in one transaction; revisions are given here; nobody is kept out."""
        return Capabilities(atomic_batch=True, per_tag_rights=False, server_revisions=True)

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
        with self._database.write() as connection:
            records.insert_tag(connection, tag)
            detail = {"description": description, "type": type}
            records.log(connection, self._signature(), action="create_tag", tag=name, detail=detail)
            self._on_step("commit")
        return tag

    def set_state(self, name: str, *, expected: TagState, new: TagState) -> GlobalTag:
        """Change the state of a tag that is in the expected one, where the rules of states allow it."""
        with self._database.write() as connection:
            tag_id, tag = records.require_tag(connection, name)
            records.require_state(tag, expected, f"before it goes to {new}")
            if new not in TRANSITIONS[expected]:
                allowed = ", ".join(sorted(TRANSITIONS[expected])) or "no other state"
                raise ConflictError(f"tag {name} is {expected} and may go to {allowed}, not to {new}")
            connection.execute(sa.update(schema.tags).where(schema.tags.c.id == tag_id).values(state=new.value))
            detail = {"from": expected.value, "to": new.value}
            records.log(connection, self._signature(), action="set_state", tag=name, detail=detail)
            self._on_step("commit")
        return GlobalTag(name, new, description=tag.description, type=tag.type)

    def clone_tag(self, source: str, name: str, *, state: TagState = TagState.OPEN, description: str = "") -> GlobalTag:
        """Make a tag with the content ``source`` has now, in any state; payload files are shared."""
        with self._database.write() as connection:
            source_id, original = records.require_tag(connection, source)
            clone = GlobalTag(check_tag_name(name), state, description=description, type=original.type)
            links = tag_content.content(connection, source_id)
            tag_id = records.insert_tag(connection, clone)
            tag_content.insert(connection, tag_id, links)
            tag_content.book_names(connection, tag_id, links, {link.name for link in links})
            detail = {"source": source, "state": state.value, "fingerprint": fingerprint_of(state, links)}
            records.log(connection, self._signature(), action="clone_tag", tag=name, detail=detail)
            self._on_step("commit")
        return clone

    def list_iovs(self, tag: str, within: IoV | None = None) -> tuple[TagIov, ...]:
        """The links of a tag that share a run with ``within``, by name, start and revision."""
        with self._database.read() as connection:
            return tag_content.content(connection, records.require_tag(connection, tag)[0], within)

    def fingerprint(self, tag: str) -> str:
        """A hash of state and content, as ``b2cal_core.plans`` makes it."""
        with self._database.read() as connection:
            tag_id, found = records.require_tag(connection, tag)
            return fingerprint_of(found.state, tag_content.content(connection, tag_id))

    def audit(self, tag: str | None = None) -> tuple[AuditEntry, ...]:
        """The append-only log, or its lines about one tag, oldest first."""
        with self._database.read() as connection:
            return records.logged(connection, tag)

    # Payloads

    def put_payload(self, name: str, file: Path) -> Payload:
        """Store the content, file first; what exists under the name is given back."""
        records.check_payload_name(name)
        content = self._store.add(file)
        with self._database.write() as connection:
            payload = records.register(connection, name, content, signature=self._signature())
            self._on_step("commit")
        self._on_step("committed")
        return payload

    def find_payloads(self, wanted: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], Payload]:
        """(name, md5) to payload, for those that exist."""
        with self._database.read() as connection:
            return records.find_contents(connection, wanted)

    def payload(self, name: str, revision: int) -> Payload | None:
        """The payload of that revision, or ``None``."""
        with self._database.read() as connection:
            return records.find_payload(connection, name, revision)

    def payload_file(self, payload: Payload) -> Path:
        """The stored file itself, its SHA-256 just checked; it must not be written to."""
        return self._store.verified(payload.sha256, f"payload {payload.name} revision {payload.revision}")

    # Contents of OPEN tags

    def replace_iovs(self, tag: str, names: Iterable[str], payloads: Sequence[LocalPayload]) -> tuple[TagIov, ...]:
        """Upload the files, then swap the links of ``names`` in one transaction; returns the links of these names."""
        replaced = frozenset(map(records.check_payload_name, names))
        _refuse_strangers(tag, replaced, payloads)
        tag_content.refuse_overlaps(tag, (TagIov(local.name, 0, local.iov) for local in payloads))
        with self._database.read() as connection:  # before files are copied for nothing
            _require_open(connection, tag)
        contents = {file: self._store.add(file) for file in dict.fromkeys(local.file for local in payloads)}
        with self._database.write() as connection:
            tag_id = _require_open(connection, tag)
            wanted = self._register(connection, payloads, contents)
            present = tuple(link for link in tag_content.content(connection, tag_id) if link.name in replaced)
            written = self._change(connection, (tag_id, tag, "replace_iovs"), replaced, present=present, wanted=wanted)
            self._on_step("commit")
        self._on_step("committed")
        return written

    def add_iovs(self, tag: str, iovs: Sequence[TagIov], *, allow_overlaps: bool = False) -> tuple[TagIov, ...]:
        """See the port; ``allow_overlaps`` is for tags taken over, as they are, from a database that has overlaps."""
        with self._database.write() as connection:
            tag_id = _require_open(connection, tag)
            tag_content.require_payloads(connection, iovs)
            present = tag_content.content(connection, tag_id)
            wanted = {tag_content.bare(link) for link in (*present, *iovs)}
            if not allow_overlaps:
                tag_content.refuse_overlaps(tag, wanted)
            names = frozenset(link.name for link in iovs)
            self._change(connection, (tag_id, tag, "add_iovs"), names, present=present, wanted=wanted)
            after = tag_content.content(connection, tag_id)
            self._on_step("commit")
        return after

    # Reading through a chain of tags

    def resolve(self, chain: Sequence[str], run: ExpRun, names: Iterable[str] | None = None) -> Mapping[str, Resolved]:
        """One query per tag; the LAST tag wins, and within a tag the highest revision."""
        found: dict[str, Resolved] = {}
        with self._database.read() as connection:
            for tag in chain:  # the last one written wins
                tag_id = self._require_served(connection, tag)
                valid = tag_content.valid(connection, tag_id, run)
                found |= {name: Resolved(payload, iov, tag=tag) for name, (payload, iov) in valid.items()}
        if names is None:
            return found
        wanted = tuple(dict.fromkeys(names))
        if missing := [name for name in wanted if name not in found]:
            raise DataError(
                f"no payload {', '.join(missing)} is valid in {run} in any of the tags {', '.join(chain) or '(none)'};"
                " calibrate it, or add a tag that has it to the chain"
            )
        return {name: found[name] for name in wanted}

    def export(self, chain: Sequence[str], directory: Path, *, within: IoV, names: Iterable[str] | None = None) -> Path:
        """Copy what the chain has in ``within``, clipped to it, into a testing payload storage."""
        wanted = None if names is None else frozenset(names)
        with self._database.read() as connection:
            by_priority = [
                tag_content.content(connection, self._require_served(connection, tag), within)
                for tag in reversed(chain)
            ]
            merged = [iov for iov in merge_tags(by_priority, within) if wanted is None or iov.name in wanted]
            payloads = {(link.name, link.revision): link for link in merged}
            found = {key: records.find_payload(connection, *key) for key in payloads}
        lines = [
            (payload, self.payload_file(payload), link.iov)
            for link in merged
            if (payload := found[link.name, link.revision]) is not None
        ]
        return write_storage(directory, lines)

    # Publishing

    def plan(self, target: str, staging: str, first_run: ExpRun, mode: UpdateMode) -> tuple[UpdatePlan, str]:
        """Both tags as one state of the database has them; ``UpdateRefused`` when the update breaks a rule."""
        with self._database.read() as connection:
            target_id, running = records.require_tag(connection, target)
            staging_id, staged = records.require_tag(connection, staging)
            records.require_state(running, TagState.RUNNING, "to be the target of an update")
            records.require_state(staged, TagState.VALIDATED, "to be published")
            before = tag_content.content(connection, target_id)
            update = plan_running_update(before, tag_content.content(connection, staging_id), first_run, mode)
        return update, fingerprint_of(running.state, before)

    def apply(self, plan: UpdatePlan, *, target: str, fingerprint: str, author: str, reason: str) -> tuple[TagIov, ...]:
        """Apply the plan in one transaction, read back before it is committed."""
        with self._database.write() as connection:
            update = running_updates.RunningUpdate(plan, target=target, fingerprint=fingerprint)
            after = update.apply(connection, Signature(author, self._clock()), reason=reason, on_step=self._on_step)
            self._on_step("commit")
        self._on_step("committed")
        return after

    # Inside

    def _signature(self) -> Signature:
        return Signature(self._author, self._clock())

    def _require_served(self, connection: sa.Connection, name: str) -> int:
        tag_id, tag = records.require_tag(connection, name)
        if tag.state not in self._served:
            raise ConflictError(f"tag {name} is {tag.state} and is not served; leave it out of the chain of tags")
        return tag_id

    def _register(
        self, connection: sa.Connection, payloads: Iterable[LocalPayload], contents: Mapping[Path, Content]
    ) -> set[TagIov]:
        signature = self._signature()
        wanted = set()
        for local in payloads:
            payload = records.register(connection, local.name, contents[local.file], signature=signature)
            wanted.add(TagIov(local.name, payload.revision, local.iov))
        return wanted

    def _change(
        self,
        connection: sa.Connection,
        where: tuple[int, str, str],
        names: frozenset[str],
        *,
        present: Sequence[TagIov],
        wanted: set[TagIov],
    ) -> tuple[TagIov, ...]:
        """Bring the links from ``present`` to ``wanted``, with as few changes as possible, and read them back."""
        tag_id, tag, action = where
        dropped = [link for link in present if tag_content.bare(link) not in wanted]
        added = sorted(wanted - {tag_content.bare(link) for link in present}, key=lambda link: (link.name, link.iov))
        if not dropped and not added:
            return tuple(present)
        tag_content.drop(connection, (link.id for link in dropped if link.id is not None))
        self._on_step("links dropped")
        tag_content.insert(connection, tag_id, added)
        after = tag_content.content(connection, tag_id)
        tag_content.book_names(connection, tag_id, after, names)
        written = tuple(link for link in after if link.name in names)
        tag_content.require_equal(tag, written, {link for link in wanted if link.name in names})
        detail = {"dropped": tag_content.rows(dropped), "added": tag_content.rows(added)}
        records.log(connection, self._signature(), action=action, tag=tag, detail=detail)
        return written


def _require_open(connection: sa.Connection, name: str) -> int:
    tag_id, tag = records.require_tag(connection, name)
    records.require_state(tag, TagState.OPEN, "for its content to be changed")
    return tag_id


def _refuse_strangers(tag: str, names: frozenset[str], payloads: Iterable[LocalPayload]) -> None:
    if strangers := sorted({local.name for local in payloads} - names):
        raise ConfigurationError(
            f"payload {', '.join(strangers)} is not among the names to be replaced in tag {tag}"
            f" ({', '.join(sorted(names)) or 'none'}); name it too. Nothing was changed"
        )
