"""The servers of Dagster as children of one process: they start together and end together.

Code servers hold the assets of campaigns; web server and daemon ask them. When a campaign was created, changed or
archived, its code server loads it anew, or comes or goes, and the other two notice.
"""

import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from b2cal_assets.instance_settings import make_storage
from b2cal_cli.child_servers import POLL_SECONDS, ChildServer, await_answer
from b2cal_cli.code_servers import CodeServers
from b2cal_cli.loaded_definitions import LoadedDefinitions
from b2cal_cli.output import tell
from b2cal_cli.session import WrongUsage
from resources.conditions.deployed import open_conditions
from resources.deployment import read_deployment, registry_address
from resources.home import HOME_VARIABLE, Home
from resources.runs.embedded import EmbeddedRunRegistry


class _StopRequested(Exception):  # noqa: N818 (a request is no error)
    """SIGTERM or Ctrl-C arrived."""


def serve(home: Home, *, host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        WrongUsage: the port is taken.
        BackendError: one of the servers did not start, or ended by itself; that of a single campaign aside.
    """
    _require_free(host, port)
    _require_storage(home)
    apart = read_deployment(home).code_locations == "per_campaign"
    environment = {**os.environ, "DAGSTER_HOME": str(home.dagster_home), HOME_VARIABLE: str(home.path)}
    with _stopping_on_signals(), ExitStack() as stack:
        try:
            place = Path(stack.enter_context(TemporaryDirectory(prefix="b2cal-up-")))
            definitions = LoadedDefinitions(home, apart=apart)
            code = stack.enter_context(CodeServers(home, place, environment, apart=apart))
            code.want(definitions.locations())
            code.await_all()
            code.update_workspace()
            others = []
            for name, command in _commands(host, port, code.workspace).items():
                others.append(ChildServer.start(name, command, home, environment))
                stack.callback(others[-1].end)
            await_answer(lambda: _answers(host, port), others)
            tell(f"ready: http://{host}:{port} (home {home.path}; logs {home.path / 'logs'}); Ctrl-C stops it")
            while True:
                for server in others:
                    server.require_alive()
                code.look_after()
                definitions.follow(code, f"http://{_own_address(host)}:{port}")
                time.sleep(POLL_SECONDS)
        except _StopRequested:
            tell("stopping")


def _require_storage(home: Home) -> None:
    """Make the tables that are missing, and refuse those of another version, before two servers run into them."""
    EmbeddedRunRegistry(registry_address(home)).changes(0, limit=1)
    open_conditions(home)
    make_storage(home.dagster_home)


def _commands(host: str, port: int, workspace: Path) -> Mapping[str, Sequence[str]]:
    web = ("-m", "dagster_webserver", "--host", host, "--port", str(port), "--workspace", str(workspace))
    return {"web server": web, "daemon": ("-m", "dagster._daemon", "run", "--workspace", str(workspace))}


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


def _own_address(host: str) -> str:
    """Where this machine finds what listens on ``host``."""
    return "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 (compared, not bound)


def _answers(host: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{_own_address(host)}:{port}/server_info", timeout=5) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 (HTTP's word for "all is well")
    except OSError:
        return False
