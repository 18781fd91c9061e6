"""Publishing: from the content of a staging tag to the operations on a running tag, and tags seen as one.

Pure rules over the content of tags; nothing here reads or writes a database.
Source: Belle II conditions database tools, running update and merge of global tags; agreed with their recorded answers.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from heapq import heappop, heappush
from itertools import pairwise
from typing import Literal

from b2cal_core.errors import ConflictError, in_short
from b2cal_core.ranges import Edge, ExpRun, IoV, IoVSet

_EVERYTHING = IoV(0, 0, -1, -1)
_BEGINNING = (0, 0)

_Rank = tuple[int, int]
_Candidate = tuple[Edge, Edge, _Rank]


@dataclass(frozen=True, slots=True)
class TagIov:
    """A payload of a tag, valid in an IoV; ``id`` is the database's identity of the link."""

    name: str
    revision: int
    iov: IoV
    id: int | None = None

    @property
    def bare(self) -> "TagIov":
        """The link without the database's identity: equal to the same link in another tag or database."""
        return TagIov(self.name, self.revision, self.iov)


class UpdateMode(StrEnum):
    """What a running update may do with payloads that end."""

    strict = "strict"
    allow_closed = "allow_closed"
    fix_closed = "fix_closed"
    simple = "simple"
    full_replacement = "full_replacement"


@dataclass(frozen=True, slots=True)
class Operation:
    """One change: ``close`` an open IoV (``iov`` is what remains of it), ``create`` one, or ``drop`` one as it is.

    A running update closes and creates only; ``drop`` is for OPEN tags and for taking a publish back.
    """

    kind: Literal["close", "create", "drop"]
    name: str
    revision: int
    iov: IoV
    id: int | None = None

    @property
    def link(self) -> TagIov:
        """What is created or dropped, or what a close leaves behind."""
        return TagIov(self.name, self.revision, self.iov)


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """What is done to a tag, in order: for a running update what is closed, then what is created, by name and start."""

    operations: tuple[Operation, ...]


class UpdateRefused(ConflictError):  # noqa: N818 (named by the design)
    """The update breaks a rule; ``reasons`` counts per rule, every gap and every payload too many by itself."""

    def __init__(self, reasons: Mapping[str, int], details: Sequence[str] = ()) -> None:
        self.reasons = dict(reasons)
        self.details = tuple(details)
        counted = ", ".join(f"{reason}: {count}" for reason, count in self.reasons.items())
        super().__init__(f"the update was refused ({counted}). {in_short(self.details)}".strip())


@dataclass(slots=True)
class _Complaints:
    """What is wrong with a tag, gathered before anything is refused."""

    reasons: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    def add(self, reason: str, detail: str, count: int = 1) -> None:
        """Note an offence, or several at once; ``detail`` names the payload, its runs and the remedy."""
        self.reasons[reason] += count
        self.details.append(detail)

    def settle(self) -> None:
        """Refuse when anything was noted."""
        if self.reasons:
            raise UpdateRefused(self.reasons, self.details)


def plan_running_update(
    running: Sequence[TagIov], staging: Sequence[TagIov], first_run: ExpRun, mode: UpdateMode
) -> UpdatePlan:
    """The operations that bring a staging tag into a running one without changing any run before ``first_run``.

    Args:
        running: content of the running tag.
        staging: content of the staging tag; an IoV that starts at (0, 0) is taken to start at ``first_run``.
        first_run: the first run whose constants may change, inclusive.
        mode: what may happen to payloads that end.

    Raises:
        UpdateRefused: the running tag reaches into the update, or the staging tag is not fit for the mode; all
            offences of the first tag that has any are counted.
    """
    _check_running(running, first_run)
    if mode is UpdateMode.simple:
        _check_simple(staging)
    else:
        staging = _check_staging(staging, first_run, mode)
    future = IoV.of_edges(first_run.edge, _EVERYTHING.stop)
    firsts = _first_of_each_name(staging)
    closing: list[Operation] = []
    prolonged: set[TagIov] = set()
    for link in running:
        first = firsts.get(link.name)
        if not link.iov.is_open or (first is None and mode is not UpdateMode.full_replacement):
            continue
        replaced: tuple[IoV, ...] = (_from(first, future),)
        if first is not None and first.revision == link.revision:
            prolonged.add(first)
            replaced = replaced[0] - first.iov
        closing += [_closed(link, replaced[0])] if replaced else []
    creating = (_created(link, future) for link in staging if link not in prolonged)
    return UpdatePlan((*_ordered(closing), *_ordered(creating)))


