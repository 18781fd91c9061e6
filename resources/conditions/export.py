"""Writing payloads as a testing payload storage that other programs read."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from b2cal_caf.local_database import TEXT_FILE, LocalDatabase
from b2cal_core.errors import BackendError, DataError
from b2cal_core.payloads import LocalPayload, Payload
from b2cal_core.ranges import IoV
from resources.conditions.payload_store import content_of

Line = tuple[Payload, Path, IoV]


def write_storage(directory: Path, lines: Sequence[Line]) -> Path:
    """Make ``directory`` a testing payload storage with exactly these lines, in order, and return its text file.

    A storage that is complete and says the same is left alone. One that says something else is replaced: payload
    files first, the text file last, so that a reader finds the old or the new lines, each with its files.

    Raises:
        BackendError: the disk did not take it; what was there before is still valid.
    """
    text_file = directory / TEXT_FILE
    if _is_complete(directory, lines):
        return text_file
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as temporary:
            fresh = LocalDatabase(Path(temporary))
            fresh.add_all([LocalPayload(payload.name, file, iov) for payload, file, iov in lines])
            _move_into(fresh, directory)
    except (OSError, shutil.Error) as error:
        message = f"cannot export payloads to {directory}: {error}; free some space or check its rights and ask again"
        raise BackendError(message, transient=False) from error
    return text_file


def _move_into(fresh: LocalDatabase, directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    for file in sorted({entry.file for entry in fresh.entries()}):
        file.replace(directory / file.name)
    fresh.text_file.replace(directory / TEXT_FILE)


def _is_complete(directory: Path, lines: Sequence[Line]) -> bool:
    if not (directory / TEXT_FILE).exists():
        return False
    try:
        entries = LocalDatabase(directory).entries()
        contents = {file: content_of(file).sha256 for file in {entry.file for entry in entries}}
    except DataError:
        return False  # damaged, and about to be written anew
    found = [(entry.name, contents[entry.file], entry.iov) for entry in entries]
    return found == [(payload.name, payload.sha256, iov) for payload, _, iov in lines]
