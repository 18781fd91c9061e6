"""Whether every run that is to be simulated has all its constants."""

from collections.abc import Iterable, Sequence

from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV, IoVSet


def runs_without_constants(
    runs: Iterable[ExpRun], names: Iterable[str], chain: Iterable[Sequence[TagIov]]
) -> dict[ExpRun, tuple[str, ...]]:
    """The runs that lack a payload, each with the names of what it lacks, in order.

    Args:
        runs: that are to be simulated.
        names: of the payloads that each must have.
        chain: the content of each global tag that is searched; which of them has a payload does not matter here.
    """
    wanted = sorted(set(names))
    links: dict[str, list[IoV]] = {name: [] for name in wanted}
    for link in (link for tag in chain for link in tag if link.name in links):
        links[link.name].append(link.iov)
    covered = {name: IoVSet(iovs, allow_overlaps=True).iovs for name, iovs in links.items()}
    missing = {
        run: tuple(name for name in wanted if not any(iov.contains(run) for iov in covered[name]))
        for run in sorted(set(runs))
    }
    return {run: lacks for run, lacks in missing.items() if lacks}
