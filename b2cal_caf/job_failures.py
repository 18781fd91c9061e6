"""Why a sub-job failed, or the work on a request, in one sentence for people."""

import re
from pathlib import Path

from b2cal_caf.atomic_files import DISK_FULL_ERRORS
from b2cal_caf.layout import RequestLayout
from b2cal_core.errors import BackendError
from b2cal_core.jobs import Cause, JobState

_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?::|$)")
_FILES_NAMED = 3


def cause_of(state: JobState) -> Cause:
    """The cause behind a failed state; a batch system that says none lost the job."""
    return state.cause or Cause.node


def sentence(what: str, state: JobState, *, directory: Path, files: list[Path], tried: int = 1) -> str:
    """What failed, why, how often it was tried, with which files, and where to look."""
    if cause_of(state) is Cause.disk:
        return (
            f"{what} found no room left on the disk of {directory}; make room there and run again, "
            "what was finished is kept"
        )
    why = failing_lines(directory / "stderr") if cause_of(state) in {Cause.code, Cause.input} else ""
    named = ", ".join(str(file) for file in files[:_FILES_NAMED])
    more = f" and {len(files) - _FILES_NAMED} more" if len(files) > _FILES_NAMED else ""
    reason = state.reason or f"it ended with exit code {state.exit_code}"
    often = "" if tried == 1 else f" (tried {tried} times)"
    return (
        f"{what} failed{often}: {why or reason}; its files: {named}{more}; see {directory / 'stderr'}{_advice(state)}"
    )


def _advice(state: JobState) -> str:
    """What a person can do about it, where that is more than to look."""
    match cause_of(state):
        case Cause.memory:
            return "; give it more (request_memory, or memory_limit of the failure policy), then b2cal caf retry"
        case Cause.time:
            return "; give it longer (request_seconds, or time_limit of the failure policy), then b2cal caf retry"
        case Cause.input:
            return "; mend the file, or leave it out with b2cal caf exclude, then b2cal caf retry"
        case Cause.code:
            return ""
        case _:
            return "; when that is mended, b2cal caf retry"


def failing_lines(log: Path, most: int = 3) -> str:
    """The exception at the end of the last traceback in the log, or the last lines when there is none."""
    try:
        lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    for number in range(len(lines) - 1, -1, -1):
        if lines[number].startswith("Traceback "):
            after = [i for i in range(number + 1, len(lines)) if _EXCEPTION.match(lines[i])]
            if after:
                return " ".join(lines[after[0] : after[0] + most])
            break
    return " ".join(lines[-most:])


def in_words(error: OSError, layout: RequestLayout) -> BackendError:
    """What the system said while the request's own files were written."""
    if error.errno in DISK_FULL_ERRORS:
        msg = (
            f"no room left on the disk of {error.filename or layout.directory}; make room there and run again, "
            "what was finished is kept"
        )
        return BackendError(msg, transient=False)
    msg = f"the files of the request in {layout.directory} cannot be used: {error}; mend it and run again"
    return BackendError(msg, transient=True)
