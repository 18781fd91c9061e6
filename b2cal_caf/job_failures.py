"""Why a sub-job failed: whether trying again can help, and one sentence for people."""

import re
from enum import Enum, auto
from pathlib import Path

from b2cal_caf.forks import EXIT_DISK_FULL
from b2cal_core.jobs import JobState

_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?::|$)")
_SHELL_SIGNAL = 128
_FILES_NAMED = 3


class Cause(Enum):
    """What made a sub-job fail; only what the collector itself did is certain to happen again."""

    collector = auto()
    killed = auto()
    lost = auto()
    disk_full = auto()


def cause_of(state: JobState) -> Cause:
    """The cause behind a failed state."""
    if state.signal is not None or (state.exit_code is not None and state.exit_code > _SHELL_SIGNAL):
        return Cause.killed
    if state.exit_code is None or state.exit_code == 0:
        return Cause.lost
    return Cause.disk_full if state.exit_code == EXIT_DISK_FULL else Cause.collector


def sentence(what: str, state: JobState, *, directory: Path, files: list[Path]) -> str:
    """What failed, why, with which files and where to look."""
    if cause_of(state) is Cause.disk_full:
        return (
            f"{what} found no room left on the disk of {directory}; make room there and run again, "
            "what was finished is kept"
        )
    why = failing_lines(directory / "stderr") if cause_of(state) is Cause.collector else ""
    named = ", ".join(str(file) for file in files[:_FILES_NAMED])
    more = f" and {len(files) - _FILES_NAMED} more" if len(files) > _FILES_NAMED else ""
    reason = state.reason or f"it ended with exit code {state.exit_code}"
    return f"{what} failed: {why or reason}; its files: {named}{more}; see {directory / 'stderr'}"


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
