"""How a job on HTCondor ended, by what its directory and HTCondor tell together. The directory has the last word."""

import signal
from dataclasses import replace
from pathlib import Path

from b2cal_core.jobs import Cause, JobState, JobStatus
from resources.batch.job_directories import RECORD, ended_state, write_end
from resources.batch.run_job import HOST

ENDED_ALREADY = "ended already, but HTCondor does not reach its machine"
"""Why a job is taken from the queue that would otherwise be run again when its lease is over."""


def judged(told: JobState, directory: Path) -> JobState:
    """The end of a job of which HTCondor tells that it ended so; what the job could not write itself is written."""
    found = ended_state(directory)
    is_withdrawn = told.cause is Cause.cancelled and ENDED_ALREADY not in told.reason
    if found is not None and (found.status is JobStatus.completed or not is_withdrawn):
        return _with_place(found, told, directory)
    if found is None and told.exit_code and not (directory / HOST).exists():
        reason = f"ended with exit code {told.exit_code} before the job itself was started; its stderr says why"
        told = replace(told, cause=Cause.start, reason=reason)
    _keep(told, directory)
    return _with_place(told, told, directory)


def end_in_files(directory: Path, known: JobState) -> JobState | None:
    """The end of a job by its directory alone; ``None`` while there is none, or that cannot be read."""
    try:
        found = ended_state(directory)
    except OSError:
        return None
    return None if found is None else _with_place(found, known, directory)


def _with_place(state: JobState, known: JobState, directory: Path) -> JobState:
    return replace(
        state, host=known.host or _host_in_files(directory), peak_memory=known.peak_memory or state.peak_memory
    )


def _host_in_files(directory: Path) -> str:
    try:
        return (directory / HOST).read_text()
    except OSError:
        return ""


def _keep(state: JobState, directory: Path) -> None:
    """Write how it ended where it outlives what HTCondor remembers, if its directory is still there."""
    if not (directory / RECORD).exists():
        return
    code = state.exit_code if state.exit_code is not None else -(state.signal or signal.SIGTERM)
    cause = None if state.status is JobStatus.completed else state.cause
    try:
        write_end(directory, code, cause=cause, reason=state.reason)
    except OSError:
        return  # the event log tells it as well
