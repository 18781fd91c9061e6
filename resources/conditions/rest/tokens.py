"""The token that lets a user write: where it is kept, what it says, how long it lasts. It is never shown.

Source: tokens of the Belle II conditions database; their signature can be checked by the server only.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
from requests import PreparedRequest
from requests.auth import AuthBase

from b2cal_core.errors import ConfigurationError, RightsError
from b2cal_core.rights import Rights
from resources.private_files import NotPrivateError, private_text

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_MARGIN = 5.0  # seconds a request may travel


def without_tokens(text: str) -> str:
    """The text with whatever looks like a token left out."""
    return re.sub(r"[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*", "(token)", text)


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it was read.

    Attributes:
        user: whose it is.
        expires: in UTC.
        rights: tags the user may change; everybody may change their own.
    """

    secret: str = field(repr=False)
    user: str
    expires: datetime
    rights: Rights


class Bearer(AuthBase):
    """Puts a token into the header where the Belle II server looks for it."""

    def __init__(self, token: Token) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """The request with the header."""
        request.headers["X-Authorization"] = f"Bearer {self._token.secret}"
        return request


class TokenFile:
    """The file a user's token is kept in.

    Args:
        path: only its owner may read it.
        refresh: writes a new token to the path; called when the one there does not last.
        clock: gives the time to compare with the token's end.
    """

    def __init__(
        self,
        path: Path,
        *,
        refresh: Callable[[Path], None] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path, self._refresh, self._clock = path, refresh, clock

    def token(self, seconds: float = 0.0) -> Token:
        """A token that lasts for that long, a new one if need be.

        Raises:
            RightsError: there is none, others can read it, it is no token, or it ends too early.
        """
        problem = self._problem(seconds)
        if problem and self._refresh is not None:
            self._refresh(self._path)
            problem = self._problem(seconds)
        if problem:
            raise RightsError(f"{problem}. Nothing was changed")
        return self._read()

    def _problem(self, seconds: float) -> str:
        try:
            token = self._read()
        except RightsError as error:
            return str(error)
        left = (token.expires - self._clock()).total_seconds()
        if left >= seconds + _MARGIN:
            return ""
        when = token.expires.isoformat(timespec="seconds")
        needed = f", but this takes up to {seconds:.0f} s" if left > 0 else ""
        return f"the token of {token.user} in {self._path} ends or ended at {when}{needed}; get a new one"

    def _read(self) -> Token:
        return _token_of(_private_text(self._path).strip(), self._path)


def _private_text(path: Path) -> str:
    try:
        return private_text(path)
    except NotPrivateError as error:
        raise RightsError(
            f"the token file {error} can be read by others; use `chmod 600`, and get a new token"
        ) from None
    except OSError as error:
        raise RightsError(f"the token file {path} cannot be read: {error.strerror}; get a token first") from None


def _token_of(secret: str, path: Path) -> Token:
    claims = _claims(secret) if _FORM.fullmatch(secret) else None
    if claims is None:
        raise RightsError(f"{path} holds no token; get a new one")
    user, expires = claims.get("sub"), claims.get("exp")
    if not isinstance(user, str) or not user or not isinstance(expires, int | float) or isinstance(expires, bool):
        raise RightsError(f"the token in {path} does not say whose it is or when it ends; get a new one")
    try:
        own = Rights.own(user)
        patterns = (*_patterns(claims, "b2cdb:admin"), *own.admin)
        rights = Rights(user, admin=patterns, create_iov=_patterns(claims, "b2cdb:create_iov"))
        return Token(secret, user, datetime.fromtimestamp(expires, UTC), rights)
    except (ConfigurationError, TypeError, ValueError, OverflowError, OSError):
        raise RightsError(f"the token in {path} has rights or an end that make no sense; get a new one") from None


def _claims(secret: str) -> dict[str, Any] | None:
    try:
        claims: dict[str, Any] = jwt.decode(secret, options={"verify_signature": False})
    except jwt.PyJWTError:
        return None
    return claims


def _patterns(claims: dict[str, Any], claim: str) -> tuple[str, ...]:
    patterns = claims.get(claim, [])
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(claim)
    return tuple(patterns)
