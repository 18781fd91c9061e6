"""Running a request: its calibrations side by side as their dependencies allow, until none can go on.

One loop in one thread; everything that takes time is a batch job or a child process, and the loop sleeps until one
of them ends.
"""

import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from b2cal_caf.atomic_files import copy_directory, read_json, write_json
from b2cal_caf.calibration_run import CalibrationRun, Surroundings, passes
from b2cal_caf.checkpoints import CheckpointStore
from b2cal_caf.collecting import withdraw
from b2cal_caf.collector_cache import CollectorCache
from b2cal_caf.constants import ConstantsSource
from b2cal_caf.forks import wait_for
from b2cal_caf.job_book import Exclusion, JobBook
from b2cal_caf.job_failures import in_words
from b2cal_caf.layout import RequestLayout
from b2cal_caf.locks import request_lock
from b2cal_caf.machine import State
from b2cal_caf.orders import obey
from b2cal_caf.request_files import write_request
from b2cal_caf.requests import LoadedRequest, load_request, request_identity
from b2cal_caf.results import collected_summary, read_result, write_result
from b2cal_core.errors import BackendError
from b2cal_core.graphs import transitive, weight_behind
from b2cal_core.jobs import JobState, JobStatus
from b2cal_core.ports import BatchBackend, CafObserver, CafRequest, CafResult, CollectedSummary

_CANCEL_SECONDS = 0.5
"""How long a wait may overlook that somebody cancelled."""
_ORDERS_SECONDS = 0.5
"""How long an order of a person may be overlooked."""
_BOTH_SECONDS = 0.02
"""How long the end of an algorithm may be overlooked while jobs of another calibration run."""

_TERMINAL = frozenset(state for state in State if state.is_terminal)
_COLLECTED = _TERMINAL | {State.collector_completed}


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs requests.

    Args:
        cache: directory of collector outputs, shared by all requests.
        cancelled: set from another thread to end a run.
        cache_limit: bytes that the outputs in the cache may take; no limit by default.
    """

    batch: BatchBackend
    constants: ConstantsSource
    cache: Path
    cancelled: threading.Event
    cache_limit: int | None = None

    def run(self, request: CafRequest, observer: CafObserver) -> CafResult:
        """See ``Caf.run``."""
        with self._opened(request, observer) as (layout, identity):
            done = read_result(layout.result, identity)
            if done is not None:
                observer.log(f"everything in {layout.directory} was done before, with the same inputs")
                return done
            return self._work(request, layout, identity, observer)

    def collect_ahead(self, request: CafRequest, observer: CafObserver, awaited: frozenset[str]) -> CollectedSummary:
        """See ``Caf.collect_ahead``."""
        with self._opened(request, observer) as (layout, identity):
            loaded, around = self._prepare(request, layout, identity, observer)
            runs = {run.name: run for run in _runs_of_first_collections(loaded, around, awaited)}
            self._work_through(runs, around, stop_at=_COLLECTED)
            for run in runs.values():
                if run.error:
                    observer.log(f"collecting ahead of the bucket failed, and is tried again later: {run.error}")
            return collected_summary(layout, runs, dict(loaded.rejected))

    @contextmanager
    def _opened(self, request: CafRequest, observer: CafObserver) -> Iterator[tuple[RequestLayout, str]]:
        """Have the request's directory to ourselves: its paths, and the identity of what is asked for."""
        layout = RequestLayout(request.directory.absolute())
        layout.directory.mkdir(parents=True, exist_ok=True)
        with request_lock(layout.directory, log=observer.log, check=self._check):
            identity = request_identity(request, self.constants)
            try:
                yield layout, identity
            except OSError as error:
                raise in_words(error, layout) from error

    def _work(self, request: CafRequest, layout: RequestLayout, identity: str, observer: CafObserver) -> CafResult:
        loaded, around = self._prepare(request, layout, identity, observer)
        runs = _calibration_runs(loaded, around)
        self._work_through(runs, around, stop_at=_TERMINAL)
        result = _result(loaded, runs, around)
        write_result(layout.result, result, identity)
        return result

    def _prepare(
        self, request: CafRequest, layout: RequestLayout, identity: str, observer: CafObserver
    ) -> tuple[LoadedRequest, Surroundings]:
        """Ask the script, and bring the request's directory into the state that belongs to the inputs."""
        self._make_room(layout, identity, observer)
        loaded = load_request(request)
        for remark in loaded.remarks:
            observer.log(remark)
        write_request(layout, request)
        around = Surroundings(
            layout=layout,
            requested_iov=request.requested_iov,
            constants=self.constants.provide(request.database_chain, layout.constants, within=request.requested_iov),
            batch=self.batch,
            cache=CollectorCache(self.cache, self.cache_limit),
            store=CheckpointStore(layout.state_db),
            book=JobBook(layout.state_db),
            policy=request.failure_policy,
            observer=observer,
            priority=request.priority,
        )
        return loaded, around

    def _make_room(self, layout: RequestLayout, identity: str, observer: CafObserver) -> None:
        """Keep what belongs to these inputs, remove what belongs to others and its jobs, so that they never mix."""
        if read_json(layout.request_identity) == {"identity": identity}:
            return
        excluded: Mapping[str, Exclusion] = {}
        if layout.results.exists():
            observer.log(f"the inputs changed since {layout.results} was written; starting anew")
            book = JobBook(layout.state_db)
            withdraw(book, self.batch, layout.results)
            excluded = book.exclusions()
        layout.result.unlink(missing_ok=True)
        for directory in (layout.results, layout.all_exported, layout.constants):
            shutil.rmtree(directory, ignore_errors=True)
        JobBook(layout.state_db).exclude(excluded.values())
        write_json(layout.request_identity, {"identity": identity})

    def _work_through(
        self, runs: Mapping[str, CalibrationRun], around: Surroundings, *, stop_at: frozenset[State]
    ) -> None:
        try:
            self._loop(runs, around, stop_at)
        finally:
            for run in runs.values():
                run.cancel()

    def _loop(self, runs: Mapping[str, CalibrationRun], around: Surroundings, stop_at: frozenset[State]) -> None:
        states: Mapping[str, JobState] = {}
        looked = 0.0
        while True:
            self._check()
            if time.monotonic() - looked > _ORDERS_SECONDS:
                obey(around.book, runs.values(), around.observer)
                looked = time.monotonic()
            moved = True
            while moved:
                moved = False
                for run in runs.values():
                    moved |= run.state not in stop_at and _step(run, runs, states)
            if all(run.state in stop_at for run in runs.values()):
                return
            states = self._wait(runs)

    def _wait(self, runs: Mapping[str, CalibrationRun]) -> Mapping[str, JobState]:
        """Sleep until a job or an algorithm ended, or for a moment."""
        ids = [native_id for run in runs.values() for native_id in run.open_ids]
        children = [run.child for run in runs.values() if run.child is not None]
        if not ids:
            if children:
                wait_for(children, _CANCEL_SECONDS)
            else:  # all that is left is sub-jobs that are to be tried again a little later
                self.cancelled.wait(_BOTH_SECONDS)
            return {}
        states = self.batch.wait(ids, _BOTH_SECONDS if children else _CANCEL_SECONDS)
        if all(state.status is JobStatus.unknown for state in states.values()):
            time.sleep(_BOTH_SECONDS)
        return states

    def _check(self) -> None:
        if self.cancelled.is_set():
            msg = "the calibration was cancelled; asking again resumes it"
            raise BackendError(msg, transient=False)


