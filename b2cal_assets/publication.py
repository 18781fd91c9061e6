"""Publishing a bucket: its staging tag is brought into the target tag, once, and read back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from b2cal_assets.staging import content_hash, ensure_running, freeze, links_of
from b2cal_core.buckets import Bucket
from b2cal_core.errors import ConflictError, DataError, IntegrityError
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov, UpdateMode, UpdatePlan, UpdateRefused
from b2cal_core.ranges import ExpRun, IoV, IoVSet

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published; ``plan`` is ``None`` when the target had it all already."""

    target: str
    staging: str
    plan: UpdatePlan | None
    links: tuple[TagIov, ...]


def publish(
    conditions: ConditionsDB, staging: str, target: str, *, bucket: Bucket, mode: UpdateMode, author: str, reason: str
) -> Publication:
    """Bring a bucket's staging tag into the target; harmless when that was done before, whoever was killed on the way.

    Raises:
        ConflictError: the update breaks a rule, or others keep changing the target; nothing was changed.
        IntegrityError: the target does not hold afterwards what was planned.
    """
    if conditions.get_tag(staging) is None or not conditions.list_iovs(staging):
        raise DataError(f"staging tag {staging} holds nothing to publish; calibrate the bucket first")
    freeze(conditions, staging)
    ensure_running(conditions, target, "published constants")
    wanted = tuple(conditions.list_iovs(staging))
    # Buckets published since have ended what was open; what counts is that the runs of this one have their constants.
    if not _missing(conditions, target, wanted, within=bucket.iov):
        return Publication(target, staging, None, _published(conditions, target, wanted))
    plan = _apply(conditions, (staging, target), bucket.first, mode=mode, author=author, reason=reason)
    missing = _missing(conditions, target, wanted, within=IoV(bucket.first.exp, bucket.first.run, -1, -1))
    if missing:
        lost = ", ".join(f"{link.name} {link.iov}" for link in missing[:5])
        raise IntegrityError(
            f"tag {target} does not hold {lost} after publishing {staging}; the administrator must look"
        )
    return Publication(target, staging, plan, _published(conditions, target, wanted))


def _published(conditions: ConditionsDB, target: str, wanted: Sequence[TagIov]) -> tuple[TagIov, ...]:
    return links_of(conditions, target, {link.name for link in wanted})


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


def _apply(
    conditions: ConditionsDB, tags: tuple[str, str], first_run: ExpRun, *, mode: UpdateMode, author: str, reason: str
) -> UpdatePlan:
    staging, target = tags
    for attempt in range(1, _ATTEMPTS + 1):
        plan, fingerprint = _plan(conditions, tags, first_run, mode=mode)
        try:
            conditions.apply(plan, target=target, fingerprint=fingerprint, author=author, reason=reason)
        except ConflictError:  # somebody published in between: what was planned may be wrong now, so plan again
            if attempt == _ATTEMPTS:
                raise
        else:
            return plan
    raise ConflictError(f"tag {target} kept changing while {staging} was to be published; start it again")


def _plan(
    conditions: ConditionsDB, tags: tuple[str, str], first_run: ExpRun, *, mode: UpdateMode
) -> tuple[UpdatePlan, str]:
    staging, target = tags
    try:
        return conditions.plan(target, staging, first_run, mode)
    except UpdateRefused as error:
        late = [link for link in conditions.list_iovs(target) if link.iov.start >= (first_run.exp, first_run.run)]
        if not late:
            raise
        raise ConflictError(
            f"{target} has constants for {first_run} and later already, and a running tag is never changed backwards; "
            f"bring other constants for these runs into another target tag, by a campaign of its own. {error}"
        ) from error


def _missing(conditions: ConditionsDB, target: str, wanted: Sequence[TagIov], *, within: IoV) -> tuple[TagIov, ...]:
    """Links whose payload is not valid in the target wherever in ``within`` the staging tag has it."""
    present: dict[tuple[str, int], list[IoV]] = {}
    for link in conditions.list_iovs(target):
        present.setdefault((link.name, link.revision), []).append(link.iov)
    held = {key: IoVSet(iovs, allow_overlaps=True) for key, iovs in present.items()}
    nothing = IoVSet()
    return tuple(
        link
        for link in wanted
        if (iov := link.iov & within) is not None and held.get((link.name, link.revision), nothing).missing_from(iov)
    )
