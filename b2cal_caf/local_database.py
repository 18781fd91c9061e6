"""Testing payload storages: a directory with ``database.txt`` and the payload files it names.

One line per IoV, ``dbstore/<name> <local revision> <first exp>,<first run>,<last exp>,<last run>``; ``#`` starts a
comment; the last line that holds a run wins. The file of a line is ``dbstore_<name>_rev_<local revision>.root``, also
when it is no ROOT file, as the payload's name tells by a dot in it. The local revision is written as the shortest
beginning, from 6 digits on, of the file's MD5 that no other content took; it is read as whatever it is.
Source: basf2 conditions database client, testing payloads.
"""

import fcntl
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from b2cal_caf.atomic_files import write_atomically
from b2cal_core.errors import DataError
from b2cal_core.payloads import LocalPayload
from b2cal_core.ranges import ExpRun, IoV

TEXT_FILE = "database.txt"
_NAME = re.compile(r"[^\s/#]+")
_LINE = re.compile(r"dbstore/(?P<name>[^\s/]+)\s+(?P<revision>[^\s/]+)\s+(?P<iov>-?\d+(?:\s*,\s*-?\d+){3})")
_SHORTEST, _LONGEST = 6, 32


class LocalDatabase:
    """The payloads of one directory; made with the first payload that is added.

    Args:
        path: the directory with ``database.txt`` and the payload files, or the text file itself, whatever its name; one
            that does not exist is taken for a text file when it ends in ``.txt``.
    """

    def __init__(self, path: Path) -> None:
        names_text_file = path.is_file() or (path.suffix == ".txt" and not path.is_dir())
        self.text_file = path if names_text_file else path / TEXT_FILE
        self.directory = self.text_file.parent
        self._stamp: tuple[int, int] | None = None
        self._entries: tuple[LocalPayload, ...] = ()
        self._by_name: dict[str, list[LocalPayload]] = {}

    def __repr__(self) -> str:
        return f"LocalDatabase({str(self.text_file)!r})"

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
        """The payload valid in the run; where lines overlap the last one wins.

        Raises:
            DataError: as ``entries``, or its payload file has gone since.
        """
        self.entries()
        found = next((entry for entry in self._by_name.get(name, ()) if entry.iov.contains(run)), None)
        if found is not None and not found.file.exists():
            msg = f"payload file {found.file}, valid for {name} in {run}, is missing; put it back"
            raise DataError(msg)
        return found

    def add(self, name: str, file: Path, iov: IoV) -> LocalPayload:
        """Copy the payload file under its local revision and append its line; safe from several processes at once.

        Raises:
            DataError: the name cannot be written into a line; nothing was written.
        """
        return self.add_all([LocalPayload(name, file, iov)])[0]

    def add_all(self, payloads: list[LocalPayload]) -> list[LocalPayload]:
        """Add several payloads, in order; a reader sees the lines of all or of none."""
        for payload in payloads:
            _check_name(payload.name)
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._locked() as before:
            added = [LocalPayload(p.name, self._store(p.name, p.file), p.iov) for p in payloads]
            lines = [f"dbstore/{p.name} {_revision(p)} {p.iov}\n" for p in added]
            ended = before if not before or before.endswith(b"\n") else before + b"\n"
            write_atomically(self.text_file, ended + "".join(lines).encode())
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
        try:
            lines = self.text_file.read_bytes().decode().split("\n")
        except UnicodeDecodeError as error:
            msg = f"{self.text_file} is no text in UTF-8 ({error}); it is damaged, or no testing payload storage"
            raise DataError(msg) from error
        for number, line in enumerate(lines, start=1):
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
    def _locked(self) -> Iterator[bytes]:
        """Keep all other writers out; gives what the text file says now.

        The text file is replaced, so our own writers lock another one. basf2 locks the text file itself and appends.
        """
        with (self.directory / ".lock").open("ab") as own:
            fcntl.flock(own, fcntl.LOCK_EX)
            try:
                text = self.text_file.open("r+b")
            except FileNotFoundError:
                yield b""
                return
            with text:
                fcntl.lockf(text, fcntl.LOCK_EX)  # a record lock, as basf2 takes it
                yield text.read()


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        msg = f"a payload cannot be called {name!r} in a testing payload storage: no white space, slash or # is allowed"
        raise DataError(msg)


def _revision(payload: LocalPayload) -> str:
    return payload.file.stem.rpartition("_rev_")[2]
