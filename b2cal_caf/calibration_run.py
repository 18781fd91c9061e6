"""One calibration on its way through the states, moved on by the runner whenever something happened."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from b2cal_caf.atomic_files import copy_directory
from b2cal_caf.calibrating import AlgorithmStep, algorithm_step
from b2cal_caf.calibration import Calibration
from b2cal_caf.checkpoints import CalibrationRow, CheckpointStore
from b2cal_caf.collecting import CollectorStep
from b2cal_caf.collection_plan import CollectionPlan, plan_collection
from b2cal_caf.collector_cache import CollectorCache
from b2cal_caf.forks import Child
from b2cal_caf.input_files import check_files
from b2cal_caf.job_book import JobBook
from b2cal_caf.layout import IterationLayout, RequestLayout, iteration_layout
from b2cal_caf.machine import State, Trigger, after
from b2cal_core.errors import DataError
from b2cal_core.failure_policies import FailurePolicy
from b2cal_core.jobs import JobState
from b2cal_core.ports import BatchBackend, CafObserver
from b2cal_core.ranges import ExpRun, IoV

DEFAULT_MAX_ITERATIONS = 5
_TELL_JOBS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all calibrations of a request share.

    Attributes:
        constants: local databases of the request's chain, first match wins.
    """

    layout: RequestLayout
    requested_iov: IoV
    constants: tuple[Path, ...]
    batch: BatchBackend
    cache: CollectorCache
    store: CheckpointStore
    book: JobBook
    policy: FailurePolicy
    observer: CafObserver
    priority: int = 0


def passes(calibration: Calibration) -> int:
    """How many it should be expected to need: one, unless its expert says how many more it may take."""
    return 1 + (calibration.max_iterations or 0)


