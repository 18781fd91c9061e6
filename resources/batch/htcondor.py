"""Jobs on an HTCondor pool, through its own Python bindings; their directories are shared by all machines of the pool.

One call of ``submit`` makes one cluster, with one event log. States are read from these logs, as they grow, and the end
of a job from its directory; the queue is asked only about jobs whose log is lost, now and then about all, and, by their
keys, about jobs that a process may have submitted just before it died. HTCondor starts a job again by itself when the
machine it ran on is lost; nothing else is retried here.
"""

import re
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import read_json
from b2cal_core.errors import BackendError
from b2cal_core.jobs import Cause, JobSpec, JobState, JobStatus
from b2cal_core.ports import BatchBackend
from resources.batch.htcondor_description import check_lines, check_spec, describe
from resources.batch.htcondor_ends import ENDED_ALREADY, end_in_files, judged
from resources.batch.htcondor_log import EventLog
from resources.batch.htcondor_queue import Number, Queue, bindings
from resources.batch.htcondor_states import state_of
from resources.batch.job_directories import RECORD, clear_end, ended_state, read_record, write_record

_ASK_SECONDS = 5.0
"""How often the queue is asked about jobs whose event log is lost."""
_AUDIT_SECONDS = 300.0
"""How often it is asked about all others, since an event that could not be written is never seen."""
_REMOVAL_SECONDS = 120.0
_ID = re.compile(r"(\d+)\.(\d+)@([^|]*)\|(/.*)", re.DOTALL)
_GOING_ON = frozenset({JobStatus.submitted, JobStatus.running})
_OVER = frozenset({JobStatus.completed, JobStatus.failed, JobStatus.held})
_QUEUED = JobState(JobStatus.submitted)
_NO_ID = JobState(JobStatus.unknown, reason="this is no id of an HTCondor job")
_NOWHERE = (0, 0)
_WITHDRAWN = "cancelled by us"

_Place = tuple[str, Path]
"""A job's key and directory."""


@dataclass(slots=True)
class _Job:
    """A job that somebody asked about.

    Attributes:
        queue: the name of the queue that has it, or had.
        log: its event log, if its directory names one.
        is_noted: its directory says that it is this job.
        since: when it was submitted, seconds since 1970; 0 when that is not known.
        told: what the log told last.
        asked: when the queue was last asked about it, seconds of the monotonic clock.
        missed: the queue was asked and knew nothing of it.
    """

    queue: str
    number: Number
    directory: Path
    log: EventLog | None = None
    is_noted: bool = True
    since: float = 0.0
    state: JobState = _QUEUED
    told: JobState | None = None
    asked: float = field(default_factory=time.monotonic)
    missed: bool = False

    @property
    def is_open(self) -> bool:
        return not self.state.status.is_final

    def learn(self, told: JobState) -> None:
        """Take what HTCondor tells; how a job ended is told by its directory, too."""
        self.missed = False
        try:
            self.state = judged(told, self.directory) if told.status.is_final else told
        except OSError as error:  # such as a file server that is down
            reason = f"it ended, but its directory {self.directory} cannot be read: {error.strerror}"
            self.state, self.told = JobState(JobStatus.unknown, reason=reason, cause=Cause.batch), None

    @property
    def is_silent(self) -> bool:
        """Whether there is no log that tells of it, or only one that was begun anew."""
        return self.told is None or self.log is None or self.log.is_lost

    @property
    def is_cut_off(self) -> bool:
        """Whether HTCondor does not reach the machine it was started on, and so cannot see it end."""
        return self.state.status in _GOING_ON and bool(self.state.reason)


