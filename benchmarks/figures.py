"""What a benchmark measured, and how it is shown: times of calls, rows of the report, a table people can read."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_MILLI = 1000


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds that calls took, in the order they were made; ``elapsed``: wall seconds for all of them."""

    seconds: tuple[float, ...]
    elapsed: float

    def quantile(self, share: float) -> float:
        """The seconds within which this share of the calls was done."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]

    @property
    def median(self) -> float:
        """Half of the calls took as long or less."""
        return self.quantile(0.5)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report.

    Attributes:
        database: what the tables were kept in.
        iovs: how many the tag had.
        what: what was called, in words.
        each: how many payloads one call is about.
        bounds: what it is compared with, to the ratio of the medians; 1 is as quick as that.
    """

    database: str
    iovs: int
    what: str
    clients: int
    each: int
    calls: int
    median_ms: float
    p95_ms: float
    p99_ms: float
    calls_per_second: float
    payloads_per_second: float
    bounds: dict[str, float]

    @property
    def key(self) -> tuple[str, int, str, int]:
        """What identifies the line in a report."""
        return self.database, self.iovs, self.what, self.clients

    def to_json(self) -> dict[str, Any]:
        """The line as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Subject:
    """What was measured: a kind of database, and a tag with so many IoVs."""

    database: str
    iovs: int

    def row(
        self, what: str, times: Times, bounds: dict[str, Times] | None = None, *, clients: int = 1, each: int = 100
    ) -> Row:
        """The line of the report about calls for ``each`` payloads."""
        rate = len(times.seconds) / times.elapsed
        return Row(
            self.database,
            self.iovs,
            what,
            clients,
            each,
            calls=len(times.seconds),
            median_ms=times.median * _MILLI,
            p95_ms=times.quantile(0.95) * _MILLI,
            p99_ms=times.quantile(0.99) * _MILLI,
            calls_per_second=rate,
            payloads_per_second=rate * each,
            bounds={name: times.median / bound.median for name, bound in (bounds or {}).items()},
        )


def in_turn(calls: Sequence[Callable[[], object]], seconds: float, *, most: int = 20_000) -> list[Times]:
    """Time the calls one after the other, again and again: what disturbs the machine then disturbs all of them alike.

    Args:
        calls: things to call; each is called once before the clock runs.
        seconds: to spend on all together.
        most: rounds after which it ends anyway.
    """
    for call in calls:
        call()
    taken: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end and len(taken[0]) < most:
        for call, times in zip(calls, taken, strict=True):
            before = time.perf_counter()
            call()
            times.append(time.perf_counter() - before)
    return [Times(tuple(times), sum(times)) for times in taken]


def table(rows: Sequence[Row]) -> str:
    """The lines of the report in columns."""
    head = ("database", "IoVs", "what", "clients", "calls", "median", "p95", "p99 ms", "payloads/s", "times the bound")
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    left = {0, 2, len(head) - 1}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> tuple[str, ...]:
    times = (f"{ms:.2f}" for ms in (row.median_ms, row.p95_ms, row.p99_ms))
    bounds = ", ".join(f"{ratio:.2f} {name}" for name, ratio in row.bounds.items())
    rate = f"{row.payloads_per_second:,.0f}" if row.each else ""
    return row.database, f"{row.iovs:,}", row.what, str(row.clients), str(row.calls), *times, rate, bounds
