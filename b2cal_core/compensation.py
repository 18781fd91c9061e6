"""The ways back from a publish: taking it back while it is not final, and making up for it afterwards.

Pure rules; whether a publish is final is for the publisher to know.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from b2cal_core.errors import ConfigurationError, ConflictError
from b2cal_core.plans import PlanDocument, PlanKind
from b2cal_core.publishing import Operation, TagIov, UpdateMode, UpdatePlan, plan_running_update
from b2cal_core.ranges import ExpRun, IoV

_EVERYTHING = IoV(0, 0, -1, -1)


def inverse_plan(document: PlanDocument, now: Iterable[TagIov]) -> UpdatePlan:
    """The operations that give the tag its content of before the plan.

    Args:
        document: a plan that was applied.
        now: content of the tag, at least of the names and runs the plan touches.

    Raises:
        ConflictError: something the plan made is no longer there as it made it.
    """
    present = {(link.name, link.revision, link.iov): link.id for link in now}
    made = [op for op in document.plan.operations if op.kind != "drop"]
    if gone := [op for op in made if (op.name, op.revision, op.iov) not in present]:
        listed = ", ".join(sorted({op.name for op in gone}))
        raise ConflictError(
            f"tag {document.target} was changed again after plan {document.hash[:12]}: {listed} is not as the plan left"
            " it; take back the later change first, or make up for both. Nothing was changed"
        )
    dropping = [Operation("drop", *_row(op), id=present[_row(op)]) for op in made]
    opened = [op for op in document.plan.operations if op.kind == "close"]
    creating = [Operation("create", op.name, op.revision, _opened(op.iov)) for op in opened]
    creating += [Operation("create", *_row(op)) for op in document.plan.operations if op.kind == "drop"]
    return UpdatePlan((*_ordered(dropping), *_ordered(creating)))


@dataclass(frozen=True, slots=True)
class Compensation:
    """What makes up for a plan from ``first_run`` on.

    Attributes:
        staging: what readers are to get again; a name that had nothing before the plan has nothing here.
        names: the names it is about.
        superseded: names the plan touched that another publish changed since; they are left as they are.
    """

    first_run: ExpRun
    staging: tuple[TagIov, ...]
    names: frozenset[str]
    superseded: frozenset[str]

    def plan(self, running: Iterable[TagIov]) -> UpdatePlan:
        """The running update that publishes it; a name that had nothing before the plan ends before ``first_run``.

        Args:
            running: content of the running tag, at least from ``first_run`` on.
        """
        own = [link for link in running if link.name in self.names]
        return plan_running_update(own, self.staging, self.first_run, UpdateMode.full_replacement)


def compensating_links(document: PlanDocument, now: Sequence[TagIov], *, first_run: ExpRun) -> Compensation:
    """What the tag had of the touched names before a running update, to be published from ``first_run`` on.

    A running update only ever follows on open IoVs, so the plan itself says what was valid in later runs before it.

    Args:
        document: the running update that was applied.
        now: content of the running tag, at least from ``first_run`` on.
        first_run: inclusive; after every start and end that the plan brought.

    Raises:
        ConfigurationError: the plan is no running update.
    """
    if document.kind is not PlanKind.running_update:
        raise ConfigurationError(
            f"plan {document.hash[:12]} is a plan of kind {document.kind}; only a running update is made up for"
        )
    made = _answers(document.created, first_run)
    found = _answers(now, first_run)
    names = frozenset(name for name in document.names if made.get(name) == found.get(name))
    future = IoV.of_edges(first_run.edge, _EVERYTHING.stop)
    staging = tuple(
        TagIov(op.name, op.revision, future)
        for op in document.plan.operations
        if op.kind == "close" and op.name in names
    )
    return Compensation(first_run, staging, names, superseded=document.names - names)


def _answers(links: Iterable[TagIov], run: ExpRun) -> dict[str, int]:
    """The revision a reader gets in the run, per name."""
    valid = sorted((link for link in links if link.iov.contains(run)), key=lambda link: link.revision)
    return {link.name: link.revision for link in valid}


def _opened(iov: IoV) -> IoV:
    return IoV.of_edges(iov.start, _EVERYTHING.stop)


def _row(operation: Operation) -> tuple[str, int, IoV]:
    return operation.name, operation.revision, operation.iov


def _ordered(operations: Iterable[Operation]) -> list[Operation]:
    return sorted(operations, key=lambda operation: (operation.name, operation.iov.start))
