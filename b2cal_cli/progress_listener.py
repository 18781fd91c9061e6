"""Progress of long work as lines on the error stream."""

import time
from collections.abc import Callable, Mapping

from b2cal_core.ports import CafObserver


class ProgressListener(CafObserver):
    """Says what begins and ends, with the seconds since the start; counts of batch jobs at every tenth part.

    Args:
        write: takes a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._start = time.monotonic()
        self._subject = ""
        self._tenths: dict[str, tuple[int, int]] = {}

    def subject(self, name: str) -> None:
        """What the next lines are about."""
        self._subject = name

    def line(self, text: str) -> None:
        """A line with the time and the subject."""
        subject = f"{self._subject}: " if self._subject else ""
        self._write(f"[{time.monotonic() - self._start:6.1f} s] {subject}{text}")

    def state(self, calibration: str, state: str, iteration: int) -> None:
        """A calibration entered a state."""
        self.line(f"{calibration} {state.replace('_', ' ')}" + (f", iteration {iteration}" if iteration else ""))

    def jobs(self, calibration: str, counts: Mapping[str, int]) -> None:
        """Batch jobs of a calibration; only when another tenth of them is done."""
        done, total = counts.get("completed", 0) + counts.get("cached", 0), sum(counts.values())
        tenth = 10 * done // total if total else 0
        if tenth and self._tenths.get(calibration) != (tenth, total):
            self._tenths[calibration] = tenth, total
            self.line(f"{calibration} {done} of {total} jobs done")

    def log(self, message: str) -> None:
        """A line for people."""
        self.line(message)
