"""Directories with payload files as basf2 looks them up: in the hashed layout, then in the flat one.

Hashed is ``<first two hex digits of the MD5>/<name>_r<revision>.root``, flat ``dbstore_<name>_rev_<revision>.root``.
The name of a file proves nothing: its MD5 is always checked. Source: basf2 conditions database client.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from b2cal_core.errors import BackendError, ConflictError, DataError, IntegrityError
from b2cal_core.payloads import Payload


def hashed_path(payload: Payload) -> Path:
    """Where the payload is in a directory of the hashed layout."""
    return Path(payload.md5[:2], f"{payload.name}_r{payload.revision}.root")


def flat_path(payload: Payload) -> Path:
    """Where the payload is in a directory of the flat layout."""
    return Path(f"dbstore_{payload.name}_rev_{payload.revision}.root")


def find_file(payload: Payload, directories: Sequence[Path]) -> Path:
    """The first file of the payload with the right MD5, hashed before flat in each directory.

    Raises:
        IntegrityError: there are files of that name, all with other content.
        DataError: there is none.
    """
    others: list[str] = []
    for file in _candidates(payload, directories):
        md5 = _md5_of(file)
        if md5 == payload.md5:
            return file
        others.append(f"{file} has MD5 {md5}")
    described = f"payload {payload.name} revision {payload.revision}"
    if others:
        raise IntegrityError(
            f"{described} should have MD5 {payload.md5}, but {'; '.join(others)}; fetch the file again"
        )
    looked = ", ".join(map(str, directories)) or "no directory"
    raise DataError(f"{described} is missing: neither {hashed_path(payload)} nor {flat_path(payload)} is in {looked}")


def keep_file(payload: Payload, source: Callable[[], Path], directory: Path) -> Path:
    """Copy the payload's content into a directory of the hashed layout; an equal file is left as it is.

    A file appears under its name only when it is complete, on disk, and has the payload's MD5.

    Args:
        payload: what the file is to be.
        source: gives a file with the content; asked only when the directory has none.
        directory: made when it is missing.

    Raises:
        ConflictError: there is a file of that name with other content; it is left as it is.
        IntegrityError: the source has another MD5 than the payload.
        BackendError: the disk did not take it.
    """
    target = directory / hashed_path(payload)
    try:
        if target.exists():
            _require_equal(target, payload)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy(source(), target, payload)
    except OSError as error:
        raise BackendError(
            f"cannot write payload file {target}: {error.strerror}; free some space or check its rights and ask again",
            transient=False,
        ) from error
    return target


def _candidates(payload: Payload, directories: Sequence[Path]) -> Iterator[Path]:
    for directory in directories:
        for path in (hashed_path(payload), flat_path(payload)):
            if (directory / path).is_file():
                yield directory / path


def _require_equal(target: Path, payload: Payload) -> None:
    md5 = _md5_of(target)
    if md5 != payload.md5:
        raise ConflictError(
            f"{target} has MD5 {md5}, payload {payload.name} revision {payload.revision} has {payload.md5}: it is"
            " damaged or of another database; remove it, or choose another directory"
        )


def _copy(source: Path, target: Path, payload: Payload) -> None:
    descriptor, name = tempfile.mkstemp(prefix=".incoming-", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as copy, source.open("rb") as original:
            shutil.copyfileobj(original, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        _require_faithful(temporary, source, payload)
        temporary.chmod(0o644)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _require_faithful(copy: Path, source: Path, payload: Payload) -> None:
    md5 = _md5_of(copy)
    if md5 != payload.md5:
        raise IntegrityError(
            f"{source} has MD5 {md5}, payload {payload.name} revision {payload.revision} has {payload.md5}; put back a"
            " copy of the file"
        )


def _md5_of(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
