"""Slurm as a batch system, through its own commands: a job array for each call, one question for all jobs.

An id is ``<array job id>_<index>|<key>|<directory>``. How a job ended is told first of all by the ``exit_code`` that it
wrote; Slurm is asked only seldom, for what a job cannot tell: that it waits, runs, is held, or was ended from outside.
"""

import os
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.jobs import Cause, JobSpec, JobState, JobStatus
from b2cal_core.ports import BatchBackend
from resources.batch.job_directories import clear_end, ended_state, read_record, write_record
from resources.batch.slurm_arrays import LOG, arrays, home_of, ranges, wishes, write_array
from resources.batch.slurm_jobs import SlurmJob, id_of
from resources.batch.slurm_queue import Answer, SlurmQueue, run
from resources.batch.slurm_verdicts import live_state

_SOON_SECONDS = 1.0
"""How often Slurm is asked while a job has ended in a way that only Slurm can explain."""
_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_LOAD = 10
"""Looking for new files pauses for so many times as long as it took, which on a network disk may be long."""
_WATCHED_WAITING = 300
"""So many of the jobs that wait are looked after as if they ran: they may have been started since Slurm was asked."""
_CANCEL_SECONDS = 300.0
_TOGETHER = 2000
"""Elements that are named in one command; a command line holds about 128 kB."""
_LARGEST_ARRAY = 5000
_ONLY_FILES = "-"
"""Native id of a job of which only the files are left."""
_STOPPED = frozenset({JobStatus.completed, JobStatus.failed, JobStatus.held})


