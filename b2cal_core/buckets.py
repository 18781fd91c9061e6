"""Buckets: the blocks of runs that are calibrated together, and how runs are gathered into them.

A bucket is a closed range of runs of one experiment unless its policy says otherwise. Its key is made of the range,
padded with zeros so that keys sort as the runs do.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from b2cal_core.errors import ConfigurationError
from b2cal_core.filters import DATA_TAG, INPUT_DATA_FILTERS, category_of, is_selected
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import RunRecord

_KEY = re.compile(r"e(\d{4,})r(\d{5,})-e(\d{4,})r(\d{5,})")


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """The runs from ``first`` to ``last``, both included; ``label`` is a name for people."""

    first: ExpRun
    last: ExpRun
    label: str = ""

    def __post_init__(self) -> None:
        if self.last < self.first:
            msg = f"a bucket must not end ({self.last}) before it starts ({self.first})"
            raise ConfigurationError(msg)

    @property
    def key(self) -> str:
        """The partition key, for example ``e0012r00001-e0012r00350``."""
        (e1, r1), (e2, r2) = self.first, self.last
        return f"e{e1:04d}r{r1:05d}-e{e2:04d}r{r2:05d}"

    @classmethod
    def from_key(cls, key: str, label: str = "") -> Self:
        """The bucket with this key; ``ConfigurationError`` when the text is no key."""
        found = _KEY.fullmatch(key)
        if not found:
            msg = f"{key!r} is not a bucket key; keys look like e0012r00001-e0012r00350"
            raise ConfigurationError(msg)
        e1, r1, e2, r2 = map(int, found.groups())
        return cls(ExpRun(e1, r1), ExpRun(e2, r2), label)

    @property
    def iov(self) -> IoV:
        """The range as a closed IoV."""
        return IoV(*self.first, *self.last)

    def contains(self, run: ExpRun) -> bool:
        """Whether the run lies in the bucket."""
        return self.first <= run <= self.last


class LateRuns(StrEnum):
    """What becomes of runs that are registered when buckets around their place are closed already.

    ``reopen``: a bucket takes those in its range until it is published; what was made without them is then stale.
    ``next_bucket``: a closed bucket stays as it is; those between two buckets make another one there when they fill it.
    ``ignore``: neither. Between buckets ``reopen`` does as ``next_bucket`` does, since no bucket has their place.
    """

    reopen = "reopen"
    next_bucket = "next_bucket"
    ignore = "ignore"


@dataclass(frozen=True, slots=True)
class BookedBucket:
    """A bucket as it stands in the book; ``closed_at`` is in UTC."""

    bucket: Bucket
    closed_by: str
    closed_at: datetime


class BucketPolicy(BaseModel):
    """When a bucket is full: one rule (``runs``, ``events``, ``hours``, ``whole_experiments``), or by hand only.

    A run that fills the bucket belongs to it. Runs that do not pass ``counted``, and those of which no file is there
    yet, are carried along but do not count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: int | None = Field(default=None, ge=1, description="counted runs in a bucket")
    events: int | None = Field(default=None, ge=1, description="events of `events_of` in counted runs")
    events_of: str = Field(default="hadron_calib", description="data tag whose raw events are counted")
    hours: float | None = Field(default=None, gt=0, description="start of the first counted run to end of the last")
    whole_experiments: bool = Field(default=False, description="one bucket for each experiment, when it is over")
    cross_experiments: bool = False
    counted: tuple[str, ...] = Field(default=("physics",), description="filters that a counted run passes")
    late: LateRuns = Field(default=LateRuns.reopen, description="runs registered when their place was closed already")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [name for name in ("runs", "events", "hours") if getattr(self, name) is not None]
        given += ["whole_experiments"] if self.whole_experiments else []
        if len(given) > 1:
            msg = f"a bucket policy has one rule, got {' and '.join(given)}"
            raise ValueError(msg)
        if self.whole_experiments and self.cross_experiments:
            raise ValueError("a bucket is one whole experiment or crosses experiments; set one of the two")
        return self

    @field_validator("counted")
    @classmethod
    def _filters_of_runs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        of_files = [item for item in value if category_of(item) == DATA_TAG]
        if of_files:
            raise ValueError(f"a run is counted by what is true of all its data, not by {', '.join(of_files)}")
        return value

    @field_validator("events_of")
    @classmethod
    def _a_data_tag(cls, value: str) -> str:
        if value not in INPUT_DATA_FILTERS[DATA_TAG]:
            raise ValueError(f"{value!r} is no data tag; use one of {', '.join(INPUT_DATA_FILTERS[DATA_TAG])}")
        return value

    @property
    def by_hand_only(self) -> bool:
        """Whether no rule closes a bucket."""
        return not self.whole_experiments and self.runs is None and self.events is None and self.hours is None

    def counts(self, record: RunRecord) -> bool:
        """Whether the run helps to fill a bucket."""
        return bool(record.files) and is_selected(record.labels(), self.counted)

    def checked(self, bucket: Bucket) -> Bucket:
        """A bucket that a person closes; ``ConfigurationError`` when it crosses experiments though it must not."""
        if bucket.first.exp != bucket.last.exp and not self.cross_experiments:
            raise ConfigurationError(
                f"bucket {bucket.key} spans several experiments; close one for each, or set cross_experiments"
            )
        return bucket


