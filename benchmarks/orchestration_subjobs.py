"""What a sub-job that does nothing costs: in the whole embedded CAF, at the batch system alone, and with its peers."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

from figures import Times
from orchestration_apart import Taken, apart
from orchestration_condor import condor_pool
from orchestration_inputs import REQUEST, batch_system, files, lay_out, run_caf
from orchestration_report import Line
from orchestration_scratch import scratch

from b2cal_caf.calibration import DummyCollector
from b2cal_caf.checkpoints import caf_status, state_file
from b2cal_caf.collecting import JOBS_IN_FLIGHT
from b2cal_caf.job_book import JobBook
from b2cal_core.errors import DataError
from b2cal_core.jobs import JobSpec, JobStatus
from b2cal_core.ports import BatchBackend

CAF, BATCH = "whole embedded CAF", "local batch system alone"
CAF_ON_CONDOR, CONDOR, BARE = "whole CAF on HTCondor", "HTCondor through the adapter", "condor_submit, one cluster"
LOOP, POOL = "sub-process for each", "ProcessPoolExecutor"
LUIGI, LUIGI_INSIDE = "luigi, forking", "luigi in one process"
COUNT = "count the events of a file"
_SLOW_FROM = 2000
"""From so many jobs on, a peer that takes 5 ms and more for each, or ever more, is not asked again."""
_REPEATED_BELOW = 5000
_COUNTED = 500
_PATIENCE_SECONDS = 60.0
_MILLI = 1000
_IDLE_JOB, _MEMORY = "orchestration_idle_job", 500

_Calls = dict[str, Callable[[Path], Taken]]
"""What is measured, by name, each from the directory it may use."""


def sub_jobs(jobs: int, places: int, repeats: int) -> Iterator[Line]:
    """Lines about so many sub-jobs on this machine, so many of them at a time; short ones are repeated in turn."""
    bulk = {"jobs": jobs, "places": places}
    peers: _Calls = {POOL: lambda _: apart("peers_bulk", "process_pool", **bulk)}
    if jobs < _SLOW_FROM:
        peers[LOOP] = lambda _: apart("peers_bulk", "sub_processes", **bulk)
        peers[LUIGI] = lambda root: apart("peers_luigi", "tasks", directory=str(root), **bulk)
        peers[LUIGI_INSIDE] = lambda root: apart("peers_luigi", "tasks", directory=str(root), jobs=jobs, places=1)
    watch = _Watch()
    ours: _Calls = {
        CAF: lambda root: _by_caf(root, watch, batch="local", **bulk),
        BATCH: lambda root: _by_batch(root, batch="local", **bulk),
    }
    return _lines(jobs, repeats if jobs < _REPEATED_BELOW else 1, ours, peers, watch)


def condor_sub_jobs(jobs: int) -> Iterator[Line]:
    """Lines about so many sub-jobs on an HTCondor pool of the benchmark's own."""
    watch = _Watch()
    with condor_pool() as slots:
        asked = {"batch": "htcondor", "jobs": jobs, "places": slots}
        ours: _Calls = {
            CAF_ON_CONDOR: lambda root: _by_caf(root, watch, **asked),
            CONDOR: lambda root: _by_batch(root, **asked),
        }
        peers: _Calls = {BARE: lambda root: apart("orchestration_condor", "cluster", directory=str(root), jobs=jobs)}
        yield from _lines(jobs, 1, ours, peers, watch)


def counting() -> Line:
    """How long it takes to see how many events an input file holds, which is done once for each."""
    with scratch() as root:
        lay_out(root, {"counted": [0] * _COUNTED})
        seconds = []
        for file in files(root):
            before = time.perf_counter()
            assert DummyCollector().count(file) == 1
            seconds.append(time.perf_counter() - before)
    return Line(COUNT, _COUNTED, 1, {"ms each": median(seconds) * _MILLI}, {})


def nothing_by_caf(directory: str, batch: str, jobs: int, places: int) -> None:
    """One calibration whose collection has so many one-file sub-jobs (what is measured; called in its own process)."""
    result = run_caf(Path(directory), batch_system(batch, places), [{"name": "idle"}])
    assert result.collected.jobs == jobs


