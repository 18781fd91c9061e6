"""Which files go into which sub-job.

Source: basf2 CAF, MaxFilesSplitter and MaxSubjobsSplitter.
"""

from collections.abc import Sequence
from typing import TypeVar

from b2cal_core.errors import ConfigurationError

Item = TypeVar("Item")
MOST_JOBS = 1000
"""Sub-jobs of a collection that says nothing of splitting."""


def split_by_files(files: Sequence[Item], most: int) -> list[tuple[Item, ...]]:
    """Consecutive groups of at most ``most`` files."""
    _positive(most, "max_files_per_job")
    return [tuple(files[start : start + most]) for start in range(0, len(files), most)]


def split_by_jobs(files: Sequence[Item], most: int) -> list[tuple[Item, ...]]:
    """At most ``most`` groups; each takes its share, rounded up, of what is left: 11 files in 4 are 3, 3, 3 and 2."""
    _positive(most, "max_jobs")
    groups: list[tuple[Item, ...]] = []
    start = 0
    while start < len(files):
        share = -(-(len(files) - start) // (most - len(groups)))
        groups.append(tuple(files[start : start + share]))
        start += share
    return groups


def split(files: Sequence[Item], *, max_files_per_job: int | None, max_jobs: int | None) -> list[tuple[Item, ...]]:
    """The groups that a collection asks for; at most 1000 when it asks for nothing."""
    if max_files_per_job is not None:
        return split_by_files(files, max_files_per_job)
    return split_by_jobs(files, MOST_JOBS if max_jobs is None else max_jobs)


def _positive(number: int, name: str) -> None:
    if number < 1:
        msg = f"{name} must be at least 1, got {number}"
        raise ConfigurationError(msg)
