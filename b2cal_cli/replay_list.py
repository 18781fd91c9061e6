"""The runs of a replay, and when each of them is registered, in the detector's own time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

from b2cal_core.runs import RunRecord
from b2cal_detector.drifts import generator

LATE = timedelta(hours=24)
"""How long after its end a late run is registered."""
LONGEST_PAUSE = timedelta(hours=12)
"""Longer ones, between experiments for instance, are replayed as this."""
_MOMENT = timedelta(seconds=1)
_GOOD, _BAD = "Good", "Bad For Alignment"


@dataclass(frozen=True, slots=True)
class Disorder:
    """Which part of the runs comes late, after the run that follows, or is bad: from 0 to 1 each, by chance.

    What becomes of a run follows from the seed and its number alone.
    """

    seed: int = 1
    late: float = 0.0
    out_of_order: float = 0.0
    bad: float = 0.0


@dataclass(frozen=True, slots=True)
class Arrival:
    """A run as it is registered, and how long after the end of the first run of the replay that is."""

    after: timedelta
    record: RunRecord


def arrivals(records: Iterable[RunRecord], disorder: Disorder) -> tuple[Arrival, ...]:
    """The runs in the order in which they are registered: each at its end, unless the disorder says otherwise."""
    ordered = sorted(records, key=lambda record: (record.ended, record.run))
    ends = _ends(ordered)
    found = []
    for number, (record, end) in enumerate(zip(ordered, ends, strict=True)):
        late, out_of_order, bad = generator(disorder.seed, "replay/disorder", *record.run).random(3).tolist()
        after = end
        if late < disorder.late:
            after += LATE
        elif out_of_order < disorder.out_of_order:
            after = ends[min(number + 1, len(ends) - 1)] + _MOMENT
        found.append(Arrival(after, _spoiled(record) if bad < disorder.bad else record))
    return tuple(sorted(found, key=lambda arrival: (arrival.after, arrival.record.run)))


def _ends(ordered: Sequence[RunRecord]) -> list[timedelta]:
    """When each run ends, from the end of the first on, without what pauses are too long."""
    ends = [timedelta(0)]
    for before, record in pairwise(ordered):
        ends.append(ends[-1] + min(record.ended - before.ended, LONGEST_PAUSE))
    return ends[: len(ordered)]


def _spoiled(record: RunRecord) -> RunRecord:
    """The run as it is when its data are found to be bad."""
    return replace(record, quality=frozenset(word for word in record.quality if not word.startswith(_GOOD)) | {_BAD})
