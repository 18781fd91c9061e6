import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from servers.htcondor import SLOTS, HTCondorPool

TESTS = Path(__file__).parents[1]
START_AND_SLEEP = """
import time
from servers.htcondor import HTCondorPool
pool = HTCondorPool()
print(pool.directory, *(process.pid for process in pool.processes()), flush=True)
time.sleep(600)
"""
SLEEPER = """
executable = /bin/sh
arguments = "-c 'echo $$ > pid.new; mv pid.new pid; sleep 600'"
transfer_executable = False
should_transfer_files = NO
initialdir = {directory}
queue
"""
PATIENCE = 120.0


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # ended, but nobody has asked how
    except psutil.NoSuchProcess:
        return False


def submit_sleeper(pool: HTCondorPool, directory: Path) -> int:
    """Process id of a job that runs for ten minutes."""
    directory.mkdir()
    (directory / "job.sub").write_text(SLEEPER.format(directory=directory))
    pool.run("condor_submit", str(directory / "job.sub"))
    wait_until((directory / "pid").exists)
    return int((directory / "pid").read_text())


def test_it_has_eight_free_slots_and_an_empty_queue(htcondor: HTCondorPool):
    assert htcondor.run("condor_status", "-af", "Name").count("\n") == SLOTS
    assert htcondor.run("condor_q", "-af", "ClusterId") == ""


def test_nothing_runs_after_a_stop():
    pool = HTCondorPool()
    try:
        job = submit_sleeper(pool, pool.directory / "job")
        assert is_alive(job)
        pids = [process.pid for process in pool.processes()]
        assert job in pids
    finally:
        pool.close()
    assert [pid for pid in pids if is_alive(pid)] == []


def test_the_queue_outlives_a_restart_and_a_kill_of_its_daemon():
    pool = HTCondorPool()
    try:
        submit_sleeper(pool, pool.directory / "job")
        pool.kill_schedd()
        wait_until(lambda: pool.is_answering)
        assert pool.run("condor_q", "-af", "ClusterId") == "1\n"
        pool.restart()
        assert pool.run("condor_q", "-af", "ClusterId") == "1\n"
    finally:
        pool.close()
    assert pool.processes() == []


def test_it_ends_with_a_killed_test_process():
    command = [sys.executable, "-c", START_AND_SLEEP]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as tests:
        assert tests.stdout is not None
        directory, *pids = tests.stdout.readline().split()
        daemons = [int(pid) for pid in pids]
        assert len(daemons) > 4
        tests.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in daemons))
    shutil.rmtree(directory)


def test_without_an_installation_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("B2CAL_HTCONDOR", str(tmp_path))
    with pytest.raises(RuntimeError, match="scripts/setup test"):
        HTCondorPool()
