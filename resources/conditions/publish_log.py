"""What the audit log tells of plans: who approved, applied, verified or finished them, and what was taken back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from b2cal_core.payloads import AuditEntry
from b2cal_core.plans import PlanDocument
from b2cal_core.ports import ConditionsDB

APPLY, APPROVE, VERIFY, FINALIZE, PROCESSED = "apply", "approve", "verify", "finalize", "processed"
_NOTES = frozenset({APPROVE, VERIFY, FINALIZE, PROCESSED, "provenance"})


@dataclass(slots=True)
class PlanRecord:
    """The life of one plan.

    Attributes:
        lines: of the audit log about it, oldest first.
        undone_by: hash of the plan that took it back; ``None`` while it holds.
    """

    plan_hash: str
    lines: list[AuditEntry] = field(default_factory=list)
    undone_by: str | None = None

    def line(self, action: str) -> AuditEntry | None:
        """The last line of this action, if there is one."""
        return next((entry for entry in reversed(self.lines) if entry.action == action), None)

    @property
    def applied(self) -> AuditEntry | None:
        """The line that says the plan was carried out, if it was."""
        return self.line(APPLY)

    @property
    def document(self) -> PlanDocument | None:
        """The plan itself, once it was applied."""
        entry = self.applied
        text = _detail(entry).get("document") if entry else None
        return PlanDocument.from_json(text) if isinstance(text, str) else None

    @property
    def state(self) -> str:
        """``noted``, ``approved``, ``applied``, ``final`` or ``taken back``."""
        if self.undone_by is not None:
            return "taken back"
        steps = ((FINALIZE, "final"), (APPLY, "applied"), (APPROVE, "approved"))
        return next((word for action, word in steps if self.line(action)), "noted")


@dataclass(slots=True)
class _TagLog:
    seen: int = 0
    last_change: int = 0
    plans: dict[str, PlanRecord] = field(default_factory=dict)


class PublishLog:
    """Follows the audit log of tags; each line is read once, so that asking again costs only what is new."""

    def __init__(self, conditions: ConditionsDB) -> None:
        self._conditions = conditions
        self._tags: dict[str, _TagLog] = {}

    def plans(self, tag: str) -> Mapping[str, PlanRecord]:
        """Hash to record, in the order in which the plans were first heard of."""
        return self._followed(tag).plans

    def changed_since(self, tag: str, entry: AuditEntry) -> bool:
        """Whether the log tells of a change of the tag's content or state after this line."""
        return self._followed(tag).last_change > entry.id

    def _followed(self, tag: str) -> _TagLog:
        log = self._tags.setdefault(tag, _TagLog())
        for entry in self._conditions.audit(tag, since=log.seen):
            log.seen = entry.id
            if entry.action not in _NOTES:
                log.last_change = entry.id
            if entry.plan_hash:
                log.plans.setdefault(entry.plan_hash, PlanRecord(entry.plan_hash)).lines.append(entry)
            if entry.plan_hash and entry.action == APPLY:
                _take_back(log.plans, entry)
        return log


def _take_back(plans: Mapping[str, PlanRecord], entry: AuditEntry) -> None:
    """Note with a plan that this line is about taking it back."""
    text = _detail(entry).get("document")
    undone = plans.get(json.loads(text)["undoes"] or "") if isinstance(text, str) else None
    if undone is not None:
        undone.undone_by = entry.plan_hash


def _detail(entry: AuditEntry) -> dict[str, object]:
    detail = json.loads(entry.detail or "{}")
    return detail if isinstance(detail, dict) else {}
