"""Plans for changes to OPEN tags: gaps filled, ends opened or set, local calibrations copied in, tags merged.

Each goes from the content of tags to the fewest links that must be dropped and created; a prolonged or shortened IoV is
dropped and created anew. Pure rules; nothing here reads or writes a database.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from b2cal_core.errors import ConfigurationError, ConflictError, in_short
from b2cal_core.publishing import Operation, TagIov, UpdatePlan, merge_tags
from b2cal_core.ranges import Edge, ExpRun, IoV, IoVSet

_EVERYTHING = IoV(0, 0, -1, -1)


def fill_gaps(
    links: Iterable[TagIov],
    within: IoV,
    *,
    names: Iterable[str] | None = None,
    runs: Iterable[ExpRun] | None = None,
) -> UpdatePlan:
    """Where ``within`` has no payload of a name, make the one before valid up to the next one or the end of ``within``.

    Runs before the first payload of a name stay without; a coverage of the result shows them.

    Args:
        links: content of the tag.
        within: the runs that must be covered, ends included; nothing outside changes.
        names: only these; leave out what ended on purpose. By default every name of the tag.
        runs: runs that were taken; a gap without any is left. By default every gap counts.

    Raises:
        ConfigurationError: the tag has nothing of one of ``names``.
    """
    taken = None if runs is None else sorted(runs)
    dropped: list[TagIov] = []
    added: list[TagIov] = []
    for group in _chosen(links, names).values():
        for gap in IoVSet((link.iov for link in group), allow_overlaps=True).missing_from(within):
            earlier = [link for link in group if link.iov.stop <= gap.start]
            if not earlier or not _matters(gap, taken):
                continue
            last = max(earlier, key=_latest)
            touches = last.iov.stop == gap.start
            dropped += [last] if touches else []
            added.append(replace(last, iov=IoV.of_edges(last.iov.start if touches else gap.start, gap.stop)))
    return _swapped(dropped, added)


def open_last(links: Iterable[TagIov], *, names: Iterable[str] | None = None) -> UpdatePlan:
    """Make the last payload of each name valid for ever.

    Raises:
        ConfigurationError: the tag has nothing of one of ``names``.
    """
    last = [max(group, key=_latest) for group in _chosen(links, names).values()]
    return _swapped(last, (replace(link, iov=IoV.of_edges(link.iov.start, _EVERYTHING.stop)) for link in last))


def close_at(links: Iterable[TagIov], stop: ExpRun, *, names: Iterable[str]) -> UpdatePlan:
    """Let ``names`` end before ``stop``: from that run on the tag has nothing of them.

    Raises:
        ConfigurationError: the tag has nothing of one of ``names``.
    """
    ended = IoV.of_edges(stop.edge, _EVERYTHING.stop)
    shortened = [link for group in _chosen(links, names).values() for link in group if link.iov.overlaps(ended)]
    return _swapped(shortened, _without(shortened, ended))


def copy_clipped(
    target: Iterable[TagIov], source: Iterable[TagIov], *, within: IoV, names: Iterable[str] | None = None
) -> UpdatePlan:
    """Give the target, in ``within`` only, exactly what the source has of ``names``: no more, no less.

    What the target has of them is trimmed or split at the ends of ``within``; outside, readers see no difference.

    Args:
        target: content of the tag that is changed.
        source: content of the tag that is copied from; where it has two payloads for a run, the higher revision counts.
        within: a bucket's runs, ends included.
        names: by default every name the source has in ``within``.

    Raises:
        ConfigurationError: the source has nothing of one of ``names`` in ``within``, so that copying would only erase.
    """
    present = _chosen(target, None)
    dropped: list[TagIov] = []
    added: list[TagIov] = []
    for name, copied in _chosen(merge_tags([list(source)], within), names).items():
        inside = [link for link in present.get(name, ()) if link.iov.overlaps(within)]
        if merge_tags([inside], within) != tuple(copied):
            dropped += inside
            added += merge_tags([[*_without(inside, within), *copied]])
    return _swapped(dropped, added)


def merge_into(
    target: Iterable[TagIov], sources: Sequence[Sequence[TagIov]], *, within: IoV | None = None
) -> UpdatePlan:
    """Fill the target, which should be empty, with what a chain of tags looks like as one.

    Args:
        target: content of the tag that is filled; links that the merge would make too are left as they are.
        sources: contents of the chain, the first has the highest priority.
        within: clip to these runs, ends included; by default everything.

    Raises:
        ConflictError: the target has another payload of the same name for one of the runs.
    Source: Belle II conditions database tools, merge of global tags.
    """
    present = list(target)
    known = {link.bare for link in present}
    added = [link for link in merge_tags(sources, within) if link not in known]
    if trimmed := set(merge_tags([added])) - set(merge_tags([present, added])):
        _refuse_clashes(present, trimmed)
    return _swapped((), added)


def _refuse_clashes(present: Iterable[TagIov], wanted: Iterable[TagIov]) -> NoReturn:
    groups = _chosen(present, None)
    pairs = ((new, old) for new in _in_order(wanted) for old in groups.get(new.name, ()))
    clashes = [f"{old.name} revision {old.revision} in {both}" for new, old in pairs if (both := old.iov & new.iov)]
    raise ConflictError(
        f"the tag to be filled has {in_short(clashes)} already; merge into an empty tag. Nothing was changed"
    )


def _matters(gap: IoV, taken: Sequence[ExpRun] | None) -> bool:
    """Whether a run was taken in the gap, or nobody knows which were."""
    if taken is None:
        return True
    place = bisect_left(taken, gap.start, key=lambda run: run.edge)
    return place < len(taken) and gap.contains(taken[place])


def _chosen(links: Iterable[TagIov], names: Iterable[str] | None) -> dict[str, list[TagIov]]:
    """The links of each of ``names``, by name."""
    groups: dict[str, list[TagIov]] = {}
    for link in links:
        groups.setdefault(link.name, []).append(link)
    wanted = sorted(set(groups if names is None else names))
    if missing := [name for name in wanted if name not in groups]:
        raise ConfigurationError(
            f"the tag has no payload {', '.join(missing)} in these runs; check the name, or leave it out."
            " Nothing was changed"
        )
    return {name: groups[name] for name in wanted}


def _latest(link: TagIov) -> tuple[Edge, int]:
    """Sorts by the end; of several with one end, readers get the highest revision."""
    return link.iov.stop, link.revision


def _without(links: Iterable[TagIov], cut: IoV) -> list[TagIov]:
    return [TagIov(link.name, link.revision, iov) for link in links for iov in link.iov - cut]


def _swapped(dropped: Iterable[TagIov], added: Iterable[TagIov]) -> UpdatePlan:
    """Links are dropped and others created, by name and start; what would come back as it was is left."""
    ids: Mapping[TagIov, int | None] = {link.bare: link.id for link in dropped}
    created = {link.bare for link in added}
    dropping = (Operation("drop", *_row(link), id=ids[link]) for link in _in_order(ids.keys() - created))
    creating = (Operation("create", *_row(link)) for link in _in_order(created - ids.keys()))
    return UpdatePlan((*dropping, *creating))


def _row(link: TagIov) -> tuple[str, int, IoV]:
    return link.name, link.revision, link.iov


def _in_order(links: Iterable[TagIov]) -> list[TagIov]:
    return sorted(links, key=lambda link: (link.name, link.iov.start, link.revision, link.iov.stop))
