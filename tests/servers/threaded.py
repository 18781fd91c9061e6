"""A real uvicorn on a free port of this machine, in a thread of the tests' own process."""

import socket
import threading
import time

from starlette.types import ASGIApp

from resources.conditions.server.serving import server_of, without_delay

START_SECONDS = 60.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.01


class ThreadedServer:
    """Serves an application until it is stopped.

    Args:
        app: what answers.
        port: to listen on; by default a free one.
    """

    def __init__(self, app: ASGIApp, port: int = 0) -> None:
        self._listening = without_delay(socket.create_server(("127.0.0.1", port), backlog=512))
        self.port = self._listening.getsockname()[1]
        self._server = server_of(app)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listening]}, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Shut the server down; connections that are idle are closed."""
        self._server.should_exit = True
        self._thread.join(STOP_SECONDS)
        self._listening.close()
        if self._thread.is_alive():
            raise RuntimeError("the server does not stop")
