"""The conditions database behind a server that speaks the Belle II REST interface, version 2.

The server keeps tags and payloads. The audit log, provenance and leases, which it does not know, are kept in our own
database. What it cannot do, being read as it was and taking an update back, is refused.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from b2cal_core.errors import ConfigurationError, ConflictError, DataError
from b2cal_core.payloads import (
    GlobalTag,
    Lease,
    LocalPayload,
    Payload,
    Release,
    Resolved,
    TagState,
    check_tag_name,
)
from b2cal_core.plans import PlanDocument, PlanKind, fingerprint_of
from b2cal_core.ports import Capabilities
from b2cal_core.publishing import TagIov, merge_tags
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.rights import Rights
from resources.conditions.book import Book
from resources.conditions.booked import SERVED, BookedConditionsDB, check_served
from resources.conditions.embedded import only_wanted, refuse_strangers
from resources.conditions.export import write_storage
from resources.conditions.payload_store import content_of
from resources.conditions.records import check_payload_name
from resources.conditions.rest import open_tags, running_tags, tag_life, uploads
from resources.conditions.rest.calls import Calls
from resources.conditions.rest.connection import Connection
from resources.conditions.rest.journal import Journal
from resources.conditions.rest.patience import Patience
from resources.conditions.rest.payload_cache import PayloadCache
from resources.conditions.rest.shapes import LinkRecord, PayloadRecord, TagRecord
from resources.conditions.rest.tokens import TokenFile
from resources.conditions.rest.transport import Transport
from resources.conditions.tag_content import refuse_overlaps


class RestConditionsDB(BookedConditionsDB):
    """A Belle II conditions server, or one of ours.

    Args:
        server: its address; a host other than this computer must be among ``allowed_hosts``, and is asked over https.
        book: where the audit log, provenance and leases are kept.
        cache: directory for downloaded payload files and lock files; made when it is missing.
        token: what lets the user write; ``None`` to read only.
        user: named in the audit log and, where the server asks who made a tag, there.
        served: states a tag may have to be read through ``resolve`` and ``export``; INVALID cannot be among them.
        cache_delay: seconds that readers behind a cache may see what was before a change.
    """

    def __init__(  # noqa: PLR0913 (what a deployment configures)
        self,
        server: str,
        *,
        book: Book,
        cache: Path,
        token: TokenFile | None,
        user: str,
        allowed_hosts: AbstractSet[str] = frozenset(),
        proxies: Mapping[str, str] | None = None,
        certificates: Path | None = None,
        timeout: tuple[float, float] = (10.0, 120.0),
        patience: Patience | None = None,
        served: frozenset[TagState] = SERVED,
        cache_delay: float = 0.0,
    ) -> None:
        self._served = check_served(served)
        patience = patience or Patience()
        transport = Transport(
            server,
            token=token,
            allowed_hosts=allowed_hosts,
            proxies=proxies,
            timeout=timeout,
            patience=patience,
            certificates=certificates,
        )
        self._calls, self._book, self._cache_delay = Calls(transport), book, cache_delay
        self._files = PayloadCache(cache, transport)
        journal = Journal(book, user=user)
        self._connection = Connection(self._calls, journal, patience, token=token, user=user, locks=cache / "locks")

    @property
    def capabilities(self) -> Capabilities:
        """A running update is one request; all else is several, and what was is not kept."""
        return Capabilities(
            atomic_update=True,
            atomic_edit=False,
            per_tag_rights=True,
            server_revisions=True,
            immutable_past=False,
            time_machine=False,
            rollback=False,
            cache_delay_seconds=self._cache_delay,
        )

    def close(self) -> None:
        """Give up the connections that are kept open; the next call opens new ones."""
        self._calls.transport.close()

    # Tags

    def get_tag(self, name: str) -> GlobalTag | None:
        """The tag, or ``None`` when the server says that there is none."""
        found = self._calls.tag(name) if name else None
        return None if found is None else found.tag

    def list_tags(self, pattern: str = "*") -> tuple[GlobalTag, ...]:
        """Tags whose name matches the shell pattern, by name."""
        found = (record for record in self._calls.tags() if fnmatchcase(record.name, pattern))
        return tuple(sorted((record.tag for record in found), key=lambda tag: tag.name))

    def create_tag(self, name: str, description: str = "", *, type: str = "DEV") -> GlobalTag:  # noqa: A002 (the database's word)
        """Make an OPEN tag."""
        tag = GlobalTag(check_tag_name(name), TagState.OPEN, description=description, type=type)
        with self._connection.alone(name):
            return tag_life.create(self._connection, tag)

    def set_state(self, name: str, *, expected: TagState, new: TagState, lease: Lease | None = None) -> GlobalTag:
        """Change the state, where the rules of states allow it, and read it back."""
        with self._changing(name, lease):
            return tag_life.set_state(self._connection, name, expected=expected, new=new)

    def clone_tag(self, source: str, name: str, *, state: TagState = TagState.OPEN, description: str = "") -> GlobalTag:
        """Copy the tag on the server, rename the copy and bring it to its state; asked again, it is completed."""
        check_tag_name(name)
        # Two copies of one tag have the same name until they are renamed.
        with self._connection.alone(name), self._connection.alone(f"copies of {source}"):
            return tag_life.clone(self._connection, source, name, state=state, description=description)

    def list_iovs(self, tag: str, within: IoV | None = None, *, as_of: int | None = None) -> tuple[TagIov, ...]:
        """The links of a tag that share a run with ``within``; the server always gives all of them."""
        _refuse_history(as_of)
        return tuple(one.link for one in self._links(tag) if within is None or one.link.iov.overlaps(within))

    def fingerprint(self, tag: str) -> str:
        """A hash of state and content, made of a listing."""
        state = self._connection.require_tag(tag).tag.state
        return fingerprint_of(state, (one.link for one in self._connection.links(tag)))

    # Payloads

    def put_payloads(self, files: Sequence[tuple[str, Path]]) -> tuple[Payload, ...]:
        """Upload what the server does not have; when it cannot say what it has, nothing is uploaded."""
        keys = uploads.read_keys(files)
        self._connection.rights(len(keys))
        known = uploads.existing(self._connection, keys.values())
        stored = uploads.store(self._connection, keys, known)
        return tuple(stored[key].payload for key in uploads.ordered(files, keys))

    def find_payloads(self, wanted: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], Payload]:
        """(name, md5) to payload, for those that exist; of equal ones the first that was made."""
        return {key: record.payload for key, record in uploads.existing(self._connection, wanted).items()}

    def payloads_of(self, wanted: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], Payload]:
        """(name, revision) to payload, for those that exist; one request for each name."""
        keys = frozenset(wanted)
        names = sorted({name for name, _ in keys})
        payloads = [record.payload for name in names for record in self._calls.payloads_named(name)]
        return {key: payload for payload in payloads if (key := (payload.name, payload.revision)) in keys}

    def payload_file(self, payload: Payload) -> Path:
        """A file in the cache, its MD5 just checked; fetched when it is not there or damaged."""
        return self._files.held(payload) or self._files.fetch(self._record(payload))

    # Contents of OPEN tags

    def replace_iovs(self, tag: str, names: Iterable[str], payloads: Sequence[LocalPayload]) -> tuple[TagIov, ...]:
        """Upload the files, then remove and make links one by one; asked again, it is completed."""
        replaced = frozenset(map(check_payload_name, names))
        refuse_strangers(tag, replaced, payloads)
        refuse_overlaps(tag, (TagIov(local.name, 0, local.iov) for local in payloads))
        with self._changing(tag):
            return open_tags.replace_links(self._connection, tag, replaced, payloads)

    def add_iovs(self, tag: str, iovs: Sequence[TagIov]) -> tuple[TagIov, ...]:
        """Make links one by one; asked again, it is completed."""
        with self._changing(tag):
            return open_tags.add(self._connection, tag, iovs)

    # Reading through a chain of tags

    def resolve(
        self, chain: Sequence[str], run: ExpRun, names: Iterable[str] | None = None, *, as_of: int | None = None
    ) -> Mapping[str, Resolved]:
        """Two requests per tag, for state and payloads; the LAST tag wins, and in a tag the highest revision."""
        _refuse_history(as_of)
        found: dict[str, Resolved] = {}
        for tag in chain:  # the last one written wins
            self._require_served(tag)
            ranked = sorted(self._calls.valid(tag, run), key=lambda one: one.link.revision)
            found |= {one.link.name: Resolved(one.payload.payload, one.link.iov, tag=tag) for one in ranked}
        return only_wanted(found, names, run=run, chain=chain)

    def export(self, chain: Sequence[str], directory: Path, *, within: IoV, names: Iterable[str] | None = None) -> Path:
        """Download what the chain has in ``within``, clipped to it, into a testing payload storage."""
        wanted = None if names is None else frozenset(names)
        for tag in chain:
            self._require_served(tag)
        tags = [self._connection.links(tag) for tag in reversed(chain)]
        chosen = [[one for one in links if wanted is None or one.link.name in wanted] for links in tags]
        records = {(one.link.name, one.link.revision): one.payload for links in chosen for one in links}
        merged = merge_tags([[one.link for one in links] for links in chosen], within)
        files = {key: self._file(records[key]) for key in {(link.name, link.revision) for link in merged}}
        return write_storage(directory, [(*files[link.name, link.revision], link.iov) for link in merged])

    # Publishing

    def apply(self, document: PlanDocument, release: Release, *, lease: Lease | None = None) -> tuple[TagIov, ...]:
        """Carry the plan out: a running update in one request, an edit by single ones."""
        _check_plan(document, release)
        tag = document.target
        self._require_rights(document)
        with self._changing(tag, lease):
            if not self._book.is_applied(tag, document.hash):
                if document.kind is PlanKind.edit:
                    open_tags.edit(self._connection, document, release)
                else:
                    free = lambda: self._book.require_free(tag, lease)  # noqa: E731 (asked again right before the change)
                    running_tags.update(self._connection, document, release, require_free=free)
            return self._made_by(document)

    # Inside

    def _rights_now(self) -> Rights:
        return self._connection.rights()

    @contextmanager
    def _changing(self, tag: str, lease: Lease | None = None) -> Iterator[None]:
        with self._connection.alone(tag):
            self._book.require_free(tag, lease)
            yield

    def _links(self, tag: str) -> tuple[LinkRecord, ...]:
        self._connection.require_tag(tag)  # some servers list a tag that is not there as an empty one
        return self._connection.links(tag)

    def _require_served(self, name: str) -> TagRecord:
        record = self._connection.require_tag(name)
        if record.tag.state not in self._served:
            raise ConflictError(f"tag {name} is {record.state} and is not served; leave it out of the chain of tags")
        return record

    def _require_rights(self, document: PlanDocument) -> None:
        rights = self._connection.rights(len(document.plan.operations))
        if document.kind is PlanKind.edit:
            rights.require_fill(document.target, "fill")
        else:
            rights.require_administer(document.target, "publish into")

    def _made_by(self, document: PlanDocument) -> tuple[TagIov, ...]:
        """The links that a plan closed or created, as they are now."""
        made = {(op.name, op.revision, op.iov.start) for op in document.plan.operations if op.kind != "drop"}
        links = self._connection.links(document.target)
        return tuple(one.link for one in links if (one.link.name, one.link.revision, one.link.iov.start) in made)

    def _record(self, payload: Payload) -> PayloadRecord:
        records = self._calls.check_payloads([(payload.name, payload.md5)])
        found = [record for record in records if record.payload.revision == payload.revision]
        if not found:
            raise DataError(
                f"the conditions database has no payload {payload.name} revision {payload.revision} with MD5"
                f" {payload.md5}"
            )
        return found[0]

    def _file(self, record: PayloadRecord) -> tuple[Payload, Path]:
        """A payload with its file; the hashes the server does not know are those of the file."""
        file = self._files.held(record.payload) or self._files.fetch(record)
        content = content_of(file)
        return replace(record.payload, sha256=content.sha256, size=content.size), file


def _check_plan(document: PlanDocument, release: Release) -> None:
    release.require_complete()
    if document.kind is PlanKind.rollback:
        raise ConfigurationError(
            f"a Belle II server cannot take back what was published into {document.target}; make a compensating update"
        )


def _refuse_history(as_of: int | None) -> None:
    if as_of is not None:
        raise ConfigurationError(
            "a Belle II server cannot be read as it was earlier; read a snapshot of the tag that was made then"
        )
