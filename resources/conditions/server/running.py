"""``updateRunningPayloads``: the only change of a RUNNING tag, a list of operations carried out together or not at all.

The server keeps the past as it is, whatever the client has computed: an open IoV may be closed, and a name's payloads
may be added after all it has. Where from is the client's decision, for only it knows which data were processed.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from b2cal_core import plans
from b2cal_core.errors import ConfigurationError, ConflictError
from b2cal_core.payloads import Release, TagState
from b2cal_core.plans import PlanDocument, PlanKind
from b2cal_core.publishing import Operation, UpdatePlan, applied
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.rights import Rights
from resources.conditions import book, records, running_updates, schema, tag_content
from resources.conditions.book import Signature, utc_now
from resources.conditions.connections import Database
from resources.conditions.running_updates import PlanWork
from resources.conditions.schema import iovs, names, payloads
from resources.conditions.server import lookups
from resources.conditions.server.refusals import NotFound

_NUMBERS = {"MODIFY": 3, "CREATE": 5}
_LARGEST = 2**31 - 1  # of any id the tables can give


@dataclass(frozen=True, slots=True)
class RunningUpdate:
    """What a client asks for: (link, last experiment, last run) to close, (payload, IoV) to add."""

    closing: tuple[tuple[int, int, int], ...]
    creating: tuple[tuple[int, IoV], ...]

    @classmethod
    def of(cls, operations: Sequence[Any]) -> "RunningUpdate":
        """Read the list of operations.

        Raises:
            ConfigurationError: an operation is unknown, or its numbers are not what it takes.
        """
        closing: list[tuple[int, int, int]] = []
        creating: list[tuple[int, IoV]] = []
        for operation in operations:
            kind, numbers = _checked(operation)
            if kind == "MODIFY":
                closing.append((numbers[0], numbers[1], numbers[2]))
            else:
                creating.append((numbers[0], iov_of(numbers[1:])))
        if twice := [link for link, count in Counter(link for link, _, _ in closing).items() if count > 1]:
            raise ConfigurationError(f"IoV {twice[0]} is modified more than once; nothing was changed")
        return cls(tuple(closing), tuple(creating))


def iov_of(numbers: Sequence[int]) -> IoV:
    """The IoV of four numbers, both ends included; ``ConfigurationError`` when they are none."""
    try:
        return IoV(*numbers)
    except ValueError as error:
        raise ConfigurationError(f"{error}; nothing was changed") from error


def _checked(operation: object) -> tuple[str, list[int]]:
    kind, numbers = (
        (operation.get("operation"), operation.get("data")) if isinstance(operation, Mapping) else (None, None)
    )
    if not isinstance(kind, str) or kind not in _NUMBERS:
        raise ConfigurationError(
            "an operation is {operation: MODIFY, data: [iovId, finalExp, finalRun]} or {operation: CREATE, data:"
            f" [payloadId, firstExp, firstRun, finalExp, finalRun]}}, got {operation!r:.200}; nothing was changed"
        )
    if not isinstance(numbers, list) or len(numbers) != _NUMBERS[kind] or not all(map(_is_number, numbers)):
        raise ConfigurationError(
            f"{kind} takes {_NUMBERS[kind]} whole numbers, got {numbers!r:.200}; nothing was changed"
        )
    return kind, numbers


def _is_number(value: object) -> bool:
    return type(value) is int and -1 <= value <= _LARGEST


def update_running(
    database: Database, rights: Rights, tag: str, update: RunningUpdate, *, clock: Callable[[], datetime] = utc_now
) -> None:
    """Carry the update out in one transaction, read back before it is committed.

    Raises:
        NotFound: there is no such tag, IoV or payload.
        ConflictError: the tag is not RUNNING, or the update would change its past.
        RightsError: the user may not administer the tag.
    """
    rights.require_administer(tag, "publish into")
    signature = Signature(rights.user, clock())
    with database.write() as connection:
        tag_id = lookups.tag_named(connection, tag).id
        _, found = records.require_tag(connection, tag)
        records.require_state(found, TagState.RUNNING, "for a running update")
        book.require_free(connection, tag, None, now=signature.when)
        operations = (
            *(_close(connection, tag_id, tag, closing) for closing in update.closing),
            *(_create(connection, payload_id, iov) for payload_id, iov in update.creating),
        )
        if operations:
            _carry_out(connection, tag_id, _document(connection, tag_id, tag, operations), signature)


def _close(connection: sa.Connection, tag_id: int, tag: str, closing: tuple[int, int, int]) -> Operation:
    link_id, final_exp, final_run = closing
    joined = iovs.join(payloads, payloads.c.id == iovs.c.payload_id).join(names, names.c.id == iovs.c.name_id)
    query = sa.select(names.c.name, payloads.c.revision, iovs.c.start, iovs.c.stop).select_from(joined)
    row = connection.execute(query.where(iovs.c.id == link_id, iovs.c.tag_id == tag_id)).first()
    if row is None:
        raise NotFound(f"tag {tag} has no IoV with id {link_id}; list those it has. Nothing was changed")
    present = schema.iov_of(row.start, row.stop)
    if not present.is_open:
        raise ConflictError(
            f"{row.name} revision {row.revision} ends with {present}; only an open IoV of a RUNNING tag is closed."
            " Nothing was changed"
        )
    if final_exp < 0:
        raise ConfigurationError(f"IoV {link_id} is open already; close it with a last experiment. Nothing was changed")
    remains = iov_of((present.exp_low, present.run_low, final_exp, final_run))
    return Operation("close", row.name, row.revision, iov=remains, id=link_id)


def _create(connection: sa.Connection, payload_id: int, iov: IoV) -> Operation:
    payload = lookups.payload_with_id(connection, payload_id)
    return Operation("create", payload.name, payload.revision, iov=iov)


def _document(connection: sa.Connection, tag_id: int, tag: str, operations: tuple[Operation, ...]) -> PlanDocument:
    """The update as a plan, so that the audit log tells of it as of any other; what it predicts is not filled in."""
    created = {(op.name, op.revision) for op in operations if op.kind == "create"}
    known = records.find_revisions(connection, created)
    fingerprint = records.fingerprint(connection, tag_id)
    return PlanDocument(
        PlanKind.running_update,
        tag,
        sources=(),
        fingerprint=fingerprint,
        predicted=fingerprint,
        plan=UpdatePlan(operations),
        purpose="updateRunningPayloads",
        first_run=ExpRun(*min(op.iov.stop if op.kind == "close" else op.iov.start for op in operations)),
        checksums=tuple((*key, payload.md5) for key, payload in sorted(known.items())),
    )


def _carry_out(connection: sa.Connection, tag_id: int, document: PlanDocument, signature: Signature) -> None:
    _require_newer(connection, tag_id, document)
    work = PlanWork(document, Release(signature.author, "", ""), signature, on_step=lambda _step: None)
    before = work.affected(connection, tag_id)
    running_updates.require_append_only(document, before)
    after = applied(before, document.plan)
    document = replace(document, predicted=plans.after(document.fingerprint, before, after))
    number = book.next_number(connection)
    ends = {op.id: op.iov for op in document.plan.operations if op.kind == "close" and op.id is not None}
    tag_content.shorten(connection, ends, number)
    tag_content.insert(connection, tag_id, document.created, number)
    tag_content.require_equal(document.target, work.affected(connection, tag_id), after)
    tag_content.book_new_names(connection, tag_id, document.names)
    records.keep_fingerprint(connection, tag_id, document.predicted, signature)
    detail = running_updates.plan_detail(document)
    book.log(connection, signature, action="apply", tag=document.target, detail=detail, plan_hash=document.hash)


def _require_newer(connection: sa.Connection, tag_id: int, document: PlanDocument) -> None:
    """Refuse what would change a run that the tag's content, of whatever name, has decided already."""
    first = document.first_run
    if first is None:
        return
    for link in tag_content.content(connection, tag_id, IoV.since(first)):
        if link.iov.start >= first.edge or not link.iov.is_open:
            raise ConflictError(
                f"the update would change {document.target} from {first} on, but it has {link.name} revision"
                f" {link.revision} in {link.iov} already, and a RUNNING tag is only appended to; choose a later first"
                " run. Nothing was changed"
            )
