"""Files that are there completely or not at all."""

import errno
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

DISK_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Errors of the system that say there is no room."""


def write_atomically(path: Path, content: bytes) -> None:
    """Put the content under ``path``, whose folder is made; a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, *, for_people: bool = False) -> None:  # noqa: ANN401 (whatever JSON can hold)
    """Write the value as JSON, atomically, keys in the order given; on many lines when people are to read it."""
    write_atomically(path, (json.dumps(value, indent=1 if for_people else None) + "\n").encode())


def read_json(path: Path) -> Any:  # noqa: ANN401 (whatever JSON can hold)
    """The value in the file, or ``None`` when there is no file or it is no JSON, as after a crash of the machine."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def share_file(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``: by a hard link where the disks allow it, else by a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        target.unlink(missing_ok=True)
        share_file(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        write_atomically(target, source.read_bytes())


def copy_directory(source: Path, target: Path) -> None:
    """Copy a directory so that it is there completely or not at all."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part, ignore=lambda _folder, names: [name for name in names if name.startswith(".")])
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)
