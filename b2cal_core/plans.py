"""The plan of a publish as a document: what a person approves is, to the byte, what is applied.

The hash identifies a plan in the audit log; the fingerprint says from which content of the target it was made, so that
it cannot be applied to any other.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import TagState
from b2cal_core.publishing import Operation, TagIov, UpdateMode, UpdatePlan
from b2cal_core.ranges import ExpRun, IoV

_FORMAT = 1


def fingerprint_of(state: TagState, iovs: Iterable[TagIov]) -> str:
    """A hash of a tag's state and content, whatever the order and the ids of the links; 64 lower-case hex digits."""
    content = sorted((link.name, link.revision, *link.iov) for link in iovs)
    return _hash([state.value, content])


def plan_hash(plan: UpdatePlan, *, target: str, fingerprint: str) -> str:
    """A hash of everything that applying the plan depends on; 64 lower-case hex digits."""
    return _hash([target, fingerprint, [_operation_row(operation) for operation in plan.operations]])


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """A plan with what it was made from.

    Attributes:
        fingerprint: of the target when the plan was made.
        predicted: fingerprint of the target once the plan is applied.
    """

    target: str
    staging: str
    first_run: ExpRun
    mode: UpdateMode
    fingerprint: str
    predicted: str
    plan: UpdatePlan

    @property
    def hash(self) -> str:
        """What the audit log calls the plan by."""
        return plan_hash(self.plan, target=self.target, fingerprint=self.fingerprint)

    def to_json(self) -> str:
        """The document as text, the same for equal plans."""
        document = {
            "format": _FORMAT,
            "hash": self.hash,
            "target": self.target,
            "staging": self.staging,
            "first_run": list(self.first_run),
            "mode": self.mode.value,
            "fingerprint": self.fingerprint,
            "predicted": self.predicted,
            "operations": [_operation_row(operation) for operation in self.plan.operations],
        }
        return json.dumps(document, indent=1) + "\n"

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
        except (ValueError, KeyError, TypeError) as error:
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
        return cls(
            target=document["target"],
            staging=document["staging"],
            first_run=ExpRun(*document["first_run"]),
            mode=UpdateMode(document["mode"]),
            fingerprint=document["fingerprint"],
            predicted=document["predicted"],
            plan=UpdatePlan(
                tuple(
                    Operation(kind=kind, name=name, revision=revision, iov=IoV(*iov), id=link)
                    for kind, name, revision, iov, link in document["operations"]
                )
            ),
        )


def _operation_row(operation: Operation) -> list[Any]:
    return [operation.kind, operation.name, operation.revision, list(operation.iov), operation.id]


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
