"""The batch system of one machine: jobs run in forked, warm processes, so many at a time.

Whenever the backend is asked something it also starts what waits for a free place. Jobs die with the process that
submitted them. An id holds the job's key and directory, so that any later process can judge the job by what lies there:
``exit_code``, written by the job as the last thing it does, and ``job.json``, which says who submitted it.
"""

import importlib
import json
import os
import select
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from b2cal_caf.atomic_files import read_json, write_atomically
from b2cal_caf.forks import EXIT_DISK_FULL
from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.jobs import JobSpec, JobState, JobStatus
from b2cal_core.ports import BatchBackend
from resources.batch.workers import EXIT_CODE, Worker, start_worker

RECORD = "job.json"
_LOOK_ROUND_SECONDS = 0.5
"""How long a waiting thread may overlook a job that another thread or process has in hand."""
_OPEN = frozenset({JobStatus.submitted, JobStatus.running})
_FINAL = frozenset({JobStatus.completed, JobStatus.failed})
_QUEUED = JobState(JobStatus.submitted)
_INSTANCES: "weakref.WeakSet[LocalBatch]" = weakref.WeakSet()
"""All local batch systems of this process, so that each can tell of the jobs of the others."""


@dataclass(slots=True)
class _Job:
    spec: JobSpec
    worker: Worker | None = None
    state: JobState = _QUEUED


class LocalBatch(BatchBackend):
    """Runs jobs on this machine.

    Args:
        max_processes: jobs that run at the same time; by default as many as the machine has processors for us.
    """

    def __init__(self, max_processes: int | None = None) -> None:
        available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.max_processes = available if max_processes is None else max_processes
        if self.max_processes < 1:
            msg = f"max_processes must be at least 1, got {self.max_processes}"
            raise ConfigurationError(msg)
        self._lock = threading.RLock()
        self._jobs: dict[str, _Job] = {}
        self._queue: deque[str] = deque()
        self._running: dict[str, _Job] = {}
        self._idle: list[Worker] = []
        _INSTANCES.add(self)

    def submit(self, specs: Sequence[JobSpec]) -> tuple[str, ...]:
        """Queue the jobs and start as many as there are free places."""
        for spec in specs:
            _check(spec)
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
            doomed = [(job_id, self._jobs[job_id]) for job_id in dict.fromkeys(ids) if job_id in self._jobs]
            for job_id, job in doomed:
                if job_id in self._queue:
                    self._queue.remove(job_id)
                    job.state = JobState(JobStatus.failed, reason="cancelled before it started")
            running = [(job_id, job) for job_id, job in doomed if job_id in self._running]
            for _, job in running:
                if job.worker is not None:
                    job.worker.child.kill(signal.SIGTERM)
            for job_id, job in running:
                if job.worker is not None:
                    self._end(job_id, job.worker.stop(), reason="cancelled")
            self._advance()

    def _take(self, spec: JobSpec) -> str:
        """Queue the job unless it is known, here or by what a former process left in its directory."""
        job_id = f"{spec.key}@{spec.directory}"
        known = self._jobs.get(job_id)
        forgotten = known is not None and known.state.status.is_final and not (spec.directory / EXIT_CODE).exists()
        if known is None or forgotten:  # a directory that was cleared is a job that has not run
            judged = _judge(job_id)
            if judged.status.is_final and (spec.directory / EXIT_CODE).exists():
                self._jobs[job_id] = _Job(spec, state=judged)
            elif judged.status is not JobStatus.running:
                self._enqueue(job_id, spec)
        return job_id

    def _enqueue(self, job_id: str, spec: JobSpec) -> None:
        asked = {**asdict(spec), "directory": str(spec.directory)}
        record = {**asked, "submitter": os.getpid(), "submitter_started": _started(os.getpid())}
        try:
            spec.directory.mkdir(parents=True, exist_ok=True)
            (spec.directory / EXIT_CODE).unlink(missing_ok=True)
            write_atomically(spec.directory / RECORD, json.dumps(record).encode())
        except OSError as error:
            problem = f"the directory {spec.directory} of job {spec.key} cannot be written: {error.strerror}"
            msg = f"{problem}; make room or mend its rights, then ask again"
            raise BackendError(msg, transient=True) from error
        self._jobs[job_id] = _Job(spec)
        self._queue.append(job_id)

    def _advance(self) -> None:
        """Collect what ended and start what waits; workers stay as long as there is work."""
        for job_id, job in list(self._running.items()):
            code = job.worker.poll() if job.worker is not None else None
            if code is not None:
                self._end(job_id, code)
        while self._queue and len(self._running) < self.max_processes:
            self._start(self._queue.popleft())
        if not self._running:
            while self._idle:
                self._idle.pop().retire()

    def _start(self, job_id: str) -> None:
        job = self._jobs[job_id]
        job.worker = self._worker()
        job.worker.give(job.spec)
        job.state = JobState(JobStatus.running)
        self._running[job_id] = job

    def _worker(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            worker.retire()
        return start_worker()

    def _end(self, job_id: str, code: int, *, reason: str = "") -> None:
        job = self._running.pop(job_id)
        if job.worker is not None:
            if job.worker.is_alive:
                self._idle.append(job.worker)
            else:
                job.worker.retire()
            job.worker = None
        file = job.spec.directory / EXIT_CODE
        if not file.exists():  # it could not write it itself
            write_atomically(file, f"{code}\n".encode())
        state = _state_of_code(code)
        job.state = JobState(state.status, state.exit_code, state.signal, reason or state.reason)

    def _state(self, job_id: str) -> JobState:
        job = self._jobs.get(job_id)
        return _judge(job_id) if job is None else job.state


def _check(spec: JobSpec) -> None:
    if "@" in spec.key or not spec.directory.is_absolute():
        msg = f"a local job needs a key without @ and an absolute directory, got {spec.key!r} in {spec.directory}"
        raise ConfigurationError(msg)
    try:
        importlib.import_module(spec.module)  # once here, so that every fork is warm
    except ImportError as error:
        msg = f"module {spec.module} of job {spec.key} cannot be imported: {error}; install it where the platform runs"
        raise ConfigurationError(msg) from error


def _state_of_code(code: int) -> JobState:
    if code == 0:
        return JobState(JobStatus.completed, exit_code=0)
    if code < 0:
        return JobState(JobStatus.failed, signal=-code, reason=f"killed by signal {-code} ({_signal_name(-code)})")
    reason = "no room left on the disk" if code == EXIT_DISK_FULL else f"ended with exit code {code}"
    return JobState(JobStatus.failed, exit_code=code, reason=reason)


def _judge(job_id: str) -> JobState:
    """What the files of a job that another process submitted tell of it."""
    key, _, place = job_id.partition("@")
    directory = Path(place)
    record = read_json(directory / RECORD) if place else None
    if not isinstance(record, dict) or record.get("key") != key:
        return JobState(JobStatus.unknown, reason="this machine never saw the job")
    try:
        return _state_of_code(int((directory / EXIT_CODE).read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass
    if record["submitter"] == os.getpid():
        for other in list(_INSTANCES):
            if job_id in other._jobs:  # noqa: SLF001 (of the same class)
                return other._jobs[job_id].state  # noqa: SLF001 (see above)
    elif record["submitter_started"] and _started(record["submitter"]) == record["submitter_started"]:
        return JobState(JobStatus.running)
    return JobState(JobStatus.failed, reason="lost: the process that ran it is gone, and it left no exit code")


def _started(pid: int) -> str:
    """When the process started, in the kernel's own count; empty when there is none. It tells apart two with one id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"
