"""The collector step of one calibration and iteration: all sub-jobs of all collections, to their end."""

import shutil
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from b2cal_caf import collect_job
from b2cal_caf.atomic_files import write_json
from b2cal_caf.checkpoints import CheckpointStore
from b2cal_caf.collected import OUTPUT_FILE
from b2cal_caf.collection_plan import CollectionPlan, PlannedJob
from b2cal_caf.collector_cache import CollectorCache
from b2cal_caf.job_failures import cause_of, sentence
from b2cal_caf.layout import IterationLayout
from b2cal_caf.root_files import root_damage
from b2cal_core.jobs import Cause, JobSpec, JobState, JobStatus
from b2cal_core.ports import BatchBackend

JOBS_IN_FLIGHT = 1000
"""Sub-jobs of a calibration that the batch system holds at a time."""
_SUBMITTED_TOGETHER = 100
_RETRIES = 2
_WORTH_ANOTHER_TRY = frozenset({Cause.killed, Cause.memory, Cause.node, Cause.output})


@dataclass(slots=True)
class SubJob:
    """A sub-job on its way."""

    planned: PlannedJob
    collection: str
    plan: CollectionPlan
    directory: Path
    attempt: int = 0
    retries: int = 0
    native_id: str = ""
    failure: str = ""

    @property
    def output(self) -> Path:
        """Its collector file."""
        return self.directory / OUTPUT_FILE

    @property
    def what(self) -> str:
        """For messages."""
        return f"sub-job {self.planned.number} of collection {self.collection!r}"

    def is_done(self) -> bool:
        """Whether its output is there; it is written as a whole or not at all."""
        try:
            return root_damage(self.output) is None
        except FileNotFoundError:
            return False

    def spec(self) -> JobSpec:
        """What is handed to the batch system; a killed job gets twice the memory when it is tried again."""
        content = f"{self.planned.output} {self.directory} {self.attempt}"
        return JobSpec(
            key=sha256(content.encode()).hexdigest()[:32],
            directory=self.directory,
            module=collect_job.__name__,
            args=(str(self.directory),),
            memory=self.plan.memory * 2**self.retries,
        )

    def describe(self) -> None:
        """Write what the job's process needs to know."""
        files = [
            {"path": str(f.path), "exp": f.run.exp, "run": f.run.run, "events": f.events} for f in self.planned.files
        ]
        databases = [str(directory) for directory in self.plan.databases]
        described = {"collector": self.plan.collector, "files": files, "databases": databases}
        write_json(self.directory / collect_job.DESCRIPTION, described)


