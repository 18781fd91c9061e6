"""What a reply means: an answer, a refusal, or nothing that can be relied on."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import requests
from urllib3.exceptions import NewConnectionError

from b2cal_core.errors import BackendError, CalibrationError, ConflictError, RightsError
from resources.conditions.rest.tokens import without_tokens

_LONGEST_SAID = 300


class NotThere(BackendError):  # noqa: N818 (an answer more than an error)
    """The server says that it does not have what was asked about."""


class OutcomeUnknown(BackendError):  # noqa: N818 (says what it is)
    """A change was sent, and whether it was made is not known; look before it is sent again."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no answer.

    Attributes:
        sent: the request may have reached the server.
        passing: asking again may help.
        error: what to raise instead of the usual; only when the server clearly said no.
    """

    why: str
    sent: bool = True
    passing: bool = True
    error: CalibrationError | None = None


def answer_of(reply: requests.Response, step: str, *, writes: bool) -> tuple[Any, Trouble | None]:
    """The JSON of a reply, or what is wrong with it; a reply without body, where one is allowed, is ``None``."""
    status = reply.status_code
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return None, Trouble(f"the server answers {status}{_said(reply)}")
    if status >= HTTPStatus.BAD_REQUEST:
        return None, _refusal(reply, step, writes=writes)
    if status >= HTTPStatus.MULTIPLE_CHOICES or status < HTTPStatus.OK:
        why = f"the server answers {status} and wants to send the client elsewhere; use its final address"
        return None, Trouble(why, passing=False, error=BackendError(f"{step} failed: {why}", transient=False))
    if reply.request.method == "HEAD" or status == HTTPStatus.NO_CONTENT:
        return None, None
    try:
        return reply.json(), None
    except ValueError:
        kind = re.sub(r"[^\w/+.-].*", "", reply.headers.get("Content-Type", "")) or "nothing"
        return None, Trouble(f"the reply ({status}, {kind}, {len(reply.content)} bytes) is no JSON")


def trouble_of(error: requests.RequestException) -> Trouble:
    """What became of a request that got no reply."""
    if isinstance(error, requests.exceptions.SSLError):
        return Trouble("its certificate cannot be verified", sent=False, passing=False)
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidProxyURL):
        return Trouble("the address cannot be used", sent=False, passing=False)
    unsent = isinstance(error, requests.ConnectTimeout | requests.exceptions.ProxyError) or _never_connected(error)
    return Trouble(f"no reply ({type(error).__name__})", sent=not unsent)


def _never_connected(error: requests.RequestException) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, NewConnectionError)


def _refusal(reply: requests.Response, step: str, *, writes: bool) -> Trouble:
    status, said = HTTPStatus(reply.status_code) if reply.status_code in _STATUSES else reply.status_code, _said(reply)
    why = f"the server answers {int(status)}{said}"
    message = f"{step} failed: {why}"
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}:
        return Trouble(why, sent=False)
    if writes and status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Trouble(why, passing=False, error=RightsError(f"{message}; get a valid token, or the right to do this"))
    if writes and status == HTTPStatus.CONFLICT:
        return Trouble(why, passing=False, error=ConflictError(f"{message}; look at the tag, then ask again"))
    if status == HTTPStatus.NOT_FOUND and said:
        return Trouble(why, passing=False, error=NotThere(message, transient=False))
    advice = "" if said else "; this may be a proxy and not the database, check the address"
    return Trouble(why, passing=False, error=BackendError(f"{message}{advice}", transient=False))


_STATUSES = frozenset(status.value for status in HTTPStatus)


def _said(reply: requests.Response) -> str:
    """What the server's error says, in words; blank when the body is no error of the database."""
    try:
        body = reply.json()
    except ValueError:
        return ""
    if not isinstance(body, dict) or body.get("code") != reply.status_code:
        return ""
    words = [part for key in ("reason", "message") if isinstance(part := body.get(key), str) and part.strip()]
    text = " ".join(without_tokens(": ".join(words)).split())
    return f" ({text[:_LONGEST_SAID] or 'without words'})"
