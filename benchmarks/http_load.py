"""Many clients of an HTTP server, each asking again as soon as it has its answer, over a connection it keeps.

Run as a program it does what the JSON on its first line of input says, and writes what it measured as JSON. It stays
out of the way of the server by being another process, and by reading no more of an answer than it needs to.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from subprocess import PIPE, run
from typing import Any

from big_tags import BigTag
from figures import Times

try:
    import uvloop
except ImportError:
    uvloop = None  # type: ignore[assignment]  # asyncio's own loop then, a little slower
_HEAD_END, _LENGTH, _ITEM = b"\r\n\r\n", b"content-length: ", b'"payloadIov":'
_FEW = 20


@dataclass(frozen=True, slots=True)
class Load:
    """How clients ask: at random runs of a tag, for so long, or until there were so many answers."""

    port: int
    tag: str
    iovs: int
    clients: int
    seconds: float
    most: int

    def measured(self) -> Times:
        """What the clients measured, in a process of their own."""
        command = [sys.executable, __file__]
        done = run(command, input=json.dumps(asdict(self)), stdout=PIPE, text=True, check=True)
        return Times(**json.loads(done.stdout))


class _Client(asyncio.Protocol):
    """One connection; counts what every answer holds, once the clock has stopped."""

    def __init__(self, request: Callable[[], bytes], items: int, done: Callable[[float], bool]) -> None:
        self._request, self._items, self._done = request, items, done
        self._transport: Any = None
        self._received = bytearray()
        self._sent_at = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._received.clear()
        request = self._request()
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(_HEAD_END)
        if head < 0:
            return
        at = self._received.find(_LENGTH, 0, head) + len(_LENGTH)
        length = int(self._received[at : self._received.index(b"\r", at)])
        if len(self._received) < head + len(_HEAD_END) + length:
            return
        took = time.perf_counter() - self._sent_at
        try:
            self._check(self._received)
            if self._done(took):
                self._ask()
                return
        except Exception as error:  # noqa: BLE001 (whatever it was, the one who waits hears of it)
            self._end(error)
        else:
            self._end(None)

    def _check(self, answer: bytearray) -> None:
        if not answer.startswith(b"HTTP/1.1 200") or answer.count(_ITEM) != self._items:
            raise RuntimeError(f"not an answer with {self._items} payloads: {bytes(answer[:500])!r}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or RuntimeError("the server closed the connection"))

    def _end(self, error: Exception | None) -> None:
        if not self.ended.done():
            if error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)
        self._transport.close()


async def _drive(load: Load, items: int) -> Times:
    loop, tag = asyncio.get_running_loop(), BigTag(load.tag, load.iovs)
    chance = random.Random(load.clients)  # noqa: S311 (no secret is made)
    taken: list[float] = []

    def request() -> bytes:
        run_ = tag.run(chance.randrange(tag.runs))
        path = f"/b2s/rest/v2/iovPayloads?gtName={tag.name}&expNumber={run_.exp}&runNumber={run_.run}"
        return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\nAccept: application/json\r\n\r\n".encode()

    async def ask(seconds: float, most: int) -> float:
        taken.clear()
        begun = time.perf_counter()

        def done(took: float) -> bool:
            taken.append(took)
            return len(taken) < most and time.perf_counter() < begun + seconds

        clients = [
            (await loop.create_connection(lambda: _Client(request, items, done), "127.0.0.1", load.port))[1]
            for _ in range(load.clients)
        ]
        await asyncio.gather(*(client.ended for client in clients))
        return time.perf_counter() - begun

    await ask(load.seconds, min(load.most, _FEW * load.clients))  # the server gets warm
    return Times(elapsed=await ask(load.seconds, load.most), seconds=tuple(taken))


def _main() -> None:
    load = Load(**json.loads(sys.stdin.readline()))
    items = 100
    times = uvloop.run(_drive(load, items)) if uvloop else asyncio.run(_drive(load, items))
    os.set_blocking(sys.stdout.fileno(), True)  # else what does not fit into the pipe at once would be lost
    print(json.dumps({"seconds": times.seconds, "elapsed": times.elapsed}))


def described() -> str:
    """What makes the requests."""
    return f"asyncio protocols on {'uvloop' if uvloop else 'the loop of asyncio'}, in one process of their own"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    _main()
