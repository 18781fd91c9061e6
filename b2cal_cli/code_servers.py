"""The code servers of ``b2cal up``, and the workspace file in which web server and daemon find them.

The shared one is there from beginning to end. One of a campaign comes and goes with the campaign; when it ends by
itself it is started again, while the others go on.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient  # the only way to ask a code server whether it is there

from b2cal_assets.code_locations import LOCATION_VARIABLE, SHARED, campaign_of
from b2cal_caf.atomic_files import write_atomically
from b2cal_cli.child_servers import STOP_SECONDS, ChildServer, await_answer
from b2cal_cli.output import tell
from b2cal_core.errors import BackendError
from resources.home import Home

DEFINITIONS = "b2cal_assets.definitions"
_AGAIN_SECONDS = 30.0
"""Between two starts of a code server that ends by itself."""
_LET_GO_SECONDS = 150.0
"""Dagster's daemon reads the workspace file once a minute, and asks until then a server that is not named any more."""


@dataclass(slots=True)
class _CodeServer:
    """One code server.

    Attributes:
        started: when its process was, on the monotonic clock.
        leaves: when it is told to end; ``None`` while its location is wanted.
    """

    location: str
    socket: Path
    child: ChildServer
    started: float
    leaves: float | None = None

    def answers(self) -> bool:
        try:
            return bool(DagsterGrpcClient(socket=str(self.socket)).ping("there?"))
        except DagsterUserCodeUnreachableError:
            return False

    @property
    def in_workspace(self) -> dict[str, dict[str, str]]:
        """How the workspace file names it."""
        return {"grpc_server": {"socket": str(self.socket), "location_name": self.location}}


class CodeServers:
    """The code servers of a home, which end when the ``with`` block does.

    Args:
        home: whose campaigns they show.
        directory: for their sockets and the workspace file; its path must be short.
        environment: of the code servers.
        apart: whether each is told its location, or the only one shows everything.
    """

    def __init__(self, home: Home, directory: Path, environment: Mapping[str, str], *, apart: bool) -> None:
        self._home, self._directory, self._apart = home, directory, apart
        self._environment = {name: value for name, value in environment.items() if name != LOCATION_VARIABLE}
        self._numbers = count()
        self._servers: dict[str, _CodeServer] = {}
        self._listed: set[str] = set()
        self._leaving: list[_CodeServer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        children = [server.child for server in (*self._servers.values(), *self._leaving)]
        end = time.monotonic() + STOP_SECONDS
        for child in children:
            child.ask_to_end()
        for child in children:
            child.end(within=max(0.0, end - time.monotonic()))

    @property
    def workspace(self) -> Path:
        """The file that names those that are to be seen."""
        return self._directory / "workspace.yaml"

    @property
    def listed(self) -> Collection[str]:
        """The locations that the workspace file names."""
        return self._listed

    def want(self, locations: Collection[str]) -> None:
        """Start the code servers that are missing; those of other locations leave when nobody asks them any more."""
        for location in [name for name in self._servers if name not in locations]:
            server = self._servers.pop(location)
            server.leaves = time.monotonic() + _LET_GO_SECONDS
            self._leaving.append(server)
        for location in locations:
            if location not in self._servers:
                self._servers[location] = self._start(location, self._directory / f"code-{next(self._numbers)}")

    def await_all(self) -> None:
        """Return when all have answered; ``BackendError`` when the shared one does not, others are told of."""
        for server in self._servers.values():
            try:
                await_answer(server.answers, [server.child])
            except BackendError as error:
                if server.location == SHARED:
                    raise
                tell(f"{error}; the other campaigns are served without it")

    def update_workspace(self) -> bool:
        """Have the workspace file name all that ever answered and are wanted; whether that made a difference."""
        named = {name for name, server in self._servers.items() if name in self._listed or server.answers()}
        if named == self._listed:
            return False
        self._listed = named
        servers = [server.in_workspace for name, server in sorted(self._servers.items()) if name in named]
        write_atomically(self.workspace, yaml.safe_dump({"load_from": servers}).encode())
        return True

    def look_after(self) -> None:
        """Start again what ended by itself, and let go what leaves; ``BackendError`` when the shared one has ended."""
        for location, server in self._servers.items():
            if location == SHARED:
                server.child.require_alive()
            elif not server.child.is_alive and time.monotonic() > server.started + _AGAIN_SECONDS:
                self._servers[location] = self._again(server)
        for server in self._leaving:
            if server.leaves is not None and time.monotonic() > server.leaves:
                _tell_to_end(server)
        self._leaving = [server for server in self._leaving if server.child.is_alive]

    def _again(self, server: _CodeServer) -> _CodeServer:
        """A new process for a location, where those who know the old one look for it."""
        try:
            server.child.require_alive()
        except BackendError as error:
            tell(f"{error}; it is started again")
        server.child.end()  # of what it had started, something may be left
        return self._start(server.location, server.socket)

    def _start(self, location: str, socket: Path) -> _CodeServer:
        campaign = campaign_of(location)
        name = "code server" if campaign is None else f"code server of {campaign}"
        command = ("-m", "dagster", "code-server", "start", "--socket", str(socket), "--module-name", DEFINITIONS)
        told = {LOCATION_VARIABLE: location} if self._apart else {}
        child = ChildServer.start(name, command, self._home, self._environment | told)
        return _CodeServer(location, socket, child, time.monotonic())


def _tell_to_end(server: _CodeServer) -> None:
    """Have it end when the Dagster runs that it works are over."""
    server.leaves = None
    try:
        DagsterGrpcClient(socket=str(server.socket)).shutdown_server()
    except DagsterUserCodeUnreachableError:
        server.child.end()
