"""One sub-job of a collection on its way through the batch system."""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from b2cal_caf import collect_job
from b2cal_caf.atomic_files import read_json, write_json
from b2cal_caf.collected import OUTPUT_FILE
from b2cal_caf.collection_plan import CollectionPlan, PlannedJob
from b2cal_caf.job_book import JobRow, Stage
from b2cal_caf.root_files import root_damage
from b2cal_core.failure_policies import Trial
from b2cal_core.jobs import Cause, JobSpec, JobState

_LEFT_BY_AN_ATTEMPT = ("stdout", "stderr", "exit_code", "verdict.json", "peak_memory", "host", collect_job.UNREADABLE)


@dataclass(slots=True, eq=False)
class SubJob:
    """A sub-job: what it is, what was tried so far, and where it stands.

    Attributes:
        place: calibration and iteration, for the book and for messages.
        troubles: how often it was tried again, by cause.
        not_before: time of the monotonic clock, in seconds, before which it is not tried again.
        failure: one sentence when it failed for good.
    """

    planned: PlannedJob
    collection: str
    place: tuple[str, int]
    plan: CollectionPlan
    directory: Path
    trial: Trial
    stage: Stage = Stage.waiting
    attempt: int = 0
    native_id: str = ""
    troubles: dict[Cause, int] = field(default_factory=dict)
    last: JobState | None = None
    not_before: float = 0.0
    failure: str = ""

    @property
    def output(self) -> Path:
        """Its collector file."""
        return self.directory / OUTPUT_FILE

    @property
    def what(self) -> str:
        """For messages."""
        return f"sub-job {self.planned.number} of collection {self.collection!r}"

    @property
    def key(self) -> str:
        """Of the present attempt, from its content."""
        content = f"{self.planned.output} {self.directory} {self.attempt}"
        return sha256(content.encode()).hexdigest()[:32]

    @property
    def events(self) -> int:
        """In its input files."""
        return sum(file.events for file in self.planned.files)

    @property
    def is_empty(self) -> bool:
        """Whether all of its files were left out."""
        return not self.planned.files

    @property
    def row(self) -> JobRow:
        """What the book holds of it."""
        calibration, iteration = self.place
        return JobRow(
            directory=self.directory,
            calibration=calibration,
            iteration=iteration,
            collection=self.collection,
            number=self.planned.number,
            stage=self.stage,
            key=self.key,
            attempt=self.attempt,
            native_id=self.native_id,
            trial=self.trial,
            troubles=self.troubles,
            cause=self.last.cause if self.last else None,
            reason=self.failure or (self.last.reason if self.last else ""),
            host=self.last.host if self.last else "",
            peak_memory=self.last.peak_memory if self.last else None,
            files=len(self.planned.files),
        )

    def recall(self, row: JobRow, *, afresh: bool) -> None:
        """Go on where a former process was; afresh, its troubles do not count and it gets what was planned."""
        self.attempt, self.native_id = row.attempt, row.native_id
        if not afresh:
            self.trial, self.troubles = row.trial, dict(row.troubles)

    def is_done(self) -> bool:
        """Whether its output is there; it is written as a whole or not at all."""
        try:
            return self.is_empty or root_damage(self.output) is None
        except FileNotFoundError:
            return False

    def spec(self) -> JobSpec:
        """What is handed to the batch system."""
        return self.row.spec

    def describe(self) -> None:
        """Write what the job's process needs to know."""
        files = [
            {"path": str(f.path), "exp": f.run.exp, "run": f.run.run, "events": f.events} for f in self.planned.files
        ]
        databases = [str(directory) for directory in self.plan.databases]
        described = {"collector": self.plan.collector, "files": files, "databases": databases}
        write_json(self.directory / collect_job.DESCRIPTION, described)

    def unreadable(self) -> tuple[str, str] | None:
        """The input file that the last attempt could not read, and why."""
        found = read_json(self.directory / collect_job.UNREADABLE)
        return (str(found["path"]), str(found["reason"])) if isinstance(found, dict) else None

    def set_aside(self) -> None:
        """Keep what the attempt wrote, and make the directory ready for the next one."""
        aside = self.directory / f"attempt_{self.attempt}"
        for name in _LEFT_BY_AN_ATTEMPT:
            if (self.directory / name).exists():
                aside.mkdir(exist_ok=True)
                (self.directory / name).replace(aside / name)
        self.attempt, self.native_id = self.attempt + 1, ""
