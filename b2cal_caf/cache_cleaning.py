"""Keeping the collector cache within its size: what was not used for longest goes first.

Files are removed while the index is locked, and whoever keeps an output looks for its file under the same lock, so
that no process keeps what another one just removed. Who takes an output takes no lock; it may find it gone.
"""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from b2cal_caf.cache_index import CacheIndex, forget_old

SPARED_SECONDS = 3600.0
"""An output used more recently is not removed: a request that found it may be about to take it."""
_SETTLED_SECONDS = 86_400.0
"""Younger files without a row in the index may be about to get one."""
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """What a cache holds.

    Attributes:
        size: bytes of the outputs.
        oldest_use: of the output not used for longest, in seconds since 1970; none in an empty cache.
        index_size: bytes of the index, beside the outputs.
    """

    outputs: int
    size: int
    oldest_use: float | None
    index_size: int


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a clean-up removed.

    Attributes:
        outputs: how many were removed to fit the limit.
        size: their bytes.
        shared: bytes among these that stay on the disk while request directories hold links to them.
        strays: files without a row in the index.
        lost: rows of the index whose file was gone.
    """

    outputs: int = 0
    size: int = 0
    shared: int = 0
    strays: int = 0
    lost: int = 0


def cached_file(directory: Path, output: str) -> Path:
    """Where a cache keeps an output."""
    return directory / output[:2] / f"{output}.root"


def usage(index: CacheIndex) -> CacheUsage:
    """What the cache holds."""
    with index.read() as connection:
        query = "SELECT count(*), coalesce(sum(size), 0), min(used) FROM kept WHERE here"
        outputs, size, oldest = connection.execute(query).fetchone()
    return CacheUsage(outputs, size, oldest, index.path.stat().st_size)


def clean(index: CacheIndex, directory: Path, limit: int | None) -> Cleaned:
    """Remove outputs beyond the limit in bytes, if there is one, then remains; other processes may work meanwhile."""
    outputs = size = shared = 0
    more = limit is not None
    while more and limit is not None:
        with index.write() as connection:
            portion = list(islice(_beyond(connection, limit), _AT_ONCE))
            for output, its_size in portion:
                shared += _remove(cached_file(directory, output))
                size += its_size
            why = f"it was not used for longest when the cache was cleaned to {limit / 1e9:g} GB"
            _mark_gone(connection, [output for output, _ in portion], why)
        outputs += len(portion)
        more = len(portion) == _AT_ONCE
    files = _files(directory)
    with index.write() as connection:
        strays, lost = _remains(connection, directory, files)
        for stray in strays:
            stray.unlink(missing_ok=True)
        _mark_gone(connection, lost, "its file was removed by somebody")
        forget_old(connection)
    return Cleaned(outputs, size, shared, len(strays), len(lost))


def would_clean(index: CacheIndex, directory: Path, limit: int | None) -> Cleaned:
    """What ``clean`` would do now."""
    files = _files(directory)
    with index.read() as connection:
        beyond = list(_beyond(connection, limit)) if limit is not None else []
        strays, lost = _remains(connection, directory, files)
    lost = [output for output in lost if output not in dict(beyond)]
    shared = sum(_shared(cached_file(directory, output)) for output, _ in beyond)
    return Cleaned(len(beyond), sum(size for _, size in beyond), shared, len(strays), len(lost))


def _beyond(connection: sqlite3.Connection, limit: int) -> Iterator[tuple[str, int]]:
    """Outputs that have to go, with their sizes."""
    (total,) = connection.execute("SELECT coalesce(sum(size), 0) FROM kept WHERE here").fetchone()
    oldest_first = "SELECT output, size FROM kept WHERE here AND used < ? ORDER BY used, output"
    for output, size in connection.execute(oldest_first, (time.time() - SPARED_SECONDS,)):
        if total <= limit:
            return
        total -= size
        yield output, size


def _remains(connection: sqlite3.Connection, directory: Path, files: dict[str, Path]) -> tuple[list[Path], list[str]]:
    """Files that no row knows, and outputs of rows without a file, both for more than a day."""
    before = time.time() - _SETTLED_SECONDS
    here = dict(connection.execute("SELECT output, used FROM kept WHERE here").fetchall())
    known = {f"{output}.root" for output in here}
    strays = [path for name, path in files.items() if name not in known and _changed(path) < before]
    lost = [
        output
        for output, used in here.items()
        if used < before and f"{output}.root" not in files and not cached_file(directory, output).exists()
    ]
    return strays, lost


def _files(directory: Path) -> dict[str, Path]:
    return {path.name: path for path in directory.glob("[0-9a-f][0-9a-f]/*")}


def _mark_gone(connection: sqlite3.Connection, outputs: list[str], why: str) -> None:
    now = time.time()
    connection.executemany(
        "UPDATE kept SET here = 0, removed = ?, why = ? WHERE output = ?", [(now, why, output) for output in outputs]
    )


def _remove(path: Path) -> int:
    shared = _shared(path)
    path.unlink(missing_ok=True)
    return shared


def _shared(path: Path) -> int:
    """Bytes that would stay on the disk if this link to them went."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    return status.st_size if status.st_nlink > 1 else 0


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
