"""What the sub-jobs and algorithms of the benchmark wrote down: when each began and ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """A sub-job (``collect``) or an algorithm (``calibrate``); seconds of the clock that all processes share."""

    what: str
    calibration: str
    begin: float
    end: float


def read_diary(path: Path) -> list[Entry]:
    """All entries, in the order in which they ended."""
    found = []
    for line in path.read_text().splitlines():
        what, calibration, begin, end = line.split()
        found.append(Entry(what, calibration, float(begin), float(end)))
    return sorted(found, key=lambda entry: entry.end)


def gaps(entries: Sequence[Entry]) -> list[float]:
    """Seconds from the end of each to the begin of the next."""
    return [later.begin - earlier.end for earlier, later in pairwise(entries)]
