"""A CAF in memory: runs the calibrations of a script at once, without files, jobs or checkpoints, for closure tests."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hist import Hist

from b2cal_caf.calibration import (
    Algorithm,
    Calibration,
    Collectable,
    CollectedData,
    Columns,
    ConditionsReader,
    Execution,
    Step,
    Sums,
    Table,
)
from b2cal_caf.scripts import load_script
from b2cal_core.errors import DataError
from b2cal_core.ranges import ExpRun, IoV
from b2cal_core.runs import RunRecord, select_files
from b2cal_core.strategies import AlgResult, FinalState
from b2cal_detector.nominal import EVERYWHERE, nominal_constants

SCRIPTS = Path(__file__).parents[2] / "b2cal_detector" / "scripts"


@dataclass(frozen=True)
class MadePayload:
    name: str
    iov: IoV
    columns: Columns


class Layers(ConditionsReader):
    """Layers of payloads; the first layer that has the payload wins, in a layer the last payload."""

    def __init__(self, layers: Iterable[Sequence[MadePayload]]) -> None:
        self.layers = [list(layer) for layer in layers]

    @classmethod
    def nominal(cls) -> "Layers":
        return cls([[MadePayload(name, EVERYWHERE, columns) for name, columns in nominal_constants().items()]])

    def on_top(self, layer: Sequence[MadePayload]) -> "Layers":
        return Layers([layer, *self.layers])

    def columns(self, name: str, run: ExpRun) -> Columns:
        for layer in self.layers:
            for made in reversed(layer):
                if made.name == name and made.iov.contains(run):
                    return made.columns
        msg = f"no {name} for {run}"
        raise DataError(msg)

    def has(self, name: str, run: ExpRun) -> bool:
        return any(made.name == name and made.iov.contains(run) for layer in self.layers for made in layer)


Stored = dict[tuple[str, str], dict[ExpRun | None, Collectable]]


def _added(first: Collectable, second: Collectable) -> Collectable:
    if isinstance(first, Sums):
        return Sums({key: first[key] + second[key] for key in first})
    if isinstance(first, Table):
        return Table({key: np.concatenate([first[key], second[key]]) for key in first})
    return first + second


class InMemoryData(CollectedData):
    def __init__(self, stored: Stored, runs: Iterable[ExpRun]) -> None:
        self._stored, self._runs = stored, tuple(sorted(runs))

    @property
    def runs(self) -> tuple[ExpRun, ...]:
        return self._runs

    def _total(self, name: str, collection: str) -> "Collectable | None":
        total = None
        for run, part in sorted(self._stored.get((collection, name), {}).items(), key=lambda item: item[0] or (0, 0)):
            if run is None or run in self._runs:
                total = part if total is None else _added(total, part)
        return total

    def sums(self, name: str, collection: str = "default") -> Sums:
        total = self._total(name, collection)
        return total if isinstance(total, Sums) else Sums()

    def table(self, name: str, collection: str = "default") -> Table:
        total = self._total(name, collection)
        return total if isinstance(total, Table) else Table()

    def hist(self, name: str, collection: str = "default") -> Hist | None:
        total = self._total(name, collection)
        return total if isinstance(total, Hist) else None

    def of(self, runs: Iterable[ExpRun]) -> "InMemoryData":
        return InMemoryData(self._stored, set(runs) & set(self._runs))


class QuickExecution(Execution):
    def __init__(self, data: InMemoryData, iov: IoV, iteration: int, conditions: ConditionsReader) -> None:
        self.data, self.runs, self.iov, self.iteration = data, data.runs, iov, iteration
        self.conditions, self.requested_iov, self.output_dir = conditions, None, Path()
        self.saved: list[MadePayload] = []
        self.messages: list[str] = []

    def save(self, name: str, columns: Mapping[str, np.ndarray], iov: IoV | None = None) -> None:
        self.saved.append(MadePayload(name, iov or self.iov, dict(columns)))

    def log(self, message: str) -> None:
        self.messages.append(message)


def collected(calibration: Calibration, conditions: ConditionsReader) -> InMemoryData:
    """One collector pass over all files."""
    stored: Stored = defaultdict(dict)
    runs = set()
    for label, collection in calibration.collections.items():
        for file, run in collection.input_files.items():
            runs.add(run)
            for name, value in collection.collector.collect(file, run, conditions).items():
                parts = stored[label, name]
                key = run if collection.collector.granularity == "run" else None
                parts[key] = _added(parts[key], value) if key in parts else value
    return InMemoryData(stored, runs)


def execute(
    algorithm: Algorithm, data: InMemoryData, conditions: ConditionsReader, iov: IoV = EVERYWHERE
) -> tuple[AlgResult, QuickExecution]:
    """One call of an algorithm."""
    execution = QuickExecution(data, iov, 0, conditions)
    return algorithm.calibrate(execution), execution


def _run_step(
    step: Step, data: InMemoryData, iteration: int, conditions: ConditionsReader
) -> tuple[list[MadePayload], bool]:
    made: dict[tuple[tuple[ExpRun, ...], IoV], list[MadePayload]] = {}

    def call(runs: tuple[ExpRun, ...], iov: IoV) -> AlgResult:
        execution = QuickExecution(data.of(runs), iov, iteration, conditions)
        result = step.algorithm.calibrate(execution)
        made[runs, iov] = execution.saved
        return result

    outcome = step.strategy.run(data.runs, call, find_boundaries=lambda runs: step.algorithm.boundaries(data.of(runs)))
    assert outcome.final_state is FinalState.COMPLETED, outcome.recorded
    kept = [payload for done in outcome.executions if done.committed for payload in made[done.runs, done.iov]]
    return kept, any(result is AlgResult.iterate for _, result in outcome.recorded)


@dataclass
class Outcome:
    """Payloads per calibration, and how many passes each took."""

    payloads: dict[str, list[MadePayload]] = field(default_factory=dict)
    passes: dict[str, int] = field(default_factory=dict)
    saved: list[MadePayload] = field(default_factory=list)


def run_calibrations(calibrations: Sequence[Calibration], conditions: Layers) -> Outcome:
    """Run calibrations that are listed dependencies first."""
    outcome = Outcome()
    for calibration in calibrations:
        chain = conditions
        for needed in calibration.dependencies:
            chain = chain.on_top(outcome.payloads[needed.name])
        limit = 5 if calibration.max_iterations is None else calibration.max_iterations
        made: list[MadePayload] = []
        for iteration in range(limit + 1):
            own = chain.on_top(made)
            data = collected(calibration, own)
            steps = [_run_step(step, data, iteration, own) for step in calibration.steps]
            made = [payload for kept, _ in steps for payload in kept]
            outcome.passes[calibration.name] = iteration + 1
            if not any(again for _, again in steps):
                break
        outcome.payloads[calibration.name] = made
        if calibration.save_payloads:
            outcome.saved.extend(made)
    return outcome


def run_script(name: str, records: Sequence[RunRecord], conditions: Layers, **expert_config: object) -> Outcome:
    """Run ``caf_<name>.py`` on the files that pass its filters; the runs given are the bucket."""
    script = load_script(SCRIPTS / f"caf_{name}.py")
    chosen = select_files(records, script.settings.input_data_filters, data_format=script.settings.stage)
    inputs = {key: {file.file.path: IoV(*file.run, *file.run) for file in files} for key, files in chosen.items()}
    calibrations = script.get_calibrations(
        inputs,
        requested_iov=IoV.spanning(record.run for record in records),
        expert_config=script.settings.expert_config | expert_config,
    )
    return run_calibrations(calibrations, conditions)
