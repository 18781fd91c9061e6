"""The servers of Dagster as children of one process: they start together and end together.

The code server holds the assets of all campaigns; web server and daemon ask it. When a campaign was created, changed or
archived, it is told to load them anew, and the other two notice.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient  # the only way to ask a code server whether it is there

from b2cal_assets.instance_settings import make_storage
from b2cal_cli.loaded_definitions import SOCKET, LoadedDefinitions, write_workspace
from b2cal_cli.output import tell
from b2cal_cli.session import WrongUsage
from b2cal_core.errors import BackendError
from resources.conditions.deployed import open_conditions
from resources.deployment import registry_address
from resources.home import HOME_VARIABLE, Home
from resources.runs.embedded import EmbeddedRunRegistry

DEFINITIONS = "b2cal_assets.definitions"
_START_SECONDS, _STOP_SECONDS, _POLL_SECONDS = 90.0, 20.0, 0.2
_PR_SET_PDEATHSIG = 1


class _StopRequested(Exception):  # noqa: N818 (a request is no error)
    """SIGTERM or Ctrl-C arrived."""


@dataclass(frozen=True, slots=True)
class _Server:
    """One child: its name for people, its process and its log."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def require_alive(self) -> None:
        if self.process.poll() is not None:
            raise BackendError(
                f"the {self.name} ended by itself: {_last_lines(self.log)}; all of it: {self.log}", transient=False
            )


def serve(home: Home, *, host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        WrongUsage: the port is taken.
        BackendError: one of the two did not start, or ended by itself.
    """
    _require_free(host, port)
    _require_storage(home)
    environment = {**os.environ, "DAGSTER_HOME": str(home.dagster_home), HOME_VARIABLE: str(home.path)}
    with _stopping_on_signals(), ExitStack() as stack:
        try:
            place = Path(stack.enter_context(TemporaryDirectory(prefix="b2cal-up-")))
            definitions = LoadedDefinitions(home, f"http://{_own_address(host)}:{port}")
            code = stack.enter_context(_running("code server", _code_server(place / SOCKET), home, environment))
            _await(lambda: _serves_code(place / SOCKET), [code])
            others = _commands(host, port, write_workspace(place)).items()
            servers = [code, *(stack.enter_context(_running(*other, home, environment)) for other in others)]
            _await(lambda: _answers(host, port), servers[1:])
            tell(f"ready: http://{host}:{port} (home {home.path}; logs {home.path / 'logs'}); Ctrl-C stops it")
            while True:
                for server in servers:
                    server.require_alive()
                definitions.follow()
                time.sleep(_POLL_SECONDS)
        except _StopRequested:
            tell("stopping")


def _code_server(socket_: Path) -> Sequence[str]:
    return ("-m", "dagster", "code-server", "start", "--socket", str(socket_), "--module-name", DEFINITIONS)


def _require_storage(home: Home) -> None:
    """Make the tables that are missing, and refuse those of another version, before two servers run into them."""
    EmbeddedRunRegistry(registry_address(home)).changes(0, limit=1)
    open_conditions(home)
    make_storage(home.dagster_home)


def _commands(host: str, port: int, workspace: Path) -> Mapping[str, Sequence[str]]:
    web = ("-m", "dagster_webserver", "--host", host, "--port", str(port), "--workspace", str(workspace))
    return {"web server": web, "daemon": ("-m", "dagster._daemon", "run", "--workspace", str(workspace))}


@contextmanager
def _running(name: str, command: Sequence[str], home: Home, environment: Mapping[str, str]) -> Iterator[_Server]:
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
    try:
        yield _Server(name, process, log)
    finally:
        _end(process)


def _end_with_parent() -> None:
    """Ask the kernel to end this process when its parent is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the child, kindly at first, and then whatever is left of its process group."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@contextmanager
def _stopping_on_signals() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the stop is under way, and must not be cut short
        raise _StopRequested

    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _require_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise WrongUsage(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error


def _await(condition: Callable[[], bool], servers: Sequence[_Server]) -> None:
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
        time.sleep(_POLL_SECONDS)


def _serves_code(socket_: Path) -> bool:
    try:
        return bool(DagsterGrpcClient(socket=str(socket_)).ping("there?"))
    except DagsterUserCodeUnreachableError:
        return False


def _own_address(host: str) -> str:
    """Where this machine finds what listens on ``host``."""
    return "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 (compared, not bound)


def _answers(host: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{_own_address(host)}:{port}/server_info", timeout=5) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 (HTTP's word for "all is well")
    except OSError:
        return False


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return " | ".join(lines[-3:]) or "it wrote nothing"