def _from(first: TagIov | None, future: IoV) -> IoV:
    """What a staging tag replaces of a name: from its first IoV, but not before the update."""
    return future if first is None else IoV.of_edges(max(first.iov.start, future.start), future.stop)


def _closed(link: TagIov, replaced: IoV) -> Operation:
    (remains,) = link.iov - replaced
    return Operation("close", link.name, link.revision, remains, link.id)


def _created(link: TagIov, future: IoV) -> Operation:
    return Operation("create", link.name, link.revision, IoV.of_edges(*_clipped(link.iov, future)), link.id)


def _clipped(iov: IoV, future: IoV) -> tuple[tuple[int, int], tuple[int, int]]:
    return max(iov.start, future.start), iov.stop


def _ordered(operations: Iterable[Operation]) -> list[Operation]:
    return sorted(operations, key=lambda operation: (operation.name, operation.iov.start))


def _first_of_each_name(links: Iterable[TagIov]) -> dict[str, TagIov]:
    firsts: dict[str, TagIov] = {}
    for link in links:
        known = firsts.get(link.name)
        if known is None or link.iov.start < known.iov.start:
            firsts[link.name] = link
    return firsts


def _check_running(running: Sequence[TagIov], first_run: ExpRun) -> None:
    complaints = _Complaints()
    remedy = f"choose a later first run, {next_possible_run(running)} or later"
    for link in running:
        where = f"running payload {link.name} revision {link.revision} ({link.iov})"
        if link.iov.start >= first_run.edge:
            complaints.add("payloads start after first valid run", f"{where} starts at or after {first_run}; {remedy}")
        elif not link.iov.is_open and link.iov.stop > first_run.edge:
            complaints.add("payloads end after first valid run", f"{where} ends at or after {first_run}; {remedy}")
    complaints.settle()
    for name, group in _by_name(running).items():
        _note_overlaps(complaints, name, [link.iov for link in group], "the running tag must be mended first")
    complaints.settle()


def _check_simple(staging: Sequence[TagIov]) -> None:
    complaints = _Complaints()
    for name, group in _by_name(staging).items():
        if len(group) > 1:
            detail = f"{name} is {len(group)} times in the staging tag; simple mode takes one"
            complaints.add("duplicate payloads", detail, len(group) - 1)
        for link in group:
            if link.iov != _EVERYTHING:
                detail = f"{name} is valid in {link.iov}; simple mode takes {_EVERYTHING} only"
                complaints.add("wrong validity", detail)
    complaints.settle()


def _check_staging(staging: Sequence[TagIov], first_run: ExpRun, mode: UpdateMode) -> Sequence[TagIov]:
    """The content to be published, its last IoVs opened where the mode says so."""
    complaints = _Complaints()
    for name, group in _by_name(staging).items():
        _check_name(complaints, name, [link.iov for link in group], first_run, mode)
    complaints.settle()
    return _opened(staging) if mode is UpdateMode.fix_closed else staging


def _check_name(complaints: _Complaints, name: str, iovs: Sequence[IoV], first_run: ExpRun, mode: UpdateMode) -> None:
    _note_overlaps(complaints, name, iovs, "keep one payload per run")
    covered = IoVSet(iovs, allow_overlaps=True)
    if covered.gaps:
        gaps = " and ".join(map(str, covered.gaps))
        detail = f"{name} has nothing in {gaps}; close the gap in the staging tag"
        complaints.add("gaps", detail, len(covered.gaps))
    explicit = [iov for iov in iovs if iov.start != _BEGINNING]
    if explicit and min(iov.start for iov in explicit) < first_run.edge:
        detail = f"{name} starts before {first_run}; start it there, or at 0,0 to have it clipped"
        complaints.add("starts too early", detail)
    if mode is UpdateMode.strict and not covered.iovs[-1].is_open:
        detail = f"{name} ends with {covered.iovs[-1]}; leave its last IoV open, or choose another mode"
        complaints.add("closed payloads", detail)
    past = [iov for iov in iovs if iov.start == _BEGINNING and iov.stop <= first_run.edge]
    if past and not (mode is UpdateMode.fix_closed and len(iovs) == 1):
        detail = f"{name} is valid in {past[0]}, all before {first_run}; drop it from the staging tag"
        complaints.add("ends before first valid run", detail)


