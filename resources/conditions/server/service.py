"""What every handler of the server shares: the database, who asks, the body's limits, and how answers are made."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from b2cal_core.errors import ConfigurationError
from b2cal_core.rights import Rights
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.server.shapes import PACKAGE
from resources.conditions.server.tokens import Unauthenticated, rights_of

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]
PAYLOADS = f"/payloads/{PACKAGE}"
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Service:
    """A conditions database that is being served.

    Attributes:
        secret: signs the tokens.
        base_url: the address clients know the server by, if it is not the one they ask at.
        largest_json: most bytes a request other than an upload may have.
        largest_payload: most bytes an upload may have.
    """

    database: EmbeddedConditionsDB
    secret: str = field(repr=False)
    base_url: str | None
    largest_json: int
    largest_payload: int

    def rights(self, request: Request) -> Rights:
        """Who asks, by their token; ``Unauthenticated`` when there is no valid one."""
        header = request.headers.get("x-authorization", "")
        if not header.lower().startswith(_BEARER):
            raise Unauthenticated(
                "whoever changes something says who they are with the header X-Authorization: Bearer and a token;"
                " nothing was changed"
            )
        return rights_of(self.secret, header[len(_BEARER) :].strip())

    def payload_base(self, request: Request) -> str:
        """The address that a payload's URL is joined with."""
        return f"{(self.base_url or str(request.base_url)).rstrip('/')}/payloads/"

    def read(self, query: Callable[[sa.Connection], T]) -> T:
        """What a query finds, in a transaction of its own."""
        with self.database.database.read() as connection:
            return query(connection)

    async def read_aside(self, query: Callable[[sa.Connection], T]) -> T:
        """Like ``read``, while the server goes on with other requests; for what takes long."""
        return await run_in_threadpool(self.read, query)

    async def read_soon(self, query: Callable[[sa.Connection], T]) -> T:
        """Like ``read``, by the quickest way; for what takes a millisecond.

        SQLite's readers wait for nobody, and going to another thread and back would cost more than the query. A
        MariaDB may be slow to answer, which must not halt everything else.
        """
        if self.database.engine.dialect.name == "sqlite":
            return self.read(query)
        return await self.read_aside(query)


def route(path: str, handler: Handler, verb: str = "GET") -> Route:
    """A call of the interface, below ``v2``."""
    return Route(f"/v2{path}", handler, methods=[verb])


def json_text(text: str, status: int = 200) -> Response:
    """An answer that is JSON already."""
    return Response(text, status, media_type="application/json")


def number_in(request: Request, name: str) -> int:
    """A whole number of the path, not negative."""
    return whole_number(request.path_params[name], name)


def whole_number(text: str, name: str, *, least: int = 0) -> int:
    """The number a text stands for; ``ConfigurationError`` when it is none, or below ``least``."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 10 and int(text) >= least):  # noqa: PLR2004 (more than any id)
        raise ConfigurationError(f"{name} is a whole number from {least} on, got {text!r:.50}")
    return int(text)
