"""Putting global tags into a metadata file of basf2's: on a copy, which takes the place of the file in one step."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from b2cal_core.errors import BackendError, ConflictError
from resources.conditions.sqlite_file import SCHEMA, PayloadRevision, SqliteMetadata, TagContent, connected


@dataclass(frozen=True, slots=True)
class ServerIds:
    """What a server calls its tags and payloads; those that are not named get ids that belong to the file."""

    tags: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    payloads: Mapping[PayloadRevision, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class MetadataSource:
    """The database that tags come from: its address, blank when it has none, and its ids."""

    base_url: str = ""
    ids: ServerIds = field(default_factory=ServerIds)


def refuse_another_server(file: Path, contents: Iterable[TagContent], source: MetadataSource) -> None:
    """``ConflictError`` when the file was made from another database than the contents.

    Ids and revisions of two databases name different things, so that one would take the place of the other.
    """
    if not file.exists():
        return
    with SqliteMetadata(file) as present:
        reasons = [f"it has payloads of {_server(url)}" for url in sorted(present.base_urls() - {source.base_url})]
        reasons += [
            f"tag {tag.name} has the id {tag.id}, not {source.ids.tags[tag.name]}"
            for tag in present.tags()
            if source.ids.tags.get(tag.name, tag.id) != tag.id
        ]
        reasons += _contradictions(present.known_payloads(), contents, source.ids)
    if reasons:
        raise ConflictError(
            f"{file} was made from another database than {_server(source.base_url)}: {'; '.join(reasons[:5])}. Tags of"
            " two servers cannot be in one file; export to another one"
        )


@contextmanager
def rewritten(file: Path, on_step: Callable[[str], None]) -> Iterator[sqlite3.Connection]:
    """A connection in autocommit mode to a copy of the file, or to a new one; afterwards the copy takes its place.

    Only one process at a time may do this to a file; what is raised inside leaves the file as it was.
    """
    copy = file.with_name(f".{file.name}.part")
    _remove(copy)  # left by a process that was killed
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")  # the whole is synced at the end
            _fill(connection, file)
            yield connection
            connection.execute("VACUUM")
        with SqliteMetadata(copy) as written:
            written.check()
        _sync(copy)
        on_step("metadata file")
        copy.replace(file)
    except BaseException:
        _remove(copy)
        raise
    _sync(file.parent)
    on_step("exported")


def replace_tags(connection: sqlite3.Connection, contents: Iterable[TagContent], source: MetadataSource) -> None:
    """Put tags in, in one transaction; one that is there already is replaced as a whole and keeps its id.

    Raises:
        ConflictError: an id of the source is that of something else in the file.
    """
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("BEGIN IMMEDIATE")
    try:
        for content in contents:
            tag = _emptied_tag(connection, content, source.ids)
            numbers = _payload_ids(connection, content, source)
            rows = [(tag, numbers[link.name, link.revision], *link.iov) for link in content.iovs]
            connection.executemany("INSERT INTO iovs VALUES (?, ?, ?, ?, ?, ?)", rows)
    except sqlite3.IntegrityError as error:
        raise ConflictError(
            f"the ids of {_server(source.base_url)} are taken by something else in the file ({error}); export to"
            " another one"
        ) from error
    connection.execute("COMMIT")


@contextmanager
def disk_errors(file: Path) -> Iterator[None]:
    """Failures of the disk as ``BackendError``."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise BackendError(
            f"cannot write metadata file {file}: {error}; free some space or check its rights and ask again",
            transient=False,
        ) from error


def _contradictions(
    known: Mapping[PayloadRevision, tuple[int, str]], contents: Iterable[TagContent], ids: ServerIds
) -> Iterator[str]:
    payloads = {key: payload for content in contents for key, payload in content.payloads.items()}
    for key in payloads.keys() & known.keys():
        number, md5 = known[key]
        if md5 != payloads[key].md5:
            yield f"{key[0]} revision {key[1]} has MD5 {md5}, not {payloads[key].md5}"
        if ids.payloads.get(key, number) != number:
            yield f"{key[0]} revision {key[1]} has the id {number}, not {ids.payloads[key]}"


def _server(base_url: str) -> str:
    return base_url or "a database without an address"


def _fill(connection: sqlite3.Connection, file: Path) -> None:
    if not file.exists():
        connection.executescript(SCHEMA)
        return
    with closing(connected(file)) as present:
        present.backup(connection)
    connection.execute("PRAGMA journal_mode = DELETE")  # a reader without the right to write cannot use any other


def _emptied_tag(connection: sqlite3.Connection, content: TagContent, ids: ServerIds) -> int:
    query = "SELECT globalTagId FROM globaltags WHERE globalTagName = ?"
    found = connection.execute(query, (content.name,)).fetchone()
    connection.execute("DELETE FROM globaltags WHERE globalTagName = ?", (content.name,))
    tag = int(found[0]) if found else ids.tags.get(content.name)
    row = (tag, content.name, content.status)
    return int(connection.execute("INSERT INTO globaltags VALUES (?, ?, ?) RETURNING globalTagId", row).fetchone()[0])


def _payload_ids(
    connection: sqlite3.Connection, content: TagContent, source: MetadataSource
) -> dict[PayloadRevision, int]:
    """The ids of the payloads of a tag, which are in the file afterwards."""
    server = _id_of(connection, "baseUrl", source.base_url)
    numbers: dict[PayloadRevision, int] = {}
    for key, payload in content.payloads.items():
        name = _id_of(connection, "payloadName", payload.name)
        query = "SELECT payloadId FROM payloads WHERE payloadNameId = ? AND revision = ?"
        found = connection.execute(query, (name, payload.revision)).fetchone()
        if found:
            numbers[key] = int(found[0])
            continue
        row = (source.ids.payloads.get(key), name, payload.revision, payload.md5, server)
        added = connection.execute("INSERT INTO payloads VALUES (?, ?, ?, ?, NULL, ?) RETURNING payloadId", row)
        numbers[key] = int(added.fetchone()[0])
    return numbers


def _id_of(connection: sqlite3.Connection, entity: str, value: str) -> int:
    """The id, local to the file, of a ``baseUrl`` or ``payloadName``; made when it is new."""
    connection.execute(f"INSERT OR IGNORE INTO {entity}s ({entity}) VALUES (?)", (value,))  # noqa: S608 (two constants)
    return int(connection.execute(f"SELECT {entity}Id FROM {entity}s WHERE {entity} = ?", (value,)).fetchone()[0])  # noqa: S608


def _remove(copy: Path) -> None:
    for path in (copy, copy.with_name(f"{copy.name}-journal")):
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
