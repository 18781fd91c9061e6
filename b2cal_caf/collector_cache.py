"""What was collected once, by content: the same collector, files and constants are not collected again.

An output is a collector file over some input files. It can be used again whenever all of its input files are wanted,
also where others were added or taken away around them. Beside the outputs lies an index in SQLite; it holds the
events counted per input file too, and what is needed to explain why something is in the cache or is not.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from b2cal_caf.atomic_files import share_file
from b2cal_caf.cache_cleaning import CacheUsage, Cleaned, cached_file, clean, usage, would_clean
from b2cal_caf.cache_index import INDEX_FILE, CacheIndex, CollectorParts, FileParts, claim, record_plan, select
from b2cal_caf.collected import FORMAT_VERSION
from b2cal_caf.layout import RESULTS
from b2cal_caf.root_files import root_damage
from b2cal_core.errors import DataError

_CLEAN_EVERY_SECONDS = 600.0


def file_key(collector: str, file: str, constants: str) -> str:
    """The identity of what a collector finds in one input file, from three identities."""
    return _hashed([f"format {FORMAT_VERSION}", collector, file, constants])


def output_key(file_keys: Iterable[str]) -> str:
    """The identity of a collector file over these input files, in order."""
    return _hashed(file_keys)


class CollectorCache:
    """A directory of collector outputs, shared by all requests; safe from several processes at once.

    Args:
        directory: made when missing.
        limit: bytes that outputs may take; when more is kept, what was not used for longest goes. No limit by default.
    """

    def __init__(self, directory: Path, limit: int | None = None) -> None:
        self.directory = directory
        self._limit = limit
        directory.mkdir(parents=True, exist_ok=True)
        self.index = CacheIndex(directory, self._size_and_time)

    @classmethod
    def existing(cls, directory: Path) -> "CollectorCache":
        """The cache in the directory; ``DataError`` when there is none."""
        if not (directory / INDEX_FILE).is_file():
            msg = f"there is no collector cache in {directory}; nothing was collected there yet, or it was removed"
            raise DataError(msg)
        return cls(directory)

    def find(self, wanted: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
        """Outputs over wanted files only, no two over the same file; larger ones are taken first.

        Returns:
            Output and its files, in the order of the wanted.
        """
        position = {key: number for number, key in enumerate(wanted)}
        with self.index.read() as connection:
            here = "SELECT DISTINCT output, made FROM outputs JOIN kept USING (output) WHERE here AND file"
            made = dict(select(connection, here, wanted))
            rows = select(connection, "SELECT output, file FROM outputs WHERE output", sorted(made))
        contents: dict[str, list[str]] = {}
        for name, file in rows:
            contents.setdefault(name, []).append(file)
        fitting = [(name, files) for name, files in contents.items() if all(file in position for file in files)]
        found: list[tuple[str, tuple[str, ...]]] = []
        taken: set[str] = set()
        lost: dict[str, str] = {}
        for name, files in sorted(fitting, key=lambda item: (-len(item[1]), item[0])):
            if not taken.isdisjoint(files):
                continue
            if (damage := self._damage(name)) is not None:
                lost[name] = damage
                continue
            taken.update(files)
            found.append((name, tuple(sorted(files, key=position.__getitem__))))
        self._note_lost(lost, made)
        return sorted(found, key=lambda item: position[item[1][0]])

    def give(self, output: str, target: Path) -> None:
        """Lay the output at ``target``; ``FileNotFoundError`` when it went since it was found."""
        share_file(self._path(output), target)

    def keep(self, outputs: Mapping[str, tuple[Path, Sequence[str]]]) -> None:
        """Keep new outputs: name to the file and the keys of the input files in it.

        When there is a limit, and the last clean-up was a while ago, outputs above it are removed.
        """
        if not outputs:
            return
        for name, (source, _) in outputs.items():
            if self._damage(name) is not None:
                share_file(source, self._path(name))
        now = time.time()
        with self.index.write() as connection:
            for name, (source, files) in outputs.items():
                path = self._path(name)
                if not path.exists():  # a clean-up was quicker; none runs now
                    share_file(source, path)
                connection.executemany("INSERT OR IGNORE INTO outputs VALUES (?, ?)", [(name, file) for file in files])
                values = (name, now, str(_request_of(source)), path.stat().st_size, now)
                connection.execute(_KEEP, values)
            due = self._limit is not None and claim(connection, "cleaned", every=_CLEAN_EVERY_SECONDS)
        if due:
            self.clean(self._limit)

    def remember(self, plan: Path, collector: CollectorParts, files: Sequence[FileParts], used: Iterable[str]) -> None:
        """Remember what the keys in a new plan are made of, and which outputs it uses.

        Args:
            plan: the file it is written to.
            collector: of the collection.
            files: all files of the plan.
            used: outputs; none of them is cleaned away within the next hour.
        """
        now = time.time()
        with self.index.write() as connection:
            record_plan(connection, plan.resolve(), collector, files)
            connection.executemany("UPDATE kept SET used = ? WHERE output = ?", [(now, name) for name in used])

    def usage(self) -> CacheUsage:
        """How much there is."""
        return usage(self.index)

    def clean(self, limit: int | None) -> Cleaned:
        """Remove outputs that were not used for longest until the others fit the limit, and remains of any kind.

        Nothing used within the last hour is removed; so more than the limit may stay.

        Args:
            limit: bytes; with none only remains go: files that no process knows any more.
        """
        return clean(self.index, self.directory, limit)

    def would_clean(self, limit: int | None) -> Cleaned:
        """What ``clean`` would do now."""
        return would_clean(self.index, self.directory, limit)

    def counts(self, files: Sequence[str]) -> dict[str, int]:
        """Events of the input files that were counted before."""
        with self.index.read() as connection:
            rows = select(connection, "SELECT file, events FROM counts WHERE file", files)
        return {str(file): int(events) for file, events in rows}

    def keep_counts(self, events: Mapping[str, int]) -> None:
        """Keep events per input file."""
        with self.index.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?)", events.items())

    def _path(self, output: str) -> Path:
        return cached_file(self.directory, output)

    def _damage(self, output: str) -> str | None:
        """Why the output cannot be used, if so."""
        try:
            damage = root_damage(self._path(output))
        except FileNotFoundError:
            return "its file was removed by somebody"
        return None if damage is None else f"its file was damaged: {damage}"

    def _note_lost(self, lost: Mapping[str, str], made: Mapping[str, float]) -> None:
        """Note outputs that are not whole any more, unless they were collected again in the meantime."""
        if not lost:
            return
        now = time.time()
        with self.index.write() as connection:
            connection.executemany(
                "UPDATE kept SET here = 0, removed = ?, why = ? WHERE output = ? AND made = ? AND here",
                [(now, why, name, made[name]) for name, why in lost.items()],
            )

    def _size_and_time(self, output: str) -> tuple[int, float] | None:
        try:
            status = self._path(output).stat()
        except FileNotFoundError:
            return None
        return status.st_size, status.st_mtime


_KEEP = (
    "INSERT INTO kept(output, made, request, size, used, here) VALUES (?, ?, ?, ?, ?, 1) "
    "ON CONFLICT(output) DO UPDATE SET used = excluded.used, size = excluded.size, here = 1, "
    "made = CASE WHEN here THEN made ELSE excluded.made END, "
    "request = CASE WHEN here THEN request ELSE excluded.request END"
)


def _request_of(output: Path) -> Path:
    """The directory of the request that an output lies in."""
    return next((folder.parent for folder in output.parents if folder.name == RESULTS), output.parent).resolve()


def _hashed(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
