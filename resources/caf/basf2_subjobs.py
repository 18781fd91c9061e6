"""The sub-jobs of basf2's CAF, as their directories tell of them.

A collection's job is described in ``collector_job.json``; each sub-job has a directory with ``stdout``, ``stderr``, its
output and, when it has ended, its exit code. Source: basf2 CAF, module backends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from b2cal_caf.atomic_files import read_json
from b2cal_caf.job_failures import failing_lines
from b2cal_core.jobs import Cause, JobState, JobStatus

EXIT_CODE = "__BACKEND_CMD_EXIT_STATUS__"
INPUT_FILES = "__BACKEND_INPUT_FILES__.json"
DISK_FULL = "No space left on device"
_OUTPUT = "CollectorOutput.root"
_OUT_OF_MEMORY = ("MemoryError", "std::bad_alloc", "Cannot allocate memory")
_CONDOR_EXECUTES = b"\n001 ("
"""How HTCondor's log of a job begins the line that says it runs; its output is brought back at the end only."""


@dataclass(frozen=True, slots=True)
class SubJob:
    """A sub-job of a collection in one iteration; ``patterns``: of the output files that it must leave."""

    collection: str
    number: str
    directory: Path
    patterns: tuple[str, ...] = (_OUTPUT,)

    @property
    def what(self) -> str:
        """For messages."""
        return f"sub-job {self.number} of collection {self.collection!r}"

    def state(self) -> JobState:
        """Where it stands; without a mark of its end it runs once it, or HTCondor's log, has written of its start."""
        try:
            code = int((self.directory / EXIT_CODE).read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return JobState(JobStatus.running if self._has_started() else JobStatus.submitted)
        state = JobState.of_exit_code(code)
        if state.status is not JobStatus.completed:
            return self._seen_closer(state)
        if all(any(self.directory.glob(pattern)) for pattern in self.patterns):
            return state
        reason = f"it ended well but left no {', '.join(self.patterns)}"
        return JobState(JobStatus.failed, exit_code=0, reason=reason, cause=Cause.output)

    def failure(self) -> JobState | None:
        """Why it failed, once the tool has given up; ``None`` when it did not."""
        state = self.state()
        if state.status is JobStatus.completed:
            return None
        if state.status is JobStatus.failed:
            return state
        reason = "it left no exit code: the batch system lost, held or removed it"
        return JobState(JobStatus.failed, reason=reason, cause=Cause.node)

    def files(self) -> list[Path]:
        """Its input files."""
        listed = read_json(self.directory / INPUT_FILES)
        return [Path(path_of(name)) for name in listed] if isinstance(listed, list) else []

    def _has_started(self) -> bool:
        if (self.directory / "stdout").exists():
            return True
        try:
            return _CONDOR_EXECUTES in (self.directory / "htcondor.log").read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _seen_closer(self, state: JobState) -> JobState:
        """The state with the cause that its log gives away, where the exit code alone says that the code failed."""
        if state.cause is not Cause.code:
            return state
        why = failing_lines(self.directory / "stderr")
        if DISK_FULL in why:
            return replace(state, cause=Cause.disk)
        if any(sign in why for sign in _OUT_OF_MEMORY):
            return replace(state, cause=Cause.memory, reason=f"found no more memory ({why})")
        return state


def subjobs_of(iteration: Path) -> Iterator[SubJob]:
    """The sub-jobs of an iteration of a calibration that are known: described, or there as directories."""
    output = iteration / "collector_output"
    for collection in sorted(path.name for path in output.glob("*") if path.is_dir()):
        described = read_json(iteration / "collector_input" / collection / "collector_job.json")
        yield from _subjobs_of_collection(output / collection, described)


def path_of(name: str) -> str:
    """The path behind a file name as basf2 writes it, plain or as a ``file:`` address."""
    return unquote(urlsplit(name).path) if name.startswith("file:") else name


def _subjobs_of_collection(directory: Path, described: Any) -> Iterator[SubJob]:  # noqa: ANN401 (JSON)
    """From the description, which is written when all are submitted, or before that from the directories."""
    if not isinstance(described, dict):
        numbers = sorted((path.name for path in directory.glob("[0-9]*") if path.is_dir()), key=int)
        yield from (SubJob(directory.name, number, directory / number) for number in numbers)
        return
    patterns = tuple(described.get("output_patterns", ())) or (_OUTPUT,)
    if not described.get("subjobs"):
        yield SubJob(directory.name, "0", directory, patterns)
    for subjob in described.get("subjobs", ()):
        yield SubJob(directory.name, str(subjob["id"]), directory / str(subjob["id"]), patterns)
