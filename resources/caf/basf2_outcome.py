"""How a run of ``b2caf-prompt-run`` ended, from what it leaves: states, payloads, and one sentence for each failure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from b2cal_caf.job_failures import failing_lines, sentence
from b2cal_caf.layout import RequestLayout, iteration_layout
from b2cal_caf.local_database import TEXT_FILE
from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.ports import CafResult, CollectedSummary
from b2cal_core.ranges import ExpRun
from resources.caf.basf2_environment import End
from resources.caf.basf2_inputs import OfferedInputs
from resources.caf.basf2_progress import CALIBRATING, COLLECTING, Row
from resources.caf.basf2_subjobs import DISK_FULL, SubJob, path_of, subjobs_of

TOOL = "b2caf-prompt-run"
_SIGNALS = 128
_ENDED = frozenset({"completed", "failed"})
_GIVEN_UP = frozenset({"collector_failed", "algorithms_failed", "collector_completed"})
"""States in which the tool, once it has ended by itself, has given a calibration up."""

_BUSY = frozenset({COLLECTING, CALIBRATING, "algorithms_completed"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known when the tool has ended.

    Attributes:
        end: how; ``None`` when it was killed.
        rows: the state database; none when the tool never came to writing it.
        started: whether it changed the database, and so got beyond asking the script.
        stdout, stderr: its output.
    """

    layout: RequestLayout
    end: End
    rows: Sequence[Row]
    started: bool
    inputs: OfferedInputs
    stdout: Path
    stderr: Path
    seconds: Mapping[str, float]

    def result(self) -> CafResult:
        """The result, if the tool came to an end of its own.

        Raises:
            ConfigurationError: it refused the request, or the script raised.
            BackendError: it was killed, or broke.
        """
        self._refuse_breaks()
        states = self._states()
        return CafResult(
            states=states,
            databases=self._databases(states),
            errors=self._errors(states),
            collected=self._collected(),
            seconds=dict(self.seconds),
            iterations={row.name: row.iteration for row in self.rows},
        )

    def _refuse_breaks(self) -> None:
        if self.end.code == 0 and self.rows:
            return
        why = self._why()
        if self.end.code > _SIGNALS:
            number = self.end.code - _SIGNALS
            msg = f"{TOOL} was killed by signal {number}; run again, it goes on from its checkpoint"
            raise BackendError(msg, transient=True)
        if DISK_FULL in why:
            msg = f"no room left on the disk of {self.layout.directory}; make room there and run again ({why})"
            raise BackendError(msg, transient=False)
        if not self.started:
            msg = f"{TOOL} refused the request, or its script raised: {why}; see {self.stderr} and {self.stdout}"
            raise ConfigurationError(msg)
        states = {row.state for row in self.rows}
        if states & _BUSY or not states & {"failed", *_GIVEN_UP}:
            msg = f"{TOOL} broke off with exit code {self.end.code}: {why}; see {self.stderr} and {self.stdout}"
            raise BackendError(msg, transient=False)

    def _why(self) -> str:
        """The last lines of the tool's errors, or else of its output."""
        return failing_lines(self.stderr) or failing_lines(self.stdout) or "it said nothing"

    def _states(self) -> dict[str, str]:
        """What is still waiting when the tool has ended depends on what failed."""
        return {row.name: _final(row.state) for row in self.rows}

    def _databases(self, states: Mapping[str, str]) -> dict[str, Path]:
        """The exported payloads; when a calibration failed, the tool exports nothing: then where they were made.

        Which calibrations are not to be exported is known to the tool alone.
        """
        whole = all(state == "completed" for state in states.values())
        place = self.layout.exported if whole else self.layout.outputdb
        return {
            name: place(name)
            for name, state in states.items()
            if state == "completed" and (place(name) / TEXT_FILE).exists()
        }

    def _errors(self, states: Mapping[str, str]) -> dict[str, str]:
        failed = ", ".join(name for name, state in states.items() if state == "failed")
        waiting = f"not started, because a calibration it depends on did not complete (failed: {failed})"
        errors = {name: waiting for name, state in states.items() if state == "skipped"}
        return errors | {row.name: self._sentence(row) for row in self.rows if states[row.name] == "failed"}

    def _sentence(self, row: Row) -> str:
        """What failed, and why: the algorithm when one was started, else the first of the sub-jobs that failed."""
        iteration = iteration_layout(self.layout, row.name, row.iteration)
        logs = sorted(iteration.algorithm_output.glob("*_stdout"), key=lambda path: path.stat().st_mtime_ns)
        if logs:
            return f"calibration {row.name}: {self._algorithm_failure(logs[-1])}"
        judged = ((subjob, subjob.failure()) for subjob in subjobs_of(iteration.directory))
        broken = [(subjob, state) for subjob, state in judged if state is not None]
        if not broken:
            return f"calibration {row.name} failed: {self._why()}; see {self.stderr} and {self.stdout}"
        subjob, state = broken[0]
        more = f" (and {len(broken) - 1} more sub-jobs)" if len(broken) > 1 else ""
        files = [self.inputs.own_path(str(file)) for file in subjob.files()]
        said = sentence(subjob.what, state, directory=subjob.directory, files=files)
        return f"calibration {row.name}: {said}{more}"

    def _algorithm_failure(self, log: Path) -> str:
        name, why = log.name.removesuffix("_stdout"), failing_lines(log) or "it said nothing"
        if DISK_FULL in why:
            return (
                f"algorithm {name} found no room left on the disk of {log.parent}; make room there and run again; "
                f"see {log}"
            )
        return f"algorithm {name} failed: {why}; see {log}, and {self.stdout} for what basf2 said"

    def _collected(self) -> CollectedSummary:
        """Files and events of the first iteration, sub-jobs of all."""
        files: set[str] = set()
        jobs = 0
        for row in self.rows:
            for number in range(row.iteration + 1):
                subjobs = list(subjobs_of(iteration_layout(self.layout, row.name, number).directory))
                jobs += len(subjobs)
                files |= _read_in(subjobs) if number == 0 else set()
        per_run: dict[ExpRun, int] = {}
        for given in {found for found in map(self.inputs.find, files) if found is not None}:
            per_run[given.run] = per_run.get(given.run, 0) + given.events
        return CollectedSummary(
            files=len(files), events=dict(sorted(per_run.items())), jobs=jobs, rejected=self.inputs.rejected
        )


def _final(state: str) -> str:
    if state in _ENDED:
        return state
    return "failed" if state in _GIVEN_UP else "skipped"


def _read_in(subjobs: Sequence[SubJob]) -> set[str]:
    return {path_of(str(file)) for subjob in subjobs for file in subjob.files()}
