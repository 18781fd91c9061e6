"""Publishing a bucket: its staging tag is brought into the target tag, once, and read back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from b2cal_assets.staging import content_hash, ensure_running, freeze, links_of
from b2cal_assets.workshop import PlanStory, Publishing
from b2cal_core.buckets import Bucket
from b2cal_core.errors import ConflictError, DataError, IntegrityError
from b2cal_core.payloads import Release
from b2cal_core.plans import PlanDocument
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov, UpdateMode, UpdateRefused
from b2cal_core.ranges import IoV, IoVSet

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published.

    Attributes:
        document: the plan that brought it in; ``None`` when that is not known any more.
        applied_at: when that was carried out, in UTC; ``None`` when it is not known.
        applied_now: whether it was carried out now, and not by a former attempt.
        links: what the target has now of the bucket's names, from the bucket's first run on.
        before: what it had of the touched names, from the bucket's first run on, before the plan was carried out.
    """

    target: str
    staging: str
    document: PlanDocument | None
    applied_at: datetime | None
    applied_now: bool
    links: tuple[TagIov, ...]
    before: tuple[TagIov, ...] = ()


@dataclass(frozen=True, slots=True)
class BucketPublisher:
    """Publishes one bucket.

    Attributes:
        mode: what the update may do with payloads that end.
        release: who publishes, who approved, and why.
    """

    conditions: ConditionsDB
    publisher: Publishing
    bucket: Bucket
    mode: UpdateMode
    release: Release

    def publish(self, staging: str, target: str) -> Publication:
        """Bring the staging tag into the target; harmless when that was done before, whoever was killed on the way.

        Raises:
            ConflictError: the update breaks a rule, or others keep changing the target; nothing was changed.
            DataError: the staging tag is empty, or a payload has no complete provenance; nothing was changed.
            IntegrityError: the target does not hold afterwards what was planned.
        """
        wanted = links_of(self.conditions, staging)
        if not wanted:
            raise DataError(f"staging tag {staging} holds nothing to publish; calibrate the bucket first")
        freeze(self.conditions, staging)
        ensure_running(self.conditions, target, "published constants")
        # Buckets published since have ended what was open; what counts is that the runs of this one have their
        # constants.
        if not self._missing(target, wanted, within=self.bucket.iov):
            links = self._published(target, wanted)
            return self._told(Publication(target, staging, None, None, applied_now=False, links=links))
        document, before = self._apply(staging, target)
        missing = self._missing(target, wanted, within=IoV.since(self.bucket.first))
        if missing:
            lost = ", ".join(f"{link.name} {link.iov}" for link in missing[:5])
            raise IntegrityError(
                f"tag {target} does not hold {lost} after publishing {staging}; the administrator must look"
            )
        links = self._published(target, wanted)
        return self._told(Publication(target, staging, document, None, applied_now=True, links=links, before=before))

    def _told(self, publication: Publication) -> Publication:
        """The same with what the log of the target tells of it."""
        story = story_of(self.publisher, publication.staging, publication.target)
        if story is None or story.applied is None:
            return publication
        return replace(publication, document=story.document, applied_at=story.applied.when)

    def _apply(self, staging: str, target: str) -> tuple[PlanDocument, tuple[TagIov, ...]]:
        for attempt in range(1, _ATTEMPTS + 1):
            document = self._plan(staging, target)
            before = self.conditions.list_iovs(target, IoV.since(self.bucket.first))
            try:
                self.publisher.approve(document, self.release)  # the sign-offs are the approval
                self.publisher.apply(document, self.release)
            except ConflictError:  # somebody published in between: what was planned may be wrong now, so plan again
                if attempt == _ATTEMPTS:
                    raise
            else:
                return document, tuple(link for link in before if link.name in document.names)
        raise ConflictError(f"tag {target} kept changing while {staging} was to be published; start it again")

    def _plan(self, staging: str, target: str) -> PlanDocument:
        purpose = f"publish bucket {self.bucket.key}"
        try:
            return self.publisher.plan_update(
                target, staging, first_run=self.bucket.first, mode=self.mode, purpose=purpose
            )
        except UpdateRefused:
            raise
        except ConflictError as error:
            late = [
                link
                for link in self.conditions.list_iovs(target, IoV.since(self.bucket.first))
                if link.iov.start >= self.bucket.first.edge
            ]
            if not late:
                raise
            raise ConflictError(
                f"{target} has constants for {self.bucket.first} and later already, and a running tag is never changed"
                " backwards; bring other constants for these runs into another target tag, by a campaign of its own."
                f" {error}"
            ) from error

    def _published(self, target: str, wanted: Sequence[TagIov]) -> tuple[TagIov, ...]:
        since = IoV.since(self.bucket.first)  # a running tag only grows, and what is before is not of this bucket
        return links_of(self.conditions, target, {link.name for link in wanted}, within=since)

    def _missing(self, target: str, wanted: Sequence[TagIov], *, within: IoV) -> tuple[TagIov, ...]:
        """Links whose payload is not valid in the target wherever in ``within`` the staging tag has it."""
        present: dict[tuple[str, int], list[IoV]] = {}
        for link in self.conditions.list_iovs(target, within):
            present.setdefault((link.name, link.revision), []).append(link.iov)
        held = {key: IoVSet(iovs, allow_overlaps=True) for key, iovs in present.items()}
        nothing = IoVSet()
        return tuple(
            link
            for link in wanted
            if (iov := link.iov & within) is not None
            and held.get((link.name, link.revision), nothing).missing_from(iov)
        )


def story_of(publisher: Publishing, staging: str, target: str) -> PlanStory | None:
    """What is known of the plan that brought the staging tag into the target and holds; ``None`` when there is none."""
    for story in reversed(publisher.history(target)):
        applied = story.applied
        if applied is None or story.undone_by is not None or staging not in applied.detail:
            continue  # reading a plan takes longer than looking whether it names the tag at all
        if story.document is not None and story.document.staging == staging:
            return story
    return None


def refuse_unrecorded(
    conditions: ConditionsDB, staging: str, recorded: Mapping[str, tuple[Sequence[str], str]]
) -> None:
    """Raise unless the staging tag holds exactly what was validated and signed off.

    ``recorded`` is calibration to the names of its payloads and the hash of their content.
    """
    for calibration, (names, content) in recorded.items():
        if content_hash(conditions, links_of(conditions, staging, names)) != content:
            raise ConflictError(
                f"staging tag {staging} does not hold what {calibration} made and was signed off for; "
                "run that calibration again for the bucket"
            )
    known = {name for names, _ in recorded.values() for name in names}
    strangers = sorted({link.name for link in conditions.list_iovs(staging)} - known)
    if strangers:
        raise ConflictError(
            f"staging tag {staging} holds payloads nobody signed off: {', '.join(strangers)}; remove them"
        )
