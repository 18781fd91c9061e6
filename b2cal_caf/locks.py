"""One process at a time works in a request directory; death frees the lock."""

import fcntl
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK_FILE = ".lock"
_LOOK_AGAIN_SECONDS = 0.1
_here: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
"""The system's lock is between processes; these are between the threads of this one."""


@contextmanager
def request_lock(directory: Path, *, log: Callable[[str], None], check: Callable[[], None]) -> Iterator[None]:
    """Hold the directory's lock; waits while somebody else does, and says for whom.

    Args:
        directory: the request's directory, which must exist.
        log: told once when there is somebody to wait for.
        check: called while waiting; may raise to give up.
    """
    mutex = _here[directory.resolve()]
    _wait_until(lambda: mutex.acquire(blocking=False), lambda: "another thread of this process", directory, log, check)
    try:
        descriptor = os.open(directory / _LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o664)
        try:
            _wait_until(lambda: _lock(descriptor), lambda: _owner(descriptor), directory, log, check)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
            yield
        finally:
            os.close(descriptor)
    finally:
        mutex.release()


def owner_of(directory: Path) -> str | None:
    """Who works in the directory at the moment, in words."""
    if _here[directory.resolve()].locked():  # asking the system here, and closing the file, would free our own lock
        return "a thread of this process"
    try:
        descriptor = os.open(directory / _LOCK_FILE, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        return None if _lock(descriptor) else _owner(descriptor)
    finally:
        os.close(descriptor)


def _wait_until(
    taken: Callable[[], bool],
    owner: Callable[[], str],
    directory: Path,
    log: Callable[[str], None],
    check: Callable[[], None],
) -> None:
    if taken():
        return
    log(f"waiting for {owner()}, which is working in {directory}")
    while not taken():
        check()
        time.sleep(_LOOK_AGAIN_SECONDS)


def _lock(descriptor: int) -> bool:
    # A record lock: a forked child does not inherit it, so one that outlives us for a moment does not keep it.
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
