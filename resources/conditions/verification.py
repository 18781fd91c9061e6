"""Making the plan of a publish, and looking afterwards whether the tag became what the plan says."""

from collections.abc import Iterator

from b2cal_core.errors import ConflictError, IntegrityError
from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanDocument, fingerprint_of
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import Operation, TagIov, UpdateMode, applied
from b2cal_core.ranges import ExpRun


def make_plan(
    conditions: ConditionsDB, target: str, staging: str, *, first_run: ExpRun, mode: UpdateMode
) -> PlanDocument:
    """The plan that brings ``staging`` into ``target``, with the content it predicts; nothing is changed.

    Raises:
        UpdateRefused: the update breaks a rule of running tags or of the mode.
        ConflictError: a tag has the wrong state, or the target was changed meanwhile.
    """
    plan, fingerprint = conditions.plan(target, staging, first_run, mode)
    before = conditions.list_iovs(target)
    if fingerprint_of(TagState.RUNNING, before) != fingerprint:
        raise ConflictError(f"tag {target} was changed while the plan was made; make it again")
    predicted = fingerprint_of(TagState.RUNNING, applied(before, plan))
    return PlanDocument(target, staging, first_run, mode, fingerprint=fingerprint, predicted=predicted, plan=plan)


def discrepancies(conditions: ConditionsDB, document: PlanDocument) -> Iterator[str]:
    """What the target does not hold of the plan, by listing, look-up and content, in sentences; none when all is well.

    A target that was updated again since is judged by what the plan itself did.
    """
    if not any(entry.plan_hash == document.hash for entry in conditions.audit(document.target)):
        yield f"plan {document.hash[:12]} was never applied to {document.target}"
        return
    links = conditions.list_iovs(document.target)
    for operation in document.plan.operations:
        link = _link_of(operation, links)
        if link is None or not operation.iov.covers(link.iov):
            yield f"{operation.name} revision {operation.revision} is not valid in {operation.iov}"
        else:
            yield from _wrong_answers(conditions, document.target, link)


def is_as_predicted(conditions: ConditionsDB, document: PlanDocument) -> bool:
    """Whether the target is, to the last IoV, what the plan predicts; false once it was updated again."""
    return conditions.fingerprint(document.target) == document.predicted


def _link_of(operation: Operation, links: tuple[TagIov, ...]) -> TagIov | None:
    meant = (operation.name, operation.revision, operation.iov.start)
    return next((link for link in links if (link.name, link.revision, link.iov.start) == meant), None)


def _wrong_answers(conditions: ConditionsDB, tag: str, link: TagIov) -> Iterator[str]:
    first = ExpRun(*link.iov.start)
    found = conditions.resolve([tag], first).get(link.name)
    if found is None or found.payload.revision != link.revision:
        yield f"{link.name} in {first} is looked up as {found.payload.revision if found else 'nothing'}"
        return
    try:
        conditions.payload_file(found.payload)
    except IntegrityError as error:
        yield str(error)
