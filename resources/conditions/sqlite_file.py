"""basf2's sqlite metadata file: global tags with their IoVs and payloads, without the payload files.

Only the format lives here: the tables, and how a file is read. The ids of tags and payloads are those of the server the
file was made from; ids of names and addresses belong to the file. Look-ups are those of basf2.
Source: basf2 conditions database client, local metadata provider.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from b2cal_core.errors import ConfigurationError, DataError
from b2cal_core.payloads import Payload, Resolved
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import ExpRun, IoV

APPLICATION_ID = 0xB2CDB
USER_VERSION = 1

_HEADER = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {USER_VERSION};"
_TABLES = """
    CREATE TABLE baseUrls (baseUrlId INTEGER PRIMARY KEY, baseUrl TEXT UNIQUE);
    CREATE TABLE payloadNames (payloadNameId INTEGER PRIMARY KEY, payloadName TEXT UNIQUE);
    CREATE TABLE payloads (
        payloadId INTEGER PRIMARY KEY,
        payloadNameId INTEGER NOT NULL REFERENCES payloadNames ON UPDATE CASCADE ON DELETE RESTRICT,
        revision INTEGER NOT NULL,
        checksum TEXT NOT NULL,
        payloadUrl TEXT DEFAULT NULL,
        baseUrlId INTEGER NOT NULL REFERENCES baseUrls ON UPDATE CASCADE ON DELETE RESTRICT,
        UNIQUE (payloadNameId, revision)
    );
    CREATE TABLE globaltags (
        globalTagId INTEGER PRIMARY KEY,
        globalTagName TEXT UNIQUE,
        globalTagStatus TEXT NOT NULL
    );
    CREATE TABLE iovs (
        globalTagId INTEGER NOT NULL REFERENCES globaltags ON UPDATE CASCADE ON DELETE CASCADE,
        payloadId INTEGER NOT NULL REFERENCES payloads ON UPDATE CASCADE ON DELETE RESTRICT,
        firstExp INTEGER NOT NULL,
        firstRun INTEGER NOT NULL,
        finalExp INTEGER NOT NULL,
        finalRun INTEGER NOT NULL
    );
    CREATE UNIQUE INDEX iov_index ON iovs (globalTagId, firstExp, firstRun, finalExp, finalRun, payloadId);
    CREATE VIEW full_payloads AS
        SELECT payloadId, payloadName, revision, checksum,
            ifnull(
                payloadUrl,
                'dbstore/' || payloadName || '/dbstore_' || payloadName || '_rev_' || revision || '.root'
            ) AS payloadUrl,
            baseUrl
        FROM payloads JOIN payloadNames USING (payloadNameId) JOIN baseUrls USING (baseUrlId);
    CREATE VIEW iov_payloads AS
        SELECT globalTagName, payloadId, payloadName, revision, checksum, firstExp, firstRun, finalExp, finalRun,
            payloadUrl, baseUrl
        FROM globaltags JOIN iovs USING (globalTagId) JOIN full_payloads USING (payloadId);
"""
SCHEMA = _HEADER + _TABLES
"""Makes the tables and views of a file in an empty database; a payloadUrl in the standard form is kept as NULL."""

_LINKS = """
    SELECT payloadName, revision, checksum, firstExp, firstRun, finalExp, finalRun
    FROM iov_payloads WHERE globalTagName = :tag
"""
_HOLDS_THE_RUN = """
    AND (firstExp < :exp OR (firstExp = :exp AND firstRun <= :run))
    AND (finalExp < 0 OR (finalRun < 0 AND finalExp >= :exp) OR finalExp > :exp
         OR (finalExp = :exp AND finalRun >= :run))
"""
_ORDER = " ORDER BY payloadName, firstExp, firstRun, revision"
_MD5 = re.compile(r"[0-9a-f]{32}")
_NO_FILE_NAME = re.compile(r"[/\0]")

PayloadRevision = tuple[str, int]
"""Name and revision."""


@dataclass(frozen=True, slots=True)
class FileTag:
    """A global tag of a file; ``status`` is the server's word for its state, whichever that is."""

    id: int
    name: str
    status: str


@dataclass(frozen=True, slots=True)
class TagContent:
    """A tag as it is put into a file."""

    name: str
    status: str
    iovs: tuple[TagIov, ...]
    payloads: Mapping[PayloadRevision, Payload]