def _step(run: CalibrationRun, runs: Mapping[str, CalibrationRun], states: Mapping[str, JobState]) -> bool:
    """Move one calibration on if its dependencies allow; returns whether its state changed."""
    if run.state is State.init and run.iteration == 0:
        for other in (runs[dependency.name] for dependency in run.calibration.dependencies):
            if other.state in {State.failed, State.skipped}:
                run.skip(other.name)
                return True
            if other.state is not State.completed:
                return False
    return run.step(states)


def _calibration_runs(loaded: LoadedRequest, around: Surroundings) -> dict[str, CalibrationRun]:
    """The calibrations in dependency order, each where its checkpoint left it."""
    needs = {c.name: [other.name for other in c.dependencies] for c in loaded.calibrations}
    rows = {row.name: row for row in around.store.rows()}
    behind = weight_behind(needs, {c.name: passes(c) for c in loaded.calibrations})
    runs: dict[str, CalibrationRun] = {}
    for calibration in loaded.calibrations:
        wanted = transitive(calibration.name, needs)
        upstream = [name for name in needs if name in wanted]
        run = CalibrationRun(calibration, upstream, around, behind[calibration.name])
        run.restore(rows.get(calibration.name))
        runs[calibration.name] = run
    return runs


def _runs_of_first_collections(
    loaded: LoadedRequest, around: Surroundings, awaited: frozenset[str]
) -> Iterator[CalibrationRun]:
    """The calibrations that wait for no other, with the collections that read no awaited payload."""
    rows = {row.name: row for row in around.store.rows()}
    for calibration in loaded.calibrations:
        ready = {n: c for n, c in calibration.collections.items() if awaited.isdisjoint(c.collector.reads)}
        if ready and not calibration.dependencies:
            run = CalibrationRun(replace(calibration, collections=ready), (), around)
            run.restore(rows.get(calibration.name))
            yield run


def _result(loaded: LoadedRequest, runs: Mapping[str, CalibrationRun], around: Surroundings) -> CafResult:
    """Hand over the payloads of what is completed, and sum up."""
    databases = {}
    for name, run in runs.items():
        if run.state is State.completed and run.calibration.save_payloads:
            copy_directory(around.layout.outputdb(name), around.layout.exported(name))
            databases[name] = around.layout.exported(name)
    return CafResult(
        states={name: run.state.value for name, run in runs.items()},
        databases=databases,
        errors={name: run.error for name, run in runs.items() if run.error},
        collected=collected_summary(around.layout, runs, dict(loaded.rejected)),
        seconds={phase: sum(run.seconds[phase] for run in runs.values()) for phase in ("collect", "algorithms")},
        iterations={name: run.iteration for name, run in runs.items()},
        short_of_data=frozenset(name for name, run in runs.items() if run.short_of_data),
    )
