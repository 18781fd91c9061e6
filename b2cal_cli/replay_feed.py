"""Registering the runs of a replay, each at its time, in a process of its own while others work."""

import time
from collections.abc import Sequence

from b2cal_caf.forks import Child, start_child
from b2cal_cli.replay_list import Arrival
from b2cal_core.errors import BackendError
from resources.deployment import registry_address
from resources.home import Home
from resources.runs.embedded import EmbeddedRunRegistry


class Feed:
    """The runs that are not registered yet; the first of them comes at once, whenever this is started.

    Args:
        home: whose registry they go to.
        speed: how many times faster than the detector they come.
    """

    def __init__(self, home: Home, arrivals: Sequence[Arrival], speed: float) -> None:
        self._home, self._speed, self._all = home, speed, arrivals
        self._child: Child | None = None
        self._log = home.path / "logs" / "replay.log"

    @property
    def total(self) -> int:
        """How many runs the replay has."""
        return len(self._all)

    def left(self) -> list[Arrival]:
        """What is to be registered, in order."""
        known = {record.run for record in EmbeddedRunRegistry(registry_address(self._home)).runs()}
        return [arrival for arrival in self._all if arrival.record.run not in known]

    def start(self) -> None:
        """Begin; the process ends with this one. Started again, it goes on where it was."""
        left = self.left()
        if left:
            directory = self._log.parent
            self._child = start_child(
                lambda: self._register(left), directory=directory, stdout=self._log, stderr=self._log
            )

    def is_over(self) -> bool:
        """Whether every run is registered.

        Raises:
            BackendError: a run could not be.
        """
        code = 0 if self._child is None else self._child.poll()
        if code:
            lines = self._log.read_text(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"its process ended with {code}"
            message = f"runs cannot be registered any more: {reason}; ask again, the replay goes on where it was"
            raise BackendError(message, transient=True)
        return code == 0

    def stop(self) -> None:
        """End it, whatever is left."""
        if self._child is not None:
            self._child.stop()

    def _register(self, left: Sequence[Arrival]) -> int:
        registry = EmbeddedRunRegistry(registry_address(self._home))
        start = time.monotonic()
        for arrival in left:
            due = (arrival.after - left[0].after).total_seconds() / self._speed
            time.sleep(max(0.0, due - (time.monotonic() - start)))
            registry.add([arrival.record])
        return 0
