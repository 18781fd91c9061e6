"""Running the server under uvicorn."""

import socket
from pathlib import Path

import sqlalchemy as sa
import uvicorn
from starlette.types import ASGIApp

from resources.conditions.server.app import create_app

_KEEP_ALIVE_SECONDS = 75


def without_delay(listening: socket.socket) -> socket.socket:
    """The socket, whose connections send small replies at once.

    asyncio asks for that itself, but only where a socket names TCP, which one from ``socket.create_server`` or a
    descriptor does not: each reply then waits 40 ms for the client's acknowledgement.
    """
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def server_of(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Server:
    """A server for the application, not started yet.

    It keeps no log of requests: the address of one may hold a token, and who changed what is in the audit log.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        lifespan="off",
        ws="none",
        loop="asyncio",  # uvloop takes one new connection per turn, which of 64 clients makes some wait for seconds
    )
    return uvicorn.Server(config)


def serve(
    directory: Path,
    *,
    secret: str,
    url: str | sa.URL | None = None,
    host: str = "127.0.0.1",
    port: int = 8180,
    base_url: str | None = None,
    listening: socket.socket | None = None,
) -> None:
    """Serve the database in a directory until SIGTERM or Ctrl-C.

    Args:
        directory: of the embedded conditions database.
        secret: signs the tokens of those who may change something.
        url: SQLAlchemy address of its tables, if they are not in the directory.
        host: address to listen on.
        port: to listen on.
        base_url: the address clients know the server by; by default the one each of them asks at.
        listening: a socket that listens already, instead of host and port.
    """
    app = create_app(directory, url=url, secret=secret, base_url=base_url)
    server_of(app, host=host, port=port).run(sockets=None if listening is None else [without_delay(listening)])
