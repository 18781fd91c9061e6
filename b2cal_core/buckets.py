"""Buckets: the blocks of runs that are calibrated together, and how runs are gathered into them.

A bucket is a closed range of runs of one experiment unless its policy says otherwise. Its key is made of the range,
padded with zeros so that keys sort as the runs do.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from b2cal_core.errors import ConfigurationError
from b2cal_core.filters import is_selected
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


class BucketPolicy(BaseModel):
    """When a bucket is full: one of ``runs``, ``events`` and ``hours`` says so, or none: closed by hand only.

    A run that fills the bucket belongs to it. Runs that do not pass ``counted`` are carried along but do not count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: int | None = Field(default=None, ge=1, description="counted runs in a bucket")
    events: int | None = Field(default=None, ge=1, description="events of `events_of` in counted runs")
    events_of: str = Field(default="hadron_calib", description="data tag whose raw events are counted")
    hours: float | None = Field(default=None, gt=0, description="start of the first run to end of the last")
    cross_experiments: bool = False
    counted: tuple[str, ...] = Field(default=("physics",), description="filters that a counted run passes")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        given = [name for name in ("runs", "events", "hours") if getattr(self, name) is not None]
        if len(given) > 1:
            msg = f"a bucket policy has one rule, got {' and '.join(given)}"
            raise ValueError(msg)
        return self

    def is_full(self, records: Sequence[RunRecord]) -> bool:
        """Whether these runs, in order, fill a bucket."""
        counted = [r for r in records if is_selected(r.labels(), self.counted)]
        if not counted:
            return False
        if self.runs is not None:
            return len(counted) >= self.runs
        if self.events is not None:
            return sum(r.events(self.events_of) for r in counted) >= self.events
        if self.hours is not None:
            return counted[-1].ended - counted[0].started >= timedelta(hours=self.hours)
        return False


@dataclass(frozen=True, slots=True)
class Formation:
    """Buckets that are full, in order, and the runs that wait for the next one to fill."""

    closed: tuple[Bucket, ...]
    waiting: tuple[RunRecord, ...]
    late: tuple[RunRecord, ...] = ()


def form_buckets(records: Iterable[RunRecord], policy: BucketPolicy, existing: Iterable[Bucket] = ()) -> Formation:
    """Gather runs into buckets.

    Args:
        records: all runs known, in any order.
        policy: when a bucket is full; unless it crosses experiments, a run of a later one closes the bucket before it.
        existing: buckets formed or closed by hand earlier; they stay as they are and their runs are passed over.

    Returns:
        New buckets, disjoint and in order; the runs left waiting; and runs that arrived late, before the end of the
        last existing bucket but in none of them.
    """
    taken = sorted(existing)
    frontier = taken[-1].last if taken else None
    closed: list[Bucket] = []
    waiting: list[RunRecord] = []
    late: list[RunRecord] = []
    for record in sorted(records, key=lambda r: r.run):
        if any(bucket.contains(record.run) for bucket in taken):
            continue
        if frontier is not None and record.run <= frontier:
            late.append(record)
            continue
        if waiting and not policy.cross_experiments and waiting[-1].run.exp != record.run.exp:
            closed.append(Bucket(waiting[0].run, waiting[-1].run))
            waiting = []
        waiting.append(record)
        if policy.is_full(waiting):
            closed.append(Bucket(waiting[0].run, waiting[-1].run))
            waiting = []
    return Formation(tuple(closed), tuple(waiting), tuple(late))
