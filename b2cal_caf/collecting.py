"""The collector step of one calibration and iteration: all sub-jobs of all collections, to their end.

Sub-jobs fail one by one: each is tried again, or given up, as the policy says for the cause. What one of them finished
is kept, whatever becomes of the others.
"""

import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

from b2cal_caf.collected import OUTPUT_FILE
from b2cal_caf.collection_plan import CollectionPlan
from b2cal_caf.collector_cache import CollectorCache
from b2cal_caf.job_book import Exclusion, JobBook, Stage
from b2cal_caf.job_failures import cause_of, sentence
from b2cal_caf.layout import IterationLayout
from b2cal_caf.subjobs import SubJob
from b2cal_caf.submit_patience import SubmitPatience
from b2cal_core.errors import BackendError
from b2cal_core.failure_policies import Again, FailurePolicy, Resort, Trial, decide
from b2cal_core.jobs import Cause, JobState, JobStatus
from b2cal_core.ports import BatchBackend

JOBS_IN_FLIGHT = 1000
"""Sub-jobs of a calibration that the batch system holds at a time."""
_SUBMITTED_TOGETHER = 100
_WRITE_SECONDS = 1.0
"""How long the book may be behind; what matters for the next process is written at once."""
_VANISHED_SECONDS = 120.0
"""After so long a job that the batch system has never heard of is taken for lost."""
_STAGES = {
    JobStatus.submitted: Stage.submitted,
    JobStatus.running: Stage.running,
    JobStatus.held: Stage.held,
    JobStatus.unknown: Stage.running,
}


