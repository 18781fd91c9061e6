"""The batch jobs of a cDST production: one per file, tried again by the policy for the cause, until all have ended."""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from b2cal_caf.atomic_files import read_json, write_json
from b2cal_caf.job_failures import cause_of, sentence
from b2cal_caf.root_files import root_damage
from b2cal_caf.submit_patience import SubmitPatience
from b2cal_core.errors import BackendError, DataError
from b2cal_core.failure_policies import Again, FailurePolicy, Resort, Trial, decide
from b2cal_core.jobs import Cause, JobSpec, JobState, JobStatus
from b2cal_core.ports import BatchBackend, CafObserver
from b2cal_core.ranges import ExpRun
from b2cal_core.runs import DataFile

WHO = "cdst"
_ATTEMPT = "attempt.json"
_LOOK_SECONDS = 0.5
"""How long it may be overlooked that somebody cancelled."""
_TELL_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class CdstTask:
    """One cDST file to be made, and what was tried for it; ``not_before`` in seconds of the monotonic clock."""

    run: ExpRun
    raw: DataFile
    output: Path
    directory: Path
    key: str
    trial: Trial
    troubles: dict[Cause, int] = field(default_factory=dict)
    not_before: float = 0.0

    @property
    def record(self) -> Path:
        """Says what the output was made from."""
        return self.output.with_name(f".{self.output.name}.json")

    @property
    def attempt(self) -> int:
        """How often making the file has failed, also in former processes."""
        return int(read_json(self.directory / _ATTEMPT) or 0)

    def count_attempt(self) -> None:
        """Note one more that failed."""
        write_json(self.directory / _ATTEMPT, self.attempt + 1)

    def made(self) -> DataFile | None:
        """The cDST file, when it is there and made from just this."""
        record = read_json(self.record)
        if not isinstance(record, dict) or record.get("key") != self.key or not self.output.exists():
            return None
        if self.output.stat().st_size != record["file"]["size"]:
            return None
        return DataFile(**record["file"])

    def is_whole(self) -> bool:
        """Whether the output is there as a whole."""
        return self.output.exists() and root_damage(self.output) is None

    def spec(self, module: str, priority: int) -> JobSpec:
        """What is handed to the batch system; another job for each attempt."""
        content = f"{self.key} {self.directory} {self.attempt}"
        return JobSpec(
            key=hashlib.sha256(content.encode()).hexdigest()[:32],
            directory=self.directory,
            module=module,
            args=(str(self.directory),),
            memory=self.trial.memory,
            seconds=self.trial.seconds,
            avoid=self.trial.avoid,
            collection=WHO,
            priority=priority,
        )


@dataclass(slots=True)
class CdstJobs:
    """All jobs of a production.

    Attributes:
        module: their entry point.
        record: writes down that a file was made; only then does it count.
        cached: files that need not be made, for the observer.
        check: called now and then; may raise to end the production.
    """

    batch: BatchBackend
    module: str
    policy: FailurePolicy
    priority: int
    observer: CafObserver
    record: Callable[[CdstTask], None]
    cached: int
    check: Callable[[], None]
    _flying: dict[str, CdstTask] = field(default_factory=dict)
    _waiting: list[CdstTask] = field(default_factory=list)
    _failures: list[str] = field(default_factory=list)
    _done: int = 0
    _told: float = 0.0
    _patience: SubmitPatience = field(init=False)

    def __post_init__(self) -> None:
        self._patience = SubmitPatience(self.policy, self.observer.log)

    def run(self, tasks: Sequence[CdstTask]) -> None:
        """Return when every file is made.

        Raises:
            DataError: some could not be made; what was made is kept.
        """
        self._waiting = list(tasks)
        try:
            while self._flying or self._waiting:
                self.check()
                self._submit()
                states = self.batch.wait(list(self._flying), _LOOK_SECONDS) if self._flying else {}
                if not self._flying:
                    time.sleep(_LOOK_SECONDS)
                for native_id, state in states.items():
                    self._hear(native_id, state)
                self._tell(states.values())
        finally:
            if self._flying:
                self.batch.cancel(list(self._flying))
        if self._failures:
            more = f" (and {len(self._failures) - 1} more)" if len(self._failures) > 1 else ""
            raise DataError(f"{self._failures[0]}{more}")

    def _submit(self) -> None:
        now = time.monotonic()
        ready = [task for task in self._waiting if task.not_before <= now]
        if not ready or not self._patience.may_ask:
            return
        try:
            ids = self.batch.submit([task.spec(self.module, self.priority) for task in ready])
        except BackendError as error:
            self._patience.refused(error, ready[0].trial)
            return
        self._patience.taken()
        self._flying.update(zip(ids, ready, strict=True))
        self._waiting = [task for task in self._waiting if task.not_before > now]

    def _hear(self, native_id: str, state: JobState) -> None:
        if not state.status.is_final and state.status is not JobStatus.held:
            return
        task = self._flying[native_id]
        if state.status is JobStatus.completed and task.is_whole():
            del self._flying[native_id]
            self.record(task)
            shutil.rmtree(task.directory, ignore_errors=True)
            self._done += 1
            return
        if state.status is JobStatus.completed:
            reason = f"it ended well but left no whole {task.output}"
            state = replace(state, status=JobStatus.failed, reason=reason, cause=Cause.output)
        self._failed(native_id, task, state)

    def _failed(self, native_id: str, task: CdstTask, state: JobState) -> None:
        cause = cause_of(state)
        before = task.troubles.get(cause, 0)
        answer = decide(self.policy, cause, before=before, trial=task.trial, host=state.host)
        if answer is Resort.wait:
            return
        del self._flying[native_id]
        if state.status is JobStatus.held:
            self.batch.cancel([native_id])
        if isinstance(answer, Again):
            task.count_attempt()
            task.troubles[cause] = before + 1
            task.trial, task.not_before = answer.trial, time.monotonic() + answer.pause
            self._waiting.append(task)
            return
        what = f"reconstruction of {task.raw.path} ({task.run})"
        files, tried = [Path(task.raw.path)], task.attempt + 1
        self._failures.append(sentence(what, state, directory=task.directory, files=files, tried=tried))
        task.count_attempt()

    def _tell(self, states: Iterable[JobState]) -> None:
        if time.monotonic() - self._told < _TELL_SECONDS and (self._flying or self._waiting):
            return
        self._told = time.monotonic()
        running = sum(state.status is JobStatus.running for state in states)
        submitted = len(self._flying) + len(self._waiting) - running
        counts = {"submitted": max(submitted, 0), "running": running, "completed": self._done}
        self.observer.jobs(WHO, {**counts, "failed": len(self._failures), "cached": self.cached})