def nothing_by_batch(directory: str, batch: str, jobs: int, places: int) -> None:
    """Jobs that do nothing through submit and wait alone, as many in the queue as the CAF has (called likewise)."""
    submit_and_wait(batch_system(batch, places), idle_specs(Path(directory), jobs))


def idle_specs(directory: Path, jobs: int) -> Iterator[JobSpec]:
    """Jobs that do nothing, each with a directory of its own."""
    environment = (("PYTHONPATH", str(Path(__file__).parent)),)
    for number in range(jobs):
        place = directory / str(number)
        key = hashlib.sha256(str(place).encode()).hexdigest()[:32]
        yield JobSpec(key, place, _IDLE_JOB, memory=_MEMORY, environment=environment)


def submit_and_wait(batch: BatchBackend, specs: Iterator[JobSpec]) -> None:
    """Run the jobs to their end, submitting in portions as the CAF does."""
    flying: list[str] = []
    portion = JOBS_IN_FLIGHT // 10
    more = True
    while flying or more:
        while more and len(flying) + portion <= JOBS_IN_FLIGHT:
            together = list(islice(specs, portion))
            more = bool(together)
            flying += batch.submit(together) if together else ()
        states = batch.wait(flying, _PATIENCE_SECONDS)
        for job_id, state in states.items():
            assert state.status not in {JobStatus.failed, JobStatus.held}, f"{job_id} {state}"
        flying = [job_id for job_id in flying if states[job_id].status is not JobStatus.completed]


def _lines(jobs: int, repeats: int, ours: _Calls, peers: _Calls, watch: "_Watch") -> Iterator[Line]:
    taken: dict[str, list[Taken]] = {}
    for _ in range(repeats):
        for what, call in {**ours, **peers}.items():
            with scratch() as root:
                taken.setdefault(what, []).append(call(root))
    least = {name: _each(taken[name], jobs) for name in peers}
    for what, runs in taken.items():
        bounds = {name: _each(runs, jobs) / each for name, each in least.items()} if what in ours else {}
        more = watch.figures() if what in {CAF, CAF_ON_CONDOR} else {}
        yield Line(what, jobs, repeats, {**_figures(runs, jobs), **more}, bounds)


def _by_caf(root: Path, watch: "_Watch", **asked: object) -> Taken:
    lay_out(root, {"idle": [0] * int(str(asked["jobs"]))})
    look = partial(watch.look, root / REQUEST)
    return apart("orchestration_subjobs", "nothing_by_caf", meanwhile=look, directory=str(root), **asked)


def _by_batch(root: Path, **asked: object) -> Taken:
    return apart("orchestration_subjobs", "nothing_by_batch", directory=str(root), **asked)


def _each(runs: Sequence[Taken], jobs: int) -> float:
    return median(run.seconds for run in runs) / jobs


def _figures(runs: Sequence[Taken], jobs: int) -> dict[str, float]:
    return {
        "ms each": _each(runs, jobs) * _MILLI,
        "own CPU ms": median(run.own_cpu for run in runs) / jobs * _MILLI,
        "jobs' CPU ms": median(run.jobs_cpu for run in runs) / jobs * _MILLI,
        "peak MB": median(run.peak for run in runs),
        "grown MB": median(run.peak - run.memory for run in runs),
    }


@dataclass(slots=True)
class _Watch:
    """Somebody who looks again and again where a request and its sub-jobs stand, while it runs."""

    seconds: list[float] = field(default_factory=list)

    def look(self, request: Path) -> None:
        """Ask for what a status page shows."""
        before = time.perf_counter()
        with suppress(DataError):  # it has not begun
            book = JobBook(state_file(request))
            assert caf_status(request) is not None
            assert book.counts() is not None
            self.seconds.append(time.perf_counter() - before)

    def figures(self) -> dict[str, float]:
        """How long the answers took."""
        times = Times(tuple(self.seconds), sum(self.seconds))
        return {"status p50 ms": times.median * _MILLI, "status max ms": max(self.seconds) * _MILLI}
