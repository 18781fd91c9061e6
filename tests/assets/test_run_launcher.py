"""Whether the process that works a Dagster run still lives, told by real processes and Dagster's own monitoring."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from b2cal_assets.bucket_runs import PROCESS_TAG, this_process
from b2cal_assets.instance_settings import prepare_dagster_home
from b2cal_assets.run_launcher import WatchedRunLauncher

HERE = {".dagster/grpc_info": json.dumps({"host": "localhost", "socket": "code"})}
ELSEWHERE = {".dagster/grpc_info": json.dumps({"host": "code.example.org", "port": 4000})}


@dg.job
def work() -> None: ...


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster as every home sets it up."""
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(tmp_path / "dagster"))) as instance:
        yield instance


@pytest.fixture
def living() -> Iterator[int]:
    """The number of a process that lives."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with process:
        yield process.pid


@pytest.fixture
def zombie() -> Iterator[int]:
    """The number of a process that ended, and that nobody has looked at since."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def ended() -> int:
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def started(instance: dg.DagsterInstance, pid: int | None, tags: dict[str, str]) -> dg.DagsterRun:
    """A Dagster run at work, in the process if that has said so."""
    run = instance.create_run_for_job(work, status=dg.DagsterRunStatus.STARTED, tags=tags)
    instance.report_engine_event("Looked for a free place.", run)
    if pid is not None:
        instance.report_engine_event(f"Started process for run (pid: {pid}).", run, EngineEventData.in_process(pid))
    return run


def health(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Any:
    return instance.run_launcher.check_run_worker_health(run).status


def test_every_home_launches_with_it(home: dg.DagsterInstance) -> None:
    assert isinstance(home.run_launcher, WatchedRunLauncher)
    assert home.run_launcher.supports_check_run_worker_health


def test_a_process_that_lives_is_at_work(home: dg.DagsterInstance, living: int) -> None:
    assert health(home, started(home, living, HERE)) is WorkerStatus.RUNNING


def test_a_process_that_is_gone_is_not_found_and_named(home: dg.DagsterInstance) -> None:
    found = home.run_launcher.check_run_worker_health(started(home, pid := ended(), HERE))
    assert found.status is WorkerStatus.NOT_FOUND
    assert found.msg == f"process {pid} ended before the work was done"


def test_a_dead_process_that_nobody_looked_at_is_not_found(home: dg.DagsterInstance, zombie: int) -> None:
    assert health(home, started(home, zombie, HERE)) is WorkerStatus.NOT_FOUND


def test_a_number_that_another_process_has_by_now_is_not_found(
    home: dg.DagsterInstance, living: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("b2cal_assets.run_launcher._CLOCK_SECONDS", -3600.0)  # as if that one had begun an hour later
    assert health(home, started(home, living, HERE)) is WorkerStatus.NOT_FOUND


def test_a_process_on_another_machine_is_taken_for_alive(home: dg.DagsterInstance) -> None:
    assert health(home, started(home, ended(), ELSEWHERE)) is WorkerStatus.RUNNING


def test_a_dagster_run_that_named_no_process_is_taken_for_alive(home: dg.DagsterInstance) -> None:
    assert health(home, started(home, None, HERE)) is WorkerStatus.RUNNING


@pytest.mark.parametrize(
    ("process", "expected"),
    [(this_process(), WorkerStatus.RUNNING), (this_process() + "0", WorkerStatus.NOT_FOUND)],
    ids=["one that is there", "one that is gone"],
)
def test_the_process_of_a_command_is_told_by_its_name(
    home: dg.DagsterInstance, process: str, expected: WorkerStatus
) -> None:
    assert health(home, started(home, None, {PROCESS_TAG: process})) is expected


def test_monitoring_ends_what_a_dead_process_left_and_nothing_else(home: dg.DagsterInstance, living: int) -> None:
    left, at_work = started(home, ended(), HERE), started(home, living, HERE)
    with create_test_daemon_workspace_context(EmptyWorkspaceTarget(), home) as context:
        assert not any(execute_run_monitoring_iteration(context, logging.getLogger("monitoring")))
    statuses = {run.run_id: run.status for run in home.get_runs()}
    assert statuses == {left.run_id: dg.DagsterRunStatus.FAILURE, at_work.run_id: dg.DagsterRunStatus.STARTED}
