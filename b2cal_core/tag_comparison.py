"""What two tags answer differently, and which runs a tag leaves without an answer: as runs see it, not as links are cut."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from b2cal_core.publishing import TagIov, merge_tags
from b2cal_core.ranges import Edge, ExpRun, IoV, IoVSet

_EVERYTHING = IoV(0, 0, -1, -1)


@dataclass(frozen=True, slots=True)
class Difference:
    """Runs in which two tags answer differently for a name; ``None`` means that the tag has nothing there."""

    name: str
    iov: IoV
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Coverage:
    """Where one name has a payload.

    Attributes:
        gaps: runs without a payload, of those looked at.
        overlaps: runs with more than one; the highest revision is the one read.
        runs_missing: known runs that lie in the gaps.
    """

    name: str
    links: int
    covered: tuple[IoV, ...]
    gaps: tuple[IoV, ...]
    overlaps: tuple[IoV, ...]
    runs_missing: tuple[ExpRun, ...] = ()


def differences(
    before: Sequence[TagIov], after: Sequence[TagIov], within: IoV | None = None
) -> tuple[Difference, ...]:
    """Where the answers of two tags differ, by name and run; an IoV cut in two with one payload is no difference."""
    old, new = _by_name(merge_tags([before], within)), _by_name(merge_tags([after], within))
    return tuple(
        found
        for name in sorted(old.keys() | new.keys())
        for found in _differences_of_name(name, old.get(name, []), new.get(name, []))
    )


def coverage(
    links: Sequence[TagIov], within: IoV | None = None, runs: Iterable[ExpRun] = ()
) -> tuple[Coverage, ...]:
    """Coverage of every name of a tag, by name.

    Args:
        links: content of the tag.
        within: runs to be covered, ends included; by default those from a name's first to its last.
        runs: runs that exist; those in a gap are listed.
    """
    known = sorted(set(runs))
    return tuple(_coverage_of_name(name, group, within, known) for name, group in sorted(_by_name(links).items()))


def _coverage_of_name(name: str, links: Sequence[TagIov], within: IoV | None, runs: Sequence[ExpRun]) -> Coverage:
    iovs = [link.iov for link in links]
    covered = IoVSet(iovs, allow_overlaps=True)
    gaps = covered.gaps if within is None else covered.missing_from(within)
    wanted = within or _EVERYTHING
    return Coverage(
        name,
        links=sum(iov.overlaps(wanted) for iov in iovs),
        covered=tuple(piece for iov in covered.iovs if (piece := iov & wanted) is not None),
        gaps=gaps,
        overlaps=tuple(piece for iov in _doubly_covered(iovs) if (piece := iov & wanted) is not None),
        runs_missing=tuple(run for run in runs if any(gap.contains(run) for gap in gaps)),
    )


def _doubly_covered(iovs: Iterable[IoV]) -> tuple[IoV, ...]:
    doubled: list[IoV] = []
    seen: Edge = (0, 0)
    for iov in sorted(iovs, key=lambda iov: iov.start):
        if iov.start < seen:
            doubled.append(IoV.of_edges(iov.start, min(seen, iov.stop)))
        seen = max(seen, iov.stop)
    return IoVSet(doubled, allow_overlaps=True).iovs


def _differences_of_name(name: str, before: Sequence[TagIov], after: Sequence[TagIov]) -> list[Difference]:
    """Both sides are free of overlaps and in order; neighbours with the same change are one difference."""
    edges = sorted({edge for link in (*before, *after) for edge in (link.iov.start, link.iov.stop)})
    found: list[Difference] = []
    for (start, stop), old, new in zip(pairwise(edges), _answers(before, edges), _answers(after, edges), strict=True):
        if old == new:
            continue
        last = found[-1] if found else None
        if last is not None and last.iov.stop == start and (last.before, last.after) == (old, new):
            found[-1] = Difference(name, IoV.of_edges(last.iov.start, stop), old, new)
        else:
            found.append(Difference(name, IoV.of_edges(start, stop), old, new))
    return found


def _answers(links: Sequence[TagIov], edges: Sequence[Edge]) -> list[int | None]:
    """The revision between every two neighbouring edges."""
    answers: list[int | None] = []
    position = 0
    for start, _ in pairwise(edges):
        while position < len(links) and links[position].iov.stop <= start:
            position += 1
        valid = position < len(links) and links[position].iov.start <= start
        answers.append(links[position].revision if valid else None)
    return answers


def _by_name(links: Iterable[TagIov]) -> dict[str, list[TagIov]]:
    groups: dict[str, list[TagIov]] = {}
    for link in links:
        groups.setdefault(link.name, []).append(link)
    return groups
