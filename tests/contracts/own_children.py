"""Which processes this one has started and not waited for."""

import os
from pathlib import Path

_SHARED = frozenset({"mariadbd"})
"""Servers that belong to the whole session of tests."""


def own_children() -> list[str]:
    """The programs of the child processes that are there, running or ended, but for servers that tests share."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        if int(rest.split()[1]) == os.getpid() and name not in _SHARED:
            found.append(name)
    return found
