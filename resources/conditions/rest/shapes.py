"""The JSON objects of the Belle II conditions database, and the values they stand for.

Fields that nothing here needs may be missing or new; a field that is needed and is of the wrong type is an error, never
a default.
Source: what public clients of the interface read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import urljoin

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from b2cal_core.errors import BackendError, reasons_of
from b2cal_core.payloads import GlobalTag, Payload, TagState
from b2cal_core.publishing import TagIov
from b2cal_core.ranges import IoV

_LONGEST = 300
_Id = Annotated[int, Field(ge=0)]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TagRecord:
    """A global tag as the server has it; ``raw`` is everything it said, to be sent back when the tag is changed."""

    id: int
    name: str
    state: str
    description: str
    type: str
    raw: Mapping[str, Any]

    @property
    def tag(self) -> GlobalTag:
        """The tag; ``BackendError`` when it is in a state that nobody has heard of."""
        try:
            return GlobalTag(self.name, TagState(self.state), description=self.description, type=self.type)
        except ValueError:
            raise BackendError(
                f"global tag {self.name} is in the state {self.state!r}, which is none of {', '.join(TagState)}; tell"
                " the developers",
                transient=False,
            ) from None


@dataclass(frozen=True, slots=True)
class PayloadRecord:
    """A payload as the server has it; ``url`` is where its file is, relative to the server when not complete."""

    id: int
    payload: Payload
    url: str


@dataclass(frozen=True, slots=True)
class LinkRecord:
    """A payload of a tag with one IoV."""

    link: TagIov
    payload: PayloadRecord


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Named(_Shape):
    name: str


class _Tag(_Shape):
    id: _Id = Field(alias="globalTagId")
    name: str
    description: str | None = None
    status: _Named = Field(alias="globalTagStatus")
    type: _Named = Field(alias="globalTagType")


class _Payload(_Shape):
    id: _Id = Field(alias="payloadId")
    module: _Named = Field(alias="basf2Module")
    revision: Annotated[int, Field(ge=1)]
    checksum: Annotated[str, Field(pattern="^[0-9a-fA-F]{32}$")]
    url: str | None = Field(None, alias="payloadUrl")
    base: str | None = Field(None, alias="baseUrl")

    @property
    def record(self) -> PayloadRecord:
        name, base = self.module.name, f"{(self.base or '').rstrip('/')}/"
        usual = f"dbstore/{name}/dbstore_{name}_rev_{self.revision}.root"
        payload = Payload(name, self.revision, md5=self.checksum.lower())
        return PayloadRecord(self.id, payload, urljoin(base, self.url or usual))


class _Iov(_Shape):
    id: _Id = Field(alias="payloadIovId")
    exp_start: int = Field(alias="expStart")
    run_start: int = Field(alias="runStart")
    exp_end: int = Field(alias="expEnd")
    run_end: int = Field(alias="runEnd")

    @property
    def iov(self) -> IoV:
        return IoV(self.exp_start, self.run_start, self.exp_end, self.run_end)


class _Links(_Shape):
    payload: _Payload = Field(validation_alias=AliasChoices("payloadId", "payload"))
    iovs: tuple[_Iov, ...] = Field(alias="payloadIovs", strict=False)


class _Valid(_Shape):
    payload: _Payload = Field(validation_alias=AliasChoices("payload", "payloadId"))
    iov: _Iov = Field(validation_alias=AliasChoices("payloadIov", "payloadIovId"))


class _NewPayload(_Shape):
    id: _Id = Field(alias="payloadId")


class _NewIov(_Shape):
    id: _Id = Field(alias="payloadIovId")


_TAG, _TAGS = TypeAdapter(_Tag), TypeAdapter(list[_Tag])
_PAYLOAD, _PAYLOADS = TypeAdapter(_Payload), TypeAdapter(list[_Payload])
_LINKS, _VALIDS = TypeAdapter(list[_Links]), TypeAdapter(list[_Valid])
_NAMES = TypeAdapter(list[_Named])
_NEW_PAYLOAD, _NEW_IOV = TypeAdapter(_NewPayload), TypeAdapter(_NewIov)


def names(answer: object, step: str) -> tuple[str, ...]:
    """A list of named things: states, types."""
    return tuple(named.name for named in _parsed(_NAMES, answer, step))


def tag(answer: Any, step: str) -> TagRecord:  # noqa: ANN401 (JSON)
    """A global tag."""
    return _tag_record(_parsed(_TAG, answer, step), answer)


def tags(answer: Any, step: str) -> tuple[TagRecord, ...]:  # noqa: ANN401 (JSON)
    """A list of global tags."""
    parsed = _parsed(_TAGS, answer, step)
    return tuple(map(_tag_record, parsed, answer))


def payload(answer: object, step: str) -> PayloadRecord:
    """A payload."""
    return _parsed(_PAYLOAD, answer, step).record


def payloads(answer: object, step: str) -> tuple[PayloadRecord, ...]:
    """A list of payloads."""
    return tuple(parsed.record for parsed in _parsed(_PAYLOADS, answer, step))


def links(answer: object, step: str) -> tuple[LinkRecord, ...]:
    """The links of a tag, by name, start and revision."""
    parsed = _parsed(_LINKS, answer, step)
    found = [_link(group.payload.record, iov, step) for group in parsed for iov in group.iovs]
    return tuple(sorted(found, key=_place))


def valid(answer: object, step: str) -> tuple[LinkRecord, ...]:
    """The payloads valid in one run."""
    return tuple(_link(one.payload.record, one.iov, step) for one in _parsed(_VALIDS, answer, step))


def new_payload(answer: object, step: str) -> int:
    """The id of a payload just made."""
    return _parsed(_NEW_PAYLOAD, answer, step).id


def new_iov(answer: object, step: str) -> int:
    """The id of an IoV just made."""
    return _parsed(_NEW_IOV, answer, step).id


def _tag_record(parsed: _Tag, raw: Mapping[str, Any]) -> TagRecord:
    return TagRecord(
        parsed.id,
        parsed.name,
        parsed.status.name,
        description=parsed.description or "",
        type=parsed.type.name,
        raw=raw,
    )


def _link(record: PayloadRecord, shape: _Iov, step: str) -> LinkRecord:
    try:
        iov = shape.iov
    except ValueError as error:
        message = (
            f"{step} failed: {record.payload.name} has an impossible IoV: {error}; it must be mended on the server"
        )
        raise BackendError(message, transient=False) from error
    return LinkRecord(TagIov(record.payload.name, record.payload.revision, iov, id=shape.id), record)


def _place(record: LinkRecord) -> tuple[Any, ...]:
    link = record.link
    return link.name, link.iov.start, link.revision, link.iov.stop, link.id


def _parsed(adapter: TypeAdapter[_T], answer: object, step: str) -> _T:
    try:
        return adapter.validate_python(answer)
    except ValidationError as error:
        raise BackendError(
            f"{step} failed: the reply has an unknown form ({reasons_of(error)[:_LONGEST]}); check that the address is"
            " that of a conditions server",
            transient=False,
        ) from None
