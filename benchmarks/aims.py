"""What is to be reached, and what was."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from figures import Row

LOOK_UP_MS, PUBLISHED_PER_SECOND, FLAT = 5.0, 1000.0, 1.5
"""``FLAT``: the largest tag may cost this many times what the smallest costs; it has at least ten times the IoVs."""
_LOOK_UP, _PUBLISH = "look-up over HTTP", "publish: plan, apply, verify"


@dataclass(frozen=True, slots=True)
class Aim:
    """One aim: what was to be reached, what was, and whether that is enough."""

    subject: str
    aim: str
    reached: float
    met: bool

    def to_json(self) -> dict[str, Any]:
        """The aim as a JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{'met' if self.met else 'NOT met'}: {self.subject}: {self.aim}, reached {self.reached:,.1f}"


def judged(rows: Sequence[Row]) -> list[Aim]:
    """The aims that the rows of a report tell about."""
    return [*_each(rows), *_flat(rows)]


def _each(rows: Sequence[Row]) -> Iterator[Aim]:
    for row in rows:
        subject = f"{row.database}, {row.iovs:,} IoVs"
        if (row.what, row.clients) == (_LOOK_UP, 1):
            yield Aim(
                subject, f"{_LOOK_UP}, p99 in ms at most {LOOK_UP_MS:g}", row.p99_ms, met=row.p99_ms <= LOOK_UP_MS
            )
        elif row.what == _PUBLISH:
            rate = row.payloads_per_second
            yield Aim(
                subject,
                f"payloads published per second at least {PUBLISHED_PER_SECOND:,.0f}",
                rate,
                met=rate >= PUBLISHED_PER_SECOND,
            )


def _flat(rows: Sequence[Row]) -> Iterator[Aim]:
    for database in dict.fromkeys(row.database for row in rows):
        for what in (_LOOK_UP, _PUBLISH):
            own = sorted(
                (row for row in rows if (row.database, row.what, row.clients) == (database, what, 1)),
                key=lambda row: row.iovs,
            )
            if len(own) > 1 and own[-1].iovs >= 10 * own[0].iovs:
                ratio = own[-1].median_ms / own[0].median_ms
                subject = f"{database}, {own[-1].iovs:,} over {own[0].iovs:,} IoVs"
                yield Aim(subject, f"{what}, ratio of medians at most {FLAT:g}", ratio, met=ratio <= FLAT)
