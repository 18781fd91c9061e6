"""What is done about a calibration that has not enough data in a bucket."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from b2cal_core.buckets import Bucket
from b2cal_core.remedies import Remedy
from b2cal_core.settings import asset_name
from b2cal_core.verdicts import RULE_AUTHOR

SHORTAGE_RULE = f"{RULE_AUTHOR}not_enough_data"
"""Who chooses where the campaign says what is done."""


@dataclass(frozen=True, slots=True)
class ShortageChoice:
    """What was chosen for a calibration in a bucket, as the append-only log keeps it.

    Attributes:
        author: a person, or ``SHORTAGE_RULE``.
        reason: of a person, or what the algorithm answered.
    """

    campaign: str
    bucket: str
    calibration: str
    remedy: Remedy
    author: str
    reason: str
    when: datetime


def standing_remedy(choices: Sequence[ShortageChoice]) -> Remedy:
    """What holds after these choices, in order; at first the data of the bucket alone."""
    return choices[-1].remedy if choices else Remedy.alone


def remedy_after(policy: Remedy, standing: Remedy) -> Remedy:
    """What is to be done when there was not enough data: what the campaign says, and once that has not helped, ask.

    Args:
        policy: of the campaign for the calibration.
        standing: what held when there was not enough.
    """
    return policy if standing is Remedy.alone and policy is not Remedy.alone else Remedy.ask


def joined_bucket(remedy: Remedy, bucket: Bucket, buckets: Iterable[Bucket]) -> Bucket | None:
    """The bucket whose data are taken as well; ``None`` when the remedy wants none, or there is none.

    Args:
        remedy: the one that holds.
        bucket: the one that lacks data.
        buckets: all of the campaign.
    """
    if remedy is Remedy.merge:
        return max((other for other in buckets if other.last < bucket.first), default=None)
    if remedy is Remedy.extend:
        return min((other for other in buckets if other.first > bucket.last), default=None)
    return None


def asks_a_person(
    choices: Sequence[ShortageChoice], bucket: Bucket, buckets: Iterable[Bucket], *, is_last: bool
) -> bool:
    """Whether a calibration that had not enough data waits until a person has chosen what is done.

    Args:
        choices: all for the calibration in the bucket, in order.
        bucket: the one that lacks data.
        buckets: all of the campaign.
        is_last: no bucket will follow, as ``Campaign.ends_in`` tells.
    """
    remedy = standing_remedy(choices)
    if remedy in {Remedy.alone, Remedy.reuse} or joined_bucket(remedy, bucket, buckets) is not None:
        return False
    return remedy is not Remedy.extend or is_last


def reasons_to_wait(
    choices: Sequence[ShortageChoice], bucket: Bucket, buckets: Iterable[Bucket], *, is_last: bool
) -> tuple[str, ...]:
    """Why a calibration may not start, since it had not enough data before; nothing when it may.

    Args:
        choices: all for the calibration in the bucket, in order.
        bucket: the one that lacks data.
        buckets: all of the campaign.
        is_last: no bucket will follow.
    """
    remedy, known = standing_remedy(choices), tuple(buckets)
    if remedy in {Remedy.alone, Remedy.reuse} or joined_bucket(remedy, bucket, known) is not None:
        return ()
    last = choices[-1]
    what = f"{last.calibration} has not enough data in {bucket.key}"
    choose = _command(last, bucket, leaving_out={remedy} | ({Remedy.extend} if is_last else set()))
    if not asks_a_person(choices, bucket, known, is_last=is_last):
        waits = f"{what} and goes on with those of the next bucket when that is closed"
        return (f"{waits}; choose something else: {choose}; or close it: b2cal bucket close {last.campaign}",)
    side = {Remedy.merge: "before", Remedy.extend: "after it"}.get(remedy)
    more = f" ({last.reason})" if side is None else f", and there is no bucket {side} to take data from"
    return (f"{what}{more}; choose what is done: {choose}",)


def _command(last: ShortageChoice, bucket: Bucket, *, leaving_out: set[Remedy]) -> str:
    """The command by which a person chooses, with what can be had."""
    offered = [one for one in (Remedy.merge, Remedy.extend, Remedy.reuse) if one not in leaving_out]
    place = f"{last.campaign} {bucket.key} {asset_name(last.calibration)}"
    return f'b2cal bucket data {place} {"|".join(offered)} --reason "…"'
