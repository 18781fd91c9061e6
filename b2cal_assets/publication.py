"""Publishing a bucket: its staging tag is brought into the target tag, once, and read back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from b2cal_assets.staging import content_hash, ensure_running, freeze, links_of
from b2cal_core.errors import ConflictError, DataError, IntegrityError
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov, UpdateMode, UpdatePlan, UpdateRefused
from b2cal_core.ranges import ExpRun, IoV

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published; ``plan`` is ``None`` when the target had it all already."""

    target: str
    staging: str
    plan: UpdatePlan | None
    links: tuple[TagIov, ...]


def publish(
    conditions: ConditionsDB,
    staging: str,
    target: str,
    *,
    first_run: ExpRun,
    mode: UpdateMode,
    author: str,
    reason: str,
) -> Publication:
    """Bring the staging tag into the target; harmless when that was done before, whoever was killed on the way.

    Raises:
        ConflictError: the update breaks a rule, or others keep changing the target; nothing was changed.
        IntegrityError: the target does not hold afterwards what was planned.
    """
    if conditions.get_tag(staging) is None or not conditions.list_iovs(staging):
        raise DataError(f"staging tag {staging} holds nothing to publish; calibrate the bucket first")
    freeze(conditions, staging)
    ensure_running(conditions, target, "published constants")
    wanted = tuple(conditions.list_iovs(staging))
    plan = None
    if not _holds(conditions, target, wanted, first_run=first_run):
        plan = _apply(conditions, (staging, target), first_run, mode=mode, author=author, reason=reason)
    missing = _missing(conditions, target, wanted, first_run=first_run)
    if missing:
        lost = ", ".join(f"{link.name} {link.iov}" for link in missing[:5])
        raise IntegrityError(
            f"tag {target} does not hold {lost} after publishing {staging}; the administrator must look"
        )
    names = {link.name for link in wanted}
    return Publication(target, staging, plan, links_of(conditions, target, names))


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
    for attempt in range(_ATTEMPTS):
        plan, fingerprint = conditions.plan(target, staging, first_run, mode)
        try:
            conditions.apply(plan, target=target, fingerprint=fingerprint, author=author, reason=reason)
        except UpdateRefused:
            raise
        except ConflictError:  # somebody published in between: what was planned may be wrong now, so plan again
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return plan
    raise AssertionError("not reached: the last attempt returns or raises")


def _holds(conditions: ConditionsDB, target: str, wanted: Sequence[TagIov], *, first_run: ExpRun) -> bool:
    return not _missing(conditions, target, wanted, first_run=first_run)


def _missing(
    conditions: ConditionsDB, target: str, wanted: Sequence[TagIov], *, first_run: ExpRun
) -> tuple[TagIov, ...]:
    """Links whose payload is not valid in the target wherever the staging tag, from ``first_run`` on, has it."""
    present: dict[tuple[str, int], list[IoV]] = {}
    for link in conditions.list_iovs(target):
        present.setdefault((link.name, link.revision), []).append(link.iov)
    future = IoV(first_run.exp, first_run.run, -1, -1)
    clipped = ((link, link.iov & future) for link in wanted)
    return tuple(
        link
        for link, iov in clipped
        if iov is not None and not any(held.covers(iov) for held in present.get((link.name, link.revision), ()))
    )
