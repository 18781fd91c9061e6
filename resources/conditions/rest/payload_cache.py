"""Payload files of the server on this computer, checked whenever they are handed out.

Layout: the first two digits of the MD5, then ``<name>_r<revision>.root``, as the readers of the experiment have it.
"""

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import urljoin

from b2cal_core.errors import BackendError, DataError, IntegrityError
from b2cal_core.payloads import Payload
from resources.conditions.records import check_payload_name
from resources.conditions.rest.shapes import PayloadRecord
from resources.conditions.rest.transport import Transport

_CHUNK = 1 << 20


class PayloadCache:
    """The directory with the files; made when it is missing."""

    def __init__(self, directory: Path, transport: Transport) -> None:
        self._directory, self._transport = directory, transport

    def held(self, payload: Payload) -> Path | None:
        """The file, if it is here and undamaged."""
        path = self._path(payload)
        try:
            return path if _md5(path) == payload.md5 else None
        except OSError:
            return None  # absent, or unreadable and then to be fetched anew

    def fetch(self, record: PayloadRecord) -> Path:
        """The file from the server; ``IntegrityError`` when it sends damaged content twice."""
        payload, path = record.payload, self._path(record.payload)
        url = urljoin(f"{self._transport.server}/", record.url)
        step = f"downloading {payload.name} revision {payload.revision}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for _ in range(2):
                found = self._fetch(step, url, path, md5=payload.md5)
                if found == payload.md5:
                    return path
        except OSError as error:
            message = f"cannot write {path}: {error.strerror}; free some space or check the directory, and ask again"
            raise BackendError(message, transient=False) from error
        raise IntegrityError(
            f"the file of payload {payload.name} revision {payload.revision} on the server has MD5 {found}, not"
            f" {payload.md5}; its administrator has to put back the right one"
        )

    def _fetch(self, step: str, url: str, path: Path, *, md5: str) -> str:
        """Bring the file into place if it has this MD5, and return the one it has."""
        descriptor, name = tempfile.mkstemp(prefix=".incoming-", dir=path.parent)
        temporary, found = Path(name), hashlib.md5(usedforsecurity=False)
        try:
            with os.fdopen(descriptor, "wb") as target:
                with self._transport.download(step, url) as chunks:
                    for chunk in chunks:
                        found.update(chunk)
                        target.write(chunk)
                target.flush()
                os.fsync(target.fileno())
            if found.hexdigest() == md5:
                temporary.chmod(0o444)
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        return found.hexdigest()

    def _path(self, payload: Payload) -> Path:
        if len(payload.md5) != 32 or not payload.md5.isalnum():  # noqa: PLR2004 (digits of an MD5)
            raise DataError(f"{payload.md5!r} is no MD5")
        return self._directory / payload.md5[:2] / f"{check_payload_name(payload.name)}_r{payload.revision}.root"


def _md5(path: Path) -> str:
    found = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
