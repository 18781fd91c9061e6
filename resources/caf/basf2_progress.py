"""Following basf2's CAF from outside: its state database and the directories of its sub-jobs, both only read."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from b2cal_caf.layout import RequestLayout, iteration_layout
from b2cal_core.jobs import JobStatus
from b2cal_core.ports import CafObserver
from resources.caf.basf2_subjobs import SubJob, subjobs_of

COLLECTING, CALIBRATING = "running_collector", "running_algorithms"
_PHASES = {COLLECTING: "collect", CALIBRATING: "algorithms"}
_COUNTED = (JobStatus.submitted, JobStatus.running, JobStatus.completed, JobStatus.failed)
_LOCK_SECONDS = 2.0
_TOLD = ("[ERROR]", "[FATAL]")
_LINES_TOLD = 20


@dataclass(frozen=True, slots=True)
class Row:
    """A calibration in the state database; the states are those of ``b2cal_caf.machine``."""

    name: str
    state: str
    iteration: int


def read_rows(database: Path) -> tuple[Row, ...] | None:
    """The calibrations in the order they were added; ``None`` while there is no database that can be read."""
    if not database.exists():
        return None
    query = "SELECT name, state, iteration FROM calibrations ORDER BY rowid"
    try:
        address = f"file:{quote(str(database))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=_LOCK_SECONDS)) as connection:
            return tuple(Row(name, state, int(iteration)) for name, state, iteration in connection.execute(query))
    except sqlite3.Error:  # being made, or held by the tool for longer than a look is worth
        return None


@dataclass(slots=True)
class Progress:
    """What was seen so far, and told to the observer.

    Attributes:
        output: standard output of the tool.
        clock: seconds, of any origin.
        seconds: that calibrations were seen collecting, and calibrating.
    """

    layout: RequestLayout
    observer: CafObserver
    output: Path
    clock: Callable[[], float]
    rows: tuple[Row, ...] = ()
    seconds: dict[str, float] = field(default_factory=lambda: {"collect": 0.0, "algorithms": 0.0})
    _since: dict[str, float] = field(default_factory=dict)
    _ended: dict[Path, JobStatus] = field(default_factory=dict)
    _counts: dict[str, Mapping[str, int]] = field(default_factory=dict)
    _read: int = 0
    _told: int = 0

    def start(self) -> None:
        """Take what is there now for known."""
        self.rows = read_rows(self.layout.state_db) or ()

    def look(self) -> None:
        """Tell what has changed."""
        before = {row.name: row for row in self.rows}
        self.rows = read_rows(self.layout.state_db) or self.rows
        for row in self.rows:
            former = before.get(row.name)
            if row != former:
                self._moved(former, row)
            if row.state == COLLECTING:
                self._tell_jobs(row)
        self._tell_errors()

    def _moved(self, former: Row | None, row: Row) -> None:
        now = self.clock()
        if former is not None and former.state in _PHASES:
            self.seconds[_PHASES[former.state]] += now - self._since.get(row.name, now)
        self._since[row.name] = now
        if former is not None and former.state == COLLECTING:
            self._tell_jobs(former)
        self.observer.state(row.name, row.state, row.iteration)

    def _tell_jobs(self, row: Row) -> None:
        iteration = iteration_layout(self.layout, row.name, row.iteration).directory
        found = Counter(self._status(subjob) for subjob in subjobs_of(iteration))
        counts = {str(status): found[status] for status in _COUNTED} | {"cached": 0}
        if counts != self._counts.get(row.name):
            self._counts[row.name] = counts
            self.observer.jobs(row.name, counts)

    def _status(self, subjob: SubJob) -> JobStatus:
        status = self._ended.get(subjob.directory) or subjob.state().status
        if status.is_final:
            self._ended[subjob.directory] = status
        return status

    def _tell_errors(self) -> None:
        """Pass on the first errors that the tool writes."""
        try:
            with self.output.open("rb") as file:
                file.seek(self._read)
                news = file.read()
        except FileNotFoundError:
            return
        whole = news[: news.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if line.startswith(_TOLD) and self._told < _LINES_TOLD:
                self._told += 1
                self.observer.log(f"basf2: {line}")