@dataclass(slots=True)
class _Filling:
    """The bucket that runs are being added to."""

    policy: BucketPolicy
    records: list[RunRecord] = field(default_factory=list)
    counted: int = 0
    events: int = 0
    started: datetime | None = None
    lasts: timedelta = timedelta(0)

    def add(self, record: RunRecord) -> None:
        self.records.append(record)
        if self.policy.counts(record):
            self.counted += 1
            self.events += record.events(self.policy.events_of)
            self.started = self.started or record.started
            self.lasts = record.ended - self.started

    @property
    def is_full(self) -> bool:
        if self.policy.runs is not None:
            return self.counted >= self.policy.runs
        if self.policy.events is not None:
            return self.events >= self.policy.events
        return self.policy.hours is not None and self.lasts >= timedelta(hours=self.policy.hours)

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.records[0].run, self.records[-1].run)


@dataclass(frozen=True, slots=True)
class Formation:
    """What runs make up.

    Attributes:
        closed: new buckets that are full, disjoint and in order.
        waiting: runs that wait for the next bucket to fill.
        late: runs that no bucket has or awaits: they came when a later bucket was closed already, or their experiment
            ended without a counted run.
    """

    closed: tuple[Bucket, ...]
    waiting: tuple[RunRecord, ...]
    late: tuple[RunRecord, ...] = ()


def form_buckets(
    records: Iterable[RunRecord], policy: BucketPolicy, existing: Iterable[Bucket] = (), *, all_there: bool = False
) -> Formation:
    """Gather runs into buckets.

    Args:
        records: all runs known, in any order.
        policy: when a bucket is full; unless it crosses experiments, a run of a later one closes the bucket before it.
        existing: buckets formed or closed by hand earlier; they stay as they are and their runs are passed over.
        all_there: no more runs are awaited, so that the last of whole experiments is over too.
    """
    late, ahead = _split(sorted(records, key=lambda r: r.run.edge), sorted(existing))
    closed: list[Bucket] = []
    filling = _Filling(policy)
    for record in ahead:
        if _ends_before(filling, record):
            if filling.counted:
                closed.append(filling.bucket)
            else:
                late += filling.records
            filling = _Filling(policy)
        filling.add(record)
        if filling.is_full:
            closed.append(filling.bucket)
            filling = _Filling(policy)
    if all_there and policy.whole_experiments and filling.counted:
        closed.append(filling.bucket)
        filling = _Filling(policy)
    return Formation(tuple(closed), tuple(filling.records), tuple(late))


def form_late_buckets(
    late: Iterable[RunRecord], policy: BucketPolicy, existing: Iterable[Bucket]
) -> tuple[Bucket, ...]:
    """The buckets that late runs fill, each in the gap between two existing ones; none under ``ignore``.

    Nor is there any of whole experiments: nothing tells whether more of them come late, so a person closes those.

    Args:
        late: runs that no bucket has, before the end of the last one.
        policy: when a bucket is full.
        existing: all buckets there are.
    """
    if policy.late is LateRuns.ignore or policy.by_hand_only or policy.whole_experiments:
        return ()
    return tuple(b for runs in _by_gap(late, existing) for b in form_buckets(runs, policy).closed)


