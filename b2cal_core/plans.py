"""The plan of a change to a global tag as a document: what a person approves is, to the byte, what is applied.

The hash identifies a plan in the audit log; the fingerprint says from which content of the target it was made, so that
it cannot be applied to any other.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from b2cal_core.errors import ConfigurationError, ConflictError
from b2cal_core.payloads import TagState
from b2cal_core.publishing import Operation, TagIov, UpdateMode, UpdatePlan
from b2cal_core.ranges import ExpRun, IoV

_FORMAT = 2
_SUMS = 2**256
LATE_RUN = 2**31 - 2
"""Stands for the last run of an experiment, which nobody knows; databases hold no larger number."""


def fingerprint_of(state: TagState, iovs: Iterable[TagIov]) -> str:
    """A hash of a tag's state and content, whatever the order and the ids of the links: ``<64 hex digits>-<STATE>``.

    The digits are the sum of the hashes of the links, so that a change of a large tag is followed at the cost of the
    change. This tells accidents and other people's changes; it is no protection against somebody who forges links.
    """
    return _fingerprint(state, sum(map(_link_hash, iovs)))


def moved(fingerprint: str, *, added: Iterable[TagIov] = (), dropped: Iterable[TagIov] = ()) -> str:
    """The fingerprint of the tag once links were added to it and others dropped from it."""
    digits, _, state = fingerprint.partition("-")
    change = sum(map(_link_hash, added)) - sum(map(_link_hash, dropped))
    return _fingerprint(TagState(state), int(digits, 16) + change)


def after(fingerprint: str, before: Iterable[TagIov], now: Iterable[TagIov]) -> str:
    """The fingerprint of the tag once the links ``before``, all of some names and runs, have become those ``now``."""
    old, new = ({link.bare for link in links} for links in (before, now))
    return moved(fingerprint, added=new - old, dropped=old - new)


def in_state(fingerprint: str, state: TagState) -> str:
    """The fingerprint of the tag in another state."""
    return f"{fingerprint.partition('-')[0]}-{state}"


def _fingerprint(state: TagState, total: int) -> str:
    return f"{total % _SUMS:064x}-{state}"


def _link_hash(link: TagIov) -> int:
    row = f"{link.name}\n{link.revision}\n{link.iov}".encode()
    return int.from_bytes(hashlib.sha256(row).digest())


class PlanKind(StrEnum):
    """What a plan does to its target.

    ``running_update`` closes and adds in a RUNNING tag; ``edit`` changes an OPEN one; ``rollback`` takes back a running
    update that is not final yet.
    """

    running_update = "running_update"
    edit = "edit"
    rollback = "rollback"


@dataclass(frozen=True, slots=True)
class SafeRun:
    """The first run whose constants may still be changed, and why no earlier one."""

    run: ExpRun
    reason: str


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """A plan with what it was made from.

    Attributes:
        kind: what it does to the target.
        target: the tag that is changed.
        sources: the tags it was made from, each with its fingerprint then.
        fingerprint: of the target when the plan was made.
        predicted: fingerprint of the target once the plan is applied.
        purpose: in words, what the plan is for.
        first_run: for a running update, the first run whose constants change, inclusive.
        mode: for a running update, what it may do with payloads that end.
        safe_run: for a running update, the first run that could safely be changed when the plan was made.
        checksums: (name, revision, MD5) of every payload that is added.
        undoes: for a rollback, the hash of the plan that is taken back.
    """

    kind: PlanKind
    target: str
    sources: tuple[tuple[str, str], ...]
    fingerprint: str
    predicted: str
    plan: UpdatePlan
    purpose: str = ""
    first_run: ExpRun | None = None
    mode: UpdateMode | None = None
    safe_run: SafeRun | None = None
    checksums: tuple[tuple[str, int, str], ...] = ()
    undoes: str | None = None

    @property
    def hash(self) -> str:
        """What the audit log calls the plan by; of everything in it; 64 lower-case hex digits."""
        return hashlib.sha256(json.dumps(self._content(), separators=(",", ":")).encode()).hexdigest()

    @property
    def staging(self) -> str:
        """The tag whose content is brought in; blank when there is none."""
        return self.sources[0][0] if self.sources else ""

    @property
    def created(self) -> tuple[TagIov, ...]:
        """The links that are added."""
        return tuple(operation.link for operation in self.plan.operations if operation.kind == "create")

    @property
    def names(self) -> frozenset[str]:
        """The names of payloads that are touched."""
        return frozenset(operation.name for operation in self.plan.operations)

    @property
    def touched(self) -> IoV | None:
        """The runs from the first that changes on; ``None`` for a plan that does nothing.

        What a closed IoV keeps does not change; its end may be anywhere after, so the range is open.
        """
        starts = [op.iov.stop if op.kind == "close" else op.iov.start for op in self.plan.operations]
        return IoV(*min(starts), -1, -1) if starts else None

    @property
    def affected(self) -> IoV | None:
        """The touched runs and the last one before them, in which links that end just there are found too."""
        touched = self.touched
        if touched is None or touched.start == (0, 0):
            return touched
        exp, run = touched.start
        return IoV(exp, run - 1, -1, -1) if run > 0 else IoV(exp - 1, LATE_RUN, -1, -1)

    def require_made_for(self, fingerprint: str) -> None:
        """Raise ``ConflictError`` unless this is the fingerprint of the content that the plan was made from."""
        if fingerprint != self.fingerprint:
            raise ConflictError(
                f"tag {self.target} was changed after the plan was made (fingerprint {fingerprint[:12]}, the plan is"
                f" for {self.fingerprint[:12]}); nothing was changed. Make a new plan and have it approved"
            )

    def to_json(self) -> str:
        """The document as text, the same for equal plans."""
        return json.dumps({"hash": self.hash} | self._content(), indent=1) + "\n"

    def _content(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "kind": self.kind.value,
            "purpose": self.purpose,
            "target": self.target,
            "sources": [list(source) for source in self.sources],
            "first_run": list(self.first_run) if self.first_run else None,
            "mode": self.mode.value if self.mode else None,
            "safe_run": [*self.safe_run.run, self.safe_run.reason] if self.safe_run else None,
            "fingerprint": self.fingerprint,
            "predicted": self.predicted,
            "undoes": self.undoes,
            "checksums": [list(row) for row in self.checksums],
            "operations": [_operation_row(operation) for operation in self.plan.operations],
        }

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a document.

        Raises:
            ConfigurationError: the text is no plan, or was changed after the plan was made.
        """
        try:
            document = json.loads(text)
            made = cls._of(document)
            claimed = document["hash"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"this is no plan file ({error!r}); make one with `b2cal cdb plan`") from error
        if claimed != made.hash:
            raise ConfigurationError(
                f"the plan for {made.target} was changed after it was made: its content has hash {made.hash[:12]}, the"
                f" file says {claimed!s:.12}; make it anew"
            )
        return made

    @classmethod
    def _of(cls, document: dict[str, Any]) -> Self:
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']!r} is not {_FORMAT}")
        safe = document["safe_run"]
        return cls(
            kind=PlanKind(document["kind"]),
            target=document["target"],
            sources=tuple((tag, fingerprint) for tag, fingerprint in document["sources"]),
            fingerprint=document["fingerprint"],
            predicted=document["predicted"],
            plan=UpdatePlan(tuple(map(_operation_of, document["operations"]))),
            purpose=document["purpose"],
            first_run=ExpRun(*document["first_run"]) if document["first_run"] else None,
            mode=UpdateMode(document["mode"]) if document["mode"] else None,
            safe_run=SafeRun(ExpRun(*safe[:2]), safe[2]) if safe else None,
            checksums=tuple((name, revision, md5) for name, revision, md5 in document["checksums"]),
            undoes=document["undoes"],
        )


def _operation_row(operation: Operation) -> list[Any]:
    return [operation.kind, operation.name, operation.revision, list(operation.iov), operation.id]


def _operation_of(row: list[Any]) -> Operation:
    kind, name, revision, iov, link = row
    if kind not in {"close", "create", "drop"}:
        raise ValueError(f"{kind!r} is no operation")
    return Operation(kind, name, revision, iov=IoV(*iov), id=link)
