"""Applying a plan to a RUNNING tag: open IoVs are closed and newer ones added, nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from b2cal_core.errors import ConflictError
from b2cal_core.payloads import TagState
from b2cal_core.plans import fingerprint_of, plan_hash
from b2cal_core.publishing import Operation, TagIov, UpdatePlan, applied
from resources.conditions import records, tag_content
from resources.conditions.records import Signature


@dataclass(frozen=True, slots=True)
class RunningUpdate:
    """A plan, the tag it is for and the fingerprint of the content it was made from."""

    plan: UpdatePlan
    target: str
    fingerprint: str

    @property
    def hash(self) -> str:
        """What the audit log calls it by."""
        return plan_hash(self.plan, target=self.target, fingerprint=self.fingerprint)

    def apply(
        self, connection: sa.Connection, signature: Signature, *, reason: str, on_step: Callable[[str], None]
    ) -> tuple[TagIov, ...]:
        """Change the tag, read it back and write the audit log; what was applied before is not applied again."""
        tag_id, tag = records.require_tag(connection, self.target)
        before = tag_content.content(connection, tag_id)
        if records.is_applied(connection, self.target, self.hash):
            return before
        records.require_state(tag, TagState.RUNNING, "to be updated")
        self._require_fingerprint(fingerprint_of(tag.state, before))
        predicted = applied(before, self.plan)
        self._require_append_only(before, predicted)
        tag_content.require_payloads(connection, self._creations())
        self._write(connection, tag_id, before=before, on_step=on_step)
        after = tag_content.content(connection, tag_id)
        tag_content.book_names(connection, tag_id, after, self._names)
        tag_content.require_equal(self.target, after, predicted)
        self._log(connection, signature, reason=reason, after=fingerprint_of(tag.state, after))
        return after

    def _require_fingerprint(self, found: str) -> None:
        if found != self.fingerprint:
            raise ConflictError(
                f"tag {self.target} was changed after the plan was made (fingerprint {found[:12]}, the plan is for"
                f" {self.fingerprint[:12]}); nothing was changed. Make a new plan and have it approved"
            )

    @property
    def _names(self) -> frozenset[str]:
        return frozenset(operation.name for operation in self.plan.operations)

    def _require_append_only(self, before: Sequence[TagIov], predicted: Sequence[TagIov]) -> None:
        """Refuse a plan that would change what was already decided for the past, whoever made it."""
        for operation in self.plan.operations:
            if operation.kind == "close":
                self._require_open_link(operation, before)
            elif any(link.name == operation.name and link.iov.start >= operation.iov.start for link in before):
                self._refuse(operation, "something of that name starts there or later already")
        tag_content.refuse_overlaps(self.target, (link for link in predicted if link.name in self._names))

    def _require_open_link(self, operation: Operation, before: Sequence[TagIov]) -> None:
        link = closed_link(operation, before)
        if link is None or not link.iov.is_open:
            self._refuse(operation, "the tag has no such open IoV")
        elif link.iov.start != operation.iov.start:
            self._refuse(operation, "an IoV keeps its start")

    def _refuse(self, operation: Operation, why: str) -> None:
        raise ConflictError(
            f"the plan would {operation.kind} {operation.name} revision {operation.revision} in {operation.iov}, but"
            f" {why}, and a RUNNING tag is only appended to; nothing was changed. Make a new plan"
        )

    def _creations(self) -> list[TagIov]:
        return [TagIov(op.name, op.revision, op.iov) for op in self.plan.operations if op.kind == "create"]

    def _write(
        self, connection: sa.Connection, tag_id: int, *, before: Sequence[TagIov], on_step: Callable[[str], None]
    ) -> None:
        for operation in self.plan.operations:
            link = closed_link(operation, before) if operation.kind == "close" else None
            if link is not None and link.id is not None:
                tag_content.shorten(connection, link.id, operation.iov)
        on_step("open IoVs closed")
        tag_content.insert(connection, tag_id, self._creations())
        on_step("new IoVs created")

    def _log(self, connection: sa.Connection, signature: Signature, *, reason: str, after: str) -> None:
        operations = [[op.kind, op.name, op.revision, *op.iov] for op in self.plan.operations]
        detail = {"before": self.fingerprint, "after": after, "operations": operations}
        records.log(
            connection,
            signature,
            action="apply",
            tag=self.target,
            detail=detail,
            reason=reason,
            plan_hash=self.hash,
        )


def closed_link(operation: Operation, before: Sequence[TagIov]) -> TagIov | None:
    """The link that a closing operation is about: by its id, or where the plan has none, the open one."""
    same = [link for link in before if (link.name, link.revision) == (operation.name, operation.revision)]
    if operation.id is not None:
        return next((link for link in same if link.id == operation.id), None)
    return next((link for link in same if link.iov.is_open), None)
