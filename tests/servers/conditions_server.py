"""The conditions server as tests use it: the real application under the real uvicorn, on a free port of this machine.

Run as a program it serves what its first line of input says, until its input ends.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from servers.threaded import ThreadedServer
from starlette.types import ASGIApp

from resources.conditions.server.app import create_app
from resources.conditions.server.serving import serve
from resources.conditions.server.tokens import issue

START_SECONDS = 60.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.01
HOUR = 3600.0


class _Served:
    """What both kinds of server have: an address, and tokens for it."""

    port: int
    secret: str

    @property
    def url(self) -> str:
        """The address that clients are given; ``v2/`` follows."""
        return f"http://127.0.0.1:{self.port}/b2s/rest/"

    def token(
        self,
        user: str = "manager",
        *,
        admin: Sequence[str] = (".*",),
        create_iov: Sequence[str] = (),
        seconds: float = HOUR,
    ) -> str:
        """A token of a user; by default one who may do everything."""
        return issue(self.secret, user, admin=admin, create_iov=create_iov, seconds=seconds)


class ConditionsServer(_Served):
    """A conditions server in its own process, which ends with the one that started it.

    Args:
        directory: of the embedded conditions database.
        url: SQLAlchemy address of its tables, if they are not in the directory.
        log: file that gets all the server writes.
    """

    def __init__(self, directory: Path, url: str | None = None, *, log: Path | None = None) -> None:
        self.secret = secrets.token_hex(32)
        self.log = log or directory.with_name(f"{directory.name}-server.log")
        self._settings = {"directory": str(directory), "url": url, "secret": self.secret}
        self.port = 0
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Process id of the server started last."""
        return self._process.pid

    def stop(self) -> None:
        """Shut the server down; what is under way is finished first."""
        self._end(self._process.terminate)

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self._end(self._process.kill)

    def restart(self) -> None:
        """Start the server, stopped first if it runs, on the same data and port."""
        self.stop()
        self._process = self._start()

    def _end(self, end: Callable[[], None]) -> None:
        end()
        self._process.wait(STOP_SECONDS)
        self._input.close()

    def _start(self) -> "subprocess.Popen[bytes]":
        with socket.create_server(("127.0.0.1", self.port), backlog=512) as listening, self.log.open("ab") as log:
            self.port = listening.getsockname()[1]
            process = subprocess.Popen(
                [sys.executable, __file__, str(listening.fileno())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[listening.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        self._input = _piped(process)
        self._input.write(json.dumps(self._settings).encode() + b"\n")
        self._input.flush()
        try:
            self._await(process)
        except BaseException:
            process.kill()
            process.wait(STOP_SECONDS)
            self._input.close()
            raise
        return process

    def _await(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait for the first answer; the socket listens from the start, so a request just waits too."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"the conditions server ended by itself: {self.log.read_text()}")
            if _answers(self.port):
                return
        raise RuntimeError(f"the conditions server does not answer: {self.log.read_text()}")


class ThreadedConditionsServer(_Served):
    """A conditions server in a thread of the tests' own process.

    Args:
        directory: of the embedded conditions database.
        url: SQLAlchemy address of its tables, if they are not in the directory.
        wrap: puts something around the application, to disturb or to watch its requests.
        options: others of the application.
    """

    def __init__(
        self,
        directory: Path,
        url: str | None = None,
        *,
        wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
        **options: Any,
    ) -> None:
        self.secret = secrets.token_hex(32)
        self._server = ThreadedServer(wrap(create_app(directory, url=url, secret=self.secret, **options)))
        self.port = self._server.port

    def stop(self) -> None:
        """Shut the server down; connections that are idle are closed."""
        self._server.stop()


def _piped(process: "subprocess.Popen[bytes]") -> IO[bytes]:
    if process.stdin is None:
        raise RuntimeError("the conditions server has no input")
    return process.stdin


def _answers(port: int) -> bool:
    request = b"HEAD /v2/globalTagStatus HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(request)
            return connection.recv(15).startswith(b"HTTP/1.1 200")
    except OSError:
        time.sleep(POLL_SECONDS)
        return False


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


def _run(descriptor: int) -> None:
    settings = json.loads(sys.stdin.buffer.raw.readline())  # type: ignore[attr-defined]
    threading.Thread(target=_end_with_input, daemon=True).start()
    serve(
        Path(settings["directory"]),
        url=settings["url"],
        secret=settings["secret"],
        listening=socket.socket(fileno=descriptor),
    )


if __name__ == "__main__":
    _run(int(sys.argv[1]))