class HTCondorBatch(BatchBackend):
    """Runs jobs on the HTCondor pool that ``CONDOR_CONFIG`` names, or the machine belongs to.

    Args:
        python: the interpreter of the jobs, a path on the shared file system.
        schedd: the name of the queue; by default that of this machine.
        lines: more lines of the submit description, such as an accounting group; they may not replace ours.
        poll_seconds: how often a waiting thread looks whether an event log grew.
        job_lease_seconds: how long a job goes on that the queue's machine does not reach, before it is given up there.
    """

    def __init__(
        self,
        *,
        python: str = sys.executable,
        schedd: str | None = None,
        lines: Mapping[str, str] | None = None,
        poll_seconds: float = 0.05,
        job_lease_seconds: int = 1200,
    ) -> None:
        self._lines = dict(lines or {})
        check_lines(self._lines)
        self._htcondor = bindings()
        self._python, self._lease_seconds, self._poll_seconds = python, job_lease_seconds, poll_seconds
        self._queue = Queue(schedd)
        self._lock = threading.RLock()
        self._jobs: dict[str, _Job] = {}
        self._logs: dict[Path, EventLog] = {}
        self._strays: dict[str, list[Number]] = {}
        self._swept = -_ASK_SECONDS

    def submit(self, specs: Sequence[JobSpec]) -> tuple[str, ...]:
        """Hand over those that are new as one cluster; nothing is asked when all directories are fresh."""
        for spec in specs:
            check_spec(spec)
        places = {(spec.key, spec.directory): spec for spec in specs}
        with self._lock:
            records = {place: read_record(spec.directory, spec.key) or {} for place, spec in places.items()}
            ours = {place: record for place, record in records.items() if record.get("backend") == "htcondor"}
            ids = {place: str(record["native_id"]) for place, record in ours.items() if "native_id" in record}
            ids |= self._find({place: record for place, record in ours.items() if place not in ids}, places)
            ids |= self._take_ended([places[place] for place, record in records.items() if record and place not in ids])
            if new := [spec for place, spec in places.items() if place not in ids]:
                ids |= self._hand_over(new)
        return tuple(ids[spec.key, spec.directory] for spec in specs)

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """Read what the event logs have got since the last time."""
        return self._look(ids)[0]

    def wait(self, ids: Sequence[str], timeout: float) -> Mapping[str, JobState]:
        """Sleep until an event log grew by the end or the hold of one of the jobs."""
        deadline = time.monotonic() + timeout
        while True:
            states, marks = self._look(ids)
            left = deadline - time.monotonic()
            is_over = any(state.status in _OVER for state in states.values())
            if is_over or left <= 0 or all(state is _NO_ID for state in states.values()):
                return states
            self._sleep(marks, min(left, _ASK_SECONDS))

    def cancel(self, ids: Sequence[str]) -> None:
        """Withdraw the jobs, held ones too, and wait until HTCondor has ended what they run."""
        for queue, jobs in self._open_by_queue(ids).items():
            numbers = [job.number for job in jobs]
            self._queue.remove(queue, numbers, _WITHDRAWN)
            self._wait_until_gone(queue, frozenset(numbers))
            with self._lock:
                self._follow(jobs)
                for job in filter(lambda job: job.is_open, jobs):
                    gone = replace(job.state, status=JobStatus.failed, reason=_WITHDRAWN, cause=Cause.cancelled)
                    job.learn(gone)

    def release(self, ids: Sequence[str]) -> None:
        """Let held jobs go on; one that takes too much is held again."""
        for queue, jobs in self._open_by_queue(ids).items():
            held = [job for job in jobs if job.state.status is JobStatus.held]
            if not held:
                continue
            self._queue.release(queue, [job.number for job in held], "released by b2cal")
            with self._lock:
                self._follow(held)
                for job in held:
                    if job.state.status is JobStatus.held:  # the event is not there yet
                        job.state = _QUEUED

    def why_waiting(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Ask the queue what the negotiator said last."""
        reasons = {}
        for queue, jobs in self._open_by_queue(ids).items():
            there = self._queue.clusters(queue, [job.number[0] for job in jobs])
            idle = [(job, there[job.number]) for job in jobs if job.number in there and _is_idle(there[job.number])]
            # it is said of one of those that are alike, which the others would hear as well
            said = {ad.get("AutoClusterId"): why for _, ad in idle if (why := state_of(ad).reason)}
            for job, ad in idle:
                if ad.get("AutoClusterId") in said:
                    reasons[_id_of(queue, job.number, job.directory)] = said[ad.get("AutoClusterId")]
        return reasons

    def _find(self, doubtful: Mapping[_Place, Mapping[str, Any]], specs: Mapping[_Place, JobSpec]) -> dict[_Place, str]:
        """The ids of jobs that were handed over, or not: whoever was to note that died in between."""
        if not doubtful:
            return {}
        since = min(float(record["submitted"]) for record in doubtful.values())
        found = self._queue.find([key for key, _ in doubtful], since)
        ids = {}
        for place, record in doubtful.items():
            key, directory = place
            if (there := found.get((key, str(directory)))) is not None:
                noted = {name: record[name] for name in ("submitted", "event_log")}
                ids[place] = self._note(specs[place], _id_of(*there, directory), noted)
        return ids

    def _take_ended(self, specs: Sequence[JobSpec]) -> dict[_Place, str]:
        """Ids of jobs that ended and that the queue does not know: it forgot them, or another had them."""
        ended = [spec for spec in specs if ended_state(spec.directory) is not None]
        queue = self._queue.name() if ended else ""
        return {
            (spec.key, spec.directory): self._note(spec, _id_of(queue, _NOWHERE, spec.directory), {}) for spec in ended
        }

    def _hand_over(self, specs: Sequence[JobSpec]) -> dict[_Place, str]:
        """Submit as one cluster, and note before and after that this was done."""
        log = self._log(specs[0].directory.parent / ".htcondor" / f"{uuid.uuid4().hex}.log")
        submitted = time.time()
        record = {"submitted": submitted, "event_log": str(log.path)}
        for spec in specs:
            write_record(spec, backend="htcondor", **record)
            clear_end(spec.directory)
        log.path.parent.mkdir(exist_ok=True)
        lines, items = describe(
            specs, python=self._python, log=log.path, lease_seconds=self._lease_seconds, lines=self._lines
        )
        queue, cluster, first = self._queue.submit(lines, items)
        ids = {}
        for place, spec in enumerate(specs, first):
            job_id = _id_of(queue, (cluster, place), spec.directory)
            ids[spec.key, spec.directory] = self._note(spec, job_id, record)
            self._jobs[job_id] = _Job(queue, (cluster, place), spec.directory, log, since=submitted)
        return ids

    def _note(self, spec: JobSpec, job_id: str, record: Mapping[str, object]) -> str:
        write_record(spec, backend="htcondor", native_id=job_id, **record)
        return job_id

    def _look(self, ids: Iterable[str]) -> tuple[dict[str, JobState], list[tuple[EventLog, int]]]:
        """The states, and how far the logs of those that are open were read for that."""
        with self._lock:
            jobs = {job_id: self._job(job_id) for job_id in ids}
            known = [job for job in jobs.values() if job is not None]
            self._follow(known)
            self._ask(_due(known))
            self._remove_strays()
            logs = {job.log for job in known if job.log is not None and job.is_open}
            states = {job_id: _NO_ID if job is None else job.state for job_id, job in jobs.items()}
            return states, [(log, log.followed) for log in logs]

    def _job(self, job_id: str) -> _Job | None:
        """The job of an id, also of one that a former process got; ``None`` when it is no id of ours."""
        if job_id not in self._jobs and (parts := _ID.fullmatch(job_id)):
            cluster, place, queue, directory = parts.groups()
            job = _Job(queue, (int(cluster), int(place)), Path(directory), is_noted=False, asked=-_AUDIT_SECONDS)
            record = _record_in(job.directory)
            if record.get("native_id") == job_id:
                job.is_noted, job.since = True, float(record.get("submitted", 0))
                if "event_log" in record:
                    job.log, job.asked = self._log(Path(record["event_log"])), time.monotonic()
            self._jobs[job_id] = job
        return self._jobs.get(job_id)

    def _log(self, path: Path) -> EventLog:
        return self._logs.setdefault(path, EventLog(path, self._htcondor))

    def _follow(self, jobs: Iterable[_Job]) -> None:
        """Take in what the logs of open jobs have got since the last time."""
        waiting = [(job, job.log) for job in jobs if job.log is not None and job.is_open]
        for log in {log for _, log in waiting}:
            log.follow()
        for job, log in waiting:
            told = log.states.get(job.number)
            if told is not None and told is not job.told:
                job.told = told
                job.learn(told)

    def _ask(self, jobs: Sequence[_Job]) -> None:
        """Learn from files and queue what the logs do not tell."""
        for job in jobs:
            job.asked = time.monotonic()
            if job.is_noted and (ended := end_in_files(job.directory, job.state)) is not None:
                if job.is_cut_off:
                    self._strays.setdefault(job.queue, []).append(job.number)
                job.state = ended
        for queue, asked in _by_queue(jobs).items():
            try:
                self._ask_queue(queue, asked)
            except BackendError as error:
                for job in asked:
                    if job.is_silent:
                        job.state = JobState(JobStatus.unknown, reason=str(error), cause=Cause.batch)
                        job.told = None  # a log that comes back tells again

    def _remove_strays(self) -> None:
        """Take jobs from the queue that have ended, but would be run again when their lease is over."""
        now = time.monotonic()
        if not self._strays or now - self._swept < _ASK_SECONDS:
            return
        self._swept = now
        for queue, numbers in list(self._strays.items()):
            try:
                self._queue.remove(queue, numbers, ENDED_ALREADY)
            except BackendError:
                continue  # tried again; a lease is long
            del self._strays[queue]

    def _ask_queue(self, queue: str, jobs: Sequence[_Job]) -> None:
        there = self._queue.clusters(queue, [job.number[0] for job in jobs])
        self._follow(jobs)  # some may have left the queue, and said so, before it was asked
        gone = [job for job in jobs if job.is_open and job.number not in there]
        if gone:
            there |= self._queue.left(queue, [job.number[0] for job in gone], min(job.since for job in gone))
        for job in jobs:
            if job.is_open and job.number in there:
                told = state_of(there[job.number])
                if job.is_silent or told.status in _OVER:  # of what goes on, a log knows as much, and later things
                    job.learn(told)
            elif job.is_open:
                self._miss(job)

    def _miss(self, job: _Job) -> None:
        """Neither the queue nor its history knows the job; it takes two such answers to call it lost."""
        if not job.is_noted:
            job.state = JobState(JobStatus.unknown, reason=f"HTCondor's queue {job.queue} knows no such job")
        elif job.missed:
            reason = "lost: HTCondor's queue does not know it any more, and it left no exit code"
            job.learn(replace(job.state, status=JobStatus.failed, reason=reason, cause=Cause.node))
        else:
            job.missed = True

    def _open_by_queue(self, ids: Iterable[str]) -> dict[str, list[_Job]]:
        with self._lock:
            jobs = [job for job in map(self._job, ids) if job is not None]
            self._follow(jobs)
            return _by_queue(jobs)

    def _wait_until_gone(self, queue: str, numbers: frozenset[Number]) -> None:
        """Removed jobs stay in the queue until the machines they ran on have ended them."""
        end = time.monotonic() + _REMOVAL_SECONDS
        while left := numbers & self._queue.clusters(queue, [cluster for cluster, _ in numbers]).keys():
            if time.monotonic() > end:
                raise BackendError(
                    f"{len(left)} jobs are still in HTCondor's queue {queue} {_REMOVAL_SECONDS:.0f} s after they were"
                    " removed: their machines do not answer; cancel again later, or see condor_q -hold and condor_rm"
                    " -forcex",
                    transient=True,
                )
            time.sleep(2 * self._poll_seconds)

    def _sleep(self, marks: Sequence[tuple[EventLog, int]], seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and all(log.size <= followed for log, followed in marks):
            time.sleep(min(self._poll_seconds, left))


def _id_of(queue: str, number: Number, directory: Path) -> str:
    return f"{number[0]}.{number[1]}@{queue}|{directory}"


def _record_in(directory: Path) -> dict[str, Any]:
    """What the directory says that its job is; nothing where that cannot be read."""
    try:
        record = read_json(directory / RECORD)
    except OSError:
        return {}
    return record if isinstance(record, dict) else {}


def _is_idle(description: Mapping[str, Any]) -> bool:
    return state_of(description).status is JobStatus.submitted


def _due(jobs: Sequence[_Job]) -> list[_Job]:
    """Open jobs about which the queue is to be asked now."""
    now = time.monotonic()
    lost = {log for log in {job.log for job in jobs if job.is_open} if log is None or log.is_lost}
    silent = {id(job) for job in jobs if job.missed or job.is_cut_off or job.told is None or job.log in lost}
    pauses = ((job, _ASK_SECONDS if id(job) in silent else _AUDIT_SECONDS) for job in jobs if job.is_open)
    return [job for job, pause in pauses if now - job.asked >= pause]


def _by_queue(jobs: Iterable[_Job]) -> dict[str, list[_Job]]:
    found: dict[str, list[_Job]] = {}
    for job in jobs:
        if job.is_open:
            found.setdefault(job.queue, []).append(job)
    return found