def close_late_by_hand(
    late: Iterable[RunRecord], policy: BucketPolicy, existing: Iterable[Bucket]
) -> tuple[Bucket, ...]:
    """The buckets that late runs make when a person closes them: one for each gap between existing buckets, or more."""
    return tuple(b for runs in _by_gap(late, existing) for b in close_by_hand(runs, policy))


def bucket_of(run: ExpRun, ordered: Sequence[Bucket]) -> Bucket | None:
    """The bucket that has the run's place, of buckets in order."""
    place = bisect_left(ordered, run.edge, key=lambda bucket: bucket.last.edge)
    return ordered[place] if place < len(ordered) and ordered[place].contains(run) else None


def gap_of(run: ExpRun, ordered: Sequence[Bucket]) -> IoV | None:
    """The runs around a run that no bucket has, up to the next bucket; ``None`` when one has it or none comes after it.

    Args:
        run: a run.
        ordered: the buckets in order.
    """
    place = bisect_left(ordered, run.edge, key=lambda bucket: bucket.last.edge)
    if place == len(ordered) or ordered[place].contains(run):
        return None
    start = (ordered[place - 1].last.exp, ordered[place - 1].last.run + 1) if place else (0, 0)
    return IoV.of_edges(start, ordered[place].first.edge)


def _by_gap(late: Iterable[RunRecord], existing: Iterable[Bucket]) -> Iterator[list[RunRecord]]:
    ordered = sorted(existing)
    placed = [(gap, record) for record in late if (gap := gap_of(record.run, ordered)) is not None]
    for _, group in groupby(sorted(placed, key=lambda pair: pair[1].run), key=lambda pair: pair[0]):
        yield [record for _, record in group]


def frozen_at(late: LateRuns, *, closed_at: datetime | None, published_at: datetime | None) -> datetime | None:
    """The moment by which a run must be registered to belong to a bucket that has its place.

    Args:
        late: what the campaign does with late runs.
        closed_at: when the bucket was booked; ``None`` for one that is not.
        published_at: when it was published; ``None`` when it was not.

    Returns:
        ``None`` while any run may still come.
    """
    return published_at if late is LateRuns.reopen else closed_at


def after_last(existing: Iterable[Bucket], within: IoV) -> IoV | None:
    """The part of ``within`` that comes after the last bucket; ``None`` when nothing is left of it."""
    last = max((bucket.last for bucket in existing), default=None)
    return within if last is None else within.after(last)


def close_by_hand(waiting: Sequence[RunRecord], policy: BucketPolicy) -> tuple[Bucket, ...]:
    """The buckets that waiting runs make when a person closes them: one, or one per experiment where none may cross."""
    ordered = sorted(record.run for record in waiting)
    groups = groupby(ordered, key=lambda run: None if policy.cross_experiments else run.exp)
    spans = (tuple(group) for _, group in groups)
    return tuple(Bucket(span[0], span[-1]) for span in spans)


def _split(ordered: Sequence[RunRecord], existing: Sequence[Bucket]) -> tuple[list[RunRecord], Sequence[RunRecord]]:
    """The runs before the end of the last bucket that are in none, and the runs after it."""
    if not existing:
        return [], ordered
    after = bisect_right(ordered, existing[-1].last.edge, key=lambda r: r.run.edge)
    ends = [bucket.last.edge for bucket in existing]
    missed = (r for r in ordered[:after] if not existing[bisect_left(ends, r.run.edge)].contains(r.run))
    return list(missed), ordered[after:]


def _ends_before(filling: _Filling, record: RunRecord) -> bool:
    """Whether the run is of another experiment than the bucket may have."""
    policy = filling.policy
    if not filling.records or policy.cross_experiments or policy.by_hand_only:
        return False
    return filling.records[-1].run.exp != record.run.exp
