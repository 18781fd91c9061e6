"""Runs and the intervals of validity made of them.

Outside, an interval has Belle II's inclusive form with -1 for an open end. Inside, every operation works on the
half-open form ``[start, stop)``, in which "the rest of experiment 7" ends at run 0 of experiment 8, so that no
last run needs to be known and touching is equality. The conversion is one-to-one.
Source: basf2 conditions database client, class IntervalOfValidity.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

Edge = tuple[int, int]
_FOREVER: Edge = (2**62, 0)


@dataclass(frozen=True, slots=True, order=True)
class ExpRun:
    """One run of the detector: experiment and run number, both counted from 0, ordered by experiment first."""

    exp: int
    run: int

    def __post_init__(self) -> None:
        if self.exp < 0 or self.run < 0:
            msg = f"experiment and run count from 0, got exp {self.exp}, run {self.run}"
            raise ValueError(msg)

    @property
    def edge(self) -> Edge:
        """The two numbers, comparable with the edges of an IoV."""
        return self.exp, self.run

    def __iter__(self) -> Iterator[int]:
        return iter(self.edge)

    def __str__(self) -> str:
        return f"exp {self.exp} run {self.run}"


@dataclass(frozen=True, slots=True)
class IoV:
    """An interval of validity: both ends belong to it, -1 leaves an end open. Ordered by start, then by end.

    ``(e, r, e, -1)`` is the rest of experiment ``e``; ``(e, r, -1, -1)`` is for ever.

    Raises:
        ValueError: a start below 0, an open last experiment with a last run, or a start after the end.
    """

    exp_low: int
    run_low: int
    exp_high: int
    run_high: int

    def __post_init__(self) -> None:
        if self.exp_low < 0 or self.run_low < 0:
            msg = f"the first experiment and run of an IoV count from 0, got {self}"
            raise ValueError(msg)
        if self.exp_high < -1 or self.run_high < -1:
            msg = f"the last experiment and run of an IoV count from 0, or are -1 for open, got {self}"
            raise ValueError(msg)
        if self.exp_high == -1 and self.run_high != -1:
            msg = f"an IoV that is open in the last experiment is open in the last run too, got {self}"
            raise ValueError(msg)
        if self.start >= self.stop:
            msg = f"an IoV must not start after its end, got {self}"
            raise ValueError(msg)

    @classmethod
    def of_edges(cls, start: Edge, stop: Edge) -> Self:
        """The IoV from ``start`` up to, but not including, ``stop``."""
        if stop >= _FOREVER:
            return cls(*start, -1, -1)
        exp, run = stop
        return cls(*start, exp, run - 1) if run > 0 else cls(*start, exp - 1, -1)

    @classmethod
    def spanning(cls, runs: Iterable[ExpRun]) -> Self:
        """The shortest closed IoV that holds all ``runs``; they need not be sorted, but there must be one."""
        ordered = sorted(runs)
        if not ordered:
            msg = "no run was given, so there is no IoV that spans them"
            raise ValueError(msg)
        return cls(*ordered[0], *ordered[-1])

    @classmethod
    def since(cls, run: ExpRun) -> Self:
        """The run and all after it."""
        return cls(run.exp, run.run, -1, -1)

    @property
    def start(self) -> Edge:
        """The first (experiment, run), inclusive."""
        return self.exp_low, self.run_low

    @property
    def stop(self) -> Edge:
        """The first (experiment, run) that is no longer covered."""
        if self.exp_high == -1:
            return _FOREVER
        return (self.exp_high + 1, 0) if self.run_high == -1 else (self.exp_high, self.run_high + 1)

    @property
    def is_open(self) -> bool:
        """Whether the IoV lasts for ever."""
        return self.exp_high == -1

    def contains(self, run: ExpRun) -> bool:
        """Whether ``run`` lies in the IoV, ends included."""
        return self.start <= (run.exp, run.run) < self.stop

    def covers(self, other: "IoV") -> bool:
        """Whether every run of ``other`` lies in this IoV."""
        return self.start <= other.start and other.stop <= self.stop

    def overlaps(self, other: "IoV") -> bool:
        """Whether the two share a run."""
        return self.start < other.stop and other.start < self.stop

    def __and__(self, other: "IoV") -> "IoV | None":
        start, stop = max(self.start, other.start), min(self.stop, other.stop)
        return IoV.of_edges(start, stop) if start < stop else None

    def __sub__(self, other: "IoV") -> "tuple[IoV, ...]":
        pieces = (self.start, min(self.stop, other.start)), (max(self.start, other.stop), self.stop)
        return tuple(IoV.of_edges(start, stop) for start, stop in pieces if start < stop)

    def after(self, run: ExpRun) -> "IoV | None":
        """The part that comes after ``run``, or ``None`` when nothing does."""
        start = max(self.start, (run.exp, run.run + 1))
        return IoV.of_edges(start, self.stop) if start < self.stop else None

    def union(self, other: "IoV") -> "IoV | None":
        """The one IoV that holds both, or ``None`` when they neither overlap nor touch."""
        if self.start > other.stop or other.start > self.stop:
            return None
        return IoV.of_edges(min(self.start, other.start), max(self.stop, other.stop))

    def __lt__(self, other: "IoV") -> bool:
        return (self.start, self.stop) < (other.start, other.stop)

    def as_tuple(self) -> tuple[int, int, int, int]:
        """The four numbers, as databases and JSON files hold them."""
        return self.exp_low, self.run_low, self.exp_high, self.run_high

    def __iter__(self) -> Iterator[int]:
        return iter(self.as_tuple())

    def __str__(self) -> str:
        return f"{self.exp_low},{self.run_low},{self.exp_high},{self.run_high}"


class IoVSet:
    """A set of runs in its minimal form: IoVs in order that neither overlap nor touch.

    Args:
        iovs: any IoVs, in any order.
        allow_overlaps: take overlapping IoVs too; otherwise they are refused with ``ValueError``.
    """

    __slots__ = ("_iovs",)

    def __init__(self, iovs: Iterable[IoV] = (), allow_overlaps: bool = False) -> None:  # noqa: FBT001, FBT002 (fixed by the design)
        merged: list[IoV] = []
        for iov in sorted(iovs):
            if merged and not allow_overlaps and merged[-1].overlaps(iov):
                msg = f"{iov} overlaps {merged[-1]}; a run would have two answers"
                raise ValueError(msg)
            union = merged[-1].union(iov) if merged else None
            if union is None:
                merged.append(iov)
            else:
                merged[-1] = union
        self._iovs = tuple(merged)

    @property
    def iovs(self) -> tuple[IoV, ...]:
        """The disjoint IoVs in order."""
        return self._iovs

    @property
    def gaps(self) -> tuple[IoV, ...]:
        """What lies uncovered between the first and the last run of the set, in order."""
        return tuple(
            IoV.of_edges(before.stop, after.start) for before, after in zip(self._iovs, self._iovs[1:], strict=False)
        )

    def contains(self, run: ExpRun) -> bool:
        """Whether ``run`` lies in the set."""
        place = bisect_right(self._iovs, run.edge, key=lambda iov: iov.start)
        return place > 0 and self._iovs[place - 1].contains(run)

    def missing_from(self, wanted: IoV) -> tuple[IoV, ...]:
        """The parts of ``wanted``, in order, that the set leaves uncovered."""
        missing: list[IoV] = []
        reached = wanted.start
        for iov in self._iovs:
            if reached < min(iov.start, wanted.stop):
                missing.append(IoV.of_edges(reached, min(iov.start, wanted.stop)))
            reached = max(reached, iov.stop)
        return (*missing, IoV.of_edges(reached, wanted.stop)) if reached < wanted.stop else tuple(missing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IoVSet) and self._iovs == other._iovs

    def __hash__(self) -> int:
        return hash(self._iovs)

    def __repr__(self) -> str:
        return f"IoVSet({', '.join(map(str, self._iovs))})"
