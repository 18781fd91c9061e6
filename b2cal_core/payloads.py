"""Payloads and global tags: what the conditions database holds, and which changes a tag's state allows."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from b2cal_core.errors import ConfigurationError
from b2cal_core.ranges import IoV


class TagState(StrEnum):
    """The state of a global tag. Source: Belle II conditions database."""

    OPEN = "OPEN"
    TESTING = "TESTING"
    VALIDATED = "VALIDATED"
    PUBLISHED = "PUBLISHED"
    RUNNING = "RUNNING"
    INVALID = "INVALID"

    @property
    def is_usable(self) -> bool:
        """Whether data may be processed with a tag in this state."""
        return self not in {TagState.OPEN, TagState.INVALID}


TRANSITIONS: Mapping[TagState, frozenset[TagState]] = MappingProxyType(
    {
        TagState.OPEN: frozenset({TagState.TESTING, TagState.RUNNING}),
        TagState.TESTING: frozenset({TagState.VALIDATED, TagState.OPEN}),
        TagState.VALIDATED: frozenset({TagState.PUBLISHED, TagState.OPEN}),
        TagState.PUBLISHED: frozenset({TagState.INVALID}),
        TagState.RUNNING: frozenset(),
        TagState.INVALID: frozenset(),
    }
)

_TAG_NAME = re.compile(r"[A-Za-z0-9+\-_:]{1,255}")


def check_tag_name(name: str) -> str:
    """The name, when it is one a global tag may have; else ``ConfigurationError``."""
    if not _TAG_NAME.fullmatch(name):
        msg = f"a global tag is named with letters, digits and + - _ : only, 255 at most, got {name!r}"
        raise ConfigurationError(msg)
    return name


@dataclass(frozen=True, slots=True)
class GlobalTag:
    """A named set of payloads with IoVs."""

    name: str
    state: TagState
    description: str = ""
    type: str = "DEV"


@dataclass(frozen=True, slots=True)
class Payload:
    """One immutable file: its name, the revision the database gave it, and its checksums in lower-case hex.

    Inside one database name and MD5 identify it; ``sha256`` and ``size`` are ``None`` where the database knows neither.
    """

    name: str
    revision: int
    md5: str
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """The payload valid in a run, the IoV it has there and the tag it came from."""

    payload: Payload
    iov: IoV
    tag: str


@dataclass(frozen=True, slots=True)
class LocalPayload:
    """One line of a testing payload storage: a payload file with an IoV, not yet in a database."""

    name: str
    file: Path
    iov: IoV


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to be the only one who changes a tag.

    Attributes:
        number: grows with every lease ever given on the tag; a change under an older number is refused.
        expires: in UTC; afterwards another may take the tag over.
    """

    tag: str
    holder: str
    number: int
    expires: datetime


@dataclass(frozen=True, slots=True)
class Release:
    """Who publishes, who approved it, and why: what the audit log says of a publish."""

    author: str
    approver: str
    reason: str

    @property
    def missing(self) -> tuple[str, ...]:
        """Which of the three are blank."""
        return tuple(f.name for f in fields(self) if not getattr(self, f.name).strip())

    def require_complete(self) -> None:
        """Raise ``ConfigurationError`` when one of the three is blank."""
        if self.missing:
            raise ConfigurationError(
                f"a plan is carried out with an author, an approver and a reason; {', '.join(self.missing)} is missing."
                " Nothing was changed"
            )


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of a conditions database's append-only log.

    Attributes:
        id: grows from line to line; also the number by which a state of the database is asked for later.
        when: in UTC.
        action: ``create_tag``, ``clone_tag``, ``set_state``, ``replace_iovs``, ``add_iovs``, ``apply`` and the like.
        detail: what was changed, as JSON.
        plan_hash: for lines about a plan, the hash of it; else ``None``.
        hash: of this line and of the hash of the line before it, so that no line can be changed or lost unnoticed.
    """

    id: int
    when: datetime
    author: str
    action: str
    tag: str
    detail: str
    reason: str = ""
    approver: str = ""
    plan_hash: str | None = None
    hash: str = ""


def chained_hash(previous: str, entry: AuditEntry) -> str:
    """The hash of a line of the audit log; ``previous`` is that of the line before, blank for the first."""
    content = [previous, entry.id, entry.when.isoformat(timespec="microseconds"), entry.author, entry.action, entry.tag]
    content += [entry.detail, entry.reason, entry.approver, entry.plan_hash]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def broken_link(entries: Iterable[AuditEntry]) -> AuditEntry | None:
    """The first line of a whole audit log, in order, that is not what was written; ``None`` when all are.

    A line missing in between shows at the line after it; lines missing at the end show only to those who noted the
    last hash elsewhere.
    """
    previous = ""
    for entry in entries:
        if entry.hash != chained_hash(previous, entry):
            return entry
        previous = entry.hash
    return None
