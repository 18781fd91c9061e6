"""What HTCondor tells of a job, in an event of its log or in its description, as a ``JobState``.

Only what HTCondor itself says; the files in the job's directory are not looked at here.
"""

import errno
import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from b2cal_core.jobs import Cause, JobState, JobStatus

MEMORY_SUBCODE = 7301
"""Tells our own rule about memory from the rules of others."""
ATTRIBUTES = (
    "ClusterId",
    "ProcId",
    "JobStatus",
    "ExitBySignal",
    "ExitSignal",
    "ExitCode",
    "HoldReason",
    "HoldReasonCode",
    "HoldReasonSubCode",
    "RemoveReason",
    "RemoteHost",
    "LastRemoteHost",
    "ResidentSetSize",
    "RequestMemory",
    "RequestCpus",
    "LastRejMatchReason",
    "AutoClusterId",
)
"""What ``state_of`` needs to know."""

_HOLD_BY_RULE = 3
_HOLD_NO_RESOURCES = 34
_HOLD_CAUSES = {46: Cause.time, 47: Cause.time, 34: Cause.memory}
_HOLD_AT_START = frozenset({6, 7, 8, 9, 10, 12, 13, 14, 19, 22, 23, 35, 45, 48})
"""No process, no output or input file, no directory, no account or no container there."""
_DISK_SUBCODE = 104
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_QUEUED = JobState(JobStatus.submitted)


def state_after(event: Mapping[str, Any], before: JobState = _QUEUED) -> JobState:
    """The state of a job after an event of the log."""
    memory = event.get("MemoryUsage")
    if memory is not None:
        before = replace(before, peak_memory=max(int(memory), before.peak_memory or 0))
    after = before
    match event["EventTypeNumber"]:
        case 1:  # execute
            host = _machine(event.get("SlotName") or event.get("ExecuteHost", ""))
            after = JobState(JobStatus.running, host=host, peak_memory=before.peak_memory)
        case 4 | 13 | 24:  # evicted, released, lease run out; HTCondor starts it again by itself
            after = JobState(JobStatus.submitted, host=before.host, peak_memory=before.peak_memory)
        case 5:  # terminated
            by_signal = None if event.get("TerminatedNormally") else event.get("TerminatedBySignal", signal.SIGKILL)
            after = _terminated(event, event.get("ReturnValue"), by_signal, before)
        case 9:  # removed
            after = _removed(event.get("Reason", ""), before)
        case 12:  # held
            after = _held(event, before)
        case 22:  # its machine does not answer, which may pass
            after = replace(before, reason=str(event.get("DisconnectReason", "its machine does not answer")))
        case 23:  # its machine answers again
            after = replace(before, reason="")
    return after


def state_of(description: Mapping[str, Any]) -> JobState:
    """The state of a job by its description in the queue or in the history."""
    host = _machine(description.get("RemoteHost") or description.get("LastRemoteHost") or "")
    memory = description.get("ResidentSetSize")  # KB; MemoryUsage is an expression here
    known = JobState(JobStatus.submitted, host=host, peak_memory=None if memory is None else -(-int(memory) // 1024))
    match description["JobStatus"]:
        case 2 | 6 | 7:  # running, transferring its output, suspended
            return replace(known, status=JobStatus.running)
        case 3:
            return _removed(description.get("RemoveReason", ""), known)
        case 4:
            by_signal = description.get("ExitSignal", signal.SIGKILL) if description.get("ExitBySignal") else None
            return _terminated(description, description.get("ExitCode"), by_signal, known)
        case 5:
            return _held(description, known)
    return replace(known, reason=_why_idle(description))


def _why_idle(description: Mapping[str, Any]) -> str:
    """What the negotiator said last, if it has found no machine yet."""
    said = str(description.get("LastRejMatchReason", "")).strip()
    asks = f"{description.get('RequestCpus')} processors and {description.get('RequestMemory')} MB"
    return f"waits in HTCondor: {said}; it asks for {asks}" if said else ""


def _terminated(told: Mapping[str, Any], code: int | None, by_signal: int | None, before: JobState) -> JobState:
    memory, given = before.peak_memory, told.get("RequestMemory")
    state = JobState.of_exit_code(-by_signal if by_signal else int(code or 0))
    if by_signal == signal.SIGKILL and memory is not None and given is not None and memory > given:
        reason = f"killed when it had {memory} MB of memory, it was given {given} MB"
        state = replace(state, cause=Cause.memory, reason=reason)
    return replace(state, host=before.host, peak_memory=memory)


def _removed(reason: str, before: JobState) -> JobState:
    reason = f"removed from the queue: {reason}" if reason else "removed from the queue"
    return replace(before, status=JobStatus.failed, reason=reason, cause=Cause.cancelled)


def _held(told: Mapping[str, Any], before: JobState) -> JobState:
    code, subcode = told.get("HoldReasonCode"), told.get("HoldReasonSubCode")
    reason = str(told.get("HoldReason", "")) or f"held, code {code} subcode {subcode}"
    return replace(before, status=JobStatus.held, reason=reason, cause=_cause_of_hold(code, subcode))


def _cause_of_hold(code: int | None, subcode: int | None) -> Cause:
    if code == _HOLD_BY_RULE and subcode == MEMORY_SUBCODE:
        return Cause.memory
    if code in _HOLD_AT_START:
        return Cause.disk if subcode in _NO_ROOM else Cause.start
    if code == _HOLD_NO_RESOURCES and subcode == _DISK_SUBCODE:
        return Cause.disk
    return _HOLD_CAUSES.get(code or 0, Cause.held)


def _machine(slot: str) -> str:
    """``slot1_2@machine.domain`` to the machine; an address such as ``<10.0.0.7:9618?alias=machine&…>`` as well."""
    _, _, alias = slot.partition("alias=")
    return alias.partition("&")[0].rstrip(">") if alias else slot.rpartition("@")[2].strip("<>").partition(":")[0]
