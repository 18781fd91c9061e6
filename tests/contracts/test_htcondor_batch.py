import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from batch_contract import PATIENCE, BatchContract
from servers.htcondor import HTCondorPool

from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.jobs import Cause, JobSpec, JobState, JobStatus
from b2cal_core.ports import BatchBackend
from resources.batch.htcondor import HTCondorBatch
from resources.batch.htcondor_description import describe
from resources.batch.htcondor_states import MEMORY_SUBCODE, state_after, state_of
from resources.batch.job_directories import RECORD, write_end, write_record

ROOT = Path(__file__).parents[2]
DIES = """
import os, signal, sys
from pathlib import Path
from b2cal_core.jobs import JobSpec
from resources.batch import htcondor
note = htcondor.write_record
def die(spec, **more):
    if ("native_id" in more) == (sys.argv[1] == "after"):
        os.kill(os.getpid(), signal.SIGKILL)
    note(spec, **more)
if sys.argv[1] == "after":
    htcondor.write_record = die
else:
    htcondor.Queue.submit = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
def spec(key):
    return JobSpec(key, Path(sys.argv[2]) / key, "batch_contract_job", (sys.argv[3],), memory=500)
htcondor.HTCondorBatch().submit([spec(key) for key in sys.argv[4:]])
"""


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 2 * PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def number_of(job_id: str) -> str:
    return job_id.partition("@")[0]


