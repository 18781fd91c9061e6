"""Calling an algorithm as its strategy wants it, and holding its payloads until the strategy commits them."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from b2cal_caf.atomic_files import write_json
from b2cal_caf.calibration import CollectedData, ConditionsReader, Execution, Step
from b2cal_caf.collected import CollectorFiles
from b2cal_caf.conditions import ChainReader
from b2cal_caf.local_database import LocalDatabase
from b2cal_caf.payload_files import write_payload
from b2cal_core.errors import ConfigurationError
from b2cal_core.payloads import LocalPayload
from b2cal_core.ranges import ExpRun, IoV, IoVSet
from b2cal_core.strategies import AlgResult, FinalState, StrategyOutcome


class HeldExecution(Execution):
    """An execution whose payloads lie in a folder of their own, not yet in a database."""

    def __init__(
        self,
        data: CollectedData,
        iov: IoV,
        *,
        iteration: int,
        conditions: ConditionsReader,
        output_dir: Path,
        requested_iov: IoV | None,
        folder: Path,
    ) -> None:
        self.data = data
        self.runs = data.runs
        self.iov = iov
        self.iteration = iteration
        self.conditions = conditions
        self.output_dir = output_dir
        self.requested_iov = requested_iov
        self.held: list[LocalPayload] = []
        self._folder = folder

    def save(self, name: str, columns: Mapping[str, np.ndarray], iov: IoV | None = None) -> None:
        """Write the payload aside."""
        file = self._folder / f"{len(self.held)}.root"
        write_payload(file, name, columns)
        self.held.append(LocalPayload(name, file, self.iov if iov is None else iov))

    def log(self, message: str) -> None:
        """Write a line to the algorithm's log."""
        print(message, flush=True)  # noqa: T201 (standard output is the algorithm's log)


@dataclass(slots=True)
class StepRun:
    """One step of a calibration in one iteration; runs in a child process.

    Attributes:
        label: names the log and the gap report; unique among the steps.
        databases: chain of the algorithm, first match wins.
    """

    step: Step
    label: str
    files: Mapping[str, list[Path]]
    databases: tuple[Path, ...]
    ignored: frozenset[ExpRun]
    requested_iov: IoV | None
    iteration: int
    output: Path
    _executions: list[HeldExecution] = field(default_factory=list)

    @property
    def log_file(self) -> Path:
        """Takes everything the algorithm prints."""
        return self.output / f"{self.label}_stdout"

    @property
    def report_file(self) -> Path:
        """What the strategy did; written as the last thing."""
        return self.output / f"{self.label}_results.json"

    def run(self) -> int:
        """Give the runs to the algorithm, commit what counts, and write the report; returns the exit code."""
        data = CollectorFiles(self.files, self.ignored)
        if not data.runs:
            msg = "no run is left to calibrate with: everything collected is ignored"
            raise ConfigurationError(msg)
        reader = ChainReader(self.databases)
        held = self.output / ".held" / self.label

        def execute(runs: tuple[ExpRun, ...], iov: IoV) -> AlgResult:
            execution = HeldExecution(
                data.of(runs),
                iov,
                iteration=self.iteration,
                conditions=reader,
                output_dir=self.output,
                requested_iov=self.requested_iov,
                folder=held / str(len(self._executions)),
            )
            self._executions.append(execution)
            return self._calibrate(execution)

        outcome = self.step.strategy.run(
            data.runs,
            execute,
            requested_iov=self.requested_iov,
            find_boundaries=lambda runs: self.step.algorithm.boundaries(data.of(runs)),
        )
        self._commit(outcome)
        self._report(outcome)
        shutil.rmtree(held, ignore_errors=True)
        return 0

    def _calibrate(self, execution: HeldExecution) -> AlgResult:
        first, last = execution.runs[0], execution.runs[-1]
        execution.log(f"{self.label}: {len(execution.runs)} runs from {first} to {last}, IoV {execution.iov}")
        answer = self.step.algorithm.calibrate(execution)
        if not isinstance(answer, AlgResult):
            msg = f"algorithm {self.label} must answer with an AlgResult, it answered {answer!r}"
            raise ConfigurationError(msg)
        execution.log(f"{self.label}: {answer}, {len(execution.held)} payloads")
        return answer

    def _commit(self, outcome: StrategyOutcome) -> None:
        """Put the payloads of executions that count into the output database, in order."""
        committed = [
            payload
            for execution, done in zip(self._executions, outcome.executions, strict=True)
            if done.committed
            for payload in execution.held
        ]
        if committed:
            LocalDatabase(self.output / "outputdb").add_all(committed)

    def _report(self, outcome: StrategyOutcome) -> None:
        gaps = IoVSet((iov for iov, _ in outcome.recorded), allow_overlaps=True).gaps
        within = [iov.as_tuple() for iov in gaps if iov.exp_low == iov.exp_high and iov.run_high >= 0]
        write_json(self.output / f"{self.label}_iov_gaps.json", within)
        report = {
            "algorithm": self.label,
            "final_state": outcome.final_state.value,
            "iterate": any(result is AlgResult.iterate for _, result in outcome.recorded),
            "recorded": [[iov.as_tuple(), result.value] for iov, result in outcome.recorded],
            "executions": [
                {"runs": [tuple(run) for run in done.runs], "iov": done.iov.as_tuple(), "result": done.result.value}
                | {"committed": done.committed}
                for done in outcome.executions
            ],
        }
        write_json(self.report_file, report)


def refusal(report: Mapping[str, Any]) -> tuple[str, bool] | None:
    """Why a step failed, from its report, and whether for want of data; ``None`` when it did not."""
    if report["final_state"] == FinalState.COMPLETED.value:
        return None
    bad = [(IoV(*iov), AlgResult(result)) for iov, result in report["recorded"] if not AlgResult(result).is_success]
    if not bad:  # strategies that merge runs do not record that data were missing, as long as they may still merge
        answers = {done["result"] for done in report["executions"]}
        if answers == {AlgResult.not_enough_data.value}:
            return f"algorithm {report['algorithm']} has not enough data in all runs together", True
        return f"algorithm {report['algorithm']} failed without an answer for any run", False
    iov, result = bad[0]
    is_short = result is AlgResult.not_enough_data
    answer = "has not enough data" if is_short else "answered failure"
    return f"algorithm {report['algorithm']} {answer} for {iov}", is_short
