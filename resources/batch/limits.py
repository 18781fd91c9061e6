"""How much memory jobs on this machine take."""

import os
from collections.abc import Mapping

import psutil

_MB = 2**20


def memory_of_groups(groups: frozenset[int]) -> Mapping[int, int]:
    """Process group to the MB that its processes hold in memory, for those of the groups that are there.

    Pages that a warm process shares with the one it was forked from count; compare with what it held when idle.
    """
    found: dict[int, int] = {}
    for pid in psutil.pids() if groups else ():
        try:
            group = os.getpgid(pid)
            if group in groups:
                found[group] = found.get(group, 0) + psutil.Process(pid).memory_info().rss // _MB
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue  # it has ended meanwhile
    return found