@dataclass(slots=True)
class CalibrationRun:
    """A calibration, where it stands, and what it is busy with.

    Attributes:
        upstream: names of all it depends on, directly or not, dependencies first.
        behind: passes of other calibrations on the longest way from its end to the end of all.
        error: one sentence when it failed or was skipped.
        short_of_data: whether it failed because an algorithm had not enough data.
    """

    calibration: Calibration
    upstream: Sequence[str]
    around: Surroundings
    behind: int = 0
    state: State = State.init
    iteration: int = 0
    error: str = ""
    short_of_data: bool = False
    collector: CollectorStep | None = None
    algorithms: AlgorithmStep | None = None
    seconds: dict[str, float] = field(default_factory=lambda: {"collect": 0.0, "algorithms": 0.0})
    _afresh: bool = False
    _checkpoint: State = State.init
    _since: float = 0.0
    _told: tuple[float, Mapping[str, int]] = (0.0, {})

    @property
    def name(self) -> str:
        """The calibration's name."""
        return self.calibration.name

    @property
    def layout(self) -> IterationLayout:
        """The paths of the present iteration."""
        return iteration_layout(self.around.layout, self.name, self.iteration)

    @property
    def ignored(self) -> frozenset[ExpRun]:
        """Runs that are neither collected nor calibrated with."""
        return frozenset(self.calibration.ignored_runs or ())

    @property
    def open_ids(self) -> list[str]:
        """Its jobs at the batch system."""
        return self.collector.open_ids if self.collector is not None else []

    @property
    def child(self) -> Child | None:
        """Its running algorithm."""
        return self.algorithms.child if self.algorithms is not None else None

    @property
    def _priority(self) -> int:
        """That of its jobs: the longer what can only follow this pass, the sooner it should be over."""
        return self.around.priority + max(0, passes(self.calibration) - 1 - self.iteration) + self.behind

    def restore(self, row: CalibrationRow | None) -> None:
        """Go back to the checkpoint of a former process, and remove what was written after it."""
        if row is not None:
            self.state = self._checkpoint = row.checkpoint
            self.iteration = row.iteration
            self._afresh = row.state in {State.failed, State.collector_failed}
        if self.state is State.completed:
            return
        directory = self.around.layout.calibration(self.name)
        for later in directory.glob("[0-9]*"):
            if later.name.isdigit() and int(later.name) > self.iteration:
                shutil.rmtree(later)
        shutil.rmtree(self.layout.algorithm_output, ignore_errors=True)
        shutil.rmtree(self.around.layout.outputdb(self.name), ignore_errors=True)
        self._write()

    def skip(self, because: str) -> None:
        """Not start at all, since a dependency did not succeed."""
        self.error = f"not started, because calibration {because} it depends on did not complete"
        self._move(Trigger.skip)

    def step(self, states: Mapping[str, JobState]) -> bool:
        """Do what can be done without waiting; returns whether the state changed."""
        before = self.state, self.iteration
        try:
            self._advance(states)
        except DataError as error:
            self._fail(str(error))
        return (self.state, self.iteration) != before

    def cancel(self) -> None:
        """End all it has running."""
        if self.collector is not None:
            self.collector.cancel()
        if self.algorithms is not None:
            self.algorithms.cancel()

    def _advance(self, states: Mapping[str, JobState]) -> None:
        match self.state:
            case State.init:
                self._collect()
            case State.running_collector:
                self._hear(states)
            case State.collector_completed:
                self._calibrate()
            case State.running_algorithms:
                self._look_at_algorithms()
            case State.algorithms_completed:
                self._iterate_or_finish()
            case State.collector_failed | State.algorithms_failed:
                self._move(Trigger.fail_fully)
            case _:
                return

    def _collect(self) -> None:
        self._since = time.monotonic()
        self.collector = self._collector_step(self._plans())
        self._move(Trigger.submit_collector)
        self.collector.start()
        self._tell_jobs(always=True)

    def _collector_step(self, plans: Mapping[str, tuple[CollectionPlan, bool]]) -> CollectorStep:
        return CollectorStep(
            place=(self.name, self.iteration),
            plans={name: plan for name, (plan, _) in plans.items()},
            kept=frozenset(name for name, (_, kept) in plans.items() if kept),
            layout=self.layout,
            batch=self.around.batch,
            cache=self.around.cache,
            book=self.around.book,
            policy=self.around.policy,
            priority=self._priority,
            afresh=self._afresh,
            log=self.around.observer.log,
        )

    def _plans(self) -> dict[str, tuple[CollectionPlan, bool]]:
        """The plans of all collections with at least one usable file."""
        plans = {}
        reasons: dict[str, str] = {}
        excluded = {file: f"left out by {one.who}: {one.reason}" for file, one in self.around.book.exclusions().items()}
        for name, collection in self.calibration.collections.items():
            checked = check_files(
                collection,
                self.around.cache,
                ignored=self.ignored,
                requested_iov=self.around.requested_iov,
                excluded=excluded,
            )
            for file, reason in checked.rejected.items():
                self.around.observer.log(f"{self.name}: input file {file} is left out: {reason}")
            reasons |= checked.rejected
            if checked.usable:
                plans[name] = plan_collection(
                    collection,
                    checked,
                    databases=self._chain(),
                    cache=self.around.cache,
                    path=self.layout.plan(name),
                )
            else:
                self.around.observer.log(f"{self.name}: collection {name} has no usable file and is dropped")
        if not plans:
            named = "; ".join(f"{file}: {reason}" for file, reason in list(reasons.items())[:3])
            msg = f"calibration {self.name} has no collection with a usable input file ({named or 'none was given'})"
            raise DataError(msg)
        return plans

    def _chain(self) -> tuple[Path, ...]:
        """Previous iteration, then dependencies, later ones first, then the request's constants."""
        own = (iteration_layout(self.around.layout, self.name, self.iteration - 1).outputdb,) if self.iteration else ()
        others = tuple(self.around.layout.outputdb(name) for name in reversed(self.upstream))
        return own + others + self.around.constants

    def _hear(self, states: Mapping[str, JobState]) -> None:
        collector = self.collector
        if collector is None:
            return
        changed = collector.hear(states)
        if not collector.is_over:
            if changed:
                self._tell_jobs(always=False)
            return
        self._tell_jobs(always=True)
        self._clock("collect")
        failures = collector.failures
        if failures:
            more = f" (and {len(failures) - 1} more sub-jobs)" if len(failures) > 1 else ""
            self._fail(f"calibration {self.name}: {failures[0]}{more}")
            return
        self._move(Trigger.complete)

    def _calibrate(self) -> None:
        if self.collector is None and not self._collected_before():
            return
        if self.collector is None:
            return
        self._since = time.monotonic()
        shutil.rmtree(self.layout.algorithm_output, ignore_errors=True)
        self.algorithms = algorithm_step(
            self.calibration,
            self.collector.files(),
            databases=self._chain(),
            ignored=self.ignored,
            requested_iov=self.around.requested_iov,
            iteration=self.iteration,
            layout=self.layout,
        )
        self.algorithms.background = self.around.priority < 0
        self._move(Trigger.run_algorithms)
        self.algorithms.start()

    def _collected_before(self) -> bool:
        """Take up the output a former process collected; where some of it is gone, go back to collecting."""
        plans = self._plans()
        step = self._collector_step(plans)
        if all(kept for _, kept in plans.values()) and step.take_up():
            self.collector = step
            return True
        self.around.observer.log(f"{self.name}: collector output is missing or no longer fits; collecting again")
        self.state = self._checkpoint = State.init
        self._write()
        return False

    def _look_at_algorithms(self) -> None:
        if self.algorithms is None or not self.algorithms.is_over():
            return
        self._clock("algorithms")
        if self.algorithms.failure:
            self.short_of_data = self.algorithms.short_of_data
            self._fail(f"calibration {self.name}: {self.algorithms.failure}")
        else:
            self._move(Trigger.complete)

    def _iterate_or_finish(self) -> None:
        wanted = self.algorithms is not None and self.algorithms.iterate
        limit = DEFAULT_MAX_ITERATIONS if self.calibration.max_iterations is None else self.calibration.max_iterations
        self.collector = self.algorithms = None
        if wanted and self.iteration < limit:
            self.iteration += 1
            self._move(Trigger.iterate)
            return
        if wanted:
            self.around.observer.log(
                f"{self.name}: an algorithm asks to go round again, but all {limit} extra passes are used; "
                "the last result is taken"
            )
        copy_directory(self.layout.outputdb, self.around.layout.outputdb(self.name))
        self._move(Trigger.finish)

    def _fail(self, sentence: str) -> None:
        self.error = sentence
        self.collector = self.algorithms = None
        self._move(Trigger.fail)

    def _move(self, trigger: Trigger) -> None:
        self.state = after(self.state, trigger)
        if self.state.is_checkpoint:
            self._checkpoint = self.state
        self._write()
        self.around.observer.state(self.name, self.state.value, self.iteration)

    def _write(self) -> None:
        self.around.store.write(CalibrationRow(self.name, self.state, self._checkpoint, self.iteration))

    def _clock(self, phase: str) -> None:
        self.seconds[phase] += time.monotonic() - self._since

    def _tell_jobs(self, *, always: bool) -> None:
        """Tell the observer the job counts, at most once a second unless something is at stake, or the first runs."""
        if self.collector is None:
            return
        now = time.monotonic()
        counts = self.collector.counts()
        begins = counts["running"] and not self._told[1].get("running")
        if not (always or begins) and now - self._told[0] < _TELL_JOBS_SECONDS:
            return
        if counts != self._told[1]:
            self._told = now, counts
            self.around.observer.jobs(self.name, counts)
