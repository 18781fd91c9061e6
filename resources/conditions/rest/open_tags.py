"""Changing the content of OPEN tags, by single requests: the server has no transaction for them.

Everything is checked before the first change. Then, name by name, superfluous links are removed before missing ones are
made: a reader of the tag may find a name missing for a moment, which is an error it sees, but never two payloads for
one run, of which it would silently take either. Whatever happened, the way on is to look what the tag has and to do
what is not done yet, so that a change that was broken off is completed by asking for it again.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from b2cal_core.errors import BackendError, ConflictError, DataError, RightsError
from b2cal_core.payloads import LocalPayload, Release, TagState
from b2cal_core.plans import PlanDocument, fingerprint_of
from b2cal_core.publishing import Operation, TagIov, applied
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.rest import uploads
from resources.conditions.rest.connection import Connection
from resources.conditions.rest.replies import OutcomeUnknown
from resources.conditions.rest.shapes import LinkRecord, TagRecord
from resources.conditions.running_updates import plan_detail, require_created_payloads
from resources.conditions.tag_content import refuse_overlaps, rows

_ORDER = {"drop": 0, "close": 1, "create": 2}

Ids = Mapping[tuple[str, int], int]
"""(name, revision) to the server's id of the payload."""
Pending = Callable[[Sequence[LinkRecord]], list[Operation]]
"""From the links a tag has to what is still to be done."""


def require_open(record: TagRecord) -> None:
    """Raise ``ConflictError`` unless the tag is OPEN."""
    if record.tag.state is not TagState.OPEN:
        raise ConflictError(
            f"tag {record.name} is {record.tag.state}, but must be {TagState.OPEN} for its content to be changed;"
            " nothing was changed"
        )


def replace_links(
    connection: Connection, tag: str, names: Collection[str], payloads: Sequence[LocalPayload]
) -> tuple[TagIov, ...]:
    """Give the tag these payloads for these names, uploading what the server does not have."""
    pairs = [(local.name, local.file) for local in payloads]
    files = uploads.read_keys(pairs)
    connection.rights(2 * len(files) + 2 * len(payloads)).require_fill(tag, "fill")
    record = connection.require_tag(tag)
    require_open(record)
    known = uploads.existing(connection, files.values())
    before = _named(connection.links(tag), names)
    wanted = {(local.name, files[local.name, local.file][1], local.iov) for local in payloads}
    present = {(one.link.name, one.payload.payload.md5, one.link.iov) for one in before}
    fresh = wanted != present or len(present) != len(before)
    detail = {"dropped": sorted(_texts(present - wanted)), "added": sorted(_texts(wanted - present))}
    if fresh:
        connection.journal.begin(tag, "replace_iovs", detail)
    stored = uploads.store(connection, files, known)
    held = {(one.link.name, one.payload.payload.md5, one.link.iov): one.link.revision for one in before}
    links = {TagIov(one[0], held.get(one) or stored[one[:2]].payload.revision, one[2]) for one in wanted}
    ids = {(one.payload.name, one.payload.revision): one.id for one in stored.values()}
    carry_out(connection, record, lambda now: differences(_named(now, names), links), ids=ids)
    after = _links_of(connection, tag, names)
    _end(connection, tag, "replace_iovs", fresh=fresh, detail=detail)
    return after


def add(connection: Connection, tag: str, iovs: Sequence[TagIov]) -> tuple[TagIov, ...]:
    """Link payloads that the server has to the tag."""
    names = {link.name for link in iovs}
    connection.rights(len(iovs)).require_fill(tag, "fill")
    record = connection.require_tag(tag)
    require_open(record)
    ids = payload_ids(connection, {(link.name, link.revision) for link in iovs})
    before = _named(connection.links(tag), names)
    present = {one.link.bare for one in before}
    wanted = present | {link.bare for link in iovs}
    refuse_overlaps(tag, wanted)
    ids |= {(one.link.name, one.link.revision): one.payload.id for one in before}
    fresh = bool(differences(before, wanted))
    detail = {"dropped": [], "added": rows(sorted(wanted - present, key=lambda link: (link.name, link.iov)))}
    if fresh:
        connection.journal.begin(tag, "add_iovs", detail)
    carry_out(connection, record, lambda now: differences(_named(now, names), wanted), ids=ids)
    after = _links_of(connection, tag, names)
    _end(connection, tag, "add_iovs", fresh=fresh, detail=detail)
    return after