class SlurmBatch(BatchBackend):
    """Runs jobs on the Slurm cluster that ``SLURM_CONF``, or this machine's installation, names.

    Args:
        python: the interpreter that runs the jobs, under this path on every machine of the cluster.
        partition: the cluster's default when not given.
        options: more options of ``sbatch``, such as an account; they win over what the jobs ask for.
        poll_seconds: how often Slurm is asked for the state of the jobs; ends are noticed sooner, by their files.
    """

    def __init__(
        self,
        *,
        python: str = sys.executable,
        partition: str | None = None,
        options: Sequence[str] = (),
        poll_seconds: float = 10.0,
    ) -> None:
        self.python = python
        self._partition = [f"--partition={partition}"] if partition else []
        self.options = tuple(options)
        self.poll_seconds = poll_seconds
        self._queue = SlurmQueue(poll_seconds)
        self._jobs: dict[str, SlurmJob] = {}
        self._submitting = threading.Lock()
        self._largest_array = 0

    def submit(self, specs: Sequence[JobSpec]) -> tuple[str, ...]:
        """Submit what is new, as one job array for all that ask for the same; find again what was submitted before."""
        for spec in specs:
            _check(spec)
        with self._submitting:
            ids = {spec: job_id for spec in specs if (job_id := _noted_id(spec))}
            ids |= self._adopt([spec for spec in dict.fromkeys(specs) if spec not in ids])
            fresh = [spec for spec in dict.fromkeys(specs) if spec not in ids]
            for together in arrays(fresh, self._array_size(len(fresh))):
                ids |= self._submit_array(together)
        return tuple(ids[spec] for spec in specs)

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """Judge by the files and, unless all have ended, by what Slurm said within the poll interval, or says now."""
        return self._asked({job_id: self._job(job_id) for job_id in ids}, since=time.monotonic() - self.poll_seconds)

    def wait(self, ids: Sequence[str], timeout: float) -> Mapping[str, JobState]:
        """Watch the files of the jobs that run, and ask Slurm, without waiting for it, at most every poll interval."""
        deadline = time.monotonic() + timeout
        jobs = {job_id: self._job(job_id) for job_id in ids}
        self._queue.look()
        states = self._asked(jobs, since=float("-inf"))
        while _may_stop(states) and time.monotonic() < deadline:
            self._sleep_until_news(jobs, states, deadline)
            states = self._states(jobs)
        return states

    def cancel(self, ids: Sequence[str]) -> None:
        """Withdraw the jobs from Slurm and wait until it has ended them."""
        jobs = self._not_ended(ids)
        active = self._active(jobs)
        for start in range(0, len(active), _TOGETHER):
            run("scancel", "--quiet", *ranges(job.native for job in active[start : start + _TOGETHER]))
        deadline = time.monotonic() + _CANCEL_SECONDS
        while active := self._active(active):
            if time.monotonic() > deadline:
                some = f"{len(active)} jobs, {active[0].native} among them"
                problem = f"{some}, still run {_CANCEL_SECONDS:.0f} s after they were cancelled"
                raise BackendError(f"{problem}; see the machines that squeue names, then cancel again", transient=True)
            time.sleep(_PAUSE_SECONDS)
        for job in jobs:
            job.note_cancelled()

    def release(self, ids: Sequence[str]) -> None:
        """``scontrol release`` for those that are held, whether by somebody or after a failed start."""
        held = self._held(self._not_ended(ids))
        try:
            for start in range(0, len(held), _TOGETHER):
                run("scontrol", "release", ",".join(job.native for job in held[start : start + _TOGETHER]))
        except BackendError:
            if self._held(held):
                raise  # else one of them was released, or ended, in between, which Slurm takes for a mistake
        else:
            self._held(held)  # so that nobody is told of what was

    def why_waiting(self, ids: Sequence[str]) -> Mapping[str, str]:
        """What Slurm gives as the reason of jobs that are pending."""
        states = self.poll(ids)
        silent = next((s for s in states.values() if s.cause is Cause.batch), None)
        if silent is not None:
            raise BackendError(silent.reason, transient=True)
        return {one: s.reason for one, s in states.items() if s.status is JobStatus.submitted and s.reason}

    def _adopt(self, specs: Iterable[JobSpec]) -> dict[JobSpec, str]:
        """Find the jobs that a former process submitted without having noted their ids."""
        records = ((spec, read_record(spec.directory, spec.key) or {}) for spec in specs)
        begun = {spec: record for spec, record in records if record.get("backend") == "slurm"}
        elements = self._ask_now().elements if begun else {}
        submitted = {element.place: native.partition("_")[0] for native, element in elements.items()}
        found = {}
        for spec, record in begun.items():
            array = submitted.get(record["array"])
            if array is not None:
                note = {name: record[name] for name in ("backend", "submission", "index", "array")}
                native = f"{array}_{record['index']}"
                write_record(spec, **note, native_id=native)
                found[spec] = id_of(native, spec)
        return found

    def _submit_array(self, specs: Sequence[JobSpec]) -> dict[JobSpec, str]:
        submission = uuid.uuid4().hex
        home = home_of(specs, submission)
        note = {"backend": "slurm", "submission": submission, "array": str(home)}
        for index, spec in enumerate(specs):
            if spec.directory.is_dir():
                clear_end(spec.directory)
            write_record(spec, **note, index=index)
        array = self._sbatch(specs, submission, write_array(specs, submission, self.python))
        ids = {}
        for index, spec in enumerate(specs):
            native = f"{array}_{index}"
            write_record(spec, **note, index=index, native_id=native)
            ids[spec] = id_of(native, spec)
            self._jobs[ids[spec]] = SlurmJob(native, spec.directory, submission, home, is_new=True)
        return ids

    def _sbatch(self, specs: Sequence[JobSpec], submission: str, script: Path) -> str:
        """Submit the array; returns its job id. That Slurm starts nothing again by itself is the CAF's wish."""
        home = script.parent
        hosts = self._avoidable(specs[0].avoid)
        avoid = [f"--exclude={','.join(hosts)}"] if hosts else []
        fixed = ["--no-requeue", f"--array=0-{len(specs) - 1}", f"--chdir={home}", f"--comment=b2cal {submission}"]
        outputs = [f"--output={home / LOG}", f"--error={home / LOG}", "--open-mode=append"]
        wished = [*wishes(specs[0]), *avoid, *self._partition, *self.options]
        printed = run("sbatch", "--parsable", *wished, *fixed, *outputs, str(script))
        return printed.strip().partition(";")[0]

    def _avoidable(self, hosts: Sequence[str]) -> list[str]:
        """Those of the machines that Slurm has, unless it has no other: it refuses a job that can run nowhere."""
        if not hosts:
            return []
        lines = run("sinfo", "--noheader", "--Node", "--format=%P %N", *self._partition).splitlines()
        nodes = [line.split() for line in lines]
        usual = {node for queue, node in nodes if self._partition or queue.endswith("*")} or {node for _, node in nodes}
        return sorted(usual & set(hosts)) if usual - set(hosts) else []

    def _array_size(self, wanted: int) -> int:
        """How many elements an array may have here."""
        if wanted <= 1:
            return 1
        if not self._largest_array:
            settings = run("scontrol", "show", "config")
            sizes = [line.partition("=")[2] for line in settings.splitlines() if line.startswith("MaxArraySize")]
            self._largest_array = max(1, min([_LARGEST_ARRAY, *map(int, sizes)]))
        return self._largest_array

    def _job(self, job_id: str) -> SlurmJob | None:
        if job_id not in self._jobs and (job := SlurmJob.attach(job_id)) is not None:
            self._jobs[job_id] = job
        return self._jobs.get(job_id)

    def _states(self, jobs: Mapping[str, SlurmJob | None]) -> dict[str, JobState]:
        never_seen = JobState(JobStatus.unknown, reason="no directory holds the job with this id")
        return {job_id: never_seen if job is None else job.state(self._queue) for job_id, job in jobs.items()}

    def _asked(self, jobs: Mapping[str, SlurmJob | None], since: float) -> dict[str, JobState]:
        """The states when Slurm was asked at ``since`` or later, and after jobs of a former process were met."""
        turns, states = self._queue.turns, self._states(jobs)
        left = [job for job_id, job in jobs.items() if job is not None and not states[job_id].status.is_final]
        if left:
            self._queue.ask(max([since, *(job.since for job in left if not job.is_new)]))
        return states if self._queue.turns == turns else self._states(jobs)

    def _not_ended(self, ids: Iterable[str]) -> list[SlurmJob]:
        jobs = (self._job(job_id) for job_id in dict.fromkeys(ids))
        return [job for job in jobs if job is not None and not job.state(self._queue).status.is_final]

    def _active(self, jobs: Sequence[SlurmJob]) -> list[SlurmJob]:
        """Those that Slurm, asked now, says have not ended."""
        answer = self._ask_now() if jobs else Answer()
        elements = ((job, answer.element(job.native, job.home)) for job in jobs)
        return [job for job, element in elements if element is not None and not element.has_ended]

    def _held(self, jobs: Sequence[SlurmJob]) -> list[SlurmJob]:
        """Those that Slurm, asked now, holds."""
        answer = self._ask_now() if jobs else Answer()
        elements = ((job, answer.element(job.native, job.home)) for job in jobs)
        return [job for job, element in elements if element and live_state(element).status is JobStatus.held]

    def _ask_now(self) -> Answer:
        self._queue.ask(time.monotonic())
        if self._queue.problem:
            problem = f"Slurm does not answer: {self._queue.problem}"
            raise BackendError(f"{problem}; when its controller is back, ask again", transient=True)
        return self._queue.answer

    def _sleep_until_news(
        self, jobs: Mapping[str, SlurmJob | None], states: Mapping[str, JobState], deadline: float
    ) -> None:
        """Return when Slurm was asked anew, a file tells that a job has ended, or the time is over."""
        open_jobs = [(job, states[job_id].status) for job_id, job in jobs.items() if job is not None]
        plain = [(job.exit_file, status) for job, status in open_jobs if job.strange_since is None]
        running = [file for file, status in plain if status is JobStatus.running]
        others = (file for file, status in plain if status is not JobStatus.running)
        watched = [*running, *islice(others, _WATCHED_WAITING)]
        turns, early = self._queue.turns, _SOON_SECONDS if len(plain) < len(open_jobs) else None
        while (began := time.monotonic()) < deadline:
            self._queue.look(within=early)
            if self._queue.turns != turns or any(map(os.path.exists, watched)):
                return
            pause = min(max(_PAUSE_SECONDS, _LOAD * (time.monotonic() - began)), _LONGEST_PAUSE_SECONDS)
            time.sleep(max(0.0, min(pause, deadline - time.monotonic())))


