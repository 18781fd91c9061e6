"""Looking up over HTTP, beside a server that always gives the same answer and the bare SQL for the look-up.

Run as a program it serves what the JSON on its first line of input says, until its input ends.
"""

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from urllib.request import urlopen

from big_tags import BigTag
from figures import Row, Subject, in_turn
from http_load import Load
from lookups import BARE, BareLookUp
from starlette.types import Receive, Scope, Send

from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.server.app import create_app
from resources.conditions.server.serving import server_of

CLIENTS = (1, 8, 64)
STATIC = "fixed answer"
_MOST = 20_000


def over_http(
    conditions: EmbeddedConditionsDB, directory: Path, tag: BigTag, subject: Subject, *, seconds: float
) -> Iterator[Row]:
    """Rows of the report; ``seconds`` for each number of clients and each server."""
    bare = BareLookUp(conditions, tag)
    url = None if subject.database == "sqlite" else conditions.engine.url.render_as_string(hide_password=False)
    with _serving(directory=str(directory), url=url) as port, _serving(answer=_answer(port, tag)) as fixed:
        for clients in CLIENTS:
            ours, theirs = (
                Load(each, tag.name, tag.iovs, clients, seconds=seconds, most=_MOST).measured()
                for each in (port, fixed)
            )
            (sql,) = in_turn([lambda: bare.valid(tag.run(tag.runs // 2))], seconds / 5)
            yield subject.row("look-up over HTTP", ours, {STATIC: theirs, BARE: sql}, clients=clients)
            yield subject.row("fixed answer over HTTP", theirs, clients=clients)


def _answer(port: int, tag: BigTag) -> str:
    run = tag.run(tag.runs - 1)
    query = f"gtName={tag.name}&expNumber={run.exp}&runNumber={run.run}"
    with urlopen(f"http://127.0.0.1:{port}/b2s/rest/v2/iovPayloads?{query}") as reply:
        return str(reply.read().decode())


@contextmanager
def _serving(**settings: str | None) -> Iterator[int]:
    """A server in its own process, which ends with this one; gives its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        descriptor, port = listening.fileno(), listening.getsockname()[1]
        command = [sys.executable, __file__, str(descriptor)]
        process = Popen(command, stdin=PIPE, pass_fds=[descriptor], text=True)
    with process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(settings) + "\n")
        process.stdin.flush()
        try:
            yield port  # it listens already; the first request waits for the server to start
        finally:
            process.terminate()


def _serve(descriptor: int) -> None:
    settings = json.loads(sys.stdin.buffer.raw.readline())  # type: ignore[attr-defined]
    threading.Thread(target=_end_with_input, daemon=True).start()
    if "answer" in settings:
        app = _fixed(settings["answer"].encode())
    else:
        app = create_app(Path(settings["directory"]), url=settings["url"], secret="x" * 32)
    server_of(app).run(sockets=[socket.socket(fileno=descriptor)])


def _fixed(body: bytes):  # type: ignore[no-untyped-def]  # noqa: ANN202 (an ASGI application)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