@dataclass(slots=True)
class CollectorStep:
    """All sub-jobs of a calibration's iteration.

    Attributes:
        plans: collection to its plan.
        kept: the collections whose plan, and hence output, is from an earlier process.
    """

    plans: Mapping[str, CollectionPlan]
    kept: frozenset[str]
    layout: IterationLayout
    batch: BatchBackend
    cache: CollectorCache
    store: CheckpointStore
    jobs: list[SubJob] = field(default_factory=list)
    _waiting: deque[SubJob] = field(default_factory=deque)
    _flying: dict[str, SubJob] = field(default_factory=dict)
    _status: dict[str, JobStatus] = field(default_factory=dict)
    _done: int = 0
    _unkept: list[SubJob] = field(default_factory=list)

    def start(self) -> None:
        """Find out what is left to do, pick up what still runs, and submit the rest."""
        for name, plan in self.plans.items():
            folder = self.layout.subjob(name, 0).parent
            if name not in self.kept:
                shutil.rmtree(folder, ignore_errors=True)
                self.store.forget_jobs(folder)
            self.jobs += [SubJob(job, name, plan, self.layout.subjob(name, job.number)) for job in plan.jobs]
        for job in self.jobs:
            if job.is_done():
                self._done += 1
                self._unkept.append(job)
            elif job.planned.cached:
                self._take_from_cache(job)
            else:
                self._waiting.append(job)
        self._reattach()
        self._keep()
        self._submit()

    def take_up(self) -> bool:
        """Count on what a former process collected; whether all of it is there."""
        for name, plan in self.plans.items():
            self.jobs += [SubJob(job, name, plan, self.layout.subjob(name, job.number)) for job in plan.jobs]
        self._done = sum(job.is_done() for job in self.jobs)
        return self._done == len(self.jobs)

    @property
    def open_ids(self) -> list[str]:
        """Native ids of the jobs at the batch system."""
        return list(self._flying)

    @property
    def is_over(self) -> bool:
        """Whether every sub-job has ended."""
        return not self._flying and not self._waiting

    @property
    def failures(self) -> list[str]:
        """One sentence per sub-job that failed."""
        return [job.failure for job in self.jobs if job.failure]

    def counts(self) -> dict[str, int]:
        """How many sub-jobs stand where; what was found in the cache counts as such only."""
        status = Counter(self._status.get(native_id, JobStatus.submitted) for native_id in self._flying)
        cached = sum(job.planned.cached for job in self.jobs)
        failed = len(self.failures)
        running = status[JobStatus.running] + status[JobStatus.unknown]
        return {
            "submitted": len(self._waiting) + status[JobStatus.submitted],
            "running": running,
            "completed": self._done - cached,
            "failed": failed,
            "cached": cached,
        }

    def hear(self, states: Mapping[str, JobState]) -> bool:
        """Take note of states of the batch system; returns whether anything changed."""
        changed = False
        for native_id, state in states.items():
            if self._status.get(native_id) is state.status:
                continue
            job = self._flying.get(native_id)
            if job is None:
                continue
            changed = True
            self._status[native_id] = state.status
            if state.status.is_final:
                del self._flying[native_id]
                self._ended(job, state)
        if len(self._unkept) >= _SUBMITTED_TOGETHER or self.is_over:
            self._keep()
        self._submit()
        return changed

    def cancel(self) -> None:
        """Withdraw what is at the batch system."""
        self._waiting.clear()
        if self._flying:
            self.batch.cancel(self.open_ids)
        self._keep()

    def files(self) -> dict[str, list[Path]]:
        """Collection to its collector files, in the order of the sub-jobs."""
        return {name: [job.output for job in self.jobs if job.collection == name] for name in self.plans}

    def _take_from_cache(self, job: SubJob) -> None:
        try:
            self.cache.give(job.planned.output, job.output)
        except FileNotFoundError:  # somebody cleared the cache after the plan was made
            job.planned = replace(job.planned, cached=False)
            self._waiting.append(job)
        else:
            self._done += 1

    def _reattach(self) -> None:
        """Pick up jobs of a former process that still run; unknown ones are asked for again under the same key."""
        known = self.store.jobs(self.layout.directory)
        former = {job.directory: known[job.directory] for job in self._waiting if job.directory in known}
        states = self.batch.poll([native_id for _, native_id in former.values()]) if former else {}
        for job in list(self._waiting):
            if job.directory not in former:
                continue
            job.attempt, native_id = former[job.directory]
            state = states[native_id]
            if state.status in {JobStatus.submitted, JobStatus.running}:
                self._waiting.remove(job)
                job.native_id = native_id
                self._flying[native_id] = job
            elif state.status.is_final:
                self._set_aside(job)

    def _submit(self) -> None:
        room = JOBS_IN_FLIGHT - len(self._flying)
        if not self._waiting or room < min(_SUBMITTED_TOGETHER, len(self._waiting)):
            return
        together = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        for job in together:
            job.describe()
        for job, native_id in zip(together, self.batch.submit([job.spec() for job in together]), strict=True):
            job.native_id = native_id
            self._flying[native_id] = job
        self.store.write_jobs((job.directory, job.attempt, job.native_id) for job in together)

    def _ended(self, job: SubJob, state: JobState) -> None:
        if state.status is JobStatus.completed and job.is_done():
            self._done += 1
            self._unkept.append(job)
            return
        if state.status is JobStatus.completed:
            reason = f"it ended well but left no {OUTPUT_FILE}"
            state = JobState(JobStatus.failed, reason=reason, cause=Cause.output)
        if cause_of(state) in _WORTH_ANOTHER_TRY and job.retries < _RETRIES:
            job.retries += 1
            self._set_aside(job)
            self._waiting.append(job)
            return
        job.failure = sentence(job.what, state, directory=job.directory, files=[f.path for f in job.planned.files])

    def _set_aside(self, job: SubJob) -> None:
        """Keep what the failed attempt wrote, and make the directory ready for the next."""
        aside = job.directory / f"attempt_{job.attempt}"
        aside.mkdir(exist_ok=True)
        for name in ("stdout", "stderr", "exit_code"):
            if (job.directory / name).exists():
                (job.directory / name).replace(aside / name)
        job.attempt += 1

    def _keep(self) -> None:
        fresh = [job for job in self._unkept if not job.planned.cached]
        self.cache.keep({job.planned.output: (job.output, job.planned.keys) for job in fresh})
        self._unkept.clear()
