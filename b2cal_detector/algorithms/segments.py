"""Division of a sequence of runs where a vector measured in each of them changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True, slots=True)
class Measurement:
    """A vector as a least-squares fit sees it; measurements of one vector add up.

    Attributes:
        information: inverse covariance, shape (k, k); singular where little was seen.
        moment: information times value, shape (k,).
        square: value times information times value.
        events: number of events behind it.
    """

    information: np.ndarray
    moment: np.ndarray
    square: float
    events: int

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.information + other.information,
            self.moment + other.moment,
            self.square + other.square,
            self.events + other.events,
        )

    @property
    def value(self) -> np.ndarray:
        """The vector that fits best."""
        value: np.ndarray = np.linalg.pinv(self.information, hermitian=True) @ self.moment
        return value

    @property
    def chi_square(self) -> float:
        """How badly one vector describes all that was added up."""
        return float(self.square - self.moment @ self.value)


def best_segments(runs: Sequence[Measurement], *, penalty: float, min_events: int) -> list[int]:
    """Where to divide the runs so that the sum of chi squares plus ``penalty`` per segment is least.

    Returns:
        The index of the first run of each segment, the first one 0; every segment has ``min_events``. Nothing when all
        runs together have fewer.
    """
    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for stop in range(1, len(runs) + 1):
        candidates: list[tuple[float, list[int]]] = [(np.inf, [])]
        joined: Measurement | None = None
        for start in range(stop - 1, -1, -1):
            joined = runs[start] if joined is None else runs[start] + joined
            cost, starts = best[start]
            if joined.events >= min_events and np.isfinite(cost):
                candidates.append((cost + joined.chi_square + penalty, [*starts, start]))
        best.append(min(candidates, key=lambda candidate: candidate[0]))
    return best[-1][1]
