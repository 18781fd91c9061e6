"""Simulation of many runs at once, each in a process of its own; what is finished is never simulated again."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from b2cal_caf.atomic_files import read_json, write_json
from b2cal_caf.forks import Child, start_child, wait_for
from b2cal_cli.run_files import problems_of
from b2cal_core.errors import BackendError, ConfigurationError, DataError
from b2cal_core.jobs import EXIT_DISK_FULL
from b2cal_core.runs import RunRecord
from b2cal_detector.feed import plan_runs
from b2cal_detector.simulation import simulate_run
from b2cal_detector.truth import Truth
from resources.home import Home
from resources.runs.records import record_from_json, record_to_json

_RECORD, _LOG = "record.json", "simulation.log"


@dataclass(frozen=True, slots=True)
class Simulation:
    """Which runs of which detector are simulated; ``scale`` is a factor on the number of events."""

    seed: int
    exp: int
    first: int
    count: int
    scale: float = 1.0

    def planned(self) -> tuple[RunRecord, ...]:
        """The runs in order, without files."""
        return plan_runs(self.seed, self.exp, self.first, self.count)


@dataclass(frozen=True, slots=True)
class SimulatedRuns:
    """The records of all runs, in order, and how many of them had to be made."""

    records: tuple[RunRecord, ...]
    made: int


def feed_file(home: Home, simulation: Simulation) -> Path:
    """Where the feed of a simulation is written."""
    last = simulation.first + simulation.count - 1
    return home.data / f"feed_e{simulation.exp:04d}r{simulation.first:05d}-r{last:05d}.jsonl"


def simulate_runs(
    simulation: Simulation,
    directory: Path,
    *,
    processes: int | None = None,
    advanced: Callable[[int, int], None] = lambda _done, _total: None,
) -> SimulatedRuns:
    """Simulate what is missing.

    Args:
        simulation: the runs.
        directory: where their data go.
        processes: runs at a time; none: one per core.
        advanced: told how many runs are done, of how many, at the beginning and whenever that changes.

    Raises:
        ConfigurationError: data of another seed or scale are there.
        BackendError: a run could not be simulated; what is finished is kept.
    """
    runs = [_Run(simulation, directory, planned) for planned in simulation.planned()]
    missing = [run for run in runs if run.finished() is None]
    advanced(len(runs) - len(missing), len(runs))
    if missing:
        truth = Truth(simulation.seed)
        truth.at(truth.names[0], missing[0].planned.run)  # drifts are worked out here, once for all forks
        _simulate(
            missing,
            truth,
            processes or len(os.sched_getaffinity(0)),
            lambda left: advanced(len(runs) - left, len(runs)),
        )
    return SimulatedRuns(tuple(run.record() for run in runs), len(missing))


def _simulate(missing: Sequence["_Run"], truth: Truth, at_a_time: int, left: Callable[[int], None]) -> None:
    waiting = list(missing)
    running: dict[_Run, Child] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_a_time:
                run = waiting.pop(0)
                running[run] = run.start(truth)
            wait_for(running.values(), None)
            for run in [run for run, child in running.items() if child.poll() is not None]:
                run.require_success(running.pop(run))
                left(len(waiting) + len(running))
    finally:
        for child in running.values():
            child.stop()


@dataclass(frozen=True, slots=True)
class _Run:
    """One run to be simulated, and where its record is kept when it is finished."""

    simulation: Simulation
    directory: Path
    planned: RunRecord

    @property
    def _place(self) -> Path:
        exp, run = self.planned.run
        return self.directory / f"e{exp:04d}" / f"r{run:05d}"

    @property
    def _origin(self) -> dict[str, float]:
        return {"seed": self.simulation.seed, "scale": self.simulation.scale}

    def finished(self) -> RunRecord | None:
        """The record, when the run was simulated and its files are as they were left.

        Raises:
            ConfigurationError: it was simulated with another seed or scale.
        """
        kept = read_json(self._place / _RECORD)
        if kept is None:
            return None
        if kept["origin"] != self._origin:
            raise ConfigurationError(
                f"{self._place} holds data simulated with {_words(kept['origin'])}, asked for is "
                f"{_words(self._origin)}; use another home directory (--home) or remove these data"
            )
        record = record_from_json(kept["run"], str(self._place / _RECORD))
        moved = not all(Path(file.path).is_relative_to(self.directory.absolute()) for file in record.files)
        return None if moved or problems_of(record) else record

    def record(self) -> RunRecord:
        """The record of a run that is simulated."""
        record = self.finished()
        if record is None:
            raise DataError(f"the files in {self._place} changed while runs were simulated; ask again")
        return record

    def start(self, truth: Truth) -> Child:
        """Simulate the run in a process of its own."""
        log = self._place / _LOG
        return start_child(lambda: self._make(truth), directory=self._place, stdout=log, stderr=log)

    def _make(self, truth: Truth) -> int:
        record = simulate_run(truth, self.planned, self.directory, scale=self.simulation.scale)
        write_json(self._place / _RECORD, {"origin": self._origin, "run": record_to_json(record)})
        return 0

    def require_success(self, child: Child) -> None:
        """Raise ``BackendError`` with the last line of the log unless the child ended well."""
        if child.exit_code != 0:
            log = self._place / _LOG
            lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
            reason = lines[-1] if lines else f"its process ended with {child.exit_code}"
            advice = "free some space" if child.exit_code == EXIT_DISK_FULL else f"see {log}"
            message = (
                f"{self.planned.run} cannot be simulated: {reason}; {advice}, then ask again: finished runs are kept"
            )
            raise BackendError(message, transient=False)


def _words(origin: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in origin.items())