def edit(connection: Connection, document: PlanDocument, release: Release) -> None:
    """Carry out a plan for an OPEN tag, or what is left of it."""
    tag = document.target
    record = connection.require_tag(tag)
    require_open(record)
    links = connection.links(tag)
    remaining(document, links)
    checked = payloads_to_create(connection, document)
    before = _before(document, _counted(links))
    _require_links(document, before)
    predicted = applied(before.elements(), document.plan)
    refuse_overlaps(tag, (link for link in predicted if link.name in document.names))
    if _fingerprint(Counter(predicted)) != document.predicted:
        raise ConflictError(f"the operations of the plan for {tag} do not make what it predicts; make a new plan")
    detail = plan_detail(document)
    connection.journal.begin(tag, "apply", detail, release=release, plan=document.hash)
    if document.predicted != document.fingerprint:
        carry_out(connection, record, lambda now: remaining(document, now), ids=checked)
    connection.journal.end(tag, "apply", detail, release=release, plan=document.hash)


def remaining(document: PlanDocument, links: Sequence[LinkRecord]) -> list[Operation]:
    """The operations of an edit that are not done yet, each with the id of its link.

    Raises:
        ConflictError: without those that are done, the tag is not what the plan was made from.
    """
    now, operations = _counted(links), document.plan.operations
    before = _before(document, now)
    if _fingerprint(before) != document.fingerprint:
        document.require_made_for(_fingerprint(now))
    if before != now:
        operations = tuple(operation for operation in operations if not _is_done(operation, now))
    ids = {one.link.bare: one.link.id for one in links}
    return _in_order(replace(operation, id=ids.get(_target(operation))) for operation in operations)


def differences(present: Sequence[LinkRecord], wanted: Collection[TagIov]) -> list[Operation]:
    """What is to be dropped and created, so that each of the ``wanted`` links is there once and no other."""
    kept: set[TagIov] = set()
    found: list[Operation] = []
    for link in (one.link for one in present):
        if link.bare in wanted and link.bare not in kept:
            kept.add(link.bare)
        else:
            found.append(Operation("drop", link.name, link.revision, iov=link.iov, id=link.id))
    found += [Operation("create", link.name, link.revision, iov=link.iov) for link in wanted if link not in kept]
    return _in_order(found)


def carry_out(connection: Connection, record: TagRecord, pending: Pending, *, ids: Ids) -> None:
    """Do what is pending, looking again after every lost reply, until nothing is.

    Raises:
        BackendError: the tag was changed in part, or does not show what was written; asking again completes it.
    """
    for number in range(connection.patience.attempts):
        todo = pending(connection.links(record.name))
        try:
            _do(connection, record, todo, ids=ids)
        except OutcomeUnknown:
            if number + 1 == connection.patience.attempts:
                raise
            connection.patience.pause(number)
        else:
            if todo and not connection.shown(lambda: not pending(connection.links(record.name)) or None):
                raise BackendError(
                    f"tag {record.name} reads back differently from what was written; ask again, and the change is"
                    " completed",
                    transient=True,
                )
            return


