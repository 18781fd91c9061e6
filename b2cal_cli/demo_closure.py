"""Whether the constants of a bucket agree with the truth they were simulated from."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np

from b2cal_caf.payload_files import read_payload
from b2cal_core.buckets import Bucket
from b2cal_core.errors import IntegrityError
from b2cal_core.ports import ConditionsDB
from b2cal_core.publishing import TagIov
from b2cal_core.runs import RunRecord
from b2cal_detector.compare import Comparison, compare, run_weights
from b2cal_detector.truth import Truth

_SIGMAS = 5.0
"""Chance alone goes beyond that in one of some million comparisons."""
_MODEL = 0.1
"""What approximations in fits and errors may add to mean and width of the pulls."""


@dataclass(frozen=True, slots=True)
class Closure:
    """One column of one payload in one bucket, all its IoVs together.

    Attributes:
        iovs: number of IoVs the payload has in the bucket.
        constants: fitted constants, over all IoVs.
        fitted, true: means over the constants.
        pull_mean, pull_width: mean, and root mean square about 0, of (fitted - true) / error.
    """

    name: str
    column: str
    iovs: int
    constants: int
    fitted: float
    true: float
    pull_mean: float
    pull_width: float

    @property
    def closes(self) -> bool:
        """Whether the pulls are as they should be: mean 0, width 1, within what chance and approximations explain."""
        if self.constants == 1:
            return abs(self.pull_mean) < _SIGMAS
        mean = _SIGMAS / sqrt(self.constants) + _MODEL
        width = _SIGMAS / sqrt(2 * self.constants) + _MODEL
        return abs(self.pull_mean) < mean and abs(self.pull_width - 1) < width


def closures(
    conditions: ConditionsDB, tag: str, bucket: Bucket, *, truth: Truth, records: Iterable[RunRecord]
) -> dict[str, tuple[Closure, ...]]:
    """Payload name to what its columns show, for every payload of the tag that has a truth.

    Args:
        conditions: where the tag is.
        tag: the bucket's staging tag.
        bucket: only its runs count, since the last IoV of a bucket is open.
        truth: of the seed the data were simulated with.
        records: the runs of the bucket.
    """
    runs = [record for record in records if bucket.contains(record.run)]
    links: dict[str, list[TagIov]] = {}
    for link in conditions.list_iovs(tag):
        if link.name in truth.names:
            links.setdefault(link.name, []).append(link)
    return {
        name: tuple(_summaries(list(_comparisons(conditions, own, truth, runs)), len(own)))
        for name, own in links.items()
    }


def _comparisons(
    conditions: ConditionsDB, links: Iterable[TagIov], truth: Truth, runs: list[RunRecord]
) -> Iterator[Comparison]:
    for link in links:
        weights = run_weights(link.name, runs, link.iov)
        if any(weights.values()):
            payload = conditions.payload(link.name, link.revision)
            if payload is None:
                raise IntegrityError(f"payload {link.name} revision {link.revision} is linked but not in the database")
            columns = read_payload(conditions.payload_file(payload), link.name)
            yield from compare(truth, link.name, columns, iov=link.iov, weights=weights)


def _summaries(comparisons: list[Comparison], iovs: int) -> Iterator[Closure]:
    for column in dict.fromkeys(c.column for c in comparisons):
        own = [c for c in comparisons if c.column == column]
        pulls, fitted, true = (np.concatenate([getattr(c, key) for c in own]) for key in ("pulls", "fitted", "true"))
        if len(pulls):
            mean, width = float(pulls.mean()), float(np.sqrt(np.mean(pulls**2)))
            yield Closure(own[0].name, column, iovs, len(pulls), float(fitted.mean()), float(true.mean()), mean, width)
