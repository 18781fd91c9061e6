import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from batch_contract import PATIENCE, BatchContract
from servers.slurm import MAX_ARRAY_SIZE, SlurmCluster

from b2cal_core.errors import BackendError, ConfigurationError
from b2cal_core.jobs import Cause, JobSpec, JobState, JobStatus
from resources.batch.job_directories import read_record, write_record
from resources.batch.slurm import SlurmBatch
from resources.batch.slurm_arrays import Place, arrays, noted_end, ranges
from resources.batch.slurm_queue import Element
from resources.batch.slurm_verdicts import live_state, why_it_ended

PF_EXITING = 4
"""Flag of a process, in its ``/proc/…/stat``, that is on its way out."""
SUBMITTER = """
import sys
from pathlib import Path
from b2cal_core.jobs import JobSpec
from resources.batch.slurm import SlurmBatch
key, directory, module, arguments, path = sys.argv[1:]
environment = (("PYTHONPATH", path),)
SlurmBatch().submit([JobSpec(key, Path(directory), module, (arguments,), memory=500, environment=environment)])
"""


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "nothing came of it"
        time.sleep(0.02)


def is_leaving(pid: int) -> bool:
    """Whether the process no longer works but is not yet gone: exiting, killed, or with its good end written down.

    Slurm's proctrack/linuxproc, which needs no rights, does not wait for what a killed script leaves behind.
    """
    place = Path(f"/proc/{pid}")
    try:
        flags = int((place / "stat").read_text().rpartition(")")[2].split()[6])
        lines = [line.split() for line in (place / "status").read_text().splitlines()]
        pending = [int(line[1], 16) for line in lines if line[0] in {"SigPnd:", "ShdPnd:"}]
        killed = any(mask & 1 << signal.SIGKILL - 1 for mask in pending)
        return bool(flags & PF_EXITING) or killed or ((place / "cwd").readlink() / "exit_code").read_text() == "0\n"
    except (FileNotFoundError, ProcessLookupError):
        return False


