"""Bash scripts run as process groups of their own, and found again by a process that comes later.

A script is started in two steps: it waits until it is told to go, and its process is written down in between. So a
predecessor that was killed at any moment has left either a script that is written down or one that does nothing.
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from b2cal_caf.atomic_files import read_json, write_json
from b2cal_core.errors import BackendError

GO = "go"
"""The line that a script waits for on its standard input; it ends without having done anything if none comes."""
_OURS = ("PYTHON", "VIRTUAL_ENV", "DAGSTER", "B2CAL_")
"""Beginnings of the names that are about the platform's own Python and services, not about the user."""
_GRACE_SECONDS = 10.0
_KILL_SECONDS = 60.0
_LOOK_SECONDS = 0.02
_GONE = frozenset("ZX")


@dataclass(frozen=True, slots=True)
class _Stat:
    """What the system says of a process; ``start`` in ticks since the machine was started."""

    state: str
    group: int
    start: int


@dataclass(slots=True)
class ScriptProcess:
    """A running or ended script; its process leads a group in which everything is that it started.

    Attributes:
        birth: tells it from another process that got its number later.
        own: the handle, when this process started it.
    """

    pid: int
    birth: str
    own: "subprocess.Popen[bytes] | None" = None

    def is_running(self) -> bool:
        """Whether the script itself has not ended; what it started may outlive it when it was killed."""
        if self.own is not None:
            return self.own.poll() is None
        stat = _stat(self.pid)
        return stat is not None and stat.state not in _GONE and _birth(stat) == self.birth

    def go(self) -> None:
        """Let the script, which this process started, do its work."""
        if self.own is not None and self.own.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self.own.stdin as pipe:
                pipe.write(f"{GO}\n".encode())

    def wait(self, look_seconds: float, check: Callable[[], None] = lambda: None) -> None:
        """Return when the script has ended; ``check`` is called again and again, and may raise."""
        while self.is_running():
            check()
            time.sleep(look_seconds)

    def stop(self) -> None:
        """End all processes of the group, kindly at first; when it returns they are gone.

        Raises:
            BackendError: they cannot be ended.
        """
        if self.own is not None and self.own.stdin is not None:
            self.own.stdin.close()
        stat = _stat(self.pid)
        if stat is not None and _birth(stat) != self.birth:
            return  # the number belongs to another process by now
        if _members(self.pid):
            _send(self.pid, signal.SIGTERM)
        if self._is_empty_within(_GRACE_SECONDS):
            return
        _send(self.pid, signal.SIGKILL)
        if not self._is_empty_within(_KILL_SECONDS):
            msg = f"the processes {_members(self.pid)} of basf2 cannot be ended; look what keeps them, then run again"
            raise BackendError(msg, transient=False)

    def _is_empty_within(self, seconds: float) -> bool:
        limit = time.monotonic() + seconds
        while self.is_running() or _members(self.pid):
            if time.monotonic() > limit:
                return False
            time.sleep(_LOOK_SECONDS)
        return True


def start_script(
    script: Path, directory: Path, *, stdout: Path, stderr: Path, lock: Path | None = None
) -> ScriptProcess:
    """Start a script, which then waits for ``go``; its output replaces what is in the files.

    Where a file ``lock`` is named, the script and what it starts hold a lock on it until they have ended.

    Raises:
        BackendError: the lock is held.
    """
    with stdout.open("wb") as out, stderr.open("wb") as err, _held(lock) as held:
        own = subprocess.Popen(
            ["/bin/bash", str(script)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            cwd=directory,
            env=dict(_environment()),
            start_new_session=True,
            pass_fds=held,
        )
    stat = _stat(own.pid)
    return ScriptProcess(own.pid, "" if stat is None else _birth(stat), own)


def write_process(file: Path, process: ScriptProcess, identity: str) -> None:
    """Write down which process works, and on what."""
    write_json(file, {"pid": process.pid, "birth": process.birth, "host": os.uname().nodename, "identity": identity})


def read_process(file: Path, lock: Path) -> tuple[ScriptProcess | None, str] | None:
    """The process that was written down, and what it works on; ``None`` when there is none.

    Of a process of another machine only this is known: it has ended, when it does not hold the lock any more.

    Raises:
        BackendError: it is one of another machine, and still holds the lock.
    """
    written = read_json(file)
    if not isinstance(written, dict):
        return None
    if written["host"] == os.uname().nodename:
        return ScriptProcess(written["pid"], written["birth"]), written["identity"]
    with _held(lock):
        return None, written["identity"]


def _environment() -> Mapping[str, str]:
    """The variables that basf2 is started with: the user's, without what is about our own Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


@contextlib.contextmanager
def _held(lock: Path | None) -> Iterator[tuple[int, ...]]:
    """Hold the lock, if one is named; whoever inherits the descriptor goes on holding it."""
    if lock is None:
        yield ()
        return
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o664)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"basf2 still works in {lock.parent}, here or on another machine, and holds {lock}; end it there"
            raise BackendError(msg, transient=False) from error
        yield (descriptor,)
    finally:
        os.close(descriptor)


def _send(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _members(group: int) -> list[int]:
    """The processes of a group that have not ended."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        stat = _stat(int(directory.name))
        if stat is not None and stat.group == group and stat.state not in _GONE:
            found.append(int(directory.name))
    return found


def _stat(pid: int) -> _Stat | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _Stat(fields[0], int(fields[2]), int(fields[19]))


def _birth(stat: _Stat) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {stat.start}"
