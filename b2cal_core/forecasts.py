"""Will a bucket that is filling have enough events for every calibration when it closes, and when would it?

Data are taken to go on as they came since the bucket began, breaks included, one that lasts until now too. When that
has lasted longer than the bucket was filling, data taking stands still, and nobody knows the time of anything.
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
        enough_at: when it has as many as it wants; ``None`` for never at this rate, or while data taking stands still.
        at_closing: how many it has when the bucket closes; ``None`` when nothing tells that.
    """

    calibration: str
    events: int
    wanted: int
    per_hour: float
    enough_at: datetime | None
    at_closing: int | None

    @property
    def will_do(self) -> bool | None:
        """Whether the bucket will have enough; ``None`` when nothing tells that, and there is not yet."""
        if self.events >= self.wanted:
            return True
        return None if self.at_closing is None else self.at_closing >= self.wanted


def stands_still(records: Sequence[RunRecord], *, now: datetime) -> bool:
    """Whether the last of the runs ended longer ago than all of them took together."""
    began, ended = _filled(records)
    return now - ended > ended - began


def closing_time(records: Sequence[RunRecord], policy: BucketPolicy, *, now: datetime) -> datetime | None:
    """When a bucket that waits for more runs closes, not before now; ``None`` when nothing tells.

    That is so when it is closed by hand or when its experiment is over, when nothing that counts comes, and while data
    taking stands still.

    Args:
        records: the runs that wait in it, in order; it is not full.
        policy: when it is.
        now: in UTC.
    """
    counted = [record for record in records if policy.counts(record)]
    if not counted or stands_still(records, now=now):
        return None
    began, now = _span(records, now)
    if policy.hours is not None:
        return max(counted[0].started + policy.hours * _HOUR, now)  # only another run closes it
    filling = _filling(counted, policy)
    return None if filling is None else _reached(*filling, began, now)


def _filling(counted: Sequence[RunRecord], policy: BucketPolicy) -> tuple[int, int] | None:
    """What the bucket has of what closes it, and how much does; ``None`` when nothing that comes with runs does."""
    if policy.runs is not None:
        return len(counted), policy.runs
    if policy.events is not None:
        return sum(record.events(policy.events_of) for record in counted), policy.events
    return None


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
    growth = _growth(records, policy, now=now)
    still = stands_still(records, now=now)
    began, now = _filled(records) if still else _span(records, now)
    found = []
    for one in settings:
        if one.name not in wanted:
            continue
        filters = {name: one.input_data_filters.get(name, ()) for name in sorted(one.input_data_names)}
        chosen = select_files(records, filters, data_format="raw")
        events = sum(selected.file.events for files in chosen.values() for selected in files)
        per_hour = events / max((now - began) / _HOUR, 1e-9)
        later = None if growth is None else round(events * growth)
        reached = None if still else _reached(events, wanted[one.name], began, now)
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
    growth = _growth(records, policy, now=now) if records else None
    if growth is None or growth > 2:  # noqa: PLR2004 (half of it)
        return ()
    return tuple(one for one in forecasts(records, wanted, settings, policy, now=now) if one.will_do is False)


def _growth(records: Sequence[RunRecord], policy: BucketPolicy, *, now: datetime) -> float | None:
    """How many times what the bucket has it will have when it closes; ``None`` when nothing tells that."""
    counted = [record for record in records if policy.counts(record)]
    filling = _filling(counted, policy)
    if filling is not None:
        has, needs = filling
        return max(needs / has, 1.0) if has else None
    closes = closing_time(records, policy, now=now)
    if closes is None:
        return None
    began, now = _span(records, now)
    return max((closes - began) / (now - began), 1.0)


def _filled(records: Sequence[RunRecord]) -> tuple[datetime, datetime]:
    """From the begin of the first run to the end of the last."""
    return min(record.started for record in records), max(record.ended for record in records)


def _span(records: Sequence[RunRecord], now: datetime) -> tuple[datetime, datetime]:
    """From the begin of the first run to now, or to the end of the last where a clock is behind that."""
    began, ended = _filled(records)
    return began, max(now, ended)


def _reached(has: int, needs: int, began: datetime, now: datetime) -> datetime | None:
    """When there is as much as is needed, at the rate at which it came; now when there is, ``None`` for never."""
    if has >= needs:
        return now
    if not has:
        return None
    ahead = (now - began) * ((needs - has) / has)
    return now + ahead if ahead <= _LONGEST else None
