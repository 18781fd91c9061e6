"""Sets of runs as arrays, for millions of them; runs are numbered as in the tables of the conditions database."""

from collections.abc import Iterable
from typing import Self

import numpy as np
from numpy.typing import NDArray

from b2cal_core.ranges import IoV
from resources.conditions.schema import edges, iov_of

Numbers = NDArray[np.int64]


class RunRanges:
    """A set of runs: half-open ranges in order that neither overlap nor touch.

    Args:
        starts: shape (n,), in any order; ranges may overlap.
        stops: shape (n,), the first run after each range.
    """

    __slots__ = ("starts", "stops")

    def __init__(self, starts: Numbers, stops: Numbers) -> None:
        order = np.argsort(starts, kind="stable")
        starts, reached = starts[order], np.maximum.accumulate(stops[order])
        opens = np.ones(len(starts), dtype=bool)
        opens[1:] = starts[1:] > reached[:-1]
        ends = np.append(np.flatnonzero(opens)[1:] - 1, len(starts) - 1) if len(starts) else np.empty(0, dtype=int)
        self.starts: Numbers = starts[opens]
        self.stops: Numbers = reached[ends]

    @classmethod
    def of(cls, iovs: Iterable[IoV]) -> Self:
        """The runs of these IoVs."""
        pairs = np.array([edges(iov) for iov in iovs], dtype=np.int64).reshape(-1, 2)
        return cls(pairs[:, 0], pairs[:, 1])

    def first(self, count: int) -> tuple[IoV, ...]:
        """The first ranges, at most so many, as IoVs in order."""
        pairs = zip(self.starts[:count].tolist(), self.stops[:count].tolist(), strict=True)
        return tuple(iov_of(start, stop) for start, stop in pairs)

    def touches(self, starts: Numbers, stops: Numbers) -> NDArray[np.bool_]:
        """Which of the ranges given, shape (n,), share a run with the set."""
        place = np.searchsorted(self.starts, stops, side="left") - 1  # the last range that begins before the stop
        if not len(self.starts):
            return np.zeros(len(starts), dtype=bool)
        touched: NDArray[np.bool_] = (place >= 0) & (self.stops[place] > starts)
        return touched

    def __or__(self, other: Self, /) -> Self:
        starts, stops = np.concatenate([self.starts, other.starts]), np.concatenate([self.stops, other.stops])
        return type(self)(starts, stops)

    def __bool__(self) -> bool:
        return len(self.starts) > 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunRanges):
            return NotImplemented
        return np.array_equal(self.starts, other.starts) and np.array_equal(self.stops, other.stops)

    __hash__ = None  # type: ignore[assignment]  # arrays can be written to
