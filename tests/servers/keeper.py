"""Starts programs on request and ends them, with all that descends from them, when it is told to or whoever asks ends.

Each line of its input is a request in JSON, ``{"command": [...], "log": FILE, "environment": {...}}``; it answers with
the process id, or with what the system says. At the end of its input no descendant is left: also a process that left
its parent, as the daemons of a batch system and their jobs do, stays a descendant of this one (PR_SET_CHILD_SUBREAPER).
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

import psutil

PR_SET_CHILD_SUBREAPER = 36
FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND
LAST_TO_LEAVE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals it ignores: the end of its input is the only end."""


def start(request: dict[str, Any]) -> int:
    """Start the program in a session of its own; its output is added to the log."""
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, request["log"], FILE_FLAGS, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    environment = {**os.environ, **request["environment"]}
    command = request["command"]
    normal = (*LAST_TO_LEAVE, signal.SIGPIPE, signal.SIGXFSZ)
    return os.posix_spawnp(command[0], command, environment, file_actions=files, setsid=True, setsigdef=normal)


def collect(*_: object) -> None:
    """Let the kernel forget every child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end_all() -> None:
    """End everything that descends from this process."""
    while children := psutil.Process().children(recursive=True):
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        time.sleep(0.01)
        collect()


def main() -> None:
    """Serve requests until there are no more."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.exit("keeper: this system cannot keep processes that leave their parent")
    for number in LAST_TO_LEAVE:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, collect)
    for line in sys.stdin:
        try:
            answer = str(start(json.loads(line)))
        except OSError as error:
            answer = str(error.strerror)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()
    end_all()


if __name__ == "__main__":
    main()
