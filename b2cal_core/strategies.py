"""How runs become ranges: the four strategies by which an algorithm is given runs.

Source: basf2 CAF, caf.strategies.
"""

from dataclasses import dataclass
from enum import StrEnum

from b2cal_core.ranges import IoV


class AlgResult(StrEnum):
    """What an algorithm answers."""

    ok = "ok"
    iterate = "iterate"
    not_enough_data = "not_enough_data"
    failure = "failure"


@dataclass(frozen=True, slots=True)
class SingleIOV:
    """One execution on all runs."""

    apply_iov: IoV | None = None


@dataclass(frozen=True, slots=True)
class SequentialRunByRun:
    """Run by run, short runs merged."""

    step_size: int = 1
    iov_coverage: IoV | None = None


@dataclass(frozen=True, slots=True)
class SequentialBoundaries:
    """Interval by interval between boundaries."""

    payload_boundaries: tuple | None = None
    iov_coverage: IoV | None = None


@dataclass(frozen=True, slots=True)
class SimpleRunByRun:
    """Each run alone."""


Strategy = SingleIOV | SequentialRunByRun | SequentialBoundaries | SimpleRunByRun
