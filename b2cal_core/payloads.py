"""Payloads and global tags: what the conditions database holds, and which changes a tag's state allows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
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

_TAG_NAME = re.compile(r"[A-Za-z0-9+\-_:]+")


def check_tag_name(name: str) -> str:
    """The name, when it is one a global tag may have; else ``ConfigurationError``."""
    if not _TAG_NAME.fullmatch(name):
        msg = f"a global tag is named with letters, digits and + - _ : only, got {name!r}"
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
    """One immutable file: its name, the revision the database gave it, and its checksums in lower-case hex."""

    name: str
    revision: int
    md5: str
    sha256: str
    size: int


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
class AuditEntry:
    """One line of a conditions database's append-only log.

    Attributes:
        when: in UTC.
        action: ``create_tag``, ``clone_tag``, ``set_state``, ``replace_iovs``, ``add_iovs`` or ``apply``.
        detail: what was changed, as JSON.
        plan_hash: for ``apply``, the hash of what was applied; else ``None``.
    """

    id: int
    when: datetime
    author: str
    action: str
    tag: str
    detail: str
    reason: str = ""
    plan_hash: str | None = None