def payload_ids(connection: Connection, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """The server's ids of payloads; ``DataError`` when it does not have one of them."""
    keys = set(wanted)
    names = sorted({name for name, _ in keys})
    records = (record for name in names for record in connection.calls.payloads_named(name))
    found = {(record.payload.name, record.payload.revision): record.id for record in records}
    if missing := sorted(keys - found.keys()):
        listed = ", ".join(f"{name} revision {revision}" for name, revision in missing)
        raise DataError(f"the conditions database has no payload {listed}; upload it first. Nothing was changed")
    return {key: found[key] for key in keys}


def payloads_to_create(connection: Connection, document: PlanDocument) -> dict[tuple[str, int], int]:
    """The server's ids of the payloads a plan adds; ``DataError`` when one is not there, or is another than planned."""
    sums = [(name, md5) for name, _, md5 in document.checksums]
    records = connection.calls.check_payloads(sums) if sums else ()
    found = {(record.payload.name, record.payload.revision): record for record in records}
    absent = {(link.name, link.revision) for link in document.created} - found.keys()
    for name in sorted({name for name, _ in absent}):
        others = ((record.payload.revision, record) for record in connection.calls.payloads_named(name))
        found |= {(name, revision): record for revision, record in others if (name, revision) in absent}
    require_created_payloads(document, {key: record.payload for key, record in found.items()})
    return {key: record.id for key, record in found.items()}


def _do(connection: Connection, record: TagRecord, todo: Sequence[Operation], *, ids: Ids) -> None:
    for done, operation in enumerate(todo):
        try:
            _do_one(connection, record, operation, ids=ids)
        except (RightsError, ConflictError) as error:
            if not done:
                raise
            raise BackendError(
                f"the change of tag {record.name} was broken off after {done} of {len(todo)} steps: {error}. Asked for"
                " again, it is completed",
                transient=False,
            ) from error


def _do_one(connection: Connection, record: TagRecord, operation: Operation, *, ids: Ids) -> None:
    if operation.kind == "create":
        connection.calls.create_iov(record, ids[operation.name, operation.revision], operation.iov)
    elif operation.id is None:
        raise BackendError(f"{operation.name} of tag {record.name} has no id; ask again", transient=True)
    elif operation.kind == "drop":
        connection.calls.delete_iov(operation.id)
    else:
        connection.calls.change_iov(operation.id, operation.iov)


def _before(document: PlanDocument, now: Counter[TagIov]) -> Counter[TagIov]:
    """What the tag had before those operations of a plan that are done; ``now``, if it is what the plan is for."""
    if _fingerprint(now) == document.fingerprint:
        return now
    before = now.copy()
    for operation in document.plan.operations:
        if not _is_done(operation, now):
            continue
        if operation.kind != "drop":
            before[operation.link] -= 1
        if operation.kind != "create":
            before[_target(operation)] += 1
    return +before


def _fingerprint(links: Counter[TagIov]) -> str:
    return fingerprint_of(TagState.OPEN, links.elements())


def _counted(links: Iterable[LinkRecord]) -> Counter[TagIov]:
    return Counter(one.link.bare for one in links)


def _is_done(operation: Operation, now: Mapping[TagIov, int]) -> bool:
    return (operation.link in now) is not (operation.kind == "drop")


def _target(operation: Operation) -> TagIov:
    """The link that an operation is about, as it is before it."""
    return _opened(operation) if operation.kind == "close" else operation.link


def _opened(operation: Operation) -> TagIov:
    """The link a closing operation finds: only open ones are closed."""
    return TagIov(operation.name, operation.revision, IoV.since(ExpRun(*operation.iov.start)))


def _require_links(document: PlanDocument, before: Collection[TagIov]) -> None:
    """Whatever is closed or dropped must be there just so."""
    for operation in document.plan.operations:
        if operation.kind != "create" and _target(operation) not in before:
            raise ConflictError(
                f"tag {document.target} does not have {operation.name} revision {operation.revision} as the plan to"
                f" {operation.kind} it says ({operation.iov}); nothing was changed. Make a new plan"
            )


def _in_order(operations: Iterable[Operation]) -> list[Operation]:
    return sorted(operations, key=lambda op: (op.name, _ORDER[op.kind], op.iov.start, op.iov.stop, op.revision))


def _named(links: Iterable[LinkRecord], names: Collection[str]) -> list[LinkRecord]:
    return [one for one in links if one.link.name in names]


def _links_of(connection: Connection, tag: str, names: Collection[str]) -> tuple[TagIov, ...]:
    return tuple(one.link for one in _named(connection.links(tag), names))


def _texts(links: Iterable[tuple[str, str, object]]) -> list[list[str]]:
    return [[name, md5, str(iov)] for name, md5, iov in links]


def _end(connection: Connection, tag: str, action: str, *, fresh: bool, detail: Mapping[str, object]) -> None:
    """Note the end of a change, or of one that was complete but for this note."""
    begun = None if fresh else connection.journal.unfinished(tag, action)
    if fresh:
        connection.journal.end(tag, action, detail)
    elif begun is not None:
        connection.journal.end(tag, action, begun)
