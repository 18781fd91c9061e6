"""Carrying plans out: open IoVs of a RUNNING tag are closed and newer ones added, nothing else; OPEN tags are edited.

Only the links from the first changed run on are read, so that a publish costs the same in a small and in a large tag.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from b2cal_core import plans
from b2cal_core.errors import ConflictError, DataError
from b2cal_core.payloads import GlobalTag, Payload, Release, TagState
from b2cal_core.plans import PlanDocument, PlanKind
from b2cal_core.provenance import require_complete
from b2cal_core.publishing import Operation, TagIov, applied
from resources.conditions import book, records, tag_content
from resources.conditions.book import Signature

_STATES: Mapping[PlanKind, TagState] = {
    PlanKind.running_update: TagState.RUNNING,
    PlanKind.rollback: TagState.RUNNING,
    PlanKind.edit: TagState.OPEN,
}


def require_created_payloads(document: PlanDocument, known: Mapping[tuple[str, int], Payload]) -> None:
    """Raise ``DataError`` when a payload to be added is not there, or has other content than the plan says."""
    sums = {(name, revision): md5 for name, revision, md5 in document.checksums}
    for link in document.created:
        payload = known.get((link.name, link.revision))
        if payload is None:
            raise DataError(
                f"the conditions database has no payload {link.name} revision {link.revision}; upload it first."
                " Nothing was changed"
            )
        if sums.get((link.name, link.revision)) != payload.md5:
            raise DataError(
                f"{link.name} revision {link.revision} has MD5 {payload.md5}, the plan says"
                f" {sums.get((link.name, link.revision))}; make a new plan. Nothing was changed"
            )


def require_append_only(document: PlanDocument, before: Sequence[TagIov]) -> None:
    """Raise ``ConflictError`` when a running update would change what was decided for the past, whoever made it.

    ``before`` are the links of the target from the first run on that the plan touches.
    """
    touched, first = document.touched, document.first_run
    if touched is not None and (first is None or touched.start < first.edge):
        raise ConflictError(
            f"the plan for {document.target} changes runs from {touched.start} on, but is for runs from"
            f" {first or 'no stated run'} on; nothing was changed. Make a new plan"
        )
    last: dict[str, TagIov] = {}
    for link in before:
        known = last.get(link.name)
        last[link.name] = link if known is None or link.iov.start > known.iov.start else known
    for operation in document.plan.operations:
        latest = last.get(operation.name)
        if operation.kind == "drop":
            _refuse(operation, "nothing is taken out of it")
        elif operation.kind == "close":
            _require_open_link(operation, before)
        elif latest is not None and latest.iov.start >= operation.iov.start:
            _refuse(operation, "something of that name starts there or later already")
    predicted, names = applied(before, document.plan), document.names
    tag_content.refuse_overlaps(document.target, (link for link in predicted if link.name in names))


def _require_open_link(operation: Operation, before: Sequence[TagIov]) -> None:
    link = closed_link(operation, before)
    if link is None or not link.iov.is_open:
        _refuse(operation, "the tag has no such open IoV")
    elif link.iov.start != operation.iov.start:
        _refuse(operation, "an IoV keeps its start")


def _refuse(operation: Operation, why: str) -> None:
    raise ConflictError(
        f"the plan would {operation.kind} {operation.name} revision {operation.revision} in {operation.iov}, but"
        f" {why}, and a RUNNING tag is only appended to; nothing was changed. Make a new plan"
    )


def closed_link(operation: Operation, before: Iterable[TagIov]) -> TagIov | None:
    """The link that a closing operation is about: by its id, or where the plan has none, the open one."""
    same = [link for link in before if (link.name, link.revision) == (operation.name, operation.revision)]
    if operation.id is not None:
        return next((link for link in same if link.id == operation.id), None)
    return next((link for link in same if link.iov.is_open), None)


@dataclass(frozen=True, slots=True)
class PlanWork:
    """A plan being carried out in one transaction.

    Attributes:
        on_step: told the name of each step before it is taken.
    """

    document: PlanDocument
    release: Release
    signature: Signature
    on_step: Callable[[str], None]

    def carry_out(self, connection: sa.Connection, tag_id: int, tag: GlobalTag) -> tuple[TagIov, ...]:
        """Change the tag, read it back and write the audit log; returns the links of the touched names and runs."""
        document = self.document
        records.require_state(tag, _STATES[document.kind], f"for a plan of kind {document.kind}")
        document.require_made_for(records.fingerprint(connection, tag_id))
        before = self.affected(connection, tag_id)
        self._check(connection, before)
        predicted = applied(before, document.plan)
        number = book.next_number(connection)
        self._write(connection, tag_id, before=before, number=number)
        after = self.affected(connection, tag_id)
        tag_content.require_equal(document.target, after, predicted)
        self._keep(connection, tag_id, before=before, after=after)
        return after

    def affected(self, connection: sa.Connection, tag_id: int) -> tuple[TagIov, ...]:
        """What the tag has of the touched names: all of it for an edit, else from the first touched run on."""
        document = self.document
        within = None if document.kind is PlanKind.edit else document.affected
        return tag_content.content(connection, tag_id, within, of=document.names)

    def _check(self, connection: sa.Connection, before: Sequence[TagIov]) -> None:
        document = self.document
        known = records.find_revisions(connection, {(link.name, link.revision) for link in document.created})
        require_created_payloads(document, known)
        if document.kind is PlanKind.running_update:
            require_append_only(document, before)
            keys = {(payload.name, payload.md5) for payload in known.values()}
            require_complete(keys, book.find_provenance(connection, keys))
        else:
            self._require_links(before)
            tag_content.refuse_overlaps(document.target, applied(before, document.plan))

    def _require_links(self, before: Sequence[TagIov]) -> None:
        """Whatever is closed or dropped must be there just so."""
        present = {link.bare for link in before}
        for operation in self.document.plan.operations:
            if operation.kind == "drop" and operation.link not in present:
                raise ConflictError(
                    f"tag {self.document.target} does not have {operation.name} revision {operation.revision} in"
                    f" {operation.iov}, which the plan drops; nothing was changed. Make a new plan"
                )
            if operation.kind == "close":
                _require_open_link(operation, before)

    def _write(self, connection: sa.Connection, tag_id: int, *, before: Sequence[TagIov], number: int) -> None:
        operations = self.document.plan.operations
        ids = {link.bare: link.id for link in before}
        dropped = [operation.link for operation in operations if operation.kind == "drop"]
        tag_content.drop(connection, [id_ for link in dropped if (id_ := ids[link]) is not None], number)
        self.on_step("links dropped")
        closing = [(closed_link(op, before), op.iov) for op in operations if op.kind == "close"]
        ends = {link.id: iov for link, iov in closing if link is not None and link.id is not None}
        tag_content.shorten(connection, ends, number)
        self.on_step("open IoVs closed")
        tag_content.insert(connection, tag_id, self.document.created, number)
        self.on_step("new IoVs created")

    def _keep(
        self, connection: sa.Connection, tag_id: int, *, before: Sequence[TagIov], after: Sequence[TagIov]
    ) -> None:
        document = self.document
        fingerprint = plans.after(document.fingerprint, before, after)
        if document.predicted != fingerprint:
            raise ConflictError(
                f"the plan for {document.target} predicts the content {document.predicted[:12]}, its operations make"
                f" {fingerprint[:12]}; nothing was changed. Make a new plan"
            )
        records.keep_fingerprint(connection, tag_id, fingerprint, self.signature)
        if document.kind is PlanKind.running_update:
            tag_content.book_new_names(connection, tag_id, document.names)
        else:
            whole = tag_content.content(connection, tag_id, of=document.names)
            tag_content.book_names(connection, tag_id, whole, document.names)
        book.log(
            connection,
            self.signature,
            action="apply",
            tag=document.target,
            detail=plan_detail(document),
            release=self.release,
            plan_hash=document.hash,
        )


def plan_detail(document: PlanDocument) -> dict[str, object]:
    """What the audit log says of a plan: the whole of it, so that it can be taken back or made up for later."""
    return {"before": document.fingerprint, "after": document.predicted, "document": document.to_json()}
