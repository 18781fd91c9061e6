"""Plans for RUNNING tags: updates, and the two ways back. Nothing is changed here.

Only the links from the first run on are read, so that the cost of a plan does not grow with the tag.
"""

from dataclasses import replace

from b2cal_core.compensation import compensating_links, inverse_plan
from b2cal_core.errors import ConfigurationError, ConflictError, DataError
from b2cal_core.payloads import TagState
from b2cal_core.plans import PlanDocument, PlanKind, SafeRun
from b2cal_core.publishing import UpdateMode, plan_running_update
from b2cal_core.ranges import ExpRun, IoV
from resources.conditions.planning import Planner, refuse_unsafe
from resources.conditions.tag_reading import TagReading, read_tag

_BEGINNING = ExpRun(0, 0)


class UpdatePlanner(Planner):
    """Makes plans for RUNNING tags."""

    def plan_update(
        self,
        target: str,
        staging: str,
        *,
        first_run: ExpRun,
        mode: UpdateMode = UpdateMode.strict,
        purpose: str = "",
    ) -> PlanDocument:
        """The running update that brings a VALIDATED staging tag into a RUNNING one from ``first_run`` on.

        Raises:
            ConfigurationError: there is no such tag.
            ConflictError: a tag is in the wrong state, was changed meanwhile, or ``first_run`` is before the first safe
                run; the message says why that is.
            DataError: the staging tag is empty.
            UpdateRefused: the staging tag is not fit for the mode.
        """
        source = read_tag(self._conditions, staging)
        source.require(TagState.VALIDATED, "publishing")
        if not source.links:
            raise DataError(f"staging tag {staging} holds nothing to publish; fill it first. Nothing was changed")
        running = self._running(target, first_run)
        safe = self._safe_run(target, running.links)
        if safe.run == _BEGINNING:  # only the links that reach the first run were read
            safe = SafeRun(first_run, f"nothing in {target} reaches {first_run}, and nothing was processed with it")
        refuse_unsafe(target, first_run, safe)
        plan = plan_running_update(running.links, source.links, first_run, mode)
        said = purpose or f"publish {staging} into {target} from {first_run} on"
        document = self._document(PlanKind.running_update, running, plan=plan, purpose=said, sources=[source])
        return self._fresh(replace(document, first_run=first_run, mode=mode, safe_run=safe))

    def plan_rollback(self, plan: PlanDocument | str) -> PlanDocument:
        """The plan that takes another one back, given as a document or by the beginning of its hash.

        An edit is taken back while the tag is OPEN, a running update while it is not final.

        Raises:
            ConfigurationError: the plan was never applied, is a rollback itself, or the database cannot take back.
            ConflictError: the plan is final, was taken back already, or the tag was changed again since.
        """
        document = self._applied_document(plan)
        if document.kind is PlanKind.edit:
            reading = read_tag(self._conditions, document.target)
            reading.require(TagState.OPEN, "taking back an edit")
            return self._taken_back(document, reading, PlanKind.edit)
        self._require_way_back(document)
        reading = read_tag(self._conditions, document.target, document.affected)
        return self._taken_back(document, reading, PlanKind.rollback)

    def _require_way_back(self, document: PlanDocument) -> None:
        if document.kind is not PlanKind.running_update:
            raise ConfigurationError(
                f"plan {document.hash[:12]} took another plan back; to have that one again, plan it anew"
            )
        if not self._conditions.capabilities.rollback:
            raise ConfigurationError(
                f"this database cannot take back what {document.target} got by plan {document.hash[:12]}; make up for"
                " it from a later run on with a compensation. Nothing was changed"
            )
        self._refuse_final(document.target, document.hash, document.first_run)

    def _taken_back(self, document: PlanDocument, reading: TagReading, kind: PlanKind) -> PlanDocument:
        plan = inverse_plan(document, reading.links)
        made = self._document(kind, reading, plan=plan, purpose=f"take back plan {document.hash[:12]}")
        return self._fresh(replace(made, undoes=document.hash, first_run=document.first_run))

    def plan_compensation(self, plan: PlanDocument | str, *, first_run: ExpRun | None = None) -> PlanDocument:
        """The running update that makes up for one that is final: from ``first_run`` on readers get what was before.

        Args:
            plan: as a document, or by the beginning of its hash.
            first_run: inclusive; by default the first safe run.

        Raises:
            ConfigurationError: the plan was never applied, or is no running update.
            ConflictError: ``first_run`` is before the first safe run, or everything was changed again since.
        """
        document = self._applied_document(plan)
        begun = self._running(document.target, document.first_run or ExpRun(0, 0))
        safe = self._safe_run(document.target, begun.links)
        first = first_run or safe.run
        refuse_unsafe(document.target, first, safe)
        running = self._running(document.target, first)
        made = compensating_links(document, running.links, first_run=first)
        update = made.plan(running.links)
        if not update.operations:
            raise ConflictError(
                f"from {first} on {document.target} has nothing left of plan {document.hash[:12]} to make up for"
            )
        purpose = f"make up for plan {document.hash[:12]} from {first} on"
        if made.superseded:
            purpose += f"; changed again since, and left: {', '.join(sorted(made.superseded))}"
        planned = self._document(PlanKind.running_update, running, plan=update, purpose=purpose)
        return self._fresh(replace(planned, first_run=first, mode=UpdateMode.allow_closed, safe_run=safe))

    def _running(self, target: str, first_run: ExpRun) -> TagReading:
        reading = read_tag(self._conditions, target, IoV.since(first_run))
        reading.require(TagState.RUNNING, "a running update")
        return reading
