"""Payload files on disk, each under the hash of its content.

A file appears under its final name only when it is complete and on disk: it is written beside its place, synced,
renamed, and the directory is synced. It never changes afterwards, and its hash is checked whenever it is handed out.
"""

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from b2cal_core.errors import BackendError, DataError, IntegrityError

_CHUNK = 1 << 20
_OPEN_AT_ONCE = 100
_SYNCS_AT_ONCE = 8
_INCOMING = ".incoming-"
_ABANDONED_SECONDS = 24 * 3600
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True, slots=True)
class Content:
    """What identifies a file's content; hashes in lower-case hex, size in bytes."""

    md5: str
    sha256: str
    size: int


def content_of(file: Path) -> Content:
    """The hashes and size of a file; ``DataError`` when it cannot be read."""
    try:
        return _hashed(file)
    except OSError as error:
        raise DataError(f"payload file {file} cannot be read: {error.strerror}; check where it was written") from error


class PayloadStore:
    """The directory with the payload files.

    Args:
        directory: made when it is missing.
        on_step: told the name of each step before it is taken.
    """

    def __init__(self, directory: Path, on_step: Callable[[str], None]) -> None:
        self._directory = directory
        self._on_step = on_step
        with _disk_errors(directory):
            directory.mkdir(parents=True, exist_ok=True)

    def add_all(self, files: Iterable[Path]) -> dict[Path, Content]:
        """Keep copies of the files; content that is there already, and undamaged, is not written again."""
        contents = {file: content_of(file) for file in files}
        distinct = {content: file for file, content in contents.items()}
        missing = [file for content, file in distinct.items() if not self._is_intact(content)]
        with _disk_errors(self._directory):
            self._remove_abandoned()
            self._write_all({file: contents[file] for file in missing})
        return contents

    @property
    def is_empty(self) -> bool:
        """Whether no content was ever kept."""
        return not any(entry.is_dir() for entry in self._directory.iterdir())

    def path(self, sha256: str) -> Path:
        """Where the content with this hash is, or would be."""
        return self._directory.joinpath(sha256[:2], sha256)

    def verified(self, sha256: str, described: str) -> Path:
        """The file with this hash.

        Raises:
            IntegrityError: it is missing or its content has another hash; ``described`` tells people what it is.
        """
        path = self.path(sha256)
        try:
            found = _hashed(path).sha256
        except OSError as error:
            message = f"the file of {described} cannot be read ({path}: {error.strerror}); put back a copy of it"
            raise IntegrityError(message) from error
        if found != sha256:
            raise IntegrityError(
                f"the file of {described} is damaged: {path} has SHA-256 {found}; upload the payload again or put back"
                " a copy of the file"
            )
        return path

    def _is_intact(self, content: Content) -> bool:
        try:
            return _hashed(self.path(content.sha256)) == content
        except OSError:
            return False  # absent, or unreadable and then to be written anew

    def _remove_abandoned(self) -> None:
        """Remove what writers that were killed left half written; nobody writes one file for a day."""
        oldest = time.time() - _ABANDONED_SECONDS
        for entry in os.scandir(self._directory):
            if entry.name.startswith(_INCOMING) and entry.stat().st_mtime < oldest:
                Path(entry.path).unlink(missing_ok=True)

    def _write_all(self, files: Mapping[Path, Content]) -> None:
        """Write, sync, then rename; each directory is synced once for all the files that came into it."""
        complete: dict[Path, Path] = {}
        try:
            for some in _lists(files, _OPEN_AT_ONCE):
                with ExitStack() as opened:
                    descriptors = [self._write(file, files[file], complete, opened) for file in some]
                    _sync(descriptors)
            for temporary, path in complete.items():
                self._place(temporary, path)
        except BaseException:
            for temporary in complete:
                temporary.unlink(missing_ok=True)
            raise
        if files:
            _sync_directories({path.parent for path in complete.values()} | {self._directory})
            self._on_step("payload files in place")

    def _write(self, file: Path, content: Content, complete: dict[Path, Path], opened: ExitStack) -> int:
        """Write a copy, noted in ``complete`` with its final place; the descriptor stays open, to be synced."""
        descriptor, name = tempfile.mkstemp(prefix=_INCOMING, dir=self._directory)
        complete[Path(name)] = self.path(content.sha256)
        target = opened.enter_context(os.fdopen(descriptor, "wb"))
        self._on_step("write payload file")
        copied = _hashed(file, copy_to=target)
        target.flush()
        _require_same(file, content, copy=copied)
        return descriptor

    def _place(self, temporary: Path, path: Path) -> None:
        self._on_step("rename payload file")
        path.parent.mkdir(exist_ok=True)
        temporary.chmod(0o444)
        temporary.replace(path)


def _require_same(file: Path, content: Content, *, copy: Content) -> None:
    if copy != content:
        raise IntegrityError(f"payload file {file} was changed while it was read; write it elsewhere, then upload it")


def _hashed(file: Path, copy_to: BinaryIO | None = None) -> Content:
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
            size += len(chunk)
            if copy_to is not None:
                copy_to.write(chunk)
    return Content(md5.hexdigest(), sha256.hexdigest(), size)


def _sync_directories(directories: Iterable[Path]) -> None:
    for some in _lists(sorted(directories), _OPEN_AT_ONCE):
        with ExitStack() as opened:
            descriptors = [os.open(directory, os.O_RDONLY) for directory in some]
            for descriptor in descriptors:
                opened.callback(os.close, descriptor)
            _sync(descriptors)


def _sync(descriptors: Sequence[int]) -> None:
    """Wait until all of it is on the disk; asked for at once, it gets there in few strokes, not in one for each."""
    with ThreadPoolExecutor(max(1, min(_SYNCS_AT_ONCE, len(descriptors)))) as pool:
        for _ in pool.map(os.fsync, descriptors):
            pass


def _lists(values: Iterable[Path], size: int) -> Iterator[list[Path]]:
    waiting = iter(values)
    while some := list(islice(waiting, size)):
        yield some


@contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        advice = "free some space" if error.errno in _NO_SPACE else "check the disk and the rights of the directory"
        message = f"cannot write a payload file below {directory}: {error.strerror}; {advice} and ask again"
        raise BackendError(message, transient=False) from error
