"""ROOT files: writing them as reproducible bytes, and telling damaged ones by their header.

ROOT writes the clock and a random identity into every file. Here both are pinned, so that equal content gives equal
bytes, equal checksums and therefore one payload in the database.
Source: ROOT's reproducible mode, as basf2 uses it for payloads.
"""

import io
import os
import struct
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uproot
from uproot.compression import Compression

_IDENTITY = uuid.UUID(int=0)
_ROOT_EPOCH = (1 << 22) | (1 << 17)
"""1 January 1995, midnight, the earliest time ROOT can write: years since 1995, then month, day, h, min, s."""

# Magic, version, begin of data, end of file; files of a version above a million hold the end in 8 bytes.
_LARGE_FILE = 1_000_000
_HEADER_SIZE = 20

_pinning = threading.Lock()


class _KeptBuffer(io.BytesIO):
    """A buffer that uproot's closing of the file leaves readable."""

    def close(self) -> None:
        """Keep the content; the buffer goes when nothing holds it."""


@contextmanager
def _pinned_clock() -> Iterator[None]:
    """Let uproot write the epoch wherever a ROOT file holds a time; every one passes through this one function."""
    with _pinning:
        genuine = uproot._util.datetime_to_code  # noqa: SLF001 (uproot offers no option for the time)
        uproot._util.datetime_to_code = lambda _when: _ROOT_EPOCH  # noqa: SLF001 (see above)
        try:
            yield
        finally:
            uproot._util.datetime_to_code = genuine  # noqa: SLF001 (see above)


def root_bytes(fill: Callable[[Any], None], compression: Compression | None) -> bytes:
    """The bytes of a ROOT file whose objects ``fill`` writes into the open directory; equal objects, equal bytes."""
    buffer = _KeptBuffer()
    with (
        _pinned_clock(),
        uproot.recreate(buffer, uuid_function=lambda: _IDENTITY, compression=compression) as directory,
    ):
        fill(directory)
    return buffer.getvalue()


def root_damage(path: Path) -> str | None:
    """Why the file is no complete ROOT file, from its header and size alone; ``None`` when it looks whole.

    Raises:
        FileNotFoundError: there is no such file.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER_SIZE)
        size = os.fstat(file.fileno()).st_size
    if size == 0:
        return "the file is empty"
    if not head.startswith(b"root") or size < _HEADER_SIZE:
        return "this is no ROOT file"
    (version,) = struct.unpack_from(">I", head, 4)
    (end,) = struct.unpack_from(">q" if version >= _LARGE_FILE else ">i", head, 12)
    return f"truncated, {size} of {end} bytes are there" if size < end else None


def open_root(path: Path) -> Any:  # noqa: ANN401 (uproot has no types)
    """The file opened for reading, without caches and without the threads that would make forking delicate."""
    return uproot.open(path, handler=uproot.MemmapSource, object_cache=None, array_cache=None)