def _check(spec: JobSpec) -> None:
    if not spec.directory.is_absolute() or "\n" in str(spec.directory) or not spec.key or {"|", "\n"} & set(spec.key):
        raise ConfigurationError(
            "a job on Slurm needs a key without | and an absolute directory, both on one line,"
            f" got {spec.key!r} in {str(spec.directory)!r}"
        )
    if spec.memory < 1 or spec.cpus < 1:
        raise ConfigurationError(f"job {spec.key} asks for {spec.cpus} processors and {spec.memory} MB; ask for more")


def _noted_id(spec: JobSpec) -> str | None:
    """The id of a job that was submitted, or has ended, as its directory tells."""
    record = read_record(spec.directory, spec.key)
    if record is None:
        return None
    if record.get("backend") == "slurm" and "native_id" in record:
        return id_of(record["native_id"], spec)
    return id_of(_ONLY_FILES, spec) if ended_state(spec.directory) is not None else None


def _may_stop(states: Mapping[str, JobState]) -> bool:
    """Whether none has stopped, and one may yet."""
    moving = {JobStatus.submitted, JobStatus.running}
    may = any(s.status in moving or (s.status is JobStatus.unknown and s.cause is Cause.batch) for s in states.values())
    return may and not any(state.status in _STOPPED for state in states.values())
