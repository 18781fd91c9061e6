"""Which processes this one has started and not waited for."""

import os
from pathlib import Path


def own_children() -> frozenset[tuple[int, str]]:
    """Process id and program of the child processes that are there, running or ended.

    Servers that tests share are among them: compare with what was there before.
    """
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, _, rest = stat.read_text().partition(" (")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        name, _, fields = rest.rpartition(")")
        if int(fields.split()[1]) == os.getpid():
            found.add((int(pid), name))
    return frozenset(found)
