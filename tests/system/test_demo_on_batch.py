"""The demo on real batch systems: the very constants of the local one, and nothing left behind."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_demos import (
    ONE_BUCKET,
    ask_for,
    is_worked_on_by,
    job_processes,
    start_with_running_jobs,
    subjobs,
    until,
)
from demo_process import complete_demo, run_until, start_demo, tags_of
from servers.htcondor import HTCondorPool
from servers.slurm import SlurmCluster

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

TARGET = "prompt_running"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The tags of a demo whose jobs ran on this machine."""
    home = tmp_path_factory.mktemp("local") / "home"
    assert complete_demo(home, (*ONE_BUCKET, "--batch", "local"))["closed"]
    return tags_of(home)


@pytest.fixture
def cluster(slurm: SlurmCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmCluster]:
    """A Slurm that the demo finds."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    yield slurm
    slurm.run("scancel", "--me")


@pytest.fixture
def pool(htcondor: HTCondorPool) -> Iterator[HTCondorPool]:
    """An HTCondor pool that the demo finds."""
    yield htcondor
    htcondor.remove_all_jobs()


def starts_on(pool: HTCondorPool, home: Path) -> dict[tuple[str, ...], int]:
    """Key and directory of every job of the home that HTCondor has had, to how often it was started."""
    fields = ("-af", "B2calKey", "Iwd", "NumJobStarts")
    lines = pool.run("condor_history", "-constraint", f'regexp("^{home}/", Iwd)', *fields).splitlines()
    jobs = [(key, directory) for key, directory, _ in map(str.split, lines)]
    assert len(set(jobs)) == len(jobs), "the same job was submitted twice"
    return {(key, directory): int(starts) for key, directory, starts in map(str.split, lines)}


def test_a_demo_on_slurm_publishes_the_constants_of_a_local_one_and_leaves_nothing_there(
    cluster: SlurmCluster, local: dict[str, Any], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert complete_demo(home, (*ONE_BUCKET, "--batch", "slurm"))["closed"]
    assert tags_of(home) == local
    assert {row.attempt for row in subjobs(home, "cdc_tracking")} == {0}
    until(lambda: not cluster.run("squeue", "--noheader"), "the queue is empty")
    assert not job_processes(cluster.processes())


def test_a_demo_on_htcondor_publishes_the_constants_of_a_local_one_and_leaves_nothing_there(
    pool: HTCondorPool, local: dict[str, Any], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert complete_demo(home, (*ONE_BUCKET, "--batch", "htcondor"))["closed"]
    assert tags_of(home) == local
    until(lambda: not pool.run("condor_q", "-af", "ClusterId"), "the queue is empty")
    assert set(starts_on(pool, home).values()) == {1}
    assert not job_processes(pool.processes())


def test_a_demo_killed_while_jobs_run_on_htcondor_takes_them_up_again(
    pool: HTCondorPool, local: dict[str, Any], tmp_path: Path
) -> None:
    home = tmp_path / "killed" / "home"
    ask_for(home, "CDC Tracking", batch="htcondor")
    demo, jobs = start_with_running_jobs(home, "htcondor", pool.processes)
    demo.kill()
    demo.communicate()
    assert all(row.stage.is_at_batch for row in subjobs(home, "cdc_tracking"))
    following = start_demo(home, (*ONE_BUCKET, "--batch", "htcondor"))
    until(lambda: is_worked_on_by(following, home, "cdc_tracking"), "the next demo works on the request")
    for job in jobs:
        job.resume()
    lines = run_until(following, None)
    assert following.returncode == 0, lines
    expected = [link for link in local[TARGET]["links"] if link[0] == "CDCTimeZeros"]
    assert tags_of(home)[TARGET]["links"] == expected
    until(lambda: not pool.run("condor_q", "-af", "ClusterId"), "the queue is empty")
    assert set(starts_on(pool, home).values()) == {1}
    assert {row.attempt for row in subjobs(home, "cdc_tracking")} == {0}


def test_a_demo_that_is_interrupted_takes_its_jobs_from_slurm(cluster: SlurmCluster, tmp_path: Path) -> None:
    home = tmp_path / "interrupted" / "home"
    ask_for(home, "CDC Tracking", batch="slurm")
    demo, _ = start_with_running_jobs(home, "slurm", cluster.processes)
    demo.send_signal(signal.SIGINT)
    assert "finished work is kept" in run_until(demo, None)[-1]
    assert not cluster.run("squeue", "--noheader")
    assert not job_processes(cluster.processes())
