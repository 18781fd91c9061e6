"""Running updates: everything is checked, then one request changes the tag as a whole, then it is read back.

Which of the three states the tag is in, as before, as predicted or neither, decides what a lost reply meant.
"""

from collections.abc import Callable, Sequence
from typing import Any

from b2cal_core.errors import BackendError, ConflictError
from b2cal_core.payloads import Release, TagState
from b2cal_core.plans import PlanDocument, fingerprint_of
from b2cal_core.provenance import require_complete
from b2cal_core.publishing import Operation, applied
from resources.conditions.rest.calls import closing, creating
from resources.conditions.rest.connection import Connection
from resources.conditions.rest.open_tags import payloads_to_create
from resources.conditions.rest.replies import OutcomeUnknown
from resources.conditions.rest.shapes import LinkRecord
from resources.conditions.running_updates import closed_link, plan_detail, require_append_only

_ACTION = "apply"


def update(
    connection: Connection, document: PlanDocument, release: Release, *, require_free: Callable[[], None]
) -> None:
    """Carry out a running update, or note the end of one whose reply was lost.

    ``require_free`` raises when somebody else may change the tag; it is asked right before the change.
    """
    tag = document.target
    _require_running(connection, tag)
    links = connection.links(tag)
    if _was_ours(connection, document, links):
        _end(connection, document, release)
        return
    document.require_made_for(_fingerprint(links))
    before = [one.link for one in links]
    _check(document, links)
    ids = payloads_to_create(connection, document)
    _require_provenance(connection, document)
    operations = [_request(operation, document, links, ids=ids) for operation in document.plan.operations]
    if fingerprint_of(TagState.RUNNING, applied(before, document.plan)) != document.predicted:
        raise ConflictError(f"the operations of the plan for {tag} do not make what it predicts; make a new plan")
    require_free()
    connection.journal.begin(tag, _ACTION, plan_detail(document), release=release, plan=document.hash)
    if operations:
        _send(connection, document, operations)
    _end(connection, document, release)


def _require_running(connection: Connection, tag: str) -> None:
    state = connection.require_tag(tag).tag.state
    if state is not TagState.RUNNING:
        raise ConflictError(f"tag {tag} is {state}, but must be RUNNING for a running update; nothing was changed")


def _was_ours(connection: Connection, document: PlanDocument, links: Sequence[LinkRecord]) -> bool:
    """Whether the tag is as predicted because this very plan was begun before."""
    if _fingerprint(links) != document.predicted or document.predicted == document.fingerprint:
        return False
    begun = connection.journal.unfinished(document.target, _ACTION)
    return begun is not None and begun.get("document") == document.to_json()


def _check(document: PlanDocument, links: Sequence[LinkRecord]) -> None:
    """The rules of running tags; what ended before the first touched run is no part of them."""
    touched = document.touched
    reached = [one.link for one in links if touched is not None and one.link.iov.overlaps(touched)]
    require_append_only(document, reached)


def _require_provenance(connection: Connection, document: PlanDocument) -> None:
    added = {(link.name, link.revision) for link in document.created}
    keys = {(name, md5) for name, revision, md5 in document.checksums if (name, revision) in added}
    require_complete(keys, connection.journal.book.provenance(keys))


def _request(
    operation: Operation, document: PlanDocument, links: Sequence[LinkRecord], *, ids: dict[tuple[str, int], int]
) -> dict[str, Any]:
    if operation.kind == "create":
        return creating(ids[operation.name, operation.revision], operation.iov)
    link = closed_link(operation, [one.link for one in links])
    if link is None or link.id is None:
        raise ConflictError(f"tag {document.target} has no open {operation.name}; nothing was changed. Make a new plan")
    return closing(link.id, operation.iov)


def _send(connection: Connection, document: PlanDocument, operations: Sequence[dict[str, Any]]) -> None:
    """Send the update; a second time only when the tag stays as it was after a lost reply."""
    for number in range(connection.patience.attempts):
        try:
            connection.calls.update_running(document.target, operations)
        except OutcomeUnknown:
            if _state_after(connection, document) == document.predicted:
                return
            if number + 1 == connection.patience.attempts:
                raise
        else:
            break
    if _state_after(connection, document) != document.predicted:
        raise BackendError(
            f"the server said yes to the update of {document.target}, but the tag still reads as before; ask again",
            transient=True,
        )


def _state_after(connection: Connection, document: PlanDocument) -> str:
    """The fingerprint once it is the predicted one, or still the old one after a while.

    Raises:
        BackendError: it is neither; somebody has to look.
    """
    known = {document.predicted, document.fingerprint}
    found = document.fingerprint
    for number in range(connection.patience.attempts):
        found = _fingerprint(connection.links(document.target))
        if found != document.fingerprint:
            break
        if number + 1 < connection.patience.attempts:
            connection.patience.pause(number)
    if found not in known:
        raise BackendError(
            f"tag {document.target} is neither what it was ({document.fingerprint[:12]}) nor what the plan"
            f" {document.hash[:12]} makes of it ({document.predicted[:12]}), but {found[:12]}; somebody else changed it"
            " or the update was done in part. Compare it with the plan and mend it by a compensating update",
            transient=False,
        )
    return found


def _end(connection: Connection, document: PlanDocument, release: Release) -> None:
    connection.journal.end(document.target, _ACTION, plan_detail(document), release=release, plan=document.hash)


def _fingerprint(links: Sequence[LinkRecord]) -> str:
    return fingerprint_of(TagState.RUNNING, (one.link for one in links))
