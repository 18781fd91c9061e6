"""What lies in the directory of a batch job, on every batch system alike.

``job.json`` is written before the job is submitted and again, with its native id, after that: a process that finds it
without an id knows that its predecessor ended in between, and asks the batch system by the job's key. The job itself
writes ``stdout``, ``stderr`` and, last and atomically, ``exit_code``, which outlives what the batch system remembers.
Where the adapter knows better than the code why the job ended, it says so in ``verdict.json``.
"""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from b2cal_caf.atomic_files import read_json, write_atomically
from b2cal_core.errors import BackendError
from b2cal_core.jobs import Cause, JobSpec, JobState, JobStatus

RECORD = "job.json"
EXIT_CODE = "exit_code"
VERDICT = "verdict.json"
PEAK_MEMORY = "peak_memory"
"""MB that a job started by ``run_job`` had at most, as it says itself; batch systems may know better."""


def write_record(spec: JobSpec, **more: object) -> None:
    """Write what the job is, and whatever the adapter adds, as ``job.json``; the directory is made when missing.

    Raises:
        BackendError: the directory cannot be written.
    """
    record = {field.name: getattr(spec, field.name) for field in fields(spec)}
    record |= {"directory": str(spec.directory), **more}
    try:
        spec.directory.mkdir(parents=True, exist_ok=True)
        if read_record(spec.directory, spec.key) is None:
            clear_end(spec.directory)  # it is that of another job, which must not be taken for this one's
        write_atomically(spec.directory / RECORD, json.dumps(record).encode())
    except OSError as error:
        problem = f"the directory {spec.directory} of job {spec.key} cannot be written: {error.strerror}"
        raise BackendError(f"{problem}; make room or mend its rights, then ask again", transient=True) from error


def read_record(directory: Path, key: str) -> dict[str, Any] | None:
    """``job.json``, if there is one of the job with this key."""
    record = read_json(directory / RECORD)
    return record if isinstance(record, dict) and record.get("key") == key else None


def backend_of(directory: Path) -> str | None:
    """The kind of batch system that the job of the directory was submitted to."""
    record = read_json(directory / RECORD)
    return str(record["backend"]) if isinstance(record, dict) and "backend" in record else None


def write_end(directory: Path, code: int, *, cause: Cause | None = None, reason: str = "") -> None:
    """Write how a job ended that could not do so itself; the cause, if the code alone does not tell it."""
    if cause is not None:
        write_atomically(directory / VERDICT, json.dumps({"cause": cause, "reason": reason}).encode())
    if not (directory / EXIT_CODE).exists():
        write_atomically(directory / EXIT_CODE, f"{code}\n".encode())


def ended_state(directory: Path) -> JobState | None:
    """How the job ended; ``None`` while that is not known."""
    try:
        state = JobState.of_exit_code(int((directory / EXIT_CODE).read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    state = replace(state, peak_memory=_peak_memory(directory))
    verdict = None if state.status is JobStatus.completed else read_json(directory / VERDICT)
    if not isinstance(verdict, dict):
        return state
    return replace(state, cause=Cause(verdict["cause"]), reason=verdict["reason"])


def _peak_memory(directory: Path) -> int | None:
    try:
        return int((directory / PEAK_MEMORY).read_text())
    except (FileNotFoundError, ValueError):
        return None


def clear_end(directory: Path) -> None:
    """Remove what an earlier job of the directory left to say how it ended."""
    for name in (EXIT_CODE, VERDICT, PEAK_MEMORY):
        (directory / name).unlink(missing_ok=True)
