"""What people ask of a tag before they publish: what changes for which runs, and what is covered.

Both go by what a reader gets in a run, not by how it is written down: an IoV that was split in two with the same
payload is no change. Pure rules; nothing here reads or writes a database.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from b2cal_core.publishing import TagIov, merge_tags
from b2cal_core.ranges import Edge, ExpRun, IoV, IoVSet


@dataclass(frozen=True, slots=True)
class Change:
    """In ``iov`` a reader of ``name`` gets revision ``after`` instead of ``before``; ``None`` is nothing.

    Attributes:
        checksums: MD5 before and after, where they were given.
        runs: how many of the runs that were taken lie in ``iov``; ``None`` when nobody said which were.
    """

    name: str
    iov: IoV
    before: int | None
    after: int | None
    checksums: tuple[str | None, str | None] = (None, None)
    runs: int | None = None


def diff_tags(
    before: Iterable[TagIov],
    after: Iterable[TagIov],
    within: IoV | None = None,
    *,
    checksums: Mapping[tuple[str, int], str] | None = None,
    runs: Iterable[ExpRun] | None = None,
) -> tuple[Change, ...]:
    """The runs in which two tags answer differently, by name and start.

    Args:
        before: content of the one tag.
        after: content of the other.
        within: only these runs, ends included.
        checksums: (name, revision) to MD5; they are told with the changes.
        runs: runs that were taken, to be counted for each change.
    """
    old, new = (_by_name(merge_tags([list(tag)], within)) for tag in (before, after))
    known = checksums or {}
    taken = None if runs is None else sorted(set(runs))
    return tuple(
        Change(name, iov, *revisions, _sums(name, revisions, known), None if taken is None else _count(taken, iov))
        for name in sorted(old.keys() | new.keys())
        for edges, revisions in _compared(old.get(name, []), new.get(name, []))
        if revisions[0] != revisions[1]
        for iov in (IoV.of_edges(*edges),)
    )


def _sums(name: str, revisions: "_Answers", known: Mapping[tuple[str, int], str]) -> tuple[str | None, str | None]:
    before, after = (None if revision is None else known.get((name, revision)) for revision in revisions)
    return before, after


def _count(taken: Sequence[ExpRun], iov: IoV) -> int:
    """How many of the runs, in order, lie in the IoV."""
    first, stop = (bisect_left(taken, edge, key=lambda run: run.edge) for edge in (iov.start, iov.stop))
    return stop - first


_Answers = tuple[int | None, int | None]


def _compared(old: Sequence[TagIov], new: Sequence[TagIov]) -> list[tuple[tuple[Edge, Edge], _Answers]]:
    """The answers of both in every range in which neither changes; neighbours with the same answers are one."""
    edges = sorted({edge for link in (*old, *new) for edge in (link.iov.start, link.iov.stop)})
    found: list[tuple[tuple[Edge, Edge], _Answers]] = []
    for (here, after), *answers in zip(pairwise(edges), _at(old, edges), _at(new, edges), strict=False):
        both: _Answers = (answers[0], answers[1])
        start = found.pop()[0][0] if found and found[-1][1] == both else here
        found.append(((start, after), both))
    return found


def _at(links: Sequence[TagIov], edges: Iterable[Edge]) -> list[int | None]:
    """The revision valid from each edge on; ``links`` are in order and disjoint, ``edges`` in order."""
    waiting = list(reversed(links))
    answers: list[int | None] = []
    for edge in edges:
        while waiting and waiting[-1].iov.stop <= edge:
            waiting.pop()
        valid = waiting and waiting[-1].iov.start <= edge
        answers.append(waiting[-1].revision if valid else None)
    return answers


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a tag has of one name.

    Attributes:
        covered: all runs that have a payload, also outside the wanted ones.
        gaps: wanted runs without a payload, in order.
        overlaps: wanted runs with more than one payload, in order.
        missing_runs: of the runs asked for, those in a gap; empty when none were given.
    """

    name: str
    covered: IoVSet
    gaps: tuple[IoV, ...]
    overlaps: tuple[IoV, ...]
    missing_runs: tuple[ExpRun, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether runs of the future are covered."""
        return bool(self.covered.iovs) and self.covered.iovs[-1].is_open

    @property
    def is_complete(self) -> bool:
        """Whether every wanted run has exactly one payload."""
        return not self.gaps and not self.overlaps


def coverage(
    tag: Iterable[TagIov], wanted: IoV, *, names: Iterable[str] | None = None, runs: Iterable[ExpRun] = ()
) -> tuple[Coverage, ...]:
    """How well a tag covers the wanted runs, by name.

    Args:
        tag: its content.
        wanted: the runs to be covered, ends included.
        names: report on these, also where the tag has nothing of them; by default on all the tag has.
        runs: runs that were really taken, to tell gaps that matter from those between runs.
    """
    groups = _by_name(tag)
    taken = sorted(run for run in set(runs) if wanted.contains(run))
    return tuple(
        _covered(name, [link.iov for link in groups.get(name, [])], wanted, taken)
        for name in sorted(set(groups if names is None else names))
    )


def _covered(name: str, iovs: Sequence[IoV], wanted: IoV, taken: Sequence[ExpRun]) -> Coverage:
    covered = IoVSet(iovs, allow_overlaps=True)
    inside = (iov & wanted for iov in _doubled(iovs))
    overlaps = IoVSet((iov for iov in inside if iov), allow_overlaps=True).iovs
    missing = tuple(run for run in taken if not covered.contains(run))
    return Coverage(name, covered, covered.missing_from(wanted), overlaps, missing)


def _doubled(iovs: Iterable[IoV]) -> Iterable[IoV]:
    """The parts of IoVs that an earlier one has covered already."""
    reaching: IoV | None = None
    for iov in sorted(iovs):
        both = iov & reaching if reaching else None
        if both:
            yield both
        reaching = max(reaching or iov, iov, key=lambda one: one.stop)


def _by_name(links: Iterable[TagIov]) -> dict[str, list[TagIov]]:
    groups: dict[str, list[TagIov]] = {}
    for link in links:
        groups.setdefault(link.name, []).append(link)
    return groups
