"""What happens in long work, told to Dagster's log and to whoever else listens."""

import time
from collections.abc import Mapping

import dagster as dg

from b2cal_assets.asset_metadata import Metadata
from b2cal_core.ports import CafObserver

QUEUED = "in the batch queue"
"""Metadata: pairs of start and end, in seconds since 1970, between which jobs waited and nothing of the step ran."""
_COLLECTING, _CALIBRATING = "running_collector", "running_algorithms"
_WAITING = ("submitted", "held")


class LoggingObserver(CafObserver):
    """Writes to the log of a step; counts of batch jobs only when they changed. Notes when all its jobs waited."""

    def __init__(self, log: dg.DagsterLogManager, listener: CafObserver) -> None:
        self._log, self._listener = log, listener
        self._counts: dict[str, dict[str, int]] = {}
        self._at_batch: dict[str, Mapping[str, int]] = {}
        self._calibrating: set[str] = set()
        self._queued: list[tuple[float, float]] = []
        self._queued_since: float | None = None

    def state(self, calibration: str, state: str, iteration: int) -> None:
        """One line per state."""
        if state != _COLLECTING:
            self._at_batch.pop(calibration, None)
        if state == _CALIBRATING:
            self._calibrating.add(calibration)
        else:
            self._calibrating.discard(calibration)
        self._note_queue()
        self._log.info(f"{calibration}: {state} (iteration {iteration})")
        self._listener.state(calibration, state, iteration)

    def jobs(self, calibration: str, counts: Mapping[str, int]) -> None:
        """One line per change of the counts; debug, because thousands of jobs make many."""
        self._at_batch[calibration] = counts
        self._note_queue()
        if self._counts.get(calibration) != dict(counts):
            self._counts[calibration] = dict(counts)
            self._log.debug(f"{calibration}: jobs " + ", ".join(f"{n} {state}" for state, n in counts.items() if n))
        self._listener.jobs(calibration, counts)

    def log(self, message: str) -> None:
        """As it is."""
        self._log.info(message)
        self._listener.log(message)

    def queued(self) -> Metadata:
        """When jobs of the step waited for a place while nothing of it ran, as metadata; none when they never did."""
        self._at_batch.clear()
        self._note_queue()
        return {QUEUED: dg.MetadataValue.json([list(pair) for pair in self._queued])} if self._queued else {}

    def _note_queue(self) -> None:
        counts = self._at_batch.values()
        waits = any(count.get(stage) for count in counts for stage in _WAITING)
        runs = bool(self._calibrating) or any(count.get("running") for count in counts)
        now = time.time()
        if waits and not runs:
            self._queued_since = now if self._queued_since is None else self._queued_since
        elif self._queued_since is not None:
            self._queued.append((self._queued_since, now))
            self._queued_since = None
