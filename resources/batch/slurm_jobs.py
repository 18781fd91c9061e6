"""One job on Slurm: where it stands, from the files in its directory and from what Slurm told last."""

import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from b2cal_core.jobs import Cause, JobSpec, JobState, JobStatus
from resources.batch.job_directories import EXIT_CODE, VERDICT, ended_state, read_record, write_end
from resources.batch.slurm_arrays import noted_end, place_of
from resources.batch.slurm_queue import Element, SlurmQueue
from resources.batch.slurm_verdicts import live_state, why_it_ended

_TERMINATED, _KILLED = -15, -9
"""Exit codes of jobs that could not write one: ended by us, and ended by somebody or something else."""


def id_of(native: str, spec: JobSpec) -> str:
    """The id of a job whose element in Slurm is ``native``."""
    return f"{native}|{spec.key}|{spec.directory}"


@dataclass(slots=True)
class SlurmJob:
    """A job that was submitted here, or by a former process.

    Attributes:
        native: ``<array job id>_<index>``.
        home: the directory of its array.
        since: when (monotonic clock) Slurm certainly had it; an earlier answer that lacks it tells nothing.
        is_new: submitted by this process, so that a newer answer than the last may be waited for.
        was_seen: an answer of Slurm had it, or may have had it in a former process.
        strange_since: when it was first seen to have ended by a signal, which only Slurm can explain.
        exit_file: the file whose appearance says that it has ended.
    """

    native: str
    directory: Path
    submission: str
    home: Path
    is_new: bool
    since: float = field(default_factory=time.monotonic)
    strange_since: float | None = None
    was_seen: bool = False
    exit_file: str = ""
    _end: JobState | None = None

    def __post_init__(self) -> None:
        self.was_seen = not self.is_new
        self.exit_file = f"{self.directory}/{EXIT_CODE}"

    @classmethod
    def attach(cls, job_id: str) -> Self | None:
        """The job with this id, if its directory holds it."""
        native, _, rest = job_id.partition("|")
        key, _, place = rest.partition("|")
        record = read_record(Path(place), key) if place else None
        if record is None:
            return None
        home = Path(record.get("array", place))
        return cls(native, Path(place), record.get("submission", ""), home, is_new=False)

    def state(self, queue: SlurmQueue) -> JobState:
        """Where it stands, as far as that is known without asking Slurm."""
        if (end := self._told_end()) is not None:
            return end
        answer = queue.answer
        if queue.problem:
            reason = f"Slurm does not answer: {queue.problem}"
            return JobState(JobStatus.unknown, reason=reason, cause=Cause.batch)
        element = answer.element(self.native, self.home)
        self.was_seen |= element is not None
        if element is not None and not element.has_ended:
            return live_state(element)
        if answer.asked < self.since:
            return JobState(JobStatus.submitted)
        if self.strange_since is not None and answer.asked < self.strange_since:
            return JobState(JobStatus.running)
        return self._settle(element)

    def note_cancelled(self) -> None:
        """Write down that we ended it, unless it had ended by itself."""
        code = ended_state(self.directory)
        if self._end is None and (code is None or code.cause is Cause.killed):
            write_end(self.directory, _TERMINATED, cause=Cause.cancelled, reason="cancelled")

    def _told_end(self) -> JobState | None:
        """How it ended, if the files say so; a signal is explained by Slurm before anything is concluded from it."""
        if self._end is not None:
            return self._end
        code = ended_state(self.directory) if os.path.exists(self.exit_file) else None  # noqa: PTH110 (asked very often)
        if code is None:
            return None
        if code.cause is Cause.killed and not (self.directory / VERDICT).exists():
            self.strange_since = self.strange_since or time.monotonic()
            return None
        place = place_of(self.directory, self.submission)
        self._end = replace(code, host=place.node if place else "")
        return self._end

    def _settle(self, element: Element | None) -> JobState:
        """Say, for good, how it ended: it is no longer in the queue."""
        try:
            list(self.directory.iterdir())  # a network disk looks for new files only where it is told to list them
        except FileNotFoundError:
            return JobState(JobStatus.unknown, reason=f"its directory {self.directory} is gone, and Slurm has ended it")
        if (end := self._told_end()) is not None:
            return end
        place = place_of(self.directory, self.submission)
        noted = noted_end(self.home, place) if place is not None else None
        code = ended_state(self.directory)
        cause, reason = why_it_ended(element, code, noted=noted, was_started=place is not None, was_seen=self.was_seen)
        try:
            write_end(self.directory, _KILLED, cause=cause, reason=reason)
        except OSError:  # a full disk; Slurm is asked again then
            return JobState(JobStatus.failed, reason=reason, cause=cause, host=place.node if place else "")
        return self._told_end() or JobState(JobStatus.failed, reason=reason, cause=cause)