class TestSlurmBatch(BatchContract):
    @pytest.fixture(autouse=True)
    def _cluster(self, slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        self.cluster = slurm
        for name, value in slurm.environment.items():
            monkeypatch.setenv(name, value)
        yield
        slurm.run("scancel", "--me")

    def make(self, tmp_path: Path) -> SlurmBatch:
        return SlurmBatch(poll_seconds=0.2)

    def waiting(self, tmp_path: Path) -> JobSpec:
        return self.spec(tmp_path, wait_for=str(tmp_path / "go"))

    def let_go(self, tmp_path: Path) -> None:
        (tmp_path / "go").touch()

    def reached(self, backend: SlurmBatch, ids: tuple[str, ...], *wanted: JobStatus) -> list[JobState]:
        """The states of the jobs when all of them are among the wanted ones."""
        until(lambda: {state.status for state in backend.poll(ids).values()} <= set(wanted))
        return list(backend.poll(ids).values())

    def begun(self, tmp_path: Path, number: int) -> None:
        until(lambda: self.runs(tmp_path) == number)

    def in_slurm(self, job_id: str) -> str:
        return job_id.partition("|")[0]

    def assert_gone(self, tmp_path: Path) -> None:
        until(lambda: not any(map(is_leaving, self.pids(tmp_path))))
        super().assert_gone(tmp_path)

    def test_how_much_memory_a_job_had_is_told(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        small, large = self.ended(backend, backend.submit([self.spec(tmp_path), self.spec(tmp_path, allocate=200)]))
        assert 0 < (small.peak_memory or 0) < 200 <= (large.peak_memory or 0) < 400

    def test_less_urgent_jobs_are_nicer_to_others(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        specs = [replace(self.waiting(tmp_path), priority=priority) for priority in (-100, 7, 250)]
        ids = backend.submit(specs)
        arrays_ = [self.in_slurm(job_id).split("_")[0] for job_id in ids]
        said = [self.cluster.run("squeue", "--noheader", "--jobs", array, "--format", "%y") for array in arrays_]
        assert [int(nice) for nice in said] == [200, 93, 0]
        self.let_go(tmp_path)
        assert {state.status for state in self.ended(backend, ids)} == {JobStatus.completed}

    def test_jobs_that_ask_for_the_same_are_one_array(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        specs = [self.waiting(tmp_path) for _ in range(3)]
        ids = backend.submit([*specs, replace(self.waiting(tmp_path), memory=600), self.waiting(tmp_path)])
        numbers = [self.in_slurm(job_id).split("_")[0] for job_id in ids]
        assert len({*numbers[:3], numbers[4]}) == 1
        assert numbers[3] != numbers[0]
        self.let_go(tmp_path)
        assert {state.status for state in self.ended(backend, ids)} == {JobStatus.completed}

    def test_many_jobs_take_as_few_arrays_as_the_site_allows(self, tmp_path: Path) -> None:
        backend = SlurmBatch(poll_seconds=0.2, options=["--hold"])
        ids = backend.submit([self.spec(tmp_path) for _ in range(MAX_ARRAY_SIZE + 1)])
        assert len({self.in_slurm(job_id).split("_")[0] for job_id in ids}) == 2
        assert {state.status for state in backend.poll(ids).values()} == {JobStatus.held}
        backend.cancel(ids)
        assert {state.cause for state in backend.poll(ids).values()} == {Cause.cancelled}
        assert self.runs(tmp_path) == 0

    def test_a_running_job_is_known_to_the_next_process(self, tmp_path: Path) -> None:
        ids = self.make(tmp_path).submit([self.waiting(tmp_path)])
        self.begun(tmp_path, 1)
        later = SlurmBatch(poll_seconds=600)
        state = later.poll(ids)[ids[0]]
        assert (state.status, state.host) in {(JobStatus.running, "n1"), (JobStatus.running, "n2")}
        self.let_go(tmp_path)
        assert later.wait(ids, PATIENCE)[ids[0]].status is JobStatus.completed  # told by its file, not by Slurm

    def test_the_name_of_the_collection_is_shown_in_slurm(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([replace(self.waiting(tmp_path), collection="ECL edges")])
        assert "ECL edges" in self.cluster.run("squeue", "-h", "-o", "%j")
        backend.cancel(ids)

    def test_a_job_that_somebody_holds_is_held_and_goes_on_when_it_is_released(self, tmp_path: Path) -> None:
        backend = SlurmBatch(poll_seconds=0.2, options=["--begin=now+1hour"])
        ids = backend.submit([self.waiting(tmp_path), self.waiting(tmp_path)])
        self.cluster.run("scontrol", "uhold", self.in_slurm(ids[0]))
        state = backend.wait(ids, PATIENCE)[ids[0]]
        assert (state.status, state.cause) == (JobStatus.held, Cause.held)
        assert backend.poll(ids)[ids[1]].status is JobStatus.submitted
        backend.release(ids)
        assert backend.poll(ids)[ids[0]].status is JobStatus.submitted
        self.let_go(tmp_path)
        self.cluster.run("scontrol", "update", f"JobId={self.in_slurm(ids[0])}", "StartTime=now")
        assert self.ended(backend, ids[:1])[0].status is JobStatus.completed
        backend.cancel(ids)

    def test_jobs_that_somebody_else_cancels_say_so(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        running = backend.submit([self.waiting(tmp_path)])
        self.begun(tmp_path, 1)
        delayed = SlurmBatch(poll_seconds=0.2, options=["--begin=now+1hour"]).submit([self.waiting(tmp_path)])
        ids = (*running, *delayed)
        self.cluster.run("scancel", *map(self.in_slurm, ids))
        states = self.reached(backend, ids, JobStatus.failed)
        assert {state.cause for state in states} == {Cause.cancelled}
        assert {state.cause for state in self.make(tmp_path).poll(ids).values()} == {Cause.cancelled}
        self.assert_gone(tmp_path)

    @pytest.mark.parametrize(("avoid", "host"), [("n1", "n2"), ("n2", "n1")])
    def test_a_machine_to_be_avoided_is_not_used(self, tmp_path: Path, avoid: str, host: str) -> None:
        backend = self.make(tmp_path)
        specs = [replace(self.spec(tmp_path), avoid=(avoid, "scrapped-long-ago")) for _ in range(3)]
        assert {state.host for state in self.ended(backend, backend.submit(specs))} == {host}

    def test_a_job_that_is_to_avoid_every_machine_runs_nevertheless(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([replace(self.spec(tmp_path), avoid=("n1", "n2"))])
        assert self.ended(backend, ids)[0].status is JobStatus.completed

    def test_jobs_on_a_machine_that_fails_say_so(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([replace(self.waiting(tmp_path), avoid=("n1",))])
        self.begun(tmp_path, 1)
        self.cluster.run("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
        state = self.reached(backend, ids, JobStatus.failed)[0]
        assert (state.cause, state.host) == (Cause.node, "n2")
        self.cluster.wait_until_ready()

    def test_a_job_that_slurm_itself_ends_at_a_time_limit_says_so(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([self.waiting(tmp_path)])
        self.begun(tmp_path, 1)
        self.reached(backend, ids, JobStatus.running)
        end = time.strftime("%FT%T", time.localtime(time.time() + 2))
        self.cluster.run("scontrol", "update", f"JobId={self.in_slurm(ids[0])}", f"EndTime={end}")
        assert self.ended(backend, ids)[0].cause is Cause.time  # it looks at the limits twice a minute

    def test_what_slurm_refuses_is_said_in_its_own_words(self, tmp_path: Path) -> None:
        with pytest.raises(BackendError, match="nvalid partition") as refusal:
            SlurmBatch(partition="no-such-queue").submit([self.spec(tmp_path)])
        assert not refusal.value.transient

    def test_a_job_whose_program_is_missing_could_not_be_started(self, tmp_path: Path) -> None:
        backend = SlurmBatch(poll_seconds=0.2, python="/no/such/python")
        state = self.ended(backend, backend.submit([self.spec(tmp_path)]))[0]
        assert state.cause is Cause.start
        assert "stderr" in state.reason

    def test_a_job_that_slurm_cannot_start_says_so(self, tmp_path: Path) -> None:
        backend = SlurmBatch(poll_seconds=0.2, options=["--hold"])
        spec = self.spec(tmp_path)
        ids = backend.submit([spec])
        shutil.rmtree(tmp_path / "jobs" / ".slurm")
        backend.release(ids)
        assert self.stopped(backend, ids)[0].cause is Cause.start

    def test_a_key_with_a_bar_and_a_relative_directory_are_refused(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        for spec in (JobSpec("a|b", tmp_path, "json"), JobSpec("a", Path("here"), "json")):
            with pytest.raises(ConfigurationError, match="absolute"):
                backend.submit([spec])

    def submit_elsewhere(self, spec: JobSpec, sbatch: str, tmp_path: Path) -> subprocess.Popen[bytes]:
        """Submit in another process, for which ``sbatch`` is this shell script."""
        programs = tmp_path / "programs"
        programs.mkdir()
        (programs / "sbatch").write_text(f"#!/bin/bash\nreal={shutil.which('sbatch')}\n{sbatch}\n")
        (programs / "sbatch").chmod(0o755)
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        arguments = [spec.key, str(spec.directory), spec.module, spec.args[0], dict(spec.environment)["PYTHONPATH"]]
        return subprocess.Popen([sys.executable, "-c", SUBMITTER, *arguments], env={**os.environ, "PATH": path})

    def test_a_job_whose_submitter_was_killed_before_it_noted_the_id_is_found_again(self, tmp_path: Path) -> None:
        spec = self.waiting(tmp_path)
        with self.submit_elsewhere(spec, '"$real" "$@"; kill -9 $PPID', tmp_path) as process:
            assert process.wait(PATIENCE) == -9
        assert "native_id" not in (read_record(spec.directory, spec.key) or {})
        backend = self.make(tmp_path)
        ids = backend.submit([spec])
        assert len(self.cluster.run("squeue", "-h", "--me").splitlines()) == 1
        self.let_go(tmp_path)
        assert self.ended(backend, ids)[0].status is JobStatus.completed
        assert self.runs(tmp_path) == 1

    def test_a_job_whose_submitter_was_killed_before_it_asked_is_submitted(self, tmp_path: Path) -> None:
        spec = self.spec(tmp_path)
        with self.submit_elsewhere(spec, "kill -9 $PPID", tmp_path) as process:
            assert process.wait(PATIENCE) == -9
        backend = self.make(tmp_path)
        assert self.ended(backend, backend.submit([spec]))[0].status is JobStatus.completed
        assert self.runs(tmp_path) == 1

    def test_a_job_of_a_killed_submitter_that_arrives_late_does_nothing(self, tmp_path: Path) -> None:
        spec = self.waiting(tmp_path)
        late, arrived = tmp_path / "late", tmp_path / "arrived"
        submit = f'"$real" "$@" > {arrived}.part; mv {arrived}.part {arrived}'
        script = f"kill -9 $PPID; until [ -e {late} ]; do sleep 0.02; done; {submit}"
        with self.submit_elsewhere(spec, script, tmp_path) as process:
            assert process.wait(PATIENCE) == -9
        backend = self.make(tmp_path)
        ids = backend.submit([spec])
        self.begun(tmp_path, 1)
        late.touch()
        until(arrived.exists)
        latecomer = arrived.read_text().strip()
        until(lambda: "COMPLETED" in self.cluster.run("squeue", "-h", "-t", "all", "-j", latecomer, "-o", "%T"))
        assert backend.poll(ids)[ids[0]].status is JobStatus.running
        self.let_go(tmp_path)
        assert self.ended(backend, ids)[0].status is JobStatus.completed
        assert self.runs(tmp_path) == 1

    def test_a_job_id_that_slurm_gave_away_again_is_not_taken_for_the_job(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([self.waiting(tmp_path)])
        lost = self.spec(tmp_path)
        note = {"backend": "slurm", "submission": "lost", "index": 0, "array": str(tmp_path / "lost")}
        write_record(lost, **note, native_id=self.in_slurm(ids[0]))
        lost_ids = backend.submit([lost])
        self.begun(tmp_path, 1)
        assert backend.poll(lost_ids)[lost_ids[0]].status is JobStatus.failed
        backend.cancel(lost_ids)
        assert backend.poll(ids)[ids[0]].status is JobStatus.running
        self.let_go(tmp_path)
        assert self.ended(backend, ids)[0].status is JobStatus.completed

    def test_an_element_that_slurm_starts_twice_runs_once(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        spec = self.spec(tmp_path, wait_for=str(tmp_path / "go"), code=3)
        ids = backend.submit([spec])
        self.begun(tmp_path, 1)
        script = Path((read_record(spec.directory, spec.key) or {})["array"]) / "array.sh"
        own = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "77", "SLURMD_NODENAME": "n1"}
        with subprocess.Popen([str(shutil.which("bash")), str(script)], env={**os.environ, **own}) as second:
            self.let_go(tmp_path)
            assert second.wait(PATIENCE) == 3
        assert self.ended(backend, ids)[0].exit_code == 3
        assert self.runs(tmp_path) == 1

    def test_nothing_is_lost_when_the_controller_is_killed_and_started_again(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([self.waiting(tmp_path) for _ in range(10)])  # 8 run, 2 wait
        self.begun(tmp_path, 8)
        until(lambda: [s.status for s in backend.poll(ids).values()].count(JobStatus.running) == 8)
        self.cluster.save()
        self.cluster.kill_controller()
        try:
            assert {(s.status, s.cause) for s in self.reached(backend, ids, JobStatus.unknown)} == {
                (JobStatus.unknown, Cause.batch)
            }
            assert {s.status for s in backend.wait(ids, 0.5).values()} == {JobStatus.unknown}
            for asked in (backend.cancel, backend.release):
                with pytest.raises(BackendError, match="does not answer") as refusal:
                    asked(ids)
                assert refusal.value.transient
            with pytest.raises(BackendError, match="controller") as refusal:
                backend.submit([self.spec(tmp_path)])
            assert refusal.value.transient
        finally:
            self.cluster.start_controller()
        assert [s.status for s in backend.poll(ids).values()].count(JobStatus.failed) == 0
        self.let_go(tmp_path)
        assert {state.status for state in self.ended(backend, ids)} == {JobStatus.completed}
        assert self.runs(tmp_path) == 10

    def test_a_job_ends_well_also_when_the_controller_is_away(self, tmp_path: Path) -> None:
        backend = self.make(tmp_path)
        ids = backend.submit([self.waiting(tmp_path)])
        self.begun(tmp_path, 1)
        self.cluster.save()
        self.cluster.kill_controller()
        try:
            self.let_go(tmp_path)
            assert self.ended(backend, ids)[0].status is JobStatus.completed
        finally:
            self.cluster.start_controller()


def test_slurm_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    spec = JobSpec("k", tmp_path / "k", "json")
    backend = SlurmBatch()
    with pytest.raises(ConfigurationError, match="slurm-client"):
        backend.submit([spec])
    job_id = f"1_0|k|{spec.directory}"
    state = backend.poll([job_id])[job_id]
    assert (state.status, state.cause) == (JobStatus.unknown, Cause.batch)


def test_the_most_urgent_make_an_array_of_their_own_which_comes_first(tmp_path: Path) -> None:
    specs = [JobSpec(str(n), tmp_path / str(n), "json", priority=n % 3) for n in range(5)]
    assert [[spec.key for spec in array] for array in arrays(specs, 9)] == [["2"], ["1", "4"], ["0", "3"]]


def test_elements_are_named_by_ranges() -> None:
    assert ranges(["7_3", "7_0", "7_1", "9_0", "7_9"]) == ["7_[0-1,3,9]", "9_[0]"]


def test_arrays_keep_to_the_largest_size_and_to_the_order(tmp_path: Path) -> None:
    specs = [JobSpec(str(n), tmp_path / str(n), "json", seconds=60 if n == 2 else None) for n in range(5)]
    assert [[spec.key for spec in array] for array in arrays(specs, 3)] == [["0", "1", "3"], ["4"], ["2"]]


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("OUT_OF_MEMORY", Cause.memory),
        ("TIMEOUT", Cause.time),
        ("NODE_FAIL", Cause.node),
        ("PREEMPTED", Cause.node),
        ("CANCELLED", Cause.cancelled),
        ("COMPLETED", Cause.output),
        ("FAILED", Cause.killed),
    ],
)
def test_an_end_that_slurm_knows_has_its_cause(state: str, cause: Cause) -> None:
    assert why_it_ended(Element(state), None, noted=None, was_started=True)[0] is cause


def test_a_job_that_slurm_has_forgotten_was_lost_or_never_started() -> None:
    assert why_it_ended(None, None, noted=None, was_started=True)[0] is Cause.node
    assert why_it_ended(None, None, noted=None, was_started=False)[0] is Cause.cancelled
    assert why_it_ended(None, None, noted=None, was_started=False, was_seen=False)[0] is Cause.node
    killed = JobState.of_exit_code(137)
    assert why_it_ended(None, killed, noted=None, was_started=True) == (Cause.killed, killed.reason)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("error: StepId=7.batch exceeded memory limit (316944384 > 52428800), being killed", Cause.memory),
        (
            "error: Detected 1 oom_kill event in StepId=7.batch. Some of the step tasks have been OOM Killed.",
            Cause.memory,
        ),
        ("error: *** JOB 7 ON n1 CANCELLED AT 2026-11-25T14:57:08 DUE TO TIME LIMIT ***", Cause.time),
        ("error: *** JOB 7 ON n1 CANCELLED AT 2026-11-25T14:57:08 DUE TO NODE FAILURE, SEE SLURMCTLD ***", Cause.node),
        ("error: *** JOB 7 ON n1 CANCELLED AT 2026-11-25T14:57:08 ***", None),
        ("error: StepId=77.batch exceeded memory limit (316944384 > 52428800), being killed", None),
    ],
)
def test_what_slurm_noted_in_the_log_of_the_array_is_found(tmp_path: Path, line: str, cause: Cause | None) -> None:
    (tmp_path / "slurm.log").write_text(f"a line of another element\nslurmstepd-n1: {line}\n")
    noted = noted_end(tmp_path, Place("7", "n1"))
    assert (noted[0] if noted else None) is cause


@pytest.mark.parametrize(
    ("element", "status", "cause"),
    [
        (Element("PENDING", reason="JobHeldAdmin"), JobStatus.held, Cause.held),
        (Element("PENDING", reason="launch failed requeued held"), JobStatus.held, Cause.start),
        (Element("PENDING", reason="Resources"), JobStatus.submitted, None),
        (Element("COMPLETING", node="n1"), JobStatus.running, None),
        (Element("SUSPENDED", node="n1"), JobStatus.running, None),
    ],
)
def test_a_job_in_the_queue_stands_where_slurm_says(element: Element, status: JobStatus, cause: Cause | None) -> None:
    state = live_state(element)
    assert (state.status, state.cause) == (status, cause)
