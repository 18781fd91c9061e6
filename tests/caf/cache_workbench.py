"""What the tests of the collector cache do to one: let time pass, and take it back to the former kind of index."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from b2cal_caf.collector_cache import CollectorCache, output_key
from b2cal_caf.root_files import root_bytes

FORMER_TABLES = ("outputs", "counts")


def make_older(cache: Path, hours: float) -> None:
    """As if all that was kept, noted, planned and written was so many hours earlier."""
    seconds = hours * 3600
    with closing(sqlite3.connect(cache / "index.db")) as connection, connection:
        connection.execute("UPDATE kept SET used = used - ?, made = made - ?, removed = removed - ?", (seconds,) * 3)
        connection.execute("UPDATE plans SET planned = planned - ?", (seconds,))
        connection.execute("UPDATE notes SET value = value - ?", (seconds,))
    for file in cache.glob("*/*"):
        earlier = file.stat().st_mtime - seconds
        os.utime(file, (earlier, earlier))


def make_former(cache: Path) -> None:
    """The index as it was when it held outputs and counts only."""
    with closing(sqlite3.connect(cache / "index.db")) as connection, connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if table not in FORMER_TABLES and not table.startswith("sqlite_"):
                connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA user_version = 0")


def some_output(place: Path, keys: Sequence[str], size: int = 10_000) -> tuple[str, Path]:
    """A file of so many bytes that passes for collector output over the keys, with its name."""
    content = root_bytes(lambda _directory: None, None)
    name = output_key(keys)
    file = place / f"{name}.root"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.ljust(size, b"\0"))
    return name, file


def keep(cache: CollectorCache, place: Path, *keys: str, size: int = 10_000) -> str:
    """Keep an output over the keys; its name."""
    name, file = some_output(place, keys, size)
    cache.keep({name: (file, keys)})
    return name
