"""Payload files onto the server: each content once, whatever happens on the way.

Source: the upload flow of Belle II testing payload storages, without its habit of taking a failed look-up for "absent".
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from b2cal_core.errors import BackendError, DataError
from resources.conditions.payload_store import content_of
from resources.conditions.records import check_payload_name
from resources.conditions.rest.connection import Connection
from resources.conditions.rest.shapes import PayloadRecord

Key = tuple[str, str]
"""Name and MD5."""

_log = logging.getLogger(__name__)


def read_keys(files: Iterable[tuple[str, Path]]) -> dict[tuple[str, Path], Key]:
    """Name and MD5 of every file; ``DataError`` when one cannot be read."""
    pairs = dict.fromkeys((check_payload_name(name), file) for name, file in files)
    sums = {file: content_of(file).md5 for file in dict.fromkeys(file for _, file in pairs)}
    return {(name, file): (name, sums[file]) for name, file in pairs}


def existing(connection: Connection, keys: Iterable[Key]) -> dict[Key, PayloadRecord]:
    """Those that the server has; of several equal ones the first that was made, which is the same for everybody."""
    wanted = frozenset(keys)
    found: dict[Key, PayloadRecord] = {}
    for record in connection.calls.check_payloads(wanted) if wanted else ():
        key = (record.payload.name, record.payload.md5)
        first = found.setdefault(key, record)
        if first is not record:
            _log.warning(
                "%s exists twice with MD5 %s, as revisions %d and %d; revision %d is used",
                *key,
                first.payload.revision,
                record.payload.revision,
                first.payload.revision,
            )
    return {key: record for key, record in found.items() if key in wanted}


def store(
    connection: Connection, files: Mapping[tuple[str, Path], Key], known: Mapping[Key, PayloadRecord]
) -> dict[Key, PayloadRecord]:
    """Upload what is not ``known`` to be there, and return the records of all; the token has been looked at.

    Raises:
        BackendError: something could not be uploaded, or is not there afterwards.
    """
    absent = {key: file for (_, file), key in files.items() if key not in known}
    if not absent:
        return dict(known)
    for key, file in absent.items():
        _upload(connection, key, file)
    found = existing(connection, files.values())
    if missing := sorted(set(files.values()) - found.keys()):
        listed = ", ".join(f"{name} (MD5 {md5})" for name, md5 in missing)
        raise BackendError(f"the server took {listed}, but does not have it; upload again", transient=True)
    return found


def ordered(files: Sequence[tuple[str, Path]], keys: Mapping[tuple[str, Path], Key]) -> list[Key]:
    """The key of each file, in order."""
    return [keys[name, file] for name, file in files]


def _upload(connection: Connection, key: Key, file: Path) -> None:
    name, md5 = key
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"payload file {file} cannot be read: {error.strerror}; check where it was written") from error
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DataError(f"payload file {file} was changed while it was uploaded; wait until it is written")
    connection.send(
        lambda: connection.calls.create_payload(name, file.name, content=content, md5=md5),
        lambda: existing(connection, [key]),
    )
