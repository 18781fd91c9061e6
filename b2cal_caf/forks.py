"""Work in forked child processes: warm from the start, and no crash of theirs reaches the parent.

A child leads its own process group, writes to files of its own, answers signals as a fresh process does and dies with
its parent, so that nothing is left running when the platform is killed.
"""

import contextlib
import ctypes
import functools
import gc
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from b2cal_caf.atomic_files import DISK_FULL_ERRORS
from b2cal_core.jobs import EXIT_DISK_FULL, EXIT_OUT_OF_MEMORY

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_GRACE_SECONDS = 2.0
NICENESS = 10
"""What a process in the background takes beside one that is not: a tenth."""


@dataclass(slots=True)
class Child:
    """A forked process; ``sentinel`` becomes readable when it ends; killed by a signal, ``exit_code`` is minus that."""

    pid: int
    sentinel: int
    exit_code: int | None = field(default=None)

    def poll(self) -> int | None:
        """The exit code, or ``None`` while it runs."""
        if self.exit_code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 1 << 8  # somebody else took the status; it ended, how is not known
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
                os.close(self.sentinel)
        return self.exit_code

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send the signal to the process and all it started."""
        if self.exit_code is None:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                return

    def stop(self) -> int:
        """End the process, kindly at first, unless it has ended; returns its exit code when it is gone."""
        if self.poll() is not None:
            return self.poll() or 0
        self.kill(signal.SIGTERM)
        wait_for([self], _GRACE_SECONDS)
        if self.poll() is None:
            self.kill()
            wait_for([self], None)
        code = self.poll()
        while code is None:  # the sentinel closes a moment before the process can be collected
            time.sleep(0.001)
            code = self.poll()
        return code


def wait_for(children: Iterable[Child], timeout: float | None) -> None:
    """Return when one of the running children ended or the time is over."""
    poller = select.poll()
    watched = [child for child in children if child.poll() is None]
    for child in watched:
        poller.register(child.sentinel, select.POLLIN | select.POLLHUP)
    if watched:
        poller.poll(None if timeout is None else timeout * 1000)


def start_child(
    work: Callable[[], int],
    *,
    directory: Path,
    stdout: Path,
    stderr: Path,
    finish: Callable[[int], None] = lambda _code: None,
    background: bool = False,
) -> Child:
    """Fork a process that does the work in ``directory`` and exits with the code it returns.

    Args:
        work: an exception that leaves it is printed to ``stderr``, and the exit code is 1.
        directory: the child's working directory, made when missing.
        stdout: file that takes its output, emptied first.
        stderr: likewise for errors; it may be the same file.
        finish: called with the exit code, in the child, as the last thing it does.
        background: it gets only the processor time that others leave.
    """
    directory.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()
    reading, writing = os.pipe()

    def fork() -> int:
        with warnings.catch_warnings():
            # The other threads that may exist are idle; the child only ever has the one that forks.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            os.close(reading)
            if background:
                os.nice(NICENESS)
            _live(work, finish, parent=parent, directory=directory, outputs=(stdout, stderr))
        return pid

    pid = _forking_thread().submit(fork).result()
    os.close(writing)
    with contextlib.suppress(PermissionError, ProcessLookupError):  # it ended, or did so itself
        os.setpgid(pid, pid)
    return Child(pid, reading)


@functools.lru_cache(maxsize=1)
def _forking_thread_of(_pid: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="forks")


def _forking_thread() -> ThreadPoolExecutor:
    """The one thread of this process that forks: Linux ends a child with the *thread* that made it, so it must last."""
    return _forking_thread_of(os.getpid())


def _live(
    work: Callable[[], int],
    finish: Callable[[int], None],
    *,
    parent: int,
    directory: Path,
    outputs: tuple[Path, Path],
) -> None:
    """The whole life of a child; it never returns."""
    code = 1
    try:
        gc.freeze()  # what is inherited is nobody's garbage here; looking through it would copy every page
        os.setpgid(0, 0)
        _die_with(parent)
        _forget_signal_handlers()
        redirect_output(*outputs)
        os.chdir(directory)
        code = exit_code_of(work)
        sys.stdout.flush()
        sys.stderr.flush()
        finish(code)
    except OSError as error:
        code = EXIT_DISK_FULL if error.errno in DISK_FULL_ERRORS else 1
    finally:
        os._exit(code)


def exit_code_of(work: Callable[[], int]) -> int:
    """Do the work; whatever leaves it is printed, and becomes an exit code."""
    try:
        return work()
    except SystemExit as leaving:
        if isinstance(leaving.code, str):
            sys.stderr.write(leaving.code + "\n")
            return 1
        return leaving.code or 0
    except BaseException as error:  # noqa: BLE001 (whatever ends the work must end only the child)
        traceback.print_exc()
        if isinstance(error, MemoryError):
            return EXIT_OUT_OF_MEMORY
        full = isinstance(error, OSError) and error.errno in DISK_FULL_ERRORS
        return EXIT_DISK_FULL if full else 1


def _die_with(parent: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)


def _forget_signal_handlers() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def redirect_output(stdout: Path, stderr: Path) -> None:
    """Let the file descriptors and Python's streams go to the files; the streams inherited may be anybody's."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    for path, target in ((stdout, 1), (stderr, 2)):
        opened = os.open(path, flags, 0o664)
        os.dup2(opened, target)
        os.close(opened)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
