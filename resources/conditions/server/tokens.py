"""Tokens of the conditions server: who asks, and which global tags they may change.

A token is signed with a secret that only the server and whoever issues tokens know; it is never stored or logged here.
Source: token service of the Belle II conditions database, HS256 with patterns of tag names as claims.
"""

import os
import secrets
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jwt

from b2cal_core.errors import BackendError, ConfigurationError, RightsError
from b2cal_core.rights import Rights

ALGORITHM = "HS256"
ADMIN_CLAIM, CREATE_IOV_CLAIM = "b2cdb:admin", "b2cdb:create_iov"
_SECRET_BYTES = 32  # as many as the signature has


class Unauthenticated(RightsError):  # noqa: N818 (named after the answer, 401 Unauthorized, it leads to)
    """Whoever asks has not shown who they are; a new token helps."""


def issue(secret: str, user: str, *, admin: Sequence[str], create_iov: Sequence[str] = (), seconds: float) -> str:
    """A token for a user.

    Args:
        secret: the server's.
        user: who the audit log will name.
        admin: regular expressions of the tags that may be made, filled, published and changed.
        create_iov: likewise of OPEN tags that may only be filled.
        seconds: how long it is valid from now on.

    Raises:
        ConfigurationError: a pattern is no regular expression, or the user has no name.
    """
    if not user.strip():
        raise ConfigurationError("a token is for a user with a name; give one")
    Rights(user, tuple(admin), tuple(create_iov))
    claims = {"sub": user, "name": user, "exp": int(time.time() + seconds)}
    claims |= {ADMIN_CLAIM: list(admin), CREATE_IOV_CLAIM: list(create_iov)}
    return jwt.encode(claims, check_secret(secret), algorithm=ALGORITHM)


def rights_of(secret: str, token: str) -> Rights:
    """What the bearer of a token may do; ``Unauthenticated`` when it is not ours, or no longer valid."""
    try:
        options: Any = {"require": ["exp", "sub"]}
        claims = jwt.decode(token, secret, algorithms=[ALGORITHM], options=options)
    except jwt.ExpiredSignatureError:
        raise Unauthenticated("the token has expired; get a new one. Nothing was changed") from None
    except jwt.PyJWTError as error:  # its text names the fault, never the token
        raise Unauthenticated(f"the token is not valid ({error}); get a new one. Nothing was changed") from None
    try:
        return Rights(claims["sub"], _patterns(claims, ADMIN_CLAIM), _patterns(claims, CREATE_IOV_CLAIM))
    except ConfigurationError as error:
        raise Unauthenticated(f"the token cannot be used: {error}. Get a new one; nothing was changed") from None


def _patterns(claims: Mapping[str, Any], name: str) -> tuple[str, ...]:
    patterns = claims.get(name, [])
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise ConfigurationError(f"its claim {name} is no list of regular expressions")
    return tuple(patterns)


def check_secret(secret: str) -> str:
    """The secret, when it is long enough to sign with; else ``ConfigurationError``."""
    if len(secret.encode()) < _SECRET_BYTES:
        raise ConfigurationError(f"the secret that signs tokens must have {_SECRET_BYTES} characters or more")
    return secret


def secret_of(file: Path) -> str:
    """The secret in a file that only its owner can read; made, and filled, when there is none.

    Raises:
        ConfigurationError: others may read the file, or it holds too little.
        BackendError: it can be neither read nor made.
    """
    try:
        _make_secret(file)
        mode = stat.S_IMODE(file.stat().st_mode)
        text = file.read_text().strip()
    except OSError as error:
        raise BackendError(
            f"the secret that signs tokens cannot be kept in {file}: {error.strerror}; check the directory",
            transient=False,
        ) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            f"others may read {file}, which holds the secret that signs tokens; remove it, so that a new one is made"
        )
    return check_secret(text)


def _make_secret(file: Path) -> None:
    if file.exists():
        return
    temporary = _private_file(file, secrets.token_urlsafe(48))
    try:
        os.link(temporary, file)  # whole, and never over the secret of another who was quicker
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def keep_token(file: Path, token: str) -> None:
    """Write a token into a file that only its owner can read, in place of one that is there already.

    Raises:
        BackendError: it cannot be written.
    """
    try:
        _private_file(file, token).replace(file)
    except OSError as error:
        raise BackendError(
            f"the token cannot be kept in {file}: {error.strerror}; name another file", transient=False
        ) from error


def _private_file(beside: Path, text: str) -> Path:
    """A new file with the text, on disk, that only its owner ever could read."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside.with_name(f".{beside.name}-{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as target:
            target.write(f"{text}\n")
            target.flush()
            os.fsync(target.fileno())
    except BaseException:
        temporary.unlink()
        raise
    return temporary
