"""The batch system of one machine: jobs run in forked, warm processes, as many at a time as its places allow.

Jobs with a priority below zero run in the background: they get the processor time that others leave.

Whenever the backend is asked something it also starts what waits for a free place, and ends what takes more memory or
time than it was given. Jobs die with the process that submitted them. An id holds the job's key and directory, so that
any later process can judge the job by what lies there: ``exit_code``, written by the job as the last thing it does, and
``job.json``, which says who submitted it.
"""

import importlib
import os
import select
import signal
import socket
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import count
from pathlib import Path

from b2cal_core.errors import ConfigurationError
from b2cal_core.jobs import Cause, JobSpec, JobState, JobStatus
from b2cal_core.ports import BatchBackend
from resources.batch.job_directories import ended_state, read_record, write_end, write_record
from resources.batch.limits import memory_of_groups
from resources.batch.workers import Worker, start_worker

_LOOK_ROUND_SECONDS = 0.5
"""How long a waiting thread may overlook a job that another thread or process has in hand, or one beyond its limits."""
_REMEMBERED = 5000
"""Ended jobs whose states are kept at hand; those that ended before are judged by their directories."""
_OPEN = frozenset({JobStatus.submitted, JobStatus.running})
_FINAL = frozenset({JobStatus.completed, JobStatus.failed})
_HOST = socket.gethostname()
_PROCESSORS = frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
_QUEUED = JobState(JobStatus.submitted)
_INSTANCES: "weakref.WeakSet[LocalBatch]" = weakref.WeakSet()
"""All local batch systems of this process, so that each can tell of the jobs of the others."""


@dataclass(slots=True)
class _Job:
    """A job and, while it runs, its process; times in seconds of the monotonic clock, memory in MB."""

    spec: JobSpec
    state: JobState = _QUEUED
    worker: Worker | None = None
    since: float = 0.0
    idle_memory: int = 0
    peak_memory: int = 0
    processors: frozenset[int] = frozenset()


