"""What goes wrong between a client and a server, put around the application that serves."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Fault = Callable[[ASGIApp, Scope, Receive, Send], Awaitable[None]]


@dataclass
class Request:
    """A request that arrived; ``served`` when the application got to see it."""

    method: str
    path: str
    query: str
    headers: dict[str, str] = field(repr=False)  # one holds a token
    served: bool = False


@dataclass
class Faults:
    """ASGI middleware that spoils chosen requests, counted from the last ``reset``."""

    app: ASGIApp
    requests: list[Request] = field(default_factory=list)
    _fault: Fault | None = None
    _first: int = 0
    _times: int = 0

    def reset(self) -> None:
        """Forget the requests and spoil no more."""
        self.requests, self._fault = [], None

    def at(self, index: int, fault: Fault, *, times: int = 1) -> None:
        """Spoil so many requests from this one on."""
        self.reset()
        self._fault, self._first, self._times = fault, index, times

    def served(self, method: str, ending: str) -> list[Request]:
        """The requests of this kind that the application saw; ``ending`` is that of the path."""
        return [one for one in self.requests if one.served and one.method == method and one.path.endswith(ending)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        request = Request(scope["method"], scope["path"], scope["query_string"].decode(), headers)
        number = len(self.requests)
        self.requests.append(request)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            request.served = True
            await self.app(scope, receive, send)

        if self._fault is not None and self._first <= number < self._first + self._times:
            await self._fault(app, scope, receive, send)
        else:
            await app(scope, receive, send)


def answering(status: int, body: bytes, kind: str = "application/json", **headers: str) -> Fault:
    """The application is not asked; this is the reply."""

    async def fault(_app: ASGIApp, _scope: Scope, receive: Receive, send: Send) -> None:
        await _drain(receive)
        await _reply(send, status, body, {"content-type": kind, **headers})

    return fault


def answered(status: int, body: bytes, kind: str = "application/json") -> Fault:
    """The application does its work; this is the reply all the same."""

    async def fault(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, _swallow)
        await _reply(send, status, body, {"content-type": kind})

    return fault


async def lose_reply(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """The application does its work, and the connection breaks before the reply has come."""
    await app(scope, receive, _swallow)
    await _break_off(send)


async def lose_request(_app: ASGIApp, _scope: Scope, receive: Receive, send: Send) -> None:
    """The connection breaks before the application is asked."""
    await _drain(receive)
    await _break_off(send)


async def damage_file(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """The reply has its first byte changed."""
    changed = False

    async def spoil(message: Message) -> None:
        nonlocal changed
        body = message.get("body", b"")
        if body and not changed:
            changed, message = True, message | {"body": bytes([body[0] ^ 1]) + body[1:]}
        await send(message)

    await app(scope, receive, spoil)


def delayed(seconds: float) -> Fault:
    """The reply comes late."""

    async def fault(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(seconds)
        await app(scope, receive, send)

    return fault


class StaleCache:
    """A cache that gives every reply to a GET as it first was, whatever the client asks of it."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bytes], list[Message]] = {}

    async def __call__(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from the cache."""
        key = scope["path"], scope["query_string"]
        if scope["method"] != "GET":
            await app(scope, receive, send)
            return
        if key not in self._kept:
            kept: list[Message] = []

            async def keep(message: Message) -> None:
                kept.append(message)

            await app(scope, receive, keep)
            self._kept[key] = kept
        for message in self._kept[key]:
            await send(dict(message))


unavailable = answering(503, b'{"code": 503, "reason": "Service Unavailable", "message": "come back later"}')
empty = answering(200, b"")
malformed = answering(200, b'[{"globalTagId": 1, "na')
html_error = answering(502, b"<html><body>Bad Gateway</body></html>", "text/html")
html_page = answering(200, b"<html><body>Please log in</body></html>", "text/html")
html_refusal = answering(403, b"<html><body>Access denied</body></html>", "text/html")
html_absent = answering(404, b"<html><body>Not here</body></html>", "text/html")
redirect = answering(308, b"", "text/html", location="http://127.0.0.1:9/elsewhere")
wrong_type = answering(200, b'{"code": "odd"}')
garbled_after = answered(200, b'{"globalTagId": 1, "na')
failed_after = answered(502, b"<html>Bad Gateway</html>", "text/html")


async def _reply(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    lines = [(name.encode(), value.encode()) for name, value in headers.items()]
    lines.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def _break_off(send: Send) -> None:
    """Promise more than comes, so that the server closes the connection."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})


async def _swallow(_message: Message) -> None:
    """Take no notice of a part of the reply."""


async def _drain(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass
