"""Snapshots: what a chain of tags held at one moment, so that a job run again sees the same constants.

Databases without a memory of their own are made reproducible by it; a snapshot is stored with the job.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.payloads import Payload, Resolved
from b2cal_core.ranges import ExpRun, IoV

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class SnapshotLink:
    """A payload of a tag, known by its MD5 as well, valid in an IoV."""

    name: str
    revision: int
    md5: str
    iov: IoV


@dataclass(frozen=True, slots=True)
class SnapshotTag:
    """A tag with its fingerprint and its links when the snapshot was taken."""

    name: str
    fingerprint: str
    links: tuple[SnapshotLink, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content of a chain of tags; the LAST tag has the highest priority.

    Attributes:
        within: the runs it was taken for, ends included; of others it knows nothing.
    """

    tags: tuple[SnapshotTag, ...]
    within: IoV

    @property
    def chain(self) -> tuple[str, ...]:
        """The names of the tags, the last one having the highest priority."""
        return tuple(tag.name for tag in self.tags)

    @property
    def hash(self) -> str:
        """The same for equal snapshots; 64 lower-case hex digits."""
        return hashlib.sha256(json.dumps(self._content(), separators=(",", ":")).encode()).hexdigest()

    def to_json(self) -> str:
        """The snapshot as text, the same for equal snapshots."""
        return json.dumps({"hash": self.hash} | self._content()) + "\n"

    def _content(self) -> dict[str, Any]:
        tags = [[tag.name, tag.fingerprint, list(map(_row, tag.links))] for tag in self.tags]
        return {"format": _FORMAT, "within": list(self.within), "tags": tags}

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a snapshot.

        Raises:
            ConfigurationError: the text is no snapshot, or was changed after it was taken.
        """
        try:
            document = json.loads(text)
            made, claimed = cls._of(document), document["hash"]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"this is no snapshot of tags ({error!r}); take one anew") from error
        if claimed != made.hash:
            raise ConfigurationError(
                f"the snapshot of {', '.join(made.chain)} was changed after it was taken: its content has hash"
                f" {made.hash[:12]}, the file says {claimed!s:.12}; restore it or take one anew"
            )
        return made

    @classmethod
    def _of(cls, document: dict[str, Any]) -> Self:
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']!r} is not {_FORMAT}")
        tags = (SnapshotTag(name, mark, tuple(map(_link, rows))) for name, mark, rows in document["tags"])
        return cls(tuple(tags), IoV(*document["within"]))


def resolve_in(snapshot: Snapshot, run: ExpRun, names: Iterable[str] | None = None) -> Mapping[str, Resolved]:
    """The payload of every name valid in the run, as the database answered when the snapshot was taken.

    Raises:
        DataError: the run is not among those of the snapshot, or one of ``names`` is not found.
    """
    if not snapshot.within.contains(run):
        raise DataError(f"the snapshot was taken for runs {snapshot.within} and does not know {run}; take another one")
    found: dict[str, Resolved] = {}
    for tag in snapshot.tags:  # the last one written wins
        valid = sorted((link for link in tag.links if link.iov.contains(run)), key=lambda link: link.revision)
        found |= {
            link.name: Resolved(Payload(link.name, link.revision, link.md5), link.iov, tag=tag.name) for link in valid
        }
    if names is None:
        return found
    wanted = tuple(dict.fromkeys(names))
    if missing := [name for name in wanted if name not in found]:
        raise DataError(f"no payload {', '.join(missing)} is valid in {run} in the snapshot of {snapshot.chain}")
    return {name: found[name] for name in wanted}


def _row(link: SnapshotLink) -> list[Any]:
    return [link.name, link.revision, link.md5, list(link.iov)]


def _link(row: list[Any]) -> SnapshotLink:
    name, revision, md5, iov = row
    return SnapshotLink(name, revision, md5, IoV(*iov))
