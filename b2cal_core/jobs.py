"""Batch jobs: what is asked of a batch system, and what it answers."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class JobStatus(StrEnum):
    """Where a batch job stands. ``unknown`` is an answer of its own: the batch system cannot tell at the moment."""

    submitted = "submitted"
    running = "running"
    completed = "completed"
    failed = "failed"
    unknown = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the job will not change any more."""
        return self in {JobStatus.completed, JobStatus.failed}


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A Python entry point to be run in a directory of its own: ``python -m module args…``.

    A batch system starts it as that command; a local pool may call ``module.main(args)`` in a forked, warm process.
    The job writes ``exit_code``, ``stdout`` and ``stderr`` into ``directory``, the exit code last and atomically.

    Attributes:
        key: derived from the job's content; the same key is the same job.
        memory: MB.
    """

    key: str
    directory: Path
    module: str
    args: tuple[str, ...] = ()
    memory: int = 2000
    cpus: int = 1
    environment: tuple[tuple[str, str], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class JobState:
    """What is known of a job; ``signal`` when one killed it, ``reason`` in words for people."""

    status: JobStatus
    exit_code: int | None = None
    signal: int | None = None
    reason: str = ""
