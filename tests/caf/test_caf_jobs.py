"""Sub-jobs that fail are dealt with by their cause, and people see them and act upon them."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from caf_workbench import Notebook, Reluctant, Workbench, values

from b2cal_caf.job_book import OrderKind, Stage
from b2cal_caf.operations import CafDesk
from b2cal_core.errors import BackendError, DataError
from b2cal_core.failure_policies import CausePolicy, FailurePolicy, Resort
from b2cal_core.jobs import Cause, JobSpec
from b2cal_core.ports import CafRequest, CafResult
from resources.batch.local import LocalBatch
from resources.caf.embedded import EmbeddedCaf

RUNS = [(7, run, 10 * run) for run in (1, 2, 3)]
PATIENCE = 60.0
LEAVE_OUT = CausePolicy(attempts=1, then=Resort.exclude)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def working(bench: Workbench, request: CafRequest) -> Iterator[list[CafResult | BackendError]]:
    """The request is worked on meanwhile; afterwards the list holds how it ended."""
    ended: list[CafResult | BackendError] = []

    def work() -> None:
        try:
            ended.append(bench.run(request))
        except BackendError as error:
            ended.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield ended
    finally:
        (bench.place / "go").touch()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def desk_of(bench: Workbench, request: CafRequest) -> CafDesk:
    until((request.directory / "calibration_results" / "caf_state.db").exists)
    return CafDesk(request.directory)


class TestCauses:
    def test_a_sub_job_that_ran_out_of_memory_gets_more(self, bench: Workbench) -> None:
        request = bench.request(
            bench.files(RUNS), collector={"hungry": ["e7r2.root"]}, args={"request_memory": "500 MB"}
        )
        assert bench.run(request).ok
        (job,) = CafDesk(request.directory).jobs(["first/0/default/1"])
        assert (job.stage, job.attempt, job.troubles) == (Stage.completed, 1, {Cause.memory: 1})
        assert job.trial.memory == 1000
        assert sorted(bench.done()) == ["e7r1.root", "e7r2.root", "e7r2.root", "e7r3.root"]

    def test_one_that_needs_more_than_there_may_be_fails_with_what_to_do(self, bench: Workbench) -> None:
        request = bench.request(
            bench.files(RUNS[:2]),
            collector={"hungry": ["e7r2.root"]},
            args={"request_memory": "300 MB"},
            policy=FailurePolicy(memory_limit=400),
        )
        message = bench.run(request).errors["first"]
        assert "tried 2 times" in message
        assert "it was given 400 MB" in message
        assert "b2cal caf retry" in message

    def test_one_that_takes_too_long_gets_longer(self, bench: Workbench) -> None:
        policy = FailurePolicy(causes={Cause.time: CausePolicy(attempts=1, grow=20.0)})
        request = bench.request(
            bench.files(RUNS), collector={"sleepy": ["e7r2.root"]}, args={"request_seconds": 1}, policy=policy
        )
        assert bench.run(request).ok
        (job,) = CafDesk(request.directory).jobs(["first/0/default/1"])
        assert (job.trial.seconds, job.troubles) == (20, {Cause.time: 1})

    def test_an_unreadable_file_is_left_out_within_the_tolerance_and_the_rest_goes_on(self, bench: Workbench) -> None:
        policy = FailurePolicy(causes={Cause.input: LEAVE_OUT}, tolerance=0.4)
        request = bench.request(
            bench.files(RUNS), collector={"breaks": ["e7r2.root"]}, max_files_per_job=2, policy=policy
        )
        result = bench.run(request)
        assert result.ok
        assert values(result.databases["first"], "Mean", "events") == {(7, 1, 7, 3): 40.0}
        (reason,) = result.collected.rejected.values()
        assert "truncated" in reason
        assert result.collected.files == 2
        assert [Path(file).name for file in CafDesk(request.directory).exclusions()] == ["e7r2.root"]

    def test_an_unreadable_file_beyond_the_tolerance_is_a_question(self, bench: Workbench) -> None:
        policy = FailurePolicy(causes={Cause.input: LEAVE_OUT}, tolerance=0.2)
        request = bench.request(bench.files(RUNS), collector={"breaks": ["e7r2.root"]}, policy=policy)
        result = bench.run(request)
        message = result.errors["first"]
        assert "e7r2.root cannot be read" in message
        assert "b2cal caf exclude" in message
        assert not CafDesk(request.directory).exclusions()

    def test_a_file_that_the_collector_cannot_digest_is_no_unreadable_file(self, bench: Workbench) -> None:
        request = bench.request(
            bench.files(RUNS), collector={"raises": ["e7r2.root"]}, policy=FailurePolicy(tolerance=1.0)
        )
        assert "ValueError" in bench.run(request).errors["first"]
        assert [row.cause for row in CafDesk(request.directory).jobs(stages=[Stage.failed])] == [Cause.code]

    def test_a_pause_is_kept_before_a_sub_job_is_tried_again(self, bench: Workbench) -> None:
        policy = FailurePolicy(causes={Cause.killed: CausePolicy(attempts=1, pause=0.3)})
        request = bench.request(bench.files(RUNS), collector={"kills_once": ["e7r2.root"]}, policy=policy)
        assert bench.run(request).ok

    def test_what_was_tried_does_not_count_when_a_person_asks_again(self, bench: Workbench) -> None:
        policy = FailurePolicy(causes={Cause.killed: CausePolicy(attempts=1)})
        request = bench.request(bench.files(RUNS), collector={"kills": ["e7r2.root"]}, policy=policy)
        for times in (2, 4):
            assert "killed by signal 9" in bench.run(request).errors["first"]
            assert bench.done().count("e7r2.root") == times


class TestPeople:
    def test_they_see_sub_jobs_with_stage_cause_and_log(self, bench: Workbench) -> None:
        request = bench.request(bench.files(RUNS), collector={"kills_once": ["e7r2.root"], "raises": ["e7r3.root"]})
        bench.run(request)
        desk = CafDesk(request.directory)
        assert desk.attended_by is None
        assert desk.counts() == {("first", 0, "default"): {Stage.completed: 2, Stage.failed: 1}}
        (failed,) = desk.jobs(stages=[Stage.failed])
        assert (failed.name, failed.cause, failed.files) == ("first/0/default/2", Cause.code, 1)
        assert "cannot digest e7r3.root" in failed.reason
        assert "cannot digest e7r3.root" in desk.log(failed.name).stderr
        assert "e7r2.root" in desk.log("first/0/default/1").stdout
        assert desk.log("first/0/default/1", attempt=0).stdout == ""
        for name, attempt in (("first/0/default/9", None), ("first/0/default/1", 7)):
            with pytest.raises(DataError, match="has no"):
                desk.log(name, attempt)

    def test_files_left_out_by_a_person_are_left_out_and_the_rest_is_not_collected_again(
        self, bench: Workbench
    ) -> None:
        files = bench.files(RUNS)
        request = bench.request(files, collector={"raises": ["e7r2.root"]})
        assert not bench.run(request).ok
        CafDesk(request.directory).exclude([str(files[1][0])], "bad shift", "anna")
        result = bench.run(request)
        assert result.ok
        assert result.collected.rejected == {str(files[1][0]): "left out by anna: bad shift"}
        assert sorted(bench.done()) == ["e7r1.root", "e7r2.root", "e7r3.root"]

    def test_while_it_runs_files_are_left_out_and_sub_jobs_tried_again_or_ended(self, bench: Workbench) -> None:
        files = bench.files([(7, run, 10 * run) for run in range(1, 6)])
        request = bench.request(files, collector={"raises": ["e7r5.root"], "waits_for": str(bench.place / "go")})
        with working(bench, request) as ended:
            desk = desk_of(bench, request)
            until(lambda: bool(desk.jobs(stages=[Stage.failed])) and desk.attended_by is not None)
            (running, *_) = desk.jobs(stages=[Stage.running])
            desk.retry(["first/0/default/4"], "anna")
            until(lambda: desk.jobs(["first/0/default/4"])[0].attempt == 1)  # the others have all places
            desk.exclude([str(files[0][0]), str(files[4][0])], "bad shift", "anna")
            desk.cancel([running.name], "bert")
            until(lambda: desk.jobs([running.name])[0].cause is Cause.cancelled)
        (result,) = ended
        assert isinstance(result, CafResult)
        assert "cancelled by bert" in result.errors["first"]
        assert sorted(result.collected.rejected) == [str(files[0][0]), str(files[4][0])]
        assert "e7r1.root" not in bench.done()

    def test_work_on_a_request_is_cancelled_and_resumed(self, bench: Workbench) -> None:
        request = bench.request(bench.files(RUNS), collector={"waits_for": str(bench.place / "go")})
        with working(bench, request) as ended:
            desk = desk_of(bench, request)
            until(lambda: len(desk.jobs(stages=[Stage.running])) == 2)
            desk.cancel([], "anna")
            until(lambda: bool(ended))
        (error,) = ended
        assert isinstance(error, BackendError)
        assert "cancelled by anna" in str(error)
        assert desk.attended_by is None
        assert bench.run(request).ok

    def test_orders_for_a_request_that_nobody_works_on_are_obeyed_by_the_next_that_does(self, bench: Workbench) -> None:
        request = bench.request(bench.files(RUNS), collector={"raises": ["e7r2.root"]})
        bench.run(request)
        desk = CafDesk(request.directory)
        assert [row.name for row in desk.retry([], "anna")] == ["first/0/default/1"]
        assert desk.cancel([], "anna", LocalBatch(1)) == []
        heard = Notebook()
        assert not bench.run(request, heard).ok
        assert any(f"{OrderKind.retry} ordered by anna" in line for line in heard.logs)

    def test_a_name_that_means_nothing_is_refused(self, bench: Workbench) -> None:
        request = bench.request(bench.files(RUNS))
        bench.run(request)
        desk = CafDesk(request.directory)
        with pytest.raises(DataError, match="second names no sub-job that is known"):
            desk.retry(["second"], "anna")
        with pytest.raises(DataError, match="first names no sub-job that is held"):
            desk.release(["first"], "anna")
        with pytest.raises(DataError, match="is it the working directory"):
            CafDesk(bench.place / "elsewhere")


class Overheard(LocalBatch):
    """Remembers what it was asked for, in the order in which it was asked."""

    def __init__(self) -> None:
        super().__init__(2)
        self.specs: list[JobSpec] = []

    def submit(self, specs: Sequence[JobSpec]) -> tuple[str, ...]:
        self.specs += specs
        return super().submit(specs)


class TestBatchSystem:
    def test_jobs_are_the_more_urgent_the_more_passes_can_only_follow_them(self, bench: Workbench) -> None:
        batch = Overheard()
        calibrations = [
            {"name": "first"},
            {"name": "turns", "depends_on": ["first"], "max_iterations": 1, "does": "iterate"},
            {"name": "last", "depends_on": ["turns"]},
            {"name": "aside"},
        ]
        for number, options in enumerate(calibrations, start=1):
            options["collector"] = {"scale": float(number)}  # else one would find in the cache what another collected
        collector = {"class": "CounterWithMean"}
        caf = EmbeddedCaf(batch, None, bench.place / "cache")
        asked = bench.request(bench.files(RUNS[:1]), calibrations=calibrations, collector=collector)
        assert caf.run(replace(asked, priority=500), Notebook()).ok
        found = {(spec.collection, spec.priority) for spec in batch.specs}
        assert {(name.replace("_default_Iteration_", " "), priority) for name, priority in found} == {
            ("first 0", 503),
            ("turns 0", 502),
            ("turns 1", 501),
            ("last 0", 500),
            ("aside 0", 500),
        }

    def test_of_one_collection_the_largest_sub_job_is_submitted_first(self, bench: Workbench) -> None:
        batch = Overheard()
        caf = EmbeddedCaf(batch, None, bench.place / "cache")
        runs = [(7, 1, 20), (7, 2, 50), (7, 3, 5)]
        assert caf.run(bench.request(bench.files(runs), max_files_per_job=1), Notebook()).ok
        assert [spec.directory.name for spec in batch.specs] == ["1", "0", "2"]

    def test_one_that_takes_no_jobs_is_asked_again_and_people_are_told(self, bench: Workbench) -> None:
        policy = FailurePolicy(causes={Cause.batch: CausePolicy(attempts=3, pause=0.05)})
        heard = Notebook()
        caf = EmbeddedCaf(Reluctant(3), None, bench.place / "cache")
        assert caf.run(bench.request(bench.files(RUNS), policy=policy), heard).ok
        told = [line for line in heard.logs if "takes no jobs now" in line]
        assert ["in 0.05 s" in told[0], "in 0.1 s" in told[1], "in 0.2 s" in told[2]] == [True] * 3

    @pytest.mark.parametrize(("refusals", "transient"), [(4, True), (1, False)])
    def test_one_that_never_will_is_a_failure_of_the_platform(
        self, bench: Workbench, refusals: int, *, transient: bool
    ) -> None:
        policy = FailurePolicy(causes={Cause.batch: CausePolicy(attempts=3)})
        caf = EmbeddedCaf(Reluctant(refusals, transient=transient), None, bench.place / "cache")
        with pytest.raises(BackendError, match="the queue is being restarted"):
            caf.run(bench.request(bench.files(RUNS), policy=policy), Notebook())
