"""What the sub-jobs of the chaos test wrote down, and what that says of the work as a whole."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Line:
    """``begin``, ``end``, ``fails`` or ``twice``; seconds of the machine's monotonic clock."""

    at: float
    what: str
    key: str
    pid: int
    host: str
    detail: str


class Diary:
    """All lines so far, in the order they were written."""

    def __init__(self, path: Path) -> None:
        self.lines: list[Line] = []
        self._path, self._read = path, 0

    def read_on(self) -> "Diary":
        """Take in the lines that were written since the last time."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read().rpartition(b"\n")[0]
            self._read += len(new) + bool(new)
            self.lines += map(_line_of, new.decode().splitlines())
        return self

    def of(self, what: str) -> list[Line]:
        """The lines of one kind."""
        return [line for line in self.lines if line.what == what]

    @property
    def ended(self) -> int:
        """How many sub-jobs have come to an end at least once."""
        return len({line.key for line in self.of("end")})

    def failures(self) -> Mapping[str, int]:
        """How many sub-jobs failed by themselves, by kind."""
        return Counter(line.detail for line in self.of("fails"))

    def repeated(self) -> list[str]:
        """Sub-jobs begun once more than they had to be: a failure of its own is a reason, an end of ours is none."""
        begins = Counter(line.key for line in self.of("begin"))
        begins.subtract(line.key for line in self.of("fails"))
        return sorted(key for key, times in begins.items() for _ in range(times - 1))

    def side_by_side(self) -> list[str]:
        """Sub-jobs that ran twice at the same time: the lock says so, or what they wrote down overlaps."""
        found = {line.key for line in self.of("twice")}
        by_key: dict[str, list[Line]] = {}
        for line in self.lines:
            by_key.setdefault(line.key, []).append(line)
        return sorted(found | {key for key, lines in by_key.items() if _overlap(lines)})


def _overlap(lines: Iterable[Line]) -> bool:
    """Whether one wrote on after another had begun."""
    return any(
        later.what != "begin" and (later.pid, later.host) != (earlier.pid, earlier.host)
        for earlier, later in pairwise(lines)
    )


def _line_of(text: str) -> Line:
    at, what, key, pid, host, detail = text.split("\t")
    return Line(float(at), what, key, int(pid), host, detail)
