"""The report on orchestration: lines of figures, a table people can read, and which aims were met."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report.

    Attributes:
        what: what was run, in words.
        jobs: how many jobs, or links, it had.
        repeats: how often it was measured; figures are medians of these.
        figures: name, which says the unit, to value.
        bounds: what it is compared with, to the ratio; 1 is as quick as that.
    """

    what: str
    jobs: int
    repeats: int
    figures: dict[str, float]
    bounds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The line as a JSON object."""
        return asdict(self)


def table(lines: Sequence[Line]) -> str:
    """Lines of one part of the benchmark in columns, one for each figure that any of them has."""
    names = list(dict.fromkeys(name for line in lines for name in line.figures))
    head = ("what", "jobs", *names, "times the peer")
    rows = [head, *(_cells(line, names) for line in lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    left = {0, len(head) - 1}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _cells(line: Line, names: Sequence[str]) -> tuple[str, ...]:
    figures = (f"{line.figures[name]:,.2f}" if name in line.figures else "" for name in names)
    bounds = ", ".join(f"{ratio:.2f} {name}" for name, ratio in line.bounds.items())
    return line.what, f"{line.jobs:,}", *figures, bounds
