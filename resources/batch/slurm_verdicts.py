"""What a state of Slurm means for us: where a job stands, and why one ended that could not say so itself."""

from collections.abc import Mapping
from functools import lru_cache

from b2cal_core.jobs import Cause, JobState, JobStatus
from resources.batch.slurm_queue import Element

_HELD = frozenset({"JobHeldUser", "JobHeldAdmin"})
_NOT_STARTED = ("launch failed", "JobLaunchFailure", "JobHoldMaxRequeue", "held state")
"""Reasons of jobs that Slurm keeps in the queue because they could not be started."""

_ENDS: Mapping[str, tuple[Cause, str]] = {
    "BOOT_FAIL": (Cause.node, "its machine did not start"),
    "CANCELLED": (Cause.cancelled, "somebody cancelled it in Slurm"),
    "COMPLETED": (Cause.output, "it ended well for Slurm, but left no exit code"),
    "DEADLINE": (Cause.time, "it missed the deadline it was submitted with"),
    "NODE_FAIL": (Cause.node, "its machine failed"),
    "OUT_OF_MEMORY": (Cause.memory, "it took more memory than it was given"),
    "PREEMPTED": (Cause.node, "another job took its place"),
    "REVOKED": (Cause.cancelled, "another cluster took it over"),
    "TIMEOUT": (Cause.time, "it took longer than Slurm allowed"),
}


@lru_cache(maxsize=1024)  # of thousands of jobs, most stand alike
def live_state(element: Element) -> JobState:
    """Where a job stands that has not ended."""
    if not element.is_waiting:
        return JobState(JobStatus.running, host=element.node)
    if element.reason in _HELD:
        return JobState(JobStatus.held, reason=f"held in Slurm: {element.reason}", cause=Cause.held)
    if any(words in element.reason for words in _NOT_STARTED):
        return JobState(JobStatus.held, reason=f"Slurm could not start it: {element.reason}", cause=Cause.start)
    return JobState(JobStatus.submitted, reason="" if element.reason == "None" else f"waits in Slurm: {element.reason}")


def why_it_ended(
    element: Element | None,
    code: JobState | None,
    *,
    noted: tuple[Cause, str] | None,
    was_started: bool,
    was_seen: bool = True,
) -> tuple[Cause, str]:
    """The cause, and in words for people, of the end of a job that left no exit code, or one that a signal caused.

    Args:
        element: what Slurm says; ``None`` when it no longer knows the job.
        code: what the exit code says, if there is one.
        noted: what Slurm wrote into its output; without cgroups nothing else tells of too much memory.
        was_started: the job has begun to run on some machine.
        was_seen: Slurm has known it; a controller that crashes forgets what it took in the seconds before.
    """
    if noted is not None:
        return noted
    if element is not None and element.state in _ENDS:
        return _ENDS[element.state]
    if code is not None and code.cause is not None:
        return code.cause, code.reason
    if element is None:
        return _gone(was_started=was_started, was_seen=was_seen)
    if was_started:
        return Cause.killed, f"killed with all its processes; Slurm says {element.state}, {element.reason}"
    return Cause.start, f"Slurm could not start it: {element.reason}"


def _gone(*, was_started: bool, was_seen: bool) -> tuple[Cause, str]:
    if was_started or not was_seen:
        return Cause.node, "lost: Slurm no longer knows it, and it left no exit code"
    return Cause.cancelled, "it left Slurm's queue without having been started: somebody withdrew it"
