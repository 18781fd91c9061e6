"""What the server says when it refuses or fails: ``{code, reason, message}`` with the fitting status."""

import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from b2cal_core.errors import (
    BackendError,
    CalibrationError,
    ConfigurationError,
    ConflictError,
    DataError,
    IntegrityError,
    RightsError,
)
from resources.conditions.server.tokens import Unauthenticated

_LOG = logging.getLogger(__name__)

# The first that fits counts.
_STATUS: tuple[tuple[type[CalibrationError], HTTPStatus], ...] = (
    (Unauthenticated, HTTPStatus.UNAUTHORIZED),
    (RightsError, HTTPStatus.FORBIDDEN),
    (ConflictError, HTTPStatus.CONFLICT),
    (ConfigurationError, HTTPStatus.BAD_REQUEST),
    (DataError, HTTPStatus.BAD_REQUEST),
    (IntegrityError, HTTPStatus.INTERNAL_SERVER_ERROR),
)


class NotFound(CalibrationError):  # noqa: N818 (named after the answer it leads to)
    """What the request names is not in the database; status 404."""


class TooLarge(CalibrationError):  # noqa: N818 (named after the answer it leads to)
    """The request's body is larger than the server takes; status 413."""


def refusal(status: int, message: str) -> Response:
    """An answer that says what is wrong."""
    status = HTTPStatus(status)
    body = {"code": status.value, "reason": status.phrase, "message": message}
    headers = {"WWW-Authenticate": "Bearer"} if status is HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(body, status.value, headers=headers)


async def answer_error(_request: Request, error: Exception) -> Response:
    """The answer to a request that raised ``error``."""
    if isinstance(error, HTTPException):
        return refusal(error.status_code, error.detail)
    if isinstance(error, CalibrationError):
        status = _status_of(error)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _LOG.error("%s", error)
        return refusal(status, str(error))
    return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its administrator finds the reason in its log")


def _status_of(error: CalibrationError) -> HTTPStatus:
    if isinstance(error, NotFound):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, TooLarge):
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if isinstance(error, BackendError) and error.transient:
        return HTTPStatus.SERVICE_UNAVAILABLE
    return next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