@dataclass(slots=True)
class CollectorStep:
    """All sub-jobs of a calibration's iteration.

    Attributes:
        place: calibration and iteration.
        plans: collection to its plan.
        kept: the collections whose plan, and hence output, is from an earlier process.
        priority: that of the jobs at the batch system.
        afresh: what was tried by earlier processes does not count, because a person asks again.
        log: takes lines for people.
    """

    place: tuple[str, int]
    plans: dict[str, CollectionPlan]
    kept: frozenset[str]
    layout: IterationLayout
    batch: BatchBackend
    cache: CollectorCache
    book: JobBook
    policy: FailurePolicy = field(default_factory=FailurePolicy)
    priority: int = 0
    afresh: bool = False
    log: Callable[[str], None] = lambda _line: None
    jobs: list[SubJob] = field(default_factory=list)
    _stages: Counter[Stage] = field(default_factory=Counter)
    _waiting: deque[SubJob] = field(default_factory=deque)
    _later: list[tuple[float, int, SubJob]] = field(default_factory=list)
    _numbers: "count[int]" = field(default_factory=count)
    _flying: dict[str, SubJob] = field(default_factory=dict)
    _missed: dict[str, float] = field(default_factory=dict)
    _unkept: list[SubJob] = field(default_factory=list)
    _unwritten: dict[Path, SubJob] = field(default_factory=dict)
    _written: float = 0.0
    _patience: SubmitPatience = field(init=False)

    def __post_init__(self) -> None:
        self._patience = SubmitPatience(self.policy, self.log)

    def start(self) -> None:
        """Find out what is left to do, pick up what still runs, and submit the rest."""
        for name in self.plans.keys() - self.kept:
            self._discard(self.layout.subjob(name, 0).parent)
        self._make_jobs()
        for job in self.jobs:
            if job.is_done():
                self._to(job, Stage.completed)
                self._unkept.append(job)
            elif job.planned.cached:
                self._take_from_cache(job)
            else:
                self._to(job, Stage.waiting)
        self._reattach()
        self._waiting = deque(sorted(self._waiting, key=lambda job: -job.events))  # the longest must not begin last
        self._keep()
        self._write()
        self._submit()

    def take_up(self) -> bool:
        """Count on what a former process collected; whether all of it is there."""
        self._make_jobs()
        for job in self.jobs:
            self._to(job, Stage.completed if job.is_done() else Stage.waiting)
        return self._stages[Stage.waiting] == 0

    @property
    def open_ids(self) -> list[str]:
        """Native ids of the jobs at the batch system."""
        return list(self._flying)

    @property
    def is_over(self) -> bool:
        """Whether every sub-job has ended."""
        return not self._flying and not self._waiting and not self._later

    @property
    def failures(self) -> list[str]:
        """One sentence per sub-job that failed."""
        return [job.failure for job in self.jobs if job.failure]

    def counts(self) -> dict[str, int]:
        """How many sub-jobs stand where; what was found in the cache counts as such only."""
        waiting = self._stages[Stage.waiting] + self._stages[Stage.submitted]
        cached = self._stages[Stage.cached]
        others = {stage.value: self._stages[stage] for stage in (Stage.running, Stage.completed, Stage.failed)}
        held = {"held": number} if (number := self._stages[Stage.held]) else {}
        return {"submitted": waiting, **others, "cached": cached, **held}

    def hear(self, states: Mapping[str, JobState]) -> bool:
        """Take note of states of the batch system; returns whether anything changed."""
        changed = False
        for native_id, job in list(self._flying.items()):  # states are those of all calibrations
            state = states.get(native_id)
            if state is None or (state is job.last and job.stage is _STAGES.get(state.status) and not self._missed):
                continue  # the very object as before, as most of them are most of the time
            if native_id in self._flying and self._is_news(job, native_id, state):
                changed = True
                self._note(job, state)
        if len(self._unkept) >= _SUBMITTED_TOGETHER or self.is_over:
            self._keep()
        self._submit()
        if self.is_over or time.monotonic() - self._written > _WRITE_SECONDS:
            self._write()
        return changed

    def cancel(self) -> None:
        """Withdraw what is at the batch system."""
        if self._flying:
            self.batch.cancel(self.open_ids)
            for job in self._flying.values():
                self._to(job, Stage.waiting, queue=False)
        self._flying.clear()
        self._waiting.clear()
        self._later.clear()
        self._keep()
        self._write()

    def files(self) -> dict[str, list[Path]]:
        """Collection to its collector files, in the order of the sub-jobs."""
        full = [job for job in self.jobs if not job.is_empty]
        return {name: [job.output for job in full if job.collection == name] for name in self.plans}

    def retry(self, wanted: Iterable[SubJob], reason: str) -> None:
        """Try sub-jobs that failed, or hang in the batch system, again; nothing tried before counts."""
        chosen = [job for job in wanted if job.stage is Stage.failed or job.stage.is_at_batch]
        self._withdraw(chosen)
        for job in chosen:
            job.last = JobState(JobStatus.failed, reason=reason, cause=Cause.cancelled)
            job.failure, job.troubles, job.not_before = "", {}, 0.0
            job.set_aside()
            self._to(job, Stage.waiting)

    def release(self, wanted: Iterable[SubJob]) -> None:
        """Let held sub-jobs go on."""
        self.batch.release([job.native_id for job in wanted if job.stage is Stage.held])

    def stop(self, wanted: Iterable[SubJob], reason: str) -> None:
        """End sub-jobs for good."""
        chosen = [job for job in wanted if job.stage.is_at_batch or job.stage is Stage.waiting]
        self._withdraw(chosen)
        for job in chosen:
            self._give_up(job, JobState(JobStatus.failed, reason=reason, cause=Cause.cancelled))

    def exclude(self, files: Mapping[str, str]) -> None:
        """Leave files out, each for a reason; sub-jobs that have them go on, or begin again, without."""
        self._keep()
        for name, plan in self.plans.items():
            reduced = plan.without(files)
            if reduced.jobs == plan.jobs:
                continue
            affected = [
                job for job in self.jobs if job.collection == name and job.planned != reduced.jobs[job.planned.number]
            ]
            self._withdraw(affected)
            for job in affected:
                job.output.unlink(missing_ok=True)
                job.set_aside()
                job.failure, job.not_before = "", 0.0
                job.planned, job.plan = reduced.jobs[job.planned.number], reduced
                self._to(job, Stage.completed if job.is_empty else Stage.waiting)
            reduced.write(self.layout.plan(name))
            self.plans[name] = reduced

    def _make_jobs(self) -> None:
        rows = {row.directory: row for row in self.book.rows(self.layout.directory)}
        for name, plan in self.plans.items():
            for planned in plan.jobs:
                directory = self.layout.subjob(name, planned.number)
                job = SubJob(planned, name, self.place, plan, directory, Trial(plan.memory, plan.seconds))
                if (row := rows.get(directory)) is not None:
                    job.recall(row, afresh=self.afresh)
                self.jobs.append(job)
                self._stages[job.stage] += 1

    def _discard(self, folder: Path) -> None:
        """Remove what an earlier plan has left, its jobs first."""
        withdraw(self.book, self.batch, folder)
        shutil.rmtree(folder, ignore_errors=True)
        self.book.forget(folder)

    def _to(self, job: SubJob, stage: Stage, *, queue: bool = True) -> None:
        """Move a sub-job on, into the queue of those to be submitted if that is where it goes."""
        self._stages[job.stage] -= 1
        job.stage = stage
        self._stages[stage] += 1
        self._unwritten[job.directory] = job
        if stage is Stage.waiting and queue:
            if job.not_before > time.monotonic():
                heappush(self._later, (job.not_before, next(self._numbers), job))
            else:
                self._waiting.append(job)

    def _take_from_cache(self, job: SubJob) -> None:
        try:
            self.cache.give(job.planned.output, job.output)
        except FileNotFoundError:  # somebody cleared the cache after the plan was made
            job.planned = replace(job.planned, cached=False)
            self._to(job, Stage.waiting)
        else:
            self._to(job, Stage.cached)

    def _reattach(self) -> None:
        """Pick up jobs of a former process that still run; unknown ones are asked for again under the same key."""
        former = {job.native_id: job for job in self._waiting if job.native_id}
        states = self.batch.poll(list(former)) if former else {}
        still = {
            native_id
            for native_id, state in states.items()
            if state.status in {JobStatus.submitted, JobStatus.running, JobStatus.held} or state.cause is Cause.batch
        }
        self._waiting = deque(job for job in self._waiting if job.native_id not in still)
        for native_id in still:
            self._flying[native_id] = former[native_id]
            self._to(former[native_id], Stage.submitted)
        for native_id, state in states.items():
            if state.status.is_final:
                self._ended_meanwhile(former[native_id], state)

    def _ended_meanwhile(self, job: SubJob, state: JobState) -> None:
        """Judge what ended while nobody looked; that the process which ran it died is nobody's fault."""
        if self.afresh or state.cause in {Cause.node, Cause.cancelled} or state.status is JobStatus.completed:
            job.set_aside()
            return
        self._waiting.remove(job)
        self._failed(job, state)

    def _submit(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._waiting.append(heappop(self._later)[2])
        room = JOBS_IN_FLIGHT - len(self._flying)
        if not self._waiting or room < min(_SUBMITTED_TOGETHER, len(self._waiting)) or not self._patience.may_ask:
            return
        together = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        for job in together:
            job.describe()
            self._to(job, Stage.submitted)
        self._write()
        try:
            ids = self.batch.submit([replace(job.spec(), priority=self.priority) for job in together])
        except BackendError as error:
            self._put_back(together, error)
            return
        self._patience.taken()
        for job, native_id in zip(together, ids, strict=True):
            job.native_id = native_id
            self._flying[native_id] = job
            self._unwritten[job.directory] = job
        self._write()

    def _put_back(self, jobs: list[SubJob], error: BackendError) -> None:
        """The batch system takes nothing at the moment; ask again later, unless it never will."""
        for job in jobs:
            self._to(job, Stage.waiting, queue=False)
        self._waiting.extendleft(reversed(jobs))
        self._patience.refused(error, jobs[0].trial)

    def _is_news(self, job: SubJob, native_id: str, state: JobState) -> bool:
        """Whether the state is another than before; one that nobody knows of is, once that has lasted."""
        if state.status is JobStatus.unknown:
            if state.cause is Cause.batch:
                self._missed.pop(native_id, None)
                return False
            return time.monotonic() - self._missed.setdefault(native_id, time.monotonic()) > _VANISHED_SECONDS
        self._missed.pop(native_id, None)
        return state.status.is_final or _STAGES[state.status] is not job.stage

    def _note(self, job: SubJob, state: JobState) -> None:
        job.last = state
        if state.status is JobStatus.completed and job.is_done():
            del self._flying[job.native_id]
            self._to(job, Stage.completed)
            self._unkept.append(job)
        elif state.status is JobStatus.completed:
            reason = f"it ended well but left no whole {OUTPUT_FILE}"
            self._failed(job, replace(state, status=JobStatus.failed, reason=reason, cause=Cause.output))
        elif state.status is JobStatus.unknown:
            reason = "lost: the batch system does not know it any more, and it left no exit code"
            self.batch.cancel([job.native_id])  # should it turn up after all
            self._failed(job, replace(state, status=JobStatus.failed, reason=reason, cause=Cause.node))
        elif state.status in {JobStatus.failed, JobStatus.held}:
            self._failed(job, state)
        else:
            self._to(job, _STAGES[state.status])

    def _failed(self, job: SubJob, state: JobState) -> None:
        """Do what the policy says about a job that failed or is held."""
        job.last = state
        cause = cause_of(state)
        before = job.troubles.get(cause, 0)
        answer = decide(self.policy, cause, before=before, trial=job.trial, host=state.host)
        if answer is Resort.wait:
            self._to(job, Stage.held)
            return
        if state.status.is_final:
            self._flying.pop(job.native_id, None)
        try:
            self._withdraw([job])
        except BackendError as error:
            if not error.transient:
                raise
            return  # the batch system does not answer just now; the job is news again at the next look
        if isinstance(answer, Again):
            job.troubles[cause] = before + 1
            job.trial = answer.trial
            job.not_before = time.monotonic() + answer.pause
            job.set_aside()
            self._to(job, Stage.waiting)
        elif answer is not Resort.exclude or not self._left_out(job):
            self._give_up(job, state)

    def _withdraw(self, jobs: Collection[SubJob]) -> None:
        """Take jobs out of the batch system and of our queues."""
        flying = [job.native_id for job in jobs if job.native_id in self._flying]
        if flying:
            self.batch.cancel(flying)
            for native_id in flying:
                del self._flying[native_id]
        if any(job.stage is Stage.waiting for job in jobs):
            gone = set(jobs)  # by identity
            self._waiting = deque(job for job in self._waiting if job not in gone)
            self._later = sorted(entry for entry in self._later if entry[2] not in gone)

    def _give_up(self, job: SubJob, state: JobState) -> None:
        files = [file.path for file in job.planned.files]
        job.last = state
        job.failure = sentence(
            job.what, state, directory=job.directory, files=files, tried=sum(job.troubles.values()) + 1
        )
        self._to(job, Stage.failed)

    def _left_out(self, job: SubJob) -> bool:
        """Go on without the file that could not be read, if the policy tolerates one more."""
        found = job.unreadable()
        if found is None:
            return False
        plan = self.plans[job.collection]
        files = sum(len(planned.files) for planned in plan.jobs)
        out = sum(file in plan.rejected for file in self.book.exclusions())
        if not self.policy.tolerates(out + 1, files + out):
            return False
        file, reason = found
        self.book.exclude([Exclusion(file, reason, who="failure policy")])
        self.exclude({file: f"left out on the way: {reason}"})
        return True

    def _keep(self) -> None:
        fresh = [job for job in self._unkept if not job.planned.cached and not job.is_empty]
        self.cache.keep({job.planned.output: (job.output, job.planned.keys) for job in fresh})
        self._unkept.clear()

    def _write(self) -> None:
        self.book.write(job.row for job in self._unwritten.values())
        self._unwritten.clear()
        self._written = time.monotonic()


def withdraw(book: JobBook, batch: BatchBackend, below: Path) -> None:
    """End the jobs that a process left at the batch system, those included that it was just handing over."""
    left = book.rows(below, [Stage.submitted, Stage.running, Stage.held])
    unnamed = [row.spec for row in left if not row.native_id and row.directory.is_dir()]
    named = [row.native_id for row in left if row.native_id]
    batch.cancel([*named, *(batch.submit(unnamed) if unnamed else ())])
