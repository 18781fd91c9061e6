"""Bringing the cells of a tag up to date by reading its end only, since a tag mostly grows there.

How far back is guessed; whether the guess was right is proved by the tag's fingerprint, which is a sum over its links.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from b2cal_core.plans import after
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV
from resources.conditions.schema import edges, iov_of
from resources.impact.cells import Cells
from resources.impact.run_ranges import Numbers

_, _END = edges(IoV(0, 0, -1, -1))
_FIRST_GUESS, _WIDER = 4, 8
_PART = 8
"""Reading more than one in so many links again is no gain over reading them all."""


@dataclass(frozen=True, slots=True, eq=False)
class Growth:
    """A tag that was changed from some run on.

    Attributes:
        kept: name to the cells that end before that run.
        dropped: name to those that did not.
        links: the tag's, of that run and later.
    """

    kept: Mapping[str, Numbers]
    dropped: Mapping[str, Numbers]
    links: tuple[TagIov, ...]


def growth(before: Cells, fingerprint: str, read: Callable[[IoV], tuple[TagIov, ...]]) -> Growth | None:
    """What changed since the tag had the cells ``before``; ``None`` when it is better read as a whole.

    Args:
        before: with the tag's fingerprint then as its version.
        fingerprint: of the tag as it is now.
        read: gives the links that share a run with an IoV.
    """
    for start in _guesses(before):
        cut = {name: cells.rows[:, 1] <= start for name, cells in before.by_name.items()}
        dropped = {name: cells.rows[~cut[name]] for name, cells in before.by_name.items()}
        if sum(map(len, dropped.values())) * _PART > len(before):
            return None
        links = read(iov_of(start, _END))
        if _digits(after(before.version, _links(dropped), links)) == _digits(fingerprint):
            kept = {name: cells.rows[cut[name]] for name, cells in before.by_name.items()}
            return Growth(kept, dropped, links)
    return None


def _guesses(before: Cells) -> Iterator[int]:
    """First runs from which on it may have changed, later ones first."""
    most = max((len(cells.rows) for cells in before.by_name.values()), default=0)
    back = _FIRST_GUESS
    while back < most:
        starts = np.unique(np.concatenate([cells.rows[-back:, 0] for cells in before.by_name.values()]))
        yield int(starts[-back])
        back *= _WIDER


def _links(rows: Mapping[str, Numbers]) -> Iterator[TagIov]:
    for name, table in rows.items():
        for start, stop, _, _, revision in table.tolist():
            yield TagIov(name, revision, iov_of(start, stop))


def _digits(fingerprint: str) -> str:
    """Without the state, which is none of the content."""
    return fingerprint.partition("-")[0]
