"""Bringing the runs of another registry into ours, a page at a time, so that sensors ask ours only.

The other one decides what a run is and how good it is; files, and what it does not tell, stay as they were registered.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self

from b2cal_core.errors import ConfigurationError
from b2cal_core.ports import RunRegistry, RunSource
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import RunRecord


@dataclass(frozen=True, slots=True)
class MirrorCursor:
    """How far mirroring is.

    Attributes:
        last: the last run of a reading that ended; the next asks for those after it.
        highest: the last run seen in a reading that goes on.
        token: of its next page; empty when none goes on.
        since: it reads again the runs that started since then; ``None`` when it reads those after ``last``.
        looked: when runs that were known were last read again; ``None`` before the first time.
    """

    last: tuple[int, int] | None = None
    highest: tuple[int, int] | None = None
    token: str = ""
    since: str | None = None
    looked: str | None = None

    @classmethod
    def from_text(cls, text: str | None) -> Self:
        """The cursor as ``to_text`` wrote it; ``ConfigurationError`` when the text is none."""
        try:
            fields = json.loads(text or "{}")
            runs = {key: tuple(fields[key]) if fields.get(key) else None for key in ("last", "highest")}
            return cls(**(fields | runs))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{text!r} is no cursor of the mirror of runs; reset the sensor") from error

    def to_text(self) -> str:
        """As JSON in one line."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__ if getattr(self, name)})


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What one go of mirroring did: runs that were read, and how many of them were new or changed."""

    cursor: MirrorCursor
    runs: int
    changed: int


class RunMirror:
    """Brings runs over.

    Args:
        source: where they are read.
        registry: where they are registered.
        again_after: how long until runs that are known are read again, for changes of their quality.
        again: how far back these started.
        clock: the time, in UTC.
    """

    def __init__(
        self,
        source: RunSource,
        registry: RunRegistry,
        *,
        again_after: timedelta = timedelta(hours=1),
        again: timedelta = timedelta(days=30),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._source, self._registry = source, registry
        self._again_after, self._again, self._clock = again_after, again, clock

    def advance(self, cursor: MirrorCursor, *, seconds: float) -> Mirrored:
        """Read on from the cursor until there is nothing new or so many seconds are over; a page at least."""
        end, runs, changed = time.monotonic() + seconds, 0, 0
        while True:
            cursor = cursor if cursor.token else self._next_reading(cursor)
            records, token = self._source.page(
                None if cursor.since else _after(cursor.last),
                started_since=datetime.fromisoformat(cursor.since) if cursor.since else None,
                token=cursor.token,
            )
            changed += self._registry.add(self._merged(records))
            runs += len(records)
            cursor = self._turned(cursor, records, token)
            if time.monotonic() >= end or not (cursor.token or self._is_due(cursor)):
                return Mirrored(cursor, runs, changed)

    def bring(self, within: IoV | None = None) -> Mirrored:
        """Read all runs of a range again, whatever was read before; the cursor that comes with it says nothing."""
        token, runs, changed = "", 0, 0
        while True:
            records, token = self._source.page(within, token=token)
            changed += self._registry.add(self._merged(records))
            runs += len(records)
            if not token:
                return Mirrored(MirrorCursor(), runs, changed)

    def _next_reading(self, cursor: MirrorCursor) -> MirrorCursor:
        since = (self._clock() - self._again).isoformat() if self._is_due(cursor) else None
        return replace(cursor, since=since)

    def _is_due(self, cursor: MirrorCursor) -> bool:
        """Whether known runs are to be read again; the first reading, of all runs, is none of them."""
        return cursor.looked is not None and self._clock() - datetime.fromisoformat(cursor.looked) >= self._again_after

    def _turned(self, cursor: MirrorCursor, records: Iterable[RunRecord], token: str) -> MirrorCursor:
        highest = max((record.run.edge for record in records), default=None)
        highest = max(filter(None, (highest, cursor.highest, cursor.last)), default=None)
        if token:
            return replace(cursor, highest=highest, token=token)
        looked = self._clock().isoformat() if cursor.since or cursor.looked is None else cursor.looked
        return MirrorCursor(last=highest, looked=looked)

    def _merged(self, records: tuple[RunRecord, ...]) -> list[RunRecord]:
        """The records with what only our registry knows of the runs."""
        if not records:
            return []
        span = IoV.spanning(record.run for record in records)
        known = {record.run: record for record in self._registry.runs(span)}
        return [_merge(record, known[record.run]) if record.run in known else record for record in records]


def _merge(told: RunRecord, known: RunRecord) -> RunRecord:
    return replace(told, files=known.files, beam_energy=told.beam_energy or known.beam_energy)


def _after(last: tuple[int, int] | None) -> IoV | None:
    return None if last is None else IoV.since(ExpRun(last[0], last[1] + 1))
