import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from servers.slurm import SlurmCluster

TESTS = Path(__file__).parents[1]
PATIENCE = 60.0
START_AND_SLEEP = """
import sys, time
from pathlib import Path
from servers.slurm import SlurmCluster
cluster = SlurmCluster(Path(sys.argv[1]))
print(*(process.pid for process in cluster.processes()), flush=True)
time.sleep(600)
"""


def start_job(cluster: SlurmCluster, tmp_path: Path) -> int:
    """The process id of a job that goes on for long, in a session of its own."""
    file = tmp_path / "pid"
    sleep = f"setsid sleep 600 & echo $! > {file}.part; mv {file}.part {file}; wait"
    cluster.run("sbatch", "--output=/dev/null", f"--wrap={sleep}")
    end = time.monotonic() + PATIENCE
    while not file.exists():
        assert time.monotonic() < end, cluster.run("squeue", "--states=all")
        time.sleep(0.02)
    return int(file.read_text())


def test_it_runs_jobs_and_leaves_no_process_when_it_is_stopped(tmp_path: Path) -> None:
    cluster = SlurmCluster(tmp_path / "slurm")
    try:
        job = start_job(cluster, tmp_path)
        started = cluster.processes()
        assert job in {process.pid for process in started}
        names = {process.name() for process in started}
        assert {"munged", "slurmctld", "slurmd", "slurmstepd", "sleep"} <= names
    finally:
        cluster.stop()
    assert [process for process in started if process.is_running()] == []


def test_it_keeps_its_jobs_when_the_controller_is_killed_and_started_again(tmp_path: Path) -> None:
    cluster = SlurmCluster(tmp_path / "slurm")
    try:
        job = start_job(cluster, tmp_path)
        cluster.save()
        cluster.kill_controller()
        with pytest.raises(RuntimeError, match="Unable to contact slurm controller"):
            cluster.run("squeue")
        cluster.start_controller()
        assert "RUNNING" in cluster.run("squeue", "-h", "-o", "%T")
        assert psutil.pid_exists(job)
    finally:
        cluster.stop()
    assert not psutil.pid_exists(job)


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    command = [sys.executable, "-c", START_AND_SLEEP, str(tmp_path / "slurm")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        started = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(started) >= 4
        parent.send_signal(signal.SIGKILL)
    assert psutil.wait_procs(started, PATIENCE)[1] == []
