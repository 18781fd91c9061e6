"""Will a bucket that is filling have enough events for every calibration when it closes, and when would it?

Data are taken to go on as they came since the bucket began, breaks included, one that lasts until now too.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from b2cal_core.buckets import BucketPolicy
from b2cal_core.runs import RunRecord, select_files
from b2cal_core.settings import CalibrationSettings

_HOUR = timedelta(hours=1)
_LONGEST = timedelta(days=3650)
"""What lies further ahead is told as never."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a calibration can expect of the bucket.

    Attributes:
        events: that it has now, in all its inputs.
        wanted: that it wants.
        per_hour: how many come in an hour.
        enough_at: when it has as many as it wants; ``None`` for never at this rate.
        at_closing: how many it has when the bucket closes; ``None`` when nothing tells when that is.
    """

    calibration: str
    events: int
    wanted: int
    per_hour: float
    enough_at: datetime | None
    at_closing: int | None

    @property
    def will_do(self) -> bool | None:
        """Whether the bucket will have enough; ``None`` when nothing tells when it closes, and there is not yet."""
        if self.events >= self.wanted:
            return True
        return None if self.at_closing is None else self.at_closing >= self.wanted


def closing_time(records: Sequence[RunRecord], policy: BucketPolicy, *, now: datetime) -> datetime | None:
    """When a bucket that waits for more runs closes, not before now; ``None`` when nothing tells.

    That is so when it is closed by hand or when its experiment is over, and when nothing that counts comes.

    Args:
        records: the runs that wait in it, in order; it is not full.
        policy: when it is.
        now: in UTC.
    """
    counted = [record for record in records if policy.counts(record)]
    if not counted or policy.by_hand_only or policy.whole_experiments:
        return None
    began, now = _span(records, now)
    if policy.hours is not None:
        return max(counted[0].started + policy.hours * _HOUR, now)  # only another run closes it
    events = sum(record.events(policy.events_of) for record in counted)
    has, needs = (len(counted), policy.runs) if policy.runs is not None else (events, policy.events or 0)
    return _reached(has, needs, began, now)


def forecasts(
    records: Sequence[RunRecord],
    wanted: Mapping[str, int],
    settings: Iterable[CalibrationSettings],
    policy: BucketPolicy,
    *,
    now: datetime,
) -> tuple[Forecast, ...]:
    """What each calibration that wants a number of events can expect.

    Args:
        records: the runs that wait in the bucket, in order.
        wanted: calibration to the events that it wants of a bucket, over all its inputs.
        settings: of the campaign's calibrations; those that read cDST files are judged by the raw files they come from.
        policy: when the bucket closes.
        now: in UTC.
    """
    if not records:
        return ()
    closes = closing_time(records, policy, now=now)
    began, now = _span(records, now)
    found = []
    for one in settings:
        if one.name not in wanted:
            continue
        filters = {name: one.input_data_filters.get(name, ()) for name in sorted(one.input_data_names)}
        chosen = select_files(records, filters, data_format="raw")
        events = sum(selected.file.events for files in chosen.values() for selected in files)
        per_hour = events / max((now - began) / _HOUR, 1e-9)
        later = None if closes is None else events + round(per_hour * max((closes - now) / _HOUR, 0.0))
        reached = _reached(events, wanted[one.name], began, now)
        found.append(Forecast(one.name, events, wanted[one.name], per_hour, reached, later))
    return tuple(found)


def shortfalls(
    records: Sequence[RunRecord],
    wanted: Mapping[str, int],
    settings: Iterable[CalibrationSettings],
    policy: BucketPolicy,
    *,
    now: datetime,
) -> tuple[Forecast, ...]:
    """The forecasts, as of ``forecasts``, of what will not have enough; none in the first half of the bucket.

    A few runs at the beginning tell too little to trouble people with.
    """
    closes = closing_time(records, policy, now=now)
    if closes is None:
        return ()
    began, at = _span(records, now)
    if at - began < closes - at:
        return ()
    return tuple(one for one in forecasts(records, wanted, settings, policy, now=now) if one.will_do is False)


def _span(records: Sequence[RunRecord], now: datetime) -> tuple[datetime, datetime]:
    """From the begin of the first run to now, or to the end of the last where a clock is behind that."""
    return min(record.started for record in records), max(now, *(record.ended for record in records))


def _reached(has: int, needs: int, began: datetime, now: datetime) -> datetime | None:
    """When there is as much as is needed, at the rate at which it came; now when there is, ``None`` for never."""
    if has >= needs:
        return now
    if not has:
        return None
    ahead = (now - began) * ((needs - has) / has)
    return now + ahead if ahead <= _LONGEST else None
