"""Publishing: from a staging tag's content to the operations on a running tag."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from b2cal_core.errors import ConflictError
from b2cal_core.ranges import IoV


@dataclass(frozen=True, slots=True)
class TagIov:
    """A payload of a tag, valid in an IoV; ``id`` is the database's identity of the link."""

    name: str
    revision: int
    iov: IoV
    id: int | None = None


class UpdateMode(StrEnum):
    """What a running update may do with payloads that end."""

    strict = "strict"
    allow_closed = "allow_closed"
    fix_closed = "fix_closed"
    simple = "simple"
    full_replacement = "full_replacement"


@dataclass(frozen=True, slots=True)
class Operation:
    """One change: ``close`` an open IoV (``iov`` is what remains of it) or ``create`` one."""

    kind: Literal["close", "create"]
    name: str
    revision: int
    iov: IoV
    id: int | None = None


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """The operations of a running update, in order of name and start."""

    operations: tuple[Operation, ...]


class UpdateRefused(ConflictError):
    """The update breaks a rule; ``reasons`` counts the offending payloads per rule."""

    def __init__(self, reasons: Mapping[str, int]) -> None:
        self.reasons = dict(reasons)
        super().__init__(", ".join(f"{n} {r}" for r, n in self.reasons.items()))
