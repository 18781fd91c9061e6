"""What every batch system must do; a test class of an adapter or a fake inherits it and makes the backend."""

import json
import os
import sys
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from b2cal_core.errors import CalibrationError
from b2cal_core.jobs import Cause, JobSpec, JobState, JobStatus
from b2cal_core.ports import BatchBackend

MODULE = "batch_contract_job"
JOB = """
import json, os, signal, sys, time
from pathlib import Path

def main(args):
    plan = json.loads(args[0])
    with open(plan["diary"], "a") as diary:
        diary.write(f"{os.getpid()}\\\\n")
    print("to stdout", flush=True)
    print("to stderr", file=sys.stderr, flush=True)
    if "allocate" in plan:
        kept = bytearray(plan["allocate"] * 2**20)
        kept[::4096] = b"x" * len(kept[::4096])
    if "wait_for" in plan:
        while not Path(plan["wait_for"]).exists():
            time.sleep(0.005)
    if "signal" in plan:
        os.kill(os.getpid(), plan["signal"])
    if "raise" in plan:
        raise ValueError(plan["raise"])
    return plan.get("code", 0)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
""".replace("\\\\n", "\\n")
PATIENCE = 60.0


class BatchContract(ABC):
    """Inherit, and say how the backend is made."""

    @abstractmethod
    def make(self, tmp_path: Path) -> BatchBackend:
        """A backend as after a start of the process; called again it is the same batch system."""

    @pytest.fixture(autouse=True)
    def _job_module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        (tmp_path / "modules").mkdir()
        (tmp_path / "modules" / f"{MODULE}.py").write_text(JOB)
        monkeypatch.syspath_prepend(tmp_path / "modules")
        yield
        (tmp_path / "go").touch()
        sys.modules.pop(MODULE, None)

    def spec(self, tmp_path: Path, **plan: object) -> JobSpec:
        key = uuid.uuid4().hex
        arguments = json.dumps({"diary": str(tmp_path / "diary"), **plan})
        path = ("PYTHONPATH", os.pathsep.join([str(tmp_path / "modules"), *filter(None, sys.path)]))
        return JobSpec(key, tmp_path / "jobs" / key, MODULE, (arguments,), memory=500, environment=(path,))

    def ended(self, backend: BatchBackend, ids: Sequence[str]) -> list[JobState]:
        states = dict(backend.poll(ids))
        while waiting := [i for i, state in states.items() if not state.status.is_final]:
            states.update(backend.wait(waiting, PATIENCE))
        return [states[job_id] for job_id in ids]

    def stopped(self, backend: BatchBackend, ids: Sequence[str]) -> list[JobState]:
        """The states of jobs that have ended or are held, which is what a batch system may do at a limit."""
        over = {JobStatus.completed, JobStatus.failed, JobStatus.held}
        states = dict(backend.poll(ids))
        while waiting := [i for i, state in states.items() if state.status not in over]:
            states.update(backend.wait(waiting, PATIENCE))
        return [states[job_id] for job_id in ids]

    def runs(self, tmp_path: Path) -> int:
        diary = tmp_path / "diary"
        return len(diary.read_text().splitlines()) if diary.exists() else 0

    def test_many_jobs_are_handed_over_in_one_call_and_end_well(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([self.spec(tmp_path) for _ in range(7)])
        assert len(set(ids)) == 7
        assert {s.status for s in self.ended(backend, ids)} == {JobStatus.completed}
        assert self.runs(tmp_path) == 7

    def test_a_job_leaves_its_exit_code_and_its_output(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        spec = self.spec(tmp_path, code=3)
        state = self.ended(backend, backend.submit([spec]))[0]
        assert (state.status, state.exit_code) == (JobStatus.failed, 3)
        assert (spec.directory / "exit_code").read_text().strip() == "3"
        assert "to stdout" in (spec.directory / "stdout").read_text()
        assert "to stderr" in (spec.directory / "stderr").read_text()

    def test_an_exception_is_a_failure_with_its_traceback_in_stderr(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        spec = self.spec(tmp_path, **{"raise": "no such crystal"})
        state = self.ended(backend, backend.submit([spec]))[0]
        assert (state.status, state.exit_code) == (JobStatus.failed, 1)
        assert "ValueError: no such crystal" in (spec.directory / "stderr").read_text()

    def test_a_job_killed_by_a_signal_says_by_which(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        state = self.ended(backend, backend.submit([self.spec(tmp_path, signal=9)]))[0]
        assert (state.status, state.signal, state.cause) == (JobStatus.failed, 9, Cause.killed)
        assert state.reason

    def test_the_cause_is_told_by_the_exit_code(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([self.spec(tmp_path, code=code) for code in (1, 66, 71, 74)])
        causes = [state.cause for state in self.ended(backend, ids)]
        assert causes == [Cause.code, Cause.input, Cause.memory, Cause.disk]

    def test_a_job_that_takes_more_memory_than_it_was_given_is_ended_and_says_so(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        greedy = self.spec(tmp_path, allocate=900, wait_for=str(tmp_path / "go"))
        ids = backend.submit([greedy, self.spec(tmp_path, allocate=20)])
        too_much, enough = self.stopped(backend, ids)
        assert too_much.cause is Cause.memory
        assert too_much.reason
        assert enough.status is JobStatus.completed
        backend.cancel(ids)
        self.assert_gone(tmp_path)

    def test_a_job_that_takes_longer_than_it_was_given_is_ended_and_says_so(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([replace(self.spec(tmp_path, wait_for=str(tmp_path / "go")), seconds=1)])
        state = self.stopped(backend, ids)[0]
        assert state.cause is Cause.time
        assert state.reason
        backend.cancel(ids)
        self.assert_gone(tmp_path)

    def test_the_machine_a_job_ran_on_is_told(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        assert self.ended(backend, backend.submit([self.spec(tmp_path)]))[0].host

    def test_nothing_happens_when_jobs_that_are_not_held_are_released(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([self.spec(tmp_path, wait_for=str(tmp_path / "go"))])
        backend.release([*ids, "unknown-id"])
        (tmp_path / "go").touch()
        assert self.ended(backend, ids)[0].status is JobStatus.completed
        backend.release(ids)
        assert self.runs(tmp_path) == 1

    def test_a_key_asked_for_twice_is_run_once(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        spec = self.spec(tmp_path)
        first = backend.submit([spec, spec])
        self.ended(backend, first)
        again = backend.submit([spec])
        assert {*first, *again} == {first[0]}
        assert self.ended(backend, again)[0].status is JobStatus.completed
        assert self.runs(tmp_path) == 1

    def test_a_job_it_never_saw_is_unknown_not_failed(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        assert backend.poll(["some-id"])["some-id"].status is JobStatus.unknown
        assert backend.wait(["some-id"], 0.0)["some-id"].status is JobStatus.unknown

    def test_waiting_for_nothing_and_polling_nothing_answer_nothing(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        assert backend.submit([]) == ()
        assert dict(backend.poll([])) == {}
        assert dict(backend.wait([], PATIENCE)) == {}

    def test_an_ended_job_is_known_to_the_next_process_and_not_run_again(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path)
        backend = self.make(tmp_path)
        ids = backend.submit([spec])
        self.ended(backend, ids)
        later = self.make(tmp_path)
        assert later.poll(ids)[ids[0]].status is JobStatus.completed
        assert later.submit([spec]) == ids
        assert self.runs(tmp_path) == 1

    def test_waiting_ends_when_the_time_is_over(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([self.spec(tmp_path, wait_for=str(tmp_path / "go"))])
        assert backend.wait(ids, 0.01)[ids[0]].status in {JobStatus.submitted, JobStatus.running}
        (tmp_path / "go").touch()
        assert self.ended(backend, ids)[0].status is JobStatus.completed

    def test_waiting_returns_when_one_of_several_ended(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        slow, quick = backend.submit([self.spec(tmp_path, wait_for=str(tmp_path / "go")), self.spec(tmp_path)])
        states = backend.wait([slow, quick], PATIENCE)
        assert states[quick].status is JobStatus.completed
        assert not states[slow].status.is_final
        (tmp_path / "go").touch()
        self.ended(backend, [slow])

    def test_cancelled_jobs_no_longer_run_when_the_call_returns(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([self.spec(tmp_path, wait_for=str(tmp_path / "go")) for _ in range(4)])
        backend.wait(ids, 0.01)
        backend.cancel([*ids, "unknown-id"])
        states = backend.poll(ids).values()
        assert {(state.status, state.cause) for state in states} == {(JobStatus.failed, Cause.cancelled)}
        self.assert_gone(tmp_path)
        backend.cancel(ids)

    def assert_gone(self, tmp_path: Path) -> None:
        for pid in self.pids(tmp_path):
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    def pids(self, tmp_path: Path) -> list[int]:
        diary = tmp_path / "diary"
        return [int(line) for line in diary.read_text().splitlines()] if diary.exists() else []

    def test_a_job_that_cannot_be_handed_over_is_refused(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        (tmp_path / "jobs").write_text("a file where a directory should be")
        with pytest.raises(CalibrationError):
            backend.submit([self.spec(tmp_path)])
