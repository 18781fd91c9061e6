"""Servers as children of this process: they end with it, however it ends, and so does all that they have started."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from b2cal_core.errors import BackendError
from resources.home import Home

POLL_SECONDS = 0.2
STOP_SECONDS = 20.0
"""What a server is given to end by itself."""
_START_SECONDS = 90.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ChildServer:
    """One child: its name for people, its process and its log."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @classmethod
    def start(cls, name: str, command: Sequence[str], home: Home, environment: Mapping[str, str]) -> Self:
        """Start what the Python interpreter is given as ``command``; its log, named after it, begins anew."""
        log = home.path / "logs" / f"{name.replace(' ', '_')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, *command],
                env=dict(environment),
                cwd=home.path,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process only, which then ends its children in order
                preexec_fn=_end_with_parent,  # noqa: PLW1509 (no other thread runs while children are started)
            )
        return cls(name, process, log)

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def require_alive(self) -> None:
        """``BackendError`` with the end of its log when it has ended."""
        if not self.is_alive:
            raise BackendError(
                f"the {self.name} ended by itself: {_last_lines(self.log)}; all of it: {self.log}", transient=False
            )

    def ask_to_end(self) -> None:
        """Have it begin to end, without waiting for that."""
        if self.is_alive:
            self.process.terminate()

    def end(self, within: float = STOP_SECONDS) -> None:
        """End it, kindly for so many seconds, and then whatever is left of its process group."""
        self.ask_to_end()
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def await_answer(condition: Callable[[], bool], servers: Sequence[ChildServer]) -> None:
    """Return when the first of the servers, which are to live meanwhile, does what is wanted of it."""
    end = time.monotonic() + _START_SECONDS
    while not condition():
        for server in servers:
            server.require_alive()
        if time.monotonic() > end:
            first = servers[0]
            raise BackendError(
                f"the {first.name} does not answer after {_START_SECONDS:g} s; see {first.log}", transient=True
            )
        time.sleep(POLL_SECONDS)


def _end_with_parent() -> None:
    """Ask the kernel to end this process when its parent is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return " | ".join(lines[-3:]) or "it wrote nothing"
