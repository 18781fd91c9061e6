"""What happens in long work, told to Dagster's log and to whoever else listens."""

from collections.abc import Mapping

import dagster as dg

from b2cal_core.ports import CafObserver


class LoggingObserver(CafObserver):
    """Writes to the log of a step; counts of batch jobs only when they changed."""

    def __init__(self, log: dg.DagsterLogManager, listener: CafObserver) -> None:
        self._log, self._listener = log, listener
        self._counts: dict[str, dict[str, int]] = {}

    def state(self, calibration: str, state: str, iteration: int) -> None:
        """One line per state."""
        self._log.info(f"{calibration}: {state} (iteration {iteration})")
        self._listener.state(calibration, state, iteration)

    def jobs(self, calibration: str, counts: Mapping[str, int]) -> None:
        """One line per change of the counts; debug, because thousands of jobs make many."""
        if self._counts.get(calibration) != dict(counts):
            self._counts[calibration] = dict(counts)
            self._log.debug(f"{calibration}: jobs " + ", ".join(f"{n} {state}" for state, n in counts.items() if n))
        self._listener.jobs(calibration, counts)

    def log(self, message: str) -> None:
        """As it is."""
        self._log.info(message)
        self._listener.log(message)