def connected(file: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)


class SqliteMetadata:
    """A metadata file that is read; to be closed, or used in a ``with`` statement.

    Raises:
        DataError: there is no such file, or it is no metadata file of the version that is understood; also from every
            method, when the file is damaged or holds what no conditions database does.
    """

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise DataError(f"there is no sqlite metadata file {file}; check its name")
        self._file = file
        with self._damage():
            self._connection = connected(file)
        try:
            self._check_version()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def check(self) -> None:
        """Read the whole file; ``DataError`` when a page of it is damaged, or an IoV leads nowhere."""
        found = [str(row[0]) for row in self._rows("PRAGMA quick_check")]
        dangling = self._rows("PRAGMA foreign_key_check")
        if found != ["ok"] or dangling:
            reasons = [*found, f"{len(dangling)} rows name others that are not there"]
            raise DataError(f"{self._file} is damaged ({'; '.join(reasons[:3])}); fetch or export it again")

    def base_urls(self) -> frozenset[str]:
        """The addresses of the servers whose payloads are in the file; a file made rightly has one."""
        return frozenset(str(row[0]) for row in self._rows("SELECT baseUrl FROM baseUrls"))

    def tags(self) -> tuple[FileTag, ...]:
        """The tags by name."""
        columns = "globalTagId, globalTagName, globalTagStatus"
        return tuple(FileTag(*row) for row in self._rows(f"SELECT {columns} FROM globaltags ORDER BY globalTagName"))  # noqa: S608 (a constant)

    def content(self, tag: str) -> TagContent:
        """All of a tag, links by name, start and revision, without ids; ``ConfigurationError`` when it is unknown."""
        found = {known.name: known for known in self.tags()}
        if tag not in found:
            raise ConfigurationError(f"{self._file} has no tag {tag}; it has {', '.join(found) or 'none'}")
        rows = [self._link(row) for row in self._rows(_LINKS + _ORDER, tag=tag)]
        payloads = {(payload.name, payload.revision): payload for payload, _ in rows}
        links = tuple(TagIov(payload.name, payload.revision, iov) for payload, iov in rows)
        return TagContent(tag, found[tag].status, links, payloads)

    def valid(self, tag: str, run: ExpRun) -> Mapping[str, Resolved]:
        """The payload of every name in a run, as basf2 looks it up: of several, the highest revision."""
        rows = self._rows(_LINKS + _HOLDS_THE_RUN + " ORDER BY revision", tag=tag, exp=run.exp, run=run.run)
        links = (self._link(row) for row in rows)
        return {payload.name: Resolved(payload, iov, tag) for payload, iov in links}

    def known_payloads(self) -> Mapping[PayloadRevision, tuple[int, str]]:
        """(name, revision) of every payload, also of those in no tag, to its id and MD5."""
        rows = self._rows("SELECT payloadName, revision, payloadId, checksum FROM full_payloads")
        return {(name, revision): (number, md5) for name, revision, number, md5 in rows}

    def _link(self, row: tuple[Any, ...]) -> tuple[Payload, IoV]:
        name, revision, checksum, *numbers = row
        try:
            iov = IoV(*numbers)
        except (TypeError, ValueError) as error:
            raise DataError(f"{self._file} has {name} revision {revision} with a bad IoV: {error}") from error
        if _NO_FILE_NAME.search(name) or not _MD5.fullmatch(checksum):
            raise DataError(f"{self._file} has {name!r} revision {revision} with MD5 {checksum!r}; that is no payload")
        return Payload(name, revision, checksum), iov

    def _check_version(self) -> None:
        for pragma, wanted in (("application_id", APPLICATION_ID), ("user_version", USER_VERSION)):
            found = self._rows(f"PRAGMA {pragma}")[0][0]
            if found != wanted:
                raise DataError(
                    f"{self._file} has {pragma} {found:#x} instead of {wanted:#x}; it is no conditions metadata file,"
                    " or one of another version: make it again with b2conditionsdb or b2cal"
                )

    def _rows(self, query: str, **values: str | int) -> list[tuple[Any, ...]]:
        with self._damage():
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise DataError(f"{self._file} cannot be read: {error}; fetch or export it again") from error
