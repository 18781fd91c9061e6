"""Where a payload comes from: enough to make it again and to judge it. Published payloads have it all.

Of payloads that others made outside the platform not all of that is known; who made them and where they were found is.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ConfigDict, SerializerFunctionWrapHandler, model_serializer

from b2cal_core.errors import DataError, in_short
from b2cal_core.one_line import OneLine

PayloadKey = tuple[str, str]
"""Name and MD5 of a payload: what identifies it across databases."""


class Provenance(OneLine):
    """The record of one payload. ``None`` is "not known"; an empty value is "known to be nothing".

    Attributes:
        code: which program made it: release and script, or repository, with a version or hash.
        inputs: what was read: files or data sets, with checksums where there are any.
        runs: (experiment, run) whose data went in.
        tags: the conditions read, the last tag having the highest priority.
        upstream: name and MD5 of the payloads of this campaign that were read.
        config: the configuration of the calibration.
        validation: what the validation said: verdict and figures.
        outside: who made it, if that was outside the platform and nothing more is known of it; else ``None``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)
    what = "provenance record"

    code: str | None = None
    inputs: tuple[str, ...] | None = None
    runs: tuple[tuple[int, int], ...] | None = None
    tags: tuple[str, ...] | None = None
    upstream: tuple[PayloadKey, ...] | None = None
    config: Mapping[str, Any] | None = None
    validation: Mapping[str, Any] | None = None
    outside: str | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_seldom(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Records of what the platform made are written, and hashed, as before there were others."""
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if name != "outside" or value is not None}

    @property
    def missing(self) -> tuple[str, ...]:
        """The fields without which a payload is not published; no code, input, run or verdict is as bad as unknown.

        Of a payload that was made outside, what was read, by which code and of which runs is not asked: where it was
        found, as its input, and how it was judged is.
        """
        needed = ("inputs", "validation") if self.outside else ("code", "inputs", "runs", "validation")
        known = () if self.outside else ("tags", "upstream", "config")
        values = {name: getattr(self, name) for name in type(self).model_fields}
        lacks = {name for name in needed if not values[name]} | {name for name in known if values[name] is None}
        return tuple(name for name in values if name in lacks)

    @property
    def hash(self) -> str:
        """A hash of the record; 64 lower-case hex digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def require_complete(wanted: Iterable[PayloadKey], known: Mapping[PayloadKey, Provenance]) -> None:
    """Raise ``DataError`` when a payload that is to be published has no complete record."""
    if missing := lacking(wanted, known):
        raise DataError(
            f"payloads are published with complete provenance only: {in_short(missing)}. Record it with"
            " `b2cal cdb provenance`; nothing was changed"
        )


def lacking(wanted: Iterable[PayloadKey], known: Mapping[PayloadKey, Provenance]) -> tuple[str, ...]:
    """What the records of the ``wanted`` payloads lack, one sentence each; nothing when they are complete."""
    found: list[str] = []
    for key in sorted(set(wanted)):
        record = known.get(key)
        if record is None:
            found.append(f"{key[0]} (MD5 {key[1]}) has no record")
        elif record.missing:
            found.append(f"the record of {key[0]} (MD5 {key[1]}) lacks {', '.join(record.missing)}")
    return tuple(found)
