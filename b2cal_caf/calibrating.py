"""The algorithm step of one calibration and iteration: its strategies one after another, each in a child process."""

import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from b2cal_caf.atomic_files import read_json, write_atomically, write_json
from b2cal_caf.calibration import Calibration, Step
from b2cal_caf.executions import StepRun, refusal
from b2cal_caf.forks import Child, start_child
from b2cal_caf.job_failures import failing_lines
from b2cal_caf.layout import IterationLayout
from b2cal_caf.local_database import TEXT_FILE
from b2cal_core.jobs import EXIT_DISK_FULL
from b2cal_core.ranges import ExpRun, IoV


@dataclass(slots=True)
class AlgorithmStep:
    """The strategies of a calibration; the first that fails stops the rest.

    Attributes:
        background: they get only the processor time that others leave.
        failure: one sentence when it failed.
        short_of_data: whether it failed for want of data.
        iterate: whether an algorithm asked to go round again.
    """

    runs: Sequence[StepRun]
    layout: IterationLayout
    background: bool = False
    child: Child | None = None
    position: int = 0
    failure: str = ""
    short_of_data: bool = False
    iterate: bool = False

    def start(self) -> None:
        """Start the first algorithm."""
        self._start_next()

    def is_over(self) -> bool:
        """Go on as far as possible without waiting; whether nothing is left to do."""
        while self.child is not None:
            code = self.child.poll()
            if code is None:
                return False
            self.child = None
            self._ended(code)
        return True

    def cancel(self) -> None:
        """End the running algorithm."""
        if self.child is not None:
            self.child.stop()
            self.child = None

    def _start_next(self) -> None:
        if self.position == len(self.runs):
            self._finish()
            return
        run = self.runs[self.position]
        self.child = start_child(
            run.run,
            directory=self.layout.algorithm_output,
            stdout=run.log_file,
            stderr=run.log_file,
            background=self.background,
        )

    def _ended(self, code: int) -> None:
        run = self.runs[self.position]
        report = read_json(run.report_file)
        if code != 0 or report is None:
            self.failure = f"{_what_happened(run, code)}; see {run.log_file}"
            return
        refused = refusal(report)
        if refused is not None:
            why, self.short_of_data = refused
            self.failure = f"{why}; see {run.log_file}"
            return
        self.iterate |= report["iterate"]
        self.position += 1
        self._start_next()

    def _finish(self) -> None:
        text = self.layout.outputdb / TEXT_FILE
        if not text.exists():
            write_atomically(text, b"")
        write_json(self.layout.algorithm_results, {"iterate": self.iterate, "steps": [run.label for run in self.runs]})


def algorithm_step(
    calibration: Calibration,
    files: Mapping[str, list[Path]],
    *,
    databases: Sequence[Path],
    ignored: Iterable[ExpRun],
    requested_iov: IoV | None,
    iteration: int,
    layout: IterationLayout,
) -> AlgorithmStep:
    """The algorithm step of a calibration whose collector files are given."""
    labels = _labels(calibration.steps)
    runs = [
        StepRun(
            step=step,
            label=label,
            files=files,
            databases=tuple(databases),
            ignored=frozenset(ignored),
            requested_iov=requested_iov,
            iteration=iteration,
            output=layout.algorithm_output,
        )
        for step, label in zip(calibration.steps, labels, strict=True)
    ]
    return AlgorithmStep(runs, layout)


def _labels(steps: Sequence[Step]) -> list[str]:
    """Algorithm names, the second of a name with ``_2`` and so on."""
    names = [step.algorithm.name for step in steps]
    return [
        name if names[:number].count(name) == 0 else f"{name}_{names[:number].count(name) + 1}"
        for number, name in enumerate(names)
    ]


def _what_happened(run: StepRun, code: int) -> str:
    if code < 0:
        return f"algorithm {run.label} was killed by signal {-code} ({signal.Signals(-code).name})"
    if code == EXIT_DISK_FULL:
        return f"algorithm {run.label} found no room left on the disk of {run.output}; make room there and run again"
    return f"algorithm {run.label} failed: {failing_lines(run.log_file) or f'it ended with exit code {code}'}"
