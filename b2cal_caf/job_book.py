"""The sub-jobs of a request in ``caf_state.db``: what was handed to the batch system, how it went, what people want.

A sub-job is written down before it is handed over and again, with its native id, after that. A process that finds it
without an id hands it over again under the same key, and gets the job that its predecessor may have started.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from b2cal_caf import collect_job
from b2cal_caf.state_database import StateDatabase
from b2cal_core.failure_policies import Trial
from b2cal_core.jobs import Cause, JobSpec

_SCHEMA = """
CREATE TABLE IF NOT EXISTS subjobs(
    directory TEXT PRIMARY KEY, calibration TEXT NOT NULL, iteration INTEGER NOT NULL, collection TEXT NOT NULL,
    number INTEGER NOT NULL, stage TEXT NOT NULL, key TEXT NOT NULL, attempt INTEGER NOT NULL, native_id TEXT NOT NULL,
    trial TEXT NOT NULL, troubles TEXT NOT NULL, cause TEXT, reason TEXT NOT NULL, host TEXT NOT NULL,
    peak_memory INTEGER, files INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS subjobs_by_stage ON subjobs(stage, calibration, iteration, collection, number);
CREATE TABLE IF NOT EXISTS exclusions(
    file TEXT PRIMARY KEY, reason TEXT NOT NULL, who TEXT NOT NULL, at TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orders(
    id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, which TEXT NOT NULL, who TEXT NOT NULL, at TEXT NOT NULL);
"""


class Stage(StrEnum):
    """Where a sub-job stands, for people."""

    waiting = "waiting"
    submitted = "submitted"
    running = "running"
    held = "held"
    completed = "completed"
    failed = "failed"
    cached = "cached"

    @property
    def is_at_batch(self) -> bool:
        """Whether the batch system has it."""
        return self in {Stage.submitted, Stage.running, Stage.held}


@dataclass(frozen=True, slots=True)
class JobRow:
    """One sub-job.

    Attributes:
        key: that of the present attempt; ``attempt`` counts from 0.
        native_id: the batch system's; empty before it is known.
        trial: what the present attempt was given.
        troubles: how often it was tried again, by cause.
        cause, reason: why it failed or is held, or why its last attempt did.
        peak_memory: MB.
        files: number of its input files.
    """

    directory: Path
    calibration: str
    iteration: int
    collection: str
    number: int
    stage: Stage
    key: str
    attempt: int
    native_id: str
    trial: Trial
    troubles: Mapping[Cause, int] = field(default_factory=dict)
    cause: Cause | None = None
    reason: str = ""
    host: str = ""
    peak_memory: int | None = None
    files: int = 0

    @property
    def name(self) -> str:
        """What people call it: calibration, iteration, collection and number."""
        return f"{self.calibration}/{self.iteration}/{self.collection}/{self.number}"

    @property
    def spec(self) -> JobSpec:
        """What is handed to the batch system."""
        return JobSpec(
            key=self.key,
            directory=self.directory,
            module=collect_job.__name__,
            args=(str(self.directory),),
            memory=self.trial.memory,
            seconds=self.trial.seconds,
            avoid=self.trial.avoid,
            collection=f"{self.calibration}_{self.collection}_Iteration_{self.iteration}",
        )


@dataclass(frozen=True, slots=True)
class Exclusion:
    """An input file that somebody, or a rule, left out of the request."""

    file: str
    reason: str
    who: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class OrderKind(StrEnum):
    """What people may want of the process that works on a request."""

    retry = "retry"
    release = "release"
    exclude = "exclude"
    cancel = "cancel"


@dataclass(frozen=True, slots=True)
class Order:
    """Something a person wants; ``which`` names sub-jobs, or files to exclude; none means all that it can be about."""

    id: int
    what: OrderKind
    which: tuple[str, ...]
    who: str


class JobBook:
    """The sub-jobs of one request, the files left out, and orders of people.

    Args:
        path: the SQLite file, made when missing.
    """

    def __init__(self, path: Path) -> None:
        self._database = StateDatabase(path, _SCHEMA)

    def rows(self, below: Path | None = None, stages: Iterable[Stage] = Stage) -> list[JobRow]:
        """The sub-jobs in some stages, with directories below one, in their order."""
        wanted = tuple(stages)
        query = f"SELECT * FROM subjobs WHERE stage IN ({','.join('?' * len(wanted))})"  # noqa: S608 (only marks)
        values: tuple[Any, ...] = wanted
        if below is not None:
            prefix = f"{below}/"
            query, values = f"{query} AND substr(directory, 1, ?) = ?", (*wanted, len(prefix), prefix)
        order = " ORDER BY calibration, iteration, collection, number"
        found = self._database.attempt(lambda connection: connection.execute(query + order, values).fetchall())
        return [_row_of(values) for values in found]

    def counts(self) -> dict[tuple[str, int, str], dict[Stage, int]]:
        """Calibration, iteration and collection to the number of sub-jobs in each stage."""
        query = "SELECT calibration, iteration, collection, stage, count(*) FROM subjobs GROUP BY 1, 2, 3, 4"
        counted: dict[tuple[str, int, str], dict[Stage, int]] = {}
        for *place, stage, number in self._database.attempt(lambda connection: connection.execute(query).fetchall()):
            counted.setdefault((place[0], place[1], place[2]), {})[Stage(stage)] = number
        return counted

    def write(self, rows: Iterable[JobRow]) -> None:
        """Write down where sub-jobs stand, in one transaction."""
        values = [_values_of(row) for row in rows]
        marks = ", ".join("?" * len(fields(JobRow)))
        statement = f"INSERT OR REPLACE INTO subjobs VALUES ({marks})"  # noqa: S608 (only marks)
        if values:
            self._database.attempt(lambda connection: connection.executemany(statement, values))

    def forget(self, below: Path) -> None:
        """Forget the sub-jobs with directories below one."""
        prefix = f"{below}/"
        statement = "DELETE FROM subjobs WHERE substr(directory, 1, ?) = ?"
        self._database.attempt(lambda connection: connection.execute(statement, (len(prefix), prefix)))

    def exclude(self, exclusions: Iterable[Exclusion]) -> None:
        """Leave files out from now on; what was said of one first stands."""
        values = [(one.file, one.reason, one.who, one.at.isoformat(timespec="seconds")) for one in exclusions]
        statement = "INSERT OR IGNORE INTO exclusions VALUES (?, ?, ?, ?)"
        self._database.attempt(lambda connection: connection.executemany(statement, values))

    def exclusions(self) -> dict[str, Exclusion]:
        """The files left out."""
        query = "SELECT file, reason, who, at FROM exclusions ORDER BY file"
        found = self._database.attempt(lambda connection: connection.execute(query).fetchall())
        return {file: Exclusion(file, reason, who, datetime.fromisoformat(at)) for file, reason, who, at in found}

    def order(self, what: OrderKind, which: Sequence[str], who: str) -> None:
        """Leave an order for the process that works on the request, or for the next that does."""
        values = (what, json.dumps(list(which)), who, datetime.now(UTC).isoformat(timespec="seconds"))
        statement = "INSERT INTO orders(what, which, who, at) VALUES (?, ?, ?, ?)"
        self._database.attempt(lambda connection: connection.execute(statement, values))

    def orders(self) -> list[Order]:
        """The orders left, oldest first; obeying one twice does no harm, so they are ticked off afterwards."""
        query = "SELECT id, what, which, who FROM orders ORDER BY id"
        found = self._database.attempt(lambda connection: connection.execute(query).fetchall())
        return [Order(id_, OrderKind(what), tuple(json.loads(which)), who) for id_, what, which, who in found]

    def tick_off(self, orders: Iterable[Order]) -> None:
        """Take orders off the list."""
        values = [(order.id,) for order in orders]
        self._database.attempt(lambda connection: connection.executemany("DELETE FROM orders WHERE id = ?", values))


def _values_of(row: JobRow) -> tuple[Any, ...]:
    trial = [row.trial.memory, row.trial.seconds, row.trial.avoid]
    place = (str(row.directory), row.calibration, row.iteration, row.collection, row.number)
    now = (row.stage, row.key, row.attempt, row.native_id, json.dumps(trial), json.dumps(dict(row.troubles)))
    return (*place, *now, row.cause, row.reason, row.host, row.peak_memory, row.files)


def _row_of(values: Sequence[Any]) -> JobRow:
    directory, calibration, iteration, collection, number, stage, key, attempt, native_id, *others = values
    trial, troubles, cause, reason, host, peak_memory, files = others
    memory, seconds, avoid = json.loads(trial)
    return JobRow(
        directory=Path(directory),
        calibration=calibration,
        iteration=iteration,
        collection=collection,
        number=number,
        stage=Stage(stage),
        key=key,
        attempt=attempt,
        native_id=native_id,
        trial=Trial(memory, seconds, tuple(avoid)),
        troubles={Cause(name): count for name, count in json.loads(troubles).items()},
        cause=Cause(cause) if cause else None,
        reason=reason,
        host=host,
        peak_memory=peak_memory,
        files=files,
    )
