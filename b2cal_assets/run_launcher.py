"""Launching Dagster runs on this machine, and telling whether the process that works one still lives.

Dagster's own launcher cannot tell. The code server that started a process sees it end, but not once it was killed
itself, nor when the database with Dagster's record was away at that moment: the Dagster run would then count as at
work for ever, and keep its bucket and its place in the queue.
"""

import json

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus  # not public, documented
from dagster._core.storage.tags import GRPC_INFO_TAG

from b2cal_assets.bucket_runs import PROCESS_TAG, is_alive

_CLOCK_SECONDS = 60.0
"""How much later than it said itself a process may seem to have begun, by a clock that was set in between."""


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's launcher for one machine; Dagster's run monitoring asks it about processes."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes; the monitoring asks this first."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process that works a Dagster run lives; one that may be on another machine counts as alive."""
        process = run.tags.get(PROCESS_TAG)
        if process is not None:
            return _health(process, lives=is_alive(process))
        started = _started(self._instance, run) if _is_here(run) else None
        if started is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        pid, when = started
        return _health(f"process {pid}", lives=_lives(pid, when))


def _health(process: str, *, lives: bool) -> CheckRunHealthResult:
    if lives:
        return CheckRunHealthResult(WorkerStatus.RUNNING)
    return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"{process} ended before the work was done")


def _is_here(run: dg.DagsterRun) -> bool:
    """Whether its code server was asked through a socket, which only processes of one machine share."""
    return bool(json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("socket"))


def _started(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, float] | None:
    """Number of the process that works the Dagster run, and the seconds since 1970 when it said that it began."""
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        if event is not None and event.step_key is None and "pid" in event.engine_event_data.metadata:
            return int(str(event.engine_event_data.metadata["pid"].value)), entry.timestamp
    return None


def _lives(pid: int, when: float) -> bool:
    """Whether it is the process that spoke then: numbers are used again, and the dead stay listed until looked at."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= when + _CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False
