"""What clients send: JSON, and payload files as multipart/mixed, both up to a limit."""

import json
from collections.abc import Iterator, Mapping
from email.message import Message
from email.parser import BytesHeaderParser
from typing import Any

from starlette.requests import Request

from b2cal_core.errors import ConfigurationError
from resources.conditions.server.refusals import TooLarge

_MOST_PARTS = 16
_BLANK_LINE = b"\r\n\r\n"


async def body_of(request: Request, *, limit: int) -> bytes:
    """The whole body of a request; ``TooLarge`` as soon as it is known to have more than ``limit`` bytes."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        _refuse_size(limit)
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > limit:
            _refuse_size(limit)
    return bytes(received)


def _refuse_size(limit: int) -> None:
    raise TooLarge(f"the server takes at most {limit} bytes in one request; send less, or have the limit raised")


def json_of(body: bytes, kind: type, what: str) -> Any:  # noqa: ANN401 (whatever the client sent)
    """The JSON value in a body, which must be of the ``kind``; else ``ConfigurationError``."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{what} is sent as JSON; what was sent is none. Nothing was changed") from None
    if not isinstance(value, kind):
        wanted = "list" if kind is list else "object"
        raise ConfigurationError(f"{what} is sent as a JSON {wanted}; nothing was changed")
    return value


def text_in(value: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """The text an object has under a key; without ``default`` it must have one."""
    found = value.get(key, default)
    if not isinstance(found, str):
        raise ConfigurationError(f"the field {key!r} must be text, got {type(found).__name__}; nothing was changed")
    if any("\ud800" <= letter <= "\udfff" for letter in found):
        raise ConfigurationError(f"the field {key!r} has half of a letter, as JSON escapes it; nothing was changed")
    return found


def uploaded_payload(content_type: str, body: bytes) -> tuple[bytes, Mapping[str, Any]]:
    """The payload's content and what is said about it, out of a multipart body with exactly these two parts.

    Raises:
        ConfigurationError: the body is no such message.
    Source: basf2 conditions database client: the part ``json`` and one named after the file.
    """
    contents: list[bytes] = []
    said: list[bytes] = []
    for header, content in _parts(content_type, body):
        (said if header.get_content_type() == "application/json" else contents).append(content)
    if len(contents) != 1 or len(said) != 1:
        raise ConfigurationError(
            f"a payload is sent as one file and one part with JSON, got {len(contents)} and {len(said)};"
            " nothing was changed"
        )
    return contents[0], json_of(said[0], dict, "what is said about a payload")


def _parts(content_type: str, body: bytes) -> Iterator[tuple[Message, bytes]]:
    """Header and content of each part; contents stay as they are, byte for byte."""
    delimiter = b"\r\n--" + _boundary(content_type)
    pieces = (b"\r\n" + body).split(delimiter, _MOST_PARTS)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):  # noqa: PLR2004 (a preamble and an end at least)
        raise ConfigurationError("the multipart body has no end; it was cut off on its way. Nothing was changed")
    for piece in pieces[1:-1]:
        padding, line_end, rest = piece.partition(b"\r\n")
        if padding.strip(b" \t") or not line_end:
            raise ConfigurationError("the multipart body is malformed after a boundary; nothing was changed")
        head, blank, content = (b"\r\n" + rest).partition(_BLANK_LINE)
        if not blank:
            raise ConfigurationError("a part of the multipart body has no blank line; nothing was changed")
        yield BytesHeaderParser().parsebytes(head[2:] + _BLANK_LINE), content


def _boundary(content_type: str) -> bytes:
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if header.get_content_maintype() != "multipart" or not boundary or not boundary.isascii():
        raise ConfigurationError(
            "a payload is sent as multipart/mixed with a boundary; look at the Content-Type. Nothing was changed"
        )
    return boundary.encode()
