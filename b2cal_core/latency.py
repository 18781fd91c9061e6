"""Where the time of a bucket goes: from its first processed run, and from its closing, to its publication.

Only moments and spans are known here, in UTC; spans have their start and not their end. What claims a span is found by
others. Every moment counts once: of several claims to it the first in the order of ``WaitsFor`` wins, and what nothing
claims is the platform's.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from b2cal_core.verdicts import Decision, SignOff


class WaitsFor(StrEnum):
    """What a bucket waits for at a moment; the first of several that could be meant is."""

    machine = "machine"
    """Something of it is computed."""
    queue = "batch queue"
    """Its jobs are handed to the batch system, and none runs."""
    platform = "platform"
    """Sensors, queues and processes of the platform are on their way to the next step."""
    data = "data"
    """Runs of the bucket, or of another one whose data it needs, are still to come."""
    people = "people"
    """All that could run has run, and somebody has to decide."""


@dataclass(frozen=True, slots=True)
class Span:
    """The time from ``start`` up to, and not including, ``end``."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.end < self.start:
            msg = f"a span must not end ({self.end}) before it starts ({self.start})"
            raise ValueError(msg)

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.end - self.start

    def within(self, other: "Span") -> "Span | None":
        """What of it lies in the other; ``None`` when nothing does."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Span(start, end) if start < end else None

    def without(self, others: Iterable["Span"]) -> tuple["Span", ...]:
        """What is left in order, none of it empty, when the others are cut out."""
        pieces, start = [], self.start
        for other in sorted(filter(None, (one.within(self) for one in others)), key=lambda span: span.start):
            if start < other.start:
                pieces.append(Span(start, other.start))
            start = max(start, other.end)
        return (*pieces, Span(start, self.end)) if start < self.end else tuple(pieces)


@dataclass(frozen=True, slots=True)
class Claim:
    """That a span is spent waiting for something."""

    what: WaitsFor
    span: Span


def partition(whole: Span, claims: Iterable[Claim]) -> tuple[Claim, ...]:
    """The whole in pieces without gap or overlap, in order, neighbours of different kinds; claims in any order."""
    changes: dict[datetime, Counter[WaitsFor]] = {whole.start: Counter(), whole.end: Counter()}
    for claim in claims:
        if (span := claim.span.within(whole)) is not None:
            changes.setdefault(span.start, Counter())[claim.what] += 1
            changes.setdefault(span.end, Counter())[claim.what] -= 1
    standing: Counter[WaitsFor] = Counter()
    pieces: list[Claim] = []
    for start, end in pairwise(sorted(changes)):
        standing.update(changes[start])
        what = next((kind for kind in WaitsFor if standing[kind]), WaitsFor.platform)
        if pieces and pieces[-1].what is what:
            pieces[-1] = Claim(what, Span(pieces[-1].span.start, end))
        else:
            pieces.append(Claim(what, Span(start, end)))
    return tuple(pieces)


def shares(pieces: Iterable[Claim]) -> dict[WaitsFor, timedelta]:
    """How long the pieces of each kind are together; every kind is there."""
    sums = dict.fromkeys(WaitsFor, timedelta(0))
    for piece in pieces:
        sums[piece.what] += piece.span.length
    return sums


@dataclass(frozen=True, slots=True)
class BucketLatency:
    """The way of one bucket.

    Attributes:
        bucket: its key.
        first_run, last_run: when the first and the last of its runs was registered, which is when they are processed;
            the closing, where the registry does not know.
        closed: when the bucket was complete.
        end: when it was published, or, while it is not, when one looked.
        pieces: what it waited for from ``first_run`` to ``end``.
    """

    bucket: str
    first_run: datetime
    last_run: datetime
    closed: datetime
    end: datetime
    is_published: bool
    pieces: tuple[Claim, ...]

    @classmethod
    def of(
        cls,
        bucket: str,
        arrivals: Iterable[datetime],
        *,
        closed: datetime,
        end: datetime,
        is_published: bool,
        claims: Iterable[Claim],
    ) -> "BucketLatency":
        """The latency, when ``arrivals`` are the registrations of its runs; those after the closing do not count."""
        before = [arrival for arrival in arrivals if arrival <= closed] or [closed]
        first, last, end = min(before), max(before), max(closed, end)
        arriving = Claim(WaitsFor.data, Span(first, last))
        pieces = partition(Span(first, end), [arriving, *claims])
        return cls(bucket, first, last, closed, end, is_published, pieces)

    @property
    def from_first_run(self) -> timedelta:
        """From the first run to the end; the sum of all shares."""
        return self.end - self.first_run

    @property
    def from_last_run(self) -> timedelta:
        """From the last run to the end."""
        return self.end - self.last_run

    @property
    def from_closing(self) -> timedelta:
        """From the closing to the end; the sum of the shares since then."""
        return self.end - self.closed

    @property
    def shares(self) -> Mapping[WaitsFor, timedelta]:
        """What the time from the first run on was spent on."""
        return shares(self.pieces)

    @property
    def shares_since_closing(self) -> Mapping[WaitsFor, timedelta]:
        """What the time from the closing on was spent on."""
        return shares(partition(Span(self.closed, self.end), self.pieces))


@dataclass(frozen=True, slots=True)
class Spread:
    """How some times are spread: the middle one, the one that nine in ten do not exceed, the longest."""

    median: timedelta
    ninety: timedelta
    worst: timedelta

    @classmethod
    def of(cls, times: Iterable[timedelta]) -> "Spread":
        """Of one time or more."""
        ordered = sorted(times)
        middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
        return cls(middle, ordered[-(-9 * len(ordered) // 10) - 1], ordered[-1])


@dataclass(frozen=True, slots=True)
class JudgedResult:
    """Payloads that were validated.

    Attributes:
        judged: when.
        evidence: what decisions over them name.
        is_held: whether the gates wait for a person from then on.
        superseded: when they were made anew; ``None`` while they are the last.
    """

    judged: datetime
    evidence: str
    is_held: bool
    superseded: datetime | None = None


def open_decisions(
    result: JudgedResult, decisions: Sequence[SignOff], *, redone_by_hand: bool, now: datetime
) -> tuple[Span, ...]:
    """When somebody had to decide over a result, or to do what a rejection asks for.

    Args:
        result: over which.
        decisions: all over the calibration in the bucket, by time.
        redone_by_hand: a rejected result is made again by a person.
        now: what is still open is so until now.

    A waiver that has ended is open again; what a rule decides nobody had to.
    """
    stop = now if result.superseded is None else result.superseded
    spans = []
    since = result.judged if result.is_held else None
    for decision in decisions:
        at = max(decision.when, result.judged)
        if decision.evidence != result.evidence or at >= stop:
            continue
        if since is not None and since < at and not decision.by_rule:
            spans.append(Span(since, at))
        since = at if redone_by_hand and decision.decision is Decision.rejected else decision.until
    if since is not None and since < stop:
        spans.append(Span(since, stop))
    return tuple(spans)
