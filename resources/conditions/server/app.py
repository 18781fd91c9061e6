"""The server: an embedded conditions database behind Belle II's REST interface, version 2.

Clients find it below ``/v2/`` and, as the server in production, below ``/b2s/rest/v2/``. It answers in JSON, whatever a
client accepts: those in use ask for nothing else.
"""

from pathlib import Path

import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from b2cal_core.errors import CalibrationError
from resources.conditions.embedded import EmbeddedConditionsDB
from resources.conditions.server.files import Files
from resources.conditions.server.reading import Reading
from resources.conditions.server.refusals import answer_error, refusal
from resources.conditions.server.service import Service
from resources.conditions.server.tokens import Unauthenticated, check_secret, rights_of
from resources.conditions.server.writing import Writing

LARGEST_JSON = 64 << 20
LARGEST_PAYLOAD = 512 << 20
_OFFICIAL_PREFIX = "/b2s/rest"


def create_app(
    directory: Path,
    *,
    url: str | sa.URL | None = None,
    secret: str,
    base_url: str | None = None,
    largest_payload: int = LARGEST_PAYLOAD,
) -> Starlette:
    """The server for the database in a directory.

    Args:
        directory: of the embedded conditions database.
        url: SQLAlchemy address of its tables, if they are not in the directory.
        secret: signs the tokens of those who may change something.
        base_url: the address clients know the server by; by default the one each of them asks at.
        largest_payload: bytes; a larger upload is refused.
    """
    database = EmbeddedConditionsDB(directory, url=url, pooled=True)
    service = Service(
        database, check_secret(secret), base_url, largest_json=LARGEST_JSON, largest_payload=largest_payload
    )
    return Starlette(
        routes=[*Reading(service).routes(), *Writing(service).routes(), *Files(service).routes(), _check(service)],
        middleware=[Middleware(_TolerantPaths)],
        exception_handlers={
            CalibrationError: answer_error,
            HTTPException: answer_error,
            Exception: answer_error,
        },
    )


def _check(service: Service) -> Route:
    """Whether a token is valid, as the token service tells."""

    async def check(request: Request) -> Response:
        try:
            rights = rights_of(service.secret, request.query_params.get("token", ""))
        except Unauthenticated as error:
            return refusal(400, str(error))
        return JSONResponse({"sub": rights.user, "admin": rights.admin, "create_iov": rights.create_iov})

    return Route("/check", check)


class _TolerantPaths:
    """Takes a slash at the end, and the prefix of the server in production, off the paths that clients ask for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["path"].removeprefix(_OFFICIAL_PREFIX).rstrip("/") or "/"}
        await self._app(scope, receive, send)
