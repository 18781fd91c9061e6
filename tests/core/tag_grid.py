"""Tags on a small grid of runs, where collisions are frequent, and what a reader gets there."""

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import strategies as st

from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV

GRID = [ExpRun(exp, run) for exp in range(4) for run in range(5)]
NAMES = ["p1", "p2", "p3"]
_FOREVER = IoV(0, 0, -1, -1).stop


def link(name: str, revision: int, *iov: int, id: int | None = None) -> TagIov:  # noqa: A002 (the field's name)
    return TagIov(name, revision, IoV(*iov), id)


def seen(tag: Iterable[TagIov], run: ExpRun, name: str) -> int | None:
    """What a reader gets: the highest revision valid in the run."""
    return max((item.revision for item in tag if item.name == name and item.iov.contains(run)), default=None)


def disjoint(tag: Iterable[TagIov]) -> bool:
    """Whether no run has two payloads of one name."""
    ordered = sorted(tag, key=lambda item: (item.name, item.iov.start))
    return not any(a.name == b.name and a.iov.overlaps(b.iov) for a, b in pairwise(ordered))


def _iov(start: int, length: int) -> IoV:
    stop = GRID[start + length].edge if start + length < len(GRID) else _FOREVER
    return IoV.of_edges(GRID[start].edge, stop)


IOVS = st.builds(_iov, st.integers(0, len(GRID) - 1), st.integers(1, len(GRID)))
LINKS = st.builds(TagIov, st.sampled_from(NAMES), st.integers(1, 4), IOVS)
ANY_TAGS = st.lists(LINKS, max_size=7, unique=True)
"""Overlaps and gaps included, as the databases allow them."""


@st.composite
def tags(draw, *, first_revision: int = 1, earliest: int = 0, names: tuple[str, ...] = tuple(NAMES)) -> list[TagIov]:
    """Disjoint links, from grid run ``earliest`` on, each up to the next or ending early; the last may be open."""
    content = []
    for name in draw(st.sets(st.sampled_from(names))):
        starts = sorted(draw(st.sets(st.integers(earliest, len(GRID) - 2), min_size=1, max_size=4)))
        stops = [GRID[start].edge for start in starts[1:]] + [_FOREVER]
        for position, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            early = draw(st.booleans())
            end = GRID[start + 1].edge if early else stop
            content.append(TagIov(name, first_revision + position, IoV.of_edges(GRID[start].edge, min(end, stop))))
    return content
