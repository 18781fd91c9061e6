"""The input files of a collection: which can be used, how many events they hold, and why the others are left out."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from b2cal_caf.calibration import Collection, Collector
from b2cal_caf.collector_cache import CollectorCache
from b2cal_caf.collector_identity import code_hash
from b2cal_caf.root_files import root_damage
from b2cal_core.ranges import ExpRun, IoV


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file that can be used; ``identity`` changes when its content does."""

    path: Path
    run: ExpRun
    events: int
    identity: str


@dataclass(frozen=True, slots=True)
class CheckedFiles:
    """The files that can be used, in order, and the names of those that cannot with the reason."""

    usable: tuple[InputFile, ...]
    rejected: Mapping[str, str]


def file_identity(path: Path, status: os.stat_result) -> str:
    """Path, size and time of the last change; equal while nobody wrote to the file."""
    return f"{path} {status.st_size} {status.st_mtime_ns}"


def check_files(
    collection: Collection,
    cache: CollectorCache,
    *,
    ignored: Iterable[ExpRun],
    requested_iov: IoV | None,
    excluded: Mapping[str, str],
) -> CheckedFiles:
    """Look at every file of the collection that is asked for; files of ignored runs are passed over without a word.

    ``excluded`` is file to the reason why it was left out of the request.
    """
    left_out = frozenset(ignored)
    rejected: dict[str, str] = {}
    whole: dict[str, tuple[Path, ExpRun]] = {}
    seen: set[tuple[int, int]] = set()
    for path, run in collection.input_files.items():
        if run in left_out or (requested_iov is not None and not requested_iov.contains(run)):
            continue
        if str(path) in excluded:
            rejected[str(path)] = excluded[str(path)]
            continue
        identity, reason = _look_at(path, seen)
        if reason is None:
            whole[identity] = path, run
        else:
            rejected[str(path)] = reason
    events = _count(collection.collector, whole, cache, rejected)
    usable = tuple(
        InputFile(path, run, events[identity], identity)
        for identity, (path, run) in whole.items()
        if identity in events
    )
    return CheckedFiles(usable, rejected)


def _look_at(path: Path, seen: set[tuple[int, int]]) -> tuple[str, str | None]:
    """Identity of the file, and why it cannot be used."""
    try:
        status = path.stat()
        if (status.st_dev, status.st_ino) in seen:
            return "", "it is listed twice"
        seen.add((status.st_dev, status.st_ino))
        return file_identity(path, status), root_damage(path)
    except FileNotFoundError:
        return "", "it does not exist"
    except OSError as error:
        return "", f"it cannot be read: {error.strerror}"


def _count(
    collector: Collector,
    whole: Mapping[str, tuple[Path, ExpRun]],
    cache: CollectorCache,
    rejected: dict[str, str],
) -> dict[str, int]:
    """Events per identity of the files that hold some; the others go to ``rejected``."""
    manner = "tree" if type(collector).count is Collector.count else code_hash(type(collector))
    keys = {identity: f"{manner} {identity}" for identity in whole}
    known = cache.counts(list(keys.values()))
    fresh: dict[str, int] = {}
    counted: dict[str, int] = {}
    for identity, (path, _) in whole.items():
        key = keys[identity]
        try:
            events = known[key] if key in known else fresh.setdefault(key, collector.count(path))
        except Exception as error:  # noqa: BLE001 (one unreadable file among thousands is reported, not fatal)
            rejected[str(path)] = f"its events cannot be counted: {type(error).__name__}: {error}"
            continue
        if events > 0:
            counted[identity] = events
        else:
            rejected[str(path)] = "it holds no events"
    cache.keep_counts(fresh)
    return counted
