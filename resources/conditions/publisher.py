"""The publisher: plan, approve, apply, verify, finalize or take back. The only way content of tags is to be changed."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from b2cal_core.errors import CalibrationError, ConfigurationError, ConflictError, IntegrityError
from b2cal_core.payloads import AuditEntry, Lease, Release
from b2cal_core.plans import PlanDocument, PlanKind
from b2cal_core.ports import ConditionsDB, SafeRunSource
from b2cal_core.provenance import require_complete
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV
from resources.conditions.edit_planning import EditPlanner
from resources.conditions.planning import refuse_unsafe
from resources.conditions.publish_log import APPROVE, FINALIZE, VERIFY, PlanRecord
from resources.conditions.update_planning import UpdatePlanner
from resources.conditions.verification import Verification, refuse_discrepancies, verified

_LOG = logging.getLogger(__name__)
_FIRST_PAUSE = 0.25
"""Seconds; each pause is twice as long as the one before."""


class Publisher(UpdatePlanner, EditPlanner):
    """Makes plans and carries them out.

    Args:
        conditions: the database with the tags.
        safe_runs: who knows which data were processed; the latest run counts.
        holder: named by the lease. Two publishers of one name do not keep each other out; by default it is the plan, so
            that whoever carries on with the plan of a publisher that was killed need not wait for its lease to run out.
        lease_seconds: how long others wait for a publisher that was killed.
        four_eyes: the approver must be another person than the author, and have approved just this plan before.
        sleep: waits between attempts to read back from a database with caches.
    """

    def __init__(
        self,
        conditions: ConditionsDB,
        safe_runs: Sequence[SafeRunSource] = (),
        *,
        holder: str | None = None,
        lease_seconds: float = 300,
        four_eyes: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(conditions, safe_runs)
        self._holder = holder
        self._lease_seconds, self._four_eyes, self._sleep = lease_seconds, four_eyes, sleep

    def approve(self, document: PlanDocument, release: Release) -> AuditEntry:
        """Note that ``release.approver`` has looked at just this plan and agrees.

        Raises:
            ConfigurationError: author, approver or reason is missing, or one person is both where two are wanted.
        """
        self._require_release(release)
        return self._note(document, APPROVE, release, operations=len(document.plan.operations))

    def apply(self, document: PlanDocument, release: Release) -> tuple[TagIov, ...]:
        """Carry a plan out and read it back; returns the links it closed or created.

        Asked again, it only reads back; after a crash it completes what was broken off.

        Raises:
            ConfigurationError: author, approver or reason is missing, or the approval.
            ConflictError: the target was changed after the plan was made, somebody else is changing it, or a run the
                plan changes is no longer safe; nothing was changed.
            DataError: a payload has no complete provenance; nothing was changed.
            IntegrityError: the file of a payload is damaged, then nothing was changed; or the target does not hold what
                the plan says.
        """
        self._require_release(release)
        record = self._log.plans(document.target).get(document.hash)
        if record is None or record.applied is None:
            self._require_approval(document, release, record)
            self._require_provenance(document)
            self._require_readable(document)
            return self._apply_alone(document, release)
        self._refuse_changed_back(self._applied_document(document))
        found = self.verify(document)
        refuse_discrepancies(document, found)
        if record.line(VERIFY) is None:  # the process that applied it ended before it could say so
            self._note(document, VERIFY, release, visibility=found.visibility)
        links, names = self._conditions.list_iovs(document.target, document.touched), document.names
        return tuple(link for link in links if link.name in names)

    def verify(self, document: PlanDocument) -> Verification:
        """Read back whether the target holds what an applied plan says."""
        return verified(self._conditions, document, self._log)

    def finalize(self, plan: PlanDocument | str, release: Release) -> AuditEntry:
        """Declare that an applied plan, or the one whose hash begins so, stays: later it can only be made up for."""
        self._require_release(release)
        return self._note(self._applied_document(plan), FINALIZE, release)

    def rollback(self, plan: PlanDocument | str, release: Release) -> tuple[TagIov, ...]:
        """Take a plan back that is not final; the tag is then as it was before. See ``plan_rollback`` and ``apply``."""
        return self.apply(self.plan_rollback(plan), release)

    def history(self, target: str) -> tuple[PlanRecord, ...]:
        """The plans of a tag that the audit log tells of, oldest first."""
        return tuple(self._log.plans(target).values())

    def _refuse_changed_back(self, document: PlanDocument) -> None:
        """Raise ``ConflictError`` when an applied plan has no effect any more, though nobody took it back by a plan."""
        if self._conditions.fingerprint(document.target) == document.fingerprint != document.predicted:
            raise ConflictError(
                f"plan {document.hash[:12]} was applied to {document.target} before, and the tag was changed back"
                " since; make a new plan. Nothing was changed"
            )

    def _apply_alone(self, document: PlanDocument, release: Release) -> tuple[TagIov, ...]:
        with self._leased(document) as lease:
            self._require_still_safe(document)
            links = self._conditions.apply(document, release, lease=lease)
            found = self._read_back(document)
        refuse_discrepancies(document, found)
        self._note(document, VERIFY, release, visibility=found.visibility)
        return links

    @contextmanager
    def _leased(self, document: PlanDocument) -> Iterator[Lease]:
        tag, holder = document.target, self._holder or f"plan {document.hash}"
        lease = self._conditions.lease(tag, holder=holder, seconds=self._lease_seconds)
        try:
            yield lease
        finally:
            try:
                self._conditions.end_lease(lease)
            except CalibrationError as error:  # must not hide how the publish ended
                _LOG.warning("the lease on %s was not given back (%s); it runs out at %s", tag, error, lease.expires)

    def _require_still_safe(self, document: PlanDocument) -> None:
        """The last look, under the lease, at what was processed, ended or begun since the plan was made."""
        target, first_run = document.target, document.first_run
        if document.kind is PlanKind.edit:
            return
        if first_run is None:
            raise ConfigurationError(f"the plan for {target} does not say from which run on it is; make a new plan")
        if document.kind is PlanKind.rollback:
            self._refuse_final(target, document.undoes or "", first_run)
        elif document.predicted == document.fingerprint or self._conditions.fingerprint(target) != document.predicted:
            # Otherwise the change was made, and only its line in the log was lost; it must be completed.
            links = self._conditions.list_iovs(target, IoV.since(first_run))
            refuse_unsafe(target, first_run, self._safe_run(target, links))

    def _read_back(self, document: PlanDocument) -> Verification:
        """Read back until all is there, or as long as caches may show the state before."""
        found, waited, pause = self.verify(document), 0.0, _FIRST_PAUSE
        while found.discrepancies and waited < self._conditions.capabilities.cache_delay_seconds:
            self._sleep(pause)
            waited, pause = waited + pause, pause * 2
            found = self.verify(document)
        return found

    def _require_release(self, release: Release) -> None:
        release.require_complete()
        if self._four_eyes and _is_same(release.author, release.approver):
            raise ConfigurationError(
                f"{release.author} cannot approve an own plan here; ask another person. Nothing was changed"
            )

    def _require_approval(self, document: PlanDocument, release: Release, record: PlanRecord | None) -> None:
        lines = record.lines if record else ()
        approvers = {entry.approver for entry in lines if entry.action == APPROVE}
        if self._four_eyes and not any(_is_same(release.approver, approver) for approver in approvers):
            raise ConfigurationError(
                f"{release.approver} has not approved plan {document.hash[:12]}"
                f" (approved by: {', '.join(sorted(approvers)) or 'nobody'}); have it approved first, with"
                " `b2cal cdb approve`. Nothing was changed"
            )

    def _require_provenance(self, document: PlanDocument) -> None:
        """Before the lease and before anything is written; the database looks again."""
        if document.kind is not PlanKind.running_update:
            return
        wanted = {(name, md5) for name, _, md5 in document.checksums}
        require_complete(wanted, self._conditions.provenance(wanted))

    def _require_readable(self, document: PlanDocument) -> None:
        """A payload whose file is lost or damaged must not become valid for anybody."""
        known = self._conditions.payloads_of((name, revision) for name, revision, _ in document.checksums)
        for payload in known.values():  # one that is not there at all is refused by the database
            try:
                self._conditions.payload_file(payload)
            except IntegrityError as error:
                raise IntegrityError(f"{error}. Nothing was changed in {document.target}") from error

    def _note(self, document: PlanDocument, action: str, release: Release, **detail: object) -> AuditEntry:
        return self._conditions.note(
            document.target, action=action, release=release, detail=json.dumps(detail), plan_hash=document.hash
        )


def _is_same(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()
