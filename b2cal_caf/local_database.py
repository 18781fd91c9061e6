"""Testing payload storages: a directory with ``database.txt`` and the payload files it names.

One line per IoV, ``dbstore/<name> <local revision> <first exp>,<first run>,<last exp>,<last run>``; ``#`` starts a
comment; the last line that holds a run wins. The file of a line is ``dbstore_<name>_rev_<local revision>.root``.
The local revision is the shortest beginning, from 6 digits on, of the file's MD5 that no other content took.
Source: basf2 conditions database client, testing payloads.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from b2cal_caf.atomic_files import write_atomically
from b2cal_core.errors import DataError
from b2cal_core.payloads import LocalPayload
from b2cal_core.ranges import ExpRun, IoV

TEXT_FILE = "database.txt"
_LINE = re.compile(r"dbstore/(?P<name>[^\s/]+)\s+(?P<revision>\w+)\s+(?P<iov>-?\d+(?:\s*,\s*-?\d+){3})")
_SHORTEST, _LONGEST = 6, 32


class LocalDatabase:
    """The payloads of one directory; made with the first payload that is added.

    Args:
        directory: holds the text file and the payload files; the path of the text file itself is taken too.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.parent if directory.name == TEXT_FILE else directory
        self._stamp: tuple[int, int] | None = None
        self._entries: tuple[LocalPayload, ...] = ()
        self._by_name: dict[str, list[LocalPayload]] = {}

    def __repr__(self) -> str:
        return f"LocalDatabase({str(self.directory)!r})"

    @property
    def text_file(self) -> Path:
        """The text file with the IoVs."""
        return self.directory / TEXT_FILE

    def entries(self) -> tuple[LocalPayload, ...]:
        """All lines in the order of the file; none when the database was not written yet.

        Raises:
            DataError: a line is malformed or its payload file is missing; the message names file and line.
        """
        try:
            status = self.text_file.stat()
        except FileNotFoundError:
            return ()
        stamp = status.st_mtime_ns, status.st_size
        if stamp != self._stamp:
            self._entries = tuple(self._parse())
            self._by_name = {}
            for entry in self._entries:
                self._by_name.setdefault(entry.name, []).insert(0, entry)
            self._stamp = stamp
        return self._entries

    def names(self) -> frozenset[str]:
        """The payload names it has."""
        return frozenset(entry.name for entry in self.entries())

    def find(self, name: str, run: ExpRun) -> LocalPayload | None:
        """The payload valid in the run; where lines overlap the last one wins."""
        self.entries()
        return next((entry for entry in self._by_name.get(name, ()) if entry.iov.contains(run)), None)

    def add(self, name: str, file: Path, iov: IoV) -> LocalPayload:
        """Copy the payload file under its local revision and append its line; safe from several processes at once."""
        return self.add_all([LocalPayload(name, file, iov)])[0]

    def add_all(self, payloads: list[LocalPayload]) -> list[LocalPayload]:
        """Add several payloads, in order; a reader sees the lines of all or of none."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._locked():
            added = [LocalPayload(p.name, self._store(p.name, p.file), p.iov) for p in payloads]
            lines = [f"dbstore/{p.name} {_revision(p)} {p.iov}\n" for p in added]
            text = self.text_file.read_text() if self.text_file.exists() else ""
            ended = text if not text or text.endswith("\n") else text + "\n"
            write_atomically(self.text_file, (ended + "".join(lines)).encode())
        self._stamp = None
        return added

    def _store(self, name: str, file: Path) -> Path:
        content = file.read_bytes()
        checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
        for digits in range(_SHORTEST, _LONGEST + 1):
            stored = self.directory / f"dbstore_{name}_rev_{checksum[:digits]}.root"
            if not stored.exists():
                write_atomically(stored, content)
                return stored
            if stored.read_bytes() == content:
                return stored
        msg = f"payload file {stored} has another content than its checksum says; remove it"
        raise DataError(msg)

    def _parse(self) -> Iterator[LocalPayload]:
        for number, line in enumerate(self.text_file.read_text().splitlines(), start=1):
            text = line.partition("#")[0].strip()
            if text:
                yield self._parse_line(text, number)

    def _parse_line(self, text: str, number: int) -> LocalPayload:
        found = _LINE.fullmatch(text)
        if not found:
            expected = "dbstore/<name> <revision> <exp>,<run>,<exp>,<run>"
            msg = f"{self.text_file}, line {number}: expected {expected!r}, got {text!r}"
            raise DataError(msg)
        try:
            iov = IoV(*(int(part) for part in found["iov"].split(",")))
        except ValueError as error:
            msg = f"{self.text_file}, line {number}: {error}"
            raise DataError(msg) from error
        file = self.directory / f"dbstore_{found['name']}_rev_{found['revision']}.root"
        if not file.exists():
            msg = f"{self.text_file}, line {number}: payload file {file.name} is missing beside it"
            raise DataError(msg)
        return LocalPayload(found["name"], file, iov)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.directory / ".lock", os.O_CREAT | os.O_RDWR, 0o664)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _revision(payload: LocalPayload) -> str:
    return payload.file.stem.rpartition("_rev_")[2]
