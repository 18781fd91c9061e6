"""The event log of an HTCondor cluster: what became of its jobs, without asking the daemon that has the queue."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from b2cal_core.jobs import JobState
from resources.batch.htcondor_queue import Number
from resources.batch.htcondor_states import state_after


class EventLog:
    """The states of the jobs of one log, as far as it was followed."""

    def __init__(self, path: Path, htcondor: ModuleType) -> None:
        self.path = path
        self.states: dict[Number, JobState] = {}
        self._htcondor = htcondor
        self._events: Any = None
        self.followed = 0
        self._damaged = False
        self._inode = 0

    @property
    def size(self) -> int:
        """Bytes in the file, 0 when there is none: it grows with every event."""
        try:
            found = self.path.stat()
        except OSError:
            return 0
        return found.st_size if self._inode in {0, found.st_ino} else 0  # not of another file in its place

    @property
    def is_lost(self) -> bool:
        """Whether it cannot tell any more: it is gone, or no longer what it was."""
        return self._damaged or self.size < max(1, self.followed)

    def follow(self) -> None:
        """Take in what was written since the last time; free when that is nothing."""
        size = self.size
        if self._damaged or size <= self.followed:
            return
        try:
            if self._events is None:
                self._inode = self.path.stat().st_ino
                self._events = self._htcondor.JobEventLog(str(self.path))
            for event in self._events.events(0):
                self._take(event)
            if all(state.status.is_final for state in self.states.values()):
                self._close()  # or a long life would take too many open files; it is read anew should it grow
        except (self._htcondor.HTCondorException, OSError):
            self._damaged = True  # the queue is asked instead
        self.followed = size

    def _close(self) -> None:
        if self._events is not None:
            self._events.close()
        self._events = None

    def _take(self, event: Mapping[str, Any]) -> None:
        number = int(event.get("Cluster", -1)), int(event.get("Proc", -1))
        before = self.states.get(number)
        self.states[number] = state_after(event) if before is None else state_after(event, before)
