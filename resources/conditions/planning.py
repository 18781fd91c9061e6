"""What all plans have in common: how a document is made, which runs are safe, and what became of earlier plans."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count

from b2cal_core.errors import ConfigurationError, ConflictError, DataError
from b2cal_core.first_safe_run import first_safe_run
from b2cal_core.plans import PlanDocument, PlanKind, SafeRun, after
from b2cal_core.ports import ConditionsDB, SafeRunSource
from b2cal_core.publishing import TagIov, UpdatePlan, applied
from b2cal_core.ranges import ExpRun
from resources.conditions.publish_log import APPLY, FINALIZE, PublishLog
from resources.conditions.tag_reading import TagReading


class Planner:
    """Knows what a plan is made from.

    Args:
        conditions: the database with the tags.
        safe_runs: who knows which data were processed; the latest run counts.
    """

    def __init__(self, conditions: ConditionsDB, safe_runs: Sequence[SafeRunSource] = ()) -> None:
        self._conditions, self._safe_runs = conditions, tuple(safe_runs)
        self._log = PublishLog(conditions)

    def first_safe_run(self, target: str) -> SafeRun:
        """The first run of the tag whose constants may still change, and why no earlier one."""
        return self._safe_run(target, self._conditions.list_iovs(target))

    def final_reason(self, document: PlanDocument) -> str | None:
        """Why a running update can no longer be taken back; ``None`` while it can."""
        return self._final_reason(document.target, document.hash, document.first_run)

    def _final_reason(self, target: str, plan_hash: str, first_run: ExpRun | None) -> str | None:
        record = self._log.plans(target).get(plan_hash)
        if record is not None and (entry := record.line(FINALIZE)) is not None:
            return f"{entry.author} declared it final"
        processed = self._last_processed(target)
        if processed is not None and first_run is not None and processed[0] >= first_run:
            return f"{processed[0]} was processed since ({processed[1]})"
        return None

    def _refuse_final(self, target: str, plan_hash: str, first_run: ExpRun | None) -> None:
        if reason := self._final_reason(target, plan_hash, first_run):
            raise ConflictError(
                f"plan {plan_hash[:12]} for {target} is final: {reason}; make up for it from a later run on with a"
                " compensation. Nothing was changed"
            )

    def _safe_run(self, target: str, links: Iterable[TagIov]) -> SafeRun:
        return first_safe_run(links, self._last_processed(target))

    def _last_processed(self, target: str) -> tuple[ExpRun, str] | None:
        known = [found for source in self._safe_runs if (found := source.last_processed(target)) is not None]
        return max(known, key=lambda one: one[0], default=None)

    def _applied_document(self, plan: PlanDocument | str) -> PlanDocument:
        """The plan, given as it is or by its hash or the beginning of it, when it was applied and still holds."""
        document = self._by_hash(plan) if isinstance(plan, str) else plan
        record = self._log.plans(document.target).get(document.hash)
        if record is None or record.applied is None:
            raise ConfigurationError(f"plan {document.hash[:12]} was never applied to {document.target}")
        if record.undone_by is not None:
            raise ConflictError(
                f"plan {document.hash[:12]} was taken back from {document.target} already, by plan"
                f" {record.undone_by[:12]}"
            )
        return document

    def _by_hash(self, beginning: str) -> PlanDocument:
        lines = [entry for entry in self._conditions.audit() if entry.action == APPLY and entry.plan_hash]
        found = {entry.plan_hash: entry.tag for entry in lines if str(entry.plan_hash).startswith(beginning)}
        if not beginning or len(found) != 1:
            raise ConfigurationError(
                f"{len(found)} applied plans have a hash that begins with {beginning!r}, and one is wanted;"
                " `b2cal cdb history` lists them"
            )
        ((plan_hash, tag),) = found.items()
        document = self._log.plans(tag)[str(plan_hash)].document
        if document is None:
            raise ConfigurationError(f"the audit log does not hold plan {beginning}; give the plan's file instead")
        return document

    def _document(
        self,
        kind: PlanKind,
        reading: TagReading,
        *,
        plan: UpdatePlan,
        purpose: str,
        sources: Sequence[TagReading] = (),
    ) -> PlanDocument:
        """A plan with what it predicts and the checksums of what it adds."""
        document = PlanDocument(
            kind,
            reading.tag.name,
            tuple(source.mark for source in sources),
            fingerprint=reading.fingerprint,
            predicted=after(reading.fingerprint, reading.links, applied(reading.links, plan)),
            plan=plan,
            purpose=purpose,
        )
        return replace(document, checksums=self._checksums(document.created))

    def _checksums(self, created: Iterable[TagIov]) -> tuple[tuple[str, int, str], ...]:
        wanted = sorted({(link.name, link.revision) for link in created})
        payloads = self._conditions.payloads_of(wanted)
        if lost := [f"{name} revision {revision}" for name, revision in wanted if (name, revision) not in payloads]:
            raise DataError(f"the conditions database has no payload {', '.join(lost)}; upload it. Nothing was changed")
        return tuple((name, revision, payloads[name, revision].md5) for name, revision in wanted)

    def _fresh(self, document: PlanDocument) -> PlanDocument:
        """A document that differs from all that were applied.

        A tag may come back to what it was, by a rollback or otherwise; then the same change is a plan once more, and
        must not be taken for the one that was carried out.
        """
        known, purpose = self._log.plans(document.target), document.purpose
        for time in count(2):
            record = known.get(document.hash)
            if record is None or record.applied is None or document.predicted == document.fingerprint:
                break
            document = replace(document, purpose=f"{purpose} (time {time})")
        return document


def refuse_unsafe(target: str, first_run: ExpRun, safe: SafeRun) -> None:
    """Raise ``ConflictError`` when a running update from ``first_run`` on would change what must not change."""
    if first_run < safe.run:
        raise ConflictError(
            f"constants of {target} cannot change from {first_run} on: {safe.reason}. The first safe run is {safe.run};"
            " publish from there on, or into another tag. Nothing was changed"
        )
