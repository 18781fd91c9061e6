"""Batch jobs: what is asked of a batch system, and what it answers."""

import signal as signals
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

EXIT_NO_INPUT = 66
"""Exit code of a job that could not read a file it was given (``EX_NOINPUT``)."""
EXIT_OUT_OF_MEMORY = 71
"""Exit code of a job that was refused more memory (``EX_OSERR``)."""
EXIT_DISK_FULL = 74
"""Exit code of a job that found no room on the disk (``EX_IOERR``)."""


class JobStatus(StrEnum):
    """Where a batch job stands. ``unknown`` is an answer of its own: the batch system cannot tell at the moment."""

    submitted = "submitted"
    running = "running"
    held = "held"
    completed = "completed"
    failed = "failed"
    unknown = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the job will not change any more. A held one may: it can be released."""
        return self in {JobStatus.completed, JobStatus.failed}


class Cause(StrEnum):
    """Why a job failed, or is held. What can be told by the batch system alone is told by its adapter."""

    code = "code"
    """The physics code ended with an error of its own; it would do so again."""
    killed = "killed"
    """A signal that neither the batch system's limits nor we sent."""
    memory = "memory"
    """It wanted more memory than it was given."""
    time = "time"
    """It took longer than it was given."""
    output = "output"
    """It ended well, but its output is missing or truncated."""
    input = "input"
    """A file it was to read cannot be read."""
    disk = "disk"
    """No room left on a disk."""
    node = "node"
    """The machine it ran on, or the process that ran it, is gone."""
    start = "start"
    """It could not be started: the program, a directory or the environment is missing there."""
    held = "held"
    """Somebody, or a rule of the site, stopped it for a reason of their own."""
    cancelled = "cancelled"
    """Somebody withdrew it."""
    batch = "batch"
    """The batch system does not answer."""


_CAUSES = {
    EXIT_NO_INPUT: (Cause.input, "could not read a file that it was given"),
    EXIT_OUT_OF_MEMORY: (Cause.memory, "found no more memory"),
    EXIT_DISK_FULL: (Cause.disk, "found no room left on the disk"),
}
_SHELL_SIGNAL = 128


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A Python entry point to be run in a directory of its own: ``python -m module args…``.

    A batch system starts it as that command; a local pool may call ``module.main(args)`` in a forked, warm process.
    The job writes ``exit_code``, ``stdout`` and ``stderr`` into ``directory``, the exit code last and atomically.

    Attributes:
        key: derived from the job's content; the same key in the same directory is the same job.
        memory: MB; a job that takes more is ended, with ``Cause.memory``.
        seconds: wall time; a job that takes longer is ended, with ``Cause.time``. ``None`` leaves it to the site.
        avoid: machines, as ``JobState.host`` names them, on which it is not to run.
        collection: what the batch system shows people as the name of this job and of those submitted with it.
        priority: of all our jobs that wait for a place the highest goes first; of two alike, the one submitted first.
    """

    key: str
    directory: Path
    module: str
    args: tuple[str, ...] = ()
    memory: int = 2000
    cpus: int = 1
    environment: tuple[tuple[str, str], ...] = field(default=())
    seconds: int | None = None
    avoid: tuple[str, ...] = ()
    collection: str = "b2cal"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class JobState:
    """What is known of a job.

    Attributes:
        signal: the one that killed it.
        reason: in words for people.
        cause: given when it failed or is held.
        host: the machine it runs on, or ran on last; empty when that is not known.
        peak_memory: MB, the most it had; ``None`` when that is not known.
    """

    status: JobStatus
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
    cause: Cause | None = None
    host: str = ""
    peak_memory: int | None = None

    @classmethod
    def of_exit_code(cls, code: int) -> Self:
        """The state of a job that ended with this code; minus the signal, or 128 and the signal, when one killed it."""
        if code == 0:
            return cls(JobStatus.completed, exit_code=0)
        if code < 0 or code > _SHELL_SIGNAL:
            number = -code if code < 0 else code - _SHELL_SIGNAL
            reason = f"killed by signal {number} ({_signal_name(number)})"
            return cls(JobStatus.failed, signal=number, reason=reason, cause=Cause.killed)
        cause, reason = _CAUSES.get(code, (Cause.code, f"ended with exit code {code}"))
        return cls(JobStatus.failed, exit_code=code, reason=reason, cause=cause)


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return "unnamed"