def _note_overlaps(complaints: _Complaints, name: str, iovs: Sequence[IoV], remedy: str) -> None:
    ordered = sorted(iovs, key=lambda iov: (iov.start, iov.stop))
    reaching = ordered[0]  # of those before, the one that reaches furthest
    for iov in ordered[1:]:
        if iov.overlaps(reaching):
            complaints.add("overlaps", f"{name} has two payloads in {iov & reaching}; {remedy}")
        reaching = max(reaching, iov, key=lambda one: one.stop)


def _opened(staging: Sequence[TagIov]) -> list[TagIov]:
    last = {name: max(group, key=lambda link: link.iov.start) for name, group in _by_name(staging).items()}
    return [
        replace(link, iov=IoV.of_edges(link.iov.start, _EVERYTHING.stop)) if link == last[link.name] else link
        for link in staging
    ]


def _by_name(links: Iterable[TagIov]) -> dict[str, list[TagIov]]:
    groups: dict[str, list[TagIov]] = {}
    for link in links:
        groups.setdefault(link.name, []).append(link)
    return groups


def next_possible_run(running: Iterable[TagIov]) -> ExpRun:
    """The first run from which the tag can be updated: after every start and every end it has."""
    after = [(link.iov.exp_low, link.iov.run_low + 1) for link in running]
    after += [link.iov.stop for link in running if not link.iov.is_open]
    return ExpRun(*max(after, default=_BEGINNING))


def applied(before: Iterable[TagIov], plan: UpdatePlan) -> tuple[TagIov, ...]:
    """The content of the tag once the plan is applied, by name and start; created links have no id yet."""
    closed = {
        (operation.name, operation.revision, operation.iov.start): operation.iov
        for operation in plan.operations
        if operation.kind == "close"
    }
    dropped = {operation.link for operation in plan.operations if operation.kind == "drop"}
    created = (operation.link for operation in plan.operations if operation.kind == "create")
    kept = (link for link in before if link.bare not in dropped)
    return tuple(sorted((*(_after_closing(link, closed) for link in kept), *created), key=_place))


def _after_closing(link: TagIov, closed: Mapping[tuple[str, int, Edge], IoV]) -> TagIov:
    remains = closed.get((link.name, link.revision, link.iov.start)) if link.iov.is_open else None
    return link if remains is None else replace(link, iov=remains)


def _place(link: TagIov) -> tuple[str, tuple[int, int], int]:
    return link.name, link.iov.start, link.revision


def merge_tags(tags: Sequence[Sequence[TagIov]], within: IoV | None = None) -> tuple[TagIov, ...]:
    """What a chain of tags looks like as one: free of overlaps, the same answer in every run.

    Args:
        tags: contents, the first has the highest priority; inside one, the highest revision wins.
        within: clip to these runs, ends included; by default everything.

    Returns:
        Links without ids, by name and start; neighbouring IoVs of one revision are one.
    """
    candidates: dict[str, list[_Candidate]] = {}
    for priority, tag in enumerate(tags):
        for link in tag:
            iov = link.iov if within is None else link.iov & within
            if iov is not None:
                rank = (priority, -link.revision)
                candidates.setdefault(link.name, []).append((iov.start, iov.stop, rank))
    return tuple(
        TagIov(name, -rank[1], IoV.of_edges(start, stop))
        for name in sorted(candidates)
        for start, stop, rank in _winners(candidates[name])
    )


def _winners(candidates: list[_Candidate]) -> list[_Candidate]:
    """Who wins where, in order: the lowest rank of those that cover a run; neighbours of one rank are one."""
    waiting = sorted(candidates, reverse=True)
    edges = sorted({edge for start, stop, _ in candidates for edge in (start, stop)})
    valid: list[tuple[_Rank, Edge]] = []
    won: list[_Candidate] = []
    for here, after in pairwise(edges):
        while waiting and waiting[-1][0] == here:
            _, stop, rank = waiting.pop()
            heappush(valid, (rank, stop))
        while valid and valid[0][1] <= here:
            heappop(valid)
        if not valid:
            continue
        rank = valid[0][0]
        start = won.pop()[0] if won and won[-1][1:] == (here, rank) else here
        won.append((start, after, rank))
    return won