class LocalBatch(BatchBackend):
    """Runs jobs on this machine.

    Args:
        max_processes: processors that jobs may use at the same time; by default as many as the machine has for us.
        memory: MB that jobs running at the same time may be given; by default it is not added up. Each job is held
            to its own limit in any case.
    """

    def __init__(self, max_processes: int | None = None, *, memory: int | None = None) -> None:
        self.max_processes = len(_PROCESSORS) if max_processes is None else max_processes
        self.memory = memory
        if self.max_processes < 1:
            raise ConfigurationError(f"max_processes must be at least 1, got {self.max_processes}")
        self._lock = threading.RLock()
        self._jobs: dict[str, _Job] = {}
        self._queue: list[tuple[int, int, str]] = []
        self._numbers = count()
        self._running: dict[str, _Job] = {}
        self._ended: dict[str, JobState] = {}
        self._idle: list[Worker] = []
        self._watched = 0.0
        _INSTANCES.add(self)

    def submit(self, specs: Sequence[JobSpec]) -> tuple[str, ...]:
        """Queue the jobs and start as many as there are free places."""
        for spec in specs:
            self._check(spec)
        with self._lock:
            ids = tuple(self._take(spec) for spec in specs)
            self._advance()
        return ids

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """Ask once; what this process did not submit is judged by its directory."""
        with self._lock:
            self._advance()
            return {job_id: self._state(job_id) for job_id in ids}

    def wait(self, ids: Sequence[str], timeout: float) -> Mapping[str, JobState]:
        """Sleep until a job of the list has ended; the end of a job of this process wakes it at once."""
        deadline = time.monotonic() + timeout
        while True:
            states = self.poll(ids)
            kinds = {state.status for state in states.values()}
            left = deadline - time.monotonic()
            if not kinds & _OPEN or left <= 0 or kinds & _FINAL:
                return states
            with self._lock:
                lines = [job.worker.line for job in self._running.values() if job.worker is not None]
            select.select(lines, [], [], min(left, _LOOK_ROUND_SECONDS))

    def cancel(self, ids: Sequence[str]) -> None:
        """Take the jobs from the queue, or end them with all they started."""
        with self._lock:
            doomed = {job_id: self._jobs[job_id] for job_id in ids if job_id in self._jobs}
            queued = {job_id for job_id, job in doomed.items() if job.state.status is JobStatus.submitted}
            self._queue = [entry for entry in self._queue if entry[2] not in queued]
            heapify(self._queue)
            for job_id in queued:
                reason = "cancelled before it started"
                self._remember(job_id, JobState(JobStatus.failed, reason=reason, cause=Cause.cancelled))
            self._stop({job_id: (Cause.cancelled, "cancelled") for job_id in doomed if job_id in self._running})
            self._advance()

    def release(self, ids: Sequence[str]) -> None:
        """Nothing is ever held here."""

    def _check(self, spec: JobSpec) -> None:
        if "@" in spec.key or not spec.directory.is_absolute():
            raise ConfigurationError(
                f"a local job needs a key without @ and an absolute directory, got {spec.key!r} in {spec.directory}"
            )
        if spec.cpus > self.max_processes or (self.memory is not None and spec.memory > self.memory):
            has = f"{self.max_processes} processors and {self.memory or 'any'} MB"
            raise ConfigurationError(
                f"job {spec.key} asks for {spec.cpus} processors and {spec.memory} MB, jobs here get {has} together;"
                " ask for less, or give the local batch system more"
            )
        try:
            importlib.import_module(spec.module)  # once here, so that every fork is warm
        except ImportError as error:
            raise ConfigurationError(
                f"module {spec.module} of job {spec.key} cannot be imported: {error}; install it where the platform"
                " runs"
            ) from error

    def _take(self, spec: JobSpec) -> str:
        """Queue the job unless it is known, here or by what a former process left in its directory."""
        job_id = f"{spec.key}@{spec.directory}"
        if job_id in self._jobs or (job_id in self._ended and ended_state(spec.directory) is not None):
            return job_id
        self._ended.pop(job_id, None)  # its directory was cleared: it is a job that has not run
        record = read_record(spec.directory, spec.key)
        ended = ended_state(spec.directory) if record else None
        if ended is not None:
            self._remember(job_id, ended)
        elif record is None or _judge(job_id).status is not JobStatus.running:
            self._enqueue(job_id, spec)
        return job_id

    def _enqueue(self, job_id: str, spec: JobSpec) -> None:
        write_record(spec, backend="local", submitter=os.getpid(), submitter_started=_started(os.getpid()))
        self._jobs[job_id] = _Job(spec)
        heappush(self._queue, (-spec.priority, next(self._numbers), job_id))

    def _advance(self) -> None:
        """Collect what ended and start what waits, the most urgent first; workers stay as long as there is work."""
        for job_id, job in list(self._running.items()):
            code = job.worker.poll() if job.worker is not None else None
            if code is not None:
                self._end(job_id, code)
        self._watch()
        while self._queue and self._has_room_for(self._jobs[self._queue[0][2]].spec):
            self._start(heappop(self._queue)[2])
        if not self._running:
            while self._idle:
                self._idle.pop().retire()

    def _has_room_for(self, spec: JobSpec) -> bool:
        """Whether it fits beside what runs; the first in the queue is never overtaken, or a large job would starve."""
        others = [job.spec for job in self._running.values()]
        fits = sum(other.cpus for other in others) + spec.cpus <= self.max_processes
        return fits and (self.memory is None or sum(other.memory for other in others) + spec.memory <= self.memory)

    def _start(self, job_id: str) -> None:
        job = self._jobs[job_id]
        job.worker = worker = self._worker(background=job.spec.priority < 0)
        job.since, job.idle_memory = time.monotonic(), worker.idle_memory
        job.processors = self._processors(job.spec.cpus)
        worker.give(job.spec, job.processors)
        job.state = JobState(JobStatus.running, host=_HOST)
        self._running[job_id] = job

    def _processors(self, count: int) -> frozenset[int]:
        """The processors that fewest jobs have, for this one alone to use; all of them where there are not enough."""
        if self.max_processes > len(_PROCESSORS):
            return _PROCESSORS
        taken = [one for job in self._running.values() for one in job.processors]
        return frozenset(sorted(_PROCESSORS, key=lambda one: (taken.count(one), one))[:count])

    def _worker(self, *, background: bool) -> Worker:
        while fitting := [worker for worker in self._idle if worker.background is background]:
            worker = fitting[-1]
            self._idle.remove(worker)
            if worker.is_alive:
                return worker
            worker.retire()
        return start_worker(background=background)

    def _watch(self) -> None:
        """End what takes more than it was given; looked at now and then only, since looking takes time too."""
        now = time.monotonic()
        if now - self._watched < _LOOK_ROUND_SECONDS or not self._running:
            return
        self._watched = now
        held = memory_of_groups(frozenset(job.worker.child.pid for job in self._running.values() if job.worker))
        too_much: dict[str, tuple[Cause, str]] = {}
        for job_id, job in self._running.items():
            memory = held.get(job.worker.child.pid, 0) - job.idle_memory if job.worker else 0
            job.peak_memory = max(job.peak_memory, memory)
            if memory > job.spec.memory:
                reason = f"took {memory} MB of memory, it was given {job.spec.memory} MB"
                too_much[job_id] = Cause.memory, reason
            elif job.spec.seconds is not None and now - job.since > job.spec.seconds:
                too_much[job_id] = Cause.time, f"ran longer than the {job.spec.seconds} s it was given"
        self._stop(too_much)

    def _stop(self, reasons: Mapping[str, tuple[Cause, str]]) -> None:
        """End running jobs with all they started; first ask all of them, then wait for each."""
        for job_id in reasons:
            if (worker := self._running[job_id].worker) is not None:
                worker.child.kill(signal.SIGTERM)
        for job_id, (cause, reason) in reasons.items():
            if (worker := self._running[job_id].worker) is not None:
                self._end(job_id, worker.stop(), cause=cause, reason=reason)

    def _end(self, job_id: str, code: int, *, cause: Cause | None = None, reason: str = "") -> None:
        job = self._running.pop(job_id)
        if job.worker is not None:
            if job.worker.is_alive:
                self._idle.append(job.worker)
            else:
                job.worker.retire()
            job.worker = None
        write_end(job.spec.directory, code, cause=cause, reason=reason)
        state = ended_state(job.spec.directory) or JobState.of_exit_code(code)
        self._remember(job_id, replace(state, host=_HOST, peak_memory=job.peak_memory or None))

    def _remember(self, job_id: str, state: JobState) -> None:
        """Note how a job ended, and forget what else is known of it, and of those that ended long ago."""
        self._jobs.pop(job_id, None)
        self._ended[job_id] = state
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _state(self, job_id: str) -> JobState:
        return self._known(job_id) or _judge(job_id)

    def _known(self, job_id: str) -> JobState | None:
        job = self._jobs.get(job_id)
        return self._ended.get(job_id) if job is None else job.state


def _judge(job_id: str) -> JobState:
    """What the files of a job that another process submitted tell of it."""
    key, _, place = job_id.partition("@")
    record = read_record(Path(place), key) if place else None
    if record is None:
        return JobState(JobStatus.unknown, reason="this machine never saw the job")
    if (ended := ended_state(Path(place))) is not None:
        return ended
    if record["submitter"] == os.getpid():
        for other in list(_INSTANCES):
            if (state := other._known(job_id)) is not None:  # noqa: SLF001 (of the same class)
                return state
    elif record["submitter_started"] and _started(record["submitter"]) == record["submitter_started"]:
        return JobState(JobStatus.running, host=_HOST)
    reason = "lost: the process that ran it is gone, and it left no exit code"
    return JobState(JobStatus.failed, reason=reason, cause=Cause.node)


def _started(pid: int) -> str:
    """When the process started, in the kernel's own count; empty when there is none. It tells apart two with one id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""
