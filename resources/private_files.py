"""Files that only their owner may read."""

import os
import stat
from pathlib import Path

_LONGEST = 65536


class NotPrivateError(Exception):
    """Others can read the file, or it is no file at all; the text says its mode."""


def private_text(path: Path) -> str:
    """The text of a file that only its owner can read; what is looked at and what is read are one file.

    Raises:
        NotPrivateError: others can read it.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode) or mode & 0o177 or status.st_uid != os.geteuid():
            raise NotPrivateError(f"{path} (mode {mode:04o})")
        return file.read(_LONGEST).decode("ascii", errors="replace")