class TestHTCondorBatch(BatchContract):
    @pytest.fixture(autouse=True)
    def _pool(self, htcondor: HTCondorPool) -> None:
        self.pool = htcondor

    def make(self, tmp_path: Path) -> BatchBackend:
        return HTCondorBatch()

    def waiting(self, tmp_path: Path, number: int = 1) -> list[JobSpec]:
        return [self.spec(tmp_path, wait_for=str(tmp_path / "go")) for _ in range(number)]

    def queued(self, job_ids: tuple[str, ...], *attributes: str) -> list[list[str]]:
        """What the queue has about jobs, a line for each, without asking our adapter."""
        numbers = [number_of(job_id) for job_id in job_ids]
        return [line.split("\t") for line in self.pool.run("condor_q", *numbers, "-af:tr", *attributes).splitlines()]

    def until(self, backend: BatchBackend, job_id: str, status: JobStatus) -> JobState:
        wait_until(lambda: backend.poll([job_id])[job_id].status is status)
        return backend.poll([job_id])[job_id]

    def test_one_call_makes_one_cluster_whose_jobs_say_what_they_are(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        specs = [
            replace(
                spec,
                collection="hadron events",
                memory=300 + place,
                avoid=("far.away",) * place,
                seconds=60 + place,
                priority=place - 1,
            )
            for place, spec in enumerate(self.waiting(tmp_path, 3))
        ]
        ids = backend.submit(specs)
        wanted = (
            "ClusterId",
            "ProcId",
            "B2calKey",
            "B2calCollection",
            "JobBatchName",
            "RequestMemory",
            "AllowedExecuteDuration",
            "JobPrio",
        )
        cluster = number_of(ids[0]).partition(".")[0]
        assert self.queued(ids, *wanted) == [
            [
                cluster,
                str(place),
                f'"{spec.key}"',
                *['"hadron events"'] * 2,
                str(300 + place),
                str(60 + place),
                str(place - 1),
            ]
            for place, spec in enumerate(specs)
        ]
        assert self.queued(ids, "B2calAvoid", "Iwd") == [
            [f'"{",".join(spec.avoid)}"', f'"{spec.directory}"'] for spec in specs
        ]
        assert ["B2calAvoid" in line[0] for line in self.queued(ids, "Requirements")] == [True] * 3
        backend.cancel(ids)

    def test_a_machine_that_is_avoided_gets_no_job(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        host = self.ended(backend, backend.submit([self.spec(tmp_path)]))[0].host
        ids = backend.submit([self.spec(tmp_path), replace(self.spec(tmp_path), avoid=(host,))])
        assert backend.wait(ids, PATIENCE)[ids[0]].status is JobStatus.completed
        assert backend.poll(ids)[ids[1]].status is JobStatus.submitted
        backend.cancel(ids)

    def test_a_machine_that_is_avoided_gets_the_job_after_all_when_there_is_no_other(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        host = self.ended(backend, backend.submit([self.spec(tmp_path)]))[0].host
        ids = backend.submit([replace(self.spec(tmp_path), avoid=(host,))])
        self.pool.run("condor_qedit", ids[0].partition("@")[0], "QDate", str(int(time.time()) - 3600))
        (state,) = self.ended(backend, ids)
        assert (state.status, state.host) == (JobStatus.completed, host)

    def test_lines_of_the_site_go_with_every_job(self, tmp_path: Path) -> None:
        backend = HTCondorBatch(lines={"accounting_group_user": "belle2", "requirements": "Memory > 1000000"})
        ids = backend.submit([replace(self.spec(tmp_path), avoid=("far.away",))])
        assert self.queued(ids, "AcctGroupUser") == [['"belle2"']]
        assert "Memory > 1000000" in self.queued(ids, "Requirements")[0][0]
        backend.cancel(ids)

    def test_lines_that_cannot_be_understood_are_a_mistake_of_the_site(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="lines"):
            HTCondorBatch(lines={"requirements": "Memory > 10**6"}).submit([self.spec(tmp_path)])

    @pytest.mark.parametrize("name", ["Executable", "+B2calKey", "periodic_hold"])
    def test_a_line_that_would_take_the_place_of_ours_is_refused(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match=name.replace("+", r"\+")):
            HTCondorBatch(lines={name: "x"})

    @pytest.mark.parametrize("change", [{"key": 'a"b'}, {"directory": Path("near/here")}, {"avoid": ("no host",)}])
    def test_what_cannot_be_described_is_refused_before_anything_is_handed_over(
        self, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        good = self.spec(tmp_path)
        with pytest.raises(ConfigurationError):
            self.make(tmp_path).submit([good, replace(self.spec(tmp_path), **change)])
        assert not good.directory.exists()

    def test_without_the_bindings_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "htcondor2", None)
        with pytest.raises(ConfigurationError, match="pip install"):
            HTCondorBatch()

    @pytest.mark.parametrize("named", [os.devnull, "/no/such/file"])
    def test_without_a_pool_it_says_what_to_name(self, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
        monkeypatch.setenv("CONDOR_CONFIG", named)
        with pytest.raises(ConfigurationError, match="CONDOR_CONFIG"):
            HTCondorBatch()

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_process_killed_in_the_middle_of_a_submission_leaves_nothing_that_is_run_twice(
        self, tmp_path: Path, moment: str
    ) -> None:
        specs = self.waiting(tmp_path, 2)
        arguments = [moment, str(tmp_path / "jobs"), specs[0].args[0], *(spec.key for spec in specs)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "modules")])}
        died = subprocess.run([sys.executable, "-c", DIES, *arguments], env=environment, check=False)
        assert died.returncode == -signal.SIGKILL
        assert "native_id" not in (specs[0].directory / RECORD).read_text()
        backend = self.make(tmp_path)
        ids = backend.submit([*specs, self.spec(tmp_path)])
        assert (number_of(ids[0]).partition(".")[0] == number_of(ids[2]).partition(".")[0]) == (moment == "before")
        (tmp_path / "go").touch()
        assert {state.status for state in self.ended(backend, ids)} == {JobStatus.completed}
        assert self.runs(tmp_path) == 3
        assert self.make(tmp_path).submit(specs) == ids[:2]

    def test_a_job_that_ended_before_its_submission_was_noted_is_adopted_too(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path)
        backend = self.make(tmp_path)
        ids = backend.submit([spec])
        self.ended(backend, ids)
        write_record(spec, backend="htcondor", submitted=time.time(), event_log="/nowhere")
        assert self.make(tmp_path).submit([spec]) == ids
        assert self.runs(tmp_path) == 1

    def test_a_job_that_another_batch_system_ran_to_its_end_is_not_run_again(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path)
        write_record(spec, backend="local")
        write_end(spec.directory, 3)
        backend = self.make(tmp_path)
        ids = backend.submit([spec])
        assert backend.poll(ids)[ids[0]].exit_code == 3
        assert self.make(tmp_path).poll(ids)[ids[0]].exit_code == 3
        assert self.runs(tmp_path) == 0

    def test_running_jobs_are_known_to_the_next_process(self, tmp_path: Path) -> None:
        ids = self.make(tmp_path).submit(self.waiting(tmp_path, 2))
        later = self.make(tmp_path)
        assert self.until(later, ids[0], JobStatus.running).host
        (tmp_path / "go").touch()
        assert {state.status for state in self.ended(later, ids)} == {JobStatus.completed}

    def test_a_user_hold_is_told_with_its_reason_and_a_release_lets_the_job_go_on(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit(self.waiting(tmp_path, 2))
        self.until(backend, ids[0], JobStatus.running)
        self.pool.run("condor_hold", "-reason", "the crystals are cold", number_of(ids[0]))
        state = backend.wait(ids, PATIENCE)[ids[0]]
        assert (state.status, state.cause) == (JobStatus.held, Cause.held)
        assert "the crystals are cold" in state.reason
        self.make(tmp_path).release(ids)
        (tmp_path / "go").touch()
        assert {state.status for state in self.ended(backend, ids)} == {JobStatus.completed}

    def test_a_held_job_is_cancelled_too(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit(self.waiting(tmp_path))
        self.pool.run("condor_hold", number_of(ids[0]))
        self.until(backend, ids[0], JobStatus.held)
        backend.cancel(ids)
        assert backend.poll(ids)[ids[0]].cause is Cause.cancelled
        assert self.queued(ids, "ProcId") == []

    def test_a_job_that_somebody_else_removed_is_cancelled(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit(self.waiting(tmp_path))
        self.until(backend, ids[0], JobStatus.running)
        self.pool.run("condor_rm", number_of(ids[0]))
        state = self.ended(backend, ids)[0]
        assert (state.status, state.cause) == (JobStatus.failed, Cause.cancelled)
        assert "condor_rm" in state.reason

    def test_a_missing_interpreter_is_a_job_that_could_not_be_started(self, tmp_path: Path) -> None:
        backend = HTCondorBatch(python="/no/such/python")
        ids = backend.submit([self.spec(tmp_path)])
        assert self.stopped(backend, ids)[0].cause is Cause.start
        backend.cancel(ids)

    def test_an_interpreter_that_has_not_got_our_packages_is_one_too(self, tmp_path: Path) -> None:
        backend = HTCondorBatch(python="/bin/false")
        state = self.stopped(backend, backend.submit([self.spec(tmp_path)]))[0]
        assert (state.status, state.exit_code, state.cause) == (JobStatus.failed, 1, Cause.start)

    def test_a_job_that_leaves_the_process_at_once_is_judged_by_its_code(self, tmp_path: Path) -> None:
        (tmp_path / "modules" / "leaves.py").write_text("import os\ndef main(args):\n    os._exit(int(args[0]))\n")
        backend = self.make(tmp_path)
        specs = [replace(self.spec(tmp_path), module="leaves", args=(code,)) for code in ("0", "5")]
        assert [state.exit_code for state in self.ended(backend, backend.submit(specs))] == [0, 5]
        assert [(spec.directory / "exit_code").read_text().strip() for spec in specs] == ["0", "5"]

    def test_while_the_queue_is_halted_states_are_told_all_the_same(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit(self.waiting(tmp_path, 4))
        for job_id in ids:
            self.until(backend, job_id, JobStatus.running)
        before = backend.poll(ids)
        schedd = self.pool.daemon("condor_schedd")
        schedd.suspend()  # whoever asked it now would wait
        try:
            assert backend.poll(ids) == backend.wait(ids, 0.2) == before
            assert {state.status for state in self.make(tmp_path).poll(ids).values()} == {JobStatus.running}
        finally:
            schedd.resume()
        (tmp_path / "go").touch()
        assert {state.status for state in self.ended(backend, ids)} == {JobStatus.completed}

    @pytest.fixture
    def restarted(self) -> Iterator[None]:
        """Slots whose job the next queue cannot reach stay taken for as long as its lease, twenty minutes."""
        yield
        self.pool.restart()

    def test_a_queue_that_is_killed_loses_no_job(self, restarted: None, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([*self.waiting(tmp_path, 9), self.spec(tmp_path)])  # more than there are slots
        self.until(backend, ids[0], JobStatus.running)
        self.pool.kill_schedd()
        states = {state.status for state in backend.poll(ids).values()}
        assert states <= {JobStatus.submitted, JobStatus.running, JobStatus.unknown}
        ids += self.submit_at_last(backend, self.waiting(tmp_path, 2))
        (tmp_path / "go").touch()
        assert {state.status for state in self.ended(backend, ids)} == {JobStatus.completed}
        assert self.runs(tmp_path) == 12

    def test_jobs_that_end_while_nobody_hears_it_are_not_run_again(self, restarted: None, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit(self.waiting(tmp_path, 4))
        wait_until(lambda: self.runs(tmp_path) == 4)  # some have just been started, whom the next queue cannot reach
        self.pool.kill_schedd()
        (tmp_path / "go").touch()
        assert {state.status for state in self.ended(backend, ids)} == {JobStatus.completed}
        wait_until(lambda: backend.poll(ids) and self.pool.is_answering and not self.queued(ids, "ProcId"))
        assert {state.status for state in self.make(tmp_path).poll(ids).values()} == {JobStatus.completed}
        assert self.runs(tmp_path) == 4

    def submit_at_last(self, backend: BatchBackend, specs: list[JobSpec]) -> tuple[str, ...]:
        """What a platform does whose batch system is down for some seconds."""
        end = time.monotonic() + 2 * PATIENCE
        while True:
            try:
                return backend.submit(specs)
            except BackendError as error:
                if not error.transient or time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def test_a_job_whose_machine_is_lost_is_run_again_by_the_batch_system(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit(self.waiting(tmp_path))
        wait_until(lambda: self.pids(tmp_path))
        job = psutil.Process(self.pids(tmp_path)[0])
        starter = next(one for one in job.parents() if one.name() == "condor_starter")
        starter.kill()
        wait_until(lambda: self.runs(tmp_path) == 2)
        assert backend.poll(ids)[ids[0]].status in {JobStatus.submitted, JobStatus.running}
        (tmp_path / "go").touch()
        assert self.ended(backend, ids)[0].status is JobStatus.completed

    def test_when_the_event_log_is_lost_the_queue_and_its_history_are_asked(self, tmp_path: Path) -> None:
        ids = self.make(tmp_path).submit(self.waiting(tmp_path, 3))
        later = self.make(tmp_path)
        self.until(later, ids[0], JobStatus.running)
        for log in (tmp_path / "jobs" / ".htcondor").iterdir():
            log.unlink()
        self.pool.run("condor_hold", number_of(ids[1]))
        self.pool.run("condor_rm", number_of(ids[2]))
        last = self.make(tmp_path)
        assert self.until(last, ids[1], JobStatus.held).cause is Cause.held
        assert self.until(last, ids[2], JobStatus.failed).cause is Cause.cancelled
        assert self.until(last, ids[0], JobStatus.running).host
        last.release(ids)
        (tmp_path / "go").touch()
        assert [state.status for state in self.ended(last, ids[:2])] == [JobStatus.completed] * 2

    def test_a_queue_that_cannot_be_asked_makes_its_jobs_unknown(self, tmp_path: Path) -> None:
        job_id = f"7.0@schedd@far.away|{tmp_path}"
        state = self.make(tmp_path).poll([job_id])[job_id]
        assert (state.status, state.cause) == (JobStatus.unknown, Cause.batch)

    def test_a_number_that_the_queue_never_gave_is_unknown(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        name = self.ended_id(backend, tmp_path).partition("@")[2].partition("|")[0]
        job_id = f"987654.0@{name}|{tmp_path}"
        assert backend.poll([job_id])[job_id].status is JobStatus.unknown
        backend.cancel([job_id])
        backend.release([job_id])

    def ended_id(self, backend: BatchBackend, tmp_path: Path) -> str:
        ids = backend.submit([self.spec(tmp_path)])
        self.ended(backend, ids)
        return ids[0]


@pytest.mark.parametrize(
    ("code", "subcode", "cause"),
    [
        (1, 0, Cause.held),
        (3, MEMORY_SUBCODE, Cause.memory),
        (3, 0, Cause.held),
        (6, errno.ENOENT, Cause.start),
        (7, errno.EACCES, Cause.start),
        (7, errno.ENOSPC, Cause.disk),
        (14, errno.ENOENT, Cause.start),
        (26, 0, Cause.held),
        (34, 102, Cause.memory),
        (34, 104, Cause.disk),
        (46, 0, Cause.time),
        (47, 0, Cause.time),
    ],
)
def test_the_cause_of_a_hold_is_told_by_its_code(code: int, subcode: int, cause: Cause) -> None:
    hold = {"HoldReasonCode": code, "HoldReasonSubCode": subcode, "HoldReason": "so it is"}
    told = state_of({"JobStatus": 5, **hold})
    assert (told.status, told.cause, told.reason) == (JobStatus.held, cause, "so it is")
    assert state_after({"EventTypeNumber": 12, **hold}) == told


def test_a_kill_with_more_memory_than_was_given_is_for_memory() -> None:
    end = {"EventTypeNumber": 5, "TerminatedNormally": False, "TerminatedBySignal": 9, "RequestMemory": 100}
    assert state_after({**end, "MemoryUsage": 99}).cause is Cause.killed
    killed = state_after({**end, "MemoryUsage": 101})
    assert (killed.cause, killed.signal, killed.peak_memory) == (Cause.memory, 9, 101)


def test_a_machine_that_does_not_answer_is_no_end() -> None:
    running = state_after({"EventTypeNumber": 1, "SlotName": "slot1_2@here.org"})
    assert (running.status, running.host) == (JobStatus.running, "here.org")
    silent = state_after({"EventTypeNumber": 22, "DisconnectReason": "no route"}, running)
    assert (silent.status, silent.reason) == (JobStatus.running, "no route")
    assert state_after({"EventTypeNumber": 23}, silent) == running
    assert state_after({"EventTypeNumber": 24}, silent).status is JobStatus.submitted


def test_what_decides_how_numerics_are_done_goes_with_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("SECRET_TOKEN", "hidden")
    spec = JobSpec("key", tmp_path / "job", "json")
    lines, _ = describe([spec], python="python3", log=tmp_path / "log", lease_seconds=60, lines={})
    assert "OPENBLAS_CORETYPE='Haswell'" in lines["environment"]
    assert "hidden" not in lines["environment"]
